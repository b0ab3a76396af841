"""The pipeline: its template is valid, its roles are narrow, and its buildspec runs in the right order.

Not covered, because these exist only in AWS: CodeBuild's image and its packages, the cache, the webhook, and the connection
to the Git host. test_roles.py derives the permissions that a deployment needs.
"""

import fnmatch
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import NO_AWS_ACCOUNT, ROOT, TOOLCHAIN
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = ROOT / "infra/pipeline.yaml"
BUILDSPEC = "infra/buildspec.yml"
ROLES = ["BuildRole", "DeployRole"]


# --- the template -----------------------------------------------------------------------------------------------------


def test_cfn_lint_reports_no_findings():
    linted = subprocess.run(
        [f"{sys.prefix}/bin/cfn-lint", TEMPLATE],
        env=os.environ | NO_AWS_ACCOUNT,
        capture_output=True,
        text=True,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


@functools.cache
def resources():
    return yaml_parse(TEMPLATE.read_text())["Resources"]


def listed(value):
    return value if isinstance(value, list) else [value]


def with_options(node):
    """A part of the template as it is if every condition holds."""
    if isinstance(node, dict):
        if "Fn::If" in node:
            return with_options(node["Fn::If"][1])
        return {name: with_options(value) for name, value in node.items()}
    return [with_options(value) for value in node] if isinstance(node, list) else node


def statements(role):
    """All statements of a role, in its own policies and in separate ones, those under a condition included."""
    policies = [policy["PolicyDocument"] for policy in with_options(resources()[role]["Properties"]["Policies"])]
    policies += [
        resource["Properties"]["PolicyDocument"]
        for resource in resources().values()
        if resource["Type"] == "AWS::IAM::Policy" and {"Ref": role} in resource["Properties"]["Roles"]
    ]
    found = [statement for policy in policies for statement in listed(policy["Statement"])]
    assert found
    return found


def actions(role):
    return {action for statement in statements(role) for action in listed(statement["Action"])}


def test_there_are_no_other_roles_and_policies():
    of_iam = {name: resource["Type"] for name, resource in resources().items() if "::IAM::" in resource["Type"]}
    assert of_iam == {
        "BuildRole": "AWS::IAM::Role",
        "BuildMayDeploy": "AWS::IAM::Policy",
        "DeployRole": "AWS::IAM::Role",
    }
    for role in ROLES:
        assert "ManagedPolicyArns" not in resources()[role]["Properties"]
        assert all(statement["Effect"] in ("Allow", "Deny") for statement in statements(role))
        assert not [s for s in statements(role) if {"NotAction", "NotResource", "NotPrincipal"} & set(s)]


@pytest.mark.parametrize("role", ROLES)
def test_no_action_has_a_wildcard(role):
    for action in actions(role):
        assert re.fullmatch(r"[a-z0-9-]+:[A-Za-z]+", action), action


@pytest.mark.parametrize("role", ROLES)
def test_no_role_reads_or_overwrites_the_key(role):
    assert not actions(role) & {
        "secretsmanager:BatchGetSecretValue",
        "secretsmanager:GetSecretValue",
        "secretsmanager:PutResourcePolicy",
        "secretsmanager:PutSecretValue",
        "secretsmanager:UpdateSecret",
    }


def test_the_build_has_no_access_to_secrets():
    assert not [action for action in actions("BuildRole") if action.startswith(("secretsmanager:", "ssm:", "kms:"))]


@pytest.mark.parametrize("role", ROLES)
def test_no_role_reads_or_changes_a_count(role):
    """Of DynamoDB's actions, only those on the table, and none on its items."""
    of_dynamodb = {action.removeprefix("dynamodb:") for action in actions(role) if action.startswith("dynamodb:")}
    assert of_dynamodb <= {
        "DeleteTable",
        "DescribeContinuousBackups",
        "DescribeContributorInsights",
        "DescribeKinesisStreamingDestination",
        "DescribeTable",
        "DescribeTimeToLive",
        "GetResourcePolicy",
        "ListTagsOfResource",
        "TagResource",
        "UntagResource",
        "UpdateContinuousBackups",
        "UpdateTable",
        "UpdateTimeToLive",
    }
    assert (role == "DeployRole") is bool(of_dynamodb)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_passed_to_one_service_only(role):
    passing = [statement for statement in statements(role) if "iam:PassRole" in listed(statement["Action"])]
    assert passing
    for statement in passing:
        assert statement["Action"] == "iam:PassRole"
        resources = [one.get("Fn::Sub", "") for one in listed(statement["Resource"])]
        of_functions = [f"arn:${{AWS::Partition}}:iam::*:role/${{StackName}}-{name}*" for name in ("Keeper", "Mint")]
        assert len(resources) == 1 or sorted(resources) == of_functions, "one role, or those of the two functions"
        assert isinstance(statement["Condition"]["StringEquals"]["iam:PassedToService"], str)


def test_the_schedule_starts_nothing_but_the_keeper():
    """Without the condition, a push could aim the rule at any target in the account."""
    [putting] = [statement for statement in statements("DeployRole") if "events:PutTargets" in listed(statement["Action"])]
    assert putting["Action"] == "events:PutTargets"
    keeper = {"Fn::Sub": "arn:${AWS::Partition}:lambda:*:${AWS::AccountId}:function:${StackName}-Keeper*"}
    assert putting["Condition"] == {"ForAllValues:ArnLike": {"events:TargetArn": keeper}}


def test_the_policies_of_a_push_keep_their_names():
    """An update puts a policy under a new name into the role before it takes the old one out, and both together may not fit."""
    names = [policy["PolicyName"] for policy in with_options(resources()["DeployRole"]["Properties"]["Policies"])]
    assert names == [
        "fetch-the-deployment",
        "use-and-remove-roles",
        "change-the-function",
        "change-the-api",
        "change-the-domain",
        "change-the-records",
        "change-the-budget",
        "change-the-quota-table",
        "change-logs-and-alarms",
        "change-the-pipeline",
    ]


def test_the_build_deploys_under_the_deployment_role_only():
    [passing] = [statement for statement in statements("BuildRole") if statement["Action"] == "iam:PassRole"]
    assert passing["Resource"] == {"Fn::GetAtt": ["DeployRole", "Arn"]}
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}}

    changing = [s for s in statements("BuildRole") if "cloudformation:CreateChangeSet" in listed(s["Action"])]
    for statement in changing:
        if "transform/Serverless-2016-10-31" not in statement["Resource"]["Fn::Sub"]:
            assert statement["Resource"]["Fn::Sub"].endswith(":stack/${StackName}/*")
            assert statement["Condition"] == {"ArnEquals": {"cloudformation:RoleArn": {"Fn::GetAtt": ["DeployRole", "Arn"]}}}
    assert len(changing) == 2
    # Actions that would bypass the change set, and so its condition.
    assert not actions("BuildRole") & {f"cloudformation:{verb}Stack" for verb in ("Create", "Update", "Delete")}


