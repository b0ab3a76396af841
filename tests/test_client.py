"""The npm package in client/: its size, types, files and codes, and what it makes of each kind of answer, in Node."""

import email.utils
import gzip
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
import time
import tomllib

import pytest
from conftest import NODE, ROOT, free_port, skip

from estimate.description import REFUSALS

CLIENT = ROOT / "client"
TYPES = (CLIENT / "index.d.ts").read_text()


def union(name):
    """The texts of a union type."""
    return re.findall(r"^  \| '(\w+)'", re.search(rf"type {name} =\n((?:  \| .*\n)+)", TYPES.replace(";", ""))[1], re.MULTILINE)


@pytest.fixture(scope="module")
def tools():
    """The folder of the npm packages of the tests."""
    folder = ROOT / "tests/node/node_modules/.bin"
    if not folder.exists():
        skip("the tests of the npm package need npm")
    return folder


def test_the_codes_are_those_of_the_function():
    assert union("ServiceCode") == sorted({code for _, code in REFUSALS})
    assert not set(union("ServiceCode")) & set(union("ClientCode"))


def test_every_code_and_every_end_has_words(run):
    codes = union("ServiceCode") + union("ClientCode")
    said = run(
        """import { Refusal } from 'token-mint';
        import { explain } from 'token-mint/words';
        print(input.map(code => explain(new Refusal(code, 500, 'Details'))));""",
        codes,
    )
    assert len(set(said)) == len(codes)
    assert not [sentence for sentence in said if "The call failed" in sentence or not sentence.endswith(".")]
    reasons = re.findall(r"'(\w+)'", re.search(r"type EndReason = (.*);", TYPES)[1])
    ends = run("import { explainEnd } from 'token-mint/words'; print(input.map(explainEnd));", reasons)
    assert len(reasons) == len({end for end in ends if end.endswith(".")}) == 4
    waits = run(
        """import { Refusal } from 'token-mint';
        import { explain } from 'token-mint/words';
        const wait = retryAfter => explain(new Refusal('quota_exceeded', 429, '', { retryAfter }));
        print([wait(65), wait(7200), explain(new DOMException('', 'NotAllowedError')), explain(new Error('Odd'))]
          .concat(Object.assign(globalThis, { isSecureContext: false }) && explain(new TypeError('undefined'))));""",
        None,
    )
    assert waits[0].endswith("Wait 1:05.") and waits[1].endswith("Wait 2:00:00.")
    assert "The microphone is not allowed." in waits[2] and "Odd" in waits[3] and "https" in waits[4]


def test_a_page_loads_at_most_2_kb(tools, tmp_path):
    guide = (ROOT / "docs/development.md").read_text()
    [command] = re.findall(r"`(tests/node/node_modules/\.bin/esbuild .+?)`", guide)
    made = tmp_path / "token-mint.min.mjs"
    words = command.replace("client/token-mint.min.mjs", str(made)).split()
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert made.read_text() == (CLIENT / "token-mint.min.mjs").read_text(), f"run `{command}`"
    assert len(gzip.compress(made.read_bytes(), 9)) <= 2000


