"""`make cost` and `make capacity`, and the pages that they write."""

import dataclasses
import datetime
import http.server
import json
import math
import random
import re
import shlex
import subprocess
import threading

import pytest
from conftest import ROOT, TARGET, TOOLCHAIN, post
from samtranslator.yaml_helper import yaml_parse

from estimate import calls as calls_model
from estimate import capacity, cost, description, load, markdown, template

EVENLY = load.Load(3000, 20, False, 0.4, 0.002, 0.003, 0.005, 0.2, 300)
SHARPLY = dataclasses.replace(EVENLY, sharp=True)
ROOMY = load.Limits(**{field.name: load.UNLIMITED for field in dataclasses.fields(load.Limits)})
AS_DEPLOYED = capacity.limits(capacity.arguments([]), template.parameters())


@pytest.fixture
def times(monkeypatch):
    """The function's own times in the arithmetic below."""
    own = {"warm_ms_at_128": 1.9, "first_ms_at_128": 2.5, "init_cpu_ms": 5.0}
    monkeypatch.setattr(cost, "measured", lambda quotas=True: own)


def bill(*words):
    asked = cost.arguments(list(words))
    return {line.name: line for line in cost.bill(asked, template.parameters(asked.parameters))}


def test_the_bill_of_a_month_equals_the_one_computed_by_hand(times):
    lines = bill("--mints", "1000000", "--upstream-ms", "400")
    assert {name: round(line.usd(), 4) for name, line in lines.items()} == {
        "HTTP API": 1.0,
        "Lambda, requests": 0.2,
        # (1,000,000 × 407 ms + 10,000 × 210 ms) × 0.125 GB = 51,137.5 GB-seconds
        "Lambda, time (arm64)": 0.6818,
        # 1,000,000 × (915 + 400 + 248) bytes
        "Logs": 0.7815,
        "Data out": 0.27,
        "Secret": 0.4,
        # 4 instances × 8,640 times, and 10,000 cold starts
        "Secret, reads": 0.2228,
        # 1,000,000 of callers, 200,000 batches of 5 tokens (0.096 a second for each instance), and 2 more for each cold start
        "Quotas": 0.7625,
        "Metrics": 3.3,
        "Alarms": 1.9,
        "Dashboard": 3.0,
        # 43,200 rounds in 30 days, and 25 requests of 5 ms in each
        "Keeper, schedule": 0,
        "Keeper, requests": 0.0086,
        "Keeper, time (arm64)": 0.009,
        # (410 + 400) bytes
        "Keeper, logs": 0.0175,
        "Keeper, reads": 0.1296,
        "Keeper, writes": 0.027,
        # those that each round reports
        "Keeper, metrics": 0.6,
    }
    assert round(lines["Alarms"].usd_beyond_free(), 4) == 0.9 and lines["Logs"].usd_beyond_free() == 0
    assert round(lines["Metrics"].usd_beyond_free() + lines["Keeper, metrics"].usd_beyond_free(), 4) == 0.9, (
        "10 metrics are free"
    )


def test_the_endpoints_decide_what_is_in_the_bill(times):
    token, call, both = (bill(f"Endpoints={name}") for name in ("token", "call", "both"))
    assert not {name for name in token if "Keeper" in name or "Calls" in name}
    assert set(both) - set(token) == {name for name in both if "Keeper" in name} and len(set(both) - set(token)) == 7
    assert (token["Alarms"].units, both["Alarms"].units) == (17, 19)
    assert not {"HTTP API", "Quotas", "Logs"} & set(call), "nobody gets a token, and nobody calls"
    of_calls = bill("Endpoints=call", "--calls", "10000")
    assert of_calls["HTTP API"].units == 20_000, "one request makes a call, and another ends it"
    assert (of_calls["Calls"].units, of_calls["Calls, reads"].units) == (70_000, 30_000)
    assert of_calls["Keeper, metrics"].units == len(description.KEEPER_METRICS) + 4
    # 0.23 calls a minute: a round waits for 14.3 s on average, and looks 3 times.
    assert of_calls["Keeper, time (arm64)"].units == 43_200 * (0.125 + 14.3) * 0.125
    assert of_calls["Keeper, reads"].units == 43_200 * 75.8
    # 100 a minute: a round waits until the next one has ended its calls, and each update concerns items of 9 and 50 KB.
    of_many = bill("Endpoints=call", "--calls", "4320000")
    assert of_many["Keeper, time (arm64)"].units == 43_200 * (0.125 + 92.4) * 0.125
    assert of_many["Calls"].units == 4_320_000 * (3 * 9 + 2 * 49 + 2)
    assert bill("Endpoints=token", "--calls", "10000")["HTTP API"].units == 1_000_000


