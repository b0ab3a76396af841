"""The operator's commands, without a deployment: against a small stack in ministack, or without AWS."""

import concurrent.futures
import hmac
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import types

import boto3
import botocore.exceptions
import pytest
from botocore.stub import Stubber
from conftest import NO_AWS_ACCOUNT, ROOT, TOOLCHAIN

from operate import __main__ as operate
from operate import account, callers, calls, environment, sam, secret, stack
from operate import keeper as keeper_module
from operate.error import CommandError
from operate.pause import pause

KEY = "sk-proj-0123456789-of-the-tests"
SAMCONFIG = (ROOT / "samconfig.toml").read_text()
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

# A stack with the outputs and parameters that the commands read, and only the secret as a resource.
TEMPLATE = {
    "Parameters": {"KeyTtlSeconds": {"Type": "Number", "Default": 300}, "AuthIssuer": {"Type": "String", "Default": ""},
                   "OpenAIBaseUrl": {"Type": "String", "Default": "https://api.openai.com/v1"},
                   "Architecture": {"Type": "String", "Default": "arm64"}},
    "Resources": {"Secret": {"Type": "AWS::SecretsManager::Secret", "Properties": {"Name": "secret", "SecretString": "{}"}}},
    "Outputs": {"SecretArn": {"Value": {"Ref": "Secret"}}, "FunctionName": {"Value": "deleted-function"}},
}  # fmt: skip


class Operator:
    """Runs the commands on a small stack, in a folder with a samconfig.toml."""

    def __init__(self, endpoint, session, folder):
        self.folder, self.session, self.endpoint = folder, session, endpoint
        (folder / "samconfig.toml").write_text(SAMCONFIG)
        self.variables = (
            TOOLCHAIN | CREDENTIALS | {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "eu-west-1", "PYTHONPATH": str(ROOT)}
        )
        cloudformation = self.client("cloudformation")
        cloudformation.create_stack(StackName="token-mint", TemplateBody=json.dumps(TEMPLATE))
        cloudformation.get_waiter("stack_create_complete").wait(StackName="token-mint", WaiterConfig={"Delay": 1})
        self.set_secret({"OPENAI_API_KEY": "old", "SAFETY_IDENTIFIER_KEY": "random"})

    def client(self, service):
        return self.session.client(service, endpoint_url=self.endpoint)

    def run(self, *words, package=ROOT, stdin="", **variables):
        variables = self.variables | {"PYTHONPATH": str(package)} | variables
        return subprocess.run(
            [sys.executable, "-m", "operate", *words],
            input=stdin, capture_output=True, text=True, timeout=120, cwd=self.folder,
            env={name: value for name, value in variables.items() if value is not None},
        )  # fmt: skip

    def fails(self, *words, **more):
        """Runs a command that must end with a message, which is returned on one line."""
        ran = self.run(*words, **more)
        assert ran.returncode == 1 and not ran.stdout and "Traceback" not in ran.stderr, ran
        return " ".join(ran.stderr.split())

    def secret(self):
        return json.loads(self.client("secretsmanager").get_secret_value(SecretId="secret")["SecretString"])

    def set_secret(self, fields):
        self.client("secretsmanager").put_secret_value(SecretId="secret", SecretString=json.dumps(fields))

    def labels(self):
        """The labels of all versions of the secret."""
        versions = self.client("secretsmanager").describe_secret(SecretId="secret")["VersionIdsToStages"]
        return sorted(label for labels in versions.values() for label in labels)


@pytest.fixture
def operator(aws, tmp_path):
    return Operator(*aws, tmp_path)


# --- the secret -------------------------------------------------------------------------------------------------------


@pytest.fixture
def machines(tmp_path):
    """Copies of the package, one for each of several machines. Commands of one copy wait for each other; those of two do not."""

    def machines(number):
        folders = [tmp_path / f"machine-{each}" for each in range(number)]
        for folder in folders:
            shutil.copytree(ROOT / "operate", folder / "operate", ignore=shutil.ignore_patterns("__pycache__"))
        return folders

    return machines


def test_a_subject_is_the_value_of_the_claim_that_the_stack_names(operator):
    def hashed(identity):
        return hmac.new(b"random", identity, "sha256").hexdigest()

    subject = {"SUBJECT": "a@example.com"}
    cloudformation = operator.client("cloudformation")
    for parameters, claim, identity in [
        ({}, "sub", b"subject:a@example.com"),
        ({"AuthSubjectClaim": "sub"}, "sub", b"subject:a@example.com"),
        ({"AuthSubjectClaim": ""}, "sub", b"subject:a@example.com"),
        ({"AuthSubjectClaim": "email"}, "email", b"claim:email a@example.com"),
    ]:
        template = json.loads(json.dumps(TEMPLATE))
        template["Parameters"] |= {name: {"Type": "String", "Default": value} for name, value in parameters.items()}
        # Something has to change, or there is no update.
        template["Parameters"]["AuthIssuer"]["Default"] = f"https://login.example/{len(parameters)}{claim}{parameters}"
        cloudformation.update_stack(StackName="token-mint", TemplateBody=json.dumps(template))
        cloudformation.get_waiter("stack_update_complete").wait(StackName="token-mint", WaiterConfig={"Delay": 1})
        ran = operator.run("caller", **subject)
        assert ran.stdout.splitlines()[0] == hashed(identity), (parameters, ran)
        assert f"by the claim {claim} of their sign-in" in operator.run("caller", ADDRESS="203.0.113.9").stdout
        assert operator.run("block", **subject).returncode == 0
        assert operator.secret()["BLOCKED_CALLERS"] == [hashed(identity)]
        assert operator.run("unblock", **subject).returncode == 0


