"""The function's role: whether it may do the four things that the function does."""

import botocore.exceptions

from operate.checks.check import check, is_denied, ok, skip, wrong

SIMULATE = "iam:SimulatePrincipalPolicy"


def needs(deployed):
    """The actions that the function needs, by the resource."""
    table, log = deployed.physical_id("QuotaTable"), deployed.physical_id("FunctionLogs")
    yield deployed.secret_description["ARN"], ["secretsmanager:GetSecretValue"]
    yield deployed.arn("dynamodb", f"table/{table}"), ["dynamodb:UpdateItem"]
    yield deployed.arn("logs", f"log-group:{log}:log-stream:any"), ["logs:CreateLogStream", "logs:PutLogEvents"]
    if deployed.parameter("Tracing") == "Active":
        yield "*", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]


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
    for resource, actions in needs(deployed):
        try:
            asked = {"PolicySourceArn": arn, "ActionNames": actions, "ResourceArns": [resource]}
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
