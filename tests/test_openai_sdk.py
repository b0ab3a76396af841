"""OpenAI's own SDK mints against the simulator, and its types accept the function's requests."""

import email
import http.server
import importlib
import json
import pkgutil
import threading
import time

import openai
import pytest
import typing_extensions
from conftest import ROOT, TARGET, free_port, post
from offers import OFFERS
from openai.types.realtime import ClientSecretCreateResponse, RealtimeTranslationClientSecretCreateResponse
from openai.types.realtime.call_create_params import CallCreateParams
from openai.types.realtime.client_secret_create_params import ClientSecretCreateParams
from openai.types.realtime.translations.client_secret_create_params import (
    ClientSecretCreateParams as TranslationClientSecretCreateParams,
)
from pydantic import ConfigDict, TypeAdapter, ValidationError


@pytest.fixture
def client(simulator):
    return openai.OpenAI(api_key="sk-test", base_url=f"{simulator}/v1", max_retries=0)


def fail(simulator, fault, **more):
    assert post(f"{simulator}/simulator/faults", json.dumps({"fault": fault, **more}).encode())[0] == 204


def test_the_sdk_mints_a_token(client):
    secret = client.realtime.client_secrets.create(
        expires_after={"anchor": "created_at", "seconds": 60},
        session={
            "type": "realtime",
            "model": "gpt-realtime-2.1",
            "instructions": "Speak slowly.",
            "audio": {"output": {"voice": "marin"}, "input": {"turn_detection": {"type": "semantic_vad"}}},
            "tools": [{"type": "function", "name": "end_call", "parameters": {"type": "object"}}],
        },
    )
    assert secret.value.startswith("ek_")
    assert 50 <= secret.expires_at - time.time() <= 60
    assert (secret.session.type, secret.session.model) == ("realtime", "gpt-realtime-2.1")
    assert secret.session.id.startswith("sess_")
    assert secret.session.audio.output.voice == "marin"


def test_the_sdk_mints_a_token_for_transcription(client):
    secret = client.realtime.client_secrets.create(
        session={"type": "transcription", "audio": {"input": {"transcription": {"model": "gpt-live-transcribe"}}}}
    )
    assert secret.session.type == "transcription"
    assert 590 <= secret.expires_at - time.time() <= 600


def test_the_sdk_mints_a_token_for_translation(client):
    secret = client.realtime.translations.client_secrets.create(
        session={"model": "gpt-realtime-translate", "audio": {"output": {"language": "es"}}}
    )
    assert secret.value.startswith("ek_")
    assert (secret.session.type, secret.session.audio.output.language) == ("translation", "es")
    with pytest.raises(openai.BadRequestError) as refused:
        client.realtime.translations.client_secrets.create(session={"audio": {}})
    assert refused.value.param == "session.model"


def test_the_sdk_places_a_call_and_hangs_up(simulator, client):
    session = {"type": "realtime", "model": "gpt-realtime-2.1", "instructions": "Speak slowly."}
    identified = {"OpenAI-Safety-Identifier": "caller-1"}
    answer = client.realtime.calls.create(sdp=OFFERS["locked"], session=session, extra_headers=identified)
    assert answer.response.status_code == 201
    assert [line.split()[0] for line in answer.text.split("\r\n") if line.startswith("m=")] == ["m=audio"]
    [placed] = json.loads(post(f"{simulator}/simulator/requests", None, method="GET")[2])
    assert (placed["sdp"], placed["session"], placed["safety_identifier"]) == (OFFERS["locked"], session, "caller-1")
    call_id = answer.response.headers["location"].removeprefix("/v1/realtime/calls/")
    [call] = json.loads(post(f"{simulator}/simulator/calls", None, method="GET")[2])["open"]
    assert (call["call_id"], call["data_channel"]) == (call_id, False)
    client.realtime.calls.hangup(call_id)
    with pytest.raises(openai.NotFoundError) as ended:
        client.realtime.calls.hangup(call_id)
    assert ended.value.code == "call_id_not_found"
    with pytest.raises(openai.BadRequestError) as trimmed:
        client.realtime.calls.create(sdp=OFFERS["locked"].strip(), session=session)
    assert trimmed.value.code == "invalid_offer"


@pytest.mark.parametrize(
    "request_, error, param",
    [
        ({"session": {"model": "gpt-realtime-2.1"}}, openai.BadRequestError, "session.type"),
        ({"session": {"type": "realtime", "temperature": 1}}, openai.BadRequestError, "session.temperature"),
        (
            {"session": {"type": "realtime", "audio": {"output": {"voice": "nova"}}}},
            openai.BadRequestError,
            "session.audio.output.voice",
        ),
        (
            {"session": {"type": "realtime"}, "expires_after": {"anchor": "created_at", "seconds": 9}},
            openai.BadRequestError,
            "expires_after.seconds",
        ),
        ({"session": {"type": "realtime", "model": "gpt-4o-realtime-preview"}}, openai.NotFoundError, "session.model"),
        ({"session": {"type": "realtime", "model": "gpt-realtime-mini-2025-10-06"}}, openai.NotFoundError, "session.model"),
    ],
)
def test_the_simulator_refuses_the_same_requests_as_openai(client, request_, error, param):
    with pytest.raises(error) as refused:
        client.realtime.client_secrets.create(**request_)
    assert refused.value.param == param


