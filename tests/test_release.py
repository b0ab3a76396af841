"""Deployments, parameters, versions and rollbacks, with the commands, against ministack as AWS.

aws_stand_in.py adds to ministack what these commands depend on: the values of parameters for SAM's transform, the code of each
version, and gradual deployments. CodeDeploy's own API is replaced by a small server here."""

import contextlib
import copy
import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import types
import urllib.request

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber
from conftest import NO_AWS_ACCOUNT, ROOT, TOOLCHAIN
from samcli.cli.types import CfnParameterOverridesType
from test_stack import Operator, stand_in, with_nested_stacks  # noqa: F401

from docs import permissions
from operate import change_set, deploy, parameters, sam
from operate.build import Build
from operate.error import CommandError
from operate.release import Base
from operate.template import Template
from operate.versions import Alias, bootstrap_of

CANARY = "Canary10Percent5Minutes"
TEMPLATE = Template((ROOT / "template.yaml").read_text())


class Releases(Operator):
    """The commands, and the state of the stack between them."""

    def __init__(self, endpoint, simulator, architecture, folder):
        super().__init__(endpoint, simulator, architecture)
        self.folder = folder

    def set(self, fails=False, **given):
        words = " ".join(f"{name}={value}" for name, value in given.items())
        return self.make("set", f"PARAMETERS={words}", fails=fails)

    def plain_deploy(self, fails=False, **environment):
        """A deployment without PARAMETERS."""
        return self.make("deploy", fails=fails, **environment)

    @property
    def function(self):
        return self.outputs()["FunctionName"]

    def alias(self):
        """The live version, and the shares of others."""
        found = self.client("lambda").get_alias(FunctionName=self.function, Name="live")
        return int(found["FunctionVersion"]), found.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})

    def version(self, number):
        return self.client("lambda").get_function_configuration(FunctionName=self.function, Qualifier=str(number))

    def live(self):
        """The live version's number, the program it runs, and its variables."""
        number, weights = self.alias()
        assert not weights
        return number, self.program(number), self.version(number)["Environment"]["Variables"]

    def program(self, number):
        """The hash of a version's program. The zip files of SAM and of update-code differ for the same one."""
        return self.program_of(self.function, number)

    def keeper(self):
        """The hash of the keeper's program, which has no versions."""
        return self.program_of(self.outputs()["KeeperName"], "$LATEST")

    def program_of(self, function, number):
        found = self.client("lambda").get_function(FunctionName=function, Qualifier=str(number))
        with urllib.request.urlopen(found["Code"]["Location"]) as answer:
            return hashlib.sha256(bootstrap_of(answer.read())).hexdigest()

    def replaced(self, number):
        return re.fullmatch(r"revision [0-9a-f]{12}, replaces (\d+|none)", self.version(number)["Description"])[1]

    def stack(self):
        return self.client("cloudformation").describe_stacks(StackName="token-mint")["Stacks"][0]

    def values(self):
        return {one["ParameterKey"]: one["ParameterValue"] for one in self.stack()["Parameters"]}

    def deployments(self):
        """The types of the deployments since the last call: how the alias was moved by CloudFormation."""
        log = self.folder / "log"
        kinds = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return kinds


@pytest.fixture
def codedeploy(tmp_path):
    """CodeDeploy's API: one deployment is in progress, and stopping it rolls it back. Its address, and the requests."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            operation = self.headers["X-Amz-Target"].partition(".")[2]
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((operation, body))
            in_progress = ["d-1"] if (tmp_path / "hold").exists() else []
            if operation == "StopDeployment":
                (tmp_path / "fail").touch()
                (tmp_path / "hold").unlink()
            answer = json.dumps({"deployments": in_progress, "status": "Pending"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()


@pytest.fixture
def releases(stand_in, simulator, architecture, tmp_path, codedeploy):  # noqa: F811
    operator = Releases(stand_in, simulator, architecture, tmp_path)
    operator.environment["AWS_ENDPOINT_URL_CODEDEPLOY"] = codedeploy[0]
    yield operator
    for held in tmp_path.glob("hold*"):
        held.unlink()


@contextlib.contextmanager
def in_background(operator, *words):
    """A command that runs while the test goes on; it has ended when the block has."""
    command = ["make", "--no-print-directory", *words]
    # A shell's background jobs ignore this signal, and so would what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command, cwd=ROOT, env=operator.environment, stdin=subprocess.DEVNULL, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
        process.said, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def until(condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def operate(folder, endpoint, *words, **environment):
    """One of the commands in another folder than the checkout's, with its exit status and output."""
    ran = subprocess.run(
        [ROOT / ".venv/tools/bin/python", "-m", "operate", *words],
        cwd=folder, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        env=TOOLCHAIN | NO_AWS_ACCOUNT
        | {"AWS_ENDPOINT_URL": endpoint, "PYTHONPATH": str(ROOT), "STACK": "token-mint", "CI": "true",
           "SAM_CLI_POLL_DELAY": "0.1"} | environment,
    )  # fmt: skip
    return ran.returncode, ran.stdout + ran.stderr


