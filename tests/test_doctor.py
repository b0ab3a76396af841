"""`make doctor` and `make status`: on a healthy stack nothing is wrong, and each check goes wrong when the one thing that it
looks at is broken, in the line that says so and with the remedy."""

import copy
import datetime
import io
import json
import os
import re
import sys
import types
import zipfile

import pytest
from conftest import ROOT, Program, free_port
from healthy_stack import (
    ACCESS_LOG,
    FUNCTION,
    KEEPER,
    KEEPER_LOG,
    KEY,
    LOG,
    NAME,
    NO_ACCOUNT,
    SCHEDULE,
    TABLE,
    TEMPLATE,
    THROUGH_THE_PROXY,
    Answered,
    HealthyStack,
    Outside,
    now,
    program,
)

from estimate import options
from estimate.cost import limit
from operate import __main__ as operate
from operate import environment
from operate.checks import alarms, settings, stack
from operate.checks.deployed import Deployed
from operate.doctor import CHECKS
from operate.status import LINES


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    port = free_port()
    command = [ROOT / ".venv/ministack/bin/moto_server", "-H", "127.0.0.1", "-p", port]
    program = Program(command, tmp_path_factory.mktemp("moto") / "moto.log", **NO_ACCOUNT)
    program.wait_for_port(port)
    yield f"http://127.0.0.1:{port}"
    program.stop()


@pytest.fixture(scope="module")
def server():
    outside = Outside()
    yield outside
    outside.server.shutdown()


@pytest.fixture(scope="module")
def answered():
    return Answered()


@pytest.fixture
def healthy(moto, server, answered, monkeypatch):
    server.__dict__ |= {
        "origins": ["https://app.example.com"],
        "signs_in": False,
        "has_tokens": True,
        "code": program(),
        "keeper_code": program(),
        "instead": {},
        "asked": [],
    }
    server.openai = (200, {"value": "ek_of_the_tests"})
    answered.reset()
    monkeypatch.setattr("operate.account.boto3", types.SimpleNamespace(Session=answered.session))
    monkeypatch.chdir(ROOT)
    for name in ("AWS_PROFILE", "ENV", "ASK_OPENAI", "TOKEN_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (NO_ACCOUNT | {"AWS_ENDPOINT_URL": moto, "STACK": NAME}).items():
        monkeypatch.setenv(name, value)
    return HealthyStack(moto, answered, server)


class Said:
    """The lines of a command, and its exit status."""

    def __init__(self, status, text):
        self.status, self.text = status, text
        found = [line.split(maxsplit=1) for line in text.splitlines() if line.startswith(("ok ", "WRONG ", "skip "))]
        self.lines = [(state, *rest.split(": ", 1)) for state, rest in found]

    def having(self, state):
        return [(name, text) for found, name, text in self.lines if found == state]


@pytest.fixture
def run(monkeypatch, capsys):
    def run(command):
        monkeypatch.setattr(sys, "argv", ["operate", command])
        status = 0
        try:
            operate.main()
        except SystemExit as ended:
            status = 1 if isinstance(ended.code, str) else ended.code or 0
            print(ended.code)
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Said(status, said.out)

    return run


# What a stack with the default parameters has no use for, or nobody consented to.
SKIPPED = {"OpenAI", "proxy secret", "proxy", "sign-in", "token"}


def test_nothing_is_wrong_with_a_healthy_stack(healthy, run):
    said = run("doctor")
    assert not said.having("WRONG") and said.status == 0, said.text
    assert [name for _, name, _ in said.lines] == [check.name for check in CHECKS], "one line each"
    skipped = {name for name, _ in said.having("skip")}
    assert skipped == SKIPPED
    assert f"Nothing is wrong: {len(CHECKS) - len(SKIPPED)} ok, {len(SKIPPED)} skipped." in said.text
    assert KEY not in said.text and "ek_" not in said.text
    assert not {"mint", "openai"} & set(healthy.outside.asked), "nothing is asked of OpenAI without consent"
    assert "revision 0a1b2c3d4e5f" in dict(said.having("ok"))["live version"]


def test_with_consent_it_also_asks_openai_and_mints(healthy, run, monkeypatch):
    monkeypatch.setenv("ASK_OPENAI", "yes")
    said = run("doctor")
    assert said.status == 0, said.text
    assert [name for name, _ in said.having("skip")] == ["proxy secret", "sign-in", "proxy"]
    assert healthy.outside.asked.count("mint") == healthy.outside.asked.count("openai") == 1
    assert KEY not in said.text and "ek_" not in said.text


@pytest.mark.parametrize(
    "prefix, value, state",
    [("vcst_", "vcst_1", "ok"), ("", "gAAAAAB==", "ok"), ("vcst_", "ek_1", "WRONG"), ("", "", "WRONG"), ("", KEY, "WRONG")],
)
def test_the_test_token_has_the_prefix_that_the_stack_accepts(healthy, run, monkeypatch, prefix, value, state):
    monkeypatch.setenv("ASK_OPENAI", "yes")
    healthy.parameters["TokenPrefix"] = prefix
    healthy.go_live(Environment={"Variables": healthy.variables | {"TOKEN_PREFIX": prefix}})
    healthy.outside.openai = (200, {"value": value})
    assert "OpenAI" in dict(run("doctor").having(state))


FAULTS = []


def fault(check, finding, remedy):
    """Collects a way to break one thing: the check that has to go wrong, and what its line has to say."""

    def collect(breaking):
        FAULTS.append(pytest.param(check, breaking, finding, remedy, id=breaking.__name__))
        return breaking

    return collect


def states(status, finding, remedy):
    """A state of the stack in which something is wrong."""

    def breaking(healthy, monkeypatch):
        healthy.status = status
        healthy.event("MintFunction", "AWS::Lambda::Function", "UPDATE_FAILED", "Resource update cancelled")
        healthy.event("QuotaTable", "AWS::DynamoDB::Table", "UPDATE_FAILED", "the table is gone")
        healthy.event("Stage", "AWS::ApiGatewayV2::Stage", "UPDATE_FAILED", "Resource update cancelled")
        healthy.event(NAME, "AWS::CloudFormation::Stack", "UPDATE_IN_PROGRESS", "User Initiated")
        healthy.event("Api", "AWS::ApiGatewayV2::Api", "UPDATE_FAILED", "of an earlier deployment")

    FAULTS.append(
        pytest.param(
            "stack", breaking, f"{status}: {finding}. QuotaTable (AWS::DynamoDB::Table): the table is gone.", remedy, id=status
        )
    )


states("UPDATE_ROLLBACK_COMPLETE", "the last deployment failed, and was undone", "Fix the cause and run `make deploy` again")
states(
    "UPDATE_ROLLBACK_FAILED",
    "the last deployment failed, and could not be undone",
    "continue-update-rollback --stack-name token-mint",
)
states("UPDATE_FAILED", "the last deployment failed halfway", "continue-update-rollback --stack-name token-mint")
states("UPDATE_ROLLBACK_IN_PROGRESS", "the last deployment failed, and is being undone", "Wait until it ends")
states("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "the last deployment failed, and is being undone", "Wait until it ends")
states("ROLLBACK_COMPLETE", "the first deployment failed, and its resources were deleted", "Run `make delete`, fix the cause")
states("ROLLBACK_FAILED", "the first deployment failed, and could not be undone", "Run `make delete`, fix the cause")
states("ROLLBACK_IN_PROGRESS", "the first deployment failed, and is being undone", "Wait until it ends. Run `make delete`")
states("CREATE_FAILED", "the first deployment failed", "Run `make delete`, fix the cause")
states("DELETE_FAILED", "it could not be deleted", "run `make delete` again")
states("DELETE_IN_PROGRESS", "it is being deleted", "wait until it is gone")
states("IMPORT_ROLLBACK_COMPLETE", "the last import failed, and was undone", "run `make deploy` again")
states("IMPORT_ROLLBACK_FAILED", "the last import failed, and could not be undone", "continue-update-rollback")
states("IMPORT_ROLLBACK_IN_PROGRESS", "the last import failed, and is being undone", "Wait until it ends")


@fault("identity", "you work as arn:aws:iam::123456789012:root, which policies do not restrict", "Use a role")
def works_as_root(healthy, monkeypatch):
    identity = {"UserId": "123456789012", "Account": "123456789012", "Arn": "arn:aws:iam::123456789012:root"}
    healthy.answered.answers["sts", "GetCallerIdentity"] = identity


@fault(
    "region", "the commands use eu-west-1, but AWS_DEFAULT_REGION is us-east-1, which other tools use", "Set the same Region"
)
def another_region_for_other_tools(healthy, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@fault("region", "the commands use eu-west-1, but region in samconfig.toml is us-east-2", "Set the same Region")
def another_region_in_samconfig(healthy, monkeypatch, tmp_path):
    (tmp_path / "samconfig.toml").write_text('version = 0.1\n[default.deploy.parameters]\nregion = "us-east-2"\n')
    monkeypatch.chdir(tmp_path)


@fault("stack", "UPDATE_IN_PROGRESS for 61 minutes", "cancel-update-stack --stack-name token-mint")
def a_deployment_that_never_ends(healthy, monkeypatch):
    healthy.status, healthy.updated = "UPDATE_IN_PROGRESS", now() - datetime.timedelta(minutes=61)


@fault("nested stacks", "DashboardStack: UPDATE_ROLLBACK_FAILED: the last deployment failed", "continue-update-rollback")
def a_nested_stack_that_failed(healthy, monkeypatch):
    healthy.nested_status = "UPDATE_ROLLBACK_FAILED"


@fault(
    "live version",
    "version 1, revision 0a1b2c3d4e5f is live, but the last deployment published version 2 with other code",
    "make deploy",
)
def an_alias_that_was_moved(healthy, monkeypatch):
    healthy.client("lambda").update_function_code(FunctionName=FUNCTION, ZipFile=program(183))
    healthy.version = healthy.publish()


@fault("live version", "with 10 % on version 2, but no deployment is in progress", "To end the split, run `make rollback`")
def a_split_that_was_left_over(healthy, monkeypatch):
    number = healthy.publish("other", Description="other")
    weights = {"AdditionalVersionWeights": {number: 0.1}}
    healthy.client("lambda").update_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="1", RoutingConfig=weights)


@fault("live version", "cannot run: InvalidSubnet", "Run `make rollback`")
def a_version_that_cannot_run(healthy, monkeypatch):
    healthy.of_version |= {"State": "Failed", "StateReason": "InvalidSubnet"}


@fault("live version", "it was deleted outside CloudFormation. AWS says: no such alias", "Create it again under the same name")
def an_alias_that_was_deleted(healthy, monkeypatch):
    healthy.answered.refuse("lambda", "GetAlias", "ResourceNotFoundException", "no such alias")


@fault("unpublished code", "$LATEST has other code than the live version", "Run `make build` and `make deploy`")
def code_that_was_uploaded_and_not_published(healthy, monkeypatch):
    healthy.client("lambda").update_function_code(FunctionName=FUNCTION, ZipFile=program(183))


@fault(
    "architecture",
    "Architecture is x86_64, the function runs on x86_64, and its program is arm64",
    "make build PARAMETERS=Architecture=x86_64",
)
def a_program_for_the_other_processor(healthy, monkeypatch):
    healthy.outside.code = program(183)


@fault(
    "architecture",
    "Architecture is arm64, the function runs on x86_64, and its program is x86_64",
    "make build PARAMETERS=Architecture=arm64",
)
def another_architecture_in_the_parameters(healthy, monkeypatch):
    healthy.parameters["Architecture"] = "arm64"


@fault("architecture", "and its program is missing: the archive has no bootstrap", "make build")
def an_archive_without_the_program(healthy, monkeypatch):
    healthy.outside.code = b"no archive"


def with_bootstrap(content):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("bootstrap", content)
    return packed.getvalue()


@fault("architecture", "and its program is not an ELF program", "make build")
def a_script_in_place_of_the_program(healthy, monkeypatch):
    healthy.outside.code = with_bootstrap(b"#!/bin/sh\nexec true\n")


@fault("architecture", "and its program is for another processor (ELF machine 40)", "make build")
def a_program_for_a_processor_that_lambda_lacks(healthy, monkeypatch):
    healthy.outside.code = program(40)


@fault("environment", "TOKEN_TTL_SECONDS is '3600' instead of '60'", "run `make deploy`")
def a_parameter_that_is_not_live(healthy, monkeypatch):
    healthy.parameters["TokenTtlSeconds"] = "60"


@fault("environment", "OPENAI_API_KEY is set, and may hold a key, RUST_LOG is not in the template", "run `make deploy`")
def variables_that_were_set_by_hand(healthy, monkeypatch):
    extra = healthy.variables | {"OPENAI_API_KEY": KEY, "RUST_LOG": "x"}
    healthy.go_live(Environment={"Variables": extra}, of_keeper=False)


@fault(
    "log level",
    "LogLevel is DEBUG, but Lambda drops lines below INFO. Run",
    "change it back, publish a version",
)
def a_log_level_that_lambda_drops(healthy, monkeypatch):
    del healthy.of_version["LoggingConfig"]["ApplicationLogLevel"]
    healthy.parameters["LogLevel"] = "DEBUG"
    healthy.go_live(Environment={"Variables": healthy.variables | {"LOG_LEVEL": "DEBUG"}})


@fault("log level", "LogLevel is ERROR, but Lambda drops lines below ERROR, records too.", "Run `make build` and `make deploy`")
def records_that_lambda_drops(healthy, monkeypatch):
    healthy.of_version["LoggingConfig"]["ApplicationLogLevel"] = "ERROR"
    healthy.parameters["LogLevel"] = "ERROR"
    healthy.go_live(Environment={"Variables": healthy.variables | {"LOG_LEVEL": "ERROR"}})


@fault("pause", "all minting is paused: the reserved concurrency is 0", "run `make resume`")
def a_pause(healthy, monkeypatch):
    healthy.client("lambda").put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=0)


@fault("pause", "the reserved concurrency is 300, but ReservedConcurrency is empty", "run `make resume`")
def a_concurrency_that_was_set_by_hand(healthy, monkeypatch):
    healthy.client("lambda").put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=300)