def test_an_invalid_key_is_refused(simulator):
    client = openai.OpenAI(api_key="nonsense", base_url=f"{simulator}/v1", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        client.realtime.client_secrets.create(session={"type": "realtime"})
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


@pytest.mark.parametrize(
    "fault, error, code",
    [
        ("unauthorized", openai.AuthenticationError, "invalid_api_key"),
        ("forbidden", openai.PermissionDeniedError, "model_not_found"),
        ("bad-request", openai.BadRequestError, "invalid_value"),
        ("not-found", openai.NotFoundError, "model_not_found"),
        ("rate-limit", openai.RateLimitError, "rate_limit_exceeded"),
        ("insufficient-quota", openai.RateLimitError, "insufficient_quota"),
    ],
)
def test_a_fault_raises_the_matching_error_of_the_sdk(simulator, client, fault, error, code):
    fail(simulator, fault)
    with pytest.raises(error) as refused:
        client.realtime.client_secrets.create(session={"type": "realtime"})
    assert refused.value.code == code
    client.realtime.client_secrets.create(session={"type": "realtime"})


def test_faults_below_http_are_connection_errors(simulator, client):
    for fault in ["reset", "cut", "garbage"]:
        fail(simulator, fault)
        with pytest.raises(openai.APIConnectionError):
            client.realtime.client_secrets.create(session={"type": "realtime"})
    fail(simulator, "server-error", status=503, retry_after="1")
    with pytest.raises(openai.InternalServerError) as refused:
        client.realtime.client_secrets.create(session={"type": "realtime"})
    assert refused.value.response.headers["retry-after"] == "1"


def test_faults_can_be_removed_and_unknown_ones_are_refused(simulator, client):
    fail(simulator, "server-error", status=500, times=9)
    assert post(f"{simulator}/simulator/faults", None, method="DELETE")[0] == 204
    client.realtime.client_secrets.create(session={"type": "realtime"})
    status, _, text = post(f"{simulator}/simulator/faults", b'{"fault": "bad-hair-day"}')
    assert status == 400 and "rate-limit" in text, "the answer lists all faults"


def test_models_have_their_shutdown_date(client):
    ends = {model.id: getattr(model, "shutdown_date", None) for model in client.models.list()}
    assert ends.get("gpt-realtime") in (None, "2027-01-20"), "it is in the list until then"
    assert ends["gpt-realtime-2.1"] is None
    assert "gpt-realtime-mini-2025-10-06" not in ends, "it was shut down on 2026-07-23"


def test_noise_reduction_has_a_strength(client):
    noise_reduction = {"type": "near_field", "strength": 0.5}
    secret = client.realtime.client_secrets.create(
        session={"type": "realtime", "audio": {"input": {"noise_reduction": noise_reduction}}}
    )
    assert secret.session.audio.input.noise_reduction.to_dict() == noise_reduction


@pytest.fixture(scope="module")
def strictly_typed():
    """Checks that a request has only the fields of the SDK's type, at every level."""
    for found in pkgutil.walk_packages(openai.types.realtime.__path__, "openai.types.realtime."):
        for kind in vars(importlib.import_module(found.name)).values():
            if typing_extensions.is_typeddict(kind):
                kind.__pydantic_config__ = ConfigDict(extra="forbid")
    of_kind = {"realtime": ClientSecretCreateParams, "transcription": ClientSecretCreateParams,
               "translation": TranslationClientSecretCreateParams, "call": CallCreateParams}  # fmt: skip
    return {kind: TypeAdapter(type_) for kind, type_ in of_kind.items()}


def test_the_types_of_the_sdk_accept_requests_and_answers(start, simulator, strictly_typed):
    port = free_port()
    start(
        [TARGET / "debug/examples/demo"], "demo", PORT=str(port), OPENAI_API_KEY="sk-test", OPENAI_BASE_URL=f"{simulator}/v1"
    ).wait_for_text("Stop with Ctrl-C.")
    profiles = json.loads((ROOT / "function/profiles.json").read_text())
    # A profile with locked calls has no tokens.
    profiles = {name: profile for name, profile in profiles.items() if profile["call"]["mode"] != "locked"}
    asked = [{}, {"voice": "cedar"}, *({"profile": name} for name in profiles)]
    asked += [
        {"profile": name, field: choice}
        for name, profile in profiles.items()
        for field, setting in profile["caller_may_set"].items()
        for choice in setting["allow"].get("one_of", [])
    ]
    for body in asked:
        assert post(f"http://127.0.0.1:{port}/token", json.dumps(body).encode())[0] == 200, body
    sent = [
        (request["path"], request["body"])
        for request in json.loads(post(f"{simulator}/simulator/requests", None, method="GET")[2])
    ]
    assert len(sent) == len(asked) > 15
    for body, (path, request) in zip(asked, sent, strict=True):
        strictly_typed[profiles[body.get("profile", "default")]["kind"]].validate_python(request, strict=True)
        # Sent as plain JSON, and answered in the form that the SDK expects.
        status, _, answer = post(
            f"{simulator}{path}",
            json.dumps(request).encode(),
            {"Authorization": "Bearer sk-test", "Content-Type": "application/json"},
        )
        assert status == 200
        answered = RealtimeTranslationClientSecretCreateResponse if "translations" in path else ClientSecretCreateResponse
        answered.model_validate_json(answer, strict=True)
    for wrong in [{"voice": "alloy"}, {"session": {"type": "chat"}}, {"session": {"type": "realtime", "voice": "ash"}}]:
        with pytest.raises(ValidationError):
            strictly_typed["realtime"].validate_python(wrong, strict=True)


@pytest.fixture
def recorder():
    """A server in place of OpenAI: its address, and the requests that it got, as (path, headers, body)."""
    requests = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.path, self.headers, body))
            # The offer serves as the answer.
            [answer] = [part for name, _, part in read_form(self.headers, body) if name == "sdp"] or [b""]
            self.send_response(201)
            self.send_header("Location", "/v1/realtime/calls/rtc_1")
            self.send_header("Content-Type", "application/sdp")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", requests
    server.shutdown()
    server.server_close()