def test_the_bill_follows_the_parameters(times):
    assert bill("--refused", "1000")["Quotas"].units == 1_221_020, "a refusal by the caller's quota costs one write"
    assert bill("--refused", "1000")["HTTP API"].units == 1_001_000
    assert bill("DailyMintLimit=0")["Quotas"].units == 1_000_000
    assert bill("QuotaPerDay=0", "QuotaPerMinute=0")["Quotas"].units == 220_000
    assert bill("--mints", "100000", "DailyMintLimit=9")["Quotas"].units == 202_000, "one by one, if a minute needs no more"
    assert bill("--mints", "100000000", "--instances", "9", "--cold-percent", "0")["Quotas"].units == 105_000_000
    none = bill("QuotaPerDay=0", "QuotaPerMinute=0", "DailyMintLimit=0", "Dashboard=", "Architecture=x86_64")
    assert not {"Quotas", "Dashboard"} & set(none)
    assert (none["Alarms"].units, none["Metrics"].units) == (19, 10)
    assert "402 ms" in none["Lambda, time (x86_64)"].arithmetic, "without quotas there is no wait for the table"
    own_key = bill("KmsKeyArn=arn:aws:kms:eu-west-1:123456789012:key/1a2b")
    added = {name: line.units for name, line in own_key.items() if "KMS" in name}
    assert added == {"Key in KMS": 1, "Key in KMS, requests": own_key["Secret, reads"].units}
    assert bill("KeyTtlSeconds=0")["Secret, reads"].units == 1_000_000, "never more reads than requests"


def rounds(per_minute, minutes):
    """The seconds that each round of the keeper waits and how often it looks again, followed as function/src/calls/keeper.rs goes
    on, second by second, for calls that end at random."""
    draw = random.Random(1)
    seconds = minutes * 60
    ends = sorted(int(draw.uniform(0, seconds)) for _ in range(round(per_minute * minutes)))
    for began in range(0, seconds - 120, 60):
        of_round = [end for end in ends if began < end <= began + calls_model.AHEAD]
        at, again = began, 0
        while True:
            # The next round, if it has begun, ends its calls at their second. This one ends the others of its minute so.
            left = [end for end in of_round if end > at]
            reserve = [end for end in left if end > began + calls_model.PERIOD]
            due = [end + calls_model.IN_RESERVE if end in reserve else end for end in left]
            if not due:
                break
            at = min(*due, at + calls_model.LOOK_AGAIN)
            again += 1
        yield at - began, again


@pytest.mark.parametrize("per_minute", [0.1, 1, 10, 100])
def test_a_round_of_the_keeper_waits_as_the_estimate_says(per_minute):
    found = list(rounds(per_minute, 20_000 if per_minute < 1 else 2_000 if per_minute < 100 else 200))
    seconds, looks = (sum(numbers) / len(found) for numbers in zip(*found, strict=True))
    assert calls_model.waiting_seconds(per_minute) == pytest.approx(seconds, rel=0.1)
    assert calls_model.looks(per_minute) == pytest.approx(looks, rel=0.1)


