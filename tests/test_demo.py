"""`make demo`: the program, its page, and what it says when something is wrong."""

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
from samtranslator.yaml_helper import yaml_parse


def test_it_answers_within_a_second_of_being_up(demo):
    program, port = demo()
    up = time.monotonic()
    status, headers, text = post(f"http://127.0.0.1:{port}/token")
    assert time.monotonic() - up < 1
    token = json.loads(text)
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    assert token["value"] == token["ephemeralToken"] and token["value"].startswith("ek_")
    printed = program.log.read_text()
    assert f"Open  http://127.0.0.1:{port}" in printed
    assert f"curl -X POST http://127.0.0.1:{port}/token" in printed
    assert f"curl -X POST http://127.0.0.1:{port}/simulator/faults" in printed


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(demo):
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


def test_the_page_may_connect_to_itself_and_to_the_openai_that_is_configured(demo):
    _, port = demo(OPENAI_API_KEY="sk-my-own", OPENAI_BASE_URL="https://example.openai.azure.com/openai/v1")
    policy = post(f"http://127.0.0.1:{port}/", None, method="GET")[1]["Content-Security-Policy"]
    assert "default-src 'self';" in policy and "unsafe" not in policy
    assert "connect-src 'self' https://example.openai.azure.com;" in policy


def test_what_the_page_offers_is_what_the_mint_takes(demo):
    _, port = demo()
    offered = json.loads(post(f"http://127.0.0.1:{port}/profiles", None, method="GET")[2])
    assert offered["simulated"]
    configured = json.loads((ROOT / "function/profiles.json").read_text())
    assert set(offered["profiles"]) == set(configured)
    for name, profile in offered["profiles"].items():
        assert profile["kind"] == configured[name]["kind"]
        assert {field["name"] for field in profile["fields"]} == set(configured[name]["caller_may_set"])
        for field in profile["fields"]:
            [(rule, limits)] = field["allow"].items()
            for value in limits if rule == "one_of" else limits.values():
                asked = json.dumps({"profile": name, field["name"]: value})
                assert post(f"http://127.0.0.1:{port}/token", asked.encode())[0] == 200, asked
    told = json.dumps(offered)
    assert "housing office" in str(configured) and "housing office" not in told, "the prompt stays where it is"


def test_cors_is_answered_as_the_deployed_api_answers_it(demo):
    _, port = demo(ALLOWED_ORIGINS="https://app.example.com")
    url = f"http://127.0.0.1:{port}/token"
    asked = "content-type,authorization"
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked}
    allowed, foreign = {"Origin": "https://app.example.com"}, {"Origin": "https://evil.example"}

    status, headers, _ = post(url, None, {**preflight, **allowed}, "OPTIONS")
    assert status == 204
    assert headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    # What a browser is told is what the template has API Gateway tell it where users sign in.
    cors = yaml_parse((ROOT / "template.yaml").read_text())["Resources"]["Api"]["Properties"]["CorsConfiguration"]["Fn::If"][1]
    assert headers["Access-Control-Max-Age"] == str(cors["MaxAge"])
    assert headers["Access-Control-Allow-Methods"] == ",".join(cors["AllowMethods"]) == "POST"
    condition, with_sign_in, without = cors["AllowHeaders"]["Fn::If"]
    assert condition == "HasAuth" and set(without) < set(with_sign_in)
    assert headers["Access-Control-Allow-Headers"] == ",".join(with_sign_in) == asked
    status, headers, _ = post(url, b"", allowed)
    assert headers["Access-Control-Expose-Headers"] == ",".join(cors["ExposeHeaders"])
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, "https://app.example.com")

    assert "Access-Control-Allow-Origin" not in post(url, None, {**preflight, **foreign}, "OPTIONS")[1]
    status, headers, text = post(url, b"", foreign)
    assert (status, json.loads(text)["code"]) == (403, "origin_not_allowed")
    assert "Access-Control-Allow-Origin" not in headers


def test_a_key_of_one_s_own_goes_to_the_openai_that_is_configured(demo, simulator):
    program, port = demo(OPENAI_API_KEY="sk-my-own", OPENAI_BASE_URL=f"{simulator}/v1")
    assert post(f"http://127.0.0.1:{port}/token")[0] == 200
    assert len(json.loads(post(f"{simulator}/simulator/requests", None, method="GET")[2])) == 1
    assert "simulated" not in program.log.read_text()
    assert "sk-my-own" not in program.log.read_text()


