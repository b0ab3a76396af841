"""The policies for people: `.venv/tools/bin/python -m docs.deploy_policy` writes docs/policies/, and a test holds it current.

They cover both stacks of samconfig.toml: each name begins with token-mint. Their actions are derived from CloudFormation's
handlers (permissions.py), from the calls that the SAM CLI makes, and from the calls of operate/. A managed policy takes 6,144
characters, blanks not counted, so there are several, one for each purpose.
"""

import fnmatch
import json
import pathlib
import re

import boto3
import samcli
from botocore import xform_name

from docs import permissions
from estimate.template import ROOT
from operate.doctor import CHECKS
from operate.status import LINES

FOLDER = ROOT / "docs/policies"
LIMIT = 6144
NAME = "token-mint*"

STACK = f"arn:aws:cloudformation:*:*:stack/{NAME}"
FUNCTION = f"arn:aws:lambda:*:*:function:{NAME}"
DEPLOYMENT_GROUP = f"arn:aws:codedeploy:*:*:deploymentgroup:{NAME}"
LOG_GROUP = f"arn:aws:logs:*:*:log-group:{NAME}"
SECRET = "arn:aws:secretsmanager:*:*:secret:Secret-*"
# What the checks of `make doctor` and the lines of `make status` read, by service.
CHECKED = {
    "apigateway": ["arn:aws:apigateway:*::/apis/*"],
    "cloudformation": [STACK],
    "dynamodb": [f"arn:aws:dynamodb:*:*:table/{NAME}"],
    "events": [f"arn:aws:events:*:*:rule/{NAME}"],
    "iam": [f"arn:aws:iam::*:role/{NAME}"],
    "lambda": [FUNCTION],
    "logs": [LOG_GROUP, f"arn:aws:logs:*:*:log-group:/aws/vendedlogs/{NAME}"],
    "secretsmanager": [SECRET],
    "sns": [f"arn:aws:sns:*:*:{NAME}"],
}

# The stack in which SAM keeps its bucket, which it creates with the first deployment of an account and Region.
SAM_STACK = "arn:aws:cloudformation:*:*:stack/aws-sam-cli-managed-default/*"
SAM_BUCKET = "arn:aws:s3:::aws-sam-cli-managed-default-*"
# The properties that SAM gives its bucket.
SAM_BUCKET_ACTIONS = [
    "s3:CreateBucket",
    "s3:GetBucketPolicy",
    "s3:PutBucketPolicy",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketTagging",
    "s3:PutBucketVersioning",
    "s3:PutEncryptionConfiguration",
    "s3:TagResource",
]
# The files of the SAM CLI that `make deploy`, `make delete` and `make logs` run, and the services that they call.
SAM_FILES = {
    "lib/deploy/deployer.py": "cloudformation",
    "lib/delete/cfn_utils.py": "cloudformation",
    "lib/utils/managed_cloudformation_stack.py": "cloudformation",
    "lib/package/s3_uploader.py": "s3",
    "lib/observability/cw_logs/cw_log_puller.py": "logs",
}
# Calls in these files that the three commands do not make.
NOT_CALLED = {
    "cloudformation:CreateStack": "sam sync",
    "cloudformation:RollbackStack": "sam deploy --on-failure",
    "cloudformation:UpdateStack": "sam sync",
    "s3:GetObjectTagging": "sam package with signed code",
}
# Calls that SAM makes through boto3's resources and transfers, which have no operation's name.
INDIRECT = ["cloudformation:ListStackResources", "s3:PutObject", "lambda:GetFunctionConfiguration"]
# The file of the operator's commands that makes change sets. It also uploads to S3, as SAM does.
CHANGE_SETS = "change_set.py"
# Operations of S3 that another action permits.
S3_ACTIONS = {"HeadObject": "GetObject", "ListObjectsV2": "ListBucket"}
# The same for Lambda. Only the keeper is invoked.
LAMBDA_ACTIONS = {"Invoke": "InvokeFunction"}
INVOKE = "lambda:InvokeFunction"
KEEPER = f"{FUNCTION}-KeeperFunction-*"

# A connection goes by the service's new or old name, whichever it had when it was made.
OLD_CONNECTION = "arn:aws:codestar-connections:*:*:connection/*"
# The services of the secret, the table, logs, alarms, the topic and the budget.
DATA = ("billing:", "budgets:", "cloudwatch:", "dynamodb:", "logs:", "secretsmanager:", "sns:")

