"""`make capacity`: how many requests of a peak load get a token, and which limits refuse the others.

The limits come from template.yaml and prices.json, the function's own times from bench/results.json. Each assumption is an
option with a default, and the output lists all of them. load.py contains the simulation itself.
"""

import collections
import dataclasses
import math

from estimate import calls as of_calls
from estimate import markdown, options, template
from estimate.cost import limit, measured
from estimate.load import OPENAI, UNLIMITED, Limits, Load, Outage, Run, binding

# For each limit: the answer that the caller gets, and the name of the limit.
REFUSED = {
    "rate": ("429 of the API", "`RateLimit` and `BurstLimit`"),
    "concurrency": ("503 of the API", "Lambda's concurrency"),
    "starts": ("503 of the API", "Lambda's new instances"),
    "secret_reads": ("503 `key_unavailable`", "Secrets Manager's reads"),
    "table_writes": ("503 `quota_unavailable`", "the table's writes"),
    "partition_writes": ("503 `quota_unavailable`", "the writes of the daily limit's item"),
    "daily": ("503 `daily_limit_reached`", "`DailyMintLimit`"),
    "openai": ("503 `openai_busy`", "OpenAI's rate limit"),
    "mint_time": ("504 `openai_timeout`", "the function's time for a mint"),
}

# What OpenAI does in an outage, as a row of the table.
OUTAGES = {
    "accepts connections and never answers": Outage(),
    "accepts no connections": Outage(accepts=False),
    f"answers 429, and asks for {OPENAI['longest_wait']:g} s each time": Outage(wait=OPENAI["longest_wait"]),
    "answers 429, and asks for 12 s": Outage(wait=12),
}
# How long an outage is simulated, in seconds: for twice the longest mint and one more start.
OUTAGE_SECONDS = 20


def load(asked, given, sharp):
    times = measured(template.has_quotas(given))
    return Load(
        trainees=asked.trainees,
        seconds=asked.seconds,
        sharp=sharp,
        upstream=asked.upstream_ms / 1000,
        own=times["warm_ms_at_128"] / 1000,
        first=times["first_ms_at_128"] / 1000,
        update=asked.quota_ms / 1000,
        start=(asked.start_ms + times["init_cpu_ms"]) / 1000,
        key_ttl=int(given["KeyTtlSeconds"]),
    )


def limits(asked, given):
    return Limits(
        rate=int(given["RateLimit"]),
        burst=int(given["BurstLimit"]),
        concurrency=min(asked.concurrency, int(given["ReservedConcurrency"] or UNLIMITED)),
        starts=limit("lambda_starts"),
        secret_reads=limit("secret_reads_per_second"),
        own=int(given["QuotaPerMinute"]) + int(given["QuotaPerDay"]),
        table_writes=limit("table_writes_per_second"),
        partition_writes=limit("partition_writes_per_second"),
        daily=int(given["DailyMintLimit"]),
        openai=asked.openai_per_minute,
        mint_time=OPENAI["full_limit"],
    )


def ample(number, step):
    """A quarter more than the number, rounded up to a multiple of the step."""
    return math.ceil(number * 1.25 / step) * step


def settings(asked, given):
    """The parameters that admit this load, evenly spread or not."""
    arrivals = [arrival for arrival, _, _ in load(asked, given, True).draw()]
    second = max(collections.Counter(map(int, arrivals)).values())
    minute = max(collections.Counter(int(arrival / 60) for arrival in arrivals).values())
    wanted = {
        "RateLimit": min(10_000, ample(second, 50)),  # the template's maximum
        "BurstLimit": min(5_000, ample(second, 50)),  # also the template's maximum
        "DailyMintLimit": ample(asked.trainees, 1000),
        "MintsPerMinuteAlarm": ample(minute, 100),
    }
    found = {name: str(max(number, int(given[name]))) for name, number in wanted.items()}
    if given["DailyMintLimit"] == "0":
        del found["DailyMintLimit"]
    return found | {"ReservedConcurrency": ""} if given["ReservedConcurrency"] else found


def requests(asked, given):
    """The limits to request: concurrent executions from AWS, and requests per minute from OpenAI."""
    roomy = dataclasses.replace(limits(asked, given), concurrency=UNLIMITED, openai=UNLIMITED)
    run = Run(load(asked, given, True), roomy)
    minute = max(run.tries.values()) * 60
    return max(ample(run.peak, 100), asked.concurrency), max(ample(minute, 1000), asked.openai_per_minute)