def test_a_deployment_without_a_fitting_build_is_refused(built, aws, tmp_path, architecture):
    endpoint, session = aws
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(ROOT / "samconfig.toml", folder)
    shutil.copy(ROOT / "template.yaml", folder)
    shutil.copytree(ROOT / "infra", folder / "infra")

    def refused(**environment):
        status, said = operate(folder, endpoint, "deploy", **environment)
        assert status == 1 and "Traceback" not in said and "Nothing was changed." in said, said
        with pytest.raises(ClientError, match="does not exist"):
            session.client("cloudformation", endpoint_url=endpoint).describe_stacks(StackName="token-mint")
        return said

    # SAM alone deploys the source here.
    assert "There is no build. Run `make build` first." in refused()
    build = folder / ".aws-sam/build"
    build.mkdir(parents=True)
    shutil.copy(ROOT / "template.yaml", build)
    assert "has no function MintFunction" in refused()
    shutil.rmtree(build)
    shutil.copytree(built, build)
    bootstrap = build / "MintFunction/bootstrap"
    other = {"arm64": "x86_64", "x86_64": "arm64"}[architecture]
    said = refused(PARAMETERS=f"Architecture={other}")
    assert f"The build is for {architecture}, not for {other}." in said
    assert f"`make build PARAMETERS=Architecture={other}`" in said
    keeper = build / "KeeperFunction/bootstrap"
    right = keeper.read_bytes()
    keeper.write_bytes(right[:18] + {"arm64": b"\x3e\0", "x86_64": b"\xb7\0"}[architecture] + right[20:])
    assert f"KeeperFunction/bootstrap is not a program for {architecture}." in refused()
    keeper.unlink()
    assert "has no function KeeperFunction" in refused()
    bootstrap.write_bytes(b"#!/bin/sh\n")
    assert "is not a program for arm64 or x86_64" in refused()


def test_a_build_sets_the_architecture_and_production_stays_gradual(releases, another_build, architecture):
    def values():
        [stack] = releases.client("cloudformation").describe_stacks(StackName="token-mint-prod")["Stacks"]
        return {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}

    del releases.parameters["Architecture"]
    first = " ".join(f"{name}={value}" for name, value in releases.parameters.items())
    said = releases.make("deploy", "ENV=prod", f"PARAMETERS={first}")
    assert re.search(rf"Build of \d{{4}}-\d\d-\d\d \d\d:\d\d for {architecture}, revision [0-9a-f]{{12}}\.", said)
    assert values()["Architecture"] == architecture
    # A parameter for one deployment must not end the gradual deployments of the others.
    another_build("second")
    releases.make("deploy", "ENV=prod", "PARAMETERS=TokenTtlSeconds=60")
    assert values()["DeploymentType"] == CANARY and values()["TokenTtlSeconds"] == "60"
    assert values()["Architecture"] == architecture, "samconfig.toml names arm64"
    assert values()["AllowedOrigins"] == "https://app.example.com"
    assert releases.deployments() == [CANARY]


def test_a_first_deployment_that_was_declined_is_explained_and_can_be_confirmed(releases):
    first = " ".join(f"{name}={value}" for name, value in releases.parameters.items())
    said = releases.make("deploy", f"PARAMETERS={first}", stdin="n\n", fails=True, CI="")
    assert "Deploy this changeset? [y/N]" in said, "SAM asks"
    explained = "was not created, because its change set was not confirmed. Run `make deploy` and confirm it."
    assert f"The stack token-mint {explained}" in said
    for command in (["versions"], ["set", "PARAMETERS=RateLimit=60"], ["key"]):
        assert explained in releases.make(*command, stdin="sk-proj-0123456789-of-the-tests\n", fails=True)
    assert "nothing was deployed: its first change set was not executed" in releases.make("doctor", fails=True)
    assert "token-mint in eu-west-1, REVIEW_IN_PROGRESS" in releases.make("status")
    said = releases.make("deploy", f"PARAMETERS={first}", stdin="y\n", CI="")
    assert "Version 1 with revision" in said


def test_a_rollback_returns_to_the_version_that_was_replaced(releases, another_build):
    releases.deploy()
    for build in ("good", "good again", "bad"):
        another_build(build)
        releases.deploy()
    assert releases.alias() == (4, {})
    releases.make("rollback")
    assert releases.alias() == (3, {})
    another_build("fixed")
    releases.deploy()
    assert releases.alias() == (5, {}) and releases.replaced(5) == "3"
    assert "To return to version 3: make rollback" in releases.make("deploy")
    # Not to 4, which is bad, and then further.
    releases.make("rollback")
    assert releases.alias() == (3, {})
    releases.make("rollback")
    assert releases.alias() == (2, {})
    releases.make("rollback", "TO=5")
    assert releases.alias() == (5, {})
    assert "Version 5 is already live." in releases.make("rollback", "TO=5", fails=True)
    assert "There is no version 9." in releases.make("rollback", "TO=9", fails=True)
    # A version that was published by other means has no record.
    functions = releases.client("lambda")
    functions.update_function_configuration(FunctionName=releases.function, Description="by hand")
    published = functions.publish_version(FunctionName=releases.function)["Version"]
    functions.update_alias(FunctionName=releases.function, Name="live", FunctionVersion=published)
    said = releases.make("rollback")
    assert "Version 6 does not record which version it replaced." in said and releases.alias() == (5, {})
    releases.make("rollback", "TO=1")
    assert "Version 1 is the first one." in releases.make("rollback", fails=True)