def test_the_model_of_calls_has_the_constants_of_the_function():
    keeper = (ROOT / "function/src/calls/keeper.rs").read_text()
    for line in [
        f"pub const AHEAD: Duration = Duration::from_secs({calls_model.AHEAD});",
        f"const PERIOD: u64 = {calls_model.PERIOD};",
        f"const IN_RESERVE: u64 = {calls_model.IN_RESERVE};",
        f"const LOOK_AGAIN: Duration = Duration::from_secs({calls_model.LOOK_AGAIN});",
    ]:
        assert line in keeper
    assert f"const SHARDS: u8 = {calls_model.SHARDS};" in (ROOT / "function/src/calls/handle.rs").read_text()
    handle = "A" * 27
    slot = f"slot 999{'1795695060'} 600 {handle}"
    assert abs(len(slot) - calls_model.SLOT_BYTES) <= 3
    record = {
        "caller": "0a" * 32, "profile": "de-escalation", "state": "open", "began": 1795694400, "ends": 1795695000,
        "id": f"rtc_u2_{'A' * 24}", "made": {"base_url": "https://api.openai.com/v1", "proof": "0a" * 32},
    }  # fmt: skip
    text = handle + json.dumps(record, separators=(",", ":"))
    assert abs(len(text) - calls_model.RECORD_BYTES) < 30, len(text)


def test_an_update_costs_the_units_of_its_whole_item():
    """DynamoDB writes 1,000 units to an item in a second."""
    per_second = {lines: round(calls_model.requests_per_second(lines, 1000)) for lines in (1, 25, 100, 500, 1000)}
    assert per_second == {1: 1000, 25: 500, 100: 200, 500: 40, 1000: 20}
    # (1 + n / 1000) updates of n × 50 bytes for the nth line, or two of the items of its minute.
    assert 41 <= calls_model.filling_seconds(1000, 1000, 1000) <= 42
    assert calls_model.filling_seconds(25, 25, 1000) < 0.1
    # With room for more, a request seldom tries a slot that is taken.
    assert calls_model.filling_seconds(500, 1000, 1000) < calls_model.filling_seconds(500, 500, 1000)
    asked = capacity.arguments([])
    enough = template.parameters() | capacity.call_settings(asked, template.parameters())
    assert capacity.of_item(asked, template.parameters()) == [1, 500]
    assert [round(number) for number in capacity.of_item(asked, enough)] == [42, 20]
    report = capacity.report(asked, template.parameters())
    assert "| time until the first lines are all taken, at least (seconds) | 1 | 42 |" in report
    assert "| requests for a call per second that the table answers when all lines are taken | 500 | 20 |" in report
    assert "at once**" not in report


def test_the_worst_day_follows_from_the_limits():
    price = cost.usd_per_minute()
    assert price == 0.1, "half of 600 × 32 and 1,200 × 64 a million, doubled, rounded up to tenths"
    assert cost.ceilings(template.parameters()) == [
        ("all callers", "DailyMintLimit", 5000),
        ("one caller", "QuotaPerDay", 200),
    ]
    unlimited = template.parameters(["DailyMintLimit=0", "QuotaPerDay=0", "QuotaPerMinute=2"])
    assert cost.ceilings(unlimited) == [("all callers", "RateLimit", 4_320_000), ("one caller", "QuotaPerMinute", 2880)]
    assert cost.call_ceilings(template.parameters()) == [
        ("all callers", "DailyCallMinutes", 1500),
        ("one caller", "CallMinutesPerDay", 60),
    ]
    few = template.parameters(["DailyCallMinutes=0", "CallMinutesPerDay=0", "CallsAtOnceForAll=2", "CallsAtOnce=1"])
    assert cost.call_ceilings(few) == [("all callers", "CallsAtOnceForAll", 2880), ("one caller", "CallsAtOnce", 1440)]
    fewest = template.parameters(["CallsAtOnceForAll=1", "CallMinutesPerDay=0", "CallsAtOnce=0"])
    assert cost.call_ceilings(fewest) == [("all callers", "CallsAtOnceForAll", 1440)]
    assert "| all callers | `DailyCallMinutes=1500` | 1,500 | 150 |" in cost.worst_day_of_calls(template.parameters())
    reports = {name: cost.report(cost.arguments([]), template.parameters([f"Endpoints={name}"])) for name in ("token", "call")}
    assert "DailyCallMinutes" not in reports["token"] and "DailyMintLimit" not in reports["call"].split("The worst day")[1]
    two = cost.worst_day(cost.arguments(["--sessions", "2"]), template.parameters(["QuotaPerDay=20000"]))
    assert "| 5,000 | 100,000 | 10,000 | 600,000 | 60,000 |" in two and "one caller" not in two


