"""The secret: the operator's commands, `make doctor` and the function agree about what can be read.

function/src/secret/contents.rs reads the same samples.
"""

import hmac
import json
import types

import pytest
from conftest import ROOT

from operate import callers, contents, key, secret
from operate.checks import secret as checks
from operate.checks.check import WRONG
from operate.checks.deployed import Deployed
from operate.error import CommandError

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:token-mint-AbCdEf"
SAMPLES = json.loads((ROOT / "function/tests/secrets.json").read_text())
USABLE = [sample for sample in SAMPLES if sample["key"]]
OTHER = "0c" * 32
# A stack without AuthIssuer.
SIGNED_OUT = types.SimpleNamespace(parameters={})


def name(sample):
    return sample["secret"][:60] or "empty"


def fields(sample):
    return secret.Fields(secret.editable(contents.fields(sample["secret"])), ARN)


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_a_sample_is_read_as_the_function_reads_it(sample):
    derived = hmac.digest(ARN.encode(), b"token-mint safety identifier", "sha256")
    try:
        found = contents.fields(sample["secret"])
        read = contents.key(found)
    except contents.Unusable as unusable:
        assert (None, [str(unusable)]) == (sample["key"], sample["faults"])
    else:
        blocked, readable = contents.blocked(found)
        assert (read, sorted(blocked)) == (sample["key"], sample.get("blocked", []))
        assert sorted(contents.faults(found)) == sorted(sample.get("faults", []))
        assert readable is not any("BLOCKED_CALLERS" in fault for fault in sample.get("faults", []))
        own = sample.get("identifier_key", "").encode()
        assert contents.identifier_key(found, ARN) == (own or derived)


class Sample(Deployed):
    """A stack with this secret, without AWS."""

    def __init__(self, text):
        self.secret_text = text
        self.parameters = {"OpenAIBaseUrl": "https://llm.example.com/v1", "ProxyAddressHeader": ""}


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_doctor_finds_the_faults_of_the_function_and_no_others(sample):
    def wrong(*checks):
        return any(result.state == WRONG for check in checks for result in check.results(Sample(sample["secret"])))

    faults = sample.get("faults", [])
    former = any("PREVIOUS_OPENAI_API_KEY" in fault for fault in faults)
    assert wrong(checks.readable, checks.openai_key) is (sample["key"] is None or former)
    if sample["key"]:
        assert wrong(checks.blocked_callers) is any("BLOCKED_CALLERS" in fault for fault in faults)
        assert wrong(checks.proxy_secret) is any("PROXY_SECRET" in fault for fault in faults)
        [result] = checks.identifier_key.results(Sample(sample["secret"]))
        assert ("is not text" in result.text) is any("SAFETY_IDENTIFIER_KEY" in fault for fault in faults)


@pytest.mark.parametrize("sample", USABLE, ids=name)
def test_the_commands_keep_the_blocked_callers_and_store_a_list(sample, monkeypatch):
    monkeypatch.setenv("CALLER", OTHER)
    before = fields(sample)
    assert before[contents.KEY_FIELD] == sample["key"]
    listed = before.get(contents.BLOCKED_FIELD)
    try:
        after = callers.with_block(SIGNED_OUT, before)
    except CommandError as refused:
        assert "is not a list of identifiers" in str(refused) and sample["faults"]
        return
    blocked = after[contents.BLOCKED_FIELD]
    assert isinstance(blocked, list) and blocked[-1] == OTHER
    assert sorted(contents.blocked(after)[0]) == sorted([*sample.get("blocked", []), OTHER])
    if isinstance(listed, list) and "faults" in sample:
        assert blocked[:-1] == listed, "entries that match no caller stay"
    monkeypatch.setenv("CALLER", OTHER)
    again = callers.without_block(SIGNED_OUT, after)
    assert sorted(contents.blocked(again)[0]) == sample.get("blocked", [])


