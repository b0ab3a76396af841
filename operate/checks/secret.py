"""The secret: readable, complete, and with room left; and the OpenAI key, proven on request."""

import os
import re

import botocore.exceptions

from operate import secret
from operate.checks.check import check, ok, skip, wrong
from operate.error import CommandError
from operate.key import OPENAI, mint_test_token

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
    fields = secret.parse(text)
    form = "JSON" if text.lstrip().startswith("{") else "plain text, the key alone"
    if not secret.are_keys_text(fields):
        yield wrong("a key in it is not text, so the function cannot read it", "Correct it in the Secrets Manager console")
    else:
        yield ok(f"readable, {form}")


@check("OpenAI key", READ)
def openai_key(deployed):
    key = str(deployed.secret_fields.get(secret.KEY_FIELD) or "").strip()
    if not key:
        yield wrong(f"the secret has no {secret.KEY_FIELD}", "Run `make key`")
    elif not re.fullmatch("[!-~]+", key):
        yield wrong("not set: the secret contains a placeholder or other text instead", "Run `make key`")
    elif deployed.parameter("OpenAIBaseUrl") == OPENAI and not key.startswith("sk-"):
        yield wrong("it does not begin with sk-, as OpenAI's keys do", "Run `make key`")
    else:
        yield ok("set")


@check("identifier key", READ)
def identifier_key(deployed):
    key = secret.identifier_key(deployed.secret_fields)
    if len(key) >= LEAST_IDENTIFIER_KEY:
        yield ok(f"{len(key)} characters")
        return
    fault = f"it has only {len(key)} characters" if key else "there is none, so callers' identifiers change with the OpenAI key"
    remedy = (
        f"Store 64 random letters and digits as {secret.IDENTIFIER_KEY_FIELD} in the Secrets Manager console. "
        "All identifiers then change once: block your blocked callers again"
    )
    yield wrong(fault, remedy)


@check("blocked callers", READ)
def blocked_callers(deployed):
    found = deployed.secret_fields.get(secret.BLOCKED_FIELD)
    if found is None:
        found = []
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        fault = f"{secret.BLOCKED_FIELD} is not a list of strings, so the function cannot read the secret"
        yield wrong(fault, "Correct or remove it in the Secrets Manager console")
        return
    malformed = [number for number, entry in enumerate(found, 1) if not re.fullmatch("[0-9A-Fa-f]{64}", entry.strip())]
    if malformed:
        fault = f"{secret.BLOCKED_FIELD} has entries that match no caller: number {', '.join(map(str, malformed))}"
        yield wrong(fault, "Remove them in the Secrets Manager console, and block these callers with `make block`")
    else:
        yield ok(f"{len(found)}")


@check("proxy secret", READ)
def proxy_secret(deployed):
    found = deployed.secret_fields.get(secret.PROXY_FIELD)
    if not deployed.parameter("ProxyAddressHeader"):
        yield skip("ProxyAddressHeader is empty: no proxy has to prove itself")
    elif not isinstance(found, str) or len(found.strip()) < LEAST_PROXY_SECRET:
        fault = f"{secret.PROXY_FIELD} is missing or shorter than {LEAST_PROXY_SECRET} characters"
        yield wrong(fault, "Run `make proxy-secret`, and let the proxy send what it prints")
    else:
        yield ok(f"{len(found.strip())} characters")


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
    key = str(deployed.secret_fields.get(secret.KEY_FIELD) or "").strip()
    if not re.fullmatch("[!-~]+", key):
        yield skip("there is no key to prove: see OpenAI key")
    elif not asks_openai():
        yield skip(f"only with `{ASK}`: it mints a token of 10 s, which costs nothing")
    else:
        try:
            mint_test_token(key, deployed.parameter("OpenAIBaseUrl"), remedy="")
        except CommandError as error:
            status = re.search(r"answered (\d{3})", str(error))
            yield wrong(error, REMEDIES.get(int(status[1]), OTHER_REMEDY) if status else OTHER_REMEDY)
        else:
            yield ok("issued a test token with the key")
