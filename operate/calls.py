"""Calls: the list of those that are open, and the command that ends them."""

import datetime
import os
import re

from operate import callers, keeper, secret
from operate.error import CommandError

# The variables that name the calls to end, of which `make hang-up` requires exactly one.
NAMES = ("CALL", *callers.NAMES, "ALL")


def calls(stack, _):
    """List the calls that are open: whose they are, and when they began and end."""
    if keeper.OUTPUT not in stack.outputs:
        print(keeper.NO_KEEPER)
        return
    found = keeper.calls(stack.functions, stack.outputs[keeper.OUTPUT])
    most = stack.parameters["CallsAtOnceForAll"]
    if not found:
        print(f"No call is open. Up to {most} may be at once.")
        return
    rows = [("call", "caller", "profile", "state", "since (UTC)", "until (UTC)")]
    for one in found:
        times = [time_of(one[name]) for name in ("began", "ends")]
        rows.append((one["call"], one["caller"], one["profile"], one["state"], *times))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    print(f"{keeper.counted(len(found))}; up to {most} may be open at once. To end one: make hang-up CALL=…")


def time_of(seconds):
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M:%S}"


def hang_up(stack, _):
    """End one call (CALL), the calls of one caller (CALLER, SUBJECT or ADDRESS), or all calls (ALL=yes)."""
    which = chosen_calls(stack)
    if keeper.OUTPUT not in stack.outputs:
        raise CommandError(f"{keeper.NO_KEEPER} Nothing was changed.")
    ended = keeper.hang_up(stack, **which)
    if "all" in which:
        print(f"No call begins for {which['closedSeconds']} seconds.", flush=True)
    if not ended.number and not ended.failed:
        none = {
            "call": "This call is not open: it has ended, or there is no such call.",
            "caller": "No call of this caller is open.",
        }
        print(none.get(next(iter(which)), "No call is open."))
        return
    print(ended.sentence(), flush=True)
    if ended.failed:
        raise CommandError(keeper.not_ended(ended, "Run this command again. The keeper also tries again every minute."))


def chosen_calls(stack):
    """What exactly one of the environment variables names, in the words of the keeper's command."""
    given = [variable for variable in NAMES if os.environ.get(variable)]
    if len(given) != 1:
        *most, last = (f"{variable}={'yes' if variable == 'ALL' else '…'}" for variable in NAMES)
        raise CommandError(f"Give exactly one of {', '.join(most)} or {last}. Nothing was changed.")
    if given == ["CALL"]:
        call = os.environ["CALL"].strip()
        if not re.fullmatch("[A-Za-z0-9_-]+", call):
            raise CommandError("CALL must be a call as `make calls` lists it, or as in /call/…. Nothing was changed.")
        return {"call": call}
    if given == ["ALL"]:
        if os.environ["ALL"] != "yes":
            raise CommandError("ALL must be yes. Nothing was changed.")
        return {"all": True, "closedSeconds": keeper.CLOSED_SECONDS}
    fields = {} if given == ["CALLER"] else secret.read(stack)
    return {"caller": callers.chosen_identifier(stack, fields, *callers.NAMES)}