def test_a_push_changes_the_records_of_its_own_domain_only():
    """IAM's conditions on a record ("Using IAM policy conditions for fine-grained access control", Route 53)."""
    [changing] = [one for one in statements("DeployRole") if "route53:ChangeResourceRecordSets" in listed(one["Action"])]
    assert changing["Condition"] == {
        "ForAllValues:StringEquals": {
            "route53:ChangeResourceRecordSetsNormalizedRecordNames": [{"Ref": "DomainName"}],
            "route53:ChangeResourceRecordSetsRecordTypes": ["A", "AAAA"],
        }
    }
    # As IAM normalises a name: in lower case, without a dot at the end.
    pattern = yaml_parse((ROOT / "template.yaml").read_text())["Parameters"]["DomainName"]["AllowedPattern"]
    assert re.fullmatch(pattern, "tokens.example.com")
    assert not [
        name for name in ("Tokens.example.com", "tokens.example.com.", "*.example.com", "tokens") if re.fullmatch(pattern, name)
    ]


def test_the_optional_policies_belong_to_their_parameter():
    conditional = [policy["Fn::If"] for policy in resources()["DeployRole"]["Properties"]["Policies"] if "Fn::If" in policy]
    assert {condition: policy["PolicyName"] for condition, policy, _ in conditional} == {
        "HasDomain": "change-the-domain",
        "HasHostedZone": "change-the-records",
        "HasBudget": "change-the-budget",
    }
    assert all(otherwise == {"Ref": "AWS::NoValue"} for *_, otherwise in conditional)