@fault(
    "account concurrency",
    "10 mints at once, about 24 a second; the account's limit is 10. RateLimit lets 50 a second",
    "Service Quotas, Lambda, for at least 26 ",
)
def a_new_account(healthy, monkeypatch):
    healthy.answered.answers["lambda", "GetAccountSettings"] = healthy.account(10)


@fault(
    "account concurrency",
    "the account's limit is 49. A rush that uses it up throttles the keeper too, and calls then end late",
    "Service Quotas, Lambda, for at least 50 concurrent executions",
)
def a_small_account_with_calls(healthy, monkeypatch):
    healthy.answered.answers["lambda", "GetAccountSettings"] = healthy.account(49)


@fault("secret", "it was deleted outside CloudFormation", "Create it again under the same name")
def a_secret_that_was_deleted(healthy, monkeypatch):
    healthy.answered.refuse("secretsmanager", "GetSecretValue", "ResourceNotFoundException", "no such secret")


@fault(
    "secret", "it was deleted outside CloudFormation, and can be restored", "aws secretsmanager restore-secret --secret-id arn:"
)
def a_secret_that_is_being_deleted(healthy, monkeypatch):
    healthy.client("secretsmanager").delete_secret(SecretId=healthy.ids["Secret"])


@fault("secret", "The secret is binary, and the function cannot read it", "Store text in it in the AWS console")
def a_binary_secret(healthy, monkeypatch):
    healthy.client("secretsmanager").put_secret_value(SecretId=healthy.ids["Secret"], SecretBinary=b"x")


@fault("secret", "The secret begins with {, but is not JSON.", "Fix it in the AWS console")
def a_secret_that_is_not_json(healthy, monkeypatch):
    healthy.set_secret_text('{"OPENAI_API_KEY')


@fault("identifier key", "SAFETY_IDENTIFIER_KEY is not text", "Correct it")
def an_identifier_key_that_is_a_number(healthy, monkeypatch):
    healthy.set_secret(SAFETY_IDENTIFIER_KEY=5, note=1)


@fault("OpenAI key", "not set: the secret contains a placeholder", "Run `make key`")
def the_placeholder(healthy, monkeypatch):
    healthy.set_secret(OPENAI_API_KEY="not set yet, run make key")


@fault("OpenAI key", "the secret has no OPENAI_API_KEY", "Run `make key`")
def no_key(healthy, monkeypatch):
    healthy.set_secret(OPENAI_API_KEY=...)


@fault("OpenAI key", "it does not begin with sk-", "Run `make key`")
def a_key_of_something_else(healthy, monkeypatch):
    healthy.parameters["OpenAIBaseUrl"] = "https://api.openai.com/v1"
    healthy.go_live(Environment={"Variables": healthy.variables | {"OPENAI_BASE_URL": "https://api.openai.com/v1"}})
    healthy.set_secret(OPENAI_API_KEY="0123456789-0123456789")


@fault("OpenAI key", "OPENAI_API_KEY is not text", "Run `make key`")
def a_key_that_is_a_number(healthy, monkeypatch):
    healthy.set_secret(OPENAI_API_KEY=5)


@fault("OpenAI key", "the key is a line such as NAME=value", "Run `make key`")
def a_key_with_its_name(healthy, monkeypatch):
    healthy.set_secret(OPENAI_API_KEY=f"OPENAI_API_KEY={KEY}")


@fault("identifier key", "there is none, so callers' identifiers are derived from the secret's ARN", "Store 64 random letters")
def a_secret_that_is_just_the_key(healthy, monkeypatch):
    healthy.set_secret_text(KEY)


@fault("identifier key", "it has only 31 characters", "Store 64 random letters")
def a_short_identifier_key(healthy, monkeypatch):
    healthy.set_secret(SAFETY_IDENTIFIER_KEY="k" * 31)


@fault("blocked callers", "BLOCKED_CALLERS has entries that match no caller: number 2", "block these callers with `make block`")
def a_blocked_caller_that_is_an_address(healthy, monkeypatch):
    healthy.set_secret(BLOCKED_CALLERS=["0A" * 32, "203.0.113.9"])


