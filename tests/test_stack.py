"""A deployed stack, with the operator's commands, against ministack in place of AWS. test_operating.py has its life cycle.

ministack creates every type of resource in a deployment with these parameters. It does not support metric math in alarms
(replaced below) and saved queries (left out). It does not support or enforce CodeDeploy, CodeConnections, permissions,
throttling and reserved concurrency: test_template.py and test_pipeline.py check these in the templates."""

import base64
import contextlib
import fcntl
import hmac
import http.server
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import termios
import threading
import time

import boto3
import pytest
from conftest import NO_AWS_ACCOUNT, ROOT, TOOLCHAIN, free_port, post
from evaluated import Evaluated
from offers import OFFERS
from samtranslator.yaml_helper import yaml_parse
from test_requirements import BASE

from release.__main__ import contents, write

EVENT = (ROOT / "function/events/http-api.json").read_bytes()
KEY = "sk-proj-0123456789-of-the-tests"


def for_ministack(template, nested_stacks):
    """Changes a built template so that ministack can create it: ministack supports neither alarms on metric math nor saved
    queries. test_template.py reads the text of the queries. Without nested stacks, SAM can delete the stack: `sam delete`
    recognises the URLs of their templates on amazonaws.com only."""
    changed = yaml_parse(template.read_text())
    resources = changed["Resources"]
    for name in ("ApiErrorsAlarm", "LatencyAlarm"):
        alarm = resources[name]["Properties"]
        watched = [query["MetricStat"] for query in alarm.pop("Metrics") if "MetricStat" in query]
        one = next(stat for stat in watched if stat["Stat"] in ("Sum", "SampleCount"))
        alarm.update(one["Metric"], Period=one["Period"], Statistic=one["Stat"])
    queries = [name for name, found in resources.items() if found["Type"] == "AWS::Logs::QueryDefinition"]
    assert len(queries) == 4
    nested = [name for name, found in resources.items() if found["Type"] == "AWS::Serverless::Application"]
    assert nested
    for name in [*queries, *([] if nested_stacks else nested)]:
        del resources[name]
    template.write_text(json.dumps(changed))


@contextlib.contextmanager
def changed_for_ministack(built, nested_stacks):
    template = built / "template.yaml"
    original = template.read_text()
    for_ministack(template, nested_stacks)
    yield
    template.write_text(original)


@pytest.fixture
def with_nested_stacks(built, aws):
    """The endpoint of a stand-in of AWS, to which the whole build can be deployed."""
    with changed_for_ministack(built, nested_stacks=True):
        yield aws[0]


@pytest.fixture
def stand_in(built, aws):
    """The same, but the build is without nested stacks."""
    with changed_for_ministack(built, nested_stacks=False):
        yield aws[0]


