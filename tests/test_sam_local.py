"""`make invoke` and `make local-api` run the function as it is deployed, in Docker, without an AWS account or a key."""

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time

import pytest
from conftest import ROOT, TOOLCHAIN, free_port, post, skip

EVENTS = sorted((ROOT / "function/events").glob("*.json"))
ENVIRONMENT = TOOLCHAIN | {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
# The image is present, or the tests are skipped. AWS's registry may be unreachable.
NO_PULL = "FLAGS=--skip-pull-image"
# A first build compiles the AWS SDK, which takes minutes on a small machine.
BUILD_SECONDS = 1200


def run(*command, **environment):
    return subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=BUILD_SECONDS
    )


@pytest.fixture(scope="module")
def image(architecture):
    """The image in which SAM runs the function. Requires a running Docker engine."""
    image = f"public.ecr.aws/lambda/provided:al2023-{architecture}"
    if not shutil.which("docker") or run("docker", "info").returncode:
        skip("no Docker engine is running")
    if run("docker", "image", "inspect", image).returncode:
        skip(f"the image {image} is missing: pull it, or run .ci/lambda-base-image")
    return image


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.stem)
def test_make_invoke_returns_a_token_for_every_kind_of_event(image, event):
    ran = run("make", "invoke", f"EVENT={event}", NO_PULL)
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert answer["statusCode"] == 200, answer
    token = json.loads(answer["body"])
    assert token["ephemeralToken"].startswith("ek_") and token["model"] == "gpt-realtime-2.1"
    assert "sk-simulated" not in ran.stdout + ran.stderr


def test_make_local_api_answers_as_the_deployed_api(image, start):
    port = free_port()
    program = start(["make", "local-api", f"PORT={port}", "PARAMETERS=Voice=cedar", NO_PULL], "api", **ENVIRONMENT)
    program.wait_until(lambda: f"Running on http://127.0.0.1:{port}" in program.log.read_text(), "no API", BUILD_SECONDS)
    url = f"http://127.0.0.1:{port}/token"

    status, headers, text = post(url)
    assert (status, headers["Cache-Control"]) == (200, "no-store"), text
    token = json.loads(text)
    assert token["ephemeralToken"].startswith("ek_") and token["voice"] == "cedar"
    # callsUrl, which the function returned from its container, also works on this machine. An empty offer is refused.
    authorized = {"Authorization": f"Bearer {token['value']}", "Content-Type": "application/sdp"}
    status, _, text = post(token["callsUrl"], b"", authorized)
    assert (status, json.loads(text)["error"]["code"]) == (400, "invalid_offer"), text
    status, _, text = post(url, b'{"voice": "marin"}', {"Content-Type": "application/json"})
    assert (status, json.loads(text)["voice"]) == (200, "marin")
    status, _, text = post(url, b'{"vioce": "marin"}')
    assert (status, json.loads(text)["code"]) == (400, "invalid_request")

    # Other methods do not reach the function, which would answer 405 with JSON.
    status, _, text = post(url, None, method="GET")
    assert status not in (200, 405) and "ek_" not in text
    preflight = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
    status, _, text = post(url, None, preflight, "OPTIONS")
    assert (status, text) == (200, "")

    # A signal that arrives while SAM accepts a request ends it too, and with it the containers.
    stopped = threading.Event()

    def request_until_stopped():
        while not stopped.is_set():
            with contextlib.suppress(OSError):
                post(url, None, preflight, "OPTIONS")

    busy = [threading.Thread(target=request_until_stopped) for _ in range(4)]
    for thread in busy:
        thread.start()
    time.sleep(0.5)
    try:
        program.stop()
    finally:
        stopped.set()
        for thread in busy:
            thread.join()
    assert run("docker", "ps", "--quiet", "--filter", f"ancestor={image}").stdout == "", "a container is still running"


@pytest.mark.parametrize("target", ["invoke", "local-api"])
def test_without_docker_the_message_names_the_alternative(target, tmp_path):
    ran = run("make", target, DOCKER_HOST=f"unix://{tmp_path}/nothing")
    assert ran.returncode == 2
    assert "a running Docker engine that you may use: start Docker, or use `make demo`, which does not need it" in ran.stderr