@fault("blocked callers", "BLOCKED_CALLERS is not a list of identifiers", "Correct or remove it")
def a_block_list_that_is_another_text(healthy, monkeypatch):
    healthy.set_secret(BLOCKED_CALLERS="everyone")


@fault("proxy secret", "PREVIOUS_PROXY_SECRET is not text", "Run `make proxy-secret`")
def a_proxy_secret_that_is_a_number(healthy, monkeypatch):
    healthy.set_secret(PREVIOUS_PROXY_SECRET=5)


@fault("secret size", "with room for 9 more blocked callers", "Remove callers with `make unblock`")
def a_secret_that_is_nearly_full(healthy, monkeypatch):
    healthy.set_secret(note="x" * 64_650)


@fault(
    "secret versions",
    "the label AWSPENDING is left on a version that is not in use",
    "--version-stage AWSPENDING --remove-from-version-id ",
)
def a_rotation_that_was_interrupted(healthy, monkeypatch):
    secrets = healthy.client("secretsmanager")
    secrets.put_secret_value(SecretId=healthy.ids["Secret"], SecretString="x", VersionStages=["AWSPENDING"])


@fault("OpenAI", "OpenAI answered 401 to this key", "Make a new key at platform.openai.com/api-keys and run `make key`")
def a_key_that_was_revoked(healthy, monkeypatch):
    monkeypatch.setenv("ASK_OPENAI", "yes")
    healthy.outside.openai = (401, {"error": {"message": "Incorrect API key provided"}})


@fault("OpenAI", "OpenAI answered 403 to this key", "Allow the key's project to use the Realtime API")
def a_key_of_a_project_that_may_not(healthy, monkeypatch):
    monkeypatch.setenv("ASK_OPENAI", "yes")
    healthy.outside.openai = (403, {})


@fault("OpenAI", "did not contain a valid token", "See platform.openai.com/settings/organization/billing and status.openai.com")
def another_server_in_place_of_openai(healthy, monkeypatch):
    monkeypatch.setenv("ASK_OPENAI", "yes")
    healthy.outside.openai = (200, {"value": "none"})


@fault("API", "http://127.0.0.1:1/token cannot be reached: ", "Check this machine's network")
def an_api_that_cannot_be_reached(healthy, monkeypatch):
    monkeypatch.setenv("TOKEN_URL", "http://127.0.0.1:1/token")


@fault("API", "a path that does not exist is answered 200 without a body of the function", "Remove the route")
def another_route(healthy, monkeypatch):
    healthy.outside.instead["other path"] = (200, {}, {})


@fault("preflight", "a page of https://app.example.com may not ask: its preflight is answered 204", "AllowedOrigins")
def cors_that_was_removed(healthy, monkeypatch):
    healthy.outside.instead["preflight"] = (204, b"", {})


@fault("preflight", "a page of https://app.example.com may not ask", "AllowedOrigins")
def cors_without_the_header_of_a_body(healthy, monkeypatch):
    headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "POST", "Access-Control-Allow-Headers": "x"}
    healthy.outside.instead["preflight"] = (204, b"", headers)


@fault(
    "foreign preflight", "a page of https://doctor.invalid may ask, although AllowedOrigins does not list it", "AllowedOrigins"
)
def cors_for_everyone(healthy, monkeypatch):
    healthy.outside.instead["foreign preflight"] = (204, b"", {"Access-Control-Allow-Origin": "*"})


@fault(
    "foreign origin",
    "a request from https://doctor.invalid is answered 400 invalid_request, not 403",
    "See the check environment",
)
def a_function_that_does_not_check_origins(healthy, monkeypatch):
    healthy.outside.instead["foreign"] = (400, {"code": "invalid_request"}, {})


def with_sign_in(healthy):
    healthy.parameters |= {"AuthIssuer": "https://login.example.com", "AuthAudience": "page"}
    healthy.outside.signs_in = True


@fault("sign-in", "a request without a sign-in is answered 400 invalid_request, not 401", "Restore the authorizer")
def an_authorizer_that_was_removed(healthy, monkeypatch):
    with_sign_in(healthy)
    healthy.outside.instead["unsigned"] = (400, {"code": "invalid_request"}, {})


def with_proxy(healthy):
    healthy.outside.proxied = True
    healthy.parameters["ProxyAddressHeader"] = "X-Real-IP"
    healthy.set_secret(PROXY_SECRET="0f" * 32)
    healthy.go_live(Environment={"Variables": healthy.variables | {"PROXY_ADDRESS_HEADER": "X-Real-IP"}})


@fault("proxy secret", "PROXY_SECRET is missing or shorter than 32 characters", "Run `make proxy-secret`")
def a_proxy_without_a_secret(healthy, monkeypatch):
    with_proxy(healthy)
    healthy.set_secret(PROXY_SECRET="")


@fault("proxy", "a request that did not pass through the proxy is answered 200 without a body", "See the check environment")
def an_api_that_answers_past_the_proxy(healthy, monkeypatch):
    with_proxy(healthy)
    healthy.outside.proxied = False


@fault("token route", "is answered 500 without a body of the function (Internal Server Error)", "docs/operating.md lists")
def an_api_that_may_not_invoke_the_function(healthy, monkeypatch):
    healthy.outside.instead["refused body"] = (500, {"message": "Internal Server Error"}, {})


@fault("token route", "the answer to a page of https://app.example.com lacks the headers of CORS", "AllowedOrigins")
def answers_that_a_page_cannot_read(healthy, monkeypatch):
    healthy.outside.instead["refused body"] = (400, {"code": "invalid_request"}, {})


@fault(
    "token",
    "none was issued: 502 openai_rejected_session. The model is gone.",
    "docs/operating.md lists the causes under Symptoms",
)
def a_model_that_is_gone(healthy, monkeypatch):
    monkeypatch.setenv("ASK_OPENAI", "yes")
    refusal = {"code": "openai_rejected_session", "details": "The model is gone"}
    healthy.outside.instead["mint"] = (502, refusal, {"Access-Control-Allow-Origin": "https://app.example.com"})


# --- calls ---


@fault("call preflight", "lacks headers of CORS (x-openai-agents-sdk)", "AllowedOrigins")
def cors_without_the_header_of_an_sdk(healthy, monkeypatch):
    headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "POST,DELETE",
               "Access-Control-Allow-Headers": "content-type,authorization"}  # fmt: skip
    healthy.outside.instead["call preflight"] = (204, b"", headers)


@fault("call preflight", "lacks headers of CORS (delete)", "AllowedOrigins")
def cors_without_the_end_of_a_call(healthy, monkeypatch):
    headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "POST",
               "Access-Control-Allow-Headers": "content-type,authorization,x-openai-agents-sdk"}  # fmt: skip
    healthy.outside.instead["call preflight"] = (204, b"", headers)


@fault("call route", "is answered 500 without a body of the function (Internal Server Error)", "docs/operating.md lists")
def an_api_that_may_not_make_calls(healthy, monkeypatch):
    healthy.outside.instead["refused offer"] = (500, {"message": "Internal Server Error"}, {})


@fault("call route", "is answered 404 without a body of the function (Not Found), not 404 call_not_found", "docs/operating.md")
def an_api_without_the_route_that_ends_a_call(healthy, monkeypatch):
    healthy.outside.instead["end of a call"] = (404, {"message": "Not Found"}, {})


@fault("call route", "the answer to a page of https://app.example.com lacks headers of CORS", "AllowedOrigins")
def answers_whose_headers_a_page_cannot_read(healthy, monkeypatch):
    readable = {"Access-Control-Allow-Origin": "https://app.example.com", "Access-Control-Expose-Headers": "retry-after"}
    healthy.outside.instead["refused offer"] = (400, {"code": "invalid_request"}, readable)


@fault("keeper", "it differs from the stack's parameters: MAX_CALL_SECONDS is '900' instead of '600'", "Run `make deploy`")
def a_keeper_with_another_variable(healthy, monkeypatch):
    variables = healthy.keeper_variables | {"MAX_CALL_SECONDS": "900"}
    healthy.client("lambda").update_function_configuration(FunctionName=KEEPER, Environment={"Variables": variables})


@fault(
    "keeper", "its reserved concurrency is 0, so it never runs", "delete-function-concurrency --function-name token-mint-Keeper"
)
def a_keeper_that_was_paused(healthy, monkeypatch):
    healthy.client("lambda").put_function_concurrency(FunctionName=KEEPER, ReservedConcurrentExecutions=0)


@fault("keeper", "token-mint-Keeper cannot run: InvalidSubnet", "Run `make deploy`")
def a_keeper_that_cannot_run(healthy, monkeypatch):
    healthy.of_keeper |= {"State": "Failed", "StateReason": "InvalidSubnet"}


@fault("keeper", "it runs on x86_64, but its program is arm64", "Run `make build` and `make deploy`")
def a_keeper_for_the_other_processor(healthy, monkeypatch):
    healthy.outside.keeper_code = program(183)


@fault(
    "keeper schedule",
    "the rule token-mint-KeeperSchedule is disabled",
    "aws events enable-rule --name token-mint-KeeperSchedule",
)
def a_schedule_that_was_disabled(healthy, monkeypatch):
    healthy.client("events").disable_rule(Name=SCHEDULE)