# With KmsKeyArn: Secrets Manager and CloudWatch Logs use the key on behalf of the person or role that calls them (their guides,
# "Permissions for the KMS key" and "kms:ViaService"). The key's ARN is the operator's choice.
KMS_KEY = "arn:aws:kms:*:*:key/*"
ON_BEHALF = {"StringLike": {"kms:ViaService": ["logs.*.amazonaws.com", "secretsmanager.*.amazonaws.com"]}}
KMS_ACTIONS = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"]

# What the console needs for the dashboard, the alarms and the saved queries.
CONSOLE = {
    "cloudwatch:DescribeAlarms": "*",
    "cloudwatch:GetDashboard": f"arn:aws:cloudwatch::*:dashboard/{NAME}",
    "cloudwatch:GetMetricData": "*",
    "cloudwatch:ListDashboards": "*",
    "cloudwatch:ListMetrics": "*",
    "logs:DescribeLogGroups": "*",
    "logs:DescribeQueryDefinitions": "*",
    "logs:GetQueryResults": LOG_GROUP,
    "logs:StartQuery": LOG_GROUP,
    "logs:StopQuery": "*",
}

# A secret has no stack's name in its own. CloudFormation tags it with the stack's name, and these actions are for such secrets.
OF_THE_STACK = {"StringLike": {"aws:ResourceTag/aws:cloudformation:stack-name": NAME}}
CONDITIONS = {
    "iam:PassRole": {
        "StringEquals": {
            "iam:PassedToService": [f"{name}.amazonaws.com" for name in ("cloudformation", "codebuild", "codedeploy", "lambda")]
        }
    },
    "lambda:AddPermission": {"StringEquals": {"lambda:Principal": ["apigateway.amazonaws.com", "events.amazonaws.com"]}},
    "route53:ChangeResourceRecordSets": {
        "ForAllValues:StringEquals": {"route53:ChangeResourceRecordSetsRecordTypes": ["A", "AAAA"]}
    },
    **dict.fromkeys(KMS_ACTIONS, ON_BEHALF),
    **dict.fromkeys(
        ["secretsmanager:DeleteSecret", "secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue",
         "secretsmanager:PutSecretValue", "secretsmanager:UntagResource", "secretsmanager:UpdateSecret",
         "secretsmanager:UpdateSecretVersionStage"],
        OF_THE_STACK,
    ),
}  # fmt: skip


def calls(text, service):
    """The IAM actions behind the calls of one service's client in Python code: its methods, paginators and waiters."""
    client = boto3.client(service, region_name=permissions.REGION)
    operations = {xform_name(name): name for name in client.meta.service_model.operation_names}
    found = {operations[name] for name in re.findall(r"\.(\w+)\(", text) if name in operations}
    found |= {operations[name] for name in re.findall(r'get_paginator\("(\w+)"\)', text) if name in operations}
    for name in re.findall(r'get_waiter\("(\w+)"\)', text):
        if name in client.waiter_names:
            found.add(operations[xform_name(client._get_waiter_config()["waiters"][camel(name)]["operation"])])
    others = {"s3": S3_ACTIONS, "lambda": LAMBDA_ACTIONS}.get(service, {})
    return {f"{service}:{others.get(name, name)}" for name in found}


def camel(name):
    return "".join(part.capitalize() for part in name.split("_"))


def sam():
    """The actions of the SAM CLI."""
    folder = pathlib.Path(samcli.__file__).parent
    found = {action for file, service in SAM_FILES.items() for action in calls((folder / file).read_text(), service)}
    assert set(NOT_CALLED) <= found, "SAM no longer has these calls"
    return sorted((found | set(INDIRECT)) - set(NOT_CALLED))


def operate():
    """The actions of the operator's commands by service, without those that change the stack through a change set."""
    text = "\n".join(file.read_text() for file in sorted((ROOT / "operate").glob("*.py")) if file.name != CHANGE_SETS)
    services = set(re.findall(r'client\("([a-z]+)"\)', text))
    return {service: sorted(calls(text, service)) for service in sorted(services)}


def checks():
    """The actions of `make doctor` and `make status`, as pairs with a resource. Some actions know no resource."""
    for action in sorted({action for check in [*CHECKS, *LINES] for action in check.actions}):
        if action not in CONSOLE:
            of_service = [KEEPER] if action == INVOKE else CHECKED.get(action.partition(":")[0])
            yield from ((action, resource) for resource in (of_service if permissions.kinds(action) else ["*"]))


