"""The client's examples, built and run in a real browser: plain HTML, React with Vite, and Next.js, through both doors."""

import json
import os
import re
import shutil
import subprocess
from urllib.parse import quote

import pytest
from conftest import NODE, ROOT, expect, fault, free_port, post, skip

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


def choose(page, door, profile="default"):
    page.get_by_label("Door").select_option(door)
    page.get_by_label("Profile").select_option(profile)
    page.get_by_role("button", name="Call", exact=True).click()


def connected(page):
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")


@pytest.mark.parametrize("door, left", [("call", r"10:00|9:5\d"), ("token", r"1:00:00|59:5\d")])
def test_an_example_makes_a_call_through_each_door(open_example, door, left):
    page, _ = open_example()
    choose(page, door)
    connected(page)
    expect(page.get_by_role("timer")).to_have_text(re.compile(left))
    expect(page.locator(".said")).to_contain_text("This is the simulator.")
    page.get_by_role("button", name="Hang up").click()
    expect(page.get_by_role("status")).to_have_text("You hung up.")
    expect(page.get_by_role("alert").and_(page.locator(".alert"))).to_be_hidden()
    choose(page, door)
    connected(page)


def test_the_tool_of_a_profile_ends_the_call(open_example):
    page, _ = open_example()
    choose(page, "token")
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