# PutRule would clear a description that is not given, and the check drift would then go wrong.
@fault(
    "keeper schedule",
    "has the schedule rate(1 hour), not rate(1 minute)",
    f"--schedule-expression 'rate(1 minute)' --description '{TEMPLATE['Resources']['KeeperSchedule']['Properties']['Description']}'",
)
def a_schedule_that_is_too_rare(healthy, monkeypatch):
    healthy.client("events").put_rule(Name=SCHEDULE, ScheduleExpression="rate(1 hour)")


@fault(
    "keeper schedule",
    "the keeper is not the only target of the rule",
    "aws events put-targets --rule token-mint-KeeperSchedule",
)
def a_schedule_without_the_keeper(healthy, monkeypatch):
    healthy.client("events").remove_targets(Rule=SCHEDULE, Ids=["keeper"])


@fault(
    "keeper schedule",
    "the rule lacks the permission to invoke the keeper",
    "aws lambda add-permission --function-name token-mint-Keeper",
)
def a_schedule_without_the_permission(healthy, monkeypatch):
    healthy.client("lambda").remove_permission(FunctionName=KEEPER, StatementId="schedule")


@fault("keeper schedule", "it was deleted outside CloudFormation", "Create it again under the same name")
def a_schedule_that_was_deleted(healthy, monkeypatch):
    healthy.client("events").remove_targets(Rule=SCHEDULE, Ids=["keeper"])
    healthy.client("events").delete_rule(Name=SCHEDULE)


def measured(metric, value):
    """Changes a metric of the keeper within the last minutes, as CloudWatch answers it."""

    def change(healthy):
        real = healthy.client("cloudwatch")

        def answer(asked):
            found = real.get_metric_statistics(**asked)["Datapoints"]
            if asked["MetricName"] == metric and asked["Period"] == 60:
                [statistic] = asked["Statistics"]
                found = [point | {statistic: value} for point in found if value is not None]
            return {"Datapoints": found}

        healthy.answered.answers["cloudwatch", "GetMetricStatistics"] = answer

    return change


@fault("keeper rounds", "token-mint-Keeper ran 0 times in 15 minutes, and not each minute", "run `make pause`")
def a_keeper_that_does_not_run(healthy, monkeypatch):
    measured("Invocations", None)(healthy)


@fault("keeper rounds", "rounds failed in 15 minutes", "aws logs tail token-mint-KeeperLog")
def a_keeper_whose_rounds_fail(healthy, monkeypatch):
    measured("Errors", 1.0)(healthy)


@fault("outlived calls", "2 calls lasted longer than 2 minutes beyond the end", "Run `make hang-up ALL=yes`")
def calls_that_outlive_their_end(healthy, monkeypatch):
    measured("CallsOutlived", 2.0)(healthy)


@fault("keeper role", "token-mint-KeeperRole lacks dynamodb:UpdateItem on", "Restore its policies")
def a_keeper_without_a_permission(healthy, monkeypatch):
    def decide(asked):
        lacks = asked["PolicySourceArn"].endswith("KeeperRole") and "dynamodb:UpdateItem" in asked["ActionNames"]
        found = healthy.simulated(asked, "allowed")
        for result in found["EvaluationResults"]:
            if lacks and result["EvalActionName"] == "dynamodb:UpdateItem":
                result["EvalDecision"] = "implicitDeny"
        return found

    healthy.answered.answers["iam", "SimulatePrincipalPolicy"] = decide


@fault("role", "token-mint-MintRole lacks dynamodb:GetItem on", "Restore its policies")
def a_function_that_cannot_read_calls(healthy, monkeypatch):
    def decide(asked):
        return healthy.simulated(asked, "implicitDeny" if asked["ActionNames"] == ["dynamodb:GetItem"] else "allowed")

    healthy.answered.answers["iam", "SimulatePrincipalPolicy"] = decide


@fault("keeper role", "the keeper runs under arn:aws:iam::123456789012:role/other, not under the stack's", "Run `make deploy`")
def another_role_of_the_keeper(healthy, monkeypatch):
    healthy.of_keeper["Role"] = "arn:aws:iam::123456789012:role/other"


@fault("keeper log", "token-mint-KeeperLog is kept forever, but LogRetentionDays is 30", "put-retention-policy")
def a_keepers_log_that_is_kept_forever(healthy, monkeypatch):
    healthy.client("logs").delete_retention_policy(logGroupName=KEEPER_LOG)


@fault("keeper log", "the keeper writes to /aws/lambda/other, not to the stack's token-mint-KeeperLog", "Run `make deploy`")
def a_keeper_that_writes_elsewhere(healthy, monkeypatch):
    healthy.of_keeper["LoggingConfig"]["LogGroup"] = "/aws/lambda/other"


@fault("keeper log", "and no line has arrived since", "See the check keeper role for logs:PutLogEvents")
def a_keepers_log_without_lines(healthy, monkeypatch):
    healthy.client("logs").delete_log_stream(logGroupName=KEEPER_LOG, logStreamName="stream")


@fault("alarms", "CallOutlivedAlarm has been on since 20", "make hang-up ALL=yes")
def an_alarm_about_calls_that_is_on(healthy, monkeypatch):
    name = healthy.ids["CallOutlivedAlarm"]
    healthy.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="so")


@fault("alarms", "CallOutlivedAlarm has had no data since 20", "See the check keeper rounds")
def an_alarm_about_calls_without_data(healthy, monkeypatch):
    monkeypatch.setattr(alarms, "FIRST_EVALUATION", datetime.timedelta(seconds=-1))
    name = healthy.ids["CallOutlivedAlarm"]
    healthy.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="INSUFFICIENT_DATA", StateReason="so")


# --- the table, the role and the logs ---


def with_table(healthy, **shape):
    """Makes the quota table again, in another shape."""
    dynamodb = healthy.client("dynamodb")
    dynamodb.delete_table(TableName=TABLE)
    plain = {"KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}], "BillingMode": "PAY_PER_REQUEST"}
    names = [part["AttributeName"] for part in (plain | shape)["KeySchema"]]
    attributes = [{"AttributeName": name, "AttributeType": "S"} for name in names]
    dynamodb.create_table(TableName=TABLE, AttributeDefinitions=attributes, **plain | shape)
    ttl = {"AttributeName": "expires", "Enabled": True}
    dynamodb.update_time_to_live(TableName=TABLE, TimeToLiveSpecification=ttl)


@fault("quota table", "it was deleted outside CloudFormation", "Create it again under the same name")
def a_table_that_was_deleted(healthy, monkeypatch):
    healthy.client("dynamodb").delete_table(TableName=TABLE)


@fault("quota table", "its state is UPDATING, not ACTIVE", "Wait if it is being changed")
def a_table_that_is_changing(healthy, monkeypatch):
    healthy.answered.changes["dynamodb", "DescribeTable"] = lambda parsed: parsed["Table"].update(TableStatus="UPDATING")


@fault("quota table", "its key is not the text id alone", "Delete it. Create it again under the same name")
def a_table_with_another_key(healthy, monkeypatch):
    with_table(healthy, KeySchema=[{"AttributeName": "caller", "KeyType": "HASH"}])


@fault("quota table", "items of past days are never deleted", "update-time-to-live --table-name token-mint-Quota")
def a_table_that_keeps_everything(healthy, monkeypatch):
    ttl = {"AttributeName": "expires", "Enabled": False}
    healthy.client("dynamodb").update_time_to_live(TableName=TABLE, TimeToLiveSpecification=ttl)


@fault("quota table", "its capacity is provisioned", "--billing-mode PAY_PER_REQUEST")
def a_table_with_provisioned_capacity(healthy, monkeypatch):
    with_table(healthy, BillingMode="PROVISIONED", ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1})


@fault(
    "role",
    "token-mint-MintRole lacks dynamodb:UpdateItem on arn:aws:dynamodb:eu-west-1:123456789012:table/token-mint-Quota",
    "Restore its policies",
)
def a_role_without_a_permission(healthy, monkeypatch):
    def decide(asked):
        return healthy.simulated(asked, "implicitDeny" if asked["ActionNames"] == ["dynamodb:UpdateItem"] else "allowed")

    healthy.answered.answers["iam", "SimulatePrincipalPolicy"] = decide


@fault("role", "token-mint-MintRole lacks kms:Decrypt on arn:aws:kms:eu-west-1:123456789012:key/1a2b", "Restore its policies")
def a_role_that_may_not_use_the_key(healthy, monkeypatch):
    """Its policy allows the key through Secrets Manager and for this secret only, so the simulation needs these conditions."""
    healthy.parameters["KmsKeyArn"] = "arn:aws:kms:eu-west-1:123456789012:key/1a2b"

    def decide(asked):
        context = {entry["ContextKeyName"]: entry["ContextKeyValues"] for entry in asked["ContextEntries"]}
        of_key = {"kms:ViaService": ["secretsmanager.eu-west-1.amazonaws.com"],
                  "kms:EncryptionContext:SecretARN": [healthy.ids["Secret"]]}  # fmt: skip
        assert context == (of_key if asked["ActionNames"] == ["kms:Decrypt"] else {})
        of_function = asked["PolicySourceArn"].endswith("MintRole")
        return healthy.simulated(asked, "implicitDeny" if context and of_function else "allowed")

    healthy.answered.answers["iam", "SimulatePrincipalPolicy"] = decide


