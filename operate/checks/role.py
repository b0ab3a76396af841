"""The function's role: whether it may do all that the function does."""

import botocore.exceptions

from operate import keeper
from operate.checks.check import check, is_denied, ok, skip, wrong

SIMULATE = "iam:SimulatePrincipalPolicy"


def needs(deployed):
    """The actions that the function needs, by the resource, with the values of the condition keys in its policies."""
    table = deployed.arn("dynamodb", f"table/{deployed.physical_id('QuotaTable')}")
    yield from secret_needs(deployed)
    yield table, ["dynamodb:UpdateItem"], {}
    if keeper.OUTPUT in deployed.outputs:
        yield table, ["dynamodb:GetItem"], {}
    yield log_needs(deployed, "FunctionLogs")
    yield from trace_needs(deployed)


def secret_needs(deployed):
    secret = deployed.secret_description
    yield secret["ARN"], ["secretsmanager:GetSecretValue"], {}
    if deployed.parameter("KmsKeyArn"):
        service = f"secretsmanager.{deployed.session.region_name}.amazonaws.com"
        of_secret = {"kms:ViaService": service, "kms:EncryptionContext:SecretARN": secret["ARN"]}
        yield deployed.parameter("KmsKeyArn"), ["kms:Decrypt"], of_secret


def log_needs(deployed, group):
    log = deployed.physical_id(group)
    return deployed.arn("logs", f"log-group:{log}:log-stream:any"), ["logs:CreateLogStream", "logs:PutLogEvents"], {}


def trace_needs(deployed):
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
    yield from judged(deployed, arn, needs(deployed), "the function")


def judged(deployed, arn, needs, function):
    """The result on a role that has to meet these needs of a function."""
    own, allowed, lacking = arn.rpartition("/")[2], [], []
    for resource, actions, context in needs:
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
        yield ok(f"{own} has the {len(allowed)} permissions that {function} needs")
