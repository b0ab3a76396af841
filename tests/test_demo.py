"""`make demo`: the program, its page, and its error messages."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import time

import pytest
from conftest import DEMO_IS_UP, ROOT, TARGET, free_port, post, skip
from offers import OFFERS
from samtranslator.yaml_helper import yaml_parse


def test_it_answers_within_a_second_of_its_start(demo):
    # The machine may be busy once or twice.
    for _ in range(3):
        program, port = demo()
        up = time.monotonic()
        status, headers, text = post(f"http://127.0.0.1:{port}/token")
        took = time.monotonic() - up
        if took < 1:
            break
    assert took < 1
    token = json.loads(text)
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert token["value"] == token["ephemeralToken"] and token["value"].startswith("ek_")
    printed = program.log.read_text()
    assert f"Open  http://127.0.0.1:{port}" in printed
    assert f"curl -X POST http://127.0.0.1:{port}/token" in printed
    assert f"curl -X POST http://127.0.0.1:{port}/simulator/faults" in printed


def test_all_files_of_the_page_are_served_and_load_nothing_external(demo):
    _, port = demo()
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    files = sorted((ROOT / "function/examples/demo/page").iterdir())
    assert len(files) > 5
    for file in files:
        path = "" if file.name == "index.html" else file.name
        status, headers, text = post(f"http://127.0.0.1:{port}/{path}", None, method="GET")
        assert (status, headers.get_content_type(), text) == (200, kinds[file.suffix], file.read_text()), file.name
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r"""(src|href)=["']https?:|url\(|import .*["']https?:""", text), file.name


def test_the_page_may_connect_only_to_itself_and_the_configured_openai(demo):
    _, port = demo(OPENAI_API_KEY="sk-my-own", OPENAI_BASE_URL="https://example.openai.azure.com/openai/v1")
    policy = post(f"http://127.0.0.1:{port}/", None, method="GET")[1]["Content-Security-Policy"]
    assert "default-src 'self';" in policy and "unsafe" not in policy
    assert "connect-src 'self' https://example.openai.azure.com;" in policy


def test_the_function_accepts_every_option_of_the_page(demo):
    _, port = demo(MAX_CALL_SECONDS="300")
    answer = json.loads(post(f"http://127.0.0.1:{port}/profiles", None, method="GET")[2])
    assert answer["simulated"]
    configured = json.loads((ROOT / "function/profiles.json").read_text())
    assert set(answer["profiles"]) == set(configured)

    def request_token(body):
        status, _, text = post(f"http://127.0.0.1:{port}/token", json.dumps(body).encode())
        return status, json.loads(text).get("code")

    def place_call(body, mode):
        body = json.dumps({"sdp": OFFERS[mode], **body}).encode()
        status, headers, text = post(f"http://127.0.0.1:{port}/call", body, {"Content-Type": "application/json"})
        if status == 201:
            assert post(f"http://127.0.0.1:{port}{headers['Location']}", method="DELETE")[0] == 200
        return status, json.loads(text).get("code")

    for name, profile in answer["profiles"].items():
        assert profile["kind"] == configured[name]["kind"]
        assert {field["name"] for field in profile["fields"]} == set(configured[name]["caller_may_set"])
        call = configured[name]["call"]
        assert profile["call"] == {"mode": call["mode"], "max_seconds": 300}, "the shorter of the two limits"
        assert profile["token"] == (call["mode"] == "open")
        bodies = [{"profile": name}]
        for field in profile["fields"]:
            [(rule, limits)] = field["allow"].items()
            values = limits if rule == "one_of" else limits.values()
            bodies += [{"profile": name, field["name"]: value} for value in values]
        for body in bodies:
            assert request_token(body) == ((200, None) if profile["token"] else (400, "invalid_request")), body
            assert place_call(body, call["mode"]) == (201, None), body
    assert "housing office" in str(configured)
    assert "housing office" not in json.dumps(answer), "the page gets no instructions"


@pytest.mark.parametrize("endpoint", ["token", "call"])
def test_the_page_gets_only_the_profiles_and_ways_that_the_open_endpoint_has(demo, endpoint):
    _, port = demo(ENDPOINTS=endpoint)
    profiles = json.loads(post(f"http://127.0.0.1:{port}/profiles", None, method="GET")[2])["profiles"]
    assert ("de-escalation" in profiles) == (endpoint == "call")
    assert {profile["token"] for profile in profiles.values()} == {endpoint == "token"}
    assert {profile["call"] is not None for profile in profiles.values()} == {endpoint == "call"}


def test_cors_answers_are_those_of_the_deployed_api(demo):
    _, port = demo(ALLOWED_ORIGINS="https://app.example.com")
    url = f"http://127.0.0.1:{port}/token"
    requested = "content-type,authorization,x-openai-agents-sdk"
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": requested}
    allowed, foreign = {"Origin": "https://app.example.com"}, {"Origin": "https://evil.example"}

    status, headers, _ = post(url, None, {**preflight, **allowed}, "OPTIONS")
    assert status == 204
    assert headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    # The headers are those that the template configures for an API with calls.
    cors = yaml_parse((ROOT / "template.yaml").read_text())["Resources"]["Api"]["Properties"]["CorsConfiguration"]["Fn::If"][1]
    assert headers["Access-Control-Max-Age"] == str(cors["MaxAge"])
    condition, methods, _ = cors["AllowMethods"]["Fn::If"]
    assert condition == "HasCalls"
    assert headers["Access-Control-Allow-Methods"] == ",".join(methods) == "POST,DELETE"
    condition, with_calls, _ = cors["AllowHeaders"]["Fn::If"]
    assert condition == "HasCalls"
    assert headers["Access-Control-Allow-Headers"] == ",".join(with_calls) == requested
    condition, exposed, _ = cors["ExposeHeaders"]["Fn::If"]
    assert condition == "HasCalls"
    status, headers, _ = post(url, b"", allowed)
    assert headers["Access-Control-Expose-Headers"] == ",".join(exposed)
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, "https://app.example.com")

    assert "Access-Control-Allow-Origin" not in post(url, None, {**preflight, **foreign}, "OPTIONS")[1]
    status, headers, text = post(url, b"", foreign)
    assert (status, json.loads(text)["code"]) == (403, "origin_not_allowed")
    assert "Access-Control-Allow-Origin" not in headers


