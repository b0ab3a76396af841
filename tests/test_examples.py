"""The client's examples, built and run in a real browser: plain HTML, React with Vite, and Next.js, through both endpoints."""

import json
import os
import re
import shutil
import subprocess
from urllib.parse import quote

import pytest
from conftest import NODE, ROOT, free_port, post, skip
from demo_page import expect, fault

CLIENT = ROOT / "client"
EXAMPLES = ["html", "react", "next"]


def build(name):
    """Builds an example with the package as it is now, and returns its folder and the variables of its commands."""
    folder = CLIENT / "examples" / name
    modules = folder / "node_modules"
    if not (modules / ".package-lock.json").exists():
        skip("the client's examples need npm")
    for pattern in ("*.js", "*.d.ts", "*.mjs", "package.json"):
        for file in CLIENT.glob(pattern):
            shutil.copy(file, modules / "token-mint")
    path = os.pathsep.join([str(modules / ".bin"), str(NODE.parent), os.environ["PATH"]])
    environment = {"PATH": path, "HOME": os.environ["HOME"], "NEXT_TELEMETRY_DISABLED": "1"}
    script = json.loads((folder / "package.json").read_text()).get("scripts", {}).get("build")
    if script:
        ran = subprocess.run(script, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder, environment


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request):
    return request.param, *build(request.param)


@pytest.fixture
def open_example(example, start, start_demo, origin, visit):
    """Opens the example's page, which uses a demo with these variables. Returns the page and the demo's address."""
    name, folder, variables = example

    def open_example(permissions=("microphone",), **environment):
        if name == "next":
            port = free_port()
            page_origin = f"http://127.0.0.1:{port}"
            address, _ = start_demo(ALLOWED_ORIGINS=page_origin, **environment)
            command = ["sh", "-c", f"cd {folder} && exec next start --hostname 127.0.0.1 --port {port}"]
            start(command, "next", **variables, MINT_URL=f"{address}/token").wait_for_port(port)
        else:
            page_origin = origin(folder / "dist" if name == "react" else folder)
            address, _ = start_demo(ALLOWED_ORIGINS=page_origin, **environment)
        page = visit(f"{page_origin}/?mint={quote(address)}", permissions=permissions)
        # The channel, for events that the simulator does not send.
        page.evaluate(
            """() => {
              const create = RTCPeerConnection.prototype.createDataChannel;
              RTCPeerConnection.prototype.createDataChannel = function (...given) {
                return (window.channel = create.apply(this, given));
              };
            }"""
        )
        return page, address

    return open_example


def choose(page, endpoint, profile="default"):
    page.get_by_label("Endpoint").select_option(endpoint)
    page.get_by_label("Profile").select_option(profile)
    page.get_by_role("button", name="Call", exact=True).click()


def connected(page):
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")


def test_an_example_warns_and_says_that_the_time_of_a_call_is_up(open_example):
    page, _ = open_example(MAX_CALL_SECONDS="20")
    choose(page, "call")
    connected(page)
    expect(page.get_by_role("timer")).to_have_text(re.compile(r"0:(20|[01]\d)"))
    expect(page.get_by_role("timer")).to_have_class("time warning")
    expect(page.locator(".said")).to_contain_text("This is the simulator.")
    expect(page.get_by_role("status")).to_have_text("The time is up.")
    choose(page, "call", "de-escalation")
    connected(page)
    assert page.evaluate("channel.readyState") == "closed", "a locked call has no channel"
    page.get_by_role("button", name="Hang up").click()
    expect(page.get_by_role("status")).to_have_text("You hung up.")
    choose(page, "call", "de-escalation-open")
    connected(page)


def test_an_example_makes_calls_with_tokens(open_example):
    page, _ = open_example()
    choose(page, "token")
    connected(page)
    expect(page.get_by_role("timer")).to_have_text(re.compile(r"1:00:00|59:5\d"))
    expect(page.get_by_role("timer")).to_have_class("time")
    page.get_by_role("button", name="Hang up").click()
    expect(page.get_by_role("status")).to_have_text("You hung up.")
    expect(page.locator(".alert")).to_be_hidden()
    choose(page, "token", "de-escalation")
    expect(page.locator(".alert")).to_have_text("The service does not accept these options. Choose other ones.")
    choose(page, "token")
    connected(page)


