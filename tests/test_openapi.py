"""docs/openapi.json: made from the code's codes and profiles, and true of the demo, by thousands of made-up requests."""

import collections
import json
import pathlib
import re
import subprocess
import sys

import jsonschema
import pytest
from conftest import ROOT, TARGET, TOOLCHAIN, free_port, post

from docs import openapi

DOCUMENT = json.loads((ROOT / "docs/openapi.json").read_text())
OPERATIONS = {
    operation["operationId"]: operation for path in DOCUMENT["paths"].values() for operation in path.values()
}  # fmt: skip
PROFILES = json.loads((ROOT / "function/profiles.json").read_text())
DESCRIPTION = json.loads((ROOT / "function/description.json").read_text())


def test_the_document_is_new():
    assert (ROOT / "docs/openapi.json").read_text() == openapi.text(), "run `python3 -m docs.openapi`"


def codes(operation):
    """The status and code of each refusal of an operation."""
    for status, response in operation["responses"].items():
        schema = response["content"]["application/json"]["schema"]
        for form in schema.get("oneOf", [schema]):
            for part in form.get("allOf", []):
                for code in part.get("properties", {}).get("code", {}).get("enum", []):
                    yield int(status), code


def test_every_refusal_of_the_function_is_in_the_document():
    described = {(refusal["status"], refusal["code"]) for refusal in DESCRIPTION["refusals"]}
    found = {name: set(codes(operation)) for name, operation in OPERATIONS.items()}
    assert set.union(*found.values()) == described
    assert DOCUMENT["components"]["schemas"]["Refusal"]["properties"]["code"]["enum"] == sorted({code for _, code in described})
    # What no call can be refused for without one, and no token at all.
    assert found["createToken"] < found["createCall"]
    assert {code for _, code in found["createCall"] - found["createToken"]} >= {"calls_at_once", "offer_not_allowed"}
    assert (404, "call_not_found") in found["endCall"] - found["createCall"]
    assert set(openapi.ROUTES) | openapi.WAITS <= {code for _, code in described}


def test_the_bodies_are_those_of_the_profiles():
    """Read by other rules than those of the program."""
    endpoints = {"createToken": "/token", "createCall": "/call"}
    for name, endpoint in endpoints.items():
        variants = OPERATIONS[name]["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
        assert {variant["title"] for variant in variants} == {
            profile
            for profile, given in PROFILES.items()
            if ("call" in given if endpoint == "/call" else given.get("call", {}).get("mode") != "locked")
        }
        for variant in variants:
            properties = set(variant["properties"]) - {"profile", "sdp", "dcid"}
            assert properties == set(PROFILES[variant["title"]]["caller_may_set"])
            for field in properties:
                [(rule, limits)] = PROFILES[variant["title"]]["caller_may_set"][field]["allow"].items()
                good = list(limits) if rule == "one_of" else list(limits.values())
                for value in good:
                    jsonschema.validate(value, variant["properties"][field])
                bad = "no such word" if rule == "one_of" else limits["to"] + 1
                with pytest.raises(jsonschema.ValidationError):
                    jsonschema.validate(bad, variant["properties"][field])
    assert len(variants) == 3


def test_the_types_of_the_npm_package_have_the_fields_of_the_answers():
    types = (ROOT / "client/index.d.ts").read_text()
    for interface, name in (("Token", "Token"), ("OpenedCall", "Call")):
        body = re.search(rf"interface {interface} extends Timed \{{\n(.*?)^\}}", types, re.MULTILINE | re.DOTALL)[1]
        fields = set(re.findall(r"^  readonly (\w+):", body, re.MULTILINE)) | {"expiresAt"}
        assert fields == set(DOCUMENT["components"]["schemas"][name]["properties"])


def test_the_demo_answers_as_the_document_says(demo, start, tmp_path):
    upstream = free_port()
    # The offers are no browser's, so their calls stay open until the simulator gives them up.
    simulator = [TARGET / "debug/openai-simulator", "--port", upstream, "--max-calls", 10_000]
    start(simulator, "openai").wait_for_port(upstream)
    _, port = demo(
        OPENAI_API_KEY="sk-my-own",
        OPENAI_BASE_URL=f"http://127.0.0.1:{upstream}/v1",
        CALLS_AT_ONCE="0",
        CALLS_AT_ONCE_FOR_ALL="1000",
        CALL_MINUTES_PER_DAY="0",
        DAILY_CALL_MINUTES="0",
    )
    ran = subprocess.run(
        [
            pathlib.Path(sys.executable).parent / "schemathesis",
            f"--config-file={ROOT}/tests/schemathesis.toml",
            "run",
            ROOT / "docs/openapi.json",
            f"--url=http://127.0.0.1:{port}",
            "--max-examples=100",
            "--seed=1",
            "--continue-on-failure",
        ],
        cwd=tmp_path,
        env=TOOLCHAIN | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    # The requests were not all refused.
    calls = json.loads(post(f"http://127.0.0.1:{upstream}/simulator/calls", None, method="GET")[2])
    reasons = collections.Counter(call["reason"] for call in calls["ended"])
    assert reasons["hung-up"] > 20 and len(calls["open"]) + len(calls["ended"]) > 50
    seen = json.loads(post(f"http://127.0.0.1:{upstream}/simulator/requests", None, method="GET")[2])
    assert sum(request["path"].endswith("/client_secrets") for request in seen) > 20