@pytest.mark.parametrize("role", ROLES)
def test_each_resource_belongs_to_the_stack(role):
    """Each belongs to the stack, to this template or to AWS, or is a bare star."""
    ours = re.compile(
        r"\$\{(StackName|ApiId|DomainName|HostedZoneId)\}|:route53:::change/|:billingview/|/aws-sam-cli-managed-default/|:aws:transform/|:CodeDeployDefault\."
    )
    for statement in statements(role):
        for resource in listed(statement["Resource"]):
            if isinstance(resource, str):
                assert resource == "*"
            elif "Fn::Sub" in resource:
                assert ours.search(resource["Fn::Sub"]), resource
            elif "Ref" in resource:
                assert resource["Ref"] in ("ConnectionArn", "SecretArn")
            else:
                assert resource["Fn::GetAtt"][0] in ("BuildLogs", *ROLES)


# For each type, an action that a deployment needs, and the ARN that CloudFormation makes from a logical name.
NAMES = {
    "AWS::Serverless::Function": ("lambda:UpdateFunctionCode", "lambda:{}:function:{}-{}-1A2B"),
    "AWS::Serverless::Application": ("cloudformation:UpdateStack", "cloudformation:{}:stack/{}-{}-1A2B/1-2-3"),
    "AWS::Logs::LogGroup": ("logs:PutRetentionPolicy", "logs:{}:log-group:{}-{}-1A2B"),
    "AWS::CloudWatch::Alarm": ("cloudwatch:PutMetricAlarm", "cloudwatch:{}:alarm:{}-{}-1A2B"),
    "AWS::Events::Rule": ("events:PutRule", "events:{}:rule/{}-{}-1A2B"),
    "AWS::SNS::Topic": ("sns:Subscribe", "sns:{}:{}-{}-1A2B"),
    "AWS::DynamoDB::Table": ("dynamodb:UpdateTable", "dynamodb:{}:table/{}-{}-1A2B"),
}

# Types that have an ID of AWS's choice in place of a name: the parts of the API.
PARTS = {
    "AWS::ApiGatewayV2::ApiMapping": "domainnames/{}.example.com/apimappings/1a2b3c",
    "AWS::ApiGatewayV2::Api": "apis/{}",
    "AWS::ApiGatewayV2::Authorizer": "apis/{}/authorizers/1a2b3c",
    "AWS::ApiGatewayV2::DomainName": "domainnames/{}.example.com",
    "AWS::ApiGatewayV2::Integration": "apis/{}/integrations/1a2b3c",
    "AWS::ApiGatewayV2::Route": "apis/{}/routes/1a2b3c",
    "AWS::ApiGatewayV2::Stage": "apis/{}/stages/$default",
}


def may(action, arn, stack="token-mint"):
    """Whether DeployRole allows this, by IAM's rules: an explicit Deny wins."""
    effects = set()
    for statement in statements("DeployRole"):
        if action in listed(statement["Action"]):
            for resource in listed(statement["Resource"]):
                if resource == "*":
                    effects.add(statement["Effect"])
                    continue
                if "Ref" in resource:
                    continue  # the secret or the connection, whose ARN is a parameter
                pattern = resource["Fn::Sub"].replace("${AWS::Partition}", "aws").replace("${StackName}", stack)
                pattern = pattern.replace("${ApiId}", "a1b2c3d4e5").replace("${DomainName}", "a1b2c3d4e5.example.com")
                pattern = pattern.replace("${HostedZoneId}", "Z1A2B")
                pattern = pattern.replace("${AWS::Region}", "eu-west-1").replace("${AWS::AccountId}", "123456789012")
                if fnmatch.fnmatchcase(arn, pattern):
                    effects.add(statement["Effect"])
    return effects == {"Allow"}


