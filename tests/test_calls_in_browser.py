"""Calls that the server places and ends: the demo's page and OpenAI's unmodified clients in a real browser."""

import functools
import json
import math
import re
import time
from urllib.parse import quote

import pytest
from conftest import ROOT, post, skip
from demo_page import KEEP_MICROPHONE, MICROPHONE_STOPPED, assert_readable, events, expect, fault, get_token, wait_until

CONNECTED = "Connected. Say something."

# Makes every peer connection of the page available to a test, together with the states of its data channels.
KEEP_PEER = """() => {
  window.RTCPeerConnection = class extends RTCPeerConnection { constructor() { super(); window.lastPeer = this; } };
}"""

# Records the page's texts at each change of the state of the call or of its limit, and at each second of the countdown. A test that
# reads the page itself can miss a state that lasts two seconds.
RECORD_STATES = """() => {
  window.shown = [];
  const text = id => document.getElementById(id).textContent;
  for (const part of ['state', 'limit']) {
    const element = document.getElementById(part);
    const record = () => shown.push({
      part, state: element.dataset.state, text: text(`${part}-text`), left: text('call-left'), at: Date.now() / 1000,
    });
    new MutationObserver(record).observe(element, { subtree: true, childList: true, attributeFilter: ['data-state'] });
  }
}"""

# Messages of calls through the server, by the code of a refusal: [title, part of the advice].
REFUSALS = {
    "calls_at_once": ("You already have a call", "Hang up in the other tab or window"),
    "busy_lines": ("All lines are busy", "CALLS_AT_ONCE_FOR_ALL"),
    "minutes_exceeded": ("Your minutes for today are used up", "CALL_MINUTES_PER_DAY"),
    "daily_minutes_reached": ("Today’s minutes are used up for everyone", "DAILY_CALL_MINUTES"),
    "offer_not_allowed": ("The server does not allow this offer", "Reload the page"),
    "openai_rejected_offer": ("OpenAI cannot answer the browser’s offer", "Connect again"),
    "call_uncertain": ("OpenAI may or may not have opened the call", "Wait for the countdown"),
    "call_not_found": ("The server does not know this call", "Connect again"),
    "ended_by_operator": ("The operator ended the call", "ask the operator"),
    "hang_up_failed": ("The call could not be ended yet", "when its time is up, at the latest"),
}


# The URL of a request for a call.
CALL = re.compile(r"/call(\?|$)")


def click_connect(page):
    page.get_by_role("button", name="Connect").click()


def choose(page, profile="default"):
    """Chooses a profile, and the call through the server if there is a choice."""
    if page.get_by_label("Profile").input_value() != profile:
        page.get_by_label("Profile").select_option(profile)
    if page.locator("#endpoints").is_visible():
        page.get_by_label("Server call").check()
    expect(page.get_by_role("button", name="Get a token")).to_be_hidden()


def connect(page, profile="default"):
    """Connects through the server. Returns the headers of its answer."""
    choose(page, profile)
    with page.expect_response(CALL) as answered:
        click_connect(page)
    expect(page.get_by_role("status")).to_have_text(CONNECTED)
    assert answered.value.status == 201
    return answered.value.headers


def calls(address):
    """The simulator's open and ended calls."""
    return json.loads(post(f"{address}/simulator/calls", None, method="GET")[2])


def wait_for_end(address):
    """Waits until the simulator has no open call, and returns the last one that ended."""
    for _ in range(300):
        seen = calls(address)
        if seen["ended"] and not seen["open"]:
            return seen["ended"][-1]
        time.sleep(0.1)
    raise AssertionError(seen)


def paths(address):
    return [request["path"] for request in json.loads(post(f"{address}/simulator/requests", None, method="GET")[2])]


def wait_for_offer(address):
    """Waits until the offer of a call has reached the simulator."""
    for _ in range(150):
        if "/v1/realtime/calls" in paths(address):
            return
        time.sleep(0.1)
    raise AssertionError(paths(address))


# The choice