def test_an_own_key_is_used_at_the_configured_openai(demo, simulator):
    program, port = demo(OPENAI_API_KEY="sk-my-own", OPENAI_BASE_URL=f"{simulator}/v1")
    assert post(f"http://127.0.0.1:{port}/token")[0] == 200
    assert len(json.loads(post(f"{simulator}/simulator/requests", None, method="GET")[2])) == 1
    assert "simulated" not in program.log.read_text()
    assert "sk-my-own" not in program.log.read_text()


def test_with_an_own_key_other_pages_get_tokens_only_if_allowed(demo, simulator):
    own = {"OPENAI_API_KEY": "sk-my-own", "OPENAI_BASE_URL": f"{simulator}/v1"}

    def request_token(port, origin):
        status, headers, _ = post(f"http://127.0.0.1:{port}/token", headers={"Origin": origin})
        return status, headers["Access-Control-Allow-Origin"]

    _, port = demo(**own)
    assert request_token(port, "https://evil.example") == (403, None)
    for page in (f"http://127.0.0.1:{port}", f"http://localhost:{port}"):
        assert request_token(port, page) == (200, page)
    allowed = "https://app.example.com"
    _, port = demo(**own, ALLOWED_ORIGINS=allowed)
    for page in (allowed, f"http://127.0.0.1:{port}", f"http://localhost:{port}"):
        assert request_token(port, page) == (200, page)
    assert request_token(port, "https://evil.example") == (403, None)
    _, port = demo(**own, ALLOWED_ORIGINS="*")
    assert request_token(port, "https://evil.example") == (200, "*")


def test_each_demo_has_its_own_faults_and_a_demo_with_a_key_has_none(demo, simulator):
    first, second = demo()[1], demo()[1]
    fault = b'{"fault": "insufficient-quota"}'
    assert post(f"http://127.0.0.1:{second}/simulator/faults", fault)[0] == 204
    assert post(f"http://127.0.0.1:{first}/token")[0] == 200
    assert json.loads(post(f"http://127.0.0.1:{second}/token")[2])["code"] == "openai_out_of_quota"
    assert json.loads(post(f"http://127.0.0.1:{first}/simulator/calls", None, method="GET")[2]) == {"open": [], "ended": []}
    program, port = demo(OPENAI_API_KEY="sk-my-own", OPENAI_BASE_URL=f"{simulator}/v1")
    assert post(f"http://127.0.0.1:{port}/simulator/faults", fault)[0] == 404
    assert post(f"http://127.0.0.1:{port}/simulator/requests", None, method="GET")[0] == 404
    assert "/simulator/" not in program.log.read_text()


def test_ctrl_c_stops_it_cleanly(start):
    port = free_port()
    program = start([TARGET / "debug/examples/demo"], "demo", PORT=str(port))
    program.wait_for_text(DEMO_IS_UP)
    with socket.create_connection(("127.0.0.1", port)):
        assert program.stop(signal.SIGINT) == 0, "even while a browser holds a connection"
    assert "panicked" not in program.log.read_text()


def test_a_port_in_use_gives_an_error_with_a_remedy(start):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        program = start([TARGET / "debug/examples/demo"], "demo", PORT=str(port))
        assert program.process.wait(timeout=10) == 1
    expected = f"Port {port} is in use. Stop the program that uses it, or run `make demo PORT=8090`.\n"
    assert program.log.read_text() == expected


def test_a_port_without_permission_gives_an_error_with_a_remedy(start):
    if not shutil.which("setpriv") or pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text() != "1024\n":
        skip("the test of a port without permission needs setpriv and Linux's default range of low ports")
    drop_permission = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]
    root = os.geteuid() == 0
    program = start([*(drop_permission if root else []), TARGET / "debug/examples/demo"], "demo", PORT="80")
    assert program.process.wait(timeout=10) == 1
    expected = "No permission to listen on port 80: ports below 1024 require root. Run `make demo PORT=8090`.\n"
    assert program.log.read_text() == expected


@pytest.mark.parametrize("placeholder", ["sk-…", "sk-...", "<your key>", "your-api-key"])
def test_a_placeholder_instead_of_a_key_gives_an_error_that_says_so(start, placeholder):
    program = start([TARGET / "debug/examples/demo"], "demo", OPENAI_API_KEY=placeholder, PORT=str(free_port()))
    assert program.process.wait(timeout=10) == 1
    expected = "OPENAI_API_KEY still has a placeholder in it: expected your own OpenAI API key in its place\n"
    assert program.log.read_text() == expected


def test_a_malformed_port_gives_an_error(start):
    program = start([TARGET / "debug/examples/demo"], "demo", PORT="eighty")
    assert program.process.wait(timeout=10) == 1
    assert program.log.read_text() == 'PORT is "eighty": expected a port number from 0 to 65535\n'
