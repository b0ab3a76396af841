"""Calls of the npm package in a real browser, and calls of OpenAI's own clients through POST /call."""

import json
import time
from urllib.parse import quote

import pytest
from conftest import ROOT, post, skip
from demo_page import fault, wait_until

MODULES = {
    "token-mint": "/client/token-mint.min.mjs",
    "token-mint/words": "/client/words.js",
    "openai/realtime/webrtc": "/node_modules/openai/realtime/webrtc.mjs",
    "@openai/agents-realtime": "/node_modules/@openai/agents-realtime/dist/bundle/openai-realtime-agents.mjs",
}


@pytest.fixture
def open_page(start_demo, visit, origin, tmp_path):
    """Opens an empty page of another origin that can import the packages.

    Returns the page, the demo's address, and that of its OpenAI.
    """

    if not (ROOT / "tests/node/node_modules/.package-lock.json").exists():
        skip("the tests of OpenAI's clients need npm")

    def open_page(**environment):
        folder = tmp_path / "page"
        folder.mkdir()
        (folder / "client").symlink_to(ROOT / "client")
        (folder / "node_modules").symlink_to(ROOT / "tests/node/node_modules")
        imports = json.dumps({"imports": MODULES})
        script = """const { tokenMint, Refusal } = await import('token-mint');
            const address = new URLSearchParams(location.search).get('mint');
            Object.assign(window, { mint: tokenMint(address), Refusal, ends: {}, calls: {} });
            window.begin = async (name, request) => {
              calls[name] = await mint.call({ ...request, onEnd: ({ reason }) => { ends[name] = reason; } });
            };"""
        (folder / "index.html").write_text(
            f"<link rel=icon href=data:,><script type=importmap>{imports}</script><script type=module>{script}</script>"
        )
        page_origin = origin(folder)
        address, openai = start_demo(ALLOWED_ORIGINS=page_origin, **environment)
        page = visit(f"{page_origin}/?mint={quote(address)}")
        wait_until(page, "window.begin !== undefined")
        return page, address, openai

    return open_page


def calls(address):
    """The calls that are open at the demo's OpenAI, and the reasons for which others ended."""
    listed = json.loads(post(f"{address}/simulator/calls", None, method="GET")[2])
    return listed["open"], [call["reason"] for call in listed["ended"]]


def wait_for_calls(address, count):
    """Waits until that many calls are open at the demo's OpenAI."""
    for _ in range(100):
        open_calls, _ = calls(address)
        if len(open_calls) == count:
            return open_calls
        time.sleep(0.1)
    raise AssertionError(open_calls)


LOCKED = {"profile": "de-escalation", "locked": True}

# Makes a call that is refused, and returns the refusal.
REFUSE = """request => mint.call(request).then(() => 'connected', error => {
  const { name, code, status, retryAfter } = error;
  return { refusal: error instanceof Refusal, name, code, status, retryAfter };
})"""


def test_a_call_says_why_it_ended(open_page):
    """A locked call too, which has no data channel that closes."""
    page, address, openai = open_page(CALLS_AT_ONCE="0", MAX_CALL_SECONDS="10")

    def begin(name, request):
        page.evaluate("([name, request]) => begin(name, request)", [name, request])

    # Each call is checked or ended before the next one begins, since connecting takes part of its ten seconds.
    begin("locked", LOCKED)
    assert page.evaluate("calls.locked.channel === undefined")
    begin("open", {})
    assert page.evaluate("calls.open.channel.readyState") == "open"
    assert page.evaluate("[calls.open.model, calls.open.voice, calls.open.remaining() <= 10]") == [
        "gpt-realtime-2.1",
        "alloy",
        True,
    ]
    begin("hung_up", {})
    assert page.evaluate("calls.hung_up.hangUp()")["seconds"] >= 1
    assert page.evaluate("calls.hung_up.hangUp()")["seconds"] >= 1
    begin("lost", {})
    page.evaluate(
        """() => {
          Object.defineProperty(calls.lost.peer, 'connectionState', { value: 'failed' });
          calls.lost.peer.dispatchEvent(new Event('connectionstatechange'));
        }"""
    )
    for name, request in (("ended", {}), ("ended_locked", LOCKED)):
        begin(name, request)
        # As an operator ends it, with the service's key.
        call_id = calls(address)[0][-1]["call_id"]
        key = {"Authorization": "Bearer sk-simulated"}
        assert post(f"{openai}/v1/realtime/calls/{call_id}/hangup", b"", key)[0] == 200
    wait_until(page, "Object.keys(ends).length === 6")
    ended = {"locked": "time_up", "open": "time_up", "hung_up": "hung_up", "lost": "lost"}
    assert page.evaluate("ends") == {**ended, "ended": "ended", "ended_locked": "ended"}
    wait_for_calls(address, 0)
    for name in ended:
        assert page.evaluate("name => calls[name].peer.getSenders()[0].track.readyState", name) == "ended", name


def test_a_second_call_of_a_caller_waits_until_the_first_has_ended(open_page):
    page, address, _ = open_page()
    page.evaluate("() => begin('first')")
    refused = page.evaluate(REFUSE, {})
    assert 0 < refused.pop("retryAfter") <= 660
    assert refused == {"refusal": True, "name": "Refusal", "code": "calls_at_once", "status": 429}
    # A page that is left hangs up.
    page.reload()
    wait_until(page, "window.begin !== undefined")
    wait_for_calls(address, 0)
    page.evaluate("() => begin('second', { dcid: 4 })")
    assert page.evaluate("calls.second.channel.id") == 4
    assert page.evaluate("calls.second.hangUp()")["seconds"] >= 1
    # The same profile needs a data channel, and the locked one accepts none.
    for request in ({"locked": True}, {"profile": "de-escalation"}):
        assert page.evaluate(REFUSE, request)["code"] == "offer_not_allowed"
    assert page.evaluate(REFUSE, {"profile": "no-such"})["code"] == "invalid_request"
    assert page.evaluate(REFUSE, {"endpoint": "token", **LOCKED})["code"] == "invalid_request"