def test_a_rollback_that_stops_a_gradual_deployment_may_name_a_version(releases, another_build):
    """Another one than the version before, to which CodeDeploy returns the alias. test_operating.py names none."""
    releases.deploy(DeploymentType=CANARY)
    releases.set(TokenTtlSeconds="60")
    another_build("next")
    (releases.folder / "hold").touch()
    with in_background(releases, "deploy"):
        until(lambda: releases.alias()[1])
        said = releases.make("rollback", "TO=1")
    assert "Version 1 is live; before, it was 2, with 10% of requests to version 3." in said
    assert "The stack is UPDATE_ROLLBACK_COMPLETE, and version 1 is live." in said
    assert releases.alias() == (1, {})


def test_a_rollback_cancels_an_update_at_once(releases, another_build):
    releases.deploy()
    another_build("second")
    releases.deploy()
    # With TO, it ends at another version than the one before, to which CloudFormation returns the alias.
    for moment, live, to, target in (
        ("hold-after", 3, [], 2), ("hold-before", 2, [], 2), ("hold-before", 2, ["TO=1"], 1),
    ):  # fmt: skip
        another_build(f"{moment} {to}")
        (releases.folder / moment).touch()
        with in_background(releases, "deploy") as deployment:
            until((releases.folder / "waits").exists)
            assert releases.alias() == (live, {})
            with in_background(releases, "rollback", *to) as rollback:
                said = ""
                while "live" not in said:
                    said += rollback.stdout.readline()
                assert releases.alias() == (target, {}), said
                # The update ends when ministack comes to its next resource.
                (releases.folder / moment).unlink()
        assert "Cancelled the update of the stack that was in progress." in said
        before = f"Version {target} is live; before, it was {live}."
        assert (before if live != target else f"Version {target} is still live.") in said
        assert f"and version {target} is live." in rollback.said
        assert deployment.returncode != 0 and releases.alias() == (target, {})


def test_weights_that_were_set_by_hand_are_named_and_ended(releases):
    releases.deploy()
    releases.set(TokenTtlSeconds="60")
    releases.client("lambda").update_alias(
        FunctionName=releases.function, Name="live", RoutingConfig={"AdditionalVersionWeights": {"1": 0.25}}
    )
    said = releases.set(TokenTtlSeconds="70", fails=True)
    assert "The alias sends 25% of requests to version 1, but no deployment is in progress." in said
    releases.make("rollback")
    assert releases.alias() == (2, {})


def test_each_release_goes_live(releases, another_build):
    releases.deploy(DeploymentType=CANARY)
    assert releases.version(1)["TracingConfig"]["Mode"] == "PassThrough"
    # A setting that is neither code nor a variable. Another build on this disk is not released with it.
    another_build("not deployed")
    said = releases.set(Tracing="Active")
    assert releases.program(2) == releases.program(1)
    another_build("")
    assert "Tracing: (empty) → Active" in said and "Version 2 with revision" in said
    assert releases.version(2)["TracingConfig"]["Mode"] == "Active" and releases.alias() == (2, {})
    # The same again, and the same build, change nothing.
    assert "Nothing to change: the stack already has these values." in releases.set(Tracing="Active")
    said = releases.plain_deploy()
    assert "No changes to deploy" in said and "Version 2 with revision" in said

    # A deployment that an alarm ended, and the same build again.
    another_build("second")
    (releases.folder / "fail").touch()
    said = releases.plain_deploy(fails=True)
    assert "The deployment failed" in said and releases.alias() == (2, {})
    (releases.folder / "fail").unlink()
    releases.plain_deploy()
    live, _ = releases.alias()
    assert live > 2 and releases.replaced(live) == "2"
    # An earlier value again.
    releases.set(Tracing="")
    assert releases.version(releases.alias()[0])["TracingConfig"]["Mode"] == "PassThrough"
    # A change that fails says which resource failed, and why.
    (releases.folder / "fail").touch()
    said = releases.set(Tracing="Active", fails=True)
    assert "The update failed, and the stack is UPDATE_ROLLBACK_COMPLETE. MintFunctionAliaslive: One or more alarms" in said