def test_concurrent_blocks_from_different_machines_are_all_stored(operator, machines):
    identifiers = [f"{number:064x}" for number in range(20)]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        ran = list(
            pool.map(
                lambda identifier, package: operator.run("block", CALLER=identifier, package=package), identifiers, machines(20)
            )
        )
    assert [one.returncode for one in ran] == [0] * 20, ran
    assert sorted(operator.secret()["BLOCKED_CALLERS"]) == identifiers
    assert operator.labels() == ["AWSCURRENT", "AWSPREVIOUS"], "the temporary labels are removed"


def test_concurrent_commands_of_one_checkout_create_one_version_each(operator):
    def count():
        listed = operator.client("secretsmanager").list_secret_version_ids(SecretId="secret", IncludeDeprecated=True)
        return len(listed["Versions"])

    before = count()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ran = list(pool.map(lambda number: operator.run("block", CALLER=f"{number:064x}"), range(8)))
    assert [one.returncode for one in ran] == [0] * 8, ran
    assert count() - before == 8


def test_a_new_proxy_secret_is_printed_once_and_keeps_the_one_before(operator):
    before = operator.secret()
    printed = []
    for number in range(3):
        ran = operator.run("proxy-secret")
        assert ran.returncode == 0, ran
        new, *rest = ran.stdout.splitlines()
        assert re.fullmatch("[0-9a-f]{64}", new) and "X-Proxy-Secret" in ran.stdout and new not in "".join(rest)
        assert "ProxyAddressHeader is not set" in ran.stdout
        assert ("stays valid until the next" in ran.stdout) is (number > 0)
        previous = {"PREVIOUS_PROXY_SECRET": printed[-1]} if printed else {}
        printed.append(new)
        assert operator.secret() == before | {"PROXY_SECRET": new} | previous
    assert len(set(printed)) == 3
    assert operator.labels() == ["AWSCURRENT", "AWSPREVIOUS"]


def test_a_proxy_secret_stored_beside_a_block_is_kept(operator, machines):
    one, other = machines(2)
    for number in range(4):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            stored = pool.submit(operator.run, "proxy-secret", package=one)
            blocked = pool.submit(operator.run, "block", CALLER=f"{number:064x}", package=other)
        assert (stored.result().returncode, blocked.result().returncode) == (0, 0)
        fields = operator.secret()
        assert fields["PROXY_SECRET"] == stored.result().stdout.splitlines()[0]
        assert fields["BLOCKED_CALLERS"][-1] == f"{number:064x}"


def test_a_key_stored_beside_a_block_is_kept(operator, machines):
    one, other = machines(2)
    for number in range(6):
        operator.set_secret({"OPENAI_API_KEY": "old", "SAFETY_IDENTIFIER_KEY": "random"})
        key, identifier = f"{KEY}-{number}", f"{number:064x}"
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            stored = pool.submit(operator.run, "key", "--unchecked", stdin=key, package=one)
            blocked = pool.submit(operator.run, "block", CALLER=identifier, package=other)
        assert (stored.result().returncode, blocked.result().returncode) == (0, 0)
        fields = operator.secret()
        assert (fields["OPENAI_API_KEY"], fields["BLOCKED_CALLERS"]) == (key, [identifier])


def test_the_key_before_is_kept_by_every_command(operator):
    caller = "0a" * 32

    def run(*words, **variables):
        ran = operator.run(*words, **variables)
        assert ran.returncode == 0, ran
        assert "sk-" not in ran.stdout + ran.stderr, "no command prints a key"
        return ran

    keys = [f"{KEY}-{number}" for number in range(3)]
    former = "old"
    for new in keys:
        # A key that is stored again takes the key before it from nobody.
        for _ in range(2):
            run("key", "--unchecked", stdin=new)
            fields = operator.secret()
            assert (fields["OPENAI_API_KEY"], fields["PREVIOUS_OPENAI_API_KEY"]) == (new, former)
        former = new
    for words in [("block",), ("unblock",), ("proxy-secret",)]:
        run(*words, CALLER=caller)
        assert operator.secret()["PREVIOUS_OPENAI_API_KEY"] == keys[1], words
    operator.set_secret({"OPENAI_API_KEY": "not set yet, run make key", "SAFETY_IDENTIFIER_KEY": "random"})
    run("key", "--unchecked", stdin=KEY)
    assert "PREVIOUS_OPENAI_API_KEY" not in operator.secret(), "the placeholder of a new stack is not a key"
    # A secret without room for another key.
    full = operator.secret()
    full["SAFETY_IDENTIFIER_KEY"] += "x" * (65_536 - len(json.dumps(full, separators=(",", ":"))))
    operator.set_secret(full)
    as_long = f"{KEY[:-1]}0"
    run("key", "--unchecked", stdin=as_long)
    assert operator.secret() == full | {"OPENAI_API_KEY": as_long}


