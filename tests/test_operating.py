"""docs/operating.md, followed from a clean clone to the deletion, against ministack as AWS.

Each command is one of the page's, apart from the names and values that the page leaves to its reader. After each one, the whole
state of the stack is compared with the state before: it has changed as the page says, and nothing else has."""

import concurrent.futures
import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
import time

import boto3
import pytest
from conftest import ROOT, TARGET, post
from evaluated import Evaluated
from test_release import CANARY, TEMPLATE, Releases, codedeploy, until  # noqa: F401
from test_stack import EVENT, KEY, for_ministack

from operate.build import ARCHITECTURES, machine_of
from operate.template import SET_BY_COMMANDS

# Of a version, except its variables.
SETTINGS = ("MemorySize", "Timeout", "Role", "Runtime", "Handler", "Architectures", "LoggingConfig", "TracingConfig")


@dataclasses.dataclass(frozen=True)
class Version:
    number: int
    program: str  # its SHA-256
    variables: dict
    settings: dict  # the other ones
    revision: str
    replaced: str


@dataclasses.dataclass(frozen=True)
class State:
    """Everything that a command may change of a stack."""

    live: Version
    weights: dict
    parameters: dict
    recorded: tuple  # Revision and ReplacedVersion, which the commands set
    secret: dict
    outputs: dict
    resources: dict  # the IDs of all resources except versions
    concurrency: int | None
    status: str
    update: str  # the ID of the stack's newest event


class Walk(Releases):
    """An operator with the page, a clone and one Region."""

    def __init__(self, endpoint, simulator, architecture, folder, clone, region):
        super().__init__(endpoint, simulator, architecture, folder)
        self.checkout, self.region = clone, region
        self.session = boto3.Session("test", "test", region_name=region)
        self.clients = {}
        self.environment |= {"AWS_REGION": region, "CARGO_TARGET_DIR": str(TARGET)}
        # The commands ask, and the operator agrees.
        del self.environment["CI"]
        page = (clone / "docs/operating.md").read_text()
        blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        self.documented = {line for block in blocks for line in block.splitlines()} | set(re.findall(r"`([^`\n]+)`", page))

    def client(self, service):
        if service not in self.clients:
            self.clients[service] = super().client(service)
        return self.clients[service]

    def run(self, command, *own, fails=False):
        """Runs a command of the page in the clone. Each of `own` is an example in it, and the operator's value in its place."""
        assert command in self.documented, f"docs/operating.md has no command {command}"
        for example, value in own:
            assert command.count(example) == 1
            command = command.replace(example, value)
        ran = subprocess.run(
            ["bash", "-c", command],
            # Python reads more than the line of its own answer.
            input="y\n" * 20_000, capture_output=True, text=True, cwd=self.checkout, env=self.environment, timeout=1200,
        )  # fmt: skip
        said = ran.stdout + ran.stderr
        assert (ran.returncode != 0) is fails, f"{command}: {said}"
        assert KEY not in said and "Traceback" not in said
        return said

    def set(self, values):
        return self.run('make set PARAMETERS="Name=value"', ("Name=value", values))

    # --- the build

    @property
    def bootstrap(self):
        return self.checkout / ".aws-sam/build/MintFunction/bootstrap"

    def built(self):
        return hashlib.sha256(self.bootstrap.read_bytes()).hexdigest()

    def rebuild(self):
        """Changes the build as another commit would: bytes after a program's end change its code, and not what it does."""
        new = self.bootstrap.with_name("bootstrap.new")
        shutil.copy(self.bootstrap, new)
        with new.open("ab") as file:
            file.write(b"changed")
        new.replace(self.bootstrap)
        return self.built()

    # --- the stack

    def live_version(self, number):
        found = self.version(number)
        revision, replaced = re.fullmatch(r"revision ([0-9a-f]{12}), replaces (\d+|none)", found["Description"]).groups()
        settings = {name: found[name] for name in SETTINGS}
        return Version(number, self.program(number), found["Environment"]["Variables"], settings, revision, replaced)

    def state(self):
        stack, (live, weights) = self.stack(), self.alias()
        parameters = self.values()
        recorded = parameters.pop("Revision"), parameters.pop("ReplacedVersion")
        cloudformation = self.client("cloudformation")
        resources = cloudformation.describe_stack_resources(StackName="token-mint")["StackResources"]
        concurrency = self.client("lambda").get_function_concurrency(FunctionName=self.function)
        return State(
            live=self.live_version(live),
            weights=weights,
            parameters=parameters,
            recorded=recorded,
            secret=self.secret(),
            outputs=self.outputs(),
            resources={
                one["LogicalResourceId"]: one["PhysicalResourceId"]
                for one in resources
                if one["ResourceType"] != "AWS::Lambda::Version"
            },
            concurrency=concurrency.get("ReservedConcurrentExecutions"),
            status=stack["StackStatus"],
            update=cloudformation.describe_stack_events(StackName="token-mint")["StackEvents"][0]["EventId"],
        )

    def changed(self, before, **changes):
        """The state now, in which only these fields differ from the state before."""
        now = self.state()
        assert now == dataclasses.replace(before, **changes)
        return now

    def updated(self, before, **changes):
        """The same after an update of the stack."""
        now = self.changed(before, update=self.state().update, status="UPDATE_COMPLETE", **changes)
        assert now.update != before.update
        return now

    def released(self, before, number, replaced=None, program=None, variables=None, **changes):
        """The same after a release, whose version differs from the live one before by its program and variables alone."""
        now = self.live_version(number)
        replaced = str(replaced or before.live.number)
        live = dataclasses.replace(
            before.live,
            number=number,
            replaced=replaced,
            revision=now.revision,
            program=program or before.live.program,
            variables=before.live.variables | (variables or {}),
        )
        assert now.revision != before.live.revision
        return self.updated(before, live=live, recorded=(now.revision, replaced), **changes)

    def mints(self):
        """The version that mints a token."""
        version, status, body = self.mint()
        assert status == 200 and body["value"].startswith("ek_")
        return version

    def uploaded(self):
        """The files in SAM's bucket, which remains."""
        bucket = self.client("cloudformation").describe_stack_resource(
            StackName="aws-sam-cli-managed-default", LogicalResourceId="SamCliSourceBucket"
        )["StackResourceDetail"]["PhysicalResourceId"]
        listed = self.client("s3").list_objects_v2(Bucket=bucket)
        return [one["Key"] for one in listed.get("Contents", [])]