@fault("role", "the live version runs under arn:aws:iam::123456789012:role/other, not under the stack's", "Run `make deploy`")
def another_role(healthy, monkeypatch):
    healthy.of_version["Role"] = "arn:aws:iam::123456789012:role/other"


@fault(
    "function log",
    "token-mint-Log is kept forever, but LogRetentionDays is 30",
    "put-retention-policy --log-group-name token-mint-Log",
)
def a_log_that_is_kept_forever(healthy, monkeypatch):
    healthy.client("logs").delete_retention_policy(logGroupName=LOG)


@fault(
    "function log",
    "the log group token-mint-Log was deleted outside CloudFormation",
    "create-log-group --log-group-name token-mint-Log",
)
def a_log_that_was_deleted(healthy, monkeypatch):
    healthy.client("logs").delete_log_group(logGroupName=LOG)


@fault("function log", "the live version writes to /aws/lambda/other, not to the stack's token-mint-Log", "Run `make deploy`")
def a_function_that_writes_elsewhere(healthy, monkeypatch):
    healthy.of_version["LoggingConfig"]["LogGroup"] = "/aws/lambda/other"


@fault("function log", "and no line has arrived since", "See the check role for logs:PutLogEvents")
def a_log_without_lines(healthy, monkeypatch):
    healthy.client("logs").delete_log_stream(logGroupName=LOG, logStreamName="stream")


@fault("access log", "token-mint-Access is kept 1 days, but LogRetentionDays is 30", "put-retention-policy")
def an_access_log_that_is_kept_a_day(healthy, monkeypatch):
    healthy.client("logs").put_retention_policy(logGroupName=ACCESS_LOG, retentionInDays=1)


@fault(
    "access log",
    "the API writes to arn:aws:logs:eu-west-1:123456789012:log-group:other, not to the stack's",
    "Restore the stage's access log",
)
def an_api_that_writes_elsewhere(healthy, monkeypatch):
    healthy.answered.answers["apigatewayv2", "GetStage"] = healthy.stage("other")


@fault("access log", "the API had requests in the hour from 20", "Save the stage's access log again")
def an_access_log_without_lines(healthy, monkeypatch):
    healthy.client("logs").delete_log_stream(logGroupName=ACCESS_LOG, logStreamName="stream")


@fault("alarms", "KeyRejectedAlarm has been on since 20", "Make a new one at platform.openai.com/api-keys and run make key")
def an_alarm_that_is_on(healthy, monkeypatch):
    healthy.client("cloudwatch").set_alarm_state(
        AlarmName=healthy.ids["KeyRejectedAlarm"], StateValue="ALARM", StateReason="so"
    )


@fault("alarms", "NoMintsAlarm has been on since 20", "yourself with curl -X POST and the token URL")
def a_silence(healthy, monkeypatch):
    name = healthy.ids["NoMintsAlarm"]
    healthy.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="INSUFFICIENT_DATA", StateReason="so")


@fault("alarms", "ThrottlesAlarm has had no data since 20", "See the check metrics")
def an_alarm_without_data(healthy, monkeypatch):
    monkeypatch.setattr(alarms, "FIRST_EVALUATION", datetime.timedelta(seconds=-1))
    name = healthy.ids["ThrottlesAlarm"]
    healthy.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="INSUFFICIENT_DATA", StateReason="so")


@fault(
    "alarms",
    "the actions of ThrottlesAlarm are disabled, so it sends no e-mail",
    "enable-alarm-actions --alarm-names token-mint-ThrottlesAlarm",
)
def an_alarm_that_was_silenced(healthy, monkeypatch):
    healthy.set_alarm("ThrottlesAlarm", ActionsEnabled=False)


@fault("alarms", "ThrottlesAlarm was deleted outside CloudFormation", "Create it again under the same name")
def an_alarm_that_was_deleted(healthy, monkeypatch):
    healthy.client("cloudwatch").delete_alarms(AlarmNames=[healthy.ids["ThrottlesAlarm"]])


@fault("alarms", "FailedBuildsAlarm has been on since 20", "read the end of its log")
def an_alarm_of_a_nested_stack_that_is_on(healthy, monkeypatch):
    healthy.add_pipeline()
    healthy.client("cloudwatch").set_alarm_state(AlarmName="token-mint-FailedBuildsAlarm", StateValue="ALARM", StateReason="so")


@fault("alarms", "FailedBuildsAlarm was deleted outside CloudFormation", "Create it again under the same name")
def an_alarm_of_a_nested_stack_that_was_deleted(healthy, monkeypatch):
    healthy.add_pipeline()
    healthy.client("cloudwatch").delete_alarms(AlarmNames=["token-mint-FailedBuildsAlarm"])


def subscribed(healthy, *subscriptions):
    owner = {"Owner": "123456789012", "Protocol": "email", "TopicArn": healthy.ids["AlarmTopic"]}
    answer = {"Subscriptions": [owner | {"SubscriptionArn": arn, "Endpoint": address} for arn, address in subscriptions]}
    healthy.answered.answers["sns", "ListSubscriptionsByTopic"] = answer


@fault("alarm actions", "operator@example.com has not confirmed the subscription", "Open the link in AWS's e-mail")
def an_address_that_has_not_confirmed(healthy, monkeypatch):
    subscribed(healthy, ("PendingConfirmation", "operator@example.com"))


@fault(
    "alarm actions",
    "the topic of the alarms has no subscription",
    "aws sns subscribe --topic-arn arn:aws:sns:eu-west-1:123456789012:token-mint-Topic",
)
def an_address_that_unsubscribed(healthy, monkeypatch):
    subscribed(healthy)


@fault("alarm actions", "ThrottlesAlarm has no action, so it sends no e-mail", "Restore the alarm's actions")
def an_alarm_without_actions(healthy, monkeypatch):
    healthy.set_alarm("ThrottlesAlarm", AlarmActions=[])


OWN_TOPIC = "arn:aws:sns:eu-west-1:123456789012:on-call"


@fault("alarm actions", f"ThrottlesAlarm is not sent to {OWN_TOPIC}.", "Restore the alarm's actions")
def an_alarm_that_lost_one_of_two_topics(healthy, monkeypatch):
    with_two_topics(healthy)
    healthy.set_alarm("ThrottlesAlarm", AlarmActions=[healthy.ids["AlarmTopic"]])


@fault("alarm actions", "FailedBuildsAlarm is not sent to arn:aws:sns:eu-west-1:123456789012:token-mint-Topic.", "Restore the")
def an_alarm_of_a_nested_stack_that_lost_a_topic(healthy, monkeypatch):
    with_two_topics(healthy)
    healthy.add_pipeline()
    healthy.set_alarm("FailedBuildsAlarm", AlarmActions=[OWN_TOPIC])


@fault(
    "alarm actions", f"KeyRejectedAlarm is sent to {OWN_TOPIC}, which is not from the parameters", "Restore the alarm's actions"
)
def an_alarm_that_is_sent_elsewhere_too(healthy, monkeypatch):
    healthy.set_alarm("KeyRejectedAlarm", AlarmActions=[healthy.ids["AlarmTopic"], OWN_TOPIC])


@fault(
    "alarm actions", f"KeyRejectedAlarm is sent to {OWN_TOPIC}, which is not from the parameters", "Restore the alarm's actions"
)
def an_alarm_that_is_sent_somewhere_without_a_parameter(healthy, monkeypatch):
    without_a_topic(healthy)
    healthy.set_alarm("KeyRejectedAlarm", AlarmActions=[OWN_TOPIC])


@fault("alarm actions", "the topic arn:aws:sns:eu-west-1:123456789012:token-mint-Topic does not exist", "Create it again under")
def a_topic_that_was_deleted(healthy, monkeypatch):
    healthy.client("sns").delete_topic(TopicArn=healthy.ids["AlarmTopic"])


@fault("alarm actions", f"the topic {OWN_TOPIC} does not exist", "Create it, or run `make set` with another AlarmTopicArn")
def a_topic_of_the_operators_that_was_deleted(healthy, monkeypatch):
    with_two_topics(healthy)
    healthy.client("sns").delete_topic(TopicArn=OWN_TOPIC)


def with_two_topics(healthy):
    sns = healthy.client("sns")
    sns.create_topic(Name="on-call")
    sns.subscribe(TopicArn=OWN_TOPIC, Protocol="email", Endpoint="on-call@example.com")
    healthy.parameters["AlarmTopicArn"] = OWN_TOPIC
    both = [healthy.ids["AlarmTopic"], OWN_TOPIC]
    for name in healthy.alarms:
        actions = "InsufficientDataActions" if name == "NoMintsAlarm" else "AlarmActions"
        healthy.alarms[name][actions] = both
        healthy.set_alarm(name)


def without_a_topic(healthy):
    healthy.parameters["AlarmEmail"] = ""
    for name in healthy.alarms:
        healthy.set_alarm(name, AlarmActions=[], InsufficientDataActions=[])


