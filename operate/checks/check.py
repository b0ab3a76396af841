"""A check: its name, the AWS actions that it needs, and its results. No failure of a check leaves it as a traceback."""

import re
from collections.abc import Callable
from typing import NamedTuple

import botocore.exceptions

from operate import account
from operate.error import CommandError

OK, WRONG, SKIP = "ok", "WRONG", "skip"

GONE = {"NoSuchEntity", "NotFound", "NotFoundException", "ResourceNotFound", "ResourceNotFoundException"}
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
            yield Result(WRONG, sentence(error))
        except botocore.exceptions.ClientError as error:
            yield refused(error, self.actions)
        except botocore.exceptions.BotoCoreError as error:
            yield Result(WRONG, sentence(f"not checked. {account.explanation(error)}"))
        except OSError as error:
            yield wrong(f"not checked: {error}", "Check the network, then run it again")
        except Exception as error:
            fault = f"not checked, because the check itself failed: {type(error).__name__}: {error}"
            yield wrong(fault, "Report this line as a bug of Token Mint")


def check(name, *actions):
    """Makes a check of a function that takes a deployed stack and yields results."""
    return lambda find: Check(name, actions, find)


def refused(error, actions):
    """The result of a check that AWS did not answer."""
    if is_denied(error):
        action = denied_action(error, actions)
        return wrong(f"not checked: your credentials lack {action}", f"Allow {action}, or use another role")
    if is_gone(error):
        return wrong(f"it was deleted outside CloudFormation. AWS says: {error.response['Error']['Message']}", CREATE_AGAIN)
    return Result(WRONG, sentence(f"not checked. {account.explanation(error)}"))


def denied_action(error, actions):
    """The IAM action that was denied: as AWS names it, or else the one of the check that fits the operation."""
    named = re.search(r"not authorized to perform: ([\w-]+:\w+)", error.response["Error"].get("Message", ""))
    if named:
        return named[1]
    fitting = [action for action in actions if action.split(":")[1] == error.operation_name]
    return fitting[0] if fitting else " or ".join(actions)


def is_denied(error):
    return error.response["Error"].get("Code") in account.DENIED


def is_gone(error):
    return error.response["Error"].get("Code") in GONE


def sentence(text):
    """The text on one line, with a full stop at its end."""
    text = " ".join(str(text).split())
    return text if text.endswith((".", "!", "?")) else f"{text}."
