"""The life of a stack, with the commands of the README, against ministack as AWS.

ministack makes every type of resource that a deployment with these parameters has; what it does not do is said where it
matters: metric math in alarms (replaced below), the log's saved queries (left out), and CodeDeploy, CodeConnections,
permissions, throttling and reserved concurrency, which test_template.py and test_pipeline.py check in the templates
instead."""

import base64
import hmac
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time

import boto3
import pytest
from conftest import NO_AWS_ACCOUNT, ROOT, TOOLCHAIN, free_port, post
from samtranslator.yaml_helper import yaml_parse
from test_requirements import BASE

from release.__main__ import contents, write

EVENT = (ROOT / "function/events/http-api.json").read_bytes()
KEY = "sk-proj-0123456789-of-the-tests"


@pytest.fixture
def with_nested_stacks(built, aws):
    """The built template, such that ministack can make it: it knows no alarm on a metric computed of two, and no saved
    query, whose text test_template.py reads."""
    template = built / "template.yaml"
    original = template.read_text()
    changed = yaml_parse(original)
    alarm = changed["Resources"]["ApiErrorsAlarm"]["Properties"]
    errors = next(query["MetricStat"] for query in alarm.pop("Metrics") if query["Id"] == "errors")
    alarm |= errors["Metric"] | {"Period": errors["Period"], "Statistic": errors["Stat"]}
    resources = changed["Resources"]
    queries = [name for name, found in resources.items() if found["Type"] == "AWS::Logs::QueryDefinition"]
    assert len(queries) == 4
    for name in queries:
        del resources[name]
    template.write_text(json.dumps(changed))
    yield aws[0]
    template.write_text(original)


@pytest.fixture
def stand_in(built, with_nested_stacks):
    """Without nested stacks besides: `sam delete` knows their templates' addresses on amazonaws.com only."""
    template = built / "template.yaml"
    changed = json.loads(template.read_text())
    resources = changed["Resources"]
    changed["Resources"] = {name: one for name, one in resources.items() if one["Type"] != "AWS::Serverless::Application"}
    assert len(changed["Resources"]) < len(resources)
    template.write_text(json.dumps(changed))
    return with_nested_stacks


class Operator:
    """Types make commands, as the README has them."""

    def __init__(self, endpoint, simulator, architecture):
        self.environment = TOOLCHAIN | NO_AWS_ACCOUNT | {"AWS_ENDPOINT_URL": endpoint, "CI": "true"}
        self.session = boto3.Session("test", "test", region_name="eu-west-1")
        self.endpoint = endpoint
        self.parameters = {
            "Architecture": architecture,
            "OpenAIBaseUrl": f"{simulator}/v1",
            "AllowedOrigins": "https://app.example.com",
            "AlarmEmail": "operator@example.com",
            "QuietMinutesAlarm": "30",
            "QuotaPerMinute": "1000",  # all that a test does in a minute is one caller's
        }

    def make(self, target, *arguments, stdin="", fails=False, **environment):
        ran = subprocess.run(
            ["make", "--no-print-directory", target, *arguments],
            input=stdin, capture_output=True, text=True, cwd=ROOT, env=self.environment | environment, timeout=300,
        )  # fmt: skip
        said = ran.stdout + ran.stderr
        assert (ran.returncode != 0) is fails, f"make {target}: {said}"
        assert KEY not in said
        return said

    def deploy(self, fails=False, **parameters):
        """Deploys with these parameters besides those of before; None leaves one out."""
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

    def identifier(self, **who):
        """What `make caller` prints first."""
        [(name, value)] = who.items()
        return self.make("caller", f"{name}={value}").splitlines()[0]

    def mint(self):
        """Asks the deployed function through its alias; the version that answered, and its answer."""
        answered = self.client("lambda").invoke(FunctionName=self.outputs()["FunctionName"], Qualifier="live", Payload=EVENT)
        assert "FunctionError" not in answered
        answer = json.load(answered["Payload"])
        return int(answered["ExecutedVersion"]), answer["statusCode"], json.loads(answer["body"])

    def ours(self):
        """Everything there is in this AWS that bears the stack's name."""
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
        return {kind: [one for one in found if "token-mint" in json.dumps(one, default=str)] for kind, found in listed.items()}