@pytest.fixture
def clone(tmp_path):
    """A clean clone, with the changes that are not committed yet."""
    folder = tmp_path / "token-mint"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, folder], check=True)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if not (ROOT / name).exists():
            (folder / name).unlink(missing_ok=True)
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        # With its time: Cargo does not compile again what it has compiled from a file of this time, in the same target folder.
        shutil.copy2(ROOT / name, folder / name)
    # The Python tools are installed already. make compares the time of `ready` with that of the list of packages.
    tools = folder / ".venv/tools"
    tools.mkdir(parents=True)
    for entry in (ROOT / ".venv/tools").iterdir():
        if entry.name != "ready":
            (tools / entry.name).symlink_to(entry)
    (tools / "ready").touch()
    return folder


@pytest.fixture
def walk(aws, simulator, architecture, tmp_path, clone, codedeploy):  # noqa: F811
    """Makes an operator for a Region."""

    def walk(region):
        operator = Walk(aws[0], simulator, architecture, tmp_path, clone, region)
        operator.environment["AWS_ENDPOINT_URL_CODEDEPLOY"] = codedeploy[0]
        return operator

    yield walk
    for held in tmp_path.glob("hold*"):
        held.unlink()


DEPLOY = 'make deploy PARAMETERS="AllowedOrigins=https://app.example.com AlarmEmail=you@example.com"'


def configure(clone, values):
    """Puts values into samconfig.toml, which apply to new stacks."""
    file = clone / "samconfig.toml"
    words = " ".join(f"{name}={value}" for name, value in values.items())
    place = r"(\[default\.deploy\.parameters\]\n(?:.+\n)*?parameter_overrides = ')"
    text, times = re.subn(place, rf"\g<1>{words} ", file.read_text())
    assert times == 1
    file.write_text(text)