class Secrets:
    """A Secrets Manager that changes the secret at chosen moments, as another command would."""

    def __init__(self, fields):
        self.versions, self.labels = {}, {}
        self.fields = fields
        self.before_move = self.after_move = lambda: None
        self.set(fields)

    def set(self, fields):
        """Another command's change."""
        version = str(random.random())
        self.versions[version] = json.dumps(fields)
        self.move(version)

    def move(self, version):
        if "AWSCURRENT" in self.labels:
            self.labels["AWSPREVIOUS"] = self.labels["AWSCURRENT"]
        self.labels["AWSCURRENT"] = version

    def current(self):
        return json.loads(self.versions[self.labels["AWSCURRENT"]])

    def get_secret_value(self, SecretId, VersionId=None):
        version = VersionId or self.labels["AWSCURRENT"]
        labels = [label for label, at in self.labels.items() if at == version]
        return {"VersionId": version, "SecretString": self.versions[version], "VersionStages": labels}

    def put_secret_value(self, SecretId, ClientRequestToken, SecretString, VersionStages):
        self.versions[ClientRequestToken] = SecretString
        self.labels |= dict.fromkeys(VersionStages, ClientRequestToken)

    def update_secret_version_stage(self, SecretId, VersionStage, RemoveFromVersionId, MoveToVersionId=None):
        if VersionStage == "AWSCURRENT":
            before, self.before_move = self.before_move, lambda: None
            before()
        if self.labels.get(VersionStage) != RemoveFromVersionId:
            raise refusal("UpdateSecretVersionStage", "InvalidParameterException", "The label is attached to another version.")
        if MoveToVersionId:
            self.move(MoveToVersionId)
            after, self.after_move = self.after_move, lambda: None
            after()
        else:
            del self.labels[VersionStage]


def refusal(operation, code, message="Reason."):
    return botocore.exceptions.ClientError({"Error": {"Code": code, "Message": message}}, operation)


def test_a_change_is_applied_again_if_the_secret_changes_before_it_is_stored(monkeypatch):
    monkeypatch.setattr(secret.time, "sleep", lambda _: None)
    secrets = Secrets({"n": 1})
    secrets.before_move = lambda: secrets.set({"n": 1, "other": "kept"})
    of = types.SimpleNamespace(secrets=secrets, secret="arn")
    before, after = secret.change(of, lambda fields: fields | {"n": fields["n"] + 1})
    assert (before, after) == ({"n": 1, "other": "kept"}, {"n": 2, "other": "kept"}) and secrets.current() == after
    assert set(secrets.labels) == {"AWSCURRENT", "AWSPREVIOUS"}


@pytest.mark.parametrize("changed_again", [False, True])
def test_a_change_whose_answer_was_lost_is_not_applied_twice(monkeypatch, changed_again):
    secrets = Secrets({"n": 1})

    def repeat():
        """The SDK sends the request again, and AWS refuses the repetition."""
        if changed_again:
            secrets.set(secrets.current() | {"other": "kept"})
        raise refusal("UpdateSecretVersionStage", "InvalidParameterException")

    secrets.after_move = repeat
    of = types.SimpleNamespace(secrets=secrets, secret="arn")
    secret.change(of, lambda fields: fields | {"n": fields["n"] + 1})
    assert secrets.current()["n"] == 2 and ("other" in secrets.current()) is changed_again


def test_a_secret_that_never_stops_changing_ends_the_command(monkeypatch):
    monkeypatch.setattr(secret.time, "sleep", lambda _: None)
    monkeypatch.setattr(secret, "RETRY_SECONDS", 0)
    secrets = Secrets({})
    monkeypatch.setattr(
        secrets, "update_secret_version_stage", lambda **_: (_ for _ in ()).throw(refusal("U", "InvalidParameterException"))
    )
    with pytest.raises(CommandError, match=r"Nothing was changed\. Run the command again\."):
        secret.change(types.SimpleNamespace(secrets=secrets, secret="arn"), lambda fields: fields)


def test_the_quota_of_versions_is_explained(monkeypatch):
    secrets = Secrets({})
    monkeypatch.setattr(secrets, "put_secret_value", lambda **_: (_ for _ in ()).throw(refusal("P", "LimitExceededException")))
    with pytest.raises(CommandError, match="about 100 in 24 hours"):
        secret.change(types.SimpleNamespace(secrets=secrets, secret="arn"), lambda fields: fields)


# --- the environment, the Region and the credentials ------------------------------------------------------------------

GUIDED = """
version = 0.1
[default.deploy.parameters]
stack_name = "token-mint"
parameter_overrides = "Architecture=arm64"
[default.global.parameters]
region = "eu-central-1"
[prod.deploy.parameters]
stack_name = "token-mint-prod"
region = "eu-north-1"
profile = "prod"
[other.build.parameters]
"""


@pytest.fixture
def guided(tmp_path, monkeypatch):
    """A folder with the samconfig.toml of a guided deployment."""
    (tmp_path / "samconfig.toml").write_text(GUIDED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({}, "eu-central-1"),
        ({"ENV": "prod"}, "eu-north-1"),
        ({"AWS_DEFAULT_REGION": "us-east-1"}, "us-east-1"),
        ({"AWS_REGION": "us-east-2"}, "us-east-2"),
        ({"AWS_REGION": "us-east-2", "AWS_DEFAULT_REGION": "us-east-2", "ENV": "prod"}, "us-east-2"),
    ],
)
def test_the_region_comes_from_the_variables_or_from_samconfig(guided, variables, region, capsys):
    assert environment.resolve(variables).region == region
    assert capsys.readouterr() == ("", "")