def test_what_is_built_runs_on_amazon_linux(built):
    """By its symbols; the machine itself is not to be had here. Amazon Linux 2023 has glibc 2.34."""

    def read(what):
        command = ["readelf", what, built / "MintFunction/bootstrap"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert 0 < max(map(int, re.findall(r"GLIBC_2\.(\d+)", read("--version-info")))) <= 34
    libraries = set(re.findall(r"\(NEEDED\).*\[(.*)\]", read("--dynamic")))
    assert {"libc.so.6"} <= libraries <= {"libc.so.6", "libm.so.6", "ld-linux-aarch64.so.1"}, "each more is slower to start"


def test_the_life_of_a_stack(stand_in, simulator, in_lambda, architecture):
    operator = Operator(stand_in, simulator, architecture)
    said = operator.make("key", stdin=f"{KEY}\n", fails=True)
    assert "There is no stack token-mint in eu-west-1" in said

    said = operator.deploy()
    assert "Successfully created/updated stack" in said
    resources = operator.client("cloudformation").describe_stack_resources(StackName="token-mint")["StackResources"]
    assert len(resources) > 20
    for resource in resources:
        assert resource.get("PhysicalResourceId") and resource["ResourceStatus"] == "CREATE_COMPLETE", resource
    assert all(operator.ours().values()), operator.ours()
    outputs = operator.outputs()
    assert set(outputs) == {"TokenUrl", "FunctionName", "SecretArn", "DashboardUrl", "LogGroup"}
    assert re.fullmatch(r"https://\w+\.execute-api\.eu-west-1\.amazonaws\.com/token", outputs["TokenUrl"])

    # The key: refused, unproved, proved.
    version, status, body = operator.mint()
    assert (version, status, body["code"]) == (1, 503, "key_unavailable")
    made = operator.secret()
    assert made["OPENAI_API_KEY"] == "not set yet, run make key" and len(made["SAFETY_IDENTIFIER_KEY"]) == 64
    for wrong in ["\n", "sk-short\n", "sk-proj-0123456789 with spaces\n", "0123456789-0123456789 no prefix\n"]:
        assert "nothing is changed" in operator.make("key", stdin=wrong, fails=True)
    post(f"{simulator}/simulator/faults", b'{"fault": "unauthorized"}')
    said = operator.make("key", stdin=f"{KEY}\n", fails=True)
    assert "OpenAI answers 401 to this key. Nothing is changed." in said
    assert operator.secret() == made
    said = operator.make("key", stdin=f"  {KEY}\n")
    assert "OpenAI mints with this key." in said and "The key is stored." in said
    assert operator.secret() == made | {"OPENAI_API_KEY": KEY}

    # The deployed function mints: through its alias, through its API, and the built binary in Lambda's emulator.
    assert operator.mint()[:2] == (1, 200)
    host = outputs["TokenUrl"].split("/")[2].split(".")[0] + ".execute-api.localhost"
    status, _, text = post(f"{stand_in}/token", b"{}", {"Host": host, "Origin": "https://app.example.com"})
    assert status == 200 and json.loads(text)["value"].startswith("ek_")
    status, _, text = post(f"{stand_in}/token", b"{}", {"Host": host, "Origin": "https://evil.example"})
    assert (status, json.loads(text)["code"]) == (403, "origin_not_allowed")
    _, invoke = in_lambda(
        bootstrap=ROOT / ".aws-sam/build/MintFunction/bootstrap",
        OPENAI_BASE_URL=f"{simulator}/v1", OPENAI_SECRET_ARN=outputs["SecretArn"], AWS_ENDPOINT_URL_SECRETS_MANAGER=stand_in,
    )  # fmt: skip
    assert json.loads(invoke(EVENT))["statusCode"] == 200
    said = operator.make("logs", "FOLLOW=no")
    assert "key_unavailable" in said and "ek_" not in said

    # Who asked: what the log and OpenAI know them by is what `make caller` makes of their address.
    address = json.loads(EVENT)["requestContext"]["http"]["sourceIp"]
    identifier = operator.identifier(ADDRESS=address)
    assert f'"caller": "{identifier}"' in said
    seen = json.loads(post(f"{simulator}/simulator/requests", None, method="GET")[2])
    assert identifier in json.dumps(seen)

    # Without a test mint, where OpenAI cannot be asked from here.
    post(f"{simulator}/simulator/faults", b'{"fault": "reset", "times": 9}')
    assert "could not be asked" in operator.make("key", stdin=f"{KEY}\n", fails=True)
    assert "The key is stored." in operator.make("key", "PROVE=no", stdin=f"{KEY}2\n")
    assert operator.secret()["OPENAI_API_KEY"] == f"{KEY}2"
    post(f"{simulator}/simulator/faults", None, method="DELETE")

    # Versions: by hand, back, and not further back than the first.
    assert "Version 2 is live, before it was 1." in operator.make("update-code")
    assert operator.mint()[:2] == (2, 200)
    assert "Version 1 is live, before it was 2." in operator.make("rollback")
    assert operator.mint()[:2] == (1, 200)
    assert "Version 1 is the first there is" in operator.make("rollback", fails=True)

    # The brake. ministack stores the concurrency of 0, but runs the function all the same.
    concurrency = operator.client("lambda").get_function_concurrency
    operator.make("pause")
    assert concurrency(FunctionName=outputs["FunctionName"])["ReservedConcurrentExecutions"] == 0
    operator.make("resume")
    assert "ReservedConcurrentExecutions" not in concurrency(FunctionName=outputs["FunctionName"])

    # Again without a change, then with one.
    said = operator.deploy()
    assert "No changes to deploy" in said and "is live" not in said and operator.mint()[0] == 1
    operator.deploy(TokenTtlSeconds="60", ReservedConcurrency="7", LogLevel="DEBUG")
    version, status, body = operator.mint()
    assert version > 2 and status == 200
    assert 50 <= body["expiresAt"] - time.time() <= 60
    assert operator.secret()["OPENAI_API_KEY"] == f"{KEY}2", "a deployment does not touch the secret"
    operator.make("pause")
    assert "up to 7 mints at once" in operator.make("resume")
    assert concurrency(FunctionName=outputs["FunctionName"])["ReservedConcurrentExecutions"] == 7

    operator.make("delete", "FLAGS=--no-prompts")
    left = operator.ours()
    assert not any(left.values()), left


def test_the_nested_stacks_are_made_too(with_nested_stacks, simulator, architecture):
    operator = Operator(with_nested_stacks, simulator, architecture)
    operator.deploy()
    cloudformation = operator.client("cloudformation")
    nested = [
        resource["PhysicalResourceId"]
        for resource in cloudformation.describe_stack_resources(StackName="token-mint")["StackResources"]
        if resource["ResourceType"] == "AWS::CloudFormation::Stack"
    ]
    made = [
        resource
        for stack in nested
        for resource in cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
    ]
    assert [resource["ResourceType"] for resource in made] == ["AWS::CloudWatch::Dashboard"], "no pipeline by default"
    assert all(resource["PhysicalResourceId"] for resource in made)
    body = operator.client("cloudwatch").get_dashboard(DashboardName="token-mint")["DashboardBody"]
    assert operator.outputs()["FunctionName"] in body and len(json.loads(body)["widgets"]) == 8
    assert len(json.loads(body)["widgets"][0]["properties"]["alarms"]) == 12


def hashed(key, who):
    return hmac.new(key, who.encode(), "sha256").hexdigest()


def test_a_caller_is_known_by_one_identifier_and_blocked_by_it(stand_in, simulator, architecture):
    operator = Operator(stand_in, simulator, architecture)
    operator.deploy()
    key = operator.secret()["SAFETY_IDENTIFIER_KEY"].encode()

    # Under the stack's own key, before there is an OpenAI key.
    for address, known_by in [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:0DB8:1:2:ffff::1", "2001:db8:1:2::"),
        ("2001:db8::1", "2001:db8::"),
        ("::1", "::"),
    ]:
        assert operator.identifier(ADDRESS=address) == hashed(key, f"address:{known_by}"), address
    for subject in ["auth0|5f7c8ec7c33c6c004bbafe82", "a$b $(shell false) $$ `false` \"'\\ #x;&|<>* ü", "-x"]:
        assert operator.identifier(SUBJECT=subject) == hashed(key, f"subject:{subject}"), subject
    said = operator.make("caller", SUBJECT=" in the environment ")
    identifier = hashed(key, "subject: in the environment ")
    assert said.startswith(f"{identifier}\n") and f"make block CALLER={identifier}" in said
    assert "the saved query token-mint/one caller." in said
    assert "AuthIssuer is not set" in said and "AuthIssuer" not in operator.make("caller", "ADDRESS=203.0.113.9")

    # Who is meant has to be clear.
    for command, arguments in [
        ("caller", []),
        ("caller", ["SUBJECT=a", "ADDRESS=203.0.113.9"]),
        ("caller", [f"CALLER={identifier}"]),
        ("block", []),
        ("block", [f"CALLER={identifier}", "SUBJECT=a"]),
        ("unblock", []),
    ]:
        assert "Say who is meant" in operator.make(command, *arguments, fails=True)
    for address in ["203.0.113", "203.0.113.9/24", "localhost", "203.0.113.9, 10.0.0.1"]:
        assert "no IP address" in operator.make("caller", f"ADDRESS={address}", fails=True)
    for malformed in [identifier[1:], identifier + "0", "g" + identifier[1:]]:
        assert "CALLER is no identifier" in operator.make("block", f"CALLER={malformed}", fails=True)

    # The list is kept beside all else that the secret holds, and `make key` keeps it.
    made = operator.secret()
    said = operator.make("block", f"CALLER={identifier}")
    assert re.search(r"is blocked\..* request after \d\d:\d\d:\d\d ", said.replace("\n", " "))
    assert operator.secret() == made | {"BLOCKED_CALLERS": [identifier]}
    assert f"make unblock CALLER={identifier}" in operator.make("caller", SUBJECT=" in the environment ")
    other = operator.identifier(ADDRESS="203.0.113.9")
    operator.make("block", "ADDRESS=203.0.113.9")
    assert "is blocked already" in operator.make("block", f"CALLER={other.upper()}", fails=True)
    assert "no one any more" not in operator.make("key", stdin=f"{KEY}\n")
    assert operator.secret() == made | {"OPENAI_API_KEY": KEY, "BLOCKED_CALLERS": [identifier, other]}
    operator.make("unblock", f"CALLER={identifier}")
    assert "is not blocked" in operator.make("unblock", f"CALLER={identifier}", fails=True)
    assert operator.secret() == made | {"OPENAI_API_KEY": KEY, "BLOCKED_CALLERS": [other]}

    # A secret that is full.
    full = operator.secret() | {"note": "x" * 65_300}
    operator.set_secret(json.dumps(full))
    assert "over the 65536 bytes" in operator.make("block", f"CALLER={identifier}", fails=True)
    assert operator.secret() == full


def test_a_secret_that_is_just_the_key_keeps_its_callers_identifiers(stand_in, simulator, architecture):
    operator = Operator(stand_in, simulator, architecture)
    operator.deploy(KeyTtlSeconds="0")
    operator.set_secret(f" {KEY}\n")
    derived = hmac.digest(KEY.encode(), b"token-mint safety identifier", "sha256")
    address = json.loads(EVENT)["requestContext"]["http"]["sourceIp"]
    identifier = operator.identifier(ADDRESS=address)
    assert identifier == hashed(derived, f"address:{address}")
    assert operator.mint()[1] == 200
    assert f'"caller": "{identifier}"' in operator.make("logs", "FOLLOW=no")

    operator.make("block", "CALLER=" + "0" * 64)
    assert operator.secret() == {"OPENAI_API_KEY": KEY, "BLOCKED_CALLERS": ["0" * 64]}
    assert operator.identifier(ADDRESS=address) == identifier
    assert "no one any more" not in operator.make("key", stdin=f"{KEY}\n")
    assert "stop no one any more" in operator.make("key", stdin=f"{KEY}2\n")
    assert operator.secret() == {"OPENAI_API_KEY": f"{KEY}2", "BLOCKED_CALLERS": ["0" * 64]}
    assert operator.identifier(ADDRESS=address) != identifier
    operator.set_secret(f"{KEY}\n")
    operator.make("key", stdin=f"{KEY}2\n")
    assert operator.secret() == {"OPENAI_API_KEY": f"{KEY}2"}

    for text, sentence in [
        ("{", "is not JSON"),
        ('{"OPENAI_API_KEY": "sk-a", "BLOCKED_CALLERS": "x"}', "not a list of texts"),
        ("not set yet", "no OpenAI key yet"),
    ]:
        operator.set_secret(text)
        assert sentence in operator.make("block", f"ADDRESS={address}", fails=True).replace("\n", " "), text


def test_a_blocked_caller_is_refused_until_they_are_unblocked(stand_in, simulator, architecture):
    operator = Operator(stand_in, simulator, architecture)
    operator.deploy(KeyTtlSeconds="0")
    operator.make("key", stdin=f"{KEY}\n")

    def mint_until(wanted):
        """The first answers may still go by the secret as it was: an instance reads it again behind a request."""
        answers = []
        while not answers or answers[-1] != wanted and len(answers) < 20:
            _, status, body = operator.mint()
            answers.append((status, body.get("code")))
        return answers[-1]

    assert mint_until((200, None)) == (200, None)
    address = json.loads(EVENT)["requestContext"]["http"]["sourceIp"]
    operator.make("block", f"ADDRESS={address}")
    assert mint_until((403, "caller_blocked")) == (403, "caller_blocked")
    operator.make("unblock", f"ADDRESS={address}")
    assert mint_until((200, None)) == (200, None)


def test_a_deployment_that_would_be_open_by_accident_fails_and_makes_nothing(stand_in, simulator, architecture):
    operator = Operator(stand_in, simulator, architecture)
    issuer, audience = "https://login.example.com", "page"
    who, together = "Say who may ask for tokens", {"AuthIssuer": issuer, "AuthAudience": audience}
    for sentence, given in [
        (who, {}),
        (who, {"AllowedOrigins": "*"}),
        (who, {"AllowedOrigins": "https://app.example.com,*"}),
        ("AllowedOrigins must be * alone", {"AllowedOrigins": "https://app.example.com,*", "PublicEndpoint": "yes"}),
        ("AllowedOrigins has an empty entry", {"AllowedOrigins": "https://app.example.com,,https://b.example"}),
        ("With AuthIssuer, give AuthAudience too", {"AuthIssuer": issuer}),
        ("With AuthAudience, give AuthIssuer too", {"AuthAudience": audience, "PublicEndpoint": "yes"}),
    ]:
        nothing = dict.fromkeys(["AllowedOrigins", "AuthIssuer", "AuthAudience", "PublicEndpoint"])
        said = operator.deploy(fails=True, **nothing | given)
        assert sentence in " ".join(said.split()), given
        assert not any(operator.ours().values()), operator.ours()

    # Each of the three ways to say who may ask is enough.
    operator.deploy(**nothing | {"PublicEndpoint": "yes"})
    function = operator.outputs()["FunctionName"]
    operator.deploy(PublicEndpoint="", **together)
    operator.deploy(AuthIssuer="", AuthAudience="", AllowedOrigins="https://app.example.com", DailyMintLimit="7")
    [table] = operator.ours()["tables"]
    variables = operator.client("lambda").get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    assert (variables["QUOTA_TABLE"], variables["DAILY_MINT_LIMIT"]) == (table, "7")


def test_quotas_hold_through_the_deployed_function_and_can_be_turned_off_and_back(stand_in, simulator, architecture):
    operator = Operator(stand_in, simulator, architecture)
    operator.deploy(QuotaPerDay="2")
    operator.make("key", stdin=f"{KEY}\n")
    statuses = [operator.mint()[1] for _ in range(3)]
    assert statuses == [200, 200, 429]
    operator.deploy(QuotaPerMinute="0", QuotaPerDay="0", DailyMintLimit="0")
    assert [operator.mint()[1] for _ in range(3)] == [200, 200, 200]
    operator.make("rollback")
    _, status, body = operator.mint()
    assert (status, body["code"]) == (429, "quota_exceeded"), "the version before still finds its table"


def test_with_an_issuer_only_its_own_signed_in_users_get_tokens(stand_in, simulator, architecture):
    """ministack checks sign-ins as API Gateway does, and has an issuer of its own, which stands for any."""
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
    _, of_another_application = signed_in("another application")

    issuer = f"https://cognito-idp.eu-west-1.amazonaws.com/{pool}"
    operator.deploy(AllowedOrigins=None, AuthIssuer=issuer, AuthAudience=page)
    operator.make("key", stdin=f"{KEY}\n")
    host = operator.outputs()["TokenUrl"].split("/")[2].split(".")[0] + ".execute-api.localhost"

    def ask(**headers):
        status, _, text = post(f"{stand_in}/token", b"{}", {"Host": host, **headers})
        return status, json.loads(text)

    for headers in [{}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {of_another_application}"}]:
        status, answer = ask(**headers)
        assert status == 401 and "code" not in answer, "the function is not even asked"
    status, answer = ask(Authorization=f"Bearer {token}")
    assert status == 200 and answer["value"].startswith("ek_")
    claims = token.split(".")[1]
    subject = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"]
    told = json.loads(post(f"{simulator}/simulator/requests", None, method="GET")[2])[-1]["safety_identifier"]
    assert operator.make("caller", f"SUBJECT={subject}").splitlines()[0] == told, "the caller is the token's subject"
    assert "AuthIssuer is set" in operator.make("caller", "ADDRESS=203.0.113.9")


def test_the_key_is_asked_for_without_an_echo(stand_in, simulator, architecture):
    operator = Operator(stand_in, simulator, architecture)
    operator.deploy()
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        ["make", "--no-print-directory", "key"],
        stdin=other_end, stdout=other_end, stderr=other_end, cwd=ROOT, env=operator.environment, start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
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
        pass  # how Linux says that the other end is closed
    os.close(terminal)
    assert process.wait(timeout=30) == 0, shown
    assert b"The key is stored." in shown and KEY.encode() not in shown
    assert operator.secret()["OPENAI_API_KEY"] == KEY


def test_the_guided_deployment_asks_for_each_parameter_by_a_name_that_says_it(stand_in, tmp_path):
    # In a copy, since it writes the answers into samconfig.toml.
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
    # These prompts show no description: what is counted says in what.
    for name, default in asked:
        if default.isdigit():
            assert re.search(r"Seconds|Days|Milliseconds|PerMinute|PerDay|Limit", name), name
    # Enter to everything is a deployment with the defaults, and allowed to make what is nested. But the defaults let no one
    # in, and so it ends with the sentence that says who may be.
    assert "CAPABILITY_AUTO_EXPAND" in said
    assert ran.returncode == 1 and "Say who may ask for tokens: give the pages in AllowedOrigins" in " ".join(said.split())


def test_a_release_is_deployed_without_rust_and_without_a_c_compiler(stand_in, built, simulator, architecture, start, tmp_path):
    dist = tmp_path / "dist"
    write(contents({architecture: built}, 1_790_000_000, "0" * 40), dist)
    port = free_port()
    start([sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1", "--directory", tmp_path], "releases").wait_for_port(port)
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
    built.rename(aside)
    try:
        # The architecture: the one that is given, and otherwise the template's default.
        other = {"arm64": "x86_64", "x86_64": "arm64"}[architecture]
        said = operator.deploy(Architecture=other, fails=True)
        assert f"The release has no function for {other}, but for {architecture}." in said and "Nothing was changed." in said
        if architecture != "arm64":
            assert "no function for arm64" in operator.deploy(Architecture=None, fails=True)
        assert not any(operator.ours().values()), operator.ours()
        said = operator.deploy(Architecture=architecture)
        assert f"for {architecture}, built from commit {'0' * 40}." in said and "Successfully created/updated stack" in said
        operator.make("key", stdin=f"{KEY}\n")
        assert operator.mint()[:2] == (1, 200)

        # From a URL, and now with the stack's architecture.
        operator.environment["FROM"] = f"http://127.0.0.1:{port}/dist"
        said = operator.deploy(Architecture=None, TokenTtlSeconds="60")
        assert f"for {architecture}, built from commit" in said
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