def test_updated_code_is_neither_lost_nor_released_by_surprise(releases, another_build, built):
    releases.deploy(TokenTtlSeconds="1000")
    _, first, variables = releases.live()
    keeper = releases.keeper()
    releases.deploy(TokenTtlSeconds="2000")
    releases.make("rollback")
    assert releases.keeper() == keeper, "a rollback leaves the keeper alone"
    another_build("fix")
    said = releases.make("update-code")
    assert re.search(r"Version 3 with revision [0-9a-f]{12} is live; before, it was 1\.", said)
    number, fixed, now = releases.live()
    assert (number, now) == (3, variables) and fixed != first, "the settings of the version that was live, not the newest ones"
    assert "The keeper runs the build." in said and (fixed_keeper := releases.keeper()) != keeper
    assert releases.replaced(3) == "1"
    assert "Version 3 already has this build." in releases.make("update-code", fails=True)
    # A parameter keeps the fix.
    releases.set(LogLevel="DEBUG")
    number, now, changed = releases.live()
    assert (now, changed) == (fixed, variables | {"LOG_LEVEL": "DEBUG"})
    assert releases.keeper() == fixed_keeper
    name = releases.outputs()["KeeperName"]
    settings = releases.client("lambda").get_function_configuration(FunctionName=name)
    assert settings["Environment"]["Variables"]["LOG_LEVEL"] == "DEBUG", "the parameter is the keeper's, too"

    # Code that was updated and rolled back is in $LATEST, and CloudFormation does not know it.
    another_build("wrong fix")
    releases.make("update-code")
    releases.make("rollback")
    assert releases.live()[:2] == (number, fixed)
    releases.set(LogLevel="INFO")
    assert releases.live()[1:] == (fixed, variables)
    another_build("wrong again")
    releases.make("update-code")
    releases.make("rollback")
    another_build("fix")
    releases.deploy(TokenTtlSeconds="1500")
    assert releases.live()[1:] == (fixed, variables | {"TOKEN_TTL_SECONDS": "1500"})
    assert releases.keeper() == fixed_keeper, "the build's, not that of the wrong fixes"


def test_a_gradual_release_starts_from_updated_code_and_from_a_version_of_the_console(releases, another_build):
    """CodeDeploy knows neither, so each release first records the live version, at once."""
    releases.deploy(DeploymentType=CANARY)
    another_build("fix")
    releases.make("update-code")
    _, fixed, variables = releases.live()
    said = releases.set(LogLevel="DEBUG")
    assert "Step 1 of 2" in said and releases.deployments() == ["AllAtOnce", CANARY]
    number, now, changed = releases.live()
    assert (now, changed) == (fixed, variables | {"LOG_LEVEL": "DEBUG"})

    # In the console, the alias was moved back to the first version.
    releases.client("lambda").update_alias(FunctionName=releases.function, Name="live", FunctionVersion="1")
    another_build("next")
    said = releases.plain_deploy()
    assert f"the stack records version {number}" in said and "This command starts from version 1." in said
    assert releases.deployments() == ["AllAtOnce", CANARY]
    latest, program, now = releases.live()
    assert latest > number and program not in (fixed, releases.program(1)) and now == variables


def test_code_for_another_processor_is_not_published(releases, built, architecture):
    releases.deploy()
    other = {"arm64": "x86_64", "x86_64": "arm64"}[architecture]
    said = releases.set(Architecture=other, fails=True)
    assert f"The deployed code is for {architecture}." in said
    programs = [built / name / "bootstrap" for name in ("MintFunction", "KeeperFunction")]
    originals = [program.read_bytes() for program in programs]
    machine = {"x86_64": b"\x3e\x00", "arm64": b"\xb7\x00"}[other]
    try:
        for program, original in zip(programs, originals, strict=True):
            program.write_bytes(original[:18] + machine + original[20:])
        said = releases.make("update-code", fails=True)
        assert f"The build is for {other}, not for {architecture}." in said
        assert releases.alias() == (1, {})
    finally:
        for program, original in zip(programs, originals, strict=True):
            program.write_bytes(original)


def test_values_in_samconfig_do_not_undo_a_change_of_the_stack(releases, tmp_path):
    releases.deploy()
    releases.set(QuotaPerMinute="7", AlarmEmail="on-call@example.com")
    # As `sam deploy --guided` leaves it: every parameter, quoted.
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copytree(ROOT / ".aws-sam/build", folder / ".aws-sam/build")
    shutil.copytree(ROOT / "infra", folder / "infra")
    pinned = " ".join(f'{name}=\\"{value}\\"' for name, value in (TEMPLATE.defaults() | releases.parameters).items())
    written = (ROOT / "samconfig.toml").read_text()
    (folder / "samconfig.toml").write_text(
        re.sub(r"(?<=\[default.deploy.parameters\]\n)(.*?)parameter_overrides = .*?\n",
               lambda found: f'{found[1]}parameter_overrides = "{pinned}"\n', written, count=1, flags=re.DOTALL)
    )  # fmt: skip
    status, said = operate(folder, releases.endpoint, "deploy", PARAMETERS="RateLimit=60")
    assert status == 0, said
    values = releases.values()
    assert (values["QuotaPerMinute"], values["AlarmEmail"], values["RateLimit"]) == ("7", "on-call@example.com", "60")
    assert "samconfig.toml has QuotaPerMinute=1000, but the stack has QuotaPerMinute=7, which stays." in said
    assert 'make set PARAMETERS="QuotaPerMinute=1000"' in said
    assert releases.version(releases.alias()[0])["Environment"]["Variables"]["QUOTA_PER_MINUTE"] == "7"