@fault("metrics", "FailedBuildsAlarm watches FailedBuilds of AWS/CodeBuild by ProjectName=other", "correct the alarm")
def an_alarm_on_another_project(healthy, monkeypatch):
    healthy.add_pipeline()
    healthy.measure("AWS/CodeBuild", ["Builds"], [{"Name": "ProjectName", "Value": NAME}])
    healthy.set_alarm("FailedBuildsAlarm", Dimensions=[{"Name": "ProjectName", "Value": "other"}])


@fault(
    "metrics",
    "ThrottlesAlarm watches Throttled of AWS/Lambda by FunctionName=token-mint-Mint, and CloudWatch has no such metric",
    "correct the alarm in template.yaml",
)
def an_alarm_on_a_name_that_does_not_exist(healthy, monkeypatch):
    healthy.set_alarm("ThrottlesAlarm", MetricName="Throttled")


@fault(
    "metrics",
    "ThrottlesAlarm watches 5xx of AWS/ApiGateway by ApiName=token-mint, and CloudWatch has no such",
    "correct the alarm",
)
def an_alarm_on_a_dimension_that_does_not_exist(healthy, monkeypatch):
    of_api = [{"Name": "ApiName", "Value": "token-mint"}]
    healthy.set_alarm("ThrottlesAlarm", Namespace="AWS/ApiGateway", MetricName="5xx", Dimensions=of_api)


@fault(
    "metrics",
    "KeyRejectedAlarm watches Requests of TokenMint by Code=openai_rejected_key, and CloudWatch has no such metric",
    "correct the alarm",
)
def an_alarm_on_a_code_without_the_function(healthy, monkeypatch):
    healthy.set_alarm("KeyRejectedAlarm", Dimensions=[{"Name": "Code", "Value": "openai_rejected_key"}])


@fault(
    "drift",
    "MintFunction (AWS::Lambda::Function) was changed outside CloudFormation: /Timeout, /MemorySize.",
    "`make deploy` does not see it",
)
def a_resource_that_was_changed(healthy, monkeypatch):
    healthy.drifted(
        "MintFunction", "AWS::Lambda::Function", "MODIFIED", "/Timeout", "/MemorySize", "/ReservedConcurrentExecutions"
    )


@fault("drift", "TopCallersQuery (AWS::Logs::QueryDefinition) was deleted outside CloudFormation", "Undo that change")
def a_resource_that_was_deleted(healthy, monkeypatch):
    healthy.drifted("TopCallersQuery", "AWS::Logs::QueryDefinition", "DELETED")


@fault("drift", "CloudFormation could not detect it: not authorized to perform: lambda:ListTags", "Allow what it names")
def a_detection_that_failed(healthy, monkeypatch):
    failed = healthy.drift_status("DETECTION_FAILED", DetectionStatusReason="not authorized to perform: lambda:ListTags")
    complete = healthy.drift_status("DETECTION_COMPLETE")
    answer = lambda asked: failed if asked["StackDriftDetectionId"] == "drift-0a1b2c3d" else complete  # noqa: E731
    healthy.answered.answers["cloudformation", "DescribeStackDriftDetectionStatus"] = answer


@pytest.mark.parametrize("check, breaking, finding, remedy", FAULTS)
def test_a_fault_turns_its_line_wrong(check, breaking, finding, remedy, healthy, run, monkeypatch, tmp_path, request):
    given = {"tmp_path": tmp_path} if "tmp_path" in breaking.__code__.co_varnames else {}
    breaking(healthy, monkeypatch, **given)
    said = run("doctor")
    wrong = said.having("WRONG")
    assert [name for name, _ in wrong] == [check], said.text
    [(_, text)] = wrong
    assert finding in text and remedy in text, text
    assert said.status == 1 and "1 wrong, " in said.text
    assert KEY not in said.text and "secret-value" not in said.text


def test_each_check_is_seen_to_fail():
    seen = {parameters.values[0] for parameters in FAULTS}
    assert seen == {check.name for check in CHECKS}
    assert set(stack.FAILED) == {parameters.id for parameters in FAULTS} & set(stack.FAILED) | {"REVIEW_IN_PROGRESS"}


def test_a_stack_whose_first_change_set_was_not_executed_has_nothing_to_check(healthy, run, monkeypatch):
    healthy.status = "REVIEW_IN_PROGRESS"
    monkeypatch.setattr(healthy, "resources", list)
    healthy.answered.refuse("cloudformation", "DetectStackDrift", "ValidationError", "Stack is in REVIEW_IN_PROGRESS state")
    said = run("doctor")
    [(name, text)] = said.having("WRONG")
    assert name == "stack" and "REVIEW_IN_PROGRESS: nothing was deployed: its first change set was not executed" in text
    assert "Run `make deploy` and confirm it." in text and said.status == 1
    reasons = dict(said.having("skip"))
    assert reasons["live version"] == reasons["pause"] == "the stack has no output FunctionName"
    assert reasons["secret"] == "the stack has no output SecretArn" and reasons["API"] == "the stack has no output TokenUrl"
    assert reasons["quota table"] == "the stack has no resource QuotaTable" and reasons["alarms"] == "the stack has no alarms"
    assert reasons["nested stacks"] == "there are none: Dashboard, MonthlyBudgetUsd and ConnectionArn are empty"
    assert reasons["drift"] == "CloudFormation cannot detect it now: Stack is in REVIEW_IN_PROGRESS state"


def test_during_a_gradual_deployment_nothing_is_wrong(healthy, run):
    healthy.status, healthy.updated = "UPDATE_IN_PROGRESS", now() - datetime.timedelta(minutes=4)
    number = healthy.publish("revision 5f4e3d2c1b0a, replaces 1", Description="other")
    weights = {"AdditionalVersionWeights": {number: 0.1}}
    healthy.client("lambda").update_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="1", RoutingConfig=weights)
    healthy.version = number
    said = run("doctor")
    assert said.status == 0, said.text
    assert "with 10 % on version 2: a gradual deployment is in progress" in dict(said.having("ok"))["live version"]
    assert dict(said.having("skip"))["stack"].startswith("UPDATE_IN_PROGRESS for 4 minutes. Run it again when")


def test_a_version_that_make_deploy_published_for_parameters_alone_is_fine(healthy, run):
    """SAM publishes none for them, so the stack records an older version with the same code."""
    number = healthy.publish(Description="with other parameters")
    healthy.client("lambda").update_alias(FunctionName=FUNCTION, Name="live", FunctionVersion=number)
    said = run("doctor")
    assert said.status == 0, said.text
    assert (
        dict(said.having("ok"))["live version"]
        == f"version {number}, with the same code as version 1, which the last deployment published"
    )


def test_where_users_sign_in_the_api_is_asked_for_its_refusal_only(healthy, run, monkeypatch):
    monkeypatch.setenv("ASK_OPENAI", "yes")
    with_sign_in(healthy)
    said = run("doctor")
    assert said.status == 0, said.text
    skipped = {"proxy secret", "foreign origin", "token route", "call route", "proxy", "token"}
    assert {name for name, _ in said.having("skip")} == skipped
    assert dict(said.having("ok"))["sign-in"] == "a request without a sign-in is answered 401"
    assert "mint" not in healthy.outside.asked


def test_behind_a_proxy_the_token_is_asked_for_there(healthy, run, monkeypatch):
    monkeypatch.setenv("ASK_OPENAI", "yes")
    with_proxy(healthy)
    said = run("doctor")
    assert said.status == 0, said.text
    assert dict(said.having("ok"))["proxy"] == "a request that did not pass through the proxy is answered 403"
    assert dict(said.having("skip"))["token"] == "ProxyAddressHeader is set: only with TOKEN_URL, the URL at the proxy"
    assert "mint" not in healthy.outside.asked

    monkeypatch.setenv("TOKEN_URL", f"{healthy.outside.url}{THROUGH_THE_PROXY}")
    said = run("doctor")
    assert said.status == 0, said.text
    assert "token" in dict(said.having("ok")) and healthy.outside.asked.count("mint") == 1


@pytest.mark.parametrize("allowed", ["", "*"])
def test_without_a_list_of_origins_no_origin_is_foreign(allowed, healthy, run):
    healthy.parameters |= {"AllowedOrigins": allowed, "PublicEndpoint": "yes"}
    healthy.outside.origins = [allowed]
    healthy.go_live(Environment={"Variables": healthy.variables | {"ALLOWED_ORIGINS": allowed}})
    if not allowed:
        healthy.outside.instead["foreign"] = (400, {"code": "invalid_request"}, {})
    said = run("doctor")
    assert said.status == 0, said.text
    skipped = {name for name, _ in said.having("skip")} - SKIPPED
    assert skipped == {"foreign origin", *(["foreign preflight"] if allowed else ["preflight", "call preflight"])}


