"""The demo's page, OpenAI's own SDK and the README's lines in a real browser, whose microphone beeps by itself."""

import functools
import http.server
import json
import re
import shutil
import site
import sysconfig
import threading
from urllib.parse import quote

import pytest
from conftest import NO_AWS_ACCOUNT, ROOT, post, skip

# The driver has an environment of its own, for its size; what both have is taken from that of the tests.
site.addsitedir(sysconfig.get_path("purelib", vars={"base": str(ROOT / ".venv/browser")}))

DE_ESCALATION = json.loads((ROOT / "function/profiles.json").read_text())["de-escalation"]
WORDS = (ROOT / "function/examples/demo/page/words.js").read_text()


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = [path for name in names if (path := shutil.which(name))]
    if not found:
        skip("the browser's tests need Chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=15_000)
    with sync_playwright() as driver:
        flags = ["--use-fake-device-for-media-stream", "--allow-loopback-in-peer-connection", "--disable-quic"]
        # Root has no sandbox.
        chromium = driver.chromium.launch(executable_path=found[0], args=[*flags, "--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser):
    """Opens a page of its own; what its scripts did not catch fails the test."""
    contexts, errors = [], []

    def visit(url, permissions=("microphone",), **settings):
        context = browser.new_context(permissions=list(permissions), **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(error))
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
    assert page.evaluate("[Object.keys(localStorage).length, Object.keys(sessionStorage).length, document.cookie]") == [0, 0, ""]


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
    ("unauthorized", {}, 1, "OpenAI does not take the mint’s key", "openai_rejected_key"),
    ("not-found", {}, 1, "OpenAI does not take this session", "openai_rejected_session"),
    ("insufficient-quota", {}, 1, "OpenAI wants to be paid", "openai_out_of_quota"),
    ("rate-limit", {"retry_after": "42"}, 1, "OpenAI has too much to do", "openai_busy"),
    ("server-error", {"status": 500}, 3, "OpenAI is out of order", "openai_unavailable"),
    ("not-json", {}, 1, "OpenAI answered something else than a token", "openai_answer_invalid"),
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
    codes = set(re.findall(r'StatusCode::[A-Z_]+,\s*"([a-z_]+)"', (ROOT / "function/src/error.rs").read_text()))
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
    ends = set(re.findall(r"'((?:calls|channel|microphone|path|token)_\w+|session_limit|insecure_page|no_webrtc|network|answer_invalid|hung_up|unexpected)'", call))  # fmt: skip
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


def test_a_page_of_another_origin_than_allowed_is_told_so(mint, visit):
    address, _ = mint(ALLOWED_ORIGINS="https://app.example.com")
    page = visit(address)
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#refusal")).to_contain_text("This page may not ask for tokens")


# CORS, as a browser enforces it

ASK = """async ([url, body]) => {
  const headers = body ? { 'Content-Type': 'application/json' } : {};
  const response = await fetch(`${url}/token`, { method: 'POST', headers, body }).catch(error => ({ error }));
  if (response.error) return { error: response.error.name };
  const read = name => response.headers.get(name);
  return { status: response.status, retryAfter: read('retry-after'), rateLimit: read('ratelimit'),
    policy: read('ratelimit-policy'), ...await response.json() };
}"""


def test_a_page_of_an_allowed_origin_reads_answers_and_refusals_and_another_nothing(mint, visit, origin, aws, tmp_path):
    endpoint, session = aws
    session.client("dynamodb", endpoint_url=endpoint).create_table(
        TableName="quotas",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    allowed, foreign = origin(tmp_path), origin(tmp_path)
    address, openai = mint(
        ALLOWED_ORIGINS=allowed, QUOTA_TABLE="quotas", QUOTA_PER_DAY="2", AWS_ENDPOINT_URL_DYNAMODB=endpoint, **NO_AWS_ACCOUNT
    )
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


def test_a_used_up_quota_counts_down_to_the_next_try(mint, visit, aws):
    endpoint, session = aws
    session.client("dynamodb", endpoint_url=endpoint).create_table(
        TableName="quotas",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    address, _ = mint(QUOTA_TABLE="quotas", QUOTA_PER_DAY="1", AWS_ENDPOINT_URL_DYNAMODB=endpoint, **NO_AWS_ACCOUNT)
    page = visit(address)
    get_token(page)
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#refusal")).to_contain_text("You have used up your tokens for now")
    expect(page.locator("#mint")).to_have_text(re.compile(r"Ask again in [\d:]+"))
