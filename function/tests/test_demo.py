"""`make demo`, and every command that the README tells a reader to type."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest
from conftest import DEMO_IS_UP, ROOT, TARGET, TOOLCHAIN, free_port, post, skip
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


# Read from the terminal, so that the key is in no history.
WITH_A_KEY = "read -rs KEY && OPENAI_API_KEY=$KEY make demo"


def readme_commands():
    """Every line of the README's shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_the_readme_s_commands_do_what_it_says(demo):
    if not shutil.which("curl"):
        skip("the README's commands need curl")
    commands = readme_commands()
    # This very test is part of one of them, and runs the other.
    assert {"make demo", "make test"} <= set(commands)
    curls = [command for command in commands if command.startswith("curl ")]
    # Like the first, but with origins, a port or, in a test of its own, a key of the reader's.
    demos = [command for command in commands if re.fullmatch(r"(ALLOWED_ORIGINS=\S+ )?make demo( PORT=\d+)?", command)]
    demos.append(WITH_A_KEY)
    # Run with a stack, in test_stack.py, in Docker, in test_sam_local.py, and in test_cost.py.
    elsewhere = r"make (build|deploy|key|invoke|local-api)( PARAMETERS=\".+\")?|make (cost|capacity)( [A-Z_]+=\d+){2}"
    others = [command for command in commands if re.fullmatch(elsewhere, command)]
    # Typed in a minimal Debian by .ci/walk.
    installs = [command for command in commands if re.match(r"sudo apt-get install|curl .* \| sh|git clone|cd ", command)]
    curls = [command for command in curls if command not in installs]
    assert set(commands) == {*installs, *curls, *demos, *others, "make test"}, "no command that no test runs"

    _, port = demo()
    answers = []
    for command in curls:
        command = command.replace("http://127.0.0.1:8080", f"http://127.0.0.1:{port}")
        ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, cwd=ROOT)
        assert ran.returncode == 0, f"{command}: {ran.stderr}"
        answers.append(json.loads(ran.stdout or "{}"))
    plain, voice, planned, refused = answers
    assert plain["success"] and voice["voice"] == "marin"
    assert planned == {} and refused["code"] == "openai_out_of_quota"


def test_the_readme_s_line_for_a_key_takes_it_without_showing_it(simulator, tmp_path):
    port = free_port()
    environment = TOOLCHAIN | {"PORT": str(port), "OPENAI_BASE_URL": f"{simulator}/v1"}
    log = tmp_path / "demo.log"
    with log.open("w") as output:
        ran = subprocess.Popen(["bash", "-c", WITH_A_KEY], cwd=ROOT, env=environment, stdin=subprocess.PIPE, text=True,
                               stdout=output, stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
        try:
            ran.stdin.write("sk-my-own\n")
            ran.stdin.flush()
            deadline = time.monotonic() + 30
            while DEMO_IS_UP not in log.read_text():
                assert ran.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            assert post(f"http://127.0.0.1:{port}/token")[0] == 200
        finally:
            os.killpg(ran.pid, signal.SIGTERM)
            ran.wait(timeout=10)
    assert len(json.loads(post(f"{simulator}/simulator/requests", None, method="GET")[2])) == 1
    assert "sk-my-own" not in log.read_text() and "simulated" not in log.read_text()


def test_the_readme_s_line_for_another_page_names_its_origin(demo):
    [line] = [command for command in readme_commands() if command.startswith("ALLOWED_ORIGINS=")]
    named = line.split()[0].removeprefix("ALLOWED_ORIGINS=")
    _, port = demo(ALLOWED_ORIGINS=named)
    for origin, status in ((named, 200), (f"http://localhost:{port}", 200), ("https://evil.example", 403)):
        assert post(f"http://127.0.0.1:{port}/token", headers={"Origin": origin})[0] == status, origin


def test_what_the_readme_links_to_is_there():
    readme = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", readme) + re.findall(r'(?:src|srcset)="(?!https?:)([^"]+)"', readme)
    assert "function/examples/demo/page.png" in links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_readme_and_the_makefile_name_the_same_targets():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help"}
    named = set(re.findall(r"(?:^|`|=\S+ )make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert targets == named


def test_the_readme_s_tables_of_parameters_and_alarms_are_the_template_s():
    template = yaml_parse((ROOT / "template.yaml").read_text())
    readme = (ROOT / "README.md").read_text()
    rows = [
        f"| `{name}` | {given['Default'] if given['Default'] != '' else '–'} | {given['Description']} |"
        for name, given in template["Parameters"].items()
    ] + [
        f"| {name} | {found['Properties']['AlarmDescription']} |"
        for name, found in template["Resources"].items()
        if found["Type"] == "AWS::CloudWatch::Alarm"
    ]
    for row in rows:
        assert row in readme.splitlines(), row
    assert len(re.findall(r"^\| \w+Alarm \|", readme, re.MULTILINE)) == 12
    given = re.findall(r"(\w+)=\S+", " ".join(re.findall(r'PARAMETERS="(.*?)"', readme)))
    assert set(given) - {"Name"} <= set(template["Parameters"])


def test_the_readme_s_table_of_variables_is_that_of_the_function():
    config = (ROOT / "function/src/config.rs").read_text()
    read = set(re.findall(r'^const ([A-Z_]+): &str = "\1";', config, re.MULTILINE))
    own = {name for name in read if not name.startswith("AWS_LAMBDA_")}
    table = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert set(table) == own and len(table) == len(own)


def test_the_readme_s_table_of_refusals_is_that_of_the_function():
    table = re.findall(r"^\| (\d{3}) \| `([a-z_]+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    source = (ROOT / "function/src/api/refusal.rs").read_text()
    rows = re.findall(r'StatusCode::([A-Z_]+),\s*"([a-z_]+)"', source)
    numbers = {
        "BAD_REQUEST": "400", "FORBIDDEN": "403", "NOT_FOUND": "404", "METHOD_NOT_ALLOWED": "405", "PAYLOAD_TOO_LARGE": "413",
        "TOO_MANY_REQUESTS": "429",
        "BAD_GATEWAY": "502", "SERVICE_UNAVAILABLE": "503", "GATEWAY_TIMEOUT": "504",
    }
    assert sorted(table) == sorted({(numbers[status], code) for status, code in rows})
