"""`make cost`: the cost of a stack in a month at AWS's list prices, and of a bad day at OpenAI's.

prices.json contains every price with its date and source, bench/results.json the function's own time, and template.yaml the
deployed resources. Each assumption is an option with a default, and the output lists all of them.
"""

import json
import math

from estimate import calls as of_calls
from estimate import markdown, options, template
from estimate.description import DAILY_LIMIT, KEEPER_METRICS, METRICS
from estimate.template import ROOT, Refused

FACTS = json.loads((ROOT / "estimate/prices.json").read_text())
DAY = 86_400
MONTH = 30 * DAY

# A record of a mint with quotas, with a function's name of the usual length (test_cost.py measures one).
RECORD_BYTES = 915
# Lambda's lines platform.start and platform.report, estimated from the fields in AWS's "Telemetry API Event schema reference".
PLATFORM_BYTES = 400
# A line of the access log in the format of the template (test_cost.py computes one).
ACCESS_BYTES = 248
# The record of a round of the keeper without calls (test_cost.py measures one).
ROUND_BYTES = 410
# The requests of such a round to DynamoDB: it reads 4 items for each of the minutes that may have calls, 4 or 5 of them, and the
# oldest minute again before it writes that this one is done; and once each the item that knows this, and that of all callers.
# calls.py says how long a round waits for the end of calls, and what it reads meanwhile.
ROUND_READS, ROUND_WRITES = 24, 1
# The updates and reads of a call, from its registration to its end, in addition to the quotas.
CALL_WRITES, CALL_READS = of_calls.OF_MINUTE + of_calls.OF_ALL + of_calls.OF_CALLER, 3
# An answer and a request to OpenAI, about 1 KB each with headers, and the same again for TLS. Rounded up, not measured.
SENT_BYTES = 3_000


def measured(quotas=True):
    """The function's own times, as the benchmark measured them."""
    path = ROOT / "bench/results.json"
    if not path.is_file():
        raise Refused("There is no bench/results.json, which contains the function's own times. Run `make bench`.")
    return json.loads(path.read_text())["candidates"]["mint with quotas" if quotas else "mint"]


def limit(name):
    return FACTS["limits"][name]["value"]


def metrics(quotas=True):
    """The number of metrics in the function's records: fixed ones, and ones for each code that occurs."""
    of_tokens = [metric for metric in METRICS if not metric["calls_only"] and (quotas or not metric["quotas_only"])]
    made = [dimensions for metric in of_tokens for dimensions in metric["dimensions"]]
    return made.count(["FunctionName"]), made.count(["FunctionName", "Code"])


class Line:
    """One line of the bill: a number of units with a price."""

    def __init__(self, name, price, units, arithmetic):
        self.name, self.units, self.price, self.price_name = name, units, FACTS["prices"][price], price
        # The units of the free tier that this line gets.
        self.free = 0
        # With at least two decimals, and never as 1.33334e-05.
        whole, decimals = f"{self.price['usd']:.10f}".rstrip("0").split(".")
        per = f" per {self.price['unit']}" if self.price["per"] > 1 else ""
        self.arithmetic = f"{arithmetic} × {whole}.{decimals.ljust(2, '0')}{per}"

    def usd(self, free=0):
        return max(0, self.units - free) / self.price["per"] * self.price["usd"]

    def usd_beyond_free(self):
        return self.usd(self.free)


def metrics_of_calls(calls):
    """The number of metrics of the keeper and of calls: of every round, and the others if there are calls."""
    of_keeper = [metric for metric in KEEPER_METRICS if calls or metric["every_round"]]
    of_function = [metric for metric in METRICS if calls and metric["calls_only"]]
    return len(of_keeper) + len(of_function)


def batch(asked):
    """The tokens of the daily limit that a busy instance takes at a time, while the limit is far: as many as it needs within a
    minute. A new instance takes fewer at first, and needs two more updates until then."""
    needed = asked.mints / asked.instances / MONTH * DAILY_LIMIT["ahead_seconds"]
    return max(1, min(DAILY_LIMIT["most"], int(needed)))