class Operator:
    """Runs make commands as the README shows them."""

    checkout = ROOT

    def __init__(self, endpoint, simulator, architecture):
        # SAM looks at a stack every 5 s otherwise, and ministack is done at once.
        self.environment = (
            TOOLCHAIN | NO_AWS_ACCOUNT | {"AWS_ENDPOINT_URL": endpoint, "CI": "true", "SAM_CLI_POLL_DELAY": "0.1"}
        )
        # AWS_REGION alone must be enough for make and for SAM.
        del self.environment["AWS_DEFAULT_REGION"]
        self.session = boto3.Session("test", "test", region_name="eu-west-1")
        self.endpoint = endpoint
        self.parameters = {
            "Architecture": architecture,
            "OpenAIBaseUrl": f"{simulator}/v1",
            "AllowedOrigins": "https://app.example.com",
            "AlarmEmail": "operator@example.com",
            "QuietMinutesAlarm": "30",
            "QuotaPerMinute": "1000",  # all requests of a test are from one caller
        }

    def make(self, target, *arguments, stdin="", fails=False, **environment):
        ran = subprocess.run(
            ["make", "--no-print-directory", target, *arguments],
            input=stdin, capture_output=True, text=True, cwd=self.checkout, env=self.environment | environment, timeout=300,
        )  # fmt: skip
        said = ran.stdout + ran.stderr
        assert (ran.returncode != 0) is fails, f"make {target}: {said}"
        assert KEY not in said
        return said

    def deploy(self, fails=False, **parameters):
        """Deploys with these parameters in addition to the earlier ones; None leaves one out."""
        self.parameters |= parameters
        given = " ".join(f"{name}={value}" for name, value in self.parameters.items() if value is not None)
        return self.make("deploy", f"PARAMETERS={given}", fails=fails)

    def client(self, service):
        return self.session.client(service, endpoint_url=self.endpoint)

    def outputs(self):
        stack = self.client("cloudformation").describe_stacks(StackName="token-mint")["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def secret(self):
        secret = self.client("secretsmanager").get_secret_value(SecretId=self.outputs()["SecretArn"])
        return json.loads(secret["SecretString"])

    def set_secret(self, text):
        self.client("secretsmanager").put_secret_value(SecretId=self.outputs()["SecretArn"], SecretString=text)

    def identifier(self, **variable):
        """The identifier that `make caller` prints on its first line."""
        [(name, value)] = variable.items()
        return self.make("caller", f"{name}={value}").splitlines()[0]

    def mint(self):
        """Invokes the deployed function through its alias. Returns the version that answered, the status and the body."""
        answered = self.client("lambda").invoke(FunctionName=self.outputs()["FunctionName"], Qualifier="live", Payload=EVENT)
        assert "FunctionError" not in answered
        answer = json.load(answered["Payload"])
        return int(answered["ExecutedVersion"]), answer["statusCode"], json.loads(answer["body"])

    def resources(self):
        """All resources in this AWS that have the stack's name, by kind."""
        listed = {
            "functions": self.client("lambda").list_functions()["Functions"],
            "secrets": self.client("secretsmanager").list_secrets()["SecretList"],
            "logs": self.client("logs").describe_log_groups()["logGroups"],
            "apis": self.client("apigatewayv2").get_apis()["Items"],
            "alarms": self.client("cloudwatch").describe_alarms()["MetricAlarms"],
            "topics": self.client("sns").list_topics()["Topics"],
            "roles": self.client("iam").list_roles()["Roles"],
            "tables": self.client("dynamodb").list_tables()["TableNames"],
        }
        return {
            kind: [each for each in found if "token-mint" in json.dumps(each, default=str)] for kind, found in listed.items()
        }


def test_the_built_binary_runs_on_amazon_linux(built):
    """Checked by its symbols: the system itself is not available here. Amazon Linux 2023 has glibc 2.34."""

    def read(section):
        command = ["readelf", section, built / "MintFunction/bootstrap"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert 0 < max(map(int, re.findall(r"GLIBC_2\.(\d+)", read("--version-info")))) <= 34
    libraries = set(re.findall(r"\(NEEDED\).*\[(.*)\]", read("--dynamic")))
    assert {"libc.so.6"} <= libraries <= {"libc.so.6", "libm.so.6", "ld-linux-aarch64.so.1"}, (
        "each further library makes the start slower"
    )


def test_the_nested_stacks_are_created(with_nested_stacks, simulator, architecture):
    operator = Operator(with_nested_stacks, simulator, architecture)
    operator.deploy()
    cloudformation = operator.client("cloudformation")
    nested = [
        resource["PhysicalResourceId"]
        for resource in cloudformation.describe_stack_resources(StackName="token-mint")["StackResources"]
        if resource["ResourceType"] == "AWS::CloudFormation::Stack"
    ]
    made = [
        resource for stack in nested for resource in cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
    ]
    assert [resource["ResourceType"] for resource in made] == ["AWS::CloudWatch::Dashboard"], "no pipeline by default"
    assert all(resource["PhysicalResourceId"] for resource in made)
    body = operator.client("cloudwatch").get_dashboard(DashboardName="token-mint-eu-west-1")["DashboardBody"]
    assert operator.outputs()["FunctionName"] in body and len(json.loads(body)["widgets"]) == 11
    assert operator.outputs()["KeeperName"] in body
    assert len(json.loads(body)["widgets"][0]["properties"]["alarms"]) == 15


def hashed(key, identity):
    return hmac.new(key, identity.encode(), "sha256").hexdigest()


def test_a_caller_has_one_identifier_and_is_blocked_by_it(stand_in, simulator, architecture):
    operator = Operator(stand_in, simulator, architecture)
    operator.deploy()
    key = operator.secret()["SAFETY_IDENTIFIER_KEY"].encode()

    # Hashed under the stack's own key, before there is an OpenAI key.
    for address, canonical in [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:0DB8:1:2:ffff::1", "2001:db8:1:2::"),
        ("2001:db8::1", "2001:db8::"),
        ("::1", "::"),
    ]:
        assert operator.identifier(ADDRESS=address) == hashed(key, f"address:{canonical}"), address
    for subject in ["auth0|5f7c8ec7c33c6c004bbafe82", "a$b $(shell false) $$ `false` \"'\\ #x;&|<>* ü", "-x"]:
        assert operator.identifier(SUBJECT=subject) == hashed(key, f"subject:{subject}"), subject
    said = operator.make("caller", SUBJECT=" in the environment ")
    identifier = hashed(key, "subject: in the environment ")
    assert said.startswith(f"{identifier}\n") and f"make block CALLER={identifier}" in said
    assert "the saved query token-mint/one caller." in said
    assert "AuthIssuer is not set" in said and "AuthIssuer" not in operator.make("caller", "ADDRESS=203.0.113.9")

    # Exactly one caller must be named.
    for command, arguments in [
        ("caller", []),
        ("caller", ["SUBJECT=a", "ADDRESS=203.0.113.9"]),
        ("caller", [f"CALLER={identifier}"]),
        ("block", []),
        ("block", [f"CALLER={identifier}", "SUBJECT=a"]),
        ("unblock", []),
    ]:
        assert "Give exactly one of" in operator.make(command, *arguments, fails=True)
    for address in ["203.0.113", "203.0.113.9/24", "localhost", "203.0.113.9, 10.0.0.1"]:
        assert "is not an IP address" in operator.make("caller", f"ADDRESS={address}", fails=True)
    for malformed in [identifier[1:], identifier + "0", "g" + identifier[1:]]:
        assert "CALLER must be an identifier" in operator.make("block", f"CALLER={malformed}", fails=True)

    # The list is stored beside the secret's other fields, and `make key` keeps it.
    made = operator.secret()
    said = operator.make("block", f"CALLER={identifier}")
    assert re.search(r"Blocked \w{64}\..* request after \d\d:\d\d:\d\d\.", said.replace("\n", " "))
    assert operator.secret() == made | {"BLOCKED_CALLERS": [identifier]}
    assert f"make unblock CALLER={identifier}" in operator.make("caller", SUBJECT=" in the environment ")
    other = operator.identifier(ADDRESS="203.0.113.9")
    operator.make("block", "ADDRESS=203.0.113.9")
    assert "is already blocked" in operator.make("block", f"CALLER={other.upper()}", fails=True)
    operator.make("key", stdin=f"{KEY}\n")
    assert operator.secret() == made | {"OPENAI_API_KEY": KEY, "BLOCKED_CALLERS": [identifier, other]}
    operator.make("unblock", f"CALLER={identifier}")
    assert "is not blocked" in operator.make("unblock", f"CALLER={identifier}", fails=True)
    assert operator.secret() == made | {"OPENAI_API_KEY": KEY, "BLOCKED_CALLERS": [other]}

    # A secret without room for another entry.
    full = operator.secret() | {"note": "x" * 65_300}
    operator.set_secret(json.dumps(full))
    assert "would exceed the 65536 bytes" in operator.make("block", f"CALLER={identifier}", fails=True)
    assert operator.secret() == full


def test_a_secret_in_plain_text_keeps_its_callers_identifiers(stand_in, simulator, architecture):
    operator = Operator(stand_in, simulator, architecture)
    operator.deploy(KeyTtlSeconds="0")
    operator.set_secret(f" {KEY}\n")
    arn = operator.client("secretsmanager").describe_secret(SecretId=operator.outputs()["SecretArn"])["ARN"]
    derived = hmac.digest(arn.encode(), b"token-mint safety identifier", "sha256")
    address = json.loads(EVENT)["requestContext"]["http"]["sourceIp"]
    identifier = operator.identifier(ADDRESS=address)
    assert identifier == hashed(derived, f"address:{address}")
    assert operator.mint()[1] == 200
    assert f'"caller": "{identifier}"' in operator.make("logs", "FOLLOW=no")

    operator.make("block", "CALLER=" + "0" * 64)
    assert operator.secret() == {"OPENAI_API_KEY": KEY, "BLOCKED_CALLERS": ["0" * 64]}
    assert operator.identifier(ADDRESS=address) == identifier
    operator.make("key", stdin=f"{KEY}2\n")
    assert operator.secret() == {"OPENAI_API_KEY": f"{KEY}2", "PREVIOUS_OPENAI_API_KEY": KEY, "BLOCKED_CALLERS": ["0" * 64]}
    assert operator.identifier(ADDRESS=address) == identifier, "a new key changes no identifier"
    operator.set_secret(f"{KEY}\n")
    operator.make("key", stdin=f"{KEY}2\n")
    assert operator.secret() == {"OPENAI_API_KEY": f"{KEY}2", "PREVIOUS_OPENAI_API_KEY": KEY}

    for text, sentence in [
        ("{", "is not JSON"),
        ('{"OPENAI_API_KEY": "sk-a", "BLOCKED_CALLERS": "x"}', "not a list of identifiers"),
        ('{"OPENAI_API_KEY": "sk-a", "SAFETY_IDENTIFIER_KEY": 5}', "is not text"),
    ]:
        operator.set_secret(text)
        assert sentence in operator.make("block", f"ADDRESS={address}", fails=True).replace("\n", " "), text


def test_a_blocked_caller_is_refused_until_they_are_unblocked(stand_in, simulator, architecture):
    operator = Operator(stand_in, simulator, architecture)
    operator.deploy(KeyTtlSeconds="0")
    operator.make("key", stdin=f"{KEY}\n")

    def mint_until(wanted):
        """The first answers may follow the earlier secret: an instance reads it again in the background."""
        answers = []
        while not answers or (answers[-1] != wanted and len(answers) < 20):
            _, status, body = operator.mint()
            answers.append((status, body.get("code")))
        return answers[-1]

    assert mint_until((200, None)) == (200, None)
    address = json.loads(EVENT)["requestContext"]["http"]["sourceIp"]
    operator.make("block", f"ADDRESS={address}")
    assert mint_until((403, "caller_blocked")) == (403, "caller_blocked")
    operator.make("unblock", f"ADDRESS={address}")
    assert mint_until((200, None)) == (200, None)


def test_a_deployment_that_would_be_open_by_accident_fails_and_creates_nothing(stand_in, simulator, architecture):
    operator = Operator(stand_in, simulator, architecture)
    issuer, audience = "https://login.example.com", "page"
    open_to_all, together = "Say who may ask for tokens", {"AuthIssuer": issuer, "AuthAudience": audience}
    refused = [
        (open_to_all, {}),
        (open_to_all, {"AllowedOrigins": "*"}),
        (open_to_all, {"AllowedOrigins": "https://app.example.com,*"}),
        ("AllowedOrigins must be * alone", {"AllowedOrigins": "https://app.example.com,*", "PublicEndpoint": "yes"}),
        ("AllowedOrigins has an empty entry", {"AllowedOrigins": "https://app.example.com,,https://b.example"}),
        ("With AuthIssuer, give AuthAudience too", {"AuthIssuer": issuer}),
        ("With AuthAudience, give AuthIssuer too", {"AuthAudience": audience, "PublicEndpoint": "yes"}),
    ]
    for sentence, given in refused:
        assert any(sentence in refusal for refusal in Evaluated(**given).refusals), given
    unset = dict.fromkeys(["AllowedOrigins", "AuthIssuer", "AuthAudience", "PublicEndpoint"])
    for sentence, given in (refused[0], refused[-1]):
        said = operator.deploy(fails=True, **unset | given)
        assert sentence in " ".join(said.split()), given
        assert not any(operator.resources().values()), operator.resources()

    # Each of the three ways to state the permitted callers is enough.
    operator.deploy(**unset | {"PublicEndpoint": "yes"})
    function = operator.outputs()["FunctionName"]
    operator.deploy(PublicEndpoint="", **together)
    operator.deploy(AuthIssuer="", AuthAudience="", AllowedOrigins="https://app.example.com", DailyMintLimit="7")
    [table] = operator.resources()["tables"]
    variables = operator.client("lambda").get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    assert (variables["QUOTA_TABLE"], variables["DAILY_MINT_LIMIT"]) == (table, "7")


def test_quotas_apply_in_the_deployed_function_and_can_be_turned_off_and_on(stand_in, simulator, architecture):
    operator = Operator(stand_in, simulator, architecture)
    operator.deploy(QuotaPerDay="2")
    operator.make("key", stdin=f"{KEY}\n")
    statuses = [operator.mint()[1] for _ in range(3)]
    assert statuses == [200, 200, 429]
    operator.deploy(QuotaPerMinute="0", QuotaPerDay="0", DailyMintLimit="0")
    assert [operator.mint()[1] for _ in range(3)] == [200, 200, 200]
    operator.make("rollback")
    _, status, body = operator.mint()
    assert (status, body["code"]) == (429, "quota_exceeded"), "the earlier version still finds its table"


def test_with_an_issuer_only_its_signed_in_users_get_tokens(stand_in, simulator, architecture):
    """ministack checks sign-ins as API Gateway does, and its own issuer takes the place of any other."""
    operator = Operator(stand_in, simulator, architecture)
    users = operator.client("cognito-idp")
    pool = users.create_user_pool(PoolName="users")["UserPool"]["Id"]

    def signed_in(application):
        client = users.create_user_pool_client(UserPoolId=pool, ClientName=application, ExplicitAuthFlows=["ADMIN_NO_SRP_AUTH"])
        client = client["UserPoolClient"]["ClientId"]
        given = {"USERNAME": "someone", "PASSWORD": "Passw0rd-of-the-tests"}
        answered = users.admin_initiate_auth(
            UserPoolId=pool, ClientId=client, AuthFlow="ADMIN_NO_SRP_AUTH", AuthParameters=given
        )
        return client, answered["AuthenticationResult"]["IdToken"]

    users.admin_create_user(UserPoolId=pool, Username="someone")
    users.admin_set_user_password(UserPoolId=pool, Username="someone", Password="Passw0rd-of-the-tests", Permanent=True)
    page, token = signed_in("page")
    _, other_token = signed_in("another application")

    issuer = f"https://cognito-idp.eu-west-1.amazonaws.com/{pool}"
    operator.deploy(AllowedOrigins=None, AuthIssuer=issuer, AuthAudience=page)
    operator.make("key", stdin=f"{KEY}\n")
    host = operator.outputs()["TokenUrl"].split("/")[2].split(".")[0] + ".execute-api.localhost"

    def ask(**headers):
        status, _, text = post(f"{stand_in}/token", b"{}", {"Host": host, **headers})
        return status, json.loads(text)

    for headers in [{}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {other_token}"}]:
        status, answer = ask(**headers)
        assert status == 401 and "code" not in answer, "the function is not invoked"
    status, answer = ask(Authorization=f"Bearer {token}")
    assert status == 200 and answer["value"].startswith("ek_")
    claims = token.split(".")[1]
    subject = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"]
    sent = json.loads(post(f"{simulator}/simulator/requests", None, method="GET")[2])[-1]["safety_identifier"]
    assert operator.make("caller", f"SUBJECT={subject}").splitlines()[0] == sent, "the caller is the token's subject"
    assert "AuthIssuer is set" in operator.make("caller", "ADDRESS=203.0.113.9")


def test_the_key_is_checked_and_entered_without_an_echo(stand_in, simulator, architecture):
    operator = Operator(stand_in, simulator, architecture)
    operator.deploy()
    made = operator.secret()
    for wrong in ["\n", "sk-short\n", "sk-proj-0123456789 with spaces\n", "0123456789-0123456789 no prefix\n"]:
        assert "Nothing was changed." in operator.make("key", stdin=wrong, fails=True)
    post(f"{simulator}/simulator/faults", b'{"fault": "unauthorized"}')
    said = operator.make("key", stdin=f"{KEY}\n", fails=True)
    assert "OpenAI answered 401 to this key. Nothing was changed." in said
    assert operator.secret() == made
    # Without a test token, if OpenAI cannot be reached from here.
    post(f"{simulator}/simulator/faults", b'{"fault": "reset", "times": 9}')
    assert "could not be reached" in operator.make("key", stdin=f"{KEY}\n", fails=True)
    assert "The key is stored." in operator.make("key", "PROVE=no", stdin=f"  {KEY}2\n")
    assert operator.secret() == made | {"OPENAI_API_KEY": f"{KEY}2"}
    post(f"{simulator}/simulator/faults", None, method="DELETE")

    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        ["make", "--no-print-directory", "key"],
        stdin=other_end, stdout=other_end, stderr=other_end, cwd=ROOT, env=operator.environment, start_new_session=True,
        # The key is read from the controlling terminal.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    )  # fmt: skip
    os.close(other_end)
    shown = b""
    while b"(not shown): " not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, f"{KEY}\n".encode())
    try:
        while chunk := os.read(terminal, 1024):
            shown += chunk
    except OSError:
        pass  # Linux reports in this way that the other end is closed
    os.close(terminal)
    assert process.wait(timeout=30) == 0, shown
    assert b"The key is stored." in shown and KEY.encode() not in shown
    assert operator.secret() == made | {"OPENAI_API_KEY": KEY, "PREVIOUS_OPENAI_API_KEY": f"{KEY}2"}


def test_the_guided_deployment_asks_for_each_parameter_by_a_clear_name(stand_in, tmp_path):
    # In a copy, because it writes the answers into samconfig.toml.
    shutil.copy(ROOT / "samconfig.toml", tmp_path)
    shutil.copytree(ROOT / ".aws-sam/build", tmp_path / ".aws-sam/build")
    ran = subprocess.run(
        [ROOT / ".venv/tools/bin/sam", "deploy", "--guided"],
        input="\n" * 60, capture_output=True, text=True, cwd=tmp_path, timeout=120,
        env=TOOLCHAIN | NO_AWS_ACCOUNT | {"AWS_ENDPOINT_URL": stand_in, "SAM_CLI_TELEMETRY": "0"},
    )  # fmt: skip
    said = ran.stdout + ran.stderr
    asked = re.findall(r"Parameter (\w+) \[(.*?)\]: ", said)
    template = yaml_parse((ROOT / "template.yaml").read_text())
    assert asked == [(name, str(parameter["Default"])) for name, parameter in template["Parameters"].items()], said
    # These prompts show no description, so each number has its unit in its name.
    for name, default in asked:
        if default.isdigit():
            assert re.search(r"Seconds|Days|Milliseconds|PerMinute|PerDay|Limit|AtOnce|Minutes", name), name
    # Enter at every prompt deploys the defaults, with the right to create nested stacks. The defaults admit no caller, so the
    # deployment ends with the message that names the ways to admit some.
    assert "CAPABILITY_AUTO_EXPAND" in said
    assert ran.returncode == 1 and "Say who may ask for tokens: give the pages in AllowedOrigins" in " ".join(said.split())


def test_a_release_is_deployed_without_rust_and_without_a_c_compiler(stand_in, built, simulator, architecture, start, tmp_path):
    dist = tmp_path / "dist"
    write(contents({architecture: built}, 1_790_000_000, "0" * 40), dist)
    port = free_port()
    start(
        [sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1", "--directory", tmp_path], "releases"
    ).wait_for_port(port)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in BASE:
        (tools / name).symlink_to(shutil.which(name))
    (tools / "python3").symlink_to(os.path.realpath(sys.executable))
    assert not shutil.which("cargo", path=tools) and not shutil.which("cc", path=tools)
    operator = Operator(stand_in, simulator, architecture)
    operator.environment |= {"PATH": str(tools), "HOME": str(tmp_path), "FROM": str(dist)}

    # No build is there that could be deployed in place of the release.
    aside = built.with_name("build.aside")
    shutil.rmtree(aside, ignore_errors=True)
    built.rename(aside)
    try:
        # The architecture: the one that is given, and otherwise the template's default.
        other = {"arm64": "x86_64", "x86_64": "arm64"}[architecture]
        said = operator.deploy(Architecture=other, fails=True)
        assert f"The release has no function for {other}, only for {architecture}." in said and "Nothing was changed." in said
        if architecture != "arm64":
            assert "no function for arm64" in operator.deploy(Architecture=None, fails=True)
        assert not any(operator.resources().values()), operator.resources()
        said = operator.deploy(Architecture=architecture)
        assert (
            f"built from commit {'0' * 40}." in said
            and f"for {architecture}, revision " in said
            and "Successfully created/updated stack" in said
        )
        operator.make("key", stdin=f"{KEY}\n")
        assert operator.mint()[:2] == (1, 200)

        # From a URL, and now with the stack's architecture.
        operator.environment["FROM"] = f"http://127.0.0.1:{port}/dist"
        said = operator.deploy(Architecture=None, TokenTtlSeconds="60")
        assert "built from commit" in said and f"for {architecture}, revision " in said
        version, status, body = operator.mint()
        assert (version, status) == (2, 200) and body["expiresAt"] - time.time() <= 60

        # A file that was changed on the way stops the deployment before AWS is asked for anything.
        with (dist / f"token-mint-{architecture}.zip").open("ab") as file:
            file.write(b"\0")
        said = operator.deploy(TokenTtlSeconds="61", fails=True)
        assert "is not the file that SHA256SUMS lists" in said and "Nothing was changed." in said
        assert operator.mint()[0] == 2
    finally:
        aside.rename(built)


@pytest.fixture
def forwarder():
    """Passes requests on to ministack, which tells one API from another by the host that they are sent to."""
    forwarders = []

    def forward(target, host):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                sent = dict(self.headers) | {"Host": host}
                status, headers, text = post(f"{target}{self.path}", body or None, sent, self.command)
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() in ("content-type", "retry-after") or name.lower().startswith("access-control-"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_POST = do_OPTIONS = do_DELETE = do_GET

            def log_message(self, *_):
                pass

        forwarders.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=forwarders[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{forwarders[-1].server_port}"

    yield forward
    for server in forwarders:
        server.shutdown()


def test_doctor_and_status_agree_with_the_commands(with_nested_stacks, simulator, architecture, forwarder):
    """test_doctor.py breaks one thing at a time. Here, the stack is the whole template's, and its function runs."""
    operator = Operator(with_nested_stacks, simulator, architecture)
    for command in ("doctor", "status"):
        assert "There is no stack token-mint in eu-west-1" in operator.make(command, fails=True)
    operator.deploy()
    host = operator.outputs()["TokenUrl"].split("/")[2].split(".")[0] + ".execute-api.localhost"
    url = f"{forwarder(with_nested_stacks, host)}/token"

    def doctor(**environment):
        """The text of each line that is wrong, and of the others."""
        said = operator.make("doctor", fails=True, TOKEN_URL=url, **environment)
        lines = re.findall(r"^(ok|WRONG|skip) +([\w -]+): (.*)$", said, re.MULTILINE)
        assert len(lines) > 30, said
        return {name: text for state, name, text in lines if state == "WRONG"}, {name: text for _, name, text in lines}

    # ministack's own faults, which doctor finds: its CORS, time to live and secret's ARN differ from the template's.
    of_ministack = {"preflight", "token route", "call preflight", "call route", "quota table", "role", "keeper role"}
    # It has one user, the account's root. The key was not set yet.
    wrong, _ = doctor()
    assert set(wrong) == of_ministack | {"identity", "OpenAI key"}
    resources = operator.client("cloudformation").describe_stack_resources(StackName="token-mint")["StackResources"]
    ids = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}
    cors = Evaluated(AllowedOrigins="https://app.example.com").resources["Api"]["Properties"]["CorsConfiguration"]
    operator.client("apigatewayv2").update_api(ApiId=ids["Api"], CorsConfiguration=cors)
    ttl = {"AttributeName": "expires", "Enabled": True}
    operator.client("dynamodb").update_time_to_live(TableName=ids["QuotaTable"], TimeToLiveSpecification=ttl)
    arn = operator.client("secretsmanager").describe_secret(SecretId=ids["Secret"])["ARN"]
    statement = {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    for role in ("MintRole", "KeeperRole"):
        operator.client("iam").put_role_policy(RoleName=ids[role], PolicyName="read-the-key", PolicyDocument=policy)
    wrong, _ = doctor()
    assert set(wrong) == {"identity", "OpenAI key"}, wrong
    assert wrong["OpenAI key"].endswith("Run `make key`.")
    assert "key      not set: " in operator.make("status")

    operator.make("key", stdin=f"{KEY}\n")
    wrong, lines = doctor(ASK_OPENAI="yes")
    assert set(wrong) == {"identity"}
    assert lines["OpenAI"] == "issued a test token with the key" and lines["token"].startswith("issued in ")

    operator.make("pause")
    operator.make("block", "ADDRESS=203.0.113.9")
    wrong, lines = doctor()
    assert set(wrong) == {"identity", "pause"} and wrong["pause"].endswith("run `make resume`.")
    assert lines["blocked callers"] == "1" and lines["account concurrency"] == "minting is paused: see pause"
    said = operator.make("status")
    assert re.search(r"^minting  paused;", said, re.MULTILINE) and re.search(r"^blocked  1 caller$", said, re.MULTILINE)
    operator.make("resume")

    # By hand, as in the console.
    functions, name = operator.client("lambda"), ids["MintFunction"]
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": {}})
    published = functions.publish_version(FunctionName=name)["Version"]
    functions.update_alias(FunctionName=name, Name="live", FunctionVersion=published)
    wrong, lines = doctor()
    # Without its variables, the function does not start.
    assert set(wrong) - {"token route", "call route", "foreign origin"} == {"identity", "environment", "drift"}
    assert "with the same code as version 1, which the last deployment published" in lines["live version"]
    assert "TOKEN_TTL_SECONDS is '' instead of '3600'" in wrong["environment"]
    assert "MintFunction (AWS::Lambda::Function) was changed outside CloudFormation" in wrong["drift"]
    operator.make("rollback", "TO=1")
    assert set(doctor()[0]) == {"identity", "drift"}

    said = operator.make("status")
    assert re.search(r"^live     version 1, revision [0-9a-f]{12}, published 20.* UTC$", said, re.MULTILINE), said
    assert re.search(r"^minting  on$", said, re.MULTILINE) and re.search(r"^key      set$", said, re.MULTILINE)
    assert re.search(r"^alarms   none of 15 is on$", said, re.MULTILINE)
    assert re.search(r"^calls    0 of 25 open; 0 of 1,500 minutes since midnight UTC$", said, re.MULTILINE)
    assert re.search(r"^today    1 of 5,000 tokens since midnight UTC$", said, re.MULTILINE)
    urls = f"{operator.outputs()['TokenUrl']}, {operator.outputs()['CallUrl']}"
    assert re.search(rf"^URL      {re.escape(urls)}$", said, re.MULTILINE)


def test_calls_are_listed_and_ended_by_the_keeper_and_by_the_commands(stand_in, simulator, architecture):
    """The deployed function registers a call in the deployed table, and the deployed keeper ends it at the simulated OpenAI."""
    operator = Operator(stand_in, simulator, architecture)
    operator.deploy(CallsAtOnce="5", MaxCallSeconds="600", KeyTtlSeconds="0")
    operator.make("key", stdin=f"{KEY}\n")
    outputs = operator.outputs()
    assert outputs["CallUrl"] == outputs["TokenUrl"].replace("/token", "/call")
    host = outputs["CallUrl"].split("/")[2].split(".")[0] + ".execute-api.localhost"
    origin = {"Host": host, "Origin": "https://app.example.com"}

    def call():
        """Makes a call, and returns its handle, or the code of the refusal."""
        headers = origin | {"Content-Type": "application/sdp"}
        status, headers, text = post(f"{stand_in}/call", OFFERS["open"].encode(), headers)
        if status != 201:
            return json.loads(text)["code"]
        assert text.startswith("v=0") and abs(int(headers["Call-Expires-At"]) - time.time() - 600) < 30
        return headers["Location"].removeprefix("/call/")

    def keeper(event):
        answered = operator.client("lambda").invoke(FunctionName=outputs["KeeperName"], Payload=json.dumps(event))
        assert "FunctionError" not in answered
        return json.load(answered["Payload"])

    def calls_at_openai():
        return json.loads(post(f"{simulator}/simulator/calls", None, method="GET")[2])

    def at_openai():
        """The number of calls that are open there, and why the others ended."""
        found = calls_at_openai()
        return len(found["open"]), [call["reason"] for call in found["ended"]]

    def listed():
        return re.findall(r"^([\w-]{27})  ([0-9a-f]{64})  default  open", operator.make("calls"), re.MULTILINE)

    assert "No call is open. Up to 25 may be at once." in operator.make("calls")
    first, second = call(), call()
    assert {handle for handle, _ in listed()} == {first, second} and at_openai() == (2, [])
    [caller] = {caller for _, caller in listed()}
    assert re.search(r"^calls    2 of 25 open; 20 of 1,500 minutes since midnight UTC$", operator.make("status"), re.MULTILINE)

    # A round ends no call before its time. Its caller ends one, and the operator the other.
    assert keeper({"source": "aws.events"}) == {"ended": 0, "failed": []}
    status, _, text = post(f"{stand_in}/call/{first}", None, origin, "DELETE")
    assert (status, json.loads(text)["success"]) == (200, True)
    assert [handle for handle, _ in listed()] == [second]
    assert operator.make("hang-up", f"CALL={second}").splitlines()[-1] == "Ended 1 call."
    assert at_openai() == (0, ["hung-up", "hung-up"]) and listed() == []
    assert "This call is not open" in operator.make("hang-up", f"CALL={second}")
    assert "No call of this caller is open." in operator.make("hang-up", f"CALLER={caller}")

    # A call that OpenAI does not end is named, and stays.
    third = call()
    fault = b'{"fault": "unauthorized", "at": "hang-ups", "times": 99}'
    assert post(f"{simulator}/simulator/faults", fault)[0] == 204
    said = operator.make("hang-up", "ALL=yes", fails=True)
    assert "1 call was not ended:" in said and f"  {third}: OpenAI did not end it" in said
    said = operator.make("pause", fails=True)
    assert "Paused: no token is issued and no call begins until make resume." in said
    assert f"  {third}: " in said and "The pause is on, but open calls may go on. Run `make hang-up ALL=yes`." in said
    post(f"{simulator}/simulator/faults", None, method="DELETE")
    assert "Ended 1 call." in operator.make("pause") and at_openai()[0] == 0
    operator.make("resume")
    # The caller has to wait for the rest of the minute after a pause. A request that the pause did not stop opens no call either.
    assert not re.fullmatch(r"[\w-]{27}", call()) and at_openai()[0] == 0
    table = operator.client("cloudformation").describe_stack_resource(StackName="token-mint", LogicalResourceId="QuotaTable")
    name = table["StackResourceDetail"]["PhysicalResourceId"]
    everyone = {"id": {"S": "calls/everyone"}}
    removed = {"UpdateExpression": "REMOVE #closed", "ExpressionAttributeNames": {"#closed": "closed"}}
    operator.client("dynamodb").update_item(TableName=name, Key=everyone, **removed)

    # A blocked caller has no calls, and makes no others.
    assert call() and len(listed()) == 1
    said = operator.make("block", f"CALLER={caller}")
    assert f"Blocked {caller}." in said and said.splitlines()[-1] == "Ended 1 call."
    assert call() == "caller_blocked" and listed() == []
    operator.make("unblock", f"CALLER={caller}")

    # The keeper ends a call at its end, and gives back nothing of it.
    operator.make("set", "PARAMETERS=MaxCallSeconds=10")
    operator.client("dynamodb").delete_item(TableName=name, Key={"id": {"S": f"calls/{caller}"}})
    status, headers, _ = post(f"{stand_in}/call", OFFERS["open"].encode(), origin | {"Content-Type": "application/sdp"})
    ends = int(headers["Call-Expires-At"])
    # The schedule may start a round of its own in the meantime, which can be the one that ends it.
    assert status == 201 and keeper({})["failed"] == []
    found = calls_at_openai()
    assert found["open"] == [] and ends <= found["ended"][-1]["ended_at"] <= ends + 5

    # Without calls, there is no keeper, so none may be open then.
    operator.make("set", "PARAMETERS=MaxCallSeconds=600")
    open_call = call()
    said = operator.make("set", "PARAMETERS=Endpoints=token", fails=True)
    assert "1 call is open, and this change deletes the keeper, which ends them." in said and "Nothing was changed." in said
    assert [handle for handle, _ in listed()] == [open_call]
    operator.make("hang-up", "ALL=yes")
    operator.make("set", "PARAMETERS=Endpoints=token")
    assert not {"CallUrl", "KeeperName"} & set(operator.outputs())
    assert len(operator.resources()["functions"]) == 1
    assert "This stack has no keeper, so it has no calls" in operator.make("calls")
    assert "Nothing was changed." in operator.make("hang-up", "ALL=yes", fails=True)
    assert "Paused: no token is issued until make resume." in operator.make("pause")