def change_sets():
    """The actions of `make set` and `make deploy` that the other commands do not need."""
    return calls((ROOT / "operate" / CHANGE_SETS).read_text(), "cloudformation")


def wide(resource):
    """A resource of permissions.py, for all names that begin as both stacks' do."""
    resource = re.sub(r"\{(stack|parent)\}.*", NAME, resource)
    for name, value in {"{name}": "Secret", "{api}": "*", "{domain}": "*", "{zone}": "*"}.items():
        resource = resource.replace(name, value)
    return resource.replace("/*/*", "/*")


def statements(pairs):
    """The statements that allow these pairs of an action and a resource: one for each set of resources and each condition."""
    resources = {}
    for action, resource in pairs:
        resources.setdefault(action, set()).add(resource)
    together = {}
    for action, reached in resources.items():
        # Without those that another one includes.
        arns = [one for one in reached if not any(one != other and fnmatch.fnmatchcase(one, other) for other in reached)]
        condition = json.dumps(CONDITIONS.get(action))
        together.setdefault((tuple(sorted(arns)), condition), []).append(action)
    found = []
    for (arns, condition), actions in sorted(together.items()):
        statement = {"Effect": "Allow", "Action": sorted(actions), "Resource": list(arns)}
        if condition != "null":
            statement["Condition"] = json.loads(condition)
        found.append(statement)
    return found


def handlers():
    """What CloudFormation needs for all resources, as pairs of an action in one spelling and a resource."""
    pairs = {(need.action, wide(need.resource)) for need in permissions.needs() if need.resource and not need.unused}
    return pairs | {(action, resource) for action, (resource, _) in permissions.BESIDES.items()}


def policies():
    """Each policy's name and statements."""
    needed = handlers()
    roles = {pair for pair in needed if pair[0].startswith("iam:")}
    pipeline = {pair for pair in needed if pair[0].startswith("code") and not pair[0].startswith("codedeploy:")}
    pipeline |= {(action, OLD_CONNECTION) for action, resource in pipeline if resource == permissions.CONNECTION}
    # With --role-arn, CloudFormation gets a role of a name like those of the stack.
    roles |= {("iam:PassRole", f"arn:aws:iam::*:role/{NAME}")}

    deploy = {
        (action, SAM_STACK) for action in sam() if action.startswith("cloudformation:") and not action.endswith("DeleteStack")
    }
    deploy |= {(action, STACK) for action in sam() if action.startswith("cloudformation:")}
    deploy |= {(action, STACK) for action in change_sets()}
    deploy |= {("cloudformation:CreateChangeSet", permissions.TRANSFORM)}
    deploy |= {(action, SAM_BUCKET) for action in [*SAM_BUCKET_ACTIONS, "s3:ListBucket"]}
    deploy |= {
        (action, f"{SAM_BUCKET}/{NAME}") for action in sam() if action in ("s3:DeleteObject", "s3:GetObject", "s3:PutObject")
    }

    where = {"lambda": FUNCTION, "cloudformation": STACK, "codedeploy": DEPLOYMENT_GROUP, "secretsmanager": SECRET}
    commands = {
        (action, KEEPER if action == INVOKE else where[service] if permissions.kinds(action) else "*")
        for service, actions in operate().items()
        for action in actions
    }
    commands |= {(action, LOG_GROUP) for action in sam() if action.startswith("logs:")}
    commands |= {("cloudformation:ListStackResources", STACK)} | set(checks()) | set(CONSOLE.items())

    data = {pair for pair in needed if pair[0].startswith(DATA)}
    domain = {
        pair for pair in needed if "/domainnames" in pair[1] or "domainnames%2F" in pair[1] or pair[0].startswith("route53:")
    }
    yield "deploy", statements(deploy)
    yield "function", statements(needed - roles - pipeline - data - domain)
    yield "domain", statements(domain)
    yield "data", statements(data)
    yield "roles", statements(roles)
    yield "pipeline", statements(pipeline)
    yield "operate", statements(commands)
    yield "key", statements({(action, KMS_KEY) for action in KMS_ACTIONS})


def documents():
    """Each file's path and text."""
    for name, found in policies():
        text = json.dumps({"Version": "2012-10-17", "Statement": found}, indent=2)
        yield FOLDER / f"{name}.json", text + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in documents():
        path.write_text(text)