def column(run):
    """The outcome of a run, one number for each row of the table."""
    peaks = [max(counter.values(), default=0) for counter in (run.reads, run.writes, run.tries)]
    ended = [run.ended[name] for name in ("token", *REFUSED)]
    return [*ended, run.kept(), run.peak, run.colds, *peaks, run.wait(0.5), run.wait(0.99)]


def table(asked, given, sharp):
    """The outcome as deployed, and with each remedy."""
    enough = {**given, **settings(asked, given)}
    concurrency, openai = requests(asked, enough)
    people, raised = load(asked, given, sharp), limits(asked, enough)
    more = dataclasses.replace(raised, concurrency=concurrency, openai=openai)
    patient = dataclasses.replace(people, spread=asked.spread)
    runs = [Run(people, limits(asked, given)), Run(people, raised), Run(patient, raised), Run(people, more)]
    names = ["**got a token**", *(f"{answer}: {name}" for answer, name in REFUSED.values())]
    names += ["tokens of `DailyMintLimit` that instances keep at the end"]
    names += ["busy instances, peak", "cold starts", "secret reads per second, peak"]
    names += ["table writes per second, peak", "requests to OpenAI per second, peak"]
    names += ["wait for a token, median (ms)", "wait for a token, 99th percentile (ms)"]
    rows = [
        [name, *(f"{number:,.0f}" for number in row)]
        for name, row in zip(names, zip(*map(column, runs), strict=True), strict=True)
    ]
    # A limit that never binds gets no row.
    rows = [row for row in rows if set(row[1:]) != {"0"} or not row[0].startswith(("429", "503", "504"))]
    head = [
        "as deployed",
        "parameters set",
        f"set, and the page waits up to {asked.spread} s",
        "set, and higher limits granted",
    ]
    return markdown.table(1, ["", *head], rows)


def outage(asked, given, fails):
    """A run in which OpenAI fails while three times as many requests arrive as the API admits."""
    crowd = load(asked, given, False)
    rate = int(given["RateLimit"])
    crowd = dataclasses.replace(crowd, trainees=3 * rate * OUTAGE_SECONDS, seconds=OUTAGE_SECONDS, spread=0, outage=fails)
    # Only the API's rate and Lambda's starts reduce the load.
    reached = dataclasses.replace(limits(asked, given), concurrency=UNLIMITED, secret_reads=UNLIMITED, daily=0)
    return Run(crowd, reached)


def outages(asked, given):
    """The most instances that a total outage of OpenAI holds, for each kind of outage."""
    rows = []
    for name, fails in OUTAGES.items():
        run = outage(asked, given, fails)
        rows.append([f"OpenAI {name}", f"{run.peak:,}", f"{run.peak / asked.concurrency:.0%}".replace("%", " %")])
    return markdown.table(1, ["", "busy instances, peak", "of the concurrent executions"], rows)