def arn(name, resource, stack):
    """The ARN of a stack's resource: with the template's name for it, or else with CloudFormation's."""
    _, form = NAMES[resource["Type"]]
    named = resource.get("Properties", {}).get("LogGroupName")
    if named:
        named = named["Fn::Sub"].replace("${AWS::StackName}", stack).replace("${Api}", "a1b2c3d4e5")
        form = form.replace("{}-{}-1A2B", named)
    return f"arn:aws:{form.format('eu-west-1:123456789012', stack, name)}"


def test_a_deployment_can_change_its_own_stack_and_no_other():
    checked = set()
    for name, resource in yaml_parse((ROOT / "template.yaml").read_text())["Resources"].items():
        if resource["Type"] in NAMES:
            action, _ = NAMES[resource["Type"]]
            assert may(action, arn(name, resource, "token-mint")), name
            assert not may(action, arn(name, resource, "token-mint-prod")), name
        elif resource["Type"] in PARTS:
            for action in ("DELETE", "GET", "PATCH", "POST", "PUT"):
                part = "arn:aws:apigateway:eu-west-1::/" + PARTS[resource["Type"]]
                assert may(f"apigateway:{action}", part.format("a1b2c3d4e5")), name
                assert not may(f"apigateway:{action}", part.format("f6a7b8c9d0")), name
        elif resource["Type"] == "AWS::Route53::RecordSet":
            assert may("route53:ChangeResourceRecordSets", "arn:aws:route53:::hostedzone/Z1A2B"), name
            assert not may("route53:ChangeResourceRecordSets", "arn:aws:route53:::hostedzone/Z3C4D"), name
        elif resource["Type"] == "AWS::Logs::QueryDefinition":
            for action in ("DeleteQueryDefinition", "DescribeQueryDefinitions", "PutQueryDefinition"):
                assert may(f"logs:{action}", "*")
        else:
            # Its ARN is a parameter, it is part of the function, or it is changed by hand only.
            parts = ("ApiMayInvoke", "ApiMayCall", "ApiMayHangUp", "ScheduleMayInvoke")
            assert name in ("Secret", *parts, "MintRole", "KeeperRole", "CodeDeployServiceRole"), (
                f"{name}: decide whether a push may change it"
            )
        checked.add(resource["Type"])
    assert checked >= {*NAMES, *PARTS} - {"AWS::Serverless::Application"}


def test_each_bare_star_has_a_reason():
    bare = [line for line in TEMPLATE.read_text().splitlines() if re.search(r"""["']\*["']""", line)]
    assert len(bare) == sum("*" in listed(s["Resource"]) for role in ROLES for s in statements(role))
    for line in bare:
        assert re.search(r"""["']\*["'] # \w+ \w+""", line), line