def test_two_regions_that_differ_are_reported(guided, capsys):
    assert environment.resolve({"AWS_REGION": "us-east-2", "AWS_DEFAULT_REGION": "us-east-1"}).region == "us-east-2"
    assert "AWS_REGION=us-east-2 and AWS_DEFAULT_REGION=us-east-1 differ. AWS_REGION is used." in capsys.readouterr().err


def test_stack_and_profile_come_from_the_variables_or_from_samconfig(guided):
    assert environment.resolve({}).stack == "token-mint"
    assert environment.resolve({"ENV": "prod"}).stack == "token-mint-prod"
    assert environment.resolve({"ENV": "other", "STACK": "third"}).stack == "third"
    assert environment.resolve({}).profile is None, "the SDK reads AWS_PROFILE itself"
    assert environment.resolve({"AWS_PROFILE": "mine"}).profile is None
    assert environment.resolve({"ENV": "prod"}).profile == "prod"
    assert environment.resolve({"ENV": "prod", "AWS_PROFILE": "mine"}).profile == "mine"
    assert environment.resolve({}).parameters == "Architecture=arm64"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ENV": "typo"}, "samconfig.toml has no environment 'typo'. Set ENV to one of: default, other, prod."),
        ({"ENV": ""}, "samconfig.toml has no environment ''. Set ENV to one of: default, other, prod."),
        ({"STACK": ""}, "STACK is empty."),
        ({"ENV": "other"}, "samconfig.toml has no stack_name in [other.deploy.parameters]."),
        ({"STACK": "--no-prompts"}, "'--no-prompts' cannot be the name of a stack"),
        ({"STACK": "1st"}, "cannot be the name of a stack"),
        ({"STACK": "a" * 129}, "at most 128 letters, digits and hyphens"),
    ],
)
def test_a_wrong_environment_or_stack_is_refused(guided, variables, message):
    with pytest.raises(CommandError, match=re.escape(message)):
        environment.resolve(variables)


def test_a_broken_samconfig_is_named(guided):
    (guided / "samconfig.toml").write_text("version = ")
    with pytest.raises(CommandError, match=r"samconfig\.toml is not valid TOML"):
        environment.resolve({})
    (guided / "samconfig.toml").unlink()
    with pytest.raises(CommandError, match="Run make in the folder of the project"):
        environment.resolve({})


