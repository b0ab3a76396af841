"""The live version's settings against the stack's parameters: processor, variables, log level, concurrency."""

import io
import urllib.request
import zipfile

from operate import keeper
from operate.build import ARCHITECTURES, machine_of
from operate.checks.check import check, ok, skip, wrong

# The program's name in the archive: the runtime provided.al2023 starts nothing else.
PROGRAM = "bootstrap"
# Lambda accepts no larger archive, in bytes.
LARGEST_ARCHIVE = 250 * 1024 * 1024

LEVELS = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]
# The level below which Lambda drops lines in JSON if nothing else is set.
DEFAULT_LEVEL = "INFO"
# The level that Lambda takes a record for, since a record has no timestamp of its own.
RECORD_LEVEL = "INFO"

# Variables whose values are never printed.
SECRET_VARIABLES = {"OPENAI_API_KEY"}

# docs/capacity.md counts with an account of that size, and a mint of that many seconds: OpenAI's 400 ms and the quota's 5.
ASSUMED_CONCURRENCY = 1_000
MINT_SECONDS = 0.405
# With fewer concurrent executions in the account, a small rush of any function can use them all up. Lambda then throttles the
# keeper's rounds too, and calls end late.
LEAST_WITH_CALLS = 50


@check("architecture", "lambda:GetAlias", "lambda:GetFunction")
def architecture(deployed):
    expected = deployed.parameter("Architecture")
    configured = deployed.live["Configuration"].get("Architectures", ["x86_64"])[0]
    built = machine(deployed.live["Code"]["Location"])
    if configured == built == expected:
        yield ok(f"{expected}, for the parameter, the function and its program")
    else:
        fault = f"Architecture is {expected}, the function runs on {configured}, and its program is {built}"
        command = f"`make build PARAMETERS=Architecture={expected}` and `make deploy PARAMETERS=Architecture={expected}`"
        yield wrong(fault, f"Run {command}")


def machine(location):
    """The processor of the program in an archive, by its ELF header, or what is wrong with the program."""
    with urllib.request.urlopen(location, timeout=30) as answer:
        archive = answer.read(LARGEST_ARCHIVE)
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as packed, packed.open(PROGRAM) as program:
            header = program.read(20)
    except (zipfile.BadZipFile, KeyError):
        return f"missing: the archive has no {PROGRAM}"
    number = machine_of(header)
    if number is None:
        return "not an ELF program"
    return ARCHITECTURES.get(number, f"for another processor (ELF machine {number})")


@check(
    "environment", "lambda:GetAlias", "lambda:GetFunction", "cloudformation:GetTemplate", "cloudformation:ListStackResources"
)
def environment(deployed):
    properties = deployed.template["Resources"]["MintFunction"]["Properties"]
    declared = properties["Environment"]["Variables"]
    differing = differences(deployed, declared, deployed.live["Configuration"])
    if differing:
        remedy = "After a rollback, this is expected until the next `make set` or `make deploy`, which starts from the live values; otherwise run `make deploy`"
        yield wrong(f"the live version differs from the stack's parameters: {', '.join(differing)}", remedy)
    else:
        yield ok(f"the live version has the {len(declared)} variables that the parameters set")


def differences(deployed, declared, configuration):
    """A clause for each variable of a function that is not as the template declares it."""
    expected = {name: resolved(deployed, value) for name, value in declared.items()}
    found = configuration.get("Environment", {}).get("Variables", {})
    return [
        difference(name, expected.get(name), found.get(name, ""))
        for name in sorted(declared | found)
        if name not in declared or expected[name] not in (None, found.get(name, ""))
    ]


def difference(name, expected, found):
    if name in SECRET_VARIABLES:
        return f"{name} is set, and may hold a key"
    if expected is None:
        return f"{name} is not in the template"
    return f"{name} is {found!r} instead of {expected!r}"


def resolved(deployed, value):
    """A value of the template as CloudFormation resolves it; None if it has another form than the variables use today."""
    match value:
        case {"Ref": name}:
            return deployed.parameters[name] if name in deployed.parameters else deployed.physical_id(name)
        case {"Fn::Join": [separator, {"Ref": name}]}:
            return separator.join(part.strip() for part in deployed.parameter(name).split(","))
        case str() | int():
            return str(value)
    return None


@check("log level", "lambda:GetAlias", "lambda:GetFunction")
def log_level(deployed):
    """Lambda drops lines in JSON below ApplicationLogLevel, and takes a record, whose metrics the alarms watch, for INFO."""
    wanted = deployed.parameter("LogLevel")
    logging = deployed.live["Configuration"].get("LoggingConfig", {})
    kept = logging.get("ApplicationLogLevel", DEFAULT_LEVEL)
    lost = next((level for level in sorted({wanted, RECORD_LEVEL}, key=LEVELS.index) if is_dropped(level, kept)), None)
    if logging.get("LogFormat") == "JSON" and lost:
        fault = f"LogLevel is {wanted}, but Lambda drops lines below {kept}" + (", records too" if lost == RECORD_LEVEL else "")
        remedy = (
            "Run `make build` and `make deploy`. If LoggingConfig was changed by hand (see drift), change it back, publish a "
            "version and move the alias to it"
        )
        yield wrong(fault, remedy)
    else:
        yield ok(f"{wanted}, and Lambda drops no such line")


def is_dropped(level, kept):
    return LEVELS.index(level) < LEVELS.index(kept)


@check("pause", "lambda:GetFunctionConcurrency")
def pause(deployed):
    found, parameter = deployed.reserved_concurrency, deployed.parameter("ReservedConcurrency")
    if found == 0:
        yield wrong("all minting is paused: the reserved concurrency is 0", "To end the pause, run `make resume`")
    elif str(found or "") != parameter:
        fault = f"the reserved concurrency is {found or 'not set'}, but ReservedConcurrency is {parameter or 'empty'}"
        yield wrong(fault, "To apply the parameter, run `make resume`")
    else:
        yield ok(f"minting is on, with up to {found} mints at once" if found else "minting is on, up to the account's limit")


@check("account concurrency", "lambda:GetAccountSettings", "lambda:GetFunctionConcurrency")
def account_concurrency(deployed):
    limits = deployed.client("lambda").get_account_settings()["AccountLimit"]
    of_account, unreserved = limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]
    reserved = deployed.reserved_concurrency
    if reserved == 0:
        yield skip("minting is paused: see pause")
        return
    usable = reserved or unreserved
    carried, rate = int(usable / MINT_SECONDS), int(deployed.parameter("RateLimit"))
    fact = f"{usable:,} mints at once, about {carried:,} a second; the account's limit is {of_account:,}"
    if carried < rate:
        remedy = f"Raise ReservedConcurrency, or ask AWS under Service Quotas, Lambda, for at least {round(rate * MINT_SECONDS * 1.25) + 1:,} concurrent executions"
        yield wrong(f"{fact}. RateLimit lets {rate:,} a second through", remedy)
    elif of_account < LEAST_WITH_CALLS and keeper.OUTPUT in deployed.outputs:
        remedy = f"Ask AWS under Service Quotas, Lambda, for at least {LEAST_WITH_CALLS} concurrent executions"
        yield wrong(f"{fact}. A rush that uses it up throttles the keeper too, and calls then end late", remedy)
    elif of_account < ASSUMED_CONCURRENCY:
        yield ok(f"{fact}. `make capacity` assumes {ASSUMED_CONCURRENCY:,}: give it FLAGS='--concurrency {of_account}'")
    else:
        yield ok(fact)
