"""The OpenAI key: checked with a test token, then stored in the secret."""

import getpass
import json
import sys
import urllib.error
import urllib.request

from operate import contents, secret
from operate.error import CommandError

OPENAI = "https://api.openai.com/v1"
UNPROVEN = "Nothing was changed. To store the key without this check, run `make key PROVE=no`."


def key(stack, asked):
    """Store the OpenAI key, which is read without echo or from standard input, after minting a test token with it."""
    new = entered()
    base_url = stack.parameters["OpenAIBaseUrl"]
    if base_url == OPENAI and not new.startswith("sk-"):
        raise CommandError("Not an OpenAI key: OpenAI's keys begin with sk-. Nothing was changed.")
    if not asked.unchecked:
        mint_test_token(new, base_url, token_prefix(stack.parameters))
        print("OpenAI issued a test token with this key.")

    _, after = secret.change(stack, lambda fields: with_key(fields, new))
    until = secret.read_again_at(stack)
    print("The key is stored. New instances use it immediately. Running instances read it in the background at their first")
    print(f"request after {until:%H:%M:%S} and use it from the next request on, or as soon as OpenAI rejects the old key.")
    if after.get(contents.PREVIOUS_KEY_FIELD) and stack.parameters.get("MaxCallSeconds"):
        seconds = int(stack.parameters["MaxCallSeconds"])
        print("The secret keeps the previous key, to end the calls that it made. If it is of another OpenAI project, revoke it")
        print(f"{seconds:,} s after that time: only keys of its project can end those calls.")
    for fault in contents.faults(after):
        print(f"However, {fault}. It was not changed: `make doctor` says what to do.")


def with_key(fields, new):
    """The secret's fields with this key, and with the current one as the previous one."""
    try:
        current = contents.key(fields)
    except contents.Unusable:
        current = new
    previous = {} if current == new else {contents.PREVIOUS_KEY_FIELD: current}
    changed = fields | {contents.KEY_FIELD: new} | previous
    if not secret.fits(secret.as_text(changed)):
        # A long block list keeps nobody from replacing a key: the version AWSPREVIOUS has the previous one too.
        changed.pop(contents.PREVIOUS_KEY_FIELD, None)
    return changed


def entered():
    """The key that the operator typed or piped in, if it has the form of one."""
    try:
        typed = getpass.getpass("OpenAI API key (not shown): ") if sys.stdin.isatty() else sys.stdin.readline()
    except (KeyboardInterrupt, EOFError):
        raise CommandError("\nNo key was given. Nothing was changed.") from None
    if not typed.strip():
        raise CommandError("No key was given. Nothing was changed.")
    try:
        new = contents.key_in(typed)
    except contents.Unusable as fault:
        raise CommandError(f"Not a valid key: {str(fault).partition(': ')[0]}. Nothing was changed.") from None
    if len(new) < 20:
        raise CommandError(
            "Not a valid key: a key has at least 20 letters, digits and signs, and no spaces. Nothing was changed."
        )
    return new


def token_prefix(parameters):
    """The start of the tokens that the function accepts. A stack of an earlier release has no such parameter."""
    return parameters.get("TokenPrefix", "ek_")


def mint_test_token(new, base_url, prefix, remedy=UNPROVEN):
    """Mints one short-lived token and discards it. This costs nothing. An error ends with the remedy."""
    body = {"expires_after": {"anchor": "created_at", "seconds": 10}, "session": {"type": "realtime"}}
    request = urllib.request.Request(
        f"{base_url.rstrip('/')}/realtime/client_secrets",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {new}", "Content-Type": "application/json"},
    )
    try:
        # Redirects are not followed: they would send the key to another host.
        opener = urllib.request.build_opener(NoRedirect, urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=20) as answer:
            token = json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise CommandError(f"OpenAI answered {error.code} to this key. {remedy}") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise CommandError(f"OpenAI could not be reached at {base_url}. {remedy}") from None
    if not isinstance(token, str) or not token.removeprefix(prefix) or not token.startswith(prefix) or new in token:
        raise CommandError(f"The answer of {base_url} did not contain a valid token. {remedy}")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None