def test_the_tool_of_a_profile_ends_the_call(open_example):
    page, _ = open_example()
    choose(page, "call", "de-escalation-open")
    connected(page)
    call = {"type": "function_call", "name": "end_exercise", "call_id": "1", "arguments": '{"outcome": "settled"}'}
    event = {"type": "response.done", "response": {"status": "completed", "output": [call]}}
    page.evaluate("data => channel.dispatchEvent(new MessageEvent('message', { data }))", json.dumps(event))
    expect(page.locator(".said")).to_have_text("The exercise is over: settled.")
    expect(page.get_by_role("status")).to_have_text("You hung up.")


def test_a_refusal_is_shown_in_words_and_the_next_call_connects(open_example):
    page, address = open_example()
    fault(address, "rate-limit", retry_after="42")
    choose(page, "token")
    alert = page.locator(".alert")
    expect(alert).to_have_text("OpenAI is busy. Try again in a few moments. Wait 0:42.")
    page.route("**/token", lambda route: route.abort())
    choose(page, "token")
    expect(alert).to_contain_text("No answer arrived.")
    page.unroute("**/token")
    choose(page, "token")
    connected(page)
    expect(alert).to_be_hidden()


def test_a_denied_microphone_is_shown_in_words_and_costs_no_token(open_example):
    page, address = open_example(permissions=())
    choose(page, "token")
    expect(page.locator(".alert")).to_contain_text("The microphone is not allowed.")
    assert json.loads(post(f"{address}/simulator/requests", None, method="GET")[2]) == []


def test_the_examples_have_the_same_style():
    styles = {file.read_text() for file in (CLIENT / "examples").glob("*/*/style.css") if "node_modules" not in file.parts}
    assert styles == {(CLIENT / "examples/html/style.css").read_text()}


# The hook


def test_a_component_has_one_call_also_under_strict_mode(start_demo, visit, origin, tmp_path):
    folder, _ = build("react")
    entry = ROOT / "tests/client/strict.tsx"
    bundle = [
        "--bundle",
        "--format=esm",
        "--jsx=automatic",
        f"--outfile={tmp_path}/page.js",
        "--define:process.env.NODE_ENV='development'",
    ]
    esbuild = ROOT / "tests/node/node_modules/.bin/esbuild"
    modules = os.environ | {"NODE_PATH": str(folder / "node_modules")}
    ran = subprocess.run([esbuild, entry, *bundle], env=modules, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    (tmp_path / "index.html").write_text("<link rel=icon href=data:,><script type=module src=page.js></script>")
    page_origin = origin(tmp_path)
    address, _ = start_demo(ALLOWED_ORIGINS=page_origin)
    page = visit(f"{page_origin}/?mint={quote(address)}")
    status = page.get_by_role("status")

    def calls(state):
        return len(json.loads(post(f"{address}/simulator/calls", None, method="GET")[2])[state])

    def open_calls():
        return calls("open")

    expect(status).to_have_text("connected")
    assert open_calls() == 1
    ended = calls("ended")
    # A caller may have one call at once, so the second start waits until the first call has ended.
    page.get_by_role("button", name="Again").click()
    for _ in range(100):
        if calls("ended") > ended:
            break
        page.wait_for_timeout(50)
    expect(status).to_have_text("connected")
    # Unmounted during the request for a call, and mounted again.
    fault(address, "delay", at="calls", ms=1000)
    with page.expect_request(lambda request: request.method == "POST"):
        page.get_by_role("button", name="Again").click()
    page.get_by_role("button", name="Toggle").click()
    page.get_by_role("button", name="Toggle").click()
    expect(status).to_have_text("connected")
    assert open_calls() == 1
    page.get_by_role("button", name="Hang up").click()
    expect(status).to_have_text("ended")
    page.get_by_role("button", name="Again").click()
    expect(status).to_have_text("connected")
    page.get_by_role("button", name="Toggle").click()
    for _ in range(50):
        if not open_calls():
            break
        page.wait_for_timeout(100)
    assert open_calls() == 0