def read_form(headers, body):
    """The parts of a multipart form, in its order: (name, headers, content). Python's own parser reads only the headers."""
    boundary = b"\r\n--" + headers.get_boundary().encode()
    empty, *parts, end = (b"\r\n" + body).split(boundary)
    assert (empty, end.strip(b"\r\n")) == (b"", b"--")
    found = []
    for part in parts:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        head = email.message_from_bytes(head)
        assert head.get_content_disposition() == "form-data"
        found.append((head.get_param("name", header="content-disposition"), head, content))
    return found


@pytest.mark.parametrize("form", ["sdp", "json"])
def test_the_function_sends_a_call_as_the_sdk_does(start, recorder, strictly_typed, form):
    base_url, requests = recorder
    port = free_port()
    own = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": base_url, "CALLS_AT_ONCE": "0"}
    start([TARGET / "debug/examples/demo"], "demo", PORT=str(port), **own).wait_for_text("Stop with Ctrl-C.")
    profiles = json.loads((ROOT / "function/profiles.json").read_text())
    sdk = openai.OpenAI(api_key="sk-test", base_url=base_url, max_retries=0)
    for name, profile in profiles.items():
        offer = OFFERS[profile["call"]["mode"]]
        if form == "sdp":
            url, kind, body = f"?profile={name}&dcid=4", "application/sdp", offer
        else:
            url, kind, body = "", "application/json", json.dumps({"sdp": offer, "profile": name, "dcid": 4})
        headers = {"Content-Type": kind}
        status, _, answer = post(f"http://127.0.0.1:{port}/call{url}", body.encode(), headers)
        assert (status, answer if form == "sdp" else json.loads(answer)["sdp"]) == (201, offer), name

        path, headers, sent = requests.pop()
        assert path == "/v1/realtime/calls?dcid=4"
        parts = {part: content for part, _, content in read_form(headers, sent)}
        session = json.loads(parts["session"])
        strictly_typed["call"].validate_python({"sdp": parts["sdp"].decode(), "session": session}, strict=True)
        assert session["type"] == "realtime" and session["model"] == profile["session"]["model"]
        assert parts["sdp"] == offer.encode(), "byte for byte"

        sdk.realtime.calls.create(sdp=offer, session=session, extra_query={"dcid": 4})
        sdk_path, sdk_headers, sdk_sent = requests.pop()

        def form_of(headers, body):
            parts = read_form(headers, body)
            kinds = {part: (head.get_content_type(), head.get_filename()) for part, head, _ in parts}
            contents = {part: json.loads(content) if part == "session" else content for part, _, content in parts}
            return headers.get_content_type(), headers["Authorization"], kinds, contents

        assert (path, form_of(headers, sent)) == (sdk_path, form_of(sdk_headers, sdk_sent))
        assert len(headers["OpenAI-Safety-Identifier"]) == 64
    for wrong in [{"type": "chat"}, {"type": "realtime", "voice": "ash"}, {"type": "realtime", "expires_after": {}}]:
        with pytest.raises(ValidationError):
            strictly_typed["call"].validate_python({"sdp": "v=0", "session": wrong}, strict=True)
