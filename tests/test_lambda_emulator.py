"""The release binary in Lambda's emulator, with its secret in a stand-in of Secrets Manager."""

import base64
import json
import time

import pytest
from conftest import ROOT, post

EVENTS = sorted((ROOT / "function/events").glob("*.json"))


def test_every_kind_of_event_gets_a_token(aws, in_lambda, simulator):
    endpoint, session = aws
    secret = {"OPENAI_API_KEY": "sk-from-the-secret\n", "SAFETY_IDENTIFIER_KEY": "a random key"}
    made = session.client("secretsmanager", endpoint_url=endpoint).create_secret(
        Name="token-mint", SecretString=json.dumps(secret)
    )
    program, invoke = in_lambda(
        OPENAI_BASE_URL=f"{simulator}/v1",
        OPENAI_SECRET_ARN=made["ARN"],
        AWS_ENDPOINT_URL_SECRETS_MANAGER=endpoint,
    )
    assert len(EVENTS) == 5
    for event in EVENTS:
        answer = json.loads(invoke(event.read_bytes()))
        assert answer["statusCode"] == 200, f"{event.name}: {answer}"
        token = json.loads(answer["body"])
        assert token["success"] is True
        assert token["ephemeralToken"].startswith("ek_")
        assert 3590 <= token["expiresAt"] - time.time() <= 3600, "one hour ahead by default"
    seen = json.loads(post(f"{simulator}/simulator/requests", None, method="GET")[2])
    assert len(seen) == len(EVENTS)
    log = program.log.read_text()
    records = [json.loads(line) for line in log.splitlines() if line.startswith('{"_aws"')]
    assert [record["Code"] for record in records] == ["ok"] * len(EVENTS)
    assert "sk-from-the-secret" not in log and "a random key" not in log and "ek_" not in log


def test_a_missing_secret_is_a_refusal_and_not_a_crash(aws, in_lambda, simulator):
    endpoint, session = aws
    program, invoke = in_lambda(
        OPENAI_BASE_URL=f"{simulator}/v1",
        OPENAI_SECRET_ARN="token-mint",
        AWS_ENDPOINT_URL_SECRETS_MANAGER=endpoint,
    )
    answer = json.loads(invoke(EVENTS[0].read_bytes()))
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (503, "key_unavailable")
    assert "ResourceNotFoundException" in program.log.read_text()

    session.client("secretsmanager", endpoint_url=endpoint).create_secret(Name="token-mint", SecretString="sk-plain-text")
    answer = json.loads(invoke(EVENTS[0].read_bytes()))
    assert answer["statusCode"] == 200, "the next request reads the secret again"


@pytest.mark.parametrize("event", [b"{}", b"null", b'{"key1": "value1"}', b'{"httpMethod": "GET"}'])
def test_an_event_without_a_request_is_refused_without_a_function_error(in_lambda, simulator, event):
    _, invoke = in_lambda(OPENAI_BASE_URL=f"{simulator}/v1", OPENAI_API_KEY="sk-test")
    answer = json.loads(invoke(event))
    assert answer["statusCode"] in (400, 405), answer
    assert "errorType" not in answer


@pytest.mark.parametrize("context", ["{", "text", '{"client": {"installation_id": "1"}}', '{"custom": {"a": 1}}'])
def test_no_client_context_ends_the_function(in_lambda, simulator, context):
    program, invoke = in_lambda(OPENAI_BASE_URL=f"{simulator}/v1", OPENAI_API_KEY="sk-test")
    event = b'{"httpMethod": "POST", "body": "{}"}'
    header = {"X-Amz-Client-Context": base64.b64encode(context.encode()).decode()}
    for headers in (header, {}, header):
        assert json.loads(invoke(event, **headers))["statusCode"] == 200
    assert program.log.read_text().count('"ColdStarts":1') == 1, "one process has answered all of them"