def test_two_topics_and_a_pipeline_are_healthy(healthy, run):
    with_two_topics(healthy)
    healthy.add_pipeline()
    healthy.alarms["FailedBuildsAlarm"]["AlarmActions"] = [healthy.ids["AlarmTopic"], OWN_TOPIC]
    healthy.set_alarm("FailedBuildsAlarm")
    before_a_push = run("doctor")
    healthy.measure("AWS/CodeBuild", ["Builds"], [{"Name": "ProjectName", "Value": NAME}])
    after_a_push = run("doctor")
    for said in (before_a_push, after_a_push):
        assert said.status == 0, said.text
        lines = dict(said.having("ok"))
        assert lines["alarms"] == f"{len(healthy.alarms)}, none of them on"
        assert set(lines["alarm actions"].split(" to ")[1].split(", ")) == {"operator@example.com", "on-call@example.com"}
    counted = [
        int(re.search(r"has the (\d+)", dict(said.having("ok"))["metrics"])[1]) for said in (before_a_push, after_a_push)
    ]
    assert counted[1] == counted[0] + 1
    assert f"none of {len(healthy.alarms)} is on" in run("status").text


def test_if_all_alarms_were_deleted_only_their_own_line_is_wrong(healthy, run):
    healthy.client("cloudwatch").delete_alarms(AlarmNames=[alarm["AlarmName"] for alarm in healthy.alarms.values()])
    said = run("doctor")
    assert {name for name, _ in said.having("WRONG")} == {"alarms"} and len(said.having("WRONG")) == len(healthy.alarms), (
        said.text
    )
    skipped = dict(said.having("skip"))
    assert skipped["alarm actions"] == skipped["metrics"] == "all alarms were deleted: see alarms"
    assert f"none of 0 is on, {len(healthy.alarms)} deleted: run `make doctor`" in run("status").text


def test_without_an_address_alarms_are_sent_to_nobody(healthy, run):
    without_a_topic(healthy)
    said = run("doctor")
    assert said.status == 0, said.text
    assert dict(said.having("skip"))["alarm actions"] == "no alarm has a topic: set AlarmEmail or AlarmTopicArn to get messages"


def test_with_a_topic_alone_alarms_without_actions_are_wrong(healthy, run):
    without_a_topic(healthy)
    healthy.parameters["AlarmTopicArn"] = OWN_TOPIC
    healthy.answered.refuse("sns", "ListSubscriptionsByTopic")
    said = run("doctor")
    silent, denied = [text for name, text in said.having("WRONG") if name == "alarm actions"]
    assert said.status == 1 and "ThrottlesAlarm" in silent and "has no action" in silent, said.text
    assert "your credentials lack sns:ListSubscriptionsByTopic" in denied


def test_the_recorded_version_during_cleanup_is_the_one_with_the_current_revision(healthy, run, monkeypatch):
    healthy.parameters["Revision"] = "0a1b2c3d4e5f"
    resources = healthy.resources
    [current] = [found for found in resources() if found["ResourceType"] == "AWS::Lambda::Version"]
    former = current | {
        "LogicalResourceId": "MintFunctionVersionffffffffff",
        "PhysicalResourceId": f"{current['PhysicalResourceId'].rpartition(':')[0]}:999",
    }
    monkeypatch.setattr(healthy, "resources", lambda: [former, *resources()])
    said = run("doctor")
    assert said.status == 0, said.text


def test_without_traffic_no_metric_is_expected(healthy, run):
    real = healthy.client("cloudwatch")

    def answer(asked):
        return {"Datapoints": [] if asked["Period"] == 3600 else real.get_metric_statistics(**asked)["Datapoints"]}

    healthy.answered.answers["cloudwatch", "GetMetricStatistics"] = answer
    healthy.answered.answers["cloudwatch", "ListMetrics"] = {"Metrics": []}
    a_silence(healthy, None)
    healthy.client("logs").delete_log_stream(logGroupName=LOG, logStreamName="stream")
    said = run("doctor")
    assert said.status == 0, said.text
    assert dict(said.having("skip"))["metrics"].startswith("there was no request in the last 13 days")
    assert dict(said.having("ok"))["function log"] == "no line yet, kept 30 days"


def test_a_smaller_account_that_is_large_enough_is_told_to_the_capacity_model(healthy, run):
    healthy.answered.answers["lambda", "GetAccountSettings"] = healthy.account(500)
    said = run("doctor")
    assert said.status == 0, said.text
    assert dict(said.having("ok"))["account concurrency"].endswith(
        "about 1,234 a second; the account's limit is 500. `make capacity` assumes 1,000: give it FLAGS='--concurrency 500'"
    )


def test_drift_detection_that_takes_too_long_is_not_waited_for(healthy, run, monkeypatch):
    monkeypatch.setattr(stack, "DRIFT_SECONDS", 0)
    healthy.answered.answers["cloudformation", "DescribeStackDriftDetectionStatus"] = healthy.drift_status(
        "DETECTION_IN_PROGRESS"
    )
    said = run("doctor")
    assert said.status == 0, said.text
    assert dict(said.having("skip"))["drift"] == "CloudFormation has not finished after 0 s. Run it again later."


def test_without_the_right_to_simulate_the_role_is_skipped(healthy, run):
    healthy.answered.refuse("iam", "SimulatePrincipalPolicy", "AccessDenied")
    said = run("doctor")
    assert said.status == 0, said.text
    assert (
        dict(said.having("skip"))["role"]
        == "your credentials lack iam:SimulatePrincipalPolicy, which shows what the function may do"
    )


def action(service, operation):
    """The IAM action of an operation."""
    return "apigateway:GET" if service == "apigatewayv2" else f"{service}:{operation}"


# Needed for a failed deployment only, by CloudFormation itself for each resource, and for an alarm that is about silence.
NOT_SEEN = {
    "cloudformation:DescribeStackEvents",
    "cloudformation:DetectStackResourceDrift",
    "cloudwatch:GetMetricStatistics",
}


@pytest.mark.parametrize("checks", [CHECKS, LINES], ids=["doctor", "status"])
def test_each_check_names_the_actions_that_it_needs(checks, healthy):
    for check in checks:
        deployed = Deployed(environment.resolve(os.environ))
        healthy.answered.calls.clear()
        results = list(check.results(deployed))
        assert results and all(result.state != "WRONG" for result in results), (check.name, results)
        used = {action(*call) for call in healthy.answered.calls}
        assert used <= set(check.actions) and set(check.actions) - used <= NOT_SEEN, check.name
        # Nothing is changed.
        assert all(
            re.fullmatch(r"\w+:(Describe|Detect|Filter|Get|List|Simulate)\w+|apigateway:GET", used) for used in check.actions
        )


def test_the_page_names_the_same_checks_and_actions():
    page = (ROOT / "docs/operating.md").read_text()
    rows = re.findall(r"^\| ([\w -]+) \| [^|]+ \| ((?:`[\w-]+:\w+`(?:, )?)+|–) \|$", page, re.MULTILINE)
    everywhere = {"cloudformation:DescribeStacks"}
    assert [name for name, _ in rows] == [check.name for check in CHECKS]
    for (name, actions), check in zip(rows, CHECKS, strict=True):
        assert set(re.findall(r"`(.+?)`", actions)) == set(check.actions) - everywhere, name
    of_status = re.search(r"`make status` also needs (.+?)\.\n\n", page, re.DOTALL)[1]
    assert set(re.findall(r"`(.+?)`", of_status)) == {used for line in LINES for used in line.actions} - everywhere


def test_an_action_that_is_denied_is_named(healthy, run):
    stack_itself = {"cloudformation:DescribeStacks", "sts:GetCallerIdentity"}
    of_role = "iam:SimulatePrincipalPolicy"
    run("doctor")
    for service, operation in set(healthy.answered.calls):
        if action(service, operation) not in stack_itself | {of_role}:
            healthy.answered.refuse(service, operation)
    said = run("doctor")
    asking = {check.name: set(check.actions) - stack_itself for check in CHECKS}
    denied = dict(said.having("WRONG"))
    for name, text in denied.items():
        found = re.match(r"not checked: your credentials lack (\S+)\. Allow (\S+), or use another role\.", text)
        assert found and found[1] == found[2] and found[1] in asking[name], (name, text)
    of_secret = {"OpenAI key", "identifier key", "blocked callers", "proxy secret", "secret size", "OpenAI"}
    assert set(denied) == {name for name, actions in asking.items() if actions} - of_secret - {"stack"}, said.text
    assert {text for name, text in said.having("skip") if name in of_secret} == {"the secret cannot be read: see secret"}
    assert said.status == 1


@pytest.mark.parametrize(
    "code, message, line",
    [
        (
            "AccessDenied",
            "User: arn:x is not authorized to perform: kms:Decrypt on resource: y",
            ": your credentials lack kms:Decrypt.",
        ),
        ("ExpiredTokenException", "expired", ". The AWS credentials have expired. Sign in again"),
        (
            "ThrottlingException",
            "Rate exceeded",
            ". AWS received too many requests (GetAlias). Run the command again in a minute.",
        ),
    ],
)
def test_other_errors_of_aws_are_lines_too(code, message, line, healthy, run):
    healthy.answered.refuse("lambda", "GetAlias", code, message)
    said = run("doctor")
    assert f"not checked{line}" in dict(said.having("WRONG"))["live version"] and said.status == 1