@pytest.mark.parametrize("target", re.findall(r"^([a-z-]+):.* environment ", (ROOT / "Makefile").read_text(), re.MULTILINE))
@pytest.mark.parametrize(("wrong", "message"), [("ENV=typo", "one of: default, prod."), ("STACK=", "STACK is empty")])
def test_make_refuses_a_wrong_environment_before_it_starts_a_step(target, wrong, message):
    # With the missing environment of tools, each target would begin with an installation.
    command = ["make", target, wrong, "TOOLS=.venv/none/ready", "FLAGS=--no-prompts"]
    ran = subprocess.run(command, cwd=ROOT, env=TOOLCHAIN | NO_AWS_ACCOUNT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2 and not ran.stdout and message in ran.stderr, ran


def test_all_targets_for_a_stack_check_the_environment():
    recipes = re.split(r"\n(?=\S)", (ROOT / "Makefile").read_text())
    checked = [recipe.split(":")[0] for recipe in recipes if re.match(r"[a-z-]+:.* environment ", recipe)]
    assert checked == [recipe.split(":")[0] for recipe in recipes if re.search(r"\t@.*\$\((OPERATE|SAM)\)", recipe)]
    assert len(checked) == 19


CONFIGURED = {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_EC2_METADATA_DISABLED": "true"}


def test_each_variable_for_the_region_is_enough(operator):
    for variables in ({"AWS_REGION": "eu-west-1"}, {"AWS_REGION": None, "AWS_DEFAULT_REGION": "eu-west-1"}):
        ran = operator.run("caller", SUBJECT="someone", **variables)
        assert ran.returncode == 0 and not ran.stderr, ran
        assert "no stack token-mint in us-east-1" in operator.fails(
            "caller", SUBJECT="someone", **{name: value and "us-east-1" for name, value in variables.items()}
        )


def test_region_and_profile_in_samconfig_are_enough(operator):
    nothing = {"AWS_REGION": None, "AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None} | CONFIGURED
    keys = "aws_access_key_id = test\naws_secret_access_key = test\n"
    (operator.folder / "config").write_text(f"[profile mine]\nregion = eu-west-1\n{keys}")
    assert operator.run("caller", SUBJECT="someone", AWS_PROFILE="mine", **nothing).returncode == 0
    settings = SAMCONFIG.replace("[default.deploy.parameters]", '[default.deploy.parameters]\nprofile = "mine"')
    (operator.folder / "samconfig.toml").write_text(settings)
    assert operator.run("caller", SUBJECT="someone", **nothing).returncode == 0, "the profile's Region"
    settings = settings.replace("[default.deploy.parameters]", '[default.deploy.parameters]\nregion = "us-east-1"')
    (operator.folder / "samconfig.toml").write_text(settings)
    assert "no stack token-mint in us-east-1" in operator.fails("caller", SUBJECT="someone", **nothing)
    assert operator.run("caller", SUBJECT="someone", **nothing | {"AWS_REGION": "eu-west-1"}).returncode == 0


def test_missing_region_credentials_and_profile_are_named(operator):
    nothing = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None} | CONFIGURED
    said = operator.fails("pause", **nothing)
    assert said.startswith("No AWS credentials were found. Export AWS_PROFILE") and "refused" not in said
    assert operator.fails("pause", AWS_REGION=None).startswith("No Region is set. Export AWS_REGION")
    assert "There is no AWS profile gone." in operator.fails("pause", AWS_PROFILE="gone", **nothing)
    assert operator.fails("sam", "deploy", **nothing).startswith("No AWS credentials were found.")


# --- the SAM CLI ------------------------------------------------------------------------------------------------------


@pytest.fixture
def sam_words(guided, monkeypatch):
    """Runs a command of the SAM CLI, and returns its words and its variables."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    (guided / "infra").symlink_to(ROOT / "infra")
    executed = []
    monkeypatch.setattr(sam.os, "execve", lambda _, words, variables: executed.append((words, variables)))
    monkeypatch.setattr(
        sam.account, "session", lambda chosen: types.SimpleNamespace(region_name=chosen.region or "of-the-profile")
    )
    monkeypatch.setattr(sam, "uploads", lambda chosen: ["--s3-prefix", chosen.stack])
    ended = []
    monkeypatch.setattr(sam, "end_calls", lambda chosen, asks: ended.append((chosen.stack, asks)))

    def sam_words(*words, **variables):
        sam.sam(environment.resolve(variables), types.SimpleNamespace(command=words[0], options=list(words[1:])))
        assert ended == ([("token-mint", "--no-prompts" not in words)] if words[0] == "delete" else [])
        ended.clear()
        words, variables = executed.pop()
        return [os.path.basename(words[0]), *words[1:]], variables

    return sam_words


def test_sam_works_on_the_stack_of_the_other_commands(sam_words):
    words, variables = sam_words("deploy", "--guided", ENV="prod")
    assert words == [
        "sam", "deploy", "--config-env", "prod", "--stack-name", "token-mint-prod", "--region", "eu-north-1", "--profile", "prod",
        "--guided",
    ]  # fmt: skip
    assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"] == "eu-north-1"
    assert variables["PATH"].split(os.pathsep)[0] == os.path.dirname(sys.executable)
    words, _ = sam_words("delete", "--no-prompts", AWS_REGION="us-east-1")
    assert words == [
        "sam",
        "delete",
        "--config-env",
        "default",
        "--stack-name",
        "token-mint",
        "--region",
        "us-east-1",
        "--s3-prefix",
        "token-mint",
        "--no-prompts",
    ]
    words, _ = sam_words("build", "--debug")
    assert words == ["sam", "build", "--config-env", "default", "--debug"]
    for option in ("--region", "--region=us-east-1", "--profile", "--stack-name", "--config-env"):
        with pytest.raises(CommandError, match=r"Set \w+ instead of --"):
            sam_words("deploy", option)


def test_the_options_of_a_deployment_are_those_of_sam(capsys):
    options = ["--tags", "cost-center=training", "team=voice", "--debug"]
    assert operate.arguments(["deploy", *options]).options == options
    assert operate.arguments(["deploy"]).options == []
    assert operate.arguments(["sam", "deploy", *options]).options == options
    assert operate.arguments(["key", "--unchecked"]).unchecked is True
    with pytest.raises(SystemExit):
        operate.arguments(["versions", "--debug"])
    assert "unrecognized arguments: --debug" in capsys.readouterr().err


def test_a_name_too_long_for_a_pipeline_is_refused_before_the_deployment(capsys):
    fits, too_long = "x" * 28, "x" * 29
    connection = "arn:aws:codeconnections:eu-west-1:123456789012:connection/1"
    sam.check_length(fits, connection)
    with pytest.raises(CommandError, match=r"has 29 characters.* at most 28"):
        sam.check_length(too_long, connection)
    # Without a pipeline, a longer name works, but a note says that a pipeline cannot be added.
    assert not capsys.readouterr().err
    sam.check_length(too_long, "")
    assert "at most 28" in capsys.readouterr().err


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("REVIEW_IN_PROGRESS", "was not created, because its change set was not confirmed. Run `make deploy` and confirm it."),
        ("ROLLBACK_COMPLETE", "could not be created (ROLLBACK_COMPLETE)"),
        ("CREATE_FAILED", "Run `make delete`, correct the cause, then run `make deploy`."),
        ("CREATE_IN_PROGRESS", "Run the command again when it has finished."),
        ("UPDATE_COMPLETE", "does not have the outputs of a Token Mint stack"),
    ],
)
def test_a_stack_without_outputs_is_explained(monkeypatch, status, message):
    monkeypatch.setattr(stack.account, "session", lambda _: None)
    monkeypatch.setattr(stack, "describe", lambda *_: {"StackStatus": status})
    with pytest.raises(CommandError, match=re.escape(message)):
        stack.Stack(types.SimpleNamespace(stack="token-mint"))


def test_a_declined_first_deployment_and_a_foreign_stack_are_explained(operator):
    cloudformation = operator.client("cloudformation")
    cloudformation.create_change_set(
        StackName="declined", ChangeSetName="first", ChangeSetType="CREATE", TemplateBody=json.dumps(TEMPLATE)
    )
    assert "was not created" in operator.fails("versions", STACK="declined")
    without = TEMPLATE | {"Outputs": {}, "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    cloudformation.create_stack(StackName="foreign", TemplateBody=json.dumps(without))
    assert "does not have the outputs" in operator.fails("pause", STACK="foreign")


def test_a_deleted_function_or_secret_is_explained(operator):
    for command in (["pause"], ["resume"], ["rollback"], ["versions"]):
        said = operator.fails(*command)
        assert "AWS cannot find a resource of the stack" in said and "make deploy" in said, said
    operator.client("secretsmanager").delete_secret(SecretId="secret", ForceDeleteWithoutRecovery=True)
    assert "AWS cannot find a resource of the stack" in operator.fails("block", SUBJECT="someone")


def test_an_unreachable_aws_is_explained(operator):
    said = operator.fails("pause", AWS_ENDPOINT_URL="http://127.0.0.1:1", AWS_MAX_ATTEMPTS="1")
    assert said.startswith("AWS could not be reached. Check the network and the Region")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ExpiredToken", "The AWS credentials have expired. Sign in again"),
        ("UnrecognizedClientException", "AWS does not accept the credentials"),
        ("AccessDeniedException", "docs/operating.md says which policies contain it"),
        ("ThrottlingException", "Run the command again in a minute"),
        ("InternalServiceError", "AWS answered PutFunctionConcurrency with InternalServiceError: Reason."),
    ],
)
def test_each_error_of_aws_is_a_message_with_the_next_step(code, message):
    functions = boto3.client("lambda", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(functions) as stubbed:
        stubbed.add_client_error("put_function_concurrency", code, "Reason.")
        with pytest.raises(botocore.exceptions.ClientError) as raised:
            functions.put_function_concurrency(FunctionName="x", ReservedConcurrentExecutions=0)
    assert message in account.explanation(raised.value)


def test_errors_of_the_sdk_are_messages_with_the_next_step():
    for error, message in [
        (botocore.exceptions.SSOTokenLoadError(error_msg="x"), "aws sso login"),
        (botocore.exceptions.PartialCredentialsError(provider="env", cred_var="x"), "cannot be used"),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="x"), "could not be reached"),
        (botocore.exceptions.WaiterError(name="x", reason="y", last_response={}), "run the command again"),
    ]:
        assert message in account.explanation(error)


# --- calls ------------------------------------------------------------------------------------------------------------

IDENTIFIER, HANDLE = "0a" * 32, "AAAAAAAAAAAAAAAAAAAAAAht9k1"


class Keeper:
    """A stack whose keeper answers as planned, and records what it is asked."""

    def __init__(self, answer=None, error=None, without=False):
        self.asked, self.answer, self.error = [], answer or {"ended": 0, "failed": []}, error
        self.outputs = {"FunctionName": "mint", "SecretArn": "secret"} | ({} if without else {"KeeperName": "keeper"})
        self.parameters = {"KeyTtlSeconds": "300", "CallsAtOnceForAll": "25", "AuthIssuer": "https://login.example"}
        self.name, self.function = "token-mint", "mint"
        self.functions = types.SimpleNamespace(
            invoke=self.invoke, put_function_concurrency=lambda **asked: self.asked.append(asked)
        )
        self.session = types.SimpleNamespace(client=lambda service, config: self.functions)

    def invoke(self, FunctionName, Payload):
        assert FunctionName == "keeper"
        self.asked.append(json.loads(Payload))
        if isinstance(self.error, Exception):
            raise self.error
        failure = {"FunctionError": "Unhandled"} if self.error else {}
        text = json.dumps({"errorMessage": self.error} if self.error else self.answer)
        return {"Payload": io.BytesIO(text.encode())} | failure


@pytest.fixture
def hang_up(monkeypatch, capsys):
    """Runs `make hang-up` with these variables. Returns what it prints, or the message with which it ends."""
    monkeypatch.setattr(secret, "read", lambda stack: secret.Fields({"SAFETY_IDENTIFIER_KEY": "random"}, "arn"))

    def hang_up(keeper, **variables):
        for name in calls.NAMES:
            monkeypatch.setenv(name, variables.get(name, ""))
        try:
            calls.hang_up(keeper, None)
        except CommandError as error:
            return f"{capsys.readouterr().out}{error}"
        return capsys.readouterr().out

    return hang_up


def test_hang_up_takes_exactly_one_kind_of_calls(hang_up):
    hashed = hmac.new(b"random", b"subject:someone", "sha256").hexdigest()
    address = hmac.new(b"random", b"address:203.0.113.9", "sha256").hexdigest()
    for variables, which in [
        ({"CALL": HANDLE}, {"call": HANDLE}),
        ({"CALLER": IDENTIFIER.upper()}, {"caller": IDENTIFIER}),
        ({"SUBJECT": "someone"}, {"caller": hashed}),
        ({"ADDRESS": "203.0.113.9"}, {"caller": address}),
        # A request that is under way begins its call after the list of calls was read.
        ({"ALL": "yes"}, {"all": True, "closedSeconds": 60}),
    ]:
        keeper = Keeper({"ended": 1, "failed": []})
        closed = "No call begins for 60 seconds.\n" if "all" in which else ""
        assert hang_up(keeper, **variables) == f"{closed}Ended 1 call.\n"
        assert keeper.asked == [{"command": "hang-up"} | which]
    for variables, said in [
        ({}, "Give exactly one of CALL=…, CALLER=…, SUBJECT=…, ADDRESS=… or ALL=yes. Nothing was changed."),
        ({"CALL": HANDLE, "ALL": "yes"}, "Give exactly one of CALL=…"),
        ({"ALL": "no"}, "ALL must be yes. Nothing was changed."),
        ({"CALL": "/call/x y"}, "CALL must be a call as `make calls` lists it"),
        ({"CALLER": "someone"}, "CALLER must be an identifier"),
    ]:
        keeper = Keeper()
        assert hang_up(keeper, **variables).startswith(said) and not keeper.asked


def test_hang_up_says_what_it_ended_and_what_it_did_not(hang_up):
    failed = {"ended": 2, "failed": [{"call": HANDLE, "cause": "OpenAI did not end it: OpenAI API returned 500"}]}
    said = hang_up(Keeper(failed), ALL="yes")
    assert said == (
        f"No call begins for 60 seconds.\nEnded 2 calls.\n1 call was not ended:\n  {HANDLE}: OpenAI did not end it: OpenAI API returned 500\n"
        "Run this command again. The keeper also tries again every minute."
    )
    assert hang_up(Keeper(), ALL="yes") == "No call begins for 60 seconds.\nNo call is open.\n"
    assert hang_up(Keeper(), CALLER=IDENTIFIER) == "No call of this caller is open.\n"
    assert hang_up(Keeper(), CALL=HANDLE).startswith("This call is not open")
    said = hang_up(Keeper(error="unknown command: expected …"), ALL="yes")
    assert said == "The keeper failed: unknown command: expected …. `make doctor` checks it."
    denied = botocore.exceptions.ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no."}}, "Invoke")
    assert hang_up(Keeper(error=denied), ALL="yes").startswith(
        "The keeper could not be asked to end calls. AWS denied Invoke: no."
    )


def test_calls_are_listed_with_their_callers_and_times(capsys):
    one = {"call": HANDLE, "caller": IDENTIFIER, "profile": "default", "state": "open", "began": 1795694400, "ends": 1795695000}
    other = one | {"call": f"B{HANDLE[1:]}", "state": "uncertain", "ends": 1795694500}
    calls.calls(Keeper({"calls": [one, other]}), None)
    head, first, second, last = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "call" and "since (UTC)" in head and "until (UTC)" in head
    assert first.split() == [
        other["call"],
        IDENTIFIER,
        "default",
        "uncertain",
        "2026-11-26",
        "12:00:00",
        "2026-11-26",
        "12:01:40",
    ]
    assert second.startswith(f"{HANDLE}  {IDENTIFIER}  default  open       2026-11-26 12:00:00  2026-11-26 12:10:00")
    assert last == "2 calls; up to 25 may be open at once. To end one: make hang-up CALL=…"
    calls.calls(Keeper({"calls": []}), None)
    assert capsys.readouterr().out == "No call is open. Up to 25 may be at once.\n"


def test_block_and_pause_end_calls_and_say_what_stays_in_force_if_they_cannot(monkeypatch, capsys):
    fields = secret.Fields({}, "arn")
    monkeypatch.setattr(secret, "change", lambda stack, edit: (fields, edit(fields)))
    for name in callers.NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CALLER", IDENTIFIER)
    keeper = Keeper({"ended": 2, "failed": []})
    callers.block(keeper, None)
    # For as long as an instance may have the old block list, and for a request that began with it.
    assert keeper.asked == [{"command": "hang-up", "caller": IDENTIFIER, "closedSeconds": 330}]
    said = capsys.readouterr().out
    assert said.startswith(f"Blocked {IDENTIFIER}.") and said.endswith("Ended 2 calls.\n")

    keeper = Keeper({"ended": 2, "failed": []})
    pause(keeper, None)
    assert keeper.asked == [
        {"FunctionName": "mint", "ReservedConcurrentExecutions": 0},
        {"command": "hang-up", "all": True, "closedSeconds": 60},
    ], "new calls end first, and a request that the pause did not stop opens none"
    assert keeper_module.CLOSED_SECONDS > keeper_module.LONGEST_REQUEST_SECONDS
    assert capsys.readouterr().out.splitlines()[-1] == "Ended 2 calls."

    failed = {"ended": 0, "failed": [{"call": HANDLE, "cause": "there is no API key"}]}
    for command, in_force in [
        (
            callers.block,
            f"The caller is blocked, but open calls of this caller may go on. Run `make hang-up CALLER={IDENTIFIER}`.",
        ),
        (pause, "The pause is on, but open calls may go on. Run `make hang-up ALL=yes`."),
    ]:
        for keeper in (Keeper(failed), Keeper(error="the table cannot be used")):
            with pytest.raises(CommandError) as ended:
                command(keeper, None)
            assert str(ended.value).splitlines()[-1] == in_force
            assert "there is no API key" in str(ended.value) or "the table cannot be used" in str(ended.value)
    capsys.readouterr()


def test_a_stack_without_a_keeper_works_with_every_command(monkeypatch, capsys, hang_up):
    """A stack of an earlier release, or one with Endpoints=token."""
    old = Keeper(without=True)
    calls.calls(old, None)
    assert capsys.readouterr().out.startswith("This stack has no keeper, so it has no calls: ")
    assert hang_up(old, ALL="yes").endswith("from a release without calls. Nothing was changed.")
    pause(old, None)
    assert capsys.readouterr().out == (
        "Paused: no token is issued until make resume. Tokens already issued open sessions until they expire.\n"
    )
    fields = secret.Fields({}, "arn")
    monkeypatch.setattr(secret, "change", lambda stack, edit: (fields, edit(fields)))
    monkeypatch.setenv("ALL", "")
    monkeypatch.setenv("CALLER", IDENTIFIER)
    callers.block(old, None)
    assert "Ended" not in capsys.readouterr().out
    assert old.asked == [{"FunctionName": "mint", "ReservedConcurrentExecutions": 0}]
    template = types.SimpleNamespace(keeper=None)
    keeper_module.require_none(old, template, {})


def test_the_keeper_is_not_deleted_while_calls_are_open():
    open_call = {"call": HANDLE, "caller": IDENTIFIER, "profile": "default", "state": "open", "began": 1, "ends": 2}
    with_keeper, without = types.SimpleNamespace(keeper={"CodeUri": "x"}), types.SimpleNamespace(keeper=None)
    for template, values, refused in [
        (with_keeper, {"Endpoints": "both"}, False),
        (with_keeper, {"Endpoints": "call"}, False),
        (with_keeper, {"Endpoints": "token"}, True),
        (without, {}, True),  # an earlier release
    ]:
        keeper_module.require_none(Keeper({"calls": []}), template, values)
        asked = Keeper({"calls": [open_call]})
        if refused:
            with pytest.raises(CommandError, match="1 call is open, and this change deletes the keeper"):
                keeper_module.require_none(asked, template, values)
        else:
            keeper_module.require_none(asked, template, values)
            assert not asked.asked


class Busy(Keeper):
    """A keeper with so many calls at each look at them, and the last number from then on."""

    def __init__(self, *looks, failed=()):
        super().__init__()
        self.looks, self.failed = list(looks), list(failed)

    def invoke(self, FunctionName, Payload):
        command = json.loads(Payload)
        if command["command"] == "list":
            count = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
            one = {"call": HANDLE, "caller": IDENTIFIER, "profile": "default", "state": "open", "began": 1, "ends": 2}
            self.answer = {"calls": [one] * count}
        else:
            self.answer = {"ended": 1, "failed": self.failed}
        return super().invoke(FunctionName, Payload)


@pytest.fixture
def no_pause(monkeypatch):
    """Time passes without waiting."""
    passed = [0.0]
    monkeypatch.setattr(keeper_module.time, "monotonic", lambda: passed[0])
    monkeypatch.setattr(keeper_module.time, "sleep", lambda seconds: passed.__setitem__(0, passed[0] + seconds))


def test_all_calls_are_ended_before_the_keeper_is_deleted(no_pause, capsys):
    keeper = Busy(1, 1, 0)
    keeper_module.end_all(keeper, 900, "Nothing was changed.")
    assert keeper.asked == [{"command": "hang-up", "all": True, "closedSeconds": 900}, *[{"command": "list"}] * 3]
    assert capsys.readouterr().out == "Ended 1 call. No call begins for 15 minutes.\n"
    with pytest.raises(CommandError, match=r"1 call is not known to be over\. .*Nothing was changed\. No call begins for 15"):
        keeper_module.end_all(Busy(1), 900, "Nothing was changed.")
    failed = [{"call": HANDLE, "cause": "there is no API key"}]
    with pytest.raises(CommandError, match=r"1 call was not ended:\n.*there is no API key\nNothing was changed\."):
        keeper_module.end_all(Busy(0, failed=failed), 900, "Nothing was changed.")
    assert keeper_module.is_deleted_by(Keeper(), types.SimpleNamespace(keeper={}), {"Endpoints": "token"})
    assert not keeper_module.is_deleted_by(Keeper(), types.SimpleNamespace(keeper={}), {"Endpoints": "call"})
    assert not keeper_module.is_deleted_by(Keeper(without=True), types.SimpleNamespace(keeper={}), {"Endpoints": "token"})


def test_make_delete_ends_all_calls_first(no_pause, monkeypatch, capsys):
    """After the operator has agreed. A keeper that cannot end them does not keep the operator from deleting the stack."""

    def delete(stack, *answers, asks=True):
        given = list(answers)
        monkeypatch.setattr(sam, "Stack", lambda environment, may_be_missing: stack)
        monkeypatch.setattr(sam.change_set, "confirmed", lambda question: given.pop(0))
        sam.end_calls(None, asks)
        assert not given

    keeper = Busy(1, 0)
    delete(keeper, True)
    assert keeper.asked[0] == {"command": "hang-up", "all": True, "closedSeconds": 900}
    delete(Busy(0), asks=False)
    delete(Keeper(without=True))
    keeper = Busy(0)
    with pytest.raises(CommandError, match=r"^Nothing was changed\.$"):
        delete(keeper, False)
    assert not keeper.asked
    for broken in (Keeper(error="there is no table"), Busy(1)):
        delete(broken, True, True)
        with pytest.raises(CommandError, match=r"^Nothing was deleted\.$"):
            delete(broken, True, False)
        with pytest.raises(CommandError, match=r"^Nothing was deleted\.$"):
            delete(broken, asks=False)
    assert "there is no table" in capsys.readouterr().err
    gone = botocore.exceptions.ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "no."}}, "Invoke")
    delete(Keeper(error=gone), asks=False)