def check_new_stack(operator, said, expected):
    """A new stack has the expected values of its parameters, and the template's defaults for the others."""
    now = operator.state()
    revision = now.live.revision
    assert f" for {expected['Architecture']}, revision {revision}." in said, "says which build it releases"
    assert "CloudFormation stack changeset" in said and "Deploy this changeset?" in said, "shows the changes, and asks"
    assert now.outputs["TokenUrl"] in said and f"Version 1 with revision {revision} is live." in said
    defaults = {name: value for name, value in TEMPLATE.defaults().items() if name not in SET_BY_COMMANDS}
    assert now.parameters == defaults | expected
    variables = Evaluated(**now.parameters).resources["MintFunction"]["Properties"]["Environment"]["Variables"]
    ids = {"Secret": now.outputs["SecretArn"], "QuotaTable": now.resources["QuotaTable"]}
    assert now.live.variables == {
        name: ids[value["Ref"]] if isinstance(value, dict) else value for name, value in variables.items()
    }
    assert now.live.settings["Architectures"] == [expected["Architecture"]]
    assert (now.live.number, now.live.replaced, now.live.program) == (1, "none", operator.built())
    assert (now.weights, now.recorded, now.concurrency, now.status) == ({}, (revision, "none"), None, "CREATE_COMPLETE")
    assert set(now.secret) == {"OPENAI_API_KEY", "SAFETY_IDENTIFIER_KEY"} and len(now.secret["SAFETY_IDENTIFIER_KEY"]) == 64
    assert now.secret["OPENAI_API_KEY"] == "not set yet, run make key"
    return now


def check_service(operator, state, simulator, stand_in, in_lambda):
    """The stack is complete and works: through its alias, through its API, and the built program in Lambda's emulator."""
    resources = operator.client("cloudformation").describe_stack_resources(StackName="token-mint")["StackResources"]
    assert len(resources) > 20 and all(operator.resources().values())
    for resource in resources:
        assert resource.get("PhysicalResourceId") and resource["ResourceStatus"] == "CREATE_COMPLETE", resource
    assert set(state.outputs) == {
        *("TokenUrl", "CallUrl", "FunctionName", "KeeperName", "SecretArn", "DashboardUrl", "LogGroup")
    }
    assert re.fullmatch(r"https://\w+\.execute-api\.eu-west-1\.amazonaws\.com/token", state.outputs["TokenUrl"])
    assert operator.mints() == 1
    host = state.outputs["TokenUrl"].split("/")[2].split(".")[0] + ".execute-api.localhost"
    status, _, text = post(f"{stand_in}/token", b"{}", {"Host": host, "Origin": "https://app.example.com"})
    assert status == 200 and json.loads(text)["value"].startswith("ek_")
    status, _, text = post(f"{stand_in}/token", b"{}", {"Host": host, "Origin": "https://evil.example"})
    assert (status, json.loads(text)["code"]) == (403, "origin_not_allowed")
    _, invoke = in_lambda(
        bootstrap=operator.bootstrap, OPENAI_BASE_URL=f"{simulator}/v1", OPENAI_SECRET_ARN=state.outputs["SecretArn"],
        AWS_ENDPOINT_URL_SECRETS_MANAGER=stand_in,
    )  # fmt: skip
    assert json.loads(invoke(EVENT))["statusCode"] == 200