def test_a_bug_in_a_check_is_a_line_too(healthy, run):
    healthy.answered.answers["sts", "GetCallerIdentity"] = {"Account": "1"}
    healthy.answered.changes["logs", "DescribeLogGroups"] = lambda parsed: parsed.update(logGroups=[{}])
    said = run("doctor")
    assert "the check itself failed: KeyError: 'Arn'. Report this line" in dict(said.having("WRONG"))["identity"]
    assert "the check itself failed" in dict(said.having("WRONG"))["access log"] and said.status == 1


def test_a_variable_that_the_template_computes_in_another_way_is_not_compared(healthy, run):
    template = copy.deepcopy(TEMPLATE)
    variables = template["Resources"]["MintFunction"]["Properties"]["Environment"]["Variables"]
    variables["MODEL"] = {"Fn::If": ["IsTraced", "a", "b"]}
    healthy.answered.answers["cloudformation", "GetTemplate"] = {"TemplateBody": json.dumps(template)}
    assert run("doctor").status == 0


def test_a_rotation_that_ended_leaves_its_label_on_the_version_in_use(healthy, run):
    secrets = healthy.client("secretsmanager")
    fields = secrets.get_secret_value(SecretId=healthy.ids["Secret"])["SecretString"]
    stages = ["AWSCURRENT", "AWSPENDING"]
    secrets.put_secret_value(SecretId=healthy.ids["Secret"], SecretString=fields, VersionStages=stages)
    assert run("doctor").status == 0


def test_a_connection_that_fails_is_a_line_too(healthy, run, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1")
    said = run("doctor")
    [(name, text)] = said.having("WRONG")
    assert name == "quota table" and "not checked. AWS could not be reached. Check the network" in text


def test_the_seconds_of_a_mint_are_those_of_the_capacity_model():
    assumed = options.parser("", "").parse_args([])
    assert (assumed.upstream_ms + assumed.quota_ms) / 1000 == settings.MINT_SECONDS
    assert limit("lambda_concurrency") == settings.ASSUMED_CONCURRENCY


def test_status_is_one_screen(healthy, run):
    healthy.client("dynamodb").put_item(
        TableName=TABLE, Item={"id": {"S": f"everyone/{now():%Y-%m-%d}"}, "day": {"N": "1234"}, "expires": {"N": "1"}}
    )
    until = [int(now().timestamp()) + seconds for seconds in (500, 30, -5)]
    slots = {f"slot {number}": {"S": f"{end:010} 600 handle-{number}"} for number, end in enumerate(until)}
    of_yesterday = {f"seconds {now() - datetime.timedelta(days=1):%Y-%m-%d}": {"N": "9999"}}
    minutes = {f"seconds {now():%Y-%m-%d}": {"N": "1201"}}
    healthy.client("dynamodb").put_item(TableName=TABLE, Item={"id": {"S": "calls/everyone"}} | slots | of_yesterday | minutes)
    said = run("status")
    assert said.status == 0
    lines = dict(line.split(maxsplit=1) for line in said.text.splitlines())
    assert list(lines) == [line.name for line in LINES] and len(lines) < 24
    assert lines["stack"].startswith("token-mint in eu-west-1, UPDATE_COMPLETE since 20")
    assert re.fullmatch(r"version 1, revision 0a1b2c3d4e5f, published 20\d\d-\d\d-\d\d \d\d:\d\d UTC", lines["live"])
    assert lines["minting"] == "on" and lines["key"] == "set" and lines["blocked"] == "1 caller"
    assert lines["calls"] == "2 of 25 open; 21 of 1,500 minutes since midnight UTC"
    assert lines["alarms"] == "none of 15 is on" and lines["today"] == "1,234 of 5,000 tokens since midnight UTC"
    assert lines["URL"] == f"{healthy.outside.url}/token, {healthy.outside.url}/call"
    assert not healthy.outside.asked and KEY not in said.text


def test_status_shows_what_is_not_as_usual(healthy, run):
    number = healthy.publish(Description="other")
    weights = {"AdditionalVersionWeights": {number: 0.1}}
    functions = healthy.client("lambda")
    functions.update_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="1", RoutingConfig=weights)
    functions.put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=0)
    healthy.set_secret(OPENAI_API_KEY="not set yet, run make key", BLOCKED_CALLERS=[])
    healthy.client("cloudwatch").set_alarm_state(
        AlarmName=healthy.ids["KeyRejectedAlarm"], StateValue="ALARM", StateReason="so"
    )
    healthy.answered.refuse("dynamodb", "GetItem")
    said = run("status")
    lines = dict(line.split(maxsplit=1) for line in said.text.splitlines())
    assert lines["live"].endswith(" UTC, 10 % on version 2")
    assert lines["minting"] == "paused; `make resume` ends the pause" and lines["blocked"] == "0 callers"
    assert lines["key"].startswith("not set: the secret contains a placeholder") and lines["key"].endswith("Run `make key`.")
    assert lines["alarms"] == "on: KeyRejectedAlarm"
    assert "your credentials lack dynamodb:GetItem" in lines["today"] and said.status == 0


def test_status_shows_a_keeper_that_has_stopped(healthy, run, monkeypatch):
    """CallOutlivedAlarm then has no data. The alarm of a new stack has none either."""
    name = healthy.ids["CallOutlivedAlarm"]
    healthy.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="INSUFFICIENT_DATA", StateReason="so")
    alarms_now = [dict(line.split(maxsplit=1) for line in run("status").text.splitlines())["alarms"]]
    monkeypatch.setattr(alarms, "FIRST_EVALUATION", datetime.timedelta(seconds=-1))
    alarms_now.append(dict(line.split(maxsplit=1) for line in run("status").text.splitlines())["alarms"])
    assert alarms_now == ["none of 15 is on", "on: CallOutlivedAlarm"]
    # An alarm for which missing data is good has no data in a silence.
    name = healthy.ids["ThrottlesAlarm"]
    healthy.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="INSUFFICIENT_DATA", StateReason="so")
    assert "on: CallOutlivedAlarm\n" in run("status").text


def test_a_stack_without_calls_has_no_checks_of_them(healthy, run):
    """With Endpoints=token, and one of an earlier release, which has no such parameter."""
    skipped = {"call preflight", "call route", "keeper", "keeper schedule", "keeper rounds", "keeper role", "keeper log"}
    skipped |= {"outlived calls"}
    without = "this stack has no calls: Endpoints is token, or it was deployed from an earlier release"
    for parameters in ({"Endpoints": "token"}, {}):
        healthy.parameters.pop("Endpoints", None)
        healthy.parameters |= parameters
        for name in [name for name in healthy.ids if name.startswith(("Keeper", "CallOutlived", "DailyMinutes"))]:
            del healthy.ids[name]
        if not parameters:
            healthy.answered.answers["cloudformation", "GetTemplate"] = {"TemplateBody": json.dumps(without_calls())}
        variables = {name: value for name, value in healthy.variables.items() if "CALL" not in name and name != "ENDPOINTS"}
        live = healthy.variables | {"ENDPOINTS": "token"} if parameters else variables
        healthy.go_live(Environment={"Variables": live})
        said = run("doctor")
        assert said.status == 0, said.text
        assert {name for name, text in said.having("skip") if text == without} == skipped
        lines = dict(line.split(maxsplit=1) for line in run("status").text.splitlines())
        assert lines["calls"] == "none: Endpoints is token, or the stack was deployed from a release without calls"
        assert lines["URL"] == f"{healthy.outside.url}/token"


def without_calls():
    """The template of an earlier release."""
    template = copy.deepcopy(TEMPLATE)
    variables = template["Resources"]["MintFunction"]["Properties"]["Environment"]["Variables"]
    for name in [name for name in variables if "CALL" in name or name == "ENDPOINTS"]:
        del variables[name]
    return template


def test_a_stack_with_calls_alone_is_checked_through_their_route(healthy, run):
    healthy.parameters["Endpoints"] = "call"
    healthy.go_live(Environment={"Variables": healthy.variables | {"ENDPOINTS": "call"}})
    healthy.outside.has_tokens = False
    said = run("doctor")
    assert said.status == 0, said.text
    closed = {name for name, text in said.having("skip") if text == "Endpoints is call: there is no POST /token"}
    assert closed == {"token route", "proxy", "token"}
    assert dict(said.having("ok"))["API"].startswith(f"{healthy.outside.url}/call answers")
    assert dict(line.split(maxsplit=1) for line in run("status").text.splitlines())["URL"] == f"{healthy.outside.url}/call"


def test_after_a_deployment_the_keeper_has_a_while_for_its_first_rounds(healthy, run):
    measured("Invocations", None)(healthy)
    healthy.updated = now() - datetime.timedelta(minutes=3)
    said = run("doctor")
    assert said.status == 0, said.text
    assert dict(said.having("skip"))["keeper rounds"].startswith("0 in 15 minutes: the stack was changed a moment ago")


def test_status_of_a_stack_that_does_not_count(healthy, run):
    healthy.parameters["DailyCallMinutes"] = "0"
    healthy.parameters["DailyMintLimit"] = "0"
    healthy.client("lambda").put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=7)
    lines = dict(line.split(maxsplit=1) for line in run("status").text.splitlines())
    assert lines["today"] == "no total is counted: DailyMintLimit is 0" and lines["minting"] == "on, up to 7 at once"
    assert lines["calls"] == "0 of 25 open; 0 minutes since midnight UTC"