def test_an_abort_leaves_no_call_open(open_page):
    page, address, _ = open_page()
    fault(address, "delay", at="calls", ms=1000)
    aborted = page.evaluate(
        """async () => {
          const abort = new AbortController();
          setTimeout(() => abort.abort(), 500);
          const error = await mint.call({ signal: abort.signal }).catch(error => error);
          return [error.name, await mint.call().then(call => call.hangUp())];
        }"""
    )
    assert aborted[0] == "AbortError" and aborted[1]["seconds"] >= 1
    wait_for_calls(address, 0)


def test_a_cancelled_call_does_not_wait_for_the_microphone(open_page):
    page, address, _ = open_page()
    page.evaluate(
        """() => {
          const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          window.asked = 0;
          navigator.mediaDevices.getUserMedia = async settings => {
            window.asked++;
            await new Promise(resolve => Object.assign(window, { allow: resolve }));
            window.stream = await ask(settings);
            return stream;
          };
        }"""
    )
    # WebRTC knows no channel 65535, so the user is not asked.
    assert page.evaluate("mint.call({ dcid: 65535 }).catch(error => [error.name, asked])") == ["TypeError", 0]
    aborted = page.evaluate(
        """() => {
          setTimeout(() => abort.abort(), 100);
          const abort = new AbortController();
          const waiting = new Promise(resolve => setTimeout(resolve, 5000, 'it waits for the user'));
          return Promise.race([mint.call({ signal: abort.signal }).catch(error => [error.name, asked]), waiting]);
        }"""
    )
    assert aborted == ["AbortError", 1]
    # The user allows the microphone after that.
    page.evaluate("allow()")
    wait_until(page, "window.stream?.getTracks().every(track => track.readyState === 'ended')")
    assert calls(address) == ([], [])


def test_a_call_that_does_not_connect_is_ended(open_page):
    page, address, _ = open_page()
    page.clock.install()
    page.evaluate(
        """() => {
          window.RTCPeerConnection = class extends RTCPeerConnection { constructor() { super(); window.peer = this; } };
        }"""
    )
    fault(address, "never-connects", at="calls")
    page.evaluate(f"() => {{ ({REFUSE})().then(refused => Object.assign(window, {{ refused }})); }}")
    wait_for_calls(address, 1)
    # The time to connect begins with the answer.
    wait_until(page, "peer.remoteDescription !== null")
    page.clock.fast_forward(20_000)
    wait_until(page, "window.refused !== undefined")
    refused = page.evaluate("refused")
    assert (refused["refusal"], refused["code"], refused["status"]) == (True, "connection_failed", 0)
    wait_for_calls(address, 0)


def test_a_token_that_openai_rejects_is_a_refusal(open_page):
    page, address, _ = open_page()
    page.evaluate("() => begin('numbered', { endpoint: 'token', dcid: 7 })")
    assert page.evaluate("calls.numbered.channel.id") == 7
    fault(address, "unauthorized", at="calls")
    refused = page.evaluate(REFUSE, {"endpoint": "token"})
    assert (refused["refusal"], refused["code"], refused["status"]) == (True, "openai_refused", 401)
    fault(address, "server-error", at="calls", status=503)
    assert page.evaluate(REFUSE, {"endpoint": "token"})["code"] == "openai_refused"


# OpenAI's own clients


def test_the_browser_class_of_openai_exchanges_its_offer_through_the_service(open_page):
    page, address, _ = open_page()
    first = page.evaluate(
        """async () => {
          const { OpenAIRealtimeWebRTC } = await import('openai/realtime/webrtc');
          const connection = new OpenAIRealtimeWebRTC();
          const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
          connection.peerConnection.addTrack(microphone.getAudioTracks()[0], microphone);
          const created = new Promise(resolve => connection.on('session.created', resolve));
          await connection.connect({
            exchangeSdp: async (offer, { signal }) => {
              window.opened = await mint.open(offer, { profile: 'de-escalation-open', signal });
              return opened.sdp;
            },
          });
          return (await created).session;
        }"""
    )
    assert "housing office" in first["instructions"] and first["audio"]["output"]["voice"] == "ash"
    assert page.evaluate("opened.hangUp()")["seconds"] >= 1
    assert page.evaluate("opened.hangUp()")["success"]
    wait_for_calls(address, 0)


def test_the_agents_sdk_of_openai_calls_through_the_service(open_page):
    page, address, _ = open_page()
    first = page.evaluate(
        """async address => {
          const { OpenAIRealtimeWebRTC, RealtimeAgent, RealtimeSession } = await import('@openai/agents-realtime');
          const query = new URLSearchParams({ profile: 'de-escalation-open', scenario: 'cancelled-train' });
          const transport = new OpenAIRealtimeWebRTC({ baseUrl: `${address}/call?${query}`, useInsecureApiKey: true });
          window.session = new RealtimeSession(new RealtimeAgent({ name: 'Model' }), { transport });
          const created = new Promise(resolve => session.on('transport_event', event => {
            if (event.type === 'session.created') resolve(event.session);
          }));
          await session.connect({ apiKey: 'unused' });
          return created;
        }""",
        address,
    )
    assert "The last train is cancelled" in first["instructions"]
    page.evaluate("session.close()")
    wait_for_calls(address, 0)
