"""The demo's page, OpenAI's own SDK and the README's lines in a real browser, whose microphone beeps by itself."""

import functools
import http.server
import json
import math
import re
import shutil
import struct
import threading
import wave
from urllib.parse import quote

import pytest
from conftest import NO_AWS_ACCOUNT, ROOT, TARGET, free_port, post, skip

WORDS = (ROOT / "function/examples/demo/page/words.js").read_text()


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """What the microphone hears: nothing, someone for a second, and then nothing more."""
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    rate = 16_000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        for seconds, loudness in ((2, 0), (1, 8_000), (60, 0)):
            tone = (round(loudness * math.sin(math.tau * 300 * n / rate)) for n in range(seconds * rate))
            file.writeframes(struct.pack(f"<{seconds * rate}h", *tone))
    return path


@pytest.fixture(scope="module")
def browser(speech):
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = [path for name in names if (path := shutil.which(name))]
    if not found:
        skip("the browser's tests need Chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=15_000)
    with sync_playwright() as driver:
        microphone = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={speech}%noloop"]
        # Root has no sandbox, and a machine may have no network but loopback.
        flags = ["--no-sandbox", "--allow-loopback-in-peer-connection", "--host-resolver-rules=MAP mint.example 127.0.0.1"]
        chromium = driver.chromium.launch(executable_path=found[0], args=[*flags, *microphone])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser):
    """Opens a page of its own; what its scripts did not catch fails the test, unless it asks for it."""
    contexts, errors = [], []

    def visit(url, permissions=("microphone",), uncaught=errors, **settings):
        context = browser.new_context(permissions=list(permissions), **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: uncaught.append(error))
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture
def mint(demo):
    """A running demo: its address, and that of its OpenAI."""

    def mint(**environment):
        program, port = demo(**environment)
        return f"http://127.0.0.1:{port}", re.search(r"http://127\.0\.0\.1:\d+(?=/v1)", program.log.read_text())[0]

    return mint


@pytest.fixture
def quotas(aws):
    """What a demo needs to count tokens."""
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
    """Serves a folder of the tests at an origin of its own."""
    servers = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    def origin(folder):
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield origin
    for server in servers:
        server.shutdown()
        server.server_close()


def fault(openai, fault, **settings):
    status, _, text = post(f"{openai}/simulator/faults", json.dumps({"fault": fault, **settings}).encode())
    assert status < 300, text


def expect(locator):
    from playwright.sync_api import expect

    return expect(locator)


def get_token(page):
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#left")).to_have_text(re.compile(r"\d+:\d\d"))


def wait_until(page, expression):
    """Waits for an expression of the page's to be true. Playwright's own way needs a laxer policy than the page has."""
    for _ in range(150):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(expression)


def connect(page):
    get_token(page)
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")


def events(page, name):
    """Every event of that type in the log, as one reads it there."""
    rows = page.locator("#events details").filter(has=page.locator(".type").get_by_text(name, exact=True))
    expect(rows.first).to_be_visible()
    found = []
    for row in rows.all():
        row.locator("summary").click()
        expect(row.locator("pre")).not_to_be_empty()
        decoder, text = json.JSONDecoder(), row.locator("pre").inner_text()
        while text.strip():
            event, end = decoder.raw_decode(text.strip())
            found.append(event)
            text = text.strip()[end:]
    return found


# The token


def test_a_token_counts_down_and_is_never_shown_whole(mint, visit):
    address, _ = mint()
    page = visit(address)
    with page.expect_response("**/token") as answered:
        get_token(page)
    token = answered.value.json()["value"]
    assert page.locator("#secret").inner_text() == token[:8] + "…"
    shown = page.locator("#left").inner_text()
    assert re.fullmatch(r"59:5\d|1:00:00", shown)
    expect(page.locator("#left")).not_to_have_text(shown)
    page.get_by_text("The answer").click()
    assert '"model": "gpt-realtime-2.1"' in page.locator("#answer").inner_text()
    assert token not in page.content()
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_what_is_chosen_is_what_is_asked_for(mint, visit):
    address, openai = mint()
    page = visit(address)
    page.get_by_label("Profile").select_option("de-escalation")
    page.get_by_label("Scenario").select_option("cancelled-train")
    page.get_by_label("Speed").fill("1.1")
    expect(page.locator("#request")).to_have_text(
        'POST /token {"profile":"de-escalation","scenario":"cancelled-train","speed":1.1}'
    )
    get_token(page)
    expect(page.locator("#left")).to_have_text(re.compile(r"2:00|1:5\d"))
    session = json.loads(post(f"{openai}/simulator/requests", None, method="GET")[2])[-1]["body"]["session"]
    assert "The last train is cancelled" in session["instructions"]
    assert session["audio"]["output"] == {"voice": "ash", "speed": 1.1}
    outdated = page.locator("#outdated")
    expect(outdated).to_be_empty()
    page.get_by_label("Speed").fill("0.9")
    expect(outdated).to_have_text(re.compile("Get a new one for what you have chosen now"))
    page.get_by_label("Speed").fill("1.1")
    expect(outdated).to_be_empty()


