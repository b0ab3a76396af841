"""Fixtures that start the programs the tests need: the real ones, on loopback, stopped at the end of the test."""

import contextlib
import functools
import http.server
import itertools
import math
import os
import pathlib
import platform
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request
import wave

import boto3
import playwright
import pytest
import samcli

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

# The variables with which a program finds its tools, and none that configure it.
TOOLCHAIN = {
    name: value for name, value in os.environ.items() if name in ("PATH", "HOME") or name.startswith(("CARGO_", "RUSTUP_"))
}

# Playwright's own Node. Debian 12's is older than the packages of the client's examples accept.
NODE = pathlib.Path(playwright.__file__).parent / "driver/node"

# Invalid keys, so that no command can reach a real account.
NO_AWS_ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def skip(why):
    """Skips a test because of a missing program; with CI=true, fails it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"would be skipped: {why}")
    pytest.skip(why)


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("skipped", []):
        why = report.longrepr[2].removeprefix("Skipped: ")
        terminalreporter.write_line(f"skipped: {why} ({report.nodeid})")


# The last line that the demo prints before it waits for requests.
DEMO_IS_UP = "Stop with Ctrl-C."


# Below the ports that Linux and macOS pick themselves, for connections and for listeners on port 0: one that they picked can be
# another program's a moment later. Two runs of the tests at once begin at different ports.
_ports = itertools.cycle(random.sample(range(20_000, 32_000), 12_000))


def free_port():
    """A port of 127.0.0.1 on which nothing listens. Each call returns another one."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def post(url, body=b"", headers=None, method="POST"):
    """Sends a request and returns the status, headers and text of the answer, for error statuses too."""
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers, answer.read().decode()


class Program:
    """A child process in its own process group, with a log of its output."""

    def __init__(self, command, log, **environment):
        self.log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                cwd=ROOT,
                env=TOOLCHAIN | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until(self, ready, failure, seconds=120):
        deadline = time.monotonic() + seconds
        while not ready():
            assert self.process.poll() is None, f"it ended:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"{failure}:\n{self.log.read_text()}"
            time.sleep(0.01)

    def wait_for_port(self, port):
        def listens():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        self.wait_until(listens, f"nothing listens on {port}")

    def wait_for_text(self, text):
        self.wait_until(lambda: text in self.log.read_text(), f"it does not print {text!r}")

    def stop(self, sent=signal.SIGTERM):
        """Stops the whole group and returns the exit code."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, sent)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise


@pytest.fixture
def start(tmp_path):
    """Starts programs, and stops them at the end of the test."""
    programs = []

    def start(command, name, **environment):
        programs.append(Program(command, tmp_path / f"{name}.log", **environment))
        return programs[-1]

    yield start
    for program in reversed(programs):
        program.stop()


@pytest.fixture
def simulator(start):
    """The address of a simulated OpenAI, without /v1."""
    port = free_port()
    # Offers that are no browser's never connect. Their calls stay open for longer than a test.
    command = [TARGET / "debug/openai-simulator", "--port", port, "--connect-limit", 600]
    start(command, "simulator").wait_for_port(port)
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def demo(start):
    """Starts `make demo` on a free port."""

    def demo(**environment):
        port = free_port()
        program = start(["make", "demo", f"PORT={port}"], "demo", **environment)
        program.wait_for_text(DEMO_IS_UP)
        return program, port

    return demo


@pytest.fixture
def aws(start, tmp_path):
    """The endpoint of a stand-in of AWS, and a boto3 session for it."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    start(
        [ROOT / ".venv/ministack/bin/python", ROOT / "tests/aws_stand_in.py"],
        "ministack",
        DEPLOYMENTS=str(tmp_path),
        BIND_HOST="127.0.0.1",
        GATEWAY_PORT=str(port),
        IOT_MTLS_ENABLED="0",
        AWS_ENDPOINT_URL=endpoint,
        TMPDIR=str(tmp_path),
        **NO_AWS_ACCOUNT,
    ).wait_for_port(port)
    return endpoint, boto3.Session("test", "test", region_name="eu-west-1")


@pytest.fixture(scope="session")
def architecture():
    """This machine's architecture, by AWS's name for it."""
    return {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]


