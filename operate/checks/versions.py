"""The published versions: which one is live, and whether its code is the one that the stack's last deployment published."""

import re

from operate.checks.check import check, ok, skip, wrong


def described(configuration):
    """A version by its number, and by the revision that its description records, if there is one."""
    revision = re.search(r"\brevision (\w+)", configuration.get("Description", ""))
    return f"version {configuration['Version']}" + (f", revision {revision[1]}" if revision else "")


def share(weight):
    return f"{weight * 100:g} %"


def weights(deployed):
    """The shares of traffic that go to other versions than the live one."""
    found = (deployed.alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    return {version: weight for version, weight in found.items() if weight}


def code(version):
    return version["Configuration"]["CodeSha256"]


@check(
    "live version",
    "lambda:GetAlias",
    "lambda:GetFunction",
    "cloudformation:ListStackResources",
)
def live(deployed):
    number = deployed.alias["FunctionVersion"]
    live = deployed.version(number)["Configuration"]
    name = described(live)
    shares = " and ".join(f"{share(weight)} on version {version}" for version, weight in weights(deployed).items())
    recorded = deployed.recorded_version
    if live.get("State", "Active") == "Failed":
        yield wrong(f"{name} cannot run: {live.get('StateReason', 'AWS gives no reason')}", "Run `make rollback`")
    elif shares and deployed.is_in_progress:
        yield ok(f"{name}, with {shares}: a gradual deployment is in progress")
    elif shares:
        yield wrong(f"{name}, with {shares}, but no deployment is in progress", "To end the split, run `make rollback`")
    elif recorded == live["Version"]:
        yield ok(f"{name}, as the last deployment published it")
    elif code(deployed.version(recorded)) == live["CodeSha256"]:
        yield ok(f"{name}, with the same code as version {recorded}, which the last deployment published")
    else:
        fault = f"{name} is live, but the last deployment published version {recorded} with other code: the alias was moved"
        remedy = "If that was your rollback or update-code, the next `make set` or `make deploy` starts from it; otherwise run `make versions`"
        yield wrong(fault, remedy)


@check("unpublished code", "lambda:GetAlias", "lambda:GetFunction", "cloudformation:ListStackResources")
def unpublished(deployed):
    """A version that is published in the console, or by `sam deploy` by itself, has the code of $LATEST."""
    if deployed.recorded_version != deployed.live["Configuration"]["Version"]:
        yield skip("the last deployment's version is not the live one: see live version")
    elif code(deployed.version("$LATEST")) == code(deployed.live):
        yield ok("none: $LATEST has the live version's code")
    else:
        fault = "$LATEST has other code than the live version, and `sam deploy` by itself or the console would publish it"
        yield wrong(fault, "Run `make build` and `make deploy`, so that it is the code that you built")
