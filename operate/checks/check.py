"""A check: its name, the AWS actions that it needs, and its results. No failure of a check leaves it as a traceback."""

import re
from collections.abc import Callable
from typing import NamedTuple

import botocore.exceptions

from operate.error import CommandError

OK, WRONG, SKIP = "ok", "WRONG", "skip"

DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"}
GONE = {"NoSuchEntity", "NotFound", "NotFoundException", "ResourceNotFound", "ResourceNotFoundException"}
EXPIRED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}

# CloudFormation does not notice. A new stack would do, but has another URL.
CREATE_AGAIN = "Create it again under the same name, as template.yaml describes it: `make deploy` does not"


class Result(NamedTuple):
    """What a check found, as one line for the operator."""

    state: str
    text: str


def ok(fact):
    return Result(OK, fact)


def wrong(fault, remedy):
    return Result(WRONG, f"{sentence(fault)} {sentence(remedy)}")


def skip(why):
    return Result(SKIP, why)


class Missing(Exception):
    """The stack lacks what a check looks at. Another check reports that."""


class Check(NamedTuple):
    name: str
    actions: tuple[str, ...]
    find: Callable

    def results(self, deployed):
        """The results, at least one of them, whatever happens."""
        try:
            yield from self.find(deployed)
        except Missing as missing:
            yield skip(str(missing))
        except CommandError as error:
            yield Result(WRONG, str(error))
        except botocore.exceptions.ClientError as error:
            yield refused(error, self.actions)
        except (botocore.exceptions.BotoCoreError, OSError) as error:
            yield wrong(f"this was not checked: {error}", "Check the network and the credentials, then run it again")
        except Exception as error:
            fault = f"this was not checked, because the check itself failed: {type(error).__name__}: {error}"
            yield wrong(fault, "Report this line as a bug of Token Mint")


def check(name, *actions):
    """Makes a check of a function that takes a deployed stack and yields results."""
    return lambda find: Check(name, actions, find)


def refused(error, actions):
    """The result of a check that AWS did not answer."""
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
    if code in DENIED:
        action = denied_action(error, actions)
        return wrong(f"this was not checked: your credentials lack {action}", f"Allow {action}, or use another role")
    if code in EXPIRED:
        return wrong(f"this was not checked: AWS does not accept your credentials ({code})", "Renew them, then run it again")
    if code in GONE:
        return wrong(f"it was deleted outside CloudFormation. AWS says: {message or code}", CREATE_AGAIN)
    remedy = "Run it again; if that does not help, see health.aws.amazon.com"
    return wrong(f"this was not checked: AWS answered {code} to {error.operation_name}: {message}", remedy)


def denied_action(error, actions):
    """The IAM action that was denied: as AWS names it, or else the one of the check that fits the operation."""
    named = re.search(r"not authorized to perform: ([\w-]+:\w+)", error.response["Error"].get("Message", ""))
    if named:
        return named[1]
    fitting = [action for action in actions if action.split(":")[1] == error.operation_name]
    return fitting[0] if fitting else " or ".join(actions)


def is_denied(error):
    return error.response["Error"].get("Code") in DENIED


def is_gone(error):
    return error.response["Error"].get("Code") in GONE


def sentence(text):
    """The text on one line, with a full stop at its end."""
    text = " ".join(str(text).split())
    return text if text.endswith((".", "!", "?")) else f"{text}."