def test_a_token_that_is_not_used_in_time_says_so_and_cannot_be_used(mint, visit):
    address, _ = mint(TOKEN_TTL_SECONDS="10")
    page = visit(address)
    get_token(page)
    page.clock.install()
    page.clock.fast_forward(11_000)
    expect(page.locator("#left")).to_have_text("expired")
    expect(page.get_by_role("status")).to_have_text("The token has expired. Get a new one.")
    expect(page.get_by_role("button", name="Connect")).to_be_disabled()


# Refusals of the mint

REFUSED = [
    ("unauthorized", {}, 1, "OpenAI rejected the API key", "openai_rejected_key"),
    ("not-found", {}, 1, "OpenAI rejected this session", "openai_rejected_session"),
    ("insufficient-quota", {}, 1, "The OpenAI account is out of credit", "openai_out_of_quota"),
    ("rate-limit", {"retry_after": "42"}, 1, "OpenAI is busy", "openai_busy"),
    ("server-error", {"status": 500}, 3, "OpenAI is unavailable", "openai_unavailable"),
    ("not-json", {}, 1, "OpenAI’s answer held no usable token", "openai_answer_invalid"),
]


@pytest.mark.parametrize("name, settings, times, title, code", REFUSED, ids=[refused[4] for refused in REFUSED])
def test_a_refusal_is_told_in_words_and_the_next_try_can_succeed(mint, visit, name, settings, times, title, code):
    address, openai = mint()
    page = visit(address)
    for _ in range(times):
        fault(openai, name, **settings)
    page.get_by_role("button", name="Get a token").click()
    told = page.locator("#refusal")
    expect(told).to_contain_text(title)
    expect(told).to_contain_text(f"{code} · HTTP 50")
    assert told.get_attribute("role") == "alert"
    if "retry_after" in settings:
        again = page.locator("#mint")
        expect(again).to_have_text(re.compile(r"Ask again in 0:4[12]"))
        again.click(force=True)
        expect(again).to_have_text(re.compile(r"Ask again in 0:4\d"))
        page.clock.install()
        page.clock.fast_forward(43_000)
    get_token(page)
    expect(told).to_be_empty()


def test_every_code_of_the_mint_has_words_of_its_own(mint, visit):
    address, _ = mint()
    codes = set(re.findall(r'StatusCode::[A-Z_]+,\s*"([a-z_]+)"', (ROOT / "function/src/api/refusal.rs").read_text()))
    table = re.search(r"const REFUSALS = \{(.*?)^\};", WORDS, re.DOTALL | re.MULTILINE)[1]
    assert set(re.findall(r"^  (\w+):", table, re.MULTILINE)) == codes
    page = visit(address)
    words = page.evaluate(
        """async codes => {
          const { refusal } = await import('/words.js');
          return codes.map(code => refusal(500, { code, details: 'What it was', message: 'Do', requestId: 'id' }));
        }""",
        sorted(codes),
    )
    assert len({told["title"] for told in words}) > len(codes) - 2
    for told in words:
        assert told["title"] and told["why"] == "What it was." and told["now"][-1] in ".?", told


def test_every_end_of_a_call_has_words_of_its_own():
    call = (ROOT / "function/examples/demo/page/call.js").read_text()
    several = r"(?:calls|channel|microphone|path|token)_\w+"
    single = "answer_invalid|cancelled|hung_up|insecure_page|network|no_webrtc|session_limit|unexpected"
    ends = set(re.findall(f"'({several}|{single})'", call))
    ends |= {f"calls_{status}" for status in (400, 401, 403, 404, 429)}
    table = re.search(r"const CALLS = \{(.*?)^\};", WORDS, re.DOTALL | re.MULTILINE)[1]
    assert set(re.findall(r"^  (\w+): \[", table, re.MULTILINE)) == ends


def test_refusals_that_no_function_gave_are_told_too(mint, visit):
    address, _ = mint()
    page = visit(address)

    def refuse(status, route):
        route.fulfill(status=status, body='{"message": "No"}')

    for status, title in ((401, "You are not signed in"), (429, "Too many ask at once"), (503, "The mint is paused")):
        page.route("**/token", functools.partial(refuse, status))
        page.get_by_role("button", name="Get a token").click()
        expect(page.locator("#refusal")).to_contain_text(title)
    page.route("**/token", lambda route: route.abort())
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#refusal")).to_contain_text("The mint does not answer")