def test_each_profile_offers_the_ways_to_connect_that_it_has(start_demo, visit):
    address, _ = start_demo(MAX_CALL_SECONDS="90")
    page = visit(address)
    endpoints, note, request = page.locator("#endpoints"), page.locator("#endpoint-note"), page.locator("#request")
    token, call = page.get_by_role("button", name="Get a token"), page.get_by_role("button", name="Connect")
    expect(page.get_by_label("Token", exact=True)).to_be_checked()
    expect(request).to_have_text("POST /token")
    expect(call).to_be_disabled()
    expect(page.locator("#limit")).to_be_hidden()

    page.get_by_label("Server call").check()
    page.get_by_label("Voice").select_option("marin")
    expect(request).to_have_text("POST /call?voice=marin")
    expect(token).to_be_hidden()
    expect(call).to_be_enabled()
    expect(page.get_by_role("status")).to_have_text("Ready to connect.")
    expect(page.locator("#limit")).to_contain_text("1:30")
    expect(page.locator("#limit")).to_contain_text("The server ends a call after 1 minute and 30 seconds at the latest.")

    page.get_by_label("Profile").select_option("de-escalation")
    expect(endpoints).to_be_hidden()
    expect(note).to_contain_text("This profile is locked.")
    expect(request).to_have_text("POST /call?profile=de-escalation")
    expect(call).to_be_enabled()
    expect(page.get_by_label("Transcribe my speech")).to_be_hidden()

    page.get_by_label("Profile").select_option("default")
    page.get_by_label("Token", exact=True).check()
    expect(call).to_be_disabled()
    expect(page.get_by_role("status")).to_have_text("Get a token first.")
    get_token(page)
    page.get_by_label("Server call").check()
    expect(page.locator("#minted")).to_be_hidden()
    page.get_by_label("Token", exact=True).check()
    expect(page.locator("#time-left")).to_have_text(re.compile(r"\d+:\d\d"))
    expect(call).to_be_enabled()