def test_make_set_checks_names_and_values_first(releases):
    assert "There is no stack token-mint" in releases.set(RateLimit="60", fails=True)
    first = " ".join(f"{name}={value}" for name, value in releases.parameters.items())
    releases.make("deploy", f"PARAMETERS={first}", "FLAGS=--tags cost-center=training team=voice")
    before = releases.stack()
    for sentence, words in [
        ('Write make set PARAMETERS="Name=value …"', ""),
        ("There is no parameter ratelimit. Did you mean RateLimit", "ratelimit=60"),
        ("There is no parameter Nonsense. docs/parameters.md lists them.", "Nonsense=1"),
        ("RateLimit has no value", "RateLimit"),
        ("Revision is set by make deploy and make set alone", "Revision=0123456789ab"),
        ("RateLimit=0: must be from 1 to 10000", "RateLimit=0"),
        ("RateLimit=many: must be a number", "RateLimit=many"),
        ("Voice=robot: must be one of empty, alloy", "Voice=robot"),
        ("AllowedOrigins=https://app.example.com/: expected * alone", "AllowedOrigins=https://app.example.com/"),
        ("quotation mark that is not closed", "AuthAudience='a"),
        ("CloudFormation refused: ", "AllowedOrigins="),
    ]:
        said = releases.make("set", f"PARAMETERS={words}", fails=True)
        assert sentence in said and "Nothing was changed." in said and "Traceback" not in said, said
    assert releases.stack() == before
    # Without CI, it asks, and nothing but yes goes on.
    said = releases.make("set", "PARAMETERS=RateLimit=60", stdin="\n", fails=True, CI="")
    assert "RateLimit: 50 → 60" in said and "[y/N]" in said and releases.stack() == before
    said = releases.make("set", "PARAMETERS=RateLimit=60 AlarmEmail=", stdin="y\n", CI="")
    assert "version 1 stays live" in said
    values = releases.values()
    assert (values["RateLimit"], values["AlarmEmail"], values["AllowedOrigins"]) == ("60", "", "https://app.example.com")
    assert {one["Key"]: one["Value"] for one in releases.stack()["Tags"]} == {"cost-center": "training", "team": "voice"}
    role = releases.client("iam").list_roles()["Roles"][0]["RoleName"]
    assert {"Key": "team", "Value": "voice"} in releases.client("iam").list_role_tags(RoleName=role)["Tags"]


def test_an_interrupted_command_says_what_goes_on(releases):
    releases.deploy(DeploymentType=CANARY)
    (releases.folder / "hold").touch()
    with in_background(releases, "set", "PARAMETERS=Tracing=Active") as command:
        until(lambda: releases.alias()[1])
        # The command has seen that its change has begun.
        time.sleep(5)
        os.killpg(command.pid, signal.SIGINT)
    assert "Interrupted. CloudFormation continues this update." in command.said and "Traceback" not in command.said
    (releases.folder / "hold").unlink()
    until(lambda: releases.stack()["StackStatus"] == "UPDATE_COMPLETE")
    assert releases.alias() == (2, {})


class Stubbed:
    """A stack whose clients answer as told, and compare each request."""

    name, tags = "token-mint", [{"Key": "team", "Value": "voice"}]

    def __init__(self):
        session = boto3.Session("test", "test", region_name="eu-west-1")
        self.cloudformation, self.objects = session.client("cloudformation"), session.client("s3")
        self.functions = session.client("lambda")
        clients = (self.cloudformation, self.objects, self.functions)
        self.stubs = [Stubber(client) for client in clients]
        for stub in self.stubs:
            stub.activate()


