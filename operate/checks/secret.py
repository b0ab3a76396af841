"""The secret: readable, complete, and with room left; and the OpenAI key, proven on request."""

import os
import re

import botocore.exceptions

from operate import contents, secret
from operate.checks.check import check, ok, skip, wrong
from operate.error import CommandError
from operate.key import OPENAI, mint_test_token, token_prefix

# As long as a key of HMAC-SHA256 should be at least (RFC 2104: not shorter than the hash). The template makes 64.
LEAST_IDENTIFIER_KEY = 32
# Shorter secrets can be guessed. `make proxy-secret` makes 64 characters.
LEAST_PROXY_SECRET = 32
# Room that is reported as too little, in blocked callers.
LITTLE_ROOM = 50
# An identifier of 64 digits in the list, with its quotes and comma.
BYTES_PER_CALLER = 67
# Secrets Manager's own labels.
LABELS = {"AWSCURRENT", "AWSPREVIOUS"}

READ = "secretsmanager:GetSecretValue"
ASK = "make doctor ASK_OPENAI=yes"
NEW_KEY = "Make a new key at platform.openai.com/api-keys and run `make key`"
REMEDIES = {401: NEW_KEY, 403: "Allow the key's project to use the Realtime API, or run `make key` with another key"}
OTHER_REMEDY = "See platform.openai.com/settings/organization/billing and status.openai.com"


def asks_openai():
    """Whether the operator allows requests that mint a token."""
    return os.environ.get("ASK_OPENAI") == "yes"


@check("secret", READ)
def readable(deployed):
    try:
        text = deployed.secret_text
    except botocore.exceptions.ClientError as error:
        # AWS's answer for a secret that is kept for some days more.
        if error.response["Error"]["Code"] != "InvalidRequestException":
            raise
        command = f"aws secretsmanager restore-secret --secret-id {deployed.output('SecretArn')}"
        yield wrong("it was deleted outside CloudFormation, and can be restored for some days", f"Run `{command}`")
        return
    secret.parse(text)
    yield ok(f"readable, {'JSON' if contents.unwrapped(text).startswith('{') else 'plain text, the key alone'}")


@check("OpenAI key", READ)
def openai_key(deployed):
    try:
        key = contents.key(deployed.secret_fields)
    except contents.Unusable as unusable:
        fault = str(unusable).partition(": ")[0]
        if fault == contents.NO_KEY.partition(": ")[0]:
            fault = f"the secret has no {contents.KEY_FIELD}"
        elif fault == contents.CHARACTERS.partition(": ")[0]:
            fault = "not set: the secret contains a placeholder or other text instead"
        yield wrong(fault, "Run `make key`")
        return
    if deployed.parameter("OpenAIBaseUrl") == OPENAI and not key.startswith("sk-"):
        yield wrong("it does not begin with sk-, as OpenAI's keys do", "Run `make key`")
        return
    previous = [fault for fault in contents.faults(deployed.secret_fields) if contents.PREVIOUS_KEY_FIELD in fault]
    if previous:
        yield wrong(f"{previous[0]}, so it ends no calls", "Correct or remove it in the Secrets Manager console")
    else:
        yield ok("set")


@check("identifier key", READ)
def identifier_key(deployed):
    key = contents.text_of(deployed.secret_fields, contents.IDENTIFIER_KEY_FIELD)
    if key is None:
        fault = f"{contents.IDENTIFIER_KEY_FIELD} is not text, so only running instances still know the one before"
        yield wrong(fault, "Correct it in the Secrets Manager console")
        return
    if len(key) >= LEAST_IDENTIFIER_KEY:
        yield ok(f"{len(key)} characters")
        return
    derived = "there is none, so callers' identifiers are derived from the secret's ARN, which is not secret"
    fault = f"it has only {len(key)} characters" if key else derived
    remedy = (
        f"Store 64 random letters and digits as {contents.IDENTIFIER_KEY_FIELD} in the Secrets Manager console. "
        "All identifiers then change once: block your blocked callers again"
    )
    yield wrong(fault, remedy)