def test_a_profile_without_calls_needs_a_token(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    answer = json.loads(post(f"{address}/profiles", None, method="GET")[2])
    answer["profiles"]["default"]["call"] = None
    page.route("**/profiles", lambda route: route.fulfill(json=answer))
    page.reload()
    expect(page.locator("#endpoint-note")).to_have_text("This profile has no calls through the server.")
    expect(page.locator("#endpoints")).to_be_hidden()
    get_token(page)


@pytest.mark.parametrize("endpoint", ["token", "call"])
def test_the_page_offers_only_the_open_endpoint(start_demo, visit, endpoint):
    address, _ = start_demo(ENDPOINTS=endpoint)
    page = visit(address)
    expect(page.get_by_label("Profile")).to_have_value("default")
    profiles = set(page.get_by_label("Profile").locator("option").all_inner_texts())
    assert profiles == {"default", "de-escalation-open"} | ({"de-escalation"} if endpoint == "call" else set())
    expect(page.locator("#endpoints")).to_be_hidden()
    expect(page.locator("#request")).to_have_text(f"POST /{endpoint}")
    if endpoint == "call":
        connect(page)
    else:
        get_token(page)


# The call


def test_an_open_call_works_like_one_with_a_token_and_hanging_up_frees_the_line(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    page.evaluate(KEEP_MICROPHONE)
    page.get_by_label("Voice").select_option("marin")
    headers = connect(page)
    expect(page.get_by_label("Profile")).to_be_disabled()
    [created] = events(page, "session.created")
    assert created["session"]["audio"]["output"]["voice"] == "marin"
    [updated] = events(page, "session.updated")
    assert updated["session"]["audio"]["input"]["transcription"], "the page may change the session of an open call"
    # If the audio breaks off for a moment, the speech becomes several turns.
    heard = re.compile(r"This is the simulator. I heard you speak for .+\.")
    expect(page.locator("#turns .assistant p").last).to_have_text(heard)
    expect(page.locator("#events .type").get_by_text("response.done").last).to_be_visible()
    page.get_by_label("Message", exact=True).fill("Which flat is it?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#turns .assistant p").last).to_have_text("This is the simulator. You wrote: Which flat is it?")
    assert paths(address) == ["/v1/realtime/calls"], "no token was minted"
    assert "ek_" not in page.content()

    with page.expect_response(lambda response: response.request.method == "DELETE") as ended:
        page.get_by_role("button", name="Hang up").click()
    assert ended.value.url == address + headers["location"]
    # Playwright cannot read the body of an answer to a request that outlives its page.
    assert ended.value.status == 200
    expect(page.locator("#failure")).to_contain_text(re.compile(r"You hung up.*The call lasted \d+ seconds?\."))
    expect(page.locator("#failure")).to_have_class("calm")
    expect(page.get_by_role("button", name="Connect")).to_be_focused()
    assert page.evaluate(MICROPHONE_STOPPED)
    wait_for_end(address)
    connect(page)
    assert len(calls(address)["open"]) == 1


def test_a_locked_call_has_no_data_channel_and_the_page_says_so(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    page.evaluate(KEEP_PEER)
    connect(page, "de-escalation")
    assert page.evaluate("[peer === lastPeer, peer.sctp, peer.connectionState]") == [True, None, "connected"]
    [call] = calls(address)["open"]
    assert call["data_channel"] is False and call["credential"] == "key"
    wait_until(page, "Number(output.ariaValueNow) > 20")
    expect(page.locator("#no-turns")).to_contain_text("No captions: a locked call has no data channel.")
    expect(page.locator("#no-events")).to_contain_text("No events: a locked call has no data channel")
    message = page.get_by_label("Message", exact=True)
    expect(message).to_be_disabled()
    expect(message).to_have_attribute("placeholder", "Locked: no typing")
    for name in ("Send", "Make it speak"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()
    # A channel that a script of the page creates is not part of the call, so it never opens.
    page.evaluate("window.channel = peer.createDataChannel('oai-events')")
    page.wait_for_timeout(1000)
    assert page.evaluate("[channel.readyState, peer.connectionState]") == ["connecting", "connected"]
    with pytest.raises(Exception, match=r"RTCDataChannel\.readyState is not 'open'"):
        page.evaluate('channel.send(\'{"type": "session.update", "session": {}}\')')
    page.get_by_role("button", name="Mute").click()
    expect(page.get_by_role("button", name="Unmute")).to_be_visible()
    page.get_by_role("button", name="Hang up").click()
    expect(page.locator("#failure")).to_contain_text("You hung up")
    wait_for_end(address)


@pytest.mark.parametrize("profile", ["de-escalation", "default"], ids=["locked", "open"])
def test_the_server_hangs_up_at_the_told_second(start_demo, visit, profile):
    address, _ = start_demo(MAX_CALL_SECONDS="10")
    page = visit(address)
    page.evaluate(RECORD_STATES)
    placed = time.time()
    end = int(connect(page, profile)["call-expires-at"])
    # The moment of the booking is rounded down to a second.
    assert placed + 9 < end <= time.time() + 10
    notice = page.locator("#failure")
    expect(notice).to_contain_text("The server ended the call")
    shown = page.evaluate("shown")
    ticks = [entry for entry in shown if entry["part"] == "limit" and entry["state"] != "next"]
    warning_from = math.ceil((end - ticks[0]["at"]) / 5)
    for tick in ticks:
        left = int(re.fullmatch(r"0:(0\d|10)", tick["left"])[1])
        assert 0 <= left - (end - tick["at"]) < 2
        assert tick["state"] == ("running" if left > warning_from else "warning" if left else "over")
    assert ticks[0]["state"] == "running" and ticks[0]["text"].startswith("The server ends this call at ")
    warning = next(tick for tick in ticks if tick["state"] == "warning")
    assert re.match(rf"{int(warning['left'][-2:])} seconds? left\. The server ends this call at ", warning["text"])
    assert end - 2 <= warning["at"]
    connected, ended = (next(entry["at"] for entry in shown if entry["state"] == state) for state in ("connected", "ended"))
    assert end - 0.5 < ended < end + 5
    lasted = int(re.search(r"Its time was over\. The call lasted (\d+) seconds?\.", notice.inner_text())[1])
    assert lasted - 0.5 < ended - connected < lasted + 1.5
    expect(notice).to_have_class("calm")
    expect(page.get_by_role("button", name="Connect")).to_be_focused()
    last = wait_for_end(address)
    assert last["reason"] == "hung-up" and end <= last["ended_at"] < end + 3
    connect(page, profile)


def test_a_long_call_warns_half_a_minute_before_its_end_and_the_page_ends_it_if_the_server_does_not(start_demo, visit):
    address, _ = start_demo(MAX_CALL_SECONDS="300")
    page = visit(address)
    page.clock.install()
    end = int(connect(page, "de-escalation")["call-expires-at"])
    limit = page.locator("#limit")
    # From now on, the page's time passes only in the steps below.
    page.clock.pause_at(end - 35)
    expect(limit).to_have_attribute("data-state", "running")
    page.clock.fast_forward(6_000)
    expect(limit).to_have_attribute("data-state", "warning")
    expect(limit).to_contain_text(re.compile(r"(29|30) seconds left\. The server ends this call at "))
    page.clock.fast_forward(31_000)
    expect(limit).to_contain_text("The time is over. The server is ending the call…")
    page.clock.fast_forward(6_000)
    expect(page.locator("#failure")).to_contain_text("The time of the call is over")
    wait_for_end(address)


def test_a_second_tab_is_refused_in_words_until_the_first_hangs_up(start_demo, visit):
    address, _ = start_demo(MAX_CALL_SECONDS="300")
    first, second = visit(address), visit(address)
    connect(first, "de-escalation")
    choose(second)
    click_connect(second)
    notice = second.locator("#failure")
    for words in REFUSALS["calls_at_once"]:
        expect(notice).to_contain_text(words)
    expect(notice).to_contain_text("calls_at_once · HTTP 429")
    expect(second.locator("#wait")).to_have_text(re.compile(r"At the latest, a call is possible again in (4:5\d|5:0\d)\."))
    assert second.evaluate("peer.connectionState") == "closed"
    first.get_by_role("button", name="Hang up").click()
    expect(first.locator("#failure")).to_contain_text("You hung up")
    connect(second)
    expect(second.locator("#wait")).to_be_empty()


@pytest.mark.parametrize("profile", ["de-escalation", "default"], ids=["locked", "open"])
@pytest.mark.parametrize("leave", ["close", "navigate"])
def test_closing_the_tab_ends_its_call(start_demo, visit, profile, leave):
    address, _ = start_demo()
    page, other = visit(address), visit(address)
    connect(page, profile)
    if leave == "close":
        page.close(run_before_unload=True)
    else:
        page.goto("about:blank")
    wait_for_end(address)
    # The server knows it, too, long before the connection times out.
    choose(other, profile)
    for _ in range(30):
        click_connect(other)
        expect(other.get_by_role("status")).to_have_text(re.compile(f"{re.escape(CONNECTED)}|Not connected."))
        if other.get_by_role("status").inner_text() == CONNECTED:
            return
        other.wait_for_timeout(100)
    raise AssertionError(other.locator("#failure").inner_text())


def test_hanging_up_while_the_server_places_the_call_ends_it_when_it_is_answered(start_demo, visit):
    address, openai = start_demo()
    page = visit(address)
    fault(openai, "delay", at="calls", ms=5000)
    choose(page)
    with page.expect_request(CALL):
        click_connect(page)
    expect(page.get_by_role("status")).to_have_text("Asking the server for a call…")
    page.get_by_role("button", name="Hang up").click()
    expect(page.locator("#failure")).to_contain_text("You hung up")
    connect(page)
    seen = calls(address)
    assert len(seen["open"]) == 1 and [call["reason"] for call in seen["ended"]] == ["hung-up"]


def test_a_call_that_its_caller_leaves_while_it_is_placed_is_placed_to_the_end(demo, visit):
    """As in Lambda, which does not stop an invocation whose client has gone."""
    program, port = demo()
    address = f"http://127.0.0.1:{port}"
    page = visit(address)
    fault(address, "delay", at="calls", ms=5000)
    choose(page)
    click_connect(page)
    expect(page.get_by_role("status")).to_have_text("Asking the server for a call…")
    wait_for_offer(address)
    page.goto("about:blank")
    program.wait_for_text('"message":"call started"')
    assert len(calls(address)["open"]) == 1


# Calls that are refused or end


@pytest.mark.parametrize(
    "code, environment",
    [
        ("busy_lines", {"CALLS_AT_ONCE": "0", "CALLS_AT_ONCE_FOR_ALL": "1"}),
        ("minutes_exceeded", {"CALL_MINUTES_PER_DAY": "1"}),
        ("daily_minutes_reached", {"DAILY_CALL_MINUTES": "1"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_used_up_limit_shows_its_cause_its_remedy_and_the_longest_wait(start_demo, visit, code, environment):
    address, _ = start_demo(**environment)
    page = visit(address)
    if code == "busy_lines":
        connect(visit(address), "de-escalation")
    choose(page)
    click_connect(page)
    for words in (*REFUSALS[code], f"{code} · HTTP "):
        expect(page.locator("#failure")).to_contain_text(words)
    if code == "daily_minutes_reached":
        expect(page.locator("#connect")).to_have_text(re.compile(r"Try again in \d+(:\d\d)+"))
        expect(page.locator("#connect")).to_have_attribute("aria-disabled", "true")
        return page.locator("#connect").click(force=True)
    expect(page.locator("#wait")).to_have_text(re.compile(r"At the latest, a call is possible again in \d+(:\d\d)+\."))
    expect(page.get_by_role("button", name="Connect")).to_be_enabled()
    assert page.locator("#wait").get_attribute("role") == "timer"


def test_an_offer_that_the_server_does_not_allow_shows_the_broken_rule(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    choose(page)
    page.route("**/call", lambda route: route.continue_(url=f"{address}/call?profile=de-escalation"))
    click_connect(page)
    for words in (*REFUSALS["offer_not_allowed"], "a locked call has audio only", "offer_not_allowed · HTTP 400"):
        expect(page.locator("#failure")).to_contain_text(words)
    page.unroute("**/call")
    page.route("**/call", lambda route: route.continue_(post_data=route.request.post_data.replace(" opus/", " other/")))
    click_connect(page)
    for words in (*REFUSALS["openai_rejected_offer"], "openai_rejected_offer · HTTP 400"):
        expect(page.locator("#failure")).to_contain_text(words)
    page.unroute("**/call")
    connect(page)
    expect(page.locator("#failure")).to_be_empty()


def test_an_uncertain_call_holds_the_button_until_it_has_ended(start_demo, visit):
    address, openai = start_demo(MAX_CALL_SECONDS="300")
    page = visit(address)
    page.clock.install()
    choose(page)
    fault(openai, "reset", at="calls")
    click_connect(page)
    for words in (*REFUSALS["call_uncertain"], "call_uncertain · HTTP 504"):
        expect(page.locator("#failure")).to_contain_text(words)
    expect(page.locator("#connect")).to_have_text(re.compile(r"Try again in (4:5\d|5:0\d)"))
    expect(page.get_by_role("button", name="Try again")).to_be_focused()
    page.clock.fast_forward(301_000)
    expect(page.locator("#connect")).to_have_text("Connect")
    expect(page.locator("#connect")).to_have_attribute("aria-disabled", "false")


def test_a_failed_hang_up_shows_a_message(start_demo, visit):
    address, openai = start_demo()
    page = visit(address)
    connect(page)
    fault(openai, "server-error", at="hang-ups", status=500, times=9)
    page.get_by_role("button", name="Hang up").click()
    for words in (*REFUSALS["hang_up_failed"], "hang_up_failed · HTTP 502"):
        expect(page.locator("#failure")).to_contain_text(words)
    expect(page.locator("#failure")).not_to_have_class("calm")


def refuse(code, status, route):
    route.fulfill(status=status, json={"success": False, "code": code, "error": "", "details": "The cause", "message": ""})


@pytest.mark.parametrize("code, status", [("ended_by_operator", 503), ("call_not_found", 404)])
def test_the_other_refusals_of_calls_show_a_message(start_demo, visit, code, status):
    address, _ = start_demo()
    page = visit(address)
    choose(page)
    at = "**/call/*" if code == "call_not_found" else "**/call"
    page.route(at, functools.partial(refuse, code, status))
    if code == "call_not_found":
        connect(page)
        page.get_by_role("button", name="Hang up").click()
    else:
        click_connect(page)
    for words in (*REFUSALS[code], "The cause.", f"{code} · HTTP {status}"):
        expect(page.locator("#failure")).to_contain_text(words)


def test_the_messages_cover_every_refusal_that_only_calls_have():
    described = json.loads((ROOT / "function/description.json").read_text())["refusals"]
    of_calls = {
        refusal["code"]
        for refusal in described
        if re.search(r"call_|calls_|lines|minutes|offer|hang|operator", refusal["code"])
    }
    assert of_calls == set(REFUSALS)


def test_no_message_about_a_call_through_the_server_tells_to_get_a_token(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    source = (ROOT / "function/examples/demo/page/messages.js").read_text()
    table = re.search(r"const CALL_ENDS = \{(.*?)^\};", source, re.DOTALL | re.MULTILINE)[1]
    codes = re.findall(r"^  (\w+): \[", table, re.MULTILINE)
    # These ends follow from an answer to a token.
    codes = [code for code in codes if not re.match(r"calls_|token_|network|channel_closed", code)]
    messages = page.evaluate(
        """async codes => {
          const { callEndMessage } = await import('/messages.js');
          return codes.map(code => callEndMessage({ code }, 65, 'call'));
        }""",
        codes,
    )
    assert len(messages) > 15
    for message in messages:
        assert "token" not in json.dumps(message), message
        assert message["title"] and message["action"].endswith("."), message
        assert "The call lasted 1 minute and 5 seconds." in message["cause"]


@pytest.mark.parametrize("profile", ["de-escalation", "default"], ids=["locked", "open"])
def test_a_call_that_the_other_side_ends_early_says_so(start_demo, visit, profile):
    address, openai = start_demo()
    page = visit(address)
    connect(page, profile)
    [call] = calls(address)["open"]
    url = f"{openai}/v1/realtime/calls/{call['call_id']}/hangup"
    assert post(url, headers={"Authorization": "Bearer sk-simulated"})[0] == 200
    notice = page.locator("#failure")
    expect(notice).to_contain_text("The other side ended the call")
    expect(notice).to_contain_text("It ended before its time")
    expect(notice).not_to_have_class("calm")
    # The server has been told, so the line is free at once.
    connect(page, profile)


@pytest.mark.parametrize("profile", ["de-escalation", "default"], ids=["locked", "open"])
def test_a_lost_connection_says_so_and_frees_the_line(start_demo, visit, profile):
    address, openai = start_demo()
    page = visit(address)
    page.clock.install()
    fault(openai, "drops", at="calls", ms=500)
    choose(page, profile)
    click_connect(page)
    expect(page.get_by_role("status")).to_have_text("The connection is interrupted. Waiting for it to recover…")
    page.clock.fast_forward(10_000)
    expect(page.locator("#failure")).to_contain_text("The connection was lost")
    expect(page.locator("#failure")).to_contain_text("Check the network, then connect again.")
    connect(page, profile)


def test_a_server_that_does_not_answer_shows_a_message(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    choose(page)
    page.route("**/call", lambda route: route.abort())
    click_connect(page)
    expect(page.locator("#failure")).to_contain_text("The server does not answer")
    page.unroute("**/call")
    connect(page)


def test_a_denied_microphone_places_no_call(start_demo, visit):
    address, _ = start_demo()
    page = visit(address, permissions=())
    choose(page)
    click_connect(page)
    expect(page.locator("#failure")).to_contain_text("The microphone is not allowed")
    expect(page.locator("#failure")).to_contain_text("No call was placed.")
    assert paths(address) == []


# Accessibility


def test_a_call_through_the_server_works_with_the_keyboard_alone(start_demo, visit):
    address, _ = start_demo()
    page = visit(address)
    page.get_by_label("Token", exact=True).focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("Server call")).to_be_checked()
    expect(page.get_by_label("Server call")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement.parentElement).outline")
    assert "3px" in outline and "solid" in outline
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "connect":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text(CONNECTED)
    expect(page.get_by_role("button", name="Hang up")).to_be_focused()
    expect(page.get_by_role("timer", name="Time left")).to_be_visible()
    expect(page.get_by_role("group", name="Connect with")).to_be_visible()
    assert page.locator("#limit-text").get_attribute("aria-live") == "polite"
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("The call has ended.")
    expect(page.get_by_role("button", name="Connect")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_of_a_call_through_the_server_fits_a_narrow_screen(start_demo, visit, scheme):
    short, _ = start_demo(MAX_CALL_SECONDS="10")
    address, _ = start_demo(MAX_CALL_SECONDS="300")
    # Without motion, so that no colour is in transition.
    settings = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme, "reduced_motion": "reduce"}
    ended, page, other = (visit(demo, **settings) for demo in (short, address, address))
    connect(ended, "de-escalation")
    page.clock.install()
    choose(page)
    assert_readable(page, 360)
    end = int(connect(page, "de-escalation")["call-expires-at"])
    assert_readable(page, 360)
    choose(other)
    click_connect(other)
    expect(other.locator("#failure")).to_contain_text("You already have a call")
    assert_readable(other, 360)
    page.clock.pause_at(end - 20)
    expect(page.locator("#limit")).to_have_attribute("data-state", "warning")
    assert_readable(page, 360)
    expect(ended.locator("#failure")).to_contain_text("The server ended the call")
    assert_readable(ended, 360)


# OpenAI's unmodified clients

# `openai` for npm: the call is placed by the callback `exchangeSdp`.
OPENAI_CLIENT = """
import { OpenAIRealtimeWebRTC } from 'openai/realtime/webrtc';

const client = new OpenAIRealtimeWebRTC();
const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
for (const track of microphone.getTracks()) client.peerConnection.addTrack(track, microphone);
client.onEvent(event => console.log(event));
client.onConnectionEvent(event => console.log(event));
const exchangeSdp = async (offer, { signal }) => {
  const headers = { 'Content-Type': 'application/sdp' };
  const answer = await fetch(CALL_URL, { method: 'POST', headers, body: offer, signal });
  if (answer.status !== 201) throw new Error(JSON.stringify(await answer.json()));
  window.call = new URL(answer.headers.get('location'), CALL_URL).href;
  return answer.text();
};
await client.connect({ exchangeSdp }).catch(error => {
  window.failure = error.cause.message;
  throw error;
});
Object.assign(window, { client });
"""

# `@openai/agents-realtime`: the call is placed at the address in `baseUrl`. The SDK insists on a credential, which is ignored.
AGENTS_CLIENT = """
import { OpenAIRealtimeWebRTC, RealtimeAgent, RealtimeSession } from '@openai/agents-realtime';

const transport = new OpenAIRealtimeWebRTC({ baseUrl: CALL_URL });
const session = new RealtimeSession(new RealtimeAgent({ name: 'Model' }), { transport });
session.transport.on('*', event => console.log(event));
await session.connect({ apiKey: 'ek_unused' }).catch(error => {
  window.failure = error.message;
  throw error;
});
window.call = new URL(`/call/${transport.callId}`, CALL_URL).href;
Object.assign(window, { session });
"""


@pytest.fixture
def client_page(start_demo, visit, origin, tmp_path):
    """Runs a client's script in a page with an origin of its own. Returns the page, the demo's address, and the events."""
    if not (ROOT / "tests/node/node_modules/.package-lock.json").exists():
        skip("the tests of OpenAI's clients need npm")

    def client_page(script, query="", uncaught=None, **environment):
        packages = {
            "openai/realtime/webrtc": "/node_modules/openai/realtime/webrtc.mjs",
            "@openai/agents-realtime": "/node_modules/@openai/agents-realtime/dist/bundle/openai-realtime-agents.mjs",
        }
        call_url = "const CALL_URL = new URLSearchParams(location.search).get('call')"
        (tmp_path / "index.html").write_text(
            f"<link rel=icon href=data:,><script type=importmap>{json.dumps({'imports': packages})}</script>"
            f"<script>{call_url}</script>"
        )
        (tmp_path / "client.js").write_text(script)
        (tmp_path / "node_modules").symlink_to(ROOT / "tests/node/node_modules")
        page_origin = origin(tmp_path)
        address, _ = start_demo(ALLOWED_ORIGINS=page_origin, **environment)
        call = quote(f"{address}/call{query}")
        page = visit(f"{page_origin}/?call={call}", **({"uncaught": uncaught} if uncaught is not None else {}))
        seen = []
        page.on("console", lambda message: seen.append(message.args[0].json_value()) if message.type == "log" else None)
        # No request can reach the real OpenAI.
        page.route("https://**", lambda route: route.abort())
        page.add_script_tag(url="/client.js", type="module")
        return page, address, seen

    return client_page


def documented_client():
    """The script of docs/api.md for a call through the server, with the class that the script before it defines."""
    with_token, through_server = re.findall(r"^```js\n(.*?)^```", (ROOT / "docs/api.md").read_text(), re.MULTILINE | re.DOTALL)
    microphone = "const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });\n"
    expose = "Object.assign(window, { end, transport });\n"
    return with_token.split("const agent")[0] + microphone + through_server + expose


def test_the_documented_script_places_and_ends_a_call_with_the_session_of_the_profile(client_page):
    page, address, _ = client_page(documented_client())
    wait_until(page, "window.transport?.status === 'connected'")
    assert len(calls(address)["open"]) == 1
    assert page.evaluate("end().then(answer => answer.status)") == 200
    assert wait_for_end(address)["reason"] == "hung-up"
    wait_until(page, "transport.status === 'disconnected'")


def wait_for_event(page, seen, kind, transcript=""):
    """Waits for an event of this type. With `transcript`, for one whose transcript begins with it."""
    for _ in range(150):
        for event in seen:
            if event["type"] == kind and event.get("transcript", "").startswith(transcript):
                return event
        page.wait_for_timeout(100)
    raise AssertionError([(event["type"], event.get("transcript")) for event in seen])


CLIENTS = {"openai": OPENAI_CLIENT, "agents": AGENTS_CLIENT}


@pytest.mark.parametrize("client", CLIENTS)
def test_an_unmodified_client_of_openai_talks_in_a_call_that_the_server_ends(client_page, client):
    page, address, seen = client_page(CLIENTS[client], "?profile=de-escalation-open", MAX_CALL_SECONDS="20")
    wait_until(page, "window.call !== undefined")
    [call] = calls(address)["open"]
    assert (call["credential"], call["data_channel"]) == ("key", True)
    created = wait_for_event(page, seen, "session.created")["session"]
    assert created["tools"][0]["name"] == "end_exercise" and created["audio"]["output"]["voice"] == "ash"
    # If the audio breaks off for a moment, the rest of the speech interrupts the first answer.
    wait_for_event(page, seen, "response.output_audio_transcript.done", "This is the simulator. I heard you speak")
    assert paths(address) == ["/v1/realtime/calls"], "no token was minted"
    ended = wait_for_end(address)
    # The moment of the booking is rounded down to a second, and the offer reaches OpenAI after it.
    assert ended["reason"] == "hung-up" and 18 < ended["ended_at"] - ended["since"] < 50
    closed = "client.state === 'closed'" if client == "openai" else "session.transport.status === 'disconnected'"
    wait_until(page, closed)
    answer = page.evaluate("fetch(call, { method: 'DELETE' }).then(answer => answer.json())")
    assert answer["success"] and answer["seconds"] == 20


@pytest.mark.parametrize("client", CLIENTS)
def test_an_unmodified_client_of_openai_can_end_its_call_and_place_another(client_page, client):
    page, address, _ = client_page(CLIENTS[client])
    wait_until(page, "window.call !== undefined")
    first = page.evaluate("call")
    assert page.evaluate("fetch(call, { method: 'DELETE' }).then(answer => answer.status)") == 200
    wait_for_end(address)
    page.evaluate("window.call = undefined")
    page.add_script_tag(url="/client.js?again", type="module")
    wait_until(page, "window.call !== undefined")
    assert page.evaluate("call") != first


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_always_has_a_data_channel_is_refused_a_locked_call_in_words(client_page, client):
    """Both clients create the channel themselves, so a locked call is not for them."""
    uncaught = []
    page, address, _ = client_page(CLIENTS[client], "?profile=de-escalation", uncaught=uncaught)
    wait_until(page, "window.failure !== undefined")
    reason = page.evaluate("failure")
    assert "offer_not_allowed" in reason and "a locked call has audio only" in reason
    assert uncaught and paths(address) == []