def test_a_page_that_was_open_before_the_mint_was_up_asks_it_again(mint, visit):
    address, _ = mint()
    page = visit(address)
    page.route("**/profiles", lambda route: route.abort())
    page.reload()
    expect(page.locator("#refusal")).to_contain_text("Start it, then ask again.")
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#refusal")).to_contain_text("Start it, then ask again.")
    page.unroute("**/profiles")
    get_token(page)
    expect(page.locator("#refusal")).to_be_empty()
    expect(page.get_by_label("Profile")).to_have_value("default")


def test_the_demo_s_own_page_works_beside_the_origins_that_are_named(mint, visit):
    address, _ = mint(ALLOWED_ORIGINS="https://app.example.com")
    for own in (address, address.replace("127.0.0.1", "localhost")):
        connect(visit(own))


def test_a_page_of_another_origin_than_allowed_is_told_so(mint, visit):
    address, _ = mint(ALLOWED_ORIGINS="https://app.example.com")
    page = visit(address.replace("127.0.0.1", "mint.example"))
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#refusal")).to_contain_text("This page may not ask for tokens")


# CORS, as a browser enforces it

ASK = """async ([url, body, authorization]) => {
  const headers = body ? { 'Content-Type': 'application/json' } : {};
  if (authorization) headers.Authorization = authorization;
  const response = await fetch(`${url}/token`, { method: 'POST', headers, body }).catch(error => ({ error }));
  if (response.error) return { error: response.error.name };
  const read = name => response.headers.get(name);
  return { status: response.status, retryAfter: read('retry-after'), rateLimit: read('ratelimit'),
    policy: read('ratelimit-policy'), ...await response.json() };
}"""


def test_a_page_of_an_allowed_origin_reads_answers_and_refusals_and_another_nothing(mint, visit, origin, quotas, tmp_path):
    allowed, foreign = origin(tmp_path), origin(tmp_path)
    address, openai = mint(ALLOWED_ORIGINS=allowed, QUOTA_PER_DAY="2", **quotas)
    ours, theirs = visit(allowed), visit(foreign)

    for body in (None, '{"voice": "marin"}'):
        assert theirs.evaluate(ASK, [address, body]) == {"error": "TypeError"}
    # The second one needs a preflight.
    fault(openai, "rate-limit", retry_after="42")
    busy = ours.evaluate(ASK, [address, None])
    assert (busy["status"], busy["code"], busy["retryAfter"]) == (503, "openai_busy", "42")
    given = ours.evaluate(ASK, [address, '{"voice": "marin"}'])
    assert (given["status"], given["voice"]) == (200, "marin") and given["value"].startswith("ek_")
    assert '"day";r=0' in given["rateLimit"] and '"day";q=2' in given["policy"]
    over = ours.evaluate(ASK, [address, '{"voice": "marin"}'])
    assert (over["status"], over["code"]) == (429, "quota_exceeded")
    assert int(over["retryAfter"]) > 0 and '"day";r=0' in over["rateLimit"] and '"day";q=2' in over["policy"]


def test_a_page_that_signs_its_users_in_can_send_its_header_to_a_demo(mint, visit, origin, tmp_path):
    allowed = origin(tmp_path)
    address, _ = mint(ALLOWED_ORIGINS=allowed)
    assert visit(allowed).evaluate(ASK, [address, '{"voice": "marin"}', "Bearer eyJ"])["status"] == 200


def test_a_used_up_quota_counts_down_to_the_next_try(mint, visit, quotas):
    address, _ = mint(QUOTA_PER_DAY="1", **quotas)
    page = visit(address)
    get_token(page)
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#refusal")).to_contain_text("You have used up your tokens for now")
    expect(page.locator("#mint")).to_have_text(re.compile(r"Ask again in [\d:]+"))


# The call


def test_two_clicks_and_one_talks_to_the_session_that_was_chosen(mint, visit):
    address, _ = mint()
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

    ours, theirs = page.locator("#turns .user p"), page.locator("#turns .assistant p")
    expect(ours).to_have_text(re.compile(r"\(.* of speech\)"))
    expect(theirs).to_have_text(re.compile(r"This is the simulator. I heard you speak for .+\."))
    assert page.evaluate("lengths.size") > 5, "it comes word by word"
    wait_until(page, "loudest.input > 20 && loudest.output > 20")
    assert [event["type"] for event in events(page, "response.done")] == ["response.done"]
    assert len(events(page, "response.output_audio_transcript.delta")) > 5

    page.get_by_role("button", name="Hang up").click()
    expect(page.locator("#failure")).to_contain_text(re.compile(r"You hung up.*The call lasted \d+ seconds?\."))
    expect(page.get_by_role("status")).to_have_text("The call is over.")
    expect(page.get_by_role("button", name="Connect")).to_be_disabled()
    expect(page.get_by_role("button", name="Get a token")).to_be_focused()
    expect(page.locator("#left")).to_have_text("used")
    assert page.evaluate("[input.ariaValueNow, output.ariaValueNow, speaker.srcObject]") == ["0", "0", None]