def bill(asked, given):
    """The lines of a month's bill."""
    quotas = template.has_quotas(given)
    own = (given["QuotaPerMinute"], given["QuotaPerDay"]) != ("0", "0")
    daily = given["DailyMintLimit"] != "0"
    times = measured(quotas)
    # Billed by the millisecond, rounded up.
    mint_ms = math.ceil(times["warm_ms_at_128"] + asked.quota_ms * own + asked.upstream_ms)
    refusal_ms = math.ceil(times["warm_ms_at_128"] + asked.quota_ms)
    cold_ms = math.ceil(times["init_cpu_ms"] + asked.start_ms + asked.quota_ms * daily)
    mints = asked.mints if template.has_tokens(given) else 0
    calls = asked.calls if template.has_calls(given) else 0
    # A call is made by one request and ended by another.
    requests = mints + asked.refused + 2 * calls
    call_ms = math.ceil(2 * times["warm_ms_at_128"] + (CALL_WRITES + CALL_READS + own) * asked.quota_ms + 2 * asked.upstream_ms)
    colds = math.ceil(requests * asked.cold_percent / 100)
    gb, architecture = template.memory_mb() / 1024, given["Architecture"]
    seconds = (mints * mint_ms + asked.refused * refusal_ms + calls * call_ms + colds * cold_ms) / 1000
    time = f"{mints:,} × {mint_ms} ms + {colds:,} cold starts × {cold_ms} ms"
    time += f" + {calls:,} calls × {call_ms} ms" if calls else ""
    time += f" + {asked.refused:,} refusals × {refusal_ms} ms" if asked.refused else ""
    # A request starts at most one read.
    ttl = int(given["KeyTtlSeconds"])
    reads = min(requests, asked.instances * MONTH // ttl + colds if ttl else requests)
    written = RECORD_BYTES + PLATFORM_BYTES + ACCESS_BYTES
    # One for each update, whether its condition holds or not: a caller's item stays below the 1 KB of a unit until the
    # caller has sent requests in about fifty minutes of a day. A refusal costs one.
    units = (mints + calls) * own + asked.refused + daily * (math.ceil((mints + calls) / batch(asked)) + 2 * colds)
    of_function, of_code = metrics(quotas)
    watched = template.alarm_metrics(given)
    own_key = int(given["KmsKeyArn"] != "")
    dashboards = int(template.CONDITIONS["HasDashboard"](given))
    call_units = of_calls.writes_of_call(calls / MONTH * 60, int(given["MaxCallSeconds"]))
    lines = [
        Line("HTTP API", "http_api_requests", requests, f"{requests:,}"),
        Line("Lambda, requests", "lambda_requests", requests, f"{requests:,}"),
        Line(f"Lambda, time ({architecture})", f"lambda_gb_seconds_{architecture}", seconds * gb, f"({time}) × {gb:g} GB"),
        Line("Logs", "log_bytes", requests * written, f"{requests:,} × {written:,} bytes"),
        Line("Data out", "bytes_out", requests * SENT_BYTES, f"{requests:,} × {SENT_BYTES:,} bytes"),
        Line("Secret", "secrets", 1, "1"),
        Line("Secret, reads", "secret_reads", reads, f"{reads:,}"),
        # A key of the operator's: each read of the secret decrypts with it. Requests for the logs and the topic are not counted.
        Line("Key in KMS", "kms_keys", own_key, f"{own_key}"),
        Line("Key in KMS, requests", "kms_requests", own_key * reads, f"{reads:,}"),
        Line("Quotas", "write_units", units, f"{units:,} write units"),
        Line("Metrics", "metrics", of_function + asked.codes * of_code, f"({of_function} + {asked.codes} codes)"),
        Line("Alarms", "alarm_metrics", watched, f"{watched} metrics"),
        Line("Dashboard", "dashboards", dashboards, f"{dashboards}"),
        Line("Calls", "write_units", calls * call_units, f"{calls:,} × {call_units} write units"),
        Line("Calls, reads", "read_units", calls * CALL_READS, f"{calls:,} × {CALL_READS} read units"),
        *(keeper(asked, given, calls) if template.has_calls(given) else []),
    ]
    share_free_tier(lines)
    return [line for line in lines if line.units]


def share_free_tier(lines):
    """Gives the free units of each price to the lines with this price, the first ones first."""
    left = {}
    for line in lines:
        line.free = min(line.units, left.get(line.price_name, line.price.get("free", 0)))
        left[line.price_name] = left.get(line.price_name, line.price.get("free", 0)) - line.free


def keeper(asked, given, calls):
    """The lines of the keeper, which a schedule starts each minute. A round waits for the end of the calls of its time, which are
    taken to end at random, equally often all month."""
    rounds, gb, architecture = MONTH // 60, template.memory_mb("KeeperFunction") / 1024, given["Architecture"]
    idle_ms, per_minute = (ROUND_READS + ROUND_WRITES) * asked.quota_ms, calls / rounds
    waiting, looks = round(of_calls.waiting_seconds(per_minute), 1), 1 + of_calls.looks(per_minute)
    time = f"({rounds:,} × ({idle_ms} ms + {waiting} s))" if calls else f"({rounds:,} × {idle_ms} ms)"
    once = ROUND_READS - of_calls.reads_of_look(0)
    reads = round(once + looks * of_calls.reads_of_look(per_minute), 1)
    written, metrics_made = ROUND_BYTES + PLATFORM_BYTES, metrics_of_calls(calls)
    return [
        Line("Keeper, schedule", "schedules", rounds, f"{rounds:,}"),
        Line("Keeper, requests", "lambda_requests", rounds, f"{rounds:,}"),
        Line(
            f"Keeper, time ({architecture})",
            f"lambda_gb_seconds_{architecture}",
            rounds * (idle_ms / 1000 + waiting) * gb,
            f"{time} × {gb:g} GB",
        ),
        Line("Keeper, logs", "log_bytes", rounds * written, f"{rounds:,} × {written:,} bytes"),
        Line("Keeper, reads", "read_units", rounds * reads, f"({rounds:,} × {reads:g}) read units"),
        Line("Keeper, writes", "write_units", rounds * ROUND_WRITES, f"{rounds:,} write units"),
        Line("Keeper, metrics", "metrics", metrics_made, f"{metrics_made}"),
    ]


def usd_per_minute():
    """The price of a minute in which each side speaks half of the time, doubled for the audio that is sent again at each turn,
    and rounded up to tenths."""
    spoken = 0
    for way in ("in", "out"):
        price = FACTS["prices"][f"openai_audio_{way}"]
        spoken += limit(f"audio_tokens_{way}") / 2 / price["per"] * price["usd"]
    return math.ceil(round(spoken * 2 * 10, 6)) / 10


def ceilings(given):
    """The maximum number of tokens in a day, for all callers and for one: the callers, the limit, and the number."""
    daily, rate = int(given["DailyMintLimit"]), int(given["RateLimit"]) * DAY
    everyone = ("all callers", "DailyMintLimit", daily) if daily else ("all callers", "RateLimit", rate)
    own = (("QuotaPerDay", 1), ("QuotaPerMinute", DAY // 60))
    own = [("one caller", name, int(given[name]) * times) for name, times in own]
    own = min((ceiling for ceiling in own if ceiling[2]), key=lambda ceiling: ceiling[2], default=everyone)
    return [everyone, own] if own[2] < everyone[2] else [everyone]


def call_ceilings(given):
    """The maximum number of minutes of calls in a day, for all callers and for one: the callers, the limit, and the number."""
    whole_day = DAY // 60
    everyone = smallest(given, "all callers", ("DailyCallMinutes", 1), ("CallsAtOnceForAll", whole_day))
    own = smallest(given, "one caller", ("CallMinutesPerDay", 1), ("CallsAtOnce", whole_day)) or everyone
    return [everyone, own] if own[2] < everyone[2] else [everyone]


def smallest(given, callers, *limits):
    """The limit that comes first, each as its parameter's name and the minutes that a unit of it allows. 0 turns a limit off."""
    found = [(callers, name, int(given[name]) * minutes) for name, minutes in limits if given[name] != "0"]
    return min(found, key=lambda ceiling: ceiling[2], default=None)


def month(asked, given):
    lines = bill(asked, given)
    rows = [[line.name, line.arithmetic, f"{line.usd():,.2f}", f"{line.usd_beyond_free():,.2f}"] for line in lines]
    sums = [sum(line.usd() for line in lines), sum(line.usd_beyond_free() for line in lines)]
    rows.append(["**Sum**", "", *(f"**{total:,.2f}**" for total in sums)])
    return markdown.table(2, ["", "Arithmetic", "USD a month", "USD beyond the free tier"], rows)


def worst_day(asked, given):
    head, rows = ["Callers", "Limit", "Tokens a day"], []
    lengths = (10, limit("session_minutes"))
    for length in lengths:
        head += [f"Minutes, at {length} a session", "USD"]
    for callers, name, tokens in ceilings(given):
        minutes = [tokens * asked.sessions * length for length in lengths]
        numbers = [number for each in minutes for number in (each, each * usd_per_minute())]
        rows.append([callers, f"`{name}={given[name]}`", *(f"{number:,.0f}" for number in (tokens, *numbers))])
    return markdown.table(2, head, rows)


def worst_day_of_calls(given):
    rows = [
        [callers, f"`{name}={given[name]}`", f"{minutes:,}", f"{minutes * usd_per_minute():,.0f}"]
        for callers, name, minutes in call_ceilings(given)
    ]
    return markdown.table(2, ["Callers", "Limit", "Minutes of calls a day", "USD"], rows)


def report(asked, given):
    """The text that `make cost` prints and docs/cost.md contains."""
    cold, ttl = f"{asked.cold_percent:g} %", given["KeyTtlSeconds"]
    tokens = "1 token" if batch(asked) == 1 else f"{batch(asked)} tokens"
    opened = "1 session" if asked.sessions == 1 else f"{asked.sessions} sessions, of which OpenAI refuses all but the first,"
    tables = []
    if template.has_tokens(given):
        tables.append(f"""The worst day with `POST /token`, whose sessions nobody can end:

{worst_day(asked, given)}

Assumptions: {opened} for each token, and {usd_per_minute():.2f} USD a minute.""")
    if template.has_calls(given):
        tables.append(f"""The worst day with `POST /call`, whose calls the server ends:

{worst_day_of_calls(given)}

Assumption: {usd_per_minute():.2f} USD a minute.""")
    days = "\n\n".join(tables)
    has_calls = asked.calls and template.has_calls(given)
    evenly = " Calls end at random, equally often all month, and last as\nlong as they may." if has_calls else ""
    return f"""{month(asked, given)}

Assumptions: each mint waits {asked.upstream_ms} ms for OpenAI and {asked.quota_ms} ms for DynamoDB; an instance takes {tokens}
of the daily limit at a time; {cold} of the requests are cold
starts, which wait {asked.start_ms} ms each; {asked.instances} instances are busy all month and read the secret every {ttl}
seconds; requests end with {asked.codes} different codes.{evenly}

{days}"""


def arguments(words=None):
    parser = options.parser(__doc__, "docs/cost.md")
    parser.add_argument("--mints", type=options.positive, default=1_000_000, help="tokens in a month (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=0, help="calls in a month (default: %(default)s)")
    parser.add_argument(
        "--refused", type=int, default=0, help="requests in a month that exceed their caller's quota (default: %(default)s)"
    )
    parser.add_argument(
        "--cold-percent", type=float, default=1, help="percentage of requests that are cold starts (default: %(default)s)"
    )
    parser.add_argument("--instances", type=int, default=4, help="instances that are busy all month (default: %(default)s)")
    parser.add_argument(
        "--codes", type=int, default=4, help="number of different outcomes that occur, including ok (default: %(default)s)"
    )
    parser.add_argument(
        "--sessions", type=int, default=1, help="sessions for each token; OpenAI allows one (default: %(default)s)"
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    markdown.show(report, arguments(), "docs/cost.md", "cost")