def test_the_types_are_strict(tools):
    ran = subprocess.run([tools / "tsc", "--project", ROOT / "tests/client"], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout


def test_the_scripts_of_the_guide_compile(tools, tmp_path):
    blocks = [
        block
        for page in (ROOT / "docs/web.md", CLIENT / "README.md")
        for block in re.findall(r"^```(tsx?)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    ]
    assert len(blocks) == 5
    for number, (kind, script) in enumerate(blocks):
        (tmp_path / f"{number}.{kind}").write_text(script)
    settings = json.loads((ROOT / "tests/client/tsconfig.json").read_text())["compilerOptions"]
    here = {name: [f"{ROOT}/tests/client/{path}" for path in paths] for name, paths in settings["paths"].items()}
    react = f"{CLIENT}/examples/react/node_modules/@types/react"
    here |= {"react": [react], "react/*": [f"{react}/*"]}
    settings |= {"paths": here, "jsx": "react-jsx"}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": settings, "include": ["."]}))
    ran = subprocess.run([tools / "tsc", "--project", tmp_path], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout


def test_the_version_is_that_of_the_service():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    package = json.loads((CLIENT / "package.json").read_text())
    assert package["version"] == version and "dependencies" not in package
    assert (CLIENT / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_the_packed_files_can_be_installed_and_imported(tmp_path):
    npm = shutil.which("npm")
    if not npm:
        skip("the test of the packed files needs npm")
    environment = os.environ | {"npm_config_cache": str(tmp_path / "cache"), "npm_config_update_notifier": "false"}

    def run(*command):
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    [packed] = json.loads(run(npm, "pack", "--json", "--ignore-scripts", CLIENT))
    assert sorted(file["path"] for file in packed["files"]) == [
        "LICENSE",
        "README.md",
        "index.d.ts",
        "index.js",
        "package.json",
        "react.d.ts",
        "react.js",
        "token-mint.min.mjs",
        "tools.d.ts",
        "tools.js",
        "words.d.ts",
        "words.js",
    ]
    (tmp_path / "package.json").write_text('{"private": true}')
    run(npm, "install", "--offline", "--no-audit", "--no-fund", f"./{packed['filename']}")
    # React is needed by its own entry only.
    assert not (tmp_path / "node_modules/react").exists()
    script = """
        const names = await Promise.all(['', '/tools', '/words', '/token-mint.min.mjs'].map(entry => import(`token-mint${entry}`)));
        const failed = await import('token-mint/react').catch(error => error.message);
        console.log(JSON.stringify([...names.map(Object.keys), failed]));"""
    *names, failed = json.loads(run(NODE, "--input-type=module", "--eval", script))
    assert names == [
        ["Refusal", "countdown", "tokenMint"],
        ["answerTools"],
        ["explain", "explainEnd", "formatTime"],
        ["Refusal", "countdown", "tokenMint"],
    ]
    assert "Cannot find package 'react'" in failed


# What the package makes of answers


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a script in Node that imports the package, with `input`, and returns what it gives to `print`."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "node_modules").mkdir()
    (folder / "node_modules/token-mint").symlink_to(CLIENT)
    start = "const input = JSON.parse(process.argv[1]); const print = value => console.log(JSON.stringify(value));"

    def run(script, given):
        command = [NODE, "--input-type=module", "--eval", start + script, json.dumps(given)]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return run


@pytest.fixture
def service():
    """A server whose answers the test chooses: the address, and a list of the requests that it got."""
    servers = []

    def service(*answers):
        left, requests = list(answers), []

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                requests.append({"method": self.command, "path": self.path, "headers": headers, "body": body})
                status, headers, text = left.pop(0)
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write((text if isinstance(text, str) else json.dumps(text)).encode())

            do_POST = do_DELETE = answer

            def log_message(self, *_):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        # The interval is that of a shutdown.
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}", requests

    yield service
    for server in servers:
        server.shutdown()
        server.server_close()


REFUSED = """import { Refusal, tokenMint } from 'token-mint';
const { token, open } = tokenMint(input.url);
const error = await (input.offer ? open(input.offer) : token()).catch(error => error);
const { name, code, status, message, details, retryAfter, requestId } = error;
print({ refusal: error instanceof Refusal && error instanceof Error, name, code, status, message, details, retryAfter,
  requestId, cause: error.cause?.name });"""

FORM = {"success": False, "code": "openai_busy", "error": "Error", "details": "D", "message": "M", "requestId": "id"}

REFUSED_ANSWERS = {
    "the function": ((503, {"Retry-After": "42"}, FORM), ("openai_busy", "M", "D", 42, "id")),
    "a fraction": ((503, {"Retry-After": "1.2"}, FORM), ("openai_busy", "M", "D", 2, "id")),
    "a bad wait": ((503, {"Retry-After": "soon"}, FORM), ("openai_busy", "M", "D", None, "id")),
    "a gateway's 401": ((401, {}, {"message": "Unauthorized"}), ("unauthorized", "Unauthorized", None, None, None)),
    "a gateway's 403": ((403, {}, {"message": "Forbidden"}), ("forbidden", "Forbidden", None, None, None)),
    "a gateway's 404": ((404, {}, {"message": "Not Found"}), ("not_found", "Not Found", None, None, None)),
    "a gateway's 429": (
        (429, {}, {"message": "Too Many Requests"}),
        ("too_many_requests", "Too Many Requests", None, None, None),
    ),
    "a gateway's 503": (
        (503, {}, {"message": "Service Unavailable"}),
        ("unavailable", "Service Unavailable", None, None, None),
    ),
    "a page of a proxy": ((502, {"Retry-After": "9"}, "<html>"), ("unavailable", "unavailable", None, 9, None)),
    "no body": ((500, {}, ""), ("unavailable", "unavailable", None, None, None)),
    "a list": ((500, {}, "[]"), ("unavailable", "unavailable", None, None, None)),
    "null": ((504, {}, "null"), ("unavailable", "unavailable", None, None, None)),
    "a Wi-Fi's sign-in": ((200, {}, "<html>"), ("unexpected_answer", "unexpected_answer", None, None, None)),
    "another 4xx": ((418, {}, ""), ("unexpected_answer", "unexpected_answer", None, None, None)),
}


@pytest.mark.parametrize("offer", [None, "v=0"], ids=["token", "call"])
@pytest.mark.parametrize("kind", REFUSED_ANSWERS)
def test_a_refusal_has_a_code_and_a_wait(run, service, kind, offer):
    answer, (code, message, details, wait, request_id) = REFUSED_ANSWERS[kind]
    url, _ = service(answer)
    found = run(REFUSED, {"url": url, "offer": offer})
    assert found.pop("refusal") and found.pop("name") == "Refusal"
    expected = {"code": code, "status": answer[0], "message": message}
    if wait is not None:
        expected["retryAfter"] = wait
    if details:
        expected |= {"details": details, "requestId": request_id}
    assert found == expected
    assert code in union("ServiceCode") + union("ClientCode")


def test_a_wait_can_be_a_date(run, service):
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    url, _ = service((429, {"Retry-After": in_a_minute}, {"message": "Too Many Requests"}))
    assert 0 < run(REFUSED, {"url": url})["retryAfter"] <= 60


def test_a_service_that_does_not_answer_is_unreachable(run):
    found = run(REFUSED, {"url": f"http://127.0.0.1:{free_port()}"})
    assert (found["code"], found["status"], found["cause"]) == ("unreachable", 0, "TypeError")


TOKEN = {"success": True, "value": "ek_1", "expiresAt": 0}
OPENED = {"success": True, "sdp": "v=0\r\n", "callId": "a_b-C", "expiresAt": 0}
ENDED = {"success": True, "seconds": 7}


@pytest.mark.parametrize("end", ["", "/", "/token", "/token/", "/call"])
@pytest.mark.parametrize("stage", ["", "/prod", "/a/token"])
def test_the_address_may_have_a_stage_and_may_end_in_a_route(run, service, stage, end):
    if stage.endswith("/token") and not end.strip("/"):
        return
    url, requests = service((200, {}, TOKEN), (201, {}, OPENED), (200, {}, ENDED))
    run(
        """import { tokenMint } from 'token-mint';
        const mint = tokenMint(new URL(input));
        await mint.token();
        const call = await mint.open('v=0');
        print(await call.hangUp());""",
        url + stage + end,
    )
    assert [(request["method"], request["path"]) for request in requests] == [
        ("POST", f"{stage}/token"),
        ("POST", f"{stage}/call"),
        ("DELETE", f"{stage}/call/a_b-C"),
    ]


def test_requests_have_the_profile_the_fields_and_further_headers(run, service):
    url, requests = service((200, {}, TOKEN), (201, {}, OPENED), (200, {}, ENDED))
    offer = "v=0\r\ns=é\r\n"
    answered = run(
        """import { tokenMint } from 'token-mint';
        let times = 0;
        const mint = tokenMint(input.url, { headers: async () => ({ Authorization: `Bearer ${++times}` }) });
        const request = { profile: 'de-escalation', fields: { voice: 'ash', speed: 1.1 } };
        await mint.token(request);
        const call = await mint.open(input.offer, { ...request, dcid: 4 });
        print([call.sdp, await call.hangUp()]);""",
        {"url": url, "offer": offer},
    )
    assert answered[0] == OPENED["sdp"] and answered[1]["seconds"] == 7
    session = {"profile": "de-escalation", "voice": "ash", "speed": 1.1}
    token, call, ended = requests
    assert json.loads(token["body"]) == session
    assert json.loads(call["body"]) == {**session, "dcid": 4, "sdp": offer}
    assert ended["body"] == ""
    assert [request["headers"]["authorization"] for request in requests] == ["Bearer 1", "Bearer 2", "Bearer 3"]
    assert {request["headers"]["content-type"] for request in requests} == {"application/json"}


def test_no_cache_keeps_an_answer_and_hanging_up_outlives_the_page(run):
    settings = run(
        """import { tokenMint } from 'token-mint';
        const seen = [];
        globalThis.fetch = async (url, { cache, keepalive = false }) => {
          seen.push([cache, keepalive]);
          return Response.json({ success: true, callId: 'a', sdp: 'v=0' });
        };
        const mint = tokenMint('https://mint.example');
        await mint.token();
        await (await mint.open('v=0')).hangUp();
        print(seen);""",
        None,
    )
    assert settings == [["no-store", False], ["no-store", False], ["no-store", True]]


def test_an_abort_ends_a_call_that_the_service_opens_nevertheless(run):
    seen = run(
        """import { tokenMint } from 'token-mint';
        const seen = [];
        globalThis.fetch = async (url, { method, signal }) => {
          seen.push(method);
          if (method === 'POST') await new Promise(resolve => setTimeout(resolve, 50));
          return Response.json({ success: true, callId: 'a', sdp: 'v=0' });
        };
        const abort = new AbortController();
        const opening = tokenMint('https://mint.example').open('v=0', { signal: abort.signal });
        setTimeout(() => abort.abort(), 20);
        seen.push((await opening.catch(error => error)).name);
        const late = await tokenMint('https://mint.example').open('v=0', { signal: abort.signal }).catch(error => error);
        print([...seen, late.name]);""",
        None,
    )
    assert seen == ["POST", "DELETE", "AbortError", "AbortError"]


def test_an_abort_during_the_sign_in_opens_no_call(run):
    seen = run(
        """import { tokenMint } from 'token-mint';
        const seen = [], abort = new AbortController();
        globalThis.fetch = async (url, { method }) => (seen.push(method), Response.json({ success: true, sdp: 'v=0' }));
        const headers = async () => (await new Promise(resolve => setTimeout(resolve, 50)), {});
        setTimeout(() => abort.abort(), 20);
        const error = await tokenMint('https://mint.example', { headers }).open('v=0', abort).catch(error => error);
        print([...seen, error.name]);""",
        None,
    )
    assert seen == ["AbortError"]


def test_a_page_that_closes_does_not_wait_for_the_sign_in(run):
    seen = run(
        """import { tokenMint } from 'token-mint';
        const seen = [];
        globalThis.fetch = async (url, { method, headers }) => {
          seen.push(`${method} ${headers.Authorization}`);
          return Response.json({ success: true, callId: 'a', sdp: 'v=0' });
        };
        let asked = 0;
        const headers = async () => {
          await new Promise(resolve => setTimeout(resolve, 20));
          return { Authorization: `${++asked}` };
        };
        const call = await tokenMint('https://mint.example', { headers }).open('v=0');
        call.hangUp({ type: 'pagehide' });
        seen.push('closed');
        await call.hangUp();
        print(seen);""",
        None,
    )
    assert seen == ["POST 1", "DELETE 1", "closed", "DELETE 2"]


def test_an_abort_ends_the_request_for_a_token(run):
    found = run(
        """import { tokenMint } from 'token-mint';
        globalThis.fetch = (url, { signal }) => new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason));
        });
        const abort = new AbortController();
        setTimeout(() => abort.abort(), 20);
        print((await tokenMint('https://mint.example').token({ signal: abort.signal }).catch(error => error)).name);""",
        None,
    )
    assert found == "AbortError"


@pytest.mark.parametrize("minutes, readable", [(0, True), (0, False), (90, True), (-90, True)])
def test_the_remaining_time_is_that_of_the_service(run, minutes, readable):
    """Also on a device whose clock is wrong, if the page can read the header `Date`."""
    left = run(
        """import { tokenMint } from 'token-mint';
        const now = Date.now(), wrong = now + input.minutes * 60_000;
        globalThis.fetch = async () => Response.json({ success: true, expiresAt: Math.floor(now / 1000) + 600 },
          { headers: input.readable ? { Date: new Date(now).toUTCString() } : {} });
        Date.now = () => wrong;
        const token = await tokenMint('https://mint.example').token();
        print(token.remaining());""",
        {"minutes": minutes, "readable": readable},
    )
    assert 598 <= left <= 601


def test_a_countdown_warns_once_and_stops(run):
    seen = run(
        """import { countdown } from 'token-mint';
        const seen = [];
        // Each tick takes half a second, however late it is.
        let left = 2.7;
        const remaining = () => Math.max(0, (left -= 0.5));
        const onTick = left => {
          if (!seen.includes(left)) seen.push(left);
          if (!left) setTimeout(() => print(seen), 700);
        };
        countdown({ remaining }, { warnBefore: 2, onTick, onWarning: left => seen.push(`warning ${left}`) });""",
        None,
    )
    assert seen == [3, 2, "warning 2", 1, 0]


def test_a_tool_is_run_and_its_result_goes_to_the_model(run):
    seen = run(
        """import { answerTools } from 'token-mint/tools';
        const seen = [];
        const hangUp = async () => { seen.push('hung up'); throw new Error('offline'); };
        let call = { send: event => seen.push(event), hangUp };
        const tools = {
          look_up: async ({ word }) => ({ meaning: word.length }),
          note: () => {},
          end_exercise: ({ outcome }, { finish }) => (seen.push(outcome), finish(), 'not sent'),
        };
        const handle = answerTools(tools);
        const say = (name, given, status = 'completed') => handle({ type: 'response.done', response: { status, output: [
          { type: 'message' }, { type: 'function_call', name, call_id: 'c', arguments: given },
        ] } }, call);
        await say('look_up', '{"word": "four"}');
        await say('note', '{}');
        await say('unknown', '{}');
        await say('toString', '{}');
        await say('look_up', '{"wo', 'cancelled');
        await handle({ type: 'output_audio_buffer.started' }, call);
        await say('end_exercise', '{"outcome": "settled"}');
        seen.push('speaking');
        await handle({ type: 'output_audio_buffer.stopped' }, call);
        // The next call of the page.
        call = { ...call };
        await handle({ type: 'session.created' }, call);
        await say('end_exercise', '{"outcome": "distress"}');
        print(seen);""",
        None,
    )
    item = {"type": "function_call_output", "call_id": "c", "output": '{"meaning":4}'}
    expected = [{"type": "conversation.item.create", "item": item}, {"type": "response.create"}]
    assert seen[:2] == expected
    assert seen[2:] == ["settled", "speaking", "hung up", "distress", "hung up"]