def test_one_can_write_instead_let_it_speak_first_and_mute(mint, visit):
    address, _ = mint()
    page = visit(address)
    page.get_by_label("Profile").select_option("de-escalation")
    get_token(page)
    page.get_by_role("button", name="Connect").click()
    page.get_by_role("button", name="Mute").click()
    page.get_by_role("button", name="Make it speak").click()
    theirs = page.locator("#turns .assistant p")
    expect(theirs.first).to_contain_text("This is the simulator.")
    expect(page.locator("#events .type").get_by_text("response.done")).to_be_visible()
    page.get_by_label("A message in writing").fill("Which flat is it?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#turns .user p").last).to_have_text("Which flat is it?")
    expect(theirs.last).to_have_text("This is the simulator. You wrote: Which flat is it?")
    assert page.evaluate("input.ariaValueNow") == "0"
    expect(page.get_by_role("button", name="Unmute")).to_be_visible()


def test_a_translation_is_called_at_its_own_address_and_waits_for_no_turn(mint, visit):
    address, openai = mint()
    page = visit(address)
    session = {"model": "gpt-realtime-translate", "audio": {"output": {"language": "es"}}}
    authorized = {"Authorization": "Bearer sk-test", "Content-Type": "application/json"}
    made = post(f"{openai}/v1/realtime/translations/client_secrets", json.dumps({"session": session}).encode(), authorized)
    secret = json.loads(made[2])
    token = {"success": True, "value": secret["value"], "expiresAt": secret["expires_at"], "model": session["model"],
             "callsUrl": f"{openai}/v1/realtime/translations/calls"}
    offered = json.loads(post(f"{address}/profiles", None, method="GET")[2])
    offered["profiles"] = {"spanish": {"kind": "translation", "fields": []}}
    page.route("**/profiles", lambda route: route.fulfill(json=offered))
    page.route("**/token", lambda route: route.fulfill(json=token))
    page.reload()
    connect(page)
    [created] = events(page, "session.created")
    assert created["session"]["type"] == "translation"
    expect(page.get_by_role("button", name="Send")).to_be_disabled()


# Calls that do not come about, or end


def test_without_leave_to_use_the_microphone_one_is_told_and_keeps_the_token(mint, visit):
    address, _ = mint()
    page = visit(address, permissions=())
    get_token(page)
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#failure")).to_contain_text("The microphone is not allowed")
    page.context.grant_permissions(["microphone"])
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")
    expect(page.locator("#failure")).to_be_empty()


def test_a_call_that_is_given_up_before_openai_was_asked_leaves_the_token_good(mint, visit):
    address, _ = mint()
    page = visit(address)
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => new Promise(() => {}); }")
    get_token(page)
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("status")).to_have_text("Asking for the microphone…")
    page.get_by_role("button", name="Hang up").click()
    expect(page.locator("#failure")).to_contain_text("The token is still good")
    expect(page.get_by_role("button", name="Connect")).to_be_focused()


def test_a_token_that_expires_while_the_browser_asks_for_the_microphone_ends_the_call_then(mint, visit):
    address, _ = mint(TOKEN_TTL_SECONDS="60")
    page = visit(address)
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => new Promise(() => {}); }")
    page.clock.install()
    get_token(page)
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("status")).to_have_text("Asking for the microphone…")
    page.clock.fast_forward(61_000)
    expect(page.locator("#failure")).to_contain_text("The token has expired")
    expect(page.get_by_role("status")).to_have_text("Not connected.")
    expect(page.get_by_role("button", name="Get a token")).to_be_focused()


def test_a_token_that_expires_during_a_call_does_not_end_it(mint, visit):
    address, _ = mint(TOKEN_TTL_SECONDS="60")
    page = visit(address)
    page.clock.install()
    connect(page)
    # What the microphone hears interrupts a reply, so that has to be over.
    expect(page.locator("#events .type").get_by_text("response.done")).to_be_visible()
    page.clock.fast_forward(61_000)
    expect(page.locator("#left")).to_have_text("expired")
    page.get_by_label("A message in writing").fill("Still there?")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#turns .assistant p").last).to_have_text("This is the simulator. You wrote: Still there?")
    page.get_by_role("button", name="Hang up").click()
    expect(page.get_by_role("button", name="Connect")).to_be_disabled()