def test_only_one_service_may_assume_each_role():
    for role, service in zip(ROLES, ["codebuild.amazonaws.com", "cloudformation.amazonaws.com"], strict=True):
        [trust] = resources()[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        assert (trust["Principal"], trust["Action"]) == ({"Service": service}, "sts:AssumeRole")


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov"])
def test_the_inline_policies_fit(partition):
    """IAM accepts 10,240 characters for all policies in a role, without white space. Other references than the account's number
    and the domain are counted as an ARN."""
    for role in ROLES:
        policies = with_options(resources()[role]["Properties"]["Policies"])
        separate = [one["Properties"] for one in resources().values() if one["Type"] == "AWS::IAM::Policy"]
        policies += [policy for policy in separate if {"Ref": role} in policy["Roles"]]
        documents = [
            json.dumps(policy["PolicyDocument"], separators=(",", ":")).replace(" ", "")
            for policy in policies
            # GovCloud has no budgets (test_options.py).
            if (partition, policy["PolicyName"]) != ("aws-us-gov", "change-the-budget")
        ]
        text = re.sub(r'\{"Fn::Sub":("[^"]*")\}', r"\1", "".join(documents)).replace('{"Ref":"DomainName"}', '"${DomainName}"')
        text = text.replace('{"Ref":"AWS::AccountId"}', '"${AWS::AccountId}"')
        text = re.sub(r'\{"(Ref|Fn::GetAtt)":[^{}]*\}', "x" * 105, text)
        for name, value in {
            "AWS::Partition": partition, "AWS::Region": "ap-southeast-1", "AWS::AccountId": "123456789012",
            "StackName": "x" * 28, "ApiId": "x" * 10, "DomainName": "x" * 60, "HostedZoneId": "x" * 32,
        }.items():  # fmt: skip
            text = text.replace(f"${{{name}}}", value)
        assert "${" not in text
        assert len(text) < 10_240, role


def test_only_a_push_to_the_branch_starts_a_build():
    project = resources()["Project"]["Properties"]
    assert project["Source"]["BuildSpec"] == BUILDSPEC
    assert project["Triggers"] == {
        "Webhook": True,
        "FilterGroups": [
            [
                {"Type": "EVENT", "Pattern": "PUSH"},
                {
                    "Type": "HEAD_REF",
                    "Pattern": {
                        "Fn::Sub": [
                            "^refs/heads/${Name}$",
                            {"Name": {"Fn::Join": [r"\.", {"Fn::Split": [".", {"Ref": "Branch"}]}]}},
                        ]
                    },
                },
            ]
        ],
    }


# --- the buildspec ----------------------------------------------------------------------------------------------------

DEPLOY = "infra/deploy-newest"
PHASES = ["install", "pre_build", "build", "post_build"]

# Replaces make: logs its target, variables and folder, and fails for the target in FAILING.
MAKE = """#!/bin/sh
echo "$1 stack=$STACK role=$DEPLOY_ROLE_ARN ci=$CI advisories=$ADVISORIES at=$PWD" >>"$CALLS"
[ "$1" != "$FAILING" ]
"""

# Stands in for the AWS CLI: the stack's status is the next line of STATUSES, whose last line stays. A line after the marker
# `push` is the commit that is pushed before that status is given.
AWS = f"""#!{sys.executable}
import os, pathlib, subprocess, sys
assert sys.argv[1:] == ["cloudformation", "describe-stacks", "--stack-name", "token-mint",
                        "--query", "Stacks[0].StackStatus", "--output", "text"]
statuses = pathlib.Path(os.environ["STATUSES"])
first, *rest = statuses.read_text().splitlines()
if rest:
    statuses.write_text("\\n".join(rest))
status, _, pushed = first.partition(" push ")
if pushed:
    subprocess.run(["git", "push", "--quiet", os.environ["CODEBUILD_SOURCE_REPO_URL"], f"{{pushed}}:refs/heads/main"], check=True)
print(status)
"""


class CodeBuild:
    """Runs the buildspec as CodeBuild would: in a clean clone, phase after phase, all in one shell.

    The only programs on the PATH are replacements, and git with a remote repository of its own, so a wrong command has no
    effect. The clone has the last commit; the files under test are copied from the working tree, so that changes are tested
    before they are committed.

    A failed command ends its phase. After a failed build phase, post_build still runs; after any other, the build ends
    (docs.aws.amazon.com/codebuild/latest/userguide/view-build-details-phases.html).
    """

    def __init__(self, folder):
        self.source, self.calls = folder / "source", folder / "calls"
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, self.source], check=True)
        for file in (BUILDSPEC, DEPLOY, "Makefile"):
            (self.source / file).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / file, self.source / file)
        self.remote, self.statuses = folder / "remote", folder / "statuses"
        self.git("init", "--quiet", "--bare", self.remote)
        # The tests may run in a clone without the history.
        self.git("-C", self.remote, "config", "receive.shallowUpdate", "true")
        self.statuses.write_text("UPDATE_COMPLETE")
        self.spec = yaml.safe_load((self.source / BUILDSPEC).read_text())
        tools = folder / "tools"
        tools.mkdir()
        for name, text in {"make": MAKE, "aws": AWS, "sleep": "#!/bin/sh\n"}.items():
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        for name in ("bash", "git"):
            (tools / name).symlink_to(shutil.which(name))
        self.path = str(tools)
        self.commit = self.git("rev-parse", "HEAD")
        self.push(self.commit)

    def git(self, *arguments):
        ran = subprocess.run(["git", *arguments], cwd=self.source, capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    def push(self, commit):
        self.git("push", "--quiet", "--force", self.remote, f"{commit}:refs/heads/main")

    def newer_commit(self):
        identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.com"]
        return self.git(*identity, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "newer")

    def run(self, failing="", **overrides):
        """Runs all phases. Returns whether the build succeeded, and the calls of make."""
        variables = {
            "PATH": self.path,
            "CALLS": str(self.calls),
            "FAILING": failing,
            "STACK": "token-mint",
            "BRANCH": "main",
            "DEPLOY_ROLE_ARN": "arn:aws:iam::123456789012:role/deploy",
            "CODEBUILD_SRC_DIR": str(self.source),
            "CODEBUILD_SOURCE_REPO_URL": str(self.remote),
            "STATUSES": str(self.statuses),
        } | {name: str(value) for name, value in self.spec.get("env", {}).get("variables", {}).items()}
        variables |= overrides
        self.calls.write_text("")
        log = self.calls.with_name("log")
        with (
            log.open("w") as output,
            subprocess.Popen(
                [shutil.which("bash")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=self.source,
                env=variables,
                text=True,
            ) as shell,
        ):
            succeeded = self.phases(shell)
        self.said = log.read_text()
        return succeeded, self.calls.read_text().splitlines()

    def phases(self, shell):
        failed = None
        for name in PHASES:
            if failed and (failed, name) != ("build", "post_build"):
                break
            for command in self.spec["phases"].get(name, {}).get("commands", []):
                print(f"eval {shlex.quote(command)} </dev/null >&2; echo $?", file=shell.stdin, flush=True)
                if shell.stdout.readline() != "0\n":
                    failed = failed or name
                    break
        return failed is None


@pytest.fixture
def codebuild(tmp_path):
    return CodeBuild(tmp_path)


def test_a_push_is_tested_built_and_deployed_in_this_order(codebuild):
    succeeded, calls = codebuild.run()
    assert succeeded
    folder = f"at={codebuild.source}"
    variables = "stack=token-mint role=arn:aws:iam::123456789012:role/deploy ci=true advisories=required"
    assert calls == [
        f"{target} {variables} {folder}" for target in ("toolchain", "supply-chain", "lint", "rust-tests", "build", "deploy")
    ]


@pytest.mark.parametrize("failing", ["toolchain", "supply-chain", "lint", "rust-tests", "build"])
def test_a_failure_prevents_the_deployment(codebuild, failing):
    succeeded, calls = codebuild.run(failing)
    assert not succeeded
    targets = [call.split()[0] for call in calls]
    assert targets == ["toolchain", "supply-chain", "lint", "rust-tests", "build"][: len(targets)] and targets[-1] == failing


def test_a_failed_deployment_fails_the_build(codebuild):
    succeeded, calls = codebuild.run("deploy")
    assert not succeeded and calls[-1].startswith("deploy ")


def targets(calls):
    return [call.split()[0] for call in calls]


def test_an_outdated_build_succeeds_without_a_deployment(codebuild):
    newer = codebuild.newer_commit()
    codebuild.push(newer)
    succeeded, calls = codebuild.run()
    assert succeeded and targets(calls)[-1] == "build"
    assert f"this build is of {codebuild.commit}, and main is at {newer}." in codebuild.said
    # A build by hand of an older commit.
    succeeded, calls = codebuild.run(BRANCH="")
    assert succeeded and targets(calls)[-1] == "deploy"


def test_a_build_of_a_deleted_branch_does_not_deploy(codebuild):
    succeeded, calls = codebuild.run(BRANCH="gone")
    assert succeeded and targets(calls)[-1] == "build" and "gone is at no commit" in codebuild.said


def test_a_build_that_cannot_ask_the_git_host_fails_without_a_deployment(codebuild):
    succeeded, calls = codebuild.run(CODEBUILD_SOURCE_REPO_URL=str(codebuild.remote / "missing"))
    assert not succeeded and targets(calls)[-1] == "build"


def test_a_build_waits_for_another_deployment_and_deploys_then(codebuild):
    codebuild.statuses.write_text("UPDATE_IN_PROGRESS\nUPDATE_COMPLETE_CLEANUP_IN_PROGRESS\nUPDATE_COMPLETE")
    succeeded, calls = codebuild.run()
    assert succeeded and targets(calls)[-1] == "deploy"
    assert codebuild.said.count("Waiting for the end of another deployment: token-mint is in UPDATE_") == 2


def test_a_build_that_is_outdated_while_it_waits_does_not_deploy(codebuild):
    codebuild.statuses.write_text(f"UPDATE_IN_PROGRESS push {codebuild.newer_commit()}\nUPDATE_COMPLETE")
    succeeded, calls = codebuild.run()
    assert succeeded and targets(calls)[-1] == "build" and "Not deployed" in codebuild.said


def test_the_project_names_the_branch_and_queues_pushes():
    """With a limit for concurrent builds, CodeBuild would refuse a push instead of queueing it."""
    project = resources()["Project"]["Properties"]
    assert {"Name": "BRANCH", "Value": {"Ref": "Branch"}} in project["Environment"]["EnvironmentVariables"]
    assert "ConcurrentBuildLimit" not in project


@pytest.mark.parametrize(
    "advisories, fetched, status", [("", True, 0), ("", False, 0), ("required", True, 0), ("required", False, 2)]
)
def test_the_pipeline_fails_without_the_advisories_and_a_machine_without_network_does_not(
    tmp_path, advisories, fetched, status
):
    for tool in ("deny/bin/cargo-deny", "machete/bin/cargo-machete"):
        (tmp_path / tool).parent.mkdir(parents=True)
        (tmp_path / tool).write_text(
            '#!/bin/sh\ncase "$*" in *"fetch db"*) echo no network >&2; exit "$FETCH";; esac\necho "runs $*"\n'
        )
        (tmp_path / tool).chmod(0o755)
        (tmp_path / tool).parent.with_name("ready").touch()
    command = ["make", "supply-chain", f"DENY={tmp_path}/deny", f"MACHETE={tmp_path}/machete"]
    environment = TOOLCHAIN | {"ADVISORIES": advisories, "FETCH": "0" if fetched else "1", "CI": "true"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert ("check --deny warnings advisories" in ran.stdout) is fetched
    said = "RustSec's advisories cannot be fetched: no network"
    assert (said in ran.stdout + ran.stderr) is not fetched and (f"skipped: {said}" in ran.stdout) is (
        not fetched and status == 0
    )


def test_the_buildspec_uses_only_features_that_this_test_runs(codebuild):
    """Each command is a target of the Makefile or the deployment, and the runner above supports every key."""
    spec = codebuild.spec
    assert spec["version"] == 0.2
    assert set(spec) == {"version", "env", "phases", "cache"}
    assert set(spec["env"]) == {"variables", "git-credential-helper"} and spec["env"]["git-credential-helper"] is True
    targets = re.findall(r"^([a-z][a-z-]*):", (codebuild.source / "Makefile").read_text(), re.MULTILINE)
    for name, phase in spec["phases"].items():
        assert name in PHASES and set(phase) <= {"runtime-versions", "commands"}
        for command in phase["commands"]:
            if command == DEPLOY:
                continue
            make, target = command.split()
            assert make == "make" and target in targets, command


def test_the_toolchain_is_installed_only_if_it_is_missing(tmp_path):
    """A stand-in replaces the installer, which comes from the network."""
    (tmp_path / "curl").write_text("#!/bin/sh\necho 'echo \"installs $*\"'\n")
    (tmp_path / "curl").chmod(0o755)
    for tool in ("bash", "sh", "make", "sed"):
        (tmp_path / tool).symlink_to(shutil.which(tool))

    def toolchain(path):
        environment = {"PATH": path, "HOME": str(tmp_path)}
        ran = subprocess.run(
            ["make", "--silent", "toolchain"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        return ran.stdout.strip()

    assert toolchain(str(tmp_path)) == "installs -y --default-toolchain none"
    (tmp_path / "cargo").symlink_to(shutil.which("cargo"))
    assert toolchain(str(tmp_path)) == ""