@pytest.mark.parametrize("size", ["short", "long"])
def test_a_change_set_has_the_whole_template_and_another_update_is_named(size, monkeypatch):
    role = "arn:aws:iam::123456789012:role/token-mint-deploy" if size == "long" else ""
    monkeypatch.setenv("DEPLOY_ROLE_ARN", role)
    document = json.loads(json.dumps(TEMPLATE.document, default=str))
    document["Resources"]["MintFunction"]["Properties"]["CodeUri"] = "s3://bucket/token-mint/code"
    if size == "short":
        document["Resources"] = {"MintFunction": document["Resources"]["MintFunction"]}
    template, values = Template(document), TEMPLATE.defaults() | {"Branch": "a b", "Gone": "no longer in the template"}
    stack = Stubbed()
    updates, objects, _ = stack.stubs
    named = {"StackName": "token-mint", "ChangeSetName": "set-1"}
    if size == "long":
        objects.add_response("put_object", {}, {"Bucket": "bucket", "Key": "token-mint/set-1.template", "Body": ANY})
        source = {"TemplateURL": "https://s3.eu-west-1.amazonaws.com/bucket/token-mint/set-1.template"}
    else:
        source = {"TemplateBody": template.text}
    given = [{"ParameterKey": name, "ParameterValue": values[name]} for name in template.parameters]
    asked = {"ChangeSetType": "UPDATE", "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]}
    asked |= {"Parameters": given, "Tags": stack.tags} | ({"RoleARN": role} if role else {})
    updates.add_response("create_change_set", {}, named | source | asked)
    updates.add_response("describe_change_set", {"Status": "CREATE_COMPLETE"}, named)
    # Another operator's update began in the meantime.
    updates.add_client_error("execute_change_set", "InvalidChangeSetStatus", expected_params=named)
    updates.add_response("delete_change_set", {}, named)
    with pytest.raises(CommandError, match="Another update of the stack is in progress"):
        change_set.update(stack, template, values, "set-1")
    for stub in stack.stubs:
        stub.assert_no_pending_responses()


def test_an_alias_that_another_command_changed_is_left_alone():
    stack = Stubbed()
    stack.function = "function"
    alias = Alias.__new__(Alias)
    alias.stack, alias.revision_id = stack, "read before"
    stack.stubs[2].add_client_error(
        "update_alias",
        "PreconditionFailedException",
        expected_params={
            "FunctionName": "function", "Name": "live", "FunctionVersion": "3", "RevisionId": "read before",
            "RoutingConfig": {"AdditionalVersionWeights": {}},
        },
    )  # fmt: skip
    with pytest.raises(CommandError, match="changed the live version at the same time"):
        alias.move(3)


def test_a_stack_of_an_earlier_release_is_refused_before_anything_changes(monkeypatch):
    document = copy.deepcopy(TEMPLATE.document)
    del document["Parameters"]["Revision"]
    earlier, values = Template(document), TEMPLATE.defaults()
    alias = types.SimpleNamespace(live=4, moved=True)
    base = types.SimpleNamespace(template=earlier, alias=alias, recorded=values, values=values, explain=lambda: None)
    monkeypatch.setattr(deploy, "Base", lambda stack: base)
    monkeypatch.setattr(change_set, "require_idle", lambda stack: None)
    monkeypatch.setattr(sam, "check_length", lambda name, connection: None)
    monkeypatch.setenv("PARAMETERS", "TokenTtlSeconds=60")
    with pytest.raises(CommandError, match=r"which make set cannot change\. .*Nothing was changed"):
        deploy.set_parameters(types.SimpleNamespace(name="token-mint"), None)
    with pytest.raises(CommandError, match=r"from version 4\. Run `make deploy` once with PARAMETERS=DeploymentType=AllAtOnce"):
        Base.record_live_version(base)


class Planned:
    """`make deploy` of a build that is a program for x86_64, up to SAM, whose words and values are recorded in place of a run."""

    def __init__(self, folder, monkeypatch):
        (folder / TEMPLATE.function["CodeUri"]).mkdir(parents=True)
        shutil.copy(ROOT / "template.yaml", folder)
        (folder / TEMPLATE.function["CodeUri"] / "bootstrap").write_bytes(b"\x7fELF" + bytes(14) + b"\x3e\x00")
        monkeypatch.chdir(ROOT)
        self.ran, self.given = [], {}
        monkeypatch.setattr(deploy, "Build", lambda: Build(folder))
        monkeypatch.setattr(deploy, "require_live", lambda stack, revision: None)
        monkeypatch.setattr(deploy.subprocess, "run", self.run)
        monkeypatch.setattr(sam.account, "session", lambda environment: types.SimpleNamespace(region_name="eu-west-1"))
        for name in ("CI", "DEPLOY_ROLE_ARN", "FROM", "PARAMETERS"):
            monkeypatch.delenv(name, raising=False)

    def run(self, words, env):
        file = words[words.index("--parameter-overrides") + 1]
        self.given = CfnParameterOverridesType().convert((file,), None, None)
        self.ran.append(words)
        return types.SimpleNamespace(returncode=0)

    def deploy(self, name="token-mint", **parameters):
        """Deploys a stack that does not exist yet, or one with these parameters."""
        chosen = types.SimpleNamespace(name="default", stack=name, profile=None, parameters="Architecture=arm64")
        outputs = {"FunctionName": "function"} if parameters else {}
        deploy.deploy(
            types.SimpleNamespace(name=name, environment=chosen, outputs=outputs, parameters=parameters),
            types.SimpleNamespace(options=[]),
        )


@pytest.fixture
def planned(tmp_path, monkeypatch):
    return Planned(tmp_path / "build", monkeypatch)


def test_a_deployment_names_the_role_of_cloudformation_and_asks_unless_ci_is_set(planned, monkeypatch):
    """Without the role, the pipeline's own role may create no change set."""
    planned.deploy()
    role = "arn:aws:iam::123456789012:role/token-mint-deploy"
    monkeypatch.setenv("DEPLOY_ROLE_ARN", role)
    monkeypatch.setenv("CI", "true")
    planned.deploy()
    by_hand, by_pipeline = planned.ran
    assert not {"--role-arn", "--no-confirm-changeset"} & set(by_hand)
    assert by_pipeline[by_pipeline.index("--role-arn") + 1] == role and "--no-confirm-changeset" in by_pipeline


def test_a_name_too_long_for_a_pipeline_is_refused_by_both_commands(planned, monkeypatch):
    too_long, connection = "x" * 29, "ConnectionArn=arn:aws:codeconnections:eu-west-1:123456789012:connection/1"
    monkeypatch.setenv("PARAMETERS", f"{connection} Repository=https://git.example.com/mint")
    with pytest.raises(CommandError, match=r"has 29 characters.* Nothing was changed"):
        planned.deploy(too_long)
    values = TEMPLATE.defaults()
    base = types.SimpleNamespace(template=TEMPLATE, recorded=values, values=values)
    monkeypatch.setattr(deploy, "Base", lambda stack: base)
    monkeypatch.setattr(change_set, "require_idle", lambda stack: None)
    with pytest.raises(CommandError, match=r"has 29 characters.* Nothing was changed"):
        deploy.set_parameters(types.SimpleNamespace(name=too_long), None)
    assert not planned.ran
    planned.deploy("x" * 28)
    assert len(planned.ran) == 1


def test_the_architecture_of_the_build_replaces_that_of_the_stack_and_of_samconfig(planned, monkeypatch):
    planned.deploy()
    assert planned.given["Architecture"] == "x86_64"
    values = TEMPLATE.defaults() | {"Architecture": "arm64"}
    alias = types.SimpleNamespace(revision="", moved=False)
    base = types.SimpleNamespace(
        template=TEMPLATE, values=values, alias=alias, code_differs=False, explain=lambda: None, needs_step=lambda values: False
    )
    monkeypatch.setattr(deploy, "Base", lambda stack: base)
    monkeypatch.setattr(deploy, "marks", lambda *_: {"Revision": "0123456789ab", "ReplacedVersion": "1"})
    monkeypatch.setattr(change_set, "require_idle", lambda stack: None)
    planned.deploy(**values)
    assert planned.given["Architecture"] == "x86_64"


def test_a_change_that_deletes_the_keeper_ends_all_calls_after_it_was_confirmed(planned, monkeypatch):
    """A call that begins between the first check and the update would have no keeper."""
    done, answers = [], []
    values = TEMPLATE.defaults() | {"Architecture": "x86_64"}
    base = types.SimpleNamespace(
        template=TEMPLATE,
        recorded=values,
        values=values,
        alias=types.SimpleNamespace(revision="", moved=False, live="4", archive=lambda: b""),
        code_differs=False,
        explain=lambda: None,
        needs_step=lambda values: False,
    )
    monkeypatch.setattr(deploy, "Base", lambda stack: base)
    monkeypatch.setattr(deploy, "marks", lambda *_: {"Revision": "0123456789ab", "ReplacedVersion": "1"})
    monkeypatch.setattr(deploy, "bootstrap_of", lambda archive: b"")
    monkeypatch.setattr(deploy, "run_sam", lambda *_: done.append("update"))
    monkeypatch.setattr(change_set, "require_idle", lambda stack: None)
    monkeypatch.setattr(change_set, "update", lambda *_: done.append("update"))
    monkeypatch.setattr(change_set, "confirmed", lambda question: done.append("confirm") or answers.pop(0))
    monkeypatch.setattr(deploy.keeper, "require_none", lambda *_: done.append("check"))
    monkeypatch.setattr(deploy.keeper, "end_all", lambda stack, seconds, _: done.append(f"closed for {seconds} s"))
    chosen = types.SimpleNamespace(name="default", stack="token-mint", profile=None, parameters="")
    outputs = {"FunctionName": "function", "KeeperName": "keeper"}
    stack = types.SimpleNamespace(name="token-mint", environment=chosen, outputs=outputs, parameters=values)
    for command in (
        lambda: deploy.set_parameters(stack, None),
        lambda: deploy.deploy(stack, types.SimpleNamespace(options=[])),
    ):
        for given, seconds in [
            ("Endpoints=token", 900),
            # Requests reach the version before for up to 15 minutes more.
            ("Endpoints=token DeploymentType=Canary10Percent15Minutes", 1800),
        ]:
            monkeypatch.setenv("PARAMETERS", given)
            done.clear()
            answers[:] = [True]
            command()
            assert done == ["check", "confirm", f"closed for {seconds} s", "update"]
            done.clear()
            answers[:] = [False]
            with pytest.raises(CommandError, match=r"^Nothing was changed\.$"):
                command()
            assert done == ["check", "confirm"]
        monkeypatch.setenv("PARAMETERS", "Endpoints=call")
        done.clear()
        answers[:] = [True]
        command()
        assert not [one for one in done if "closed" in one]


def changed_secret(**properties):
    document = copy.deepcopy(TEMPLATE.document)
    document["Resources"]["Secret"]["Properties"] |= properties
    return Template(document)


def test_a_build_that_would_overwrite_the_key_is_refused(planned, monkeypatch):
    generated = TEMPLATE.document["Resources"]["Secret"]["Properties"]["GenerateSecretString"]
    monkeypatch.setattr(change_set, "require_idle", lambda stack: None)
    renamed = copy.deepcopy(TEMPLATE.document)
    renamed["Resources"]["OtherSecret"] = renamed["Resources"].pop("Secret")
    for deployed, named in [
        (changed_secret(Description="another"), "Description"),
        (changed_secret(GenerateSecretString=generated | {"PasswordLength": 32}), "GenerateSecretString"),
        (changed_secret(Name="token-mint", Description="another"), "Description, Name"),
        (Template(renamed), "Secret"),
    ]:
        base = types.SimpleNamespace(template=deployed, values=TEMPLATE.defaults())
        monkeypatch.setattr(deploy, "Base", lambda stack, base=base: base)
        with pytest.raises(CommandError, match=rf"changes the resource Secret \({named}\).* Nothing was changed\."):
            planned.deploy(**TEMPLATE.defaults())
    assert not planned.ran
    # KmsKeyArn and tags, and properties of the resource that CloudFormation does not send to Secrets Manager.
    kept = changed_secret(KmsKeyId="arn:aws:kms:eu-west-1:123456789012:key/1a2b", Tags=[{"Key": "team", "Value": "voice"}])
    kept.document["Resources"]["Secret"] |= {"DeletionPolicy": "Retain", "Metadata": {}}
    assert TEMPLATE.secret_changes(kept) == TEMPLATE.secret_changes(TEMPLATE) == set()


def test_values_reach_sam_unchanged(tmp_path):
    values = {
        "Spaces": "a b", "Quotes": 'say "x" and \'y\'', "Commas": "a=b,c", "Empty": "", "Wrapped": '"w"', "Backslash": "\\ \\\" \\n\\",
    }  # fmt: skip
    file = tmp_path / "parameters.yaml"
    file.write_text(parameters.for_sam(values))
    assert CfnParameterOverridesType().convert((f"file://{file}",), None, None) == values


def test_sam_publishes_a_version_for_each_revision(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")

    def version(**values):
        made = permissions.transformed(**values)
        [name] = [name for name, one in made.items() if one["Type"] == "AWS::Lambda::Version"]
        return name, made

    one, resources = version(Revision="0123456789ab", ReplacedVersion="4", DeploymentType=CANARY)
    assert one == "MintFunctionVersion0123456789"
    # Lambda publishes a version only if the function differs from the last one.
    assert resources["MintFunction"]["Properties"]["Description"].endswith(" 0123456789ab")
    assert resources[one]["Properties"]["Description"]["Fn::If"][1] == {
        "Fn::Sub": "revision ${Revision}, replaces ${ReplacedVersion}"
    }
    policy = resources["MintFunctionAliaslive"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
    assert policy["ApplicationName"] == {"Ref": "ServerlessDeploymentApplication"}
    other, resources = version(Revision="abcdef012345", ReplacedVersion="4")
    assert other != one and "UpdatePolicy" not in resources["MintFunctionAliaslive"]
    # A bare `sam deploy` publishes changed code, and no record that a rollback would believe.
    bare, resources = version()
    assert bare not in (one, other)


def test_the_role_of_codedeploy_is_as_sam_would_create_it(monkeypatch):
    """So a stack that has SAM's own keeps it unchanged."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    own = permissions.transformed(DeploymentType=CANARY)["CodeDeployServiceRole"]
    document = copy.deepcopy(TEMPLATE.document)
    del document["Resources"]["CodeDeployServiceRole"]
    del document["Resources"]["MintFunction"]["Properties"]["DeploymentPreference"]["Role"]
    # A copy of the live version is released at once, which must not delete the role.
    assert permissions.transformed()["CodeDeployServiceRole"] == own
    [policy] = own["Properties"]["ManagedPolicyArns"]
    assert own["Properties"].pop("PermissionsBoundary")["Fn::If"][2] == {"Ref": "AWS::NoValue"}, "none by default"
    own["Properties"]["ManagedPolicyArns"] = [policy["Fn::Sub"].replace("${AWS::Partition}", "aws")]
    assert permissions.transformed(document, DeploymentType=CANARY)["CodeDeployServiceRole"] == own


def test_a_revision_names_the_content_of_a_version():
    values = TEMPLATE.defaults()
    revision = TEMPLATE.revision(b"code", values, 0)
    assert re.fullmatch(TEMPLATE.parameters["Revision"]["AllowedPattern"], revision)
    assert TEMPLATE.revision(b"other code", values, 0) != revision
    assert TEMPLATE.revision(b"code", values, 1) != revision
    for name, definition in TEMPLATE.parameters.items():
        changed = TEMPLATE.revision(b"code", values | {name: "other"}, 0) != revision
        assert changed is (name in TEMPLATE.versioned()), name
        assert "Type" in definition
    # Every parameter in the function's variables, the processor, and one that counts through a condition alone.
    assert len(TEMPLATE.versioned()) == 21
    assert {"Architecture", "Tracing", "AllowedOrigins"} <= TEMPLATE.versioned()
    assert not {"DeploymentType", "ReservedConcurrency", "RateLimit"} & TEMPLATE.versioned()