def test_a_click_that_comes_before_the_page_is_ready_is_not_lost(mint, visit):
    address, _ = mint()
    page = visit(address)
    page.route("**/profiles", lambda route: (page.wait_for_timeout(500), route.continue_()))
    page.reload()
    get_token(page)


def test_a_call_that_is_given_up_while_openai_is_asked_is_asked_for_no_longer(mint, visit):
    address, openai = mint()
    page = visit(address)
    get_token(page)
    fault(openai, "hang", at="calls")
    # Sooner than the page gives up by itself.
    with page.expect_event("requestfailed", lambda request: "/realtime/calls" in request.url, timeout=10_000):
        page.get_by_role("button", name="Connect").click()
        expect(page.get_by_role("status")).to_have_text("Asking OpenAI for the call…")
        page.get_by_role("button", name="Hang up").click()
    expect(page.locator("#failure")).to_contain_text("You hung up")
    expect(page.locator("#left")).to_have_text("used")
    connect(page)


def test_a_double_click_and_a_key_that_is_held_down_connect_and_do_not_hang_up(mint, visit):
    address, _ = mint()
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
    "error, title", [("NotFoundError", "There is no microphone"), ("NotReadableError", "The microphone cannot be used")]
)
def test_a_microphone_that_fails_is_told_in_words(mint, visit, error, title):
    address, _ = mint()
    page = visit(address)
    fail = "name => navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('No.', name); }"
    page.evaluate(fail, error)
    get_token(page)
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#failure")).to_contain_text(title)
    expect(page.get_by_role("button", name="Connect")).to_be_enabled()


def test_a_page_that_is_not_secure_says_why_there_is_no_microphone(mint, visit):
    address, _ = mint()
    page = visit(address.replace("127.0.0.1", "mint.example"))
    get_token(page)
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#failure")).to_contain_text("The browser gives this page no microphone")
    expect(page.locator("#failure")).to_contain_text("http://127.0.0.1")


def test_without_a_network_one_is_told_and_keeps_the_token(mint, visit):
    address, _ = mint()
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
        ("unauthorized", {}, "OpenAI refuses the token"),
        ("forbidden", {}, "OpenAI forbids this call"),
        ("bad-request", {}, "OpenAI does not take the call"),
        ("not-found", {}, "There are no calls at this address"),
        ("rate-limit", {}, "OpenAI takes no more calls now"),
        ("insufficient-quota", {}, "The OpenAI account is out of credit"),
        ("server-error", {"status": 503}, "OpenAI is unavailable"),
        ("not-json", {}, "OpenAI’s answer is no answer to the call"),
    ],
)
def test_a_call_that_openai_refuses_is_told_in_words_and_the_next_one_can_succeed(mint, visit, name, settings, title):
    address, openai = mint()
    page = visit(address)
    get_token(page)
    fault(openai, name, at="calls", **settings)
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#failure")).to_contain_text(title)
    expect(page.locator("#left")).to_have_text("used")
    connect(page)
    expect(page.locator("#failure")).to_be_empty()


@pytest.mark.parametrize(
    "name, seconds, title",
    [
        ("hang", 15, "OpenAI does not answer the call"),
        ("never-connects", 20, "No audio connection"),
        ("no-events", 20, "The channel for events does not open"),
    ],
)
def test_a_call_that_does_not_come_about_in_time_is_told_in_words(mint, visit, name, seconds, title):
    address, openai = mint()
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
    waiting = "Asking OpenAI for the call…" if name == "hang" else "Looking for a way for the sound…"
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
def test_a_call_that_breaks_off_is_told_in_words(mint, visit, name, title):
    address, openai = mint()
    page = visit(address)
    page.clock.install()
    get_token(page)
    fault(openai, name, at="calls", ms=500)
    # One is connected too briefly to be waited for; that one was is what the call's length says.
    page.get_by_role("button", name="Connect").click()
    if name == "drops":
        expect(page.get_by_role("status")).to_have_text("The connection is shaky. Waiting for it to come back…")
        page.clock.fast_forward(10_000)
    # Soon: a browser by itself needs a quarter of a minute more to give up.
    expect(page.locator("#failure")).to_contain_text(title, timeout=10_000)
    expect(page.locator("#failure")).to_contain_text("The call lasted")
    expect(page.get_by_role("button", name="Get a token")).to_be_enabled()


