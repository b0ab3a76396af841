"""The keeper: the function of a stack that ends calls at their time, and that lists and ends them for the operator's commands."""

import dataclasses
import json
import time

import botocore.client
import botocore.exceptions

from operate import account
from operate.error import CommandError

OUTPUT = "KeeperName"
# A running instance may have a block list that is KeyTtlSeconds old, and a request that began with it may take 30 s.
LONGEST_REQUEST_SECONDS = 30
# For how long no call begins after a command has ended all calls. A request that was under way is over by then.
CLOSED_SECONDS = 60
# The same before the keeper is deleted: until no request reaches a version that makes calls. A gradual deployment takes up to 15
# minutes more.
CLOSED_SECONDS_FOR_UPDATE, CLOSED_SECONDS_FOR_GRADUAL_UPDATE = 900, 1800
# The pause between two looks for calls that are about to end, in seconds.
LOOK_AGAIN_SECONDS = 2
# The keeper's own time-out is 150 s, as template.yaml sets it. To ask a second time does no harm.
PATIENCE = botocore.client.Config(connect_timeout=5, read_timeout=160, retries={"mode": "standard", "total_max_attempts": 2})
NO_KEEPER = (
    "This stack has no keeper, so it has no calls: Endpoints is token, or the stack was deployed from a release without calls."
)


@dataclasses.dataclass
class Ended:
    """What a command to hang up did: the number of calls that it ended, and the cause for each call that it did not end."""

    number: int
    failed: dict

    def sentence(self):
        return f"Ended {counted(self.number)}."

    def faults(self):
        """A line for each call that was not ended."""
        return [f"  {call}: {cause}" for call, cause in self.failed.items()]


class NoKeeper(CommandError):
    """The message for a keeper that the stack names, but that does not exist."""


def counted(number):
    return "1 call" if number == 1 else f"{number:,} calls"


def calls(functions, keeper):
    """The calls that are open or booked, the one that ends first in front."""
    answer = ask(functions, keeper, {"command": "list"})
    return sorted(answer["calls"], key=lambda call: (call["ends"], call["call"]))


def hang_up(stack, **which):
    """Ends the calls that `which` names. An error of AWS says nothing about the calls, so it becomes a message that says so."""
    functions = stack.session.client("lambda", config=PATIENCE)
    try:
        answer = ask(functions, stack.outputs[OUTPUT], {"command": "hang-up"} | which)
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        code = error.response["Error"]["Code"] if isinstance(error, botocore.exceptions.ClientError) else None
        kind = NoKeeper if code == "ResourceNotFoundException" else CommandError
        raise kind(f"The keeper could not be asked to end calls. {account.explanation(error)}") from None
    return Ended(answer["ended"], {one["call"]: one["cause"] for one in answer["failed"]})


def ask(functions, keeper, command):
    """The keeper's answer to a command."""
    answer = functions.invoke(FunctionName=keeper, Payload=json.dumps(command).encode())
    text = answer["Payload"].read()
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if answer.get("FunctionError") or not isinstance(found, dict):
        cause = found.get("errorMessage") if isinstance(found, dict) else None
        raise CommandError(f"The keeper failed: {str(cause or 'it gave no reason').rstrip('.')}. `make doctor` checks it.")
    return found


def not_ended(ended, remedy):
    """The message for calls that could not be ended."""
    verb = "was" if len(ended.failed) == 1 else "were"
    return "\n".join([f"{counted(len(ended.failed))} {verb} not ended:", *ended.faults(), remedy])


def end_calls_of_blocked(stack, identifier):
    """Ends the open calls of a caller who was blocked, and lets instances with an old block list open no more of them."""
    if OUTPUT not in stack.outputs:
        return
    again = f"Run `make hang-up CALLER={identifier}`."
    closed = int(stack.parameters["KeyTtlSeconds"]) + LONGEST_REQUEST_SECONDS
    end(
        stack,
        f"The caller is blocked, but open calls of this caller may go on. {again}",
        caller=identifier,
        closedSeconds=closed,
    )


def end_calls_of_paused(stack):
    """Ends all calls of a stack that was paused. Requests that the pause did not stop open no calls either."""
    if OUTPUT in stack.outputs:
        remedy = "The pause is on, but open calls may go on. Run `make hang-up ALL=yes`."
        end(stack, remedy, all=True, closedSeconds=CLOSED_SECONDS)


def end(stack, remedy, **which):
    """Ends calls after a change that stays in force if they cannot be ended. The message then says so."""
    try:
        ended = hang_up(stack, **which)
    except CommandError as error:
        raise CommandError(f"{error}\n{remedy}") from None
    print(ended.sentence(), flush=True)
    if ended.failed:
        raise CommandError(not_ended(ended, remedy))


def is_deleted_by(stack, template, values):
    """Whether the stack has a keeper that an update to this template and these values deletes."""
    stays = template.keeper is not None and values.get("Endpoints") != "token"
    return not stays and OUTPUT in stack.outputs


def end_all(stack, seconds, unchanged):
    """Ends all calls and lets none begin for that many seconds, before the keeper is deleted. `unchanged` says what is as before
    if a call is left."""
    then = f"{unchanged} No call begins for {seconds // 60} minutes."
    ended = hang_up(stack, all=True, closedSeconds=seconds)
    print(f"{ended.sentence()} No call begins for {seconds // 60} minutes.", flush=True)
    if ended.failed:
        raise CommandError(not_ended(ended, then))
    # A call that OpenAI is about to answer is ended by the function that asked.
    deadline = time.monotonic() + LONGEST_REQUEST_SECONDS
    while left := calls(stack.functions, stack.outputs[OUTPUT]):
        if time.monotonic() > deadline:
            verb = "is" if len(left) == 1 else "are"
            raise CommandError(
                f"{counted(len(left))} {verb} not known to be over. `make calls` shows the time of the end. Run this command again "
                f"after that. {then}"
            )
        time.sleep(LOOK_AGAIN_SECONDS)


def require_none(stack, template, values):
    """Refuses a change that deletes the keeper while calls are open, because nothing would end them."""
    if not is_deleted_by(stack, template, values):
        return
    open_calls = len(calls(stack.functions, stack.outputs[OUTPUT]))
    if open_calls:
        verb = "is" if open_calls == 1 else "are"
        raise CommandError(
            f"{counted(open_calls)} {verb} open, and this change deletes the keeper, which ends them. Run `make hang-up "
            "ALL=yes`, then this command again. Nothing was changed."
        )