@pytest.fixture(scope="session")
def built(architecture):
    """The output folder of `make build`, with the function built for this machine."""
    command = ["make", "build", f"PARAMETERS=Architecture={architecture}"]
    ran = subprocess.run(command, cwd=ROOT, env=TOOLCHAIN | NO_AWS_ACCOUNT, capture_output=True, text=True, timeout=1200)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ROOT / ".aws-sam/build"


@pytest.fixture
def another_build(built):
    """Changes the built functions: bytes after a program's end change its code, and not what it does."""
    programs = [built / name / "bootstrap" for name in ("MintFunction", "KeeperFunction")]
    originals = [program.read_bytes() for program in programs]

    def replace(mark):
        """Puts new files in their place, since a program that runs cannot be written to."""
        for program, original in zip(programs, originals, strict=True):
            new = program.with_name("bootstrap.new")
            new.write_bytes(original + mark.encode())
            new.chmod(0o755)
            new.replace(program)

    yield replace
    replace("")


@pytest.fixture
def in_lambda(start, architecture):
    """Starts the release binary in AWS's own emulator of Lambda. Returns the program and a function that invokes it."""
    if platform.system() != "Linux":
        skip("the emulator of Lambda runs on Linux only")
    emulator = pathlib.Path(samcli.__file__).parent / f"local/rapid/aws-lambda-rie-{architecture}"

    def in_lambda(bootstrap=TARGET / "release/token-mint", **environment):
        port, api_port = free_port(), free_port()
        program = start(
            [
                emulator,
                "--runtime-interface-emulator-address",
                f"127.0.0.1:{port}",
                "--runtime-api-address",
                f"127.0.0.1:{api_port}",
                bootstrap,
            ],
            "lambda",
            **NO_AWS_ACCOUNT,
            **environment,
        )
        program.wait_for_port(port)

        def invoke(event, **headers):
            return post(f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations", event, headers)[2]

        return program, invoke

    return in_lambda


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """The microphone's recording: four seconds of silence, in which a call connects, a second of speech, and silence."""
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    rate = 16_000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        for seconds, loudness in ((4, 0), (1, 8_000), (60, 0)):
            tone = (round(loudness * math.sin(math.tau * 300 * n / rate)) for n in range(seconds * rate))
            file.writeframes(struct.pack(f"<{seconds * rate}h", *tone))
    return path


@pytest.fixture(scope="module")
def browser(speech):
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = [path for name in names if (path := shutil.which(name))]
    if not found:
        skip("the browser tests need Chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=15_000)
    with sync_playwright() as driver:
        microphone = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={speech}%noloop"]
        # Chromium's sandbox does not work as root, and a machine may have no network other than loopback.
        flags = ["--no-sandbox", "--allow-loopback-in-peer-connection", "--host-resolver-rules=MAP mint.example 127.0.0.1"]
        chromium = driver.chromium.launch(executable_path=found[0], args=[*flags, *microphone])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser):
    """Opens a page in a new browser context. An uncaught error fails the test, unless the test collects it in `uncaught`."""
    contexts, errors = [], []

    def visit(url, permissions=("microphone",), uncaught=errors, **settings):
        context = browser.new_context(permissions=list(permissions), **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: uncaught.append(error))  # noqa: PLW0108 - Playwright takes no built-in function
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture
def start_demo(demo):
    """Starts a demo, and returns its address and that of its OpenAI."""

    def start_demo(**environment):
        program, port = demo(**environment)
        return f"http://127.0.0.1:{port}", re.search(r"http://127\.0\.0\.1:\d+(?=/v1)", program.log.read_text())[0]

    return start_demo


@pytest.fixture
def quota_table(aws):
    """A table for quotas, and the variables with which a demo uses it."""
    endpoint, session = aws
    session.client("dynamodb", endpoint_url=endpoint).create_table(
        TableName="quotas",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    return {"QUOTA_TABLE": "quotas", "AWS_ENDPOINT_URL_DYNAMODB": endpoint, **NO_AWS_ACCOUNT}


@pytest.fixture
def origin():
    """Serves a folder at a new origin."""
    servers = []

    class QuietHandler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    def origin(folder):
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=folder)))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield origin
    for server in servers:
        server.shutdown()
        server.server_close()
