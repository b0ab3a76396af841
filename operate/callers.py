"""Callers: their safety identifiers, and the list of those that are blocked."""

import functools
import hmac
import ipaddress
import os
import re

from operate import contents, keeper, secret
from operate.error import CommandError

# The variables that name a caller, of which `make block` and `make unblock` require exactly one.
NAMES = ("CALLER", "SUBJECT", "ADDRESS")


def caller(stack, _):
    """Print the safety identifier of a caller, under which OpenAI and the log know the caller."""
    fields = secret.read(stack)
    identifier = chosen_identifier(stack, fields, "SUBJECT", "ADDRESS")
    print(identifier)
    print(f"This caller's records: in CloudWatch under Logs Insights, the saved query {stack.name}/one caller.")
    if identifier in secret.block_list(fields):
        print(f"This caller is blocked. To unblock: make unblock CALLER={identifier}")
    else:
        print(f"To block this caller: make block CALLER={identifier}")
    if os.environ.get("ADDRESS") and stack.parameters.get("AuthIssuer"):
        print(
            f"However, AuthIssuer is set, so this stack identifies callers by the claim {claim(stack)} of their sign-in. "
            "Give SUBJECT=… instead."
        )
    if os.environ.get("SUBJECT") and not stack.parameters.get("AuthIssuer"):
        print("However, AuthIssuer is not set, so this stack identifies callers by their address. Give ADDRESS=… instead.")


def block(stack, _):
    """Block a caller, from the next time that instances read the secret, and end their calls. Tokens already issued stay valid."""
    before, _ = secret.change(stack, functools.partial(with_block, stack))
    identifier, until = chosen_identifier(stack, before, *NAMES), secret.read_again_at(stack)
    print(f"Blocked {identifier}. New instances refuse this caller immediately,")
    print(
        f"running instances from their first request after {until:%H:%M:%S}. Tokens already issued stay valid until they expire."
    )
    print(f"To undo: make unblock CALLER={identifier}", flush=True)
    keeper.end_calls_of_blocked(stack, identifier)


def unblock(stack, _):
    """Unblock a caller."""
    before, _ = secret.change(stack, functools.partial(without_block, stack))
    identifier, until = chosen_identifier(stack, before, *NAMES), secret.read_again_at(stack)
    print(f"Unblocked {identifier}. New instances serve this caller immediately. Running")
    print(f"instances read the change at their first request after {until:%H:%M:%S} and serve the caller from the next one on.")


def with_block(stack, fields):
    """The secret's fields with the caller on the block list."""
    identifier, blocked = chosen_identifier(stack, fields, *NAMES), secret.block_list(fields)
    if identifier in blocked:
        raise CommandError(f"{identifier} is already blocked. Nothing was changed.")
    return fields | {contents.BLOCKED_FIELD: [*blocked, identifier]}


def without_block(stack, fields):
    """The secret's fields with the caller taken off the block list."""
    identifier, blocked = chosen_identifier(stack, fields, *NAMES), secret.block_list(fields)
    if identifier not in blocked:
        raise CommandError(f"{identifier} is not blocked. Nothing was changed.")
    return fields | {contents.BLOCKED_FIELD: [other for other in blocked if other != identifier]}


def claim(stack):
    """The claim of a sign-in that names the caller. A stack of an earlier release has no such parameter."""
    return stack.parameters.get("AuthSubjectClaim") or "sub"


def chosen_identifier(stack, fields, *variables):
    """The identifier of the caller that exactly one of these environment variables names."""
    given = [variable for variable in variables if os.environ.get(variable)]
    if len(given) != 1:
        raise CommandError(
            f"Give exactly one of {' or '.join(f'{variable}=…' for variable in variables)}. Nothing was changed."
        )
    value = os.environ[given[0]]
    if given == ["SUBJECT"]:
        kind = "subject:" if claim(stack) == "sub" else f"claim:{claim(stack)} "
        return safety_identifier(fields, kind.encode() + os.fsencode(value))
    if given == ["ADDRESS"]:
        return safety_identifier(fields, f"address:{canonical_address(value)}".encode())
    identifier = value.strip().lower()
    if not re.fullmatch("[0-9a-f]{64}", identifier):
        raise CommandError(
            "CALLER must be an identifier: 64 digits from 0 to f, as `make caller` prints it. Nothing was changed."
        )
    return identifier


def safety_identifier(fields, identity):
    """The hash of a caller's identity, as function/src/admission/caller.rs and secret/contents.rs compute it."""
    if contents.text_of(fields, contents.IDENTIFIER_KEY_FIELD) is None:
        raise CommandError(f"{contents.IDENTIFIER_KEY_FIELD} in the secret is not text. Fix it in the AWS console.")
    return hmac.new(contents.identifier_key(fields, fields.arn), identity, "sha256").hexdigest()


def canonical_address(text):
    """The form in which an address is hashed: an IPv4 address, or the first 64 bits of an IPv6 address, as a household has."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        raise CommandError(
            f"ADDRESS={text!r} is not an IP address. Give one, for example 203.0.113.9 or 2001:db8::1."
        ) from None
    if address.version == 4:
        return address
    return address.ipv4_mapped or ipaddress.IPv6Address(int(address) >> 64 << 64)