def test_with_a_key_of_one_s_own_no_other_page_of_the_browser_gets_a_token_unless_it_is_named(demo, simulator):
    own = {"OPENAI_API_KEY": "sk-my-own", "OPENAI_BASE_URL": f"{simulator}/v1"}

    def ask(port, origin):
        status, headers, _ = post(f"http://127.0.0.1:{port}/token", headers={"Origin": origin})
        return status, headers["Access-Control-Allow-Origin"]

    _, port = demo(**own)
    assert ask(port, "https://evil.example") == (403, None)
    for page in (f"http://127.0.0.1:{port}", f"http://localhost:{port}"):
        assert ask(port, page) == (200, page)
    named = "https://app.example.com"
    _, port = demo(**own, ALLOWED_ORIGINS=named)
    for page in (named, f"http://127.0.0.1:{port}", f"http://localhost:{port}"):
        assert ask(port, page) == (200, page)
    assert ask(port, "https://evil.example") == (403, None)
    _, port = demo(**own, ALLOWED_ORIGINS="*")
    assert ask(port, "https://evil.example") == (200, "*")


def test_each_demo_has_faults_of_its_own_and_one_with_a_real_key_has_none(demo, simulator):
    first, second = demo()[1], demo()[1]
    planned = b'{"fault": "insufficient-quota"}'
    assert post(f"http://127.0.0.1:{second}/simulator/faults", planned)[0] == 204
    assert post(f"http://127.0.0.1:{first}/token")[0] == 200
    assert json.loads(post(f"http://127.0.0.1:{second}/token")[2])["code"] == "openai_out_of_quota"
    program, port = demo(OPENAI_API_KEY="sk-my-own", OPENAI_BASE_URL=f"{simulator}/v1")
    assert post(f"http://127.0.0.1:{port}/simulator/faults", planned)[0] == 404
    assert post(f"http://127.0.0.1:{port}/simulator/requests", None, method="GET")[0] == 404
    assert "/simulator/" not in program.log.read_text()


def test_ctrl_c_ends_it_cleanly(start):
    port = free_port()
    program = start([TARGET / "debug/examples/demo"], "demo", PORT=str(port))
    program.wait_for_text(DEMO_IS_UP)
    with socket.create_connection(("127.0.0.1", port)):
        assert program.stop(signal.SIGINT) == 0, "even while a browser holds a connection"
    assert "panicked" not in program.log.read_text()


def test_a_taken_port_is_a_sentence_with_the_way_out(start):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        program = start([TARGET / "debug/examples/demo"], "demo", PORT=str(port))
        assert program.process.wait(timeout=10) == 1
    said = program.log.read_text().splitlines()
    assert said == [f"Port {port} is taken: end the program that listens there, or run `make demo PORT=8090`."]


def test_a_port_without_the_right_to_it_is_another_sentence(start):
    if not shutil.which("setpriv") or pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text() != "1024\n":
        skip("giving up the right to low ports needs setpriv and Linux's own rule for them")
    without = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]
    root = os.geteuid() == 0
    program = start([*(without if root else []), TARGET / "debug/examples/demo"], "demo", PORT="80")
    assert program.process.wait(timeout=10) == 1
    wanted = "You may not listen on port 80: ports below 1024 need root. Run `make demo PORT=8090`.\n"
    assert program.log.read_text() == wanted


@pytest.mark.parametrize("placeholder", ["sk-…", "sk-...", "<your key>", "your-api-key"])
def test_a_placeholder_in_the_key_s_place_is_named_as_one(start, placeholder):
    program = start([TARGET / "debug/examples/demo"], "demo", OPENAI_API_KEY=placeholder, PORT=str(free_port()))
    assert program.process.wait(timeout=10) == 1
    wanted = "OPENAI_API_KEY still has a placeholder in it: expected your own OpenAI API key in its place\n"
    assert program.log.read_text() == wanted


def test_a_malformed_variable_is_a_sentence_too(start):
    program = start([TARGET / "debug/examples/demo"], "demo", PORT="eighty")
    assert program.process.wait(timeout=10) == 1
    assert program.log.read_text() == 'PORT is "eighty": expected a port number from 0 to 65535\n'
