"""The demo's page, OpenAI's SDK and the README's scripts in a real browser with a simulated microphone."""

import functools
import json
import re
from urllib.parse import quote

import pytest
from conftest import ROOT, TARGET, free_port, post, skip
from demo_page import (
    KEEP_MICROPHONE,
    MICROPHONE_STOPPED,
    assert_readable,
    connect,
    events,
    expect,
    fault,
    get_token,
    wait_until,
)

MESSAGES = (ROOT / "function/examples/demo/page/messages.js").read_text()

# Opens the session of a token, as another program that has the token does.
OPEN_SESSION = """async ({ callsUrl, value }) => {
  const peer = new RTCPeerConnection();
  peer.addTransceiver('audio');
  await peer.setLocalDescription();
  const headers = { Authorization: `Bearer ${value}`, 'Content-Type': 'application/sdp' };
  const answer = await fetch(callsUrl, { method: 'POST', headers, body: peer.localDescription.sdp });
  if (answer.status !== 201) throw new Error(await answer.text());
}"""


def minted_sessions(address):
    seen = json.loads(post(f"{address}/simulator/requests", None, method="GET")[2])
    return [request["body"]["session"] for request in seen if request["path"].endswith("/client_secrets")]


# The token


def test_a_token_counts_down_and_is_never_shown_in_full(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    with page.expect_response("**/token") as answered:
        get_token(page)
    token = answered.value.json()["value"]
    assert page.locator("#secret").inner_text() == token[:8] + "…"
    shown = page.locator("#time-left").inner_text()
    assert re.fullmatch(r"59:5\d|1:00:00", shown)
    expect(page.locator("#time-left")).not_to_have_text(shown)
    page.get_by_text("Show the response").click()
    assert '"model": "gpt-realtime-2.1"' in page.locator("#answer").inner_text()
    assert token not in page.content()
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_the_request_contains_the_chosen_options(start_demo, visit):
    address, openai = start_demo()
    page = visit(address)
    page.get_by_label("Profile").select_option("de-escalation-open")
    page.get_by_label("Scenario").select_option("cancelled-train")
    page.get_by_label("Speed").fill("1.1")
    expect(page.locator("#request")).to_have_text(
        'POST /token {"profile":"de-escalation-open","scenario":"cancelled-train","speed":1.1}'
    )
    get_token(page)
    expect(page.locator("#time-left")).to_have_text(re.compile(r"2:00|1:5\d"))
    session = json.loads(post(f"{openai}/simulator/requests", None, method="GET")[2])[-1]["body"]["session"]
    assert "The last train is cancelled" in session["instructions"]
    assert session["audio"]["output"] == {"voice": "ash", "speed": 1.1}
    outdated = page.locator("#outdated")
    expect(outdated).to_be_empty()
    page.get_by_label("Speed").fill("0.9")
    expect(outdated).to_have_text(re.compile("Get a new one to apply your changes"))
    page.get_by_label("Speed").fill("1.1")
    expect(outdated).to_be_empty()


def test_an_expired_token_is_marked_and_cannot_be_used(start_demo, visit):
    address, _ = start_demo(TOKEN_TTL_SECONDS="10")
    page = visit(address)
    get_token(page)
    page.clock.install()
    page.clock.fast_forward(11_000)
    expect(page.locator("#time-left")).to_have_text("expired")
    expect(page.get_by_role("status")).to_have_text("The token has expired. Get a new one.")
    expect(page.get_by_role("button", name="Connect")).to_be_disabled()


# Refusals of a token

REFUSALS = [
    ("unauthorized", {}, 1, "OpenAI rejected the API key", "openai_rejected_key"),
    ("not-found", {}, 1, "OpenAI rejected this session", "openai_rejected_session"),
    ("insufficient-quota", {}, 1, "The OpenAI account is out of credit", "openai_out_of_quota"),
    ("rate-limit", {"retry_after": "42"}, 1, "OpenAI is busy", "openai_busy"),
    ("server-error", {"status": 500}, 3, "OpenAI is unavailable", "openai_unavailable"),
    ("not-json", {}, 1, "OpenAI’s response cannot be used", "openai_answer_invalid"),
]


@pytest.mark.parametrize("name, settings, times, title, code", REFUSALS, ids=[refusal[4] for refusal in REFUSALS])
def test_a_refusal_shows_a_message_and_the_next_attempt_succeeds(start_demo, visit, name, settings, times, title, code):
    address, openai = start_demo()
    page = visit(address)
    for _ in range(times):
        fault(openai, name, **settings)
    page.get_by_role("button", name="Get a token").click()
    notice = page.locator("#refusal")
    expect(notice).to_contain_text(title)
    expect(notice).to_contain_text(f"{code} · HTTP 50")
    assert notice.get_attribute("role") == "alert"
    if "retry_after" in settings:
        button = page.locator("#get-token")
        expect(button).to_have_text(re.compile(r"Try again in 0:[1-4]\d"))
        button.click(force=True)
        expect(button).to_have_text(re.compile(r"Try again in 0:[1-4]\d"))
        page.clock.install()
        page.clock.fast_forward(43_000)
    get_token(page)
    expect(notice).to_be_empty()


def test_every_refusal_code_has_a_message(start_demo, visit):
    address, _ = start_demo()
    codes = set(re.findall(r'StatusCode::[A-Z_]+,\s*"([a-z_]+)"', (ROOT / "function/src/api/refusal.rs").read_text()))
    table = re.search(r"const REFUSALS = \{(.*?)^\};", MESSAGES, re.DOTALL | re.MULTILINE)[1]
    assert set(re.findall(r"^  (\w+):", table, re.MULTILINE)) == codes
    page = visit(address)
    messages = page.evaluate(
        """async codes => {
          const { refusalMessage } = await import('/messages.js');
          const answer = { details: 'The cause', message: 'Do this', requestId: 'id' };
          return codes.map(code => refusalMessage({ status: 500, body: { code, ...answer } }));
        }""",
        sorted(codes),
    )
    assert len({message["title"] for message in messages}) == len(codes)
    for message in messages:
        assert message["title"] and message["cause"] == "The cause." and message["action"].endswith("."), message


def test_every_end_of_a_call_has_a_message():
    files = ("call", "token_call", "server_call")
    calls = "".join((ROOT / f"function/examples/demo/page/{name}.js").read_text() for name in files)
    several = r"(?:calls|channel|connection|microphone|token|server)_\w+"
    single = (
        "answer_invalid|cancelled|hung_up|insecure_page|network|no_webrtc|other_side_ended|session_limit|time_over|unexpected"
    )
    ends = set(re.findall(f"'({several}|{single})'", calls))
    ends |= {f"calls_{status}" for status in (400, 401, 403, 404, 429)}
    table = re.search(r"const CALL_ENDS = \{(.*?)^\};", MESSAGES, re.DOTALL | re.MULTILINE)[1]
    assert set(re.findall(r"^  (\w+): \[", table, re.MULTILINE)) == ends


def test_refusals_by_api_gateway_show_a_message(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)

    def refuse(status, route):
        route.fulfill(status=status, body='{"message": "No"}')

    for status, title in ((401, "You are not signed in"), (429, "Too many requests"), (503, "The service is paused")):
        page.route("**/token", functools.partial(refuse, status))
        page.get_by_role("button", name="Get a token").click()
        expect(page.locator("#refusal")).to_contain_text(title)
    page.route("**/token", lambda route: route.abort())
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#refusal")).to_contain_text("The server does not answer")


def test_a_page_opened_before_the_demo_runs_loads_the_profiles_later(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    page.route("**/profiles", lambda route: route.abort())
    page.reload()
    expect(page.locator("#refusal")).to_contain_text("Start it if not, then try again.")
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#refusal")).to_contain_text("Start it if not, then try again.")
    page.unroute("**/profiles")
    get_token(page)
    expect(page.locator("#refusal")).to_be_empty()
    expect(page.get_by_label("Profile")).to_have_value("default")


def test_the_demo_page_works_in_addition_to_the_allowed_origins(start_demo, visit):
    address, _ = start_demo(ALLOWED_ORIGINS="https://app.example.com")
    for own_address in (address, address.replace("127.0.0.1", "localhost")):
        connect(visit(own_address))


def test_a_page_from_another_origin_shows_that_it_is_not_allowed(start_demo, visit):
    address, _ = start_demo(ALLOWED_ORIGINS="https://app.example.com")
    page = visit(address.replace("127.0.0.1", "mint.example"))
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#refusal")).to_contain_text("This page is not allowed")


# CORS, as a browser enforces it

REQUEST_TOKEN = """async ([url, body, authorization]) => {
  const headers = body ? { 'Content-Type': 'application/json' } : {};
  if (authorization) headers.Authorization = authorization;
  const response = await fetch(`${url}/token`, { method: 'POST', headers, body }).catch(error => ({ error }));
  if (response.error) return { error: response.error.name };
  const read = name => response.headers.get(name);
  return { status: response.status, retryAfter: read('retry-after'), rateLimit: read('ratelimit'),
    policy: read('ratelimit-policy'), ...await response.json() };
}"""


def test_only_pages_of_an_allowed_origin_can_read_answers_and_refusals(start_demo, visit, origin, quota_table, tmp_path):
    allowed, foreign = origin(tmp_path), origin(tmp_path)
    address, openai = start_demo(ALLOWED_ORIGINS=allowed, QUOTA_PER_DAY="1", **quota_table)
    allowed_page, foreign_page = visit(allowed), visit(foreign)

    for body in (None, '{"voice": "marin"}'):
        assert foreign_page.evaluate(REQUEST_TOKEN, [address, body]) == {"error": "TypeError"}
    # The request with a body requires a preflight.
    fault(openai, "rate-limit", retry_after="42")
    busy = allowed_page.evaluate(REQUEST_TOKEN, [address, None])
    assert (busy["status"], busy["code"], busy["retryAfter"]) == (503, "openai_busy", "42")
    given = allowed_page.evaluate(REQUEST_TOKEN, [address, '{"voice": "marin"}'])
    assert (given["status"], given["voice"]) == (200, "marin") and given["value"].startswith("ek_")
    assert '"day";r=0' in given["rateLimit"] and '"day";q=1' in given["policy"]
    over = allowed_page.evaluate(REQUEST_TOKEN, [address, '{"voice": "marin"}'])
    assert (over["status"], over["code"]) == (429, "quota_exceeded")
    assert int(over["retryAfter"]) > 0 and '"day";r=0' in over["rateLimit"] and '"day";q=1' in over["policy"]


def test_a_page_can_send_an_authorization_header_to_the_demo(start_demo, visit, origin, tmp_path):
    allowed = origin(tmp_path)
    address, _ = start_demo(ALLOWED_ORIGINS=allowed)
    assert visit(allowed).evaluate(REQUEST_TOKEN, [address, '{"voice": "marin"}', "Bearer eyJ"])["status"] == 200


def test_a_used_up_quota_counts_down_to_the_next_attempt(start_demo, visit, quota_table):
    address, _ = start_demo(QUOTA_PER_DAY="1", **quota_table)
    page = visit(address)
    get_token(page)
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#refusal")).to_contain_text("You have used up your tokens and calls for now")
    expect(page.locator("#get-token")).to_have_text(re.compile(r"Try again in [\d:]+"))


# Opens the WebSocket of an answer as the Vercel AI SDK does (`getWebSocketConfig` of @ai-sdk/openai 4), and returns the first
# event and what happened to the socket.
OPEN_SOCKET = """({ token, url }) => new Promise(resolve => {
  const socket = new WebSocket(url, ['realtime', `openai-insecure-api-key.${token}`]);
  let opened = false, first;
  socket.onopen = () => { opened = true; };
  socket.onclose = () => resolve({ opened, closed: true, ...first });
  socket.onmessage = ({ data }) => {
    first ??= JSON.parse(data);
    if (first.type !== 'error') resolve({ opened, protocol: socket.protocol, ...first });
  };
})"""


def test_the_answer_opens_a_websocket_once(start_demo, visit, origin, tmp_path):
    allowed = origin(tmp_path)
    address, openai = start_demo(ALLOWED_ORIGINS=allowed)
    page = visit(allowed)
    # The AI SDK's request for its `api.token`.
    answer = page.evaluate(REQUEST_TOKEN, [address, "{}"])
    assert answer["url"] == f"{openai.replace('http', 'ws')}/v1/realtime?model=gpt-realtime-2.1"
    assert answer["token"] == answer["value"]
    first = page.evaluate(OPEN_SOCKET, answer)
    assert (first["type"], first["protocol"], first["session"]["model"]) == ("session.created", "realtime", "gpt-realtime-2.1")
    second = page.evaluate(OPEN_SOCKET, answer)
    assert (second["opened"], second["type"], second["closed"]) == (True, "error", True)
    assert second["error"]["code"] == "ephemeral_token_already_used"
    refused = page.evaluate(REQUEST_TOKEN, [address, '{"sessionConfig": {"instructions": "Be brief."}}'])
    assert (refused["status"], refused["code"]) == (400, "invalid_request")
    assert "a profile on the server defines the session" in refused["details"]


# Places a call as a server does, with its key: OpenAI's form of an offer and a session. Without a `channel`, the offer has no
# line for data channels. With one, both ends open it without negotiation.
BROKERED_CALL = """async ({ calls, channel }) => {
  const peer = (window.peer = new RTCPeerConnection());
  window.created = null;
  window.loudest = 0;
  peer.ontrack = ({ track }) => {
    const speaker = Object.assign(new Audio(), { srcObject: new MediaStream([track]) });
    speaker.play();
  };
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  peer.addTrack(microphone.getAudioTracks()[0], microphone);
  if (channel !== null) {
    const events = peer.createDataChannel('oai-events', { negotiated: true, id: channel });
    events.onmessage = ({ data }) => (window.created ??= JSON.parse(data));
  }
  setInterval(async () => {
    for (const report of (await peer.getStats()).values())
      if (report.type === 'inbound-rtp') window.loudest = Math.max(window.loudest, report.audioLevel ?? 0);
  }, 50);
  await peer.setLocalDescription();
  // The browser adds its candidates to the description later.
  const offer = peer.localDescription.sdp;
  const form = new FormData();
  form.append('sdp', offer);
  const session = { type: 'realtime', model: 'gpt-realtime-2.1', instructions: 'Be kind.' };
  form.append('session', new Blob([JSON.stringify(session)], { type: 'application/json' }));
  const url = channel === null ? calls : `${calls}?dcid=${channel}`;
  const answer = await fetch(url, { method: 'POST', body: form, headers: { Authorization: 'Bearer sk-test' } });
  if (answer.status !== 201) throw new Error(await answer.text());
  const sdp = await answer.text();
  await peer.setRemoteDescription({ type: 'answer', sdp });
  const media = text => text.match(/^m=\\w+ (?!0 )/gm).length;
  return [offer, media(offer), media(sdp)];
}"""


@pytest.mark.parametrize("channel", [None, 4])
def test_a_call_that_a_server_placed_is_a_conversation(simulator, visit, origin, tmp_path, channel):
    page = visit(origin(tmp_path))
    calls = f"{simulator}/v1/realtime/calls"
    offer, offered, answered = page.evaluate(BROKERED_CALL, {"calls": calls, "channel": channel})
    assert offered == answered == (1 if channel is None else 2)
    [placed] = json.loads(post(f"{simulator}/simulator/requests", None, method="GET")[2])
    assert (placed["sdp"], placed["session"]["instructions"]) == (offer, "Be kind.")
    wait_until(page, "peer.connectionState === 'connected'")
    wait_until(page, "loudest > 0.05")
    if channel is not None:
        assert page.evaluate("created.session.instructions") == "Be kind."
    [call] = json.loads(post(f"{simulator}/simulator/calls", None, method="GET")[2])["open"]
    assert (call["connected"], call["data_channel"], call["credential"]) == (True, channel is not None, "key")
    page.evaluate("peer.close()")
    for _ in range(100):
        ended = json.loads(post(f"{simulator}/simulator/calls", None, method="GET")[2])["ended"]
        if ended:
            break
        page.wait_for_timeout(100)
    assert [call["reason"] for call in ended] == ["client-left"]


# The call
def test_two_clicks_start_a_call_with_the_chosen_session(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    page.get_by_label("Voice").select_option("marin")
    page.evaluate(
        """() => {
          window.loudest = { input: 0, output: 0 };
          window.lengths = new Set();
          new MutationObserver(() => lengths.add(turns.querySelector('.assistant p')?.textContent.length))
            .observe(turns, { childList: true, subtree: true });
          setInterval(() => {
            for (const id in loudest) loudest[id] = Math.max(loudest[id], document.getElementById(id).ariaValueNow);
          }, 50);
        }"""
    )
    connect(page)
    [created] = events(page, "session.created")
    assert created["session"]["model"] == "gpt-realtime-2.1"
    assert created["session"]["audio"]["output"]["voice"] == "marin"

    user, model = page.locator("#turns .user p").first, page.locator("#turns .assistant p").first
    expect(user).to_have_text(re.compile(r"\(.* of speech\)"))
    expect(model).to_have_text(re.compile(r"This is the simulator. I heard you speak for .+\."))
    assert page.evaluate("lengths.size") > 5, "the transcript grows word by word"
    wait_until(page, "loudest.input > 20 && loudest.output > 20")
    done = [event["response"]["id"] for event in events(page, "response.done")]
    assert done and len(done) == len(set(done)), "a response is done once"
    assert len(events(page, "response.output_audio_transcript.delta")) > 5

    page.get_by_role("button", name="Hang up").click()
    expect(page.locator("#failure")).to_contain_text(re.compile(r"You hung up.*The call lasted \d+ seconds?\."))
    expect(page.get_by_role("status")).to_have_text("The call has ended.")
    expect(page.get_by_role("button", name="Connect")).to_be_disabled()
    expect(page.get_by_role("button", name="Get a token")).to_be_focused()
    expect(page.locator("#time-left")).to_have_text("used")
    assert page.evaluate("[input.ariaValueNow, output.ariaValueNow, speaker.srcObject]") == ["0", "0", None]


def test_a_user_can_type_make_the_model_speak_first_and_mute(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    page.get_by_label("Profile").select_option("de-escalation-open")
    get_token(page)
    page.get_by_role("button", name="Connect").click()
    page.get_by_role("button", name="Mute").click()
    page.get_by_role("button", name="Make it speak").click()
    model = page.locator("#turns .assistant p")
    expect(model.first).to_contain_text("This is the simulator.")
    expect(page.locator("#events .type").get_by_text("response.done").first).to_be_visible()
    page.get_by_label("Message", exact=True).fill("Which flat is it?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#turns .user p").last).to_have_text("Which flat is it?")
    expect(model.last).to_have_text("This is the simulator. You wrote: Which flat is it?")
    assert page.evaluate("input.ariaValueNow") == "0"
    expect(page.get_by_role("button", name="Unmute")).to_be_visible()


def test_a_translation_uses_its_own_url_and_has_no_turns(start_demo, visit):
    address, openai = start_demo()
    page = visit(address)
    session = {"model": "gpt-realtime-translate", "audio": {"output": {"language": "es"}}}
    authorized = {"Authorization": "Bearer sk-test", "Content-Type": "application/json"}
    made = post(f"{openai}/v1/realtime/translations/client_secrets", json.dumps({"session": session}).encode(), authorized)
    secret = json.loads(made[2])
    token = {
        "success": True,
        "value": secret["value"],
        "expiresAt": secret["expires_at"],
        "model": session["model"],
        "callsUrl": f"{openai}/v1/realtime/translations/calls",
    }
    answer = json.loads(post(f"{address}/profiles", None, method="GET")[2])
    answer["profiles"] = {"spanish": {"kind": "translation", "fields": []}}
    page.route("**/profiles", lambda route: route.fulfill(json=answer))
    page.route("**/token", lambda route: route.fulfill(json=token))
    page.reload()
    connect(page)
    [created] = events(page, "session.created")
    assert created["session"]["type"] == "translation"
    expect(page.get_by_role("button", name="Send")).to_be_disabled()


# Calls that fail or end


def test_a_denied_microphone_shows_a_message_and_costs_no_token(start_demo, visit):
    address, _ = start_demo()
    page = visit(address, permissions=())
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#refusal")).to_contain_text("The microphone is not allowed")
    expect(page.locator("#refusal")).to_contain_text("This cost no token")
    expect(page.get_by_role("button", name="Connect")).to_be_disabled()
    assert minted_sessions(address) == []
    page.context.grant_permissions(["microphone"])
    connect(page)
    expect(page.locator("#refusal")).to_be_empty()
    assert len(minted_sessions(address)) == 1


def test_the_microphone_is_off_between_the_token_and_the_call(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    page.evaluate(KEEP_MICROPHONE)
    get_token(page)
    assert not page.evaluate("window.microphone")
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")
    assert not page.evaluate(MICROPHONE_STOPPED)


def test_a_microphone_that_is_denied_after_the_token_keeps_the_token(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    get_token(page)
    page.context.clear_permissions()
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#failure")).to_contain_text("The microphone is not allowed")
    page.context.grant_permissions(["microphone"])
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")
    expect(page.locator("#failure")).to_be_empty()


def test_a_token_that_was_used_elsewhere_shows_a_message_and_the_next_one_connects(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    with page.expect_response("**/token") as answered:
        get_token(page)
    page.evaluate(OPEN_SESSION, answered.value.json())
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#failure")).to_contain_text("The token was used before")
    expect(page.locator("#failure")).to_contain_text("ephemeral_token_already_used")
    expect(page.locator("#time-left")).to_have_text("used")
    expect(page.get_by_role("button", name="Connect")).to_be_disabled()
    connect(page)
    assert len(minted_sessions(address)) == 2


def test_every_connection_has_a_token_of_its_own(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    for times in (1, 2, 3):
        connect(page)
        page.get_by_role("button", name="Hang up").click()
        expect(page.locator("#time-left")).to_have_text("used")
        expect(page.get_by_role("button", name="Connect")).to_be_disabled()
        assert len(minted_sessions(address)) == times


def test_hanging_up_before_the_offer_is_sent_keeps_the_token_valid(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    get_token(page)
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => new Promise(() => {}); }")
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("status")).to_have_text("Waiting for the microphone…")
    page.get_by_role("button", name="Hang up").click()
    expect(page.locator("#failure")).to_contain_text("The token is still valid")
    expect(page.get_by_role("button", name="Connect")).to_be_focused()


def test_a_token_that_expires_during_the_microphone_prompt_ends_the_call(start_demo, visit):
    address, _ = start_demo(TOKEN_TTL_SECONDS="60")
    page = visit(address)
    page.clock.install()
    get_token(page)
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => new Promise(() => {}); }")
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("status")).to_have_text("Waiting for the microphone…")
    page.clock.fast_forward(61_000)
    expect(page.locator("#failure")).to_contain_text("The token has expired")
    expect(page.get_by_role("status")).to_have_text("Not connected.")
    expect(page.get_by_role("button", name="Get a token")).to_be_focused()


def test_a_token_that_expires_during_a_call_does_not_end_it(start_demo, visit):
    address, _ = start_demo(TOKEN_TTL_SECONDS="60")
    page = visit(address)
    page.clock.install()
    connect(page)
    # Speech at the microphone interrupts a response, so the test waits until the response is complete.
    expect(page.locator("#events .type").get_by_text("response.done").first).to_be_visible()
    page.clock.fast_forward(61_000)
    expect(page.locator("#time-left")).to_have_text("expired")
    page.get_by_label("Message", exact=True).fill("Still there?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#turns .assistant p").last).to_have_text("This is the simulator. You wrote: Still there?")
    page.get_by_role("button", name="Hang up").click()
    expect(page.get_by_role("button", name="Connect")).to_be_disabled()


def test_a_click_before_the_page_is_ready_is_not_lost(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    page.route("**/profiles", lambda route: (page.wait_for_timeout(500), route.continue_()))
    page.reload()
    get_token(page)


def test_hanging_up_while_openai_is_called_aborts_the_request(start_demo, visit):
    address, openai = start_demo()
    page = visit(address)
    get_token(page)
    fault(openai, "hang", at="calls")
    # The timeout is shorter than the page's own.
    with page.expect_event("requestfailed", lambda request: "/realtime/calls" in request.url, timeout=10_000):
        with page.expect_request("**/realtime/calls*"):
            page.get_by_role("button", name="Connect").click()
        expect(page.get_by_role("status")).to_have_text("Calling OpenAI…")
        page.get_by_role("button", name="Hang up").click()
    expect(page.locator("#failure")).to_contain_text("You hung up")
    expect(page.locator("#time-left")).to_have_text("used")
    connect(page)


def test_a_double_click_or_a_held_key_connects_without_hanging_up(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    get_token(page)
    page.get_by_role("button", name="Connect").dblclick()
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")
    page.get_by_role("button", name="Hang up").click()
    get_token(page)
    page.get_by_role("button", name="Connect").focus()
    for _ in range(3):
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")


@pytest.mark.parametrize(
    "error, title", [("NotFoundError", "No microphone was found"), ("NotReadableError", "The microphone cannot be used")]
)
def test_a_failing_microphone_shows_a_message(start_demo, visit, error, title):
    address, _ = start_demo()
    page = visit(address)
    fail = "name => navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('No.', name); }"
    get_token(page)
    page.evaluate(fail, error)
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#failure")).to_contain_text(title)
    expect(page.get_by_role("button", name="Connect")).to_be_enabled()


def test_without_a_microphone_no_token_is_requested(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    page.evaluate(
        """() => {
          navigator.mediaDevices.enumerateDevices = async () => [];
          navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('No.', 'NotFoundError'); };
        }"""
    )
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#refusal")).to_contain_text("No microphone was found")
    expect(page.get_by_role("button", name="Get a token")).to_be_enabled()
    assert minted_sessions(address) == []


def test_the_microphone_is_released_after_the_prompt(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    page.evaluate(KEEP_MICROPHONE)
    page.evaluate("() => { navigator.permissions.query = async () => ({ state: 'prompt' }); }")
    get_token(page)
    assert page.evaluate(MICROPHONE_STOPPED)


def test_an_insecure_page_explains_the_missing_microphone(start_demo, visit):
    address, _ = start_demo()
    page = visit(address.replace("127.0.0.1", "mint.example"))
    get_token(page)
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#failure")).to_contain_text("The browser gives this page no microphone")
    expect(page.locator("#failure")).to_contain_text("http://127.0.0.1")


def test_a_network_failure_shows_a_message_and_keeps_the_token(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    get_token(page)
    page.route("**/realtime/calls", lambda route: route.abort())
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#failure")).to_contain_text("OpenAI cannot be reached")
    page.unroute("**/realtime/calls")
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")


@pytest.mark.parametrize(
    "name, settings, title",
    [
        ("unauthorized", {}, "OpenAI rejected the token"),
        ("forbidden", {}, "OpenAI does not permit this call"),
        ("bad-request", {}, "OpenAI rejected the call"),
        ("not-found", {}, "There are no calls at this address"),
        ("rate-limit", {}, "OpenAI accepts no more calls now"),
        ("insufficient-quota", {}, "The OpenAI account is out of credit"),
        ("server-error", {"status": 503}, "OpenAI is unavailable"),
        ("not-json", {}, "OpenAI’s answer to the call is invalid"),
    ],
)
def test_a_call_refused_by_openai_shows_a_message_and_the_next_call_succeeds(start_demo, visit, name, settings, title):
    address, openai = start_demo()
    page = visit(address)
    get_token(page)
    fault(openai, name, at="calls", **settings)
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#failure")).to_contain_text(title)
    expect(page.locator("#time-left")).to_have_text("used")
    connect(page)
    expect(page.locator("#failure")).to_be_empty()


@pytest.mark.parametrize(
    "name, seconds, title",
    [
        ("hang", 15, "OpenAI did not answer the call"),
        ("never-connects", 20, "No audio connection could be established"),
        ("no-events", 20, "The data channel did not open"),
    ],
)
def test_a_call_that_does_not_connect_in_time_shows_a_message(start_demo, visit, name, seconds, title):
    address, openai = start_demo()
    page = visit(address)
    page.clock.install()
    page.evaluate(
        """() => {
          window.RTCPeerConnection = class extends RTCPeerConnection { constructor() { super(); window.peer = this; } };
        }"""
    )
    get_token(page)
    fault(openai, name, at="calls")
    page.get_by_role("button", name="Connect").click()
    waiting = "Calling OpenAI…" if name == "hang" else "Establishing the audio connection…"
    expect(page.get_by_role("status")).to_have_text(waiting)
    if name == "no-events":
        wait_until(page, "peer.connectionState === 'connected'")
    page.clock.fast_forward(seconds * 1000)
    expect(page.locator("#failure")).to_contain_text(title)
    expect(page.get_by_role("status")).to_have_text("Not connected.")


@pytest.mark.parametrize(
    "name, title",
    [
        ("ends", "OpenAI ended the session"),
        ("events-close", "OpenAI ended the session"),
        ("drops", "The connection was lost"),
    ],
)
def test_a_call_that_breaks_off_shows_a_message(start_demo, visit, name, title):
    address, openai = start_demo()
    page = visit(address)
    page.clock.install()
    get_token(page)
    fault(openai, name, at="calls", ms=500)
    # The connection is too brief to wait for. The call's length in the message shows that there was one.
    page.get_by_role("button", name="Connect").click()
    if name == "drops":
        expect(page.get_by_role("status")).to_have_text("The connection is interrupted. Waiting for it to recover…")
        page.clock.fast_forward(10_000)
    # The timeout is short because the browser itself reports a failed connection 15 seconds later.
    expect(page.locator("#failure")).to_contain_text(title, timeout=10_000)
    expect(page.locator("#failure")).to_contain_text("The call lasted")
    expect(page.get_by_role("button", name="Get a token")).to_be_enabled()


def test_an_error_event_shows_a_message_and_the_call_continues(start_demo, visit):
    address, openai = start_demo()
    page = visit(address)
    fault(openai, "error-event", at="calls", code="rate_limit_exceeded", ms=200)
    connect(page)
    notice = page.locator("#failure")
    expect(notice).to_contain_text("OpenAI reports an error")
    expect(notice).to_contain_text("Wait a little before you continue.")
    expect(page.locator("#turns .assistant p").first).to_contain_text("I heard you speak")
    expect(notice).to_be_empty()
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")


def test_a_session_at_its_maximum_length_shows_a_message(start_demo, visit, start):
    port = free_port()
    start([TARGET / "debug/openai-simulator", "--port", port, "--session-limit", 6], "openai").wait_for_port(port)
    address, _ = start_demo(OPENAI_API_KEY="sk-my-own", OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1")
    page = visit(address)
    assert "Simulated" not in page.locator("#upstream").inner_text()
    get_token(page)
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#failure")).to_contain_text("The session reached its maximum length")


def test_speech_cut_off_by_the_end_of_the_call_is_no_longer_marked_as_speaking(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    # A tone in place of the microphone: someone who speaks from the start.
    page.evaluate(
        """() => {
          const context = new AudioContext();
          const tone = new OscillatorNode(context);
          const microphone = context.createMediaStreamDestination();
          tone.connect(microphone);
          tone.start();
          navigator.mediaDevices.getUserMedia = async () => microphone.stream;
        }"""
    )
    connect(page)
    expect(page.locator("#turns .user p")).to_have_text("speaking…")
    page.get_by_role("button", name="Hang up").click()
    expect(page.locator("#turns .user p")).to_have_text("(spoken)")


def test_a_call_ended_by_openai_shows_its_length(start_demo, visit):
    address, openai = start_demo()
    page = visit(address)
    get_token(page)
    with page.expect_response("**/realtime/calls") as answered:
        page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")
    location = answered.value.headers["location"]
    assert post(f"{openai}{location}/hangup", headers={"Authorization": "Bearer sk-test"})[0] == 200
    notice = page.locator("#failure")
    expect(notice).to_contain_text("OpenAI ended the session")
    expect(notice).to_contain_text("The call lasted")
    expect(page.get_by_role("button", name="Hang up")).to_be_hidden()


# Accessibility


def press_until(page, key, name):
    """Presses a key until the control with that name has the focus."""
    for _ in range(30):
        page.keyboard.press(key)
        if page.evaluate("document.activeElement.innerText") == name:
            return
    raise AssertionError(f"the keyboard does not reach {name!r}")


def test_a_call_works_with_the_keyboard_alone(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    expect(page.get_by_role("button", name="Get a token")).to_be_enabled()
    press_until(page, "Tab", "Get a token")
    page.keyboard.press("Enter")
    expect(page.locator("#time-left")).to_have_text(re.compile(r"\d+:\d\d"))
    press_until(page, "Tab", "Connect")
    outline = page.evaluate("getComputedStyle(document.activeElement).outline")
    assert "3px" in outline and "solid" in outline
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")
    expect(page.get_by_role("button", name="Hang up")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("The call has ended.")
    expect(page.get_by_role("button", name="Get a token")).to_be_focused()


def test_a_call_that_ends_during_typing_moves_the_focus_to_the_next_token(start_demo, visit):
    address, openai = start_demo()
    page = visit(address)
    with page.expect_response("**/realtime/calls") as answered:
        connect(page)
    page.get_by_label("Message", exact=True).press("H")
    post(f"{openai}{answered.value.headers['location']}/hangup", headers={"Authorization": "Bearer sk-test"})
    expect(page.locator("#failure")).to_contain_text("OpenAI ended the session")
    expect(page.get_by_role("button", name="Get a token")).to_be_focused()


def test_every_control_has_a_name_and_headings_are_in_order(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    page.get_by_label("Profile").select_option("de-escalation-open")
    connect(page)
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "checkbox", "combobox", "list", "meter", "radio", "slider", "textbox"}
    named = [
        (node["role"]["value"], node.get("name", {}).get("value"))
        for node in tree
        if node.get("role", {}).get("value") in roles and not node["ignored"]
    ]
    assert {role for role, _ in named} == roles
    assert all(name for _, name in named), named
    levels = [int(tag[1]) for tag in page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => h.tagName)")]
    assert levels == [1, 2, 2, 2, 2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_fits_and_all_text_has_enough_contrast(start_demo, visit, scheme):
    address, openai = start_demo()
    # Without motion, so that no colour is in transition.
    page = visit(address, viewport={"width": 360, "height": 740}, color_scheme=scheme, reduced_motion="reduce")
    page.get_by_label("Profile").select_option("de-escalation-open")

    def check():
        assert_readable(page, 360)

    check()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == {"light": "rgb(244, 247, 245)", "dark": "rgb(15, 21, 19)"}[scheme]
    fault(openai, "insufficient-quota")
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#refusal")).to_contain_text("The OpenAI account is out of credit")
    check()
    connect(page)
    expect(page.locator("#turns .assistant p")).to_have_text(re.compile(r"I heard you speak for .+\."))
    events(page, "session.created")
    check()
    page.get_by_role("button", name="Hang up").click()
    expect(page.locator("#failure")).to_contain_text("You hung up")
    check()


# The scripts of README.md and docs/api.md, unmodified, with and without OpenAI's SDK


def documented_scripts():
    """The README's scripts for a token and for a call, and the script of docs/api.md for a call with OpenAI's SDK."""
    pages = (ROOT / "README.md").read_text(), (ROOT / "docs/api.md").read_text()
    own, with_sdk = (re.findall(r"^```js\n(.*?)^```", page, re.MULTILINE | re.DOTALL) for page in pages)
    assert (len(own), len(with_sdk)) == (2, 2)
    return [*own, with_sdk[0]]


@pytest.fixture
def script_page(start_demo, visit, origin, tmp_path):
    """Runs documented scripts in a page with an origin of its own: the page, the demo's address, its log, and its errors."""

    def script_page(*scripts, after="", intercept=None, permissions=("microphone",), **environment):
        folder = tmp_path / "page"
        folder.mkdir()
        bundle = "/node_modules/@openai/agents-realtime/dist/bundle/openai-realtime-agents.mjs"
        imports = json.dumps({"imports": {"@openai/agents-realtime": bundle}})
        token_url = "const TOKEN_URL = new URLSearchParams(location.search).get('token')"
        (folder / "index.html").write_text(
            f"<link rel=icon href=data:,><script type=importmap>{imports}</script><script>{token_url}</script>"
        )
        (folder / "scripts.js").write_text("\n".join([*scripts, after]))
        (folder / "node_modules").symlink_to(ROOT / "tests/node/node_modules")
        page_origin = origin(folder)
        address, _ = start_demo(ALLOWED_ORIGINS=page_origin, **environment)
        logged, uncaught, external = [], [], []
        page = visit(f"{page_origin}/?token={quote(address + '/token')}", permissions=permissions, uncaught=uncaught)
        page.evaluate(KEEP_MICROPHONE)
        page.on("console", lambda message: logged.append(message.args[0].json_value()) if message.type == "log" else None)
        # No request can reach the real OpenAI.
        page.route("https://**", lambda route: (external.append(route.request.url), route.abort()))
        if intercept:
            page.route("**/token", intercept)
        page.add_script_tag(url="/scripts.js", type="module")
        page.external = external
        return page, address, logged, uncaught

    return script_page


def wait_for_event(page, logged, kind, times=1):
    """Waits until the page has logged that many events of the type, and returns the last of them."""
    for _ in range(150):
        found = [event for event in logged if event["type"] == kind]
        if len(found) >= times:
            return found[-1]
        page.wait_for_timeout(100)
    raise AssertionError([event["type"] for event in logged])


def wait_for_error(page, uncaught):
    """Waits for the error that stopped the page's script, and returns its message."""
    for _ in range(150):
        if uncaught:
            return uncaught[0].message
        page.wait_for_timeout(100)
    raise AssertionError("no error stopped the script")


def test_the_readme_scripts_connect(script_page):
    token, call, _ = documented_scripts()
    page, _, logged, uncaught = script_page(token, call)
    said = wait_for_event(page, logged, "response.output_audio_transcript.done")
    assert said["transcript"].startswith("This is the simulator.")
    assert logged[0]["type"] == "session.created"
    assert (page.external, uncaught) == ([], [])


def require_sdk():
    if not (ROOT / "tests/node/node_modules/.package-lock.json").exists():
        skip("the test of OpenAI's SDK needs npm")
    version = json.loads((ROOT / "tests/node/package.json").read_text())["dependencies"]["@openai/agents-realtime"]
    assert f"here version {version}:" in (ROOT / "docs/api.md").read_text()


def assert_kept(minted, session):
    """Every value of the minted session is also in `session`."""
    for name, value in minted.items():
        if isinstance(value, dict):
            assert_kept(value, session[name])
        else:
            assert session[name] == value, name


def test_the_script_with_openai_sdk_keeps_the_session_of_the_profile(script_page):
    require_sdk()
    token, _, call = documented_scripts()

    def choose_the_profile(route):
        route.continue_(post_data='{"profile": "de-escalation-open", "speed": 1.1}')

    expose = "Object.assign(window, { session, transport, RealtimeAgent });"
    page, address, logged, uncaught = script_page(token, call, after=expose, intercept=choose_the_profile)
    wait_for_event(page, logged, "session.updated", 2)
    [minted] = minted_sessions(address)
    assert len(minted["instructions"]) > 1000 and minted["audio"]["output"]["speed"] == 1.1
    assert minted["audio"]["input"]["noise_reduction"] and minted["audio"]["input"]["turn_detection"] and minted["tools"]
    created = wait_for_event(page, logged, "session.created")["session"]
    assert_kept(minted, created)
    assert wait_for_event(page, logged, "session.updated", 2)["session"] == created, "tracing included"

    wait_until(page, "window.session?.transport.status === 'connected'")
    page.evaluate(
        """async () => {
          const { tool } = await import('@openai/agents-realtime');
          const parameters = { type: 'object', properties: {}, required: [], additionalProperties: true };
          const execute = () => { window.ran = true; return 'done'; };
          const end = tool({ name: 'end_exercise', description: 'Ends.', strict: false, parameters, execute });
          const other = { name: 'Other', instructions: 'Be brief.', voice: 'sage', tools: [end] };
          await session.updateAgent(new RealtimeAgent(other));
        }"""
    )
    assert wait_for_event(page, logged, "session.updated", 3)["session"] == created, "after a handoff too"
    said = wait_for_event(page, logged, "response.output_audio_transcript.done")
    assert said["transcript"].startswith("This is the simulator. I heard you speak")
    assert not [event for event in logged if event["type"] == "error"]
    # The simulator calls no tool. The transport emits this event when OpenAI does.
    ids = {"id": "1", "callId": "1", "responseId": "1"}
    call = {"type": "function_call", "name": "end_exercise", "arguments": "{}", **ids}
    page.evaluate("call => transport.emit('function_call', call)", call)
    wait_until(page, "window.ran")
    page.evaluate("session.close()")
    wait_until(page, MICROPHONE_STOPPED)
    assert (page.external, uncaught) == ([], [])


@pytest.mark.parametrize("call", [1, 2], ids=["call", "sdk"])
def test_a_call_refused_by_openai_stops_the_scripts_with_the_reason(script_page, call):
    require_sdk()
    scripts = documented_scripts()

    def plan_fault(route):
        fault(route.request.url.removesuffix("/token"), "unauthorized", at="calls")
        route.continue_()

    page, _, _, uncaught = script_page(scripts[0], scripts[call], intercept=plan_fault)
    assert re.search(r"call.*401.*Incorrect API key", wait_for_error(page, uncaught), re.DOTALL)
    wait_until(page, MICROPHONE_STOPPED)


def answer(status, body, **headers):
    return lambda route: route.fulfill(status=status, body=body, headers={"Access-Control-Allow-Origin": "*", **headers})


@pytest.mark.parametrize(
    "intercept, message",
    [
        (answer(401, '{"message":"Unauthorized"}'), "No token (HTTP 401): Unauthorized"),
        (answer(429, '{"message":"Too Many Requests"}'), "No token (HTTP 429): Too Many Requests"),
        (answer(503, '{"message":"Service Unavailable"}'), "No token (HTTP 503): Service Unavailable"),
        (answer(502, "<html>"), "No token (HTTP 502): no reason given"),
        (
            lambda route: route.abort(),
            "No readable answer: the token service is unreachable or overloaded, or does not allow this page",
        ),
    ],
    ids=["signed-out", "too-many", "paused", "no-json", "no-answer"],
)
def test_refusals_by_api_gateway_stop_the_scripts_with_a_message(script_page, intercept, message):
    page, _, _, uncaught = script_page(*documented_scripts()[:2], intercept=intercept)
    assert wait_for_error(page, uncaught) == message
    wait_until(page, MICROPHONE_STOPPED)


def test_a_refusal_by_the_function_stops_the_scripts_with_reason_wait_and_request_id(script_page):
    def plan_fault(route):
        fault(route.request.url.removesuffix("/token"), "rate-limit", retry_after="42")
        route.continue_()

    page, _, _, uncaught = script_page(*documented_scripts()[:2], intercept=plan_fault)
    message = wait_for_error(page, uncaught)
    assert re.fullmatch(
        r"No token \(HTTP 503\): OpenAI API returned 429: too many requests, try again in 42 s, demo-\d+", message
    ), message


def test_a_denied_microphone_uses_no_token(script_page):
    page, address, _, uncaught = script_page(*documented_scripts()[:2], permissions=())
    assert "Permission denied" in wait_for_error(page, uncaught)
    assert minted_sessions(address) == []


def test_the_scripts_release_the_microphone_at_the_maximum_session_length(script_page, start):
    port = free_port()
    start([TARGET / "debug/openai-simulator", "--port", port, "--session-limit", 6], "openai").wait_for_port(port)
    own = {"OPENAI_API_KEY": "sk-my-own", "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
    page, _, logged, uncaught = script_page(*documented_scripts()[:2], **own)
    assert wait_for_event(page, logged, "error")["error"]["code"] == "session_expired"
    wait_until(page, MICROPHONE_STOPPED)
    assert uncaught == []