def test_the_page_from_a_clean_clone_to_the_deletion(walk, clone, aws, simulator, architecture, in_lambda, codedeploy):  # noqa: F811
    operator = walk("eu-west-1")
    hold, fail = operator.folder / "hold", operator.folder / "fail"
    key_file = clone / "key.txt"

    # --- Deploying: build, deploy, key. Nothing is deployed by a build.
    operator.run(f"make build PARAMETERS=Architecture={architecture}" if architecture == "x86_64" else "make build")
    assert ARCHITECTURES[machine_of(operator.bootstrap.read_bytes())] == architecture
    assert not any(operator.resources().values())
    for_ministack(clone / ".aws-sam/build/template.yaml", nested_stacks=False)
    first_build = operator.built()
    # All requests of this test are from one caller.
    configured = {"OpenAIBaseUrl": f"{simulator}/v1", "QuotaPerMinute": "1000"}
    configure(clone, configured)
    key_file.write_text(f"{KEY}\n")
    assert "There is no stack token-mint in eu-west-1" in operator.run("make key < key.txt", fails=True)
    said = operator.run(DEPLOY)
    expected = configured | {
        "AllowedOrigins": "https://app.example.com",
        "AlarmEmail": "you@example.com",
        "Architecture": architecture,
    }
    now = check_new_stack(operator, said, expected)
    _, status, body = operator.mint()
    assert (status, body["code"]) == (503, "key_unavailable")
    said = operator.run("make key < key.txt")
    assert "OpenAI issued a test token with this key." in said and "The key is stored." in said
    now = operator.changed(now, secret=now.secret | {"OPENAI_API_KEY": KEY})
    check_service(operator, now, simulator, aws[0], in_lambda)
    said = operator.run("make deploy")
    assert "No changes to deploy" in said and f"Version 1 with revision {now.live.revision} is live." in said
    now = operator.changed(now)

    # --- Change a parameter: the code stays, and so do all other values.
    said = operator.set("TokenTtlSeconds=900 QuotaPerMinute=900")
    assert "TokenTtlSeconds: 3600 → 900" in said and "Deploy this change?" in said and "Version 2 with revision" in said
    values = {"TokenTtlSeconds": "900", "QuotaPerMinute": "900"}
    variables = {"TOKEN_TTL_SECONDS": "900", "QUOTA_PER_MINUTE": "900"}
    now = operator.released(now, 2, variables=variables, parameters=now.parameters | values)
    version, status, body = operator.mint()
    assert (version, status) == (2, 200) and 890 <= body["expiresAt"] - time.time() <= 900

    # --- Block a caller, without a deployment. The log and OpenAI have the identifier that the command prints.
    address = json.loads(EVENT)["requestContext"]["http"]["sourceIp"]
    identifier = operator.run("make caller ADDRESS=203.0.113.9", ("203.0.113.9", address)).splitlines()[0]
    said = operator.make("logs", "FOLLOW=no")
    assert f'"caller": "{identifier}"' in said and "key_unavailable" in said and "ek_" not in said
    assert identifier in json.dumps(json.loads(post(f"{simulator}/simulator/requests", None, method="GET")[2]))
    other = operator.run("make caller ADDRESS=203.0.113.9", ("203.0.113.9", "2001:db8::1")).splitlines()[0]
    assert f"Blocked {other}." in operator.run("make block CALLER=…", ("…", other))
    now = operator.changed(now, secret=now.secret | {"BLOCKED_CALLERS": [other]})

    # --- Stop and resume all minting. ministack stores the concurrency of 0, but still runs the function.
    operator.run("make pause")
    now = operator.changed(now, concurrency=0)
    operator.run("make resume")
    now = operator.changed(now, concurrency=None)

    # --- A canary, which a rollback stops. All other commands wait for its end.
    said = operator.set(f"DeploymentType={CANARY}")
    assert "These parameters are not part of a version, so version 2 stays live." in said
    added = {name: one for name, one in operator.state().resources.items() if name not in now.resources}
    assert set(added) == {"ServerlessDeploymentApplication", "MintFunctionDeploymentGroup"}
    parameters = now.parameters | {"DeploymentType": CANARY}
    now = operator.updated(now, parameters=parameters, resources=now.resources | added)
    assert operator.deployments() == ["AllAtOnce"]
    second_build = operator.rebuild()
    hold.touch()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        deployment = pool.submit(operator.run, "make deploy", fails=True)
        try:
            until(lambda: deployment.done() or operator.alias()[1])
            assert not deployment.done(), deployment.result()
            assert operator.alias() == (2, {"3": 0.1})
            canary = operator.live_version(3)
            assert (canary.program, canary.variables, canary.replaced) == (second_build, now.live.variables, "2")
            listed = operator.run("make versions")
            assert re.search(r"^ +2 .* live, 90% of requests$", listed, re.MULTILINE)
            assert re.search(r"^ +3 .* live, 10% of requests$", listed, re.MULTILINE)
            assert "An update of the stack is in progress." in listed
            for command in ("make deploy", "make update-code"):
                said = operator.run(command, fails=True)
                assert "Another update of the stack is in progress. Nothing was changed." in said
            said = operator.make("set", "PARAMETERS=RateLimit=60", fails=True)
            assert "Another update of the stack is in progress. Nothing was changed." in said
            assert operator.alias() == (2, {"3": 0.1})
            said = operator.run("make rollback")
            assert "The deployment failed" in deployment.result()
        finally:
            hold.unlink(missing_ok=True)
    assert "Version 2 is live; before, it was 2, with 10% of requests to version 3." in said
    assert "The stack is UPDATE_ROLLBACK_COMPLETE, and version 2 is live." in said
    assert codedeploy[1][-1] == ("StopDeployment", {"deploymentId": "d-1", "autoRollbackEnabled": True})
    now = operator.changed(now, status="UPDATE_ROLLBACK_COMPLETE", update=operator.state().update)
    assert operator.mints() == 2 and operator.deployments() == [CANARY]
    fail.unlink()

    # --- The same build again, with another value: now it goes live.
    origins = "https://app.example.com,https://new.example.com"
    said = operator.run(DEPLOY, ("https://app.example.com", origins))
    assert "samconfig.toml has QuotaPerMinute=1000, but the stack has QuotaPerMinute=900, which stays." in said
    assert "To return to version 2: make rollback" in said
    good = now
    bad = now = operator.released(
        now,
        4,
        program=second_build,
        variables={"ALLOWED_ORIGINS": origins},
        parameters=now.parameters | {"AllowedOrigins": origins},
    )
    assert operator.mints() == 4 and operator.deployments() == [CANARY]

    # --- A rollback after the canary: within seconds, without CloudFormation, and there and back again.
    said = operator.run("make rollback")
    assert "Version 2 is live; before, it was 4." in said
    now = operator.changed(now, live=good.live)
    operator.run("make rollback TO=3", ("3", "4"))
    now = operator.changed(now, live=bad.live)
    operator.run("make rollback")
    now = operator.changed(now, live=good.live)
    assert operator.mints() == 2
    listed = operator.run("make versions")
    assert "The stack records version 4: version 2 was made live without CloudFormation." in listed
    for version, end in ((good.live, ["live"]), (bad.live, [])):
        published = operator.version(version.number)["LastModified"][:16].split("T")
        columns = [str(version.number), *published, version.revision, version.replaced, architecture, *end]
        assert columns in [row.split() for row in listed.splitlines()], listed

    # --- A change after the rollback. One that is not part of a version touches none.
    operator.set("ReservedConcurrency=7")
    now = operator.updated(now, parameters=now.parameters | {"ReservedConcurrency": "7"})
    assert operator.deployments() == []
    # ministack does not apply the parameter itself.
    operator.run("make pause")
    now = operator.changed(now, concurrency=0)
    assert "up to 7 mints at once" in operator.run("make resume")
    now = operator.changed(now, concurrency=7)
    # Another one starts from the live version: it keeps its code and values, and the stack records a copy of it first.
    said = operator.set("QuotaPerMinute=800")
    assert "It keeps the values with which this version runs: AllowedOrigins." in said
    assert f"AllowedOrigins: {origins} → https://app.example.com" in said
    assert "QuotaPerMinute: 900 → 800" in said and "Step 1 of 2" in said and "Step 2 of 2" in said
    copy = operator.live_version(5)
    assert copy == dataclasses.replace(good.live, number=5, revision=copy.revision), "it also replaced what the original did"
    values = {"AllowedOrigins": "https://app.example.com", "QuotaPerMinute": "800"}
    now = operator.released(now, 6, replaced=5, variables={"QUOTA_PER_MINUTE": "800"}, parameters=now.parameters | values)
    assert now.live.program == first_build and operator.mints() == 6
    assert operator.deployments() == ["AllAtOnce", CANARY]

    # --- Update: the next build. It also starts from the version that is live after another rollback.
    operator.run("make rollback")
    now = operator.changed(now, live=copy)
    third_build = operator.rebuild()
    said = operator.run("make deploy")
    assert "It keeps the values with which this version runs: QuotaPerMinute." in said
    assert "samconfig.toml has QuotaPerMinute=1000, but the stack has QuotaPerMinute=900, which stays." in said
    assert "Step 1 of 2" in said and "Step 2 of 2" in said
    values = {"QuotaPerMinute": "900"}
    now = operator.released(now, 8, replaced=7, program=third_build, parameters=now.parameters | values)
    assert operator.mints() == 8 and operator.deployments() == ["AllAtOnce", CANARY]

    # --- Ship a fix without CloudFormation: the settings are those of the live version.
    operator.set("DeploymentType=AllAtOnce")
    parameters = now.parameters | {"DeploymentType": "AllAtOnce"}
    resources = {name: one for name, one in now.resources.items() if name not in added}
    now = operator.updated(now, parameters=parameters, resources=resources)
    fix = operator.rebuild()
    said = operator.run("make update-code")
    live = operator.live_version(9)
    assert f"Version 9 with revision {live.revision} is live; before, it was 8." in said
    third = now.live
    now = operator.changed(now, live=dataclasses.replace(third, number=9, program=fix, replaced="8", revision=live.revision))
    assert operator.mints() == 9 and operator.deployments() == []
    # A change after a rollback of it keeps the live code, not the newest.
    operator.run("make rollback")
    now = operator.changed(now, live=third)
    operator.set("QuotaPerMinute=700")
    values = {"QuotaPerMinute": "700"}
    now = operator.released(now, 10, variables={"QUOTA_PER_MINUTE": "700"}, parameters=now.parameters | values)
    # The next deployment of the build makes the stack record it.
    operator.run("make update-code")
    live = operator.live_version(11)
    now = operator.changed(
        now, live=dataclasses.replace(now.live, number=11, program=fix, replaced="10", revision=live.revision)
    )
    said = operator.run("make deploy")
    now = operator.released(now, 12)
    assert f"Version 12 with revision {now.live.revision} is live." in said
    assert operator.mints() == 12 and "made live without CloudFormation" not in operator.run("make versions")

    # --- Change the key, and unblock the caller. Neither touches what the other has stored.
    new_key = f"{KEY}-new"
    key_file.write_text(f"{new_key}\n")
    operator.run("make key < key.txt")
    now = operator.changed(now, secret=now.secret | {"OPENAI_API_KEY": new_key, "PREVIOUS_OPENAI_API_KEY": KEY})
    operator.run("make unblock", ("unblock", f"unblock CALLER={other}"))
    now = operator.changed(now, secret=now.secret | {"BLOCKED_CALLERS": []})

    # --- A second Region, with a stack of the same name. No command there changes the first one.
    elsewhere = walk("us-east-1")
    there = check_new_stack(elsewhere, elsewhere.run(DEPLOY), expected)
    assert there.secret["SAFETY_IDENTIFIER_KEY"] != now.secret["SAFETY_IDENTIFIER_KEY"]
    first = there.live
    elsewhere.run("make key < key.txt")
    there = elsewhere.changed(there, secret=there.secret | {"OPENAI_API_KEY": new_key})
    elsewhere.run('make set PARAMETERS="DailyMintLimit=10000"')
    limit = {"DailyMintLimit": "10000"}
    there = elsewhere.released(there, 2, variables={"DAILY_MINT_LIMIT": "10000"}, parameters=there.parameters | limit)
    elsewhere.run("make rollback")
    there = elsewhere.changed(there, live=first)
    assert elsewhere.mints() == 1
    now = operator.changed(now)

    # --- Deleting it: the stack with its secret, its logs and its uploaded files, in this Region alone.
    assert operator.uploaded()
    said = operator.run("make delete")
    assert "Are you sure you want to delete the stack token-mint in the region eu-west-1" in said
    left = [name for found in operator.resources().values() for name in found]
    roles = ("MintRole", "KeeperRole", "CodeDeployServiceRole")
    assert {role["RoleName"] for role in left} == {there.resources[name] for name in roles}
    assert operator.uploaded() == []
    there = elsewhere.changed(there)
    assert elsewhere.uploaded() and elsewhere.mints() == 1
    elsewhere.run("make delete")
    assert not any(elsewhere.resources().values()) and elsewhere.uploaded() == []