@check("blocked callers", READ)
def blocked_callers(deployed):
    found, readable = contents.blocked(deployed.secret_fields)
    value = deployed.secret_fields.get(contents.BLOCKED_FIELD)
    if readable:
        yield ok(f"{len(found)}")
    elif isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        fields = [{contents.BLOCKED_FIELD: entry} for entry in value]
        malformed = [number for number, entry in enumerate(fields, 1) if not contents.blocked(entry)[1]]
        fault = f"{contents.BLOCKED_FIELD} has entries that match no caller: number {', '.join(map(str, malformed))}"
        yield wrong(fault, "Remove them in the Secrets Manager console, and block these callers with `make block`")
    else:
        fault = f"{contents.UNREADABLE_LIST}, so new instances block only the {len(found)} callers that can be read in it"
        yield wrong(fault, "Correct or remove it in the Secrets Manager console")


@check("proxy secret", READ)
def proxy_secret(deployed):
    found = contents.text_of(deployed.secret_fields, contents.PROXY_FIELD)
    wrong_type = [fault for fault in contents.faults(deployed.secret_fields) if contents.PROXY_FIELD in fault]
    if wrong_type:
        yield wrong(f"{' and '.join(wrong_type)}", "Run `make proxy-secret`, and let the proxy send what it prints")
    elif not deployed.parameter("ProxyAddressHeader"):
        yield skip("ProxyAddressHeader is empty: no proxy has to prove itself")
    elif len(found) < LEAST_PROXY_SECRET:
        fault = f"{contents.PROXY_FIELD} is missing or shorter than {LEAST_PROXY_SECRET} characters"
        yield wrong(fault, "Run `make proxy-secret`, and let the proxy send what it prints")
    else:
        yield ok(f"{len(found)} characters")


@check("secret size", READ)
def size(deployed):
    used = len(deployed.secret_text.encode()) if deployed.secret_fields else 0
    room = (secret.MAXIMUM_BYTES - used) // BYTES_PER_CALLER
    fact = f"{used:,} of {secret.MAXIMUM_BYTES:,} bytes, with room for {room:,} more blocked callers"
    if room < LITTLE_ROOM:
        yield wrong(fact, "Remove callers with `make unblock`")
    else:
        yield ok(fact)


@check("secret versions", "secretsmanager:DescribeSecret")
def versions(deployed):
    stages = deployed.secret_description.get("VersionIdsToStages", {})
    left = {label: version for version, labels in stages.items() for label in labels if label not in LABELS}
    for label, version in left.items():
        if "AWSCURRENT" in stages[version]:
            continue  # as a finished rotation leaves it
        command = (
            f"aws secretsmanager update-secret-version-stage --secret-id {deployed.output('SecretArn')} "
            f"--version-stage {label} --remove-from-version-id {version}"
        )
        yield wrong(f"the label {label} is left on a version that is not in use", f"Run `{command}`")
        return
    yield ok(f"{len(stages)} with labels, none left over")


@check("OpenAI", READ)
def openai(deployed):
    """The one check that shows that OpenAI accepts the key."""
    try:
        key = contents.key(deployed.secret_fields)
    except contents.Unusable:
        yield skip("there is no key to prove: see OpenAI key")
        return
    if not asks_openai():
        yield skip(f"only with `{ASK}`: it mints a token of 10 s, which costs nothing")
    else:
        try:
            mint_test_token(key, deployed.parameter("OpenAIBaseUrl"), token_prefix(deployed.parameters), remedy="")
        except CommandError as error:
            status = re.search(r"answered (\d{3})", str(error))
            yield wrong(error, REMEDIES.get(int(status[1]), OTHER_REMEDY) if status else OTHER_REMEDY)
        else:
            yield ok("issued a test token with the key")
