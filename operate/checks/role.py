"""The function's role: whether it may do all that the function does."""

import botocore.exceptions

from operate.checks.check import check, is_denied, ok, skip, wrong

SIMULATE = "iam:SimulatePrincipalPolicy"


def needs(deployed):
    """The actions that the function needs, by the resource, with the values of the condition keys in its policies."""
    table, log, secret = deployed.physical_id("QuotaTable"), deployed.physical_id("FunctionLogs"), deployed.secret_description
    yield secret["ARN"], ["secretsmanager:GetSecretValue"], {}
    if deployed.parameter("KmsKeyArn"):
        service = f"secretsmanager.{deployed.session.region_name}.amazonaws.com"
        of_secret = {"kms:ViaService": service, "kms:EncryptionContext:SecretARN": secret["ARN"]}
        yield deployed.parameter("KmsKeyArn"), ["kms:Decrypt"], of_secret
    yield deployed.arn("dynamodb", f"table/{table}"), ["dynamodb:UpdateItem"], {}
    yield deployed.arn("logs", f"log-group:{log}:log-stream:any"), ["logs:CreateLogStream", "logs:PutLogEvents"], {}
    if deployed.parameter("Tracing") == "Active":
        yield "*", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], {}


@check(
    "role",
    "lambda:GetAlias",
    "lambda:GetFunction",
    "cloudformation:ListStackResources",
    "secretsmanager:DescribeSecret",
    SIMULATE,
)
def role(deployed):
    arn, own = deployed.live["Configuration"]["Role"], deployed.physical_id("MintRole")
    if arn.rpartition("/")[2] != own:
        yield wrong(f"the live version runs under {arn}, not under the stack's {own}", "Run `make deploy`")
        return
    allowed, lacking = [], []
    for resource, actions, context in needs(deployed):
        entries = [
            {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"} for key, value in context.items()
        ]
        try:
            asked = {"PolicySourceArn": arn, "ActionNames": actions, "ResourceArns": [resource], "ContextEntries": entries}
            found = deployed.client("iam").simulate_principal_policy(**asked)["EvaluationResults"]
        except botocore.exceptions.ClientError as error:
            if not is_denied(error):
                raise
            yield skip(f"your credentials lack {SIMULATE}, which shows what the function may do")
            return
        for result in found:
            (allowed if result["EvalDecision"] == "allowed" else lacking).append(f"{result['EvalActionName']} on {resource}")
    if lacking:
        yield wrong(f"{own} lacks {' and '.join(lacking)}", "Restore its policies as in template.yaml (see drift)")
    else:
        yield ok(f"{own} has the {len(allowed)} permissions that the function needs")
