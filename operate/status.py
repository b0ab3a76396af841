"""`make status`: the state of a deployed stack on one screen. It asks neither OpenAI nor the API."""

from operate import contents, keeper
from operate.checks import quota, versions
from operate.checks.alarms import ALARMS, is_on
from operate.checks.check import check, ok
from operate.checks.deployed import Deployed
from operate.checks.secret import openai_key


@check("stack")
def state(deployed):
    since = deployed.stack.get("LastUpdatedTime") or deployed.stack["CreationTime"]
    yield ok(
        f"{deployed.name} in {deployed.session.region_name}, {deployed.stack['StackStatus']} since {since:%Y-%m-%d %H:%M} UTC"
    )


@check("live", "lambda:GetAlias", "lambda:GetFunction")
def live(deployed):
    configuration = deployed.live["Configuration"]
    shares = "".join(
        f", {versions.share(weight)} on version {version}" for version, weight in versions.weights(deployed).items()
    )
    published = configuration["LastModified"][:16].replace("T", " ")
    yield ok(f"{versions.described(configuration)}, published {published} UTC{shares}")


@check("minting", "lambda:GetFunctionConcurrency")
def minting(deployed):
    limit = deployed.reserved_concurrency
    yield ok("paused; `make resume` ends the pause" if limit == 0 else "on" + (f", up to {limit} at once" if limit else ""))


@check("key", "secretsmanager:GetSecretValue")
def key(deployed):
    yield from openai_key.find(deployed)


@check("blocked", "secretsmanager:GetSecretValue")
def blocked(deployed):
    count = len(contents.blocked(deployed.secret_fields)[0])
    yield ok(f"{count} caller{'' if count == 1 else 's'}")


@check("alarms", *ALARMS, "cloudwatch:GetMetricStatistics")
def alarms(deployed):
    on = [name for name, alarm in deployed.alarms.items() if is_on(deployed, alarm)]
    gone = len(deployed.alarm_names) - len(deployed.alarms)
    said = f"on: {', '.join(on)}" if on else f"none of {len(deployed.alarms)} is on"
    yield ok(said + (f", {gone} deleted: run `make doctor`" if gone else ""))


@check("today", "cloudformation:ListStackResources", "dynamodb:GetItem")
def today(deployed):
    limit = int(deployed.parameter("DailyMintLimit"))
    if limit:
        yield ok(f"{quota.minted_today(deployed):,} of {limit:,} tokens since midnight UTC")
    else:
        yield ok("no total is counted: DailyMintLimit is 0")


@check("calls", "cloudformation:ListStackResources", "dynamodb:GetItem")
def calls(deployed):
    if keeper.OUTPUT not in deployed.outputs:
        yield ok("none: Endpoints is token, or the stack was deployed from a release without calls")
        return
    taken, minutes = quota.calls_now(deployed)
    most, limit = int(deployed.parameter("CallsAtOnceForAll")), int(deployed.parameter("DailyCallMinutes"))
    of_limit = f" of {limit:,}" if limit else ""
    yield ok(f"{taken:,} of {most:,} open; {minutes:,}{of_limit} minutes since midnight UTC")


@check("URL")
def url(deployed):
    found = [deployed.outputs[name] for name in ("TokenUrl", "CallUrl") if name in deployed.outputs]
    yield ok(", ".join(found) or deployed.output("TokenUrl"))


LINES = [state, live, minting, key, blocked, alarms, today, calls, url]


def status(environment, _):
    """Print what is live, and its state, on one screen."""
    deployed = Deployed(environment)
    for line in LINES:
        for result in line.results(deployed):
            print(f"{line.name:<8} {result.text}")