def test_an_error_event_is_told_and_the_call_goes_on(mint, visit):
    address, openai = mint()
    page = visit(address)
    fault(openai, "error-event", at="calls", code="rate_limit_exceeded", ms=200)
    connect(page)
    told = page.locator("#failure")
    expect(told).to_contain_text("OpenAI reports an error")
    expect(told).to_contain_text("Wait a little before you go on.")
    expect(page.locator("#turns .assistant p")).to_contain_text("I heard you speak")
    expect(told).to_be_empty()
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")


def test_a_session_that_reaches_its_longest_time_says_so(mint, visit, start):
    port = free_port()
    start([TARGET / "debug/openai-simulator", "--port", port, "--session-limit", 2], "openai").wait_for_port(port)
    address, _ = mint(OPENAI_API_KEY="sk-my-own", OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1")
    page = visit(address)
    assert "Simulated" not in page.locator("#upstream").inner_text()
    get_token(page)
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#failure")).to_contain_text("The session reached its longest time")


def test_who_is_cut_off_by_the_end_of_the_call_is_not_speaking_any_more(mint, visit):
    address, _ = mint()
    page = visit(address)
    # A call in which one speaks from the first moment on.
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


def test_a_call_that_openai_hangs_up_says_how_long_it_lasted(mint, visit):
    address, openai = mint()
    page = visit(address)
    get_token(page)
    with page.expect_response("**/realtime/calls") as answered:
        page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")
    location = answered.value.headers["location"]
    assert post(f"{openai}{location}/hangup", headers={"Authorization": "Bearer sk-test"})[0] == 200
    told = page.locator("#failure")
    expect(told).to_contain_text("OpenAI ended the session")
    expect(told).to_contain_text("The call lasted")
    expect(page.get_by_role("button", name="Hang up")).to_be_hidden()


# What everyone can use


def press_until(page, key, name):
    """Presses a key until the focus is on the control of that name."""
    for _ in range(30):
        page.keyboard.press(key)
        if page.evaluate("document.activeElement.innerText") == name:
            return
    raise AssertionError(f"the keyboard does not lead to {name!r}")


def test_the_keyboard_alone_leads_through_a_call(mint, visit):
    address, _ = mint()
    page = visit(address)
    expect(page.get_by_role("button", name="Get a token")).to_be_enabled()
    press_until(page, "Tab", "Get a token")
    page.keyboard.press("Enter")
    expect(page.locator("#left")).to_have_text(re.compile(r"\d+:\d\d"))
    press_until(page, "Tab", "Connect")
    outline = page.evaluate("getComputedStyle(document.activeElement).outline")
    assert "3px" in outline and "solid" in outline
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")
    expect(page.get_by_role("button", name="Hang up")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("The call is over.")
    expect(page.get_by_role("button", name="Get a token")).to_be_focused()


def test_a_call_that_ends_while_one_writes_leads_on_to_the_next_token(mint, visit):
    address, openai = mint()
    page = visit(address)
    with page.expect_response("**/realtime/calls") as answered:
        connect(page)
    page.get_by_label("A message in writing").press("H")
    post(f"{openai}{answered.value.headers['location']}/hangup", headers={"Authorization": "Bearer sk-test"})
    expect(page.locator("#failure")).to_contain_text("OpenAI ended the session")
    expect(page.get_by_role("button", name="Get a token")).to_be_focused()


def test_every_control_has_a_name_and_headings_are_in_order(mint, visit):
    address, _ = mint()
    page = visit(address)
    page.get_by_label("Profile").select_option("de-escalation")
    connect(page)
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "checkbox", "combobox", "list", "meter", "slider", "textbox"}
    named = [
        (node["role"]["value"], node.get("name", {}).get("value"))
        for node in tree
        if node.get("role", {}).get("value") in roles and not node["ignored"]
    ]
    assert {role for role, _ in named} == roles
    assert all(name for _, name in named), named
    levels = [int(tag[1]) for tag in page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => h.tagName)")]
    assert levels == [1, 2, 2, 2, 2]


CONTRAST = """() => {
  const colour = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    const [r, g, b, a = 1] = colour(getComputedStyle(element).backgroundColor);
    return a === 1 ? [r, g, b] : element.parentElement ? behind(element.parentElement) : [255, 255, 255];
  };
  const texts = [...document.querySelectorAll('body *')].filter(element => element.checkVisibility()
    && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
  return texts.map(element => {
    const [one, other] = [light(colour(getComputedStyle(element).color)), light(behind(element))];
    return [(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), element.textContent.trim()];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_shows_it_all_and_every_text_can_be_read(mint, visit, scheme):
    address, openai = mint()
    # Without motion, so that no colour is on its way from one to another.
    page = visit(address, viewport={"width": 360, "height": 740}, color_scheme=scheme, reduced_motion="reduce")
    page.get_by_label("Profile").select_option("de-escalation")

    def check():
        page.mouse.move(0, 0)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        texts = page.evaluate(CONTRAST)
        assert len(texts) > 15
        assert not [text for text in texts if text[0] < 4.5]

    check()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == {"light": "rgb(244, 247, 245)", "dark": "rgb(15, 21, 19)"}[scheme]
    fault(openai, "insufficient-quota")
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#refusal")).to_contain_text("The OpenAI account is out of credit")
    check()
    connect(page)
    expect(page.locator("#turns .assistant p")).to_have_text(re.compile(r"I heard you speak for .+\."))
    events(page, "session.updated")
    check()
    page.get_by_role("button", name="Hang up").click()
    expect(page.locator("#failure")).to_contain_text("You hung up")
    check()


# The lines of README and docs/api.md, as they are, with and without OpenAI's own SDK


def readme_lines():
    """The README's two scripts, to a token and from there to a call, and the same call with the SDK, of docs/api.md."""
    pages = (ROOT / "README.md").read_text(), (ROOT / "docs/api.md").read_text()
    own, with_sdk = (re.findall(r"^```js\n(.*?)^```", page, re.MULTILINE | re.DOTALL) for page in pages)
    assert (len(own), len(with_sdk)) == (2, 1)
    return [*own, *with_sdk]


# Keeps what the microphone gave, to see whether it is let go of.
HOLD_MICROPHONE = """() => {
  const { mediaDevices } = navigator, open = mediaDevices.getUserMedia.bind(mediaDevices);
  mediaDevices.getUserMedia = async wanted => (window.microphone = await open(wanted));
}"""
IS_SILENT = "window.microphone?.getTracks().every(track => track.readyState === 'ended')"


@pytest.fixture
def readme_page(mint, visit, origin, tmp_path):
    """A page of its own origin that runs scripts of the README against a demo; what it logged, and what stopped it."""

    def readme_page(*scripts, after="", ask=None, openai=None, permissions=("microphone",), **environment):
        folder = tmp_path / "page"
        folder.mkdir()
        bundle = "/node_modules/@openai/agents-realtime/dist/bundle/openai-realtime-agents.mjs"
        imports = json.dumps({"imports": {"@openai/agents-realtime": bundle}})
        given = "const TOKEN_URL = new URLSearchParams(location.search).get('token')"
        (folder / "index.html").write_text(
            f"<link rel=icon href=data:,><script type=importmap>{imports}</script><script>{given}</script>"
        )
        (folder / "lines.js").write_text("\n".join([*scripts, after]))
        (folder / "node_modules").symlink_to(ROOT / "tests/sdk/node_modules")
        page_s = origin(folder)
        address, _ = mint(ALLOWED_ORIGINS=page_s, **environment)
        logged, uncaught, strangers = [], [], []
        page = visit(f"{page_s}/?token={quote(address + '/token')}", permissions=permissions, uncaught=uncaught)
        page.evaluate(HOLD_MICROPHONE)
        page.on("console", lambda message: logged.append(message.args[0].json_value()) if message.type == "log" else None)
        # The real OpenAI is never asked, whatever the page does.
        page.route("https://**", lambda route: (strangers.append(route.request.url), route.abort()))
        if ask:
            page.route("**/token", lambda route: ask(route))
        page.add_script_tag(url="/lines.js", type="module")
        page.strangers = strangers
        return page, address, logged, uncaught

    return readme_page


def heard(page, logged, kind, times=1):
    """Waits until the page logged that many events of the kind; the last of them."""
    for _ in range(150):
        found = [event for event in logged if event["type"] == kind]
        if len(found) >= times:
            return found[-1]
        page.wait_for_timeout(100)
    raise AssertionError([event["type"] for event in logged])


def stopped_by(page, uncaught):
    """Waits for the error that stopped the page's script: its message."""
    for _ in range(150):
        if uncaught:
            return uncaught[0].message
        page.wait_for_timeout(100)
    raise AssertionError("nothing stopped it")


def test_the_readme_s_lines_connect_as_they_are(readme_page):
    token, call, _ = readme_lines()
    page, _, logged, uncaught = readme_page(token, call)
    assert heard(page, logged, "response.output_audio_transcript.done")["transcript"].startswith("This is the simulator.")
    assert logged[0]["type"] == "session.created"
    assert (page.strangers, uncaught) == ([], [])


def sdk():
    if not (ROOT / "tests/sdk/node_modules/.package-lock.json").exists():
        skip("OpenAI's SDK needs npm")
    version = json.loads((ROOT / "tests/sdk/package.json").read_text())["dependencies"]["@openai/agents-realtime"]
    assert f"here version {version}:" in (ROOT / "docs/api.md").read_text()


def minted_sessions(address):
    seen = json.loads(post(f"{address}/simulator/requests", None, method="GET")[2])
    return [request["body"]["session"] for request in seen if request["path"].endswith("/client_secrets")]


def assert_kept(minted, session):
    """Every value of the session that was minted is in the other one."""
    for name, value in minted.items():
        if isinstance(value, dict):
            assert_kept(value, session[name])
        else:
            assert session[name] == value, name


def test_the_readme_s_lines_with_openai_s_sdk_keep_the_whole_session_of_the_profile(readme_page):
    sdk()
    token, _, call = readme_lines()

    def choose_the_profile(route):
        route.continue_(post_data='{"profile": "de-escalation", "speed": 1.1}')

    shown = "Object.assign(window, { session, transport, RealtimeAgent });"
    page, address, logged, uncaught = readme_page(token, call, after=shown, ask=choose_the_profile)
    heard(page, logged, "session.updated", 2)
    [minted] = minted_sessions(address)
    assert len(minted["instructions"]) > 1000 and minted["audio"]["output"]["speed"] == 1.1
    assert minted["audio"]["input"]["noise_reduction"] and minted["audio"]["input"]["turn_detection"] and minted["tools"]
    created = heard(page, logged, "session.created")["session"]
    assert_kept(minted, created)
    assert heard(page, logged, "session.updated", 2)["session"] == created, "tracing included"

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
    assert heard(page, logged, "session.updated", 3)["session"] == created, "after a handoff too"
    said = heard(page, logged, "response.output_audio_transcript.done")
    assert said["transcript"].startswith("This is the simulator. I heard you speak")
    assert not [event for event in logged if event["type"] == "error"]
    # The simulator calls no function; this is what the transport tells the session when OpenAI does.
    called = {"type": "function_call", "id": "1", "callId": "1", "responseId": "1", "name": "end_exercise", "arguments": "{}"}
    page.evaluate("call => transport.emit('function_call', call)", called)
    wait_until(page, "window.ran")
    page.evaluate("session.close()")
    wait_until(page, IS_SILENT)
    assert (page.strangers, uncaught) == ([], [])


@pytest.mark.parametrize("call", [1, 2], ids=["call", "sdk"])
def test_a_call_that_openai_refuses_stops_the_readme_s_lines_with_the_reason(readme_page, call):
    sdk()
    scripts = readme_lines()

    def plan_first(route):
        fault(route.request.url.removesuffix("/token"), "unauthorized", at="calls")
        route.continue_()

    page, _, _, uncaught = readme_page(scripts[0], scripts[call], ask=plan_first)
    assert re.search(r"call.*401.*Incorrect API key", stopped_by(page, uncaught), re.DOTALL)
    wait_until(page, IS_SILENT)


def answer(status, body, **headers):
    return lambda route: route.fulfill(status=status, body=body, headers={"Access-Control-Allow-Origin": "*", **headers})


@pytest.mark.parametrize(
    "ask, message",
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
def test_refusals_that_no_function_gave_stop_the_readme_s_lines_with_a_sentence(readme_page, ask, message):
    page, _, _, uncaught = readme_page(*readme_lines()[:2], ask=ask)
    assert stopped_by(page, uncaught) == message
    wait_until(page, IS_SILENT)


def test_a_refusal_of_the_function_stops_the_readme_s_lines_with_its_reason_wait_and_id(readme_page):
    def plan_first(route):
        fault(route.request.url.removesuffix("/token"), "rate-limit", retry_after="42")
        route.continue_()

    page, _, _, uncaught = readme_page(*readme_lines()[:2], ask=plan_first)
    message = stopped_by(page, uncaught)
    assert re.fullmatch(
        r"No token \(HTTP 503\): OpenAI API returned 429: too many requests, try again in 42 s, demo-\d+", message
    ), message


def test_a_refused_microphone_costs_no_token(readme_page):
    page, address, _, uncaught = readme_page(*readme_lines()[:2], permissions=())
    assert "Permission denied" in stopped_by(page, uncaught)
    assert minted_sessions(address) == []


def test_the_readme_s_lines_let_go_of_the_microphone_when_the_session_reaches_its_longest_time(readme_page, start):
    port = free_port()
    start([TARGET / "debug/openai-simulator", "--port", port, "--session-limit", 2], "openai").wait_for_port(port)
    own = {"OPENAI_API_KEY": "sk-my-own", "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"}
    page, _, logged, uncaught = readme_page(*readme_lines()[:2], **own)
    assert heard(page, logged, "error")["error"]["code"] == "session_expired"
    wait_until(page, IS_SILENT)
    assert uncaught == []