def lines(asked, given):
    """What becomes of the trainees who want a call each: how many get a line before a call has ended, how long half of the others
    and the last of them wait for one, and how many get none on that day.

    Each call lasts as long as it may. A line that is free again goes to the trainee who has waited longest.
    """
    at_once, length = int(given["CallsAtOnceForAll"]), int(given["MaxCallSeconds"])
    minutes = int(given["DailyCallMinutes"])
    of_day = minutes * 60 // length if minutes else UNLIMITED
    callers = min(asked.trainees, of_day)
    first = min(callers, at_once)
    later = callers - first
    # The nth of them waits for the end of so many calls in one line.
    waits = [math.ceil(number / at_once) * length for number in ((later + 1) // 2, later)] if later else [0, 0]
    return [first, later, asked.trainees - callers, *(wait / 60 for wait in waits)]


def of_item(asked, given):
    """What the item of all callers allows: the seconds until the first trainees have their lines, and the requests a second that it
    answers when all lines are taken."""
    at_once, writes = int(given["CallsAtOnceForAll"]), limit("partition_writes_per_second")
    seconds = of_calls.filling_seconds(lines(asked, given)[0], at_once, writes)
    return [math.ceil(seconds), of_calls.requests_per_second(at_once, writes)]


def call_settings(asked, given):
    """The parameters for calls that admit this load."""
    minutes = math.ceil(asked.trainees * int(given["MaxCallSeconds"]) / 60)
    wanted = {"CallsAtOnceForAll": min(1_000, asked.trainees), "DailyCallMinutes": min(1_000_000, ample(minutes, 1000))}
    found = {name: str(max(number, int(given[name]))) for name, number in wanted.items()}
    if given["DailyCallMinutes"] == "0":
        del found["DailyCallMinutes"]
    return found


def calls(asked, given):
    """The part of the report about `POST /call`."""
    set_to = call_settings(asked, given)
    words = " ".join(f"{name}={value}" for name, value in set_to.items())
    names = [
        "**get a line before a call has ended**",
        "wait for a line: 503 `busy_lines` until then",
        "get no line on that day: 503 `daily_minutes_reached`",
        "wait for a line, median (minutes)",
        "wait for a line, the longest (minutes)",
        "time until the first lines are all taken, at least (seconds)",
        "requests for a call per second that the table answers when all lines are taken",
    ]
    columns = [[*lines(asked, one), *of_item(asked, one)] for one in (given, {**given, **set_to})]
    rows = [[name, *(f"{number:,.0f}" for number in row)] for name, row in zip(names, zip(*columns, strict=True), strict=True)]
    return f"""**If each trainee wants a call** (`POST /call`) of up to {given["MaxCallSeconds"]} seconds, the lines decide. Set these
parameters as well:

```sh
make set PARAMETERS="{words}"
```

{markdown.table(1, ["", "as deployed", "parameters set"], rows)}

Assumptions: each call lasts as long as `MaxCallSeconds` allows, and a line that is free again goes to the trainee who has waited
longest. Refusals by the limits above come in addition, and OpenAI's own limit on sessions at once is not counted.

The last two rows follow from `CallsAtOnceForAll`: one item of the table has all lines, and DynamoDB writes
{limit("partition_writes_per_second"):,} units to an item in a second, one for each KB of the whole item. Requests for a call beyond that number
get 503 `quota_unavailable`. Each request takes an update. While all lines are busy, each instance makes at most one update a
second, and refuses the rest with `busy_lines`. The lines are taken later if trainees without a line ask again meanwhile."""


def order(asked, given, sharp):
    found = binding(load(asked, given, sharp), limits(asked, given))
    ordinals = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
    listed = ",\n".join(
        f"{ordinal} {REFUSED[name][1]} ({many:,} refused)" for ordinal, (name, many) in zip(ordinals, found, strict=False)
    )
    return f"The limits that bind, each after the ones before it are lifted:\n{listed}." if listed else "No limit binds."


def report(asked, given):
    """The text that `make capacity` prints and docs/capacity.md contains."""
    set_to = settings(asked, given)
    concurrency, openai = requests(asked, {**given, **set_to})
    openai_now, lambda_now = asked.openai_per_minute, asked.concurrency
    words = " ".join(f"{name}={value}" for name, value in set_to.items())
    of_calls = f"\n\n{calls(asked, given)}" if template.has_calls(given) else ""
    return f"""For {asked.trainees:,} trainees within {asked.seconds} seconds, set these parameters:

```sh
make set PARAMETERS="{words}"
```

Limits to request: {concurrency:,} concurrent executions from AWS, and {openai:,} requests a minute from OpenAI.

**If all arrive evenly.** {order(asked, given, False)}

{table(asked, given, False)}

**8 of 10 arrive within the first {asked.seconds / 10:g} seconds.** {order(asked, given, True)}

{table(asked, given, True)}

**If OpenAI fails completely** while the API admits as much as `RateLimit` ({int(given["RateLimit"]):,}) and `BurstLimit`
({int(given["BurstLimit"]):,}) let through. A mint then ends after {OPENAI["full_limit"]:g} s, or after {OPENAI["brief_limit"]:g} s if OpenAI
left the instance's last one unanswered:

{outages(asked, given)}

Assumptions: OpenAI's median time is {asked.upstream_ms} ms, and it accepts {openai_now:,} requests a minute, counted by the
second; DynamoDB takes {asked.quota_ms} ms for an update; a cold start waits {asked.start_ms} ms; the account has {lambda_now:,}
concurrent executions, and no other function uses them.{of_calls}"""


def arguments(words=None):
    parser = options.parser(__doc__, "docs/capacity.md")
    parser.add_argument(
        "--trainees",
        type=options.positive,
        default=10_000,
        help="number of trainees; each sends one request and does not retry (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds", type=options.positive, default=60, help="seconds within which all requests arrive (default: %(default)s)"
    )
    parser.add_argument(
        "--openai-per-minute",
        type=options.positive,
        default=10_000,
        help="requests that OpenAI accepts in a minute (default: %(default)s)",
    )
    parser.add_argument(
        "--concurrency",
        type=options.positive,
        default=limit("lambda_concurrency"),
        help="concurrent executions that the account may have (default: %(default)s)",
    )
    parser.add_argument(
        "--spread",
        type=int,
        default=60,
        help="seconds within which a patient page waits at random before its request (default: %(default)s)",
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    markdown.show(report, arguments(), "docs/capacity.md", "capacity")