def test_the_template_is_read_as_a_yaml_parser_reads_it():
    parsed = yaml_parse((ROOT / "template.yaml").read_text())
    assert template.parameters() == {name: str(given["Default"]) for name, given in parsed["Parameters"].items()}
    alarms = [found for found in parsed["Resources"].values() if found["Type"] == "AWS::CloudWatch::Alarm"]
    assert {alarm.get("Condition") for alarm in alarms} - {None} | {"HasDashboard"} == set(template.CONDITIONS)
    assert set(template.CONDITIONS) <= set(parsed["Conditions"])

    def watched(condition):
        chosen = [alarm["Properties"] for alarm in alarms if alarm.get("Condition") == condition]
        return sum(sum("MetricStat" in query for query in alarm.get("Metrics", [])) or 1 for alarm in chosen)

    assert template.alarm_metrics(template.parameters(["Endpoints=token"])) == watched(None)
    assert template.alarm_metrics(template.parameters(["QuietMinutesAlarm=5"])) == sum(
        watched(condition) for condition in (None, "HasCalls", "HasQuietAlarm")
    )
    for name in ("MintFunction", "KeeperFunction"):
        assert template.memory_mb(name) == parsed["Resources"][name]["Properties"]["MemorySize"]


def test_the_bill_assumes_the_real_requests_and_record_of_a_round(aws, in_lambda, simulator):
    """Two rounds, since the first one of a new stack looks back further."""
    endpoint, session = aws
    session.client("dynamodb", endpoint_url=endpoint).create_table(
        TableName="quotas",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    asked = []

    class Between(http.server.BaseHTTPRequestHandler):
        """Passes requests on to the table, and remembers them."""

        def do_POST(self):
            asked.append(self.headers["X-Amz-Target"].partition(".")[2])
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, text = post(endpoint, body, dict(self.headers))
            self.send_response(status)
            for name, value in {"Content-Type": headers["Content-Type"], "Content-Length": str(len(text.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Between)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program, invoke = in_lambda(
        bootstrap=TARGET / "release/keeper",
        OPENAI_BASE_URL=f"{simulator}/v1",
        OPENAI_API_KEY="sk-test",
        QUOTA_TABLE="quotas",
        AWS_ENDPOINT_URL_DYNAMODB=f"http://127.0.0.1:{server.server_port}",
    )
    for _ in range(2):
        asked.clear()
        assert json.loads(invoke(b"{}")) == {"ended": 0, "failed": []}
    server.shutdown()
    reads, writes = asked.count("GetItem"), asked.count("UpdateItem")
    # 3 or 4 minutes of 4 items each, and 2 other items. A minute later, there is one more minute, which is read twice and done.
    soon, later = {14, 18}, {22, 26}
    assert reads in soon | later and writes == (cost.ROUND_WRITES if reads in later else 0), (reads, writes)
    assert sum(later) / 2 == cost.ROUND_READS
    line = [line for line in program.log.read_text().splitlines() if line.startswith('{"_aws"')][-1]
    in_a_stack = line.replace("test_function", "token-mint-KeeperFunction-AbCdEfGhIjKl")
    assert abs(len(in_a_stack) - cost.ROUND_BYTES) < 20, len(in_a_stack)


def test_the_bill_assumes_the_real_size_and_metrics_of_a_record(aws, in_lambda, simulator):
    endpoint, session = aws
    secret = json.dumps({"OPENAI_API_KEY": "sk-from-the-secret", "SAFETY_IDENTIFIER_KEY": "a random key"})
    made = session.client("secretsmanager", endpoint_url=endpoint).create_secret(Name="token-mint", SecretString=secret)
    session.client("dynamodb", endpoint_url=endpoint).create_table(
        TableName="quotas",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    program, invoke = in_lambda(
        OPENAI_BASE_URL=f"{simulator}/v1",
        OPENAI_SECRET_ARN=made["ARN"],
        QUOTA_TABLE="quotas",
        AWS_ENDPOINT_URL_SECRETS_MANAGER=endpoint,
        AWS_ENDPOINT_URL_DYNAMODB=endpoint,
    )
    assert json.loads(invoke((ROOT / "function/events/http-api.json").read_bytes()))["statusCode"] == 200
    line = next(line for line in program.log.read_text().splitlines() if line.startswith('{"_aws"'))
    in_a_stack = line.replace("test_function", "token-mint-MintFunction-AbCdEfGhIjKl")
    assert abs(len(in_a_stack) - cost.RECORD_BYTES) < 20, len(in_a_stack)
    announced = json.loads(line)["_aws"]["CloudWatchMetrics"]
    counts = {directive["Dimensions"][0][-1]: len(directive["Metrics"]) for directive in announced}
    assert (counts["FunctionName"], counts["Code"]) == cost.metrics()


def test_the_bill_assumes_the_real_length_of_an_access_log_line():
    stage = yaml_parse((ROOT / "template.yaml").read_text())["Resources"]["Stage"]["Properties"]
    values = {
        "requestId": "JKJaXmPLvHcESHA=",
        "requestTime": "22/Nov/2026:22:03:31 +0000",
        "routeKey": "POST /token",
        "integration.requestId": "b33d88fe-5ea9-4b25-a97e-170d5ef477ce",
        "status": "200",
        "responseLatency": "412",
        "integrationLatency": "410",
    }
    line = re.sub(r"\$context\.([\w.]+)", lambda found: values.get(found[1], "-"), stage["AccessLogSettings"]["Format"])
    assert abs(len(line) - cost.ACCESS_BYTES) < 20, len(line)


def test_a_missing_benchmark_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "ROOT", tmp_path)
    with pytest.raises(template.Refused, match=r"no bench/results\.json"):
        cost.measured()


class Used(dict):
    """A table that records which of its rows were read."""

    def __init__(self, rows):
        super().__init__(rows)
        self.read = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)


def test_every_price_and_limit_is_used_and_has_a_date_and_a_source(monkeypatch):
    tables = {name: Used(rows) for name, rows in cost.FACTS.items()}
    for name, rows in tables.items():
        monkeypatch.setitem(cost.FACTS, name, rows)
    for architecture in ("arm64", "x86_64"):
        given = template.parameters([f"Architecture={architecture}"])
        cost.report(cost.arguments([]), given)
    cost.report(cost.arguments(["--calls", "10"]), template.parameters())
    capacity.report(capacity.arguments(["--trainees", "10"]), given)
    for rows in tables.values():
        assert rows.read == set(rows)
        for row in rows.values():
            assert row["source"].startswith("https://") and row["description"] and row["seen_on"]
            assert datetime.date(2025, 1, 1) <= datetime.date.fromisoformat(row["date"]) <= datetime.date.today()


@pytest.mark.parametrize(
    ("command", "file", "name"),
    [
        ("make cost MINTS=1000000 UPSTREAM_MS=400", "docs/cost.md", "cost"),
        ("make capacity TRAINEES=10000 SECONDS=60", "docs/capacity.md", "capacity"),
    ],
)
def test_the_pages_show_the_output_of_the_programs(command, file, name):
    assert command in (ROOT / file).read_text().splitlines()
    ran = subprocess.run(command.split(), capture_output=True, text=True, timeout=60, cwd=ROOT, env=TOOLCHAIN)
    assert ran.returncode == 0, ran.stderr
    again = f"{command.split(' ')[0]} {name} WRITE=yes"
    assert markdown.fill(file, name, ran.stdout.rstrip("\n")) == (ROOT / file).read_text(), f"run `{again}`"


def test_the_capacity_page_names_existing_targets_parameters_and_codes():
    text = (ROOT / "docs/capacity.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", text)) <= targets
    given = re.findall(r"(\w+)=\S+", " ".join(re.findall(r'PARAMETERS="(.*?)"', text)))
    assert given and set(given) <= set(template.parameters())
    codes = {code for answer, _ in capacity.REFUSED.values() for code in re.findall("`(.*)`", answer)}
    assert codes <= description.CODES
    assert set(capacity.REFUSED) | {"burst", "own"} == {field.name for field in dataclasses.fields(load.Limits)}


@pytest.mark.parametrize("people", [EVENLY, SHARPLY])
def test_each_trainee_has_one_outcome_and_the_daily_limit_holds(people):
    few = dataclasses.replace(ROOMY, partition_writes=50, starts=20, openai=600, daily=1000)
    for limits in (AS_DEPLOYED, few):
        run = load.Run(people, limits)
        assert sum(run.ended.values()) == people.trainees
        assert run.ended["token"] == len(run.waits) <= limits.daily
        assert run.busy == 0 and run.peak <= limits.concurrency and run.colds == len(run.idle)
    limited = load.Run(people, dataclasses.replace(ROOMY, daily=1000))
    assert set(limited.ended) == {"token", "daily"} and limited.taken == limited.ended["token"] + limited.kept() <= 1000
    assert limited.kept() < 100, "few tokens are never used"
    everyone = load.Run(people, ROOMY)
    assert everyone.ended == {"token": people.trainees}
    assert sum(everyone.reads.values()) == everyone.colds
    updates = sum(everyone.writes.values()) - people.trainees
    assert everyone.batches <= updates < people.trainees * 0.6, "one for each trainee, and fewer for the daily limit"
    assert not load.Run(people, dataclasses.replace(ROOMY, own=0, daily=0)).writes
    assert load.Run(people, AS_DEPLOYED).ended == load.Run(people, AS_DEPLOYED).ended, "the same seed gives the same load"


@pytest.mark.parametrize("people", [EVENLY, SHARPLY])
@pytest.mark.parametrize("name", ["concurrency", "starts", "rate", "openai", "partition_writes", "table_writes"])
def test_raising_a_limit_never_yields_fewer_tokens(people, name):
    steps = [dataclasses.replace(ROOMY, **{name: many}) for many in (1, 10, 50, 200, 1000, 5000, load.UNLIMITED)]
    tokens = [load.Run(people, dataclasses.replace(step, burst=1)).ended["token"] for step in steps]
    assert tokens == sorted(tokens) and tokens[0] < tokens[-1], tokens


def test_each_limit_admits_its_number():
    endless = dataclasses.replace(EVENLY, upstream=100)
    for changed, tokens in (
        ({"concurrency": 40}, 40),
        ({"starts": 10}, 10 + 20),  # and 1 a second
        ({"rate": 10, "burst": 50}, 50 + 200),
        ({"openai": 600}, 10 + 200),  # for each minute, by the second
        ({"partition_writes": 20}, 20 + 400),
        ({"table_writes": 20, "own": 0}, 20 + 400),
    ):
        got = load.Run(endless, dataclasses.replace(ROOMY, **changed)).ended["token"]
        assert tokens * 0.95 <= got <= tokens * 1.05, (changed, got)
    assert load.Run(endless, dataclasses.replace(ROOMY, concurrency=40)).peak == 40
    busy = load.Run(endless, dataclasses.replace(ROOMY, partition_writes=20))
    assert sum(busy.writes.values()) >= 2 * 3000 + busy.ended["partition_writes"], "a throttled write is tried once more"


def test_a_total_outage_of_openai_takes_less_than_half_of_the_default_concurrency():
    asked, given = capacity.arguments([]), template.parameters()
    runs = {name: capacity.outage(asked, given, fails) for name, fails in capacity.OUTAGES.items()}
    hangs, refuses, waits, waits_long = runs.values()
    for run in runs.values():
        assert 0 < run.peak < asked.concurrency / 2 and run.busy == 0 and "token" not in run.ended
        assert run.ended["rate"] > 1000, "more requests arrive than the API admits"
    assert hangs.peak > 100 + 6 * 50, "until the first mints end, each request holds an instance"
    assert hangs.ended["mint_time"] > 1000 and refuses.ended["mint_time"] > 1000
    assert waits.ended["openai"] == sum(waits.tries.values()) / 3, "three tries each"
    assert waits_long.ended["openai"] == sum(waits_long.tries.values()), "a long wait is the caller's"


def test_an_instance_is_brief_after_a_silence_and_full_again_after_two_brief_mints_an_answer_or_a_while():
    instance, limits = load.Instance(read=0), []
    for _ in range(5):
        limits.append(instance.limit(0, 7))
        instance.not_answered(0, limits[-1])
    assert limits == [7, 2, 2, 7, 2]
    assert (instance.limit(29, 7), instance.limit(31, 7)) == (2, 7)
    slow = dataclasses.replace(EVENLY, upstream=100)
    run = load.Run(slow, dataclasses.replace(ROOMY, mint_time=7))
    assert run.ended == {"mint_time": 3000} and run.waits == []


class Ramp(load.Load):
    """A rate of arrivals that grows to its highest within all but the last 5 seconds."""

    def draw(self):
        chance = random.Random(self.seed)
        grows = self.seconds - 5
        highest = self.trainees / (grows / 2 + 5)
        drawn = []
        for _ in range(self.trainees):
            number = chance.random() * self.trainees
            later = number - highest * grows / 2
            arrival = grows + later / highest if later > 0 else math.sqrt(2 * number * grows / highest)
            drawn.append((arrival, self.upstream * chance.lognormvariate(0, 0.3), chance.random()))
        return sorted(drawn)


def test_ten_thousand_mints_a_second_are_counted_exactly_in_one_item():
    people = Ramp(**vars(dataclasses.replace(EVENLY, trainees=130_000, seconds=21)))
    one_item = dataclasses.replace(ROOMY, partition_writes=AS_DEPLOYED.partition_writes)
    run = load.Run(people, dataclasses.replace(one_item, daily=1_000_000))
    assert run.ended == {"token": 130_000} and run.taken == 130_000 + run.kept()
    assert max(run.tries.values()) > 9_900 and run.batches < 21 * 1000 and run.kept() < 0.05 * 1_000_000
    short = load.Run(people, dataclasses.replace(one_item, daily=100_000))
    assert short.taken == short.ended["token"] + short.kept() <= 100_000 and short.ended["daily"] > 0


def test_the_limit_that_refuses_most_binds_first():
    tight = dataclasses.replace(ROOMY, rate=100, burst=100, daily=1500)
    (first, many), (second, rest) = load.binding(EVENLY, tight)
    assert (first, second) == ("rate", "daily") and 1500 <= rest < 1600, "some tokens stay with instances"
    assert abs(many - (3000 - 100 - 20 * 100)) < 20, "a bucket of 100, refilled with 100 a second, for 20 seconds"
    assert load.binding(EVENLY, ROOMY) == []


def test_the_suggested_parameters_admit_the_load():
    asked = capacity.arguments(["--trainees", "3000", "--seconds", "20"])
    given = template.parameters(["ReservedConcurrency=5"])
    enough = {**given, **capacity.settings(asked, given)}
    assert enough["ReservedConcurrency"] == "" and int(enough["DailyMintLimit"]) >= 3000
    for sharp in (False, True):
        ended = load.Run(capacity.load(asked, enough, sharp), capacity.limits(asked, enough)).ended
        assert not {"rate", "daily"} & set(ended), "limits that a parameter sets"
    assert "DailyMintLimit" not in capacity.settings(asked, template.parameters(["DailyMintLimit=0"])), (
        "a limit that is off stays off"
    )


def test_lines_go_to_those_who_come_first_and_the_others_wait_for_the_end_of_a_call():
    def outcome(trainees, *parameters):
        return capacity.lines(capacity.arguments(["--trainees", str(trainees)]), template.parameters(parameters))

    assert outcome(25) == [25, 0, 0, 0, 0]
    assert outcome(26) == [25, 1, 0, 10, 10]
    assert outcome(100) == [25, 75, 0, 20, 30]
    assert outcome(1000) == [25, 125, 850, 30, 50], "1,500 minutes are 150 calls of 10 minutes"
    assert outcome(1000, "DailyCallMinutes=0", "MaxCallSeconds=60") == [25, 975, 0, 20, 39]
    asked = capacity.arguments(["--trainees", "3000"])
    enough = template.parameters() | capacity.call_settings(asked, template.parameters())
    assert enough["CallsAtOnceForAll"] == "1000" and capacity.lines(asked, enough)[2] == 0
    assert "DailyCallMinutes" not in capacity.call_settings(asked, template.parameters(["DailyCallMinutes=0"]))
    assert "busy_lines" in capacity.report(asked, template.parameters())
    assert "busy_lines" not in capacity.report(asked, template.parameters(["Endpoints=token"]))


def test_make_passes_its_variables_on():
    def words(*command):
        ran = subprocess.run(["make", "-n", *command], capture_output=True, text=True, cwd=ROOT, env=TOOLCHAIN)
        said = shlex.split(ran.stdout.replace("\\\n", ""))
        return said[said.index(f"estimate.{command[0]}") + 1 :]

    asked = cost.arguments(words("cost", "MINTS=5", "UPSTREAM_MS=7", "FLAGS=--codes 2", "PARAMETERS=A=1 B=2"))
    assert (asked.mints, asked.upstream_ms, asked.codes, asked.parameters) == (5, 7, 2, ["A=1", "B=2"])
    assert vars(cost.arguments(words("cost"))) == vars(cost.arguments([]))
    asked = capacity.arguments(words("capacity", "TRAINEES=5", "SECONDS=6", "UPSTREAM_MS=7"))
    assert (asked.trainees, asked.seconds, asked.upstream_ms, asked.write) == (5, 6, 7, False)
    assert vars(capacity.arguments(words("capacity", "WRITE=yes"))) == vars(capacity.arguments(["--write"]))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("Foo=1", "template.yaml has no parameter Foo. Write Name=value, for example DailyMintLimit=10000."),
        ("RateLimit", "RateLimit has no value. Write Name=value, for example DailyMintLimit=10000."),
        ("RateLimit=many", "RateLimit=many is not valid: must be a whole number from 1 to 10000."),
        ("RateLimit=0", "RateLimit=0 is not valid: must be a whole number from 1 to 10000."),
        ("Architecture=x64", "Architecture=x64 is not valid: must be one of: arm64, x86_64."),
        ("Dashboard=no", "Dashboard=no is not valid: must be one of: yes, (empty)."),
        ("ReservedConcurrency=0", "ReservedConcurrency=0 is not valid: must be a whole number from 1 to 9999, or empty."),
        ("Branch=a|b", "Branch=a|b is not valid: must match ^[A-Za-z0-9._/-]+$."),
    ],
)
def test_an_invalid_parameter_is_refused_with_its_rule(word, message):
    with pytest.raises(template.Refused, match=f"^{re.escape(message)}$"):
        template.parameters([word])


def test_the_rules_of_parameters_are_those_of_the_template():
    for name, given in yaml_parse((ROOT / "template.yaml").read_text())["Parameters"].items():
        text = template.blocks("Parameters")[name]
        for key in ("Default", "MinValue", "MaxValue", "AllowedPattern", "ConstraintDescription", "Description"):
            assert template.setting(text, key) == (str(given[key]) if key in given else None), (name, key)
        for value in [
            given["Default"],
            *given.get("AllowedValues", []),
            *(given[key] for key in given if key.endswith("Value")),
        ]:
            assert template.broken_rule(text, str(value)) is None, (name, value)


@pytest.mark.parametrize("target", ["cost", "capacity"])
def test_an_invalid_parameter_ends_make_without_a_traceback(target):
    command = ["make", target, "PARAMETERS=Architecture=x64"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, env=TOOLCHAIN)
    assert ran.returncode and not ran.stdout
    assert "Architecture=x64 is not valid" in ran.stderr and "Traceback" not in ran.stderr