class Store:
    """A Secrets Manager with one secret."""

    def __init__(self, text):
        self.text = text

    def get_secret_value(self, SecretId, VersionId=None):
        return {"ARN": ARN, "VersionId": "1", "SecretString": self.text, "VersionStages": ["AWSCURRENT"]}

    def put_secret_value(self, SecretId, ClientRequestToken, SecretString, VersionStages):
        self.new = SecretString

    def update_secret_version_stage(self, SecretId, VersionStage, RemoveFromVersionId, MoveToVersionId=None):
        if VersionStage == "AWSCURRENT":
            self.text = self.new


def stack(text):
    parameters = {"KeyTtlSeconds": "300", "OpenAIBaseUrl": "https://llm.example.com/v1"}
    return types.SimpleNamespace(secrets=Store(text), secret="token-mint", parameters=parameters)


NEW = "sk-proj-0123456789-of-the-tests"


@pytest.mark.parametrize(
    ("typed", "stored"),
    [(f"{NEW}\n", NEW), (f" '{NEW}' ", NEW), (f'"{NEW}"', NEW), (f"OPENAI_API_KEY={NEW}", None), (f"Bearer {NEW}", None)],
)
def test_the_command_accepts_the_keys_that_the_function_accepts(monkeypatch, typed, stored):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(isatty=lambda: False, readline=lambda: typed))
    of = stack("sk-old")
    asked = types.SimpleNamespace(unchecked=True)
    if stored:
        key.key(of, asked)
        assert json.loads(of.secrets.text) == {"OPENAI_API_KEY": stored, "PREVIOUS_OPENAI_API_KEY": "sk-old"}
    else:
        with pytest.raises(CommandError, match=r"Not a valid key: the key .*Nothing was changed\."):
            key.key(of, asked)
        assert of.secrets.text == "sk-old"


@pytest.mark.parametrize(
    ("listed", "stored"),
    [("", []), (f"{OTHER}", [OTHER]), (f"{OTHER}, {'0A' * 32}", [OTHER, "0a" * 32]), ("everyone", "everyone"), (5, 5)],
)
def test_a_new_key_destroys_no_block_list(monkeypatch, capsys, listed, stored):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(isatty=lambda: False, readline=lambda: NEW))
    of = stack(json.dumps({"OPENAI_API_KEY": "sk-old", "BLOCKED_CALLERS": listed}))
    key.key(of, types.SimpleNamespace(unchecked=True))
    former = {"PREVIOUS_OPENAI_API_KEY": "sk-old"}
    assert json.loads(of.secrets.text) == {"OPENAI_API_KEY": NEW, "BLOCKED_CALLERS": stored} | former
    assert ("However, BLOCKED_CALLERS is not a list" in capsys.readouterr().out) is (not isinstance(stored, list))


@pytest.mark.parametrize("parameters", [{}, {"MaxCallSeconds": "3600"}])
def test_a_new_key_says_how_long_calls_need_the_one_before(monkeypatch, capsys, parameters):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(isatty=lambda: False, readline=lambda: NEW))
    for text in ("not set yet, run make key", "sk-old"):
        of = stack(json.dumps({"OPENAI_API_KEY": text}))
        of.parameters |= parameters
        key.key(of, types.SimpleNamespace(unchecked=True))
        is_said = "3,600 s after that time: only keys of its project" in capsys.readouterr().out
        assert is_said is (text == "sk-old" and bool(parameters)), text


def test_an_identifier_without_a_key_of_its_own_survives_a_new_openai_key(monkeypatch):
    monkeypatch.setenv("ADDRESS", "203.0.113.9")
    stored = [secret.read(stack(text)) for text in ("sk-a", "sk-b", "not set yet")]
    identifiers = {callers.chosen_identifier(SIGNED_OUT, fields, "ADDRESS") for fields in stored}
    derived = hmac.digest(ARN.encode(), b"token-mint safety identifier", "sha256")
    assert identifiers == {hmac.new(derived, b"address:203.0.113.9", "sha256").hexdigest()}
