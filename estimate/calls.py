"""What calls cost the quota table and the keeper, by the rules of function/src/calls/.

DynamoDB counts a write by the size of the whole item, in units of 1 KB, also if its condition fails. Two kinds of items grow with
the number of calls: the one of all callers has a slot for each open call, and calls that end in the same minute share four items.
"""

import math

# Bytes: of a slot in the item of all callers, with its name; of a record of a call, with its name; and of the rest of an item
# (test_cost.py computes the first two).
SLOT_BYTES, RECORD_BYTES, REST_BYTES = 50, 340, 100
# function/src/calls/handle.rs: the items of the calls that end in a minute.
SHARDS = 4
WRITE_UNIT_BYTES, READ_UNIT_BYTES = 1024, 4096
# The updates of a call until OpenAI has answered, of the items of its minute: it is registered, and gets OpenAI's name.
REGISTRATIONS = 2
# The updates of a call, from its registration to its end, in addition to the quotas: of the items of its minute, of the item of all
# callers, and of its caller's. The last one stays small.
OF_MINUTE, OF_ALL, OF_CALLER = 3, 2, 2

# function/src/calls/keeper.rs, in seconds: how far ahead a round looks, the time between rounds, how much later a round ends a
# call of the next round, and the longest time between two looks.
AHEAD, PERIOD, IN_RESERVE, LOOK_AGAIN = 90, 60, 3, 5
# The minutes that a look reads, four items for each: 4 or 5.
MINUTES = 4.5


def item_of_all(open_calls):
    """The size of the item of all callers with this number of open calls."""
    return REST_BYTES + SLOT_BYTES * open_calls


def item_of_minute(calls):
    """The size of each item of a minute in which `calls` calls end."""
    return REST_BYTES + RECORD_BYTES * math.ceil(calls / SHARDS)


def write_units(size):
    return math.ceil(size / WRITE_UNIT_BYTES)


def read_units(size):
    return math.ceil(size / READ_UNIT_BYTES)


def requests_per_second(at_once, limit):
    """The requests for a call that the item of all callers answers in a second when all lines are taken, and `limit` write units
    to one item fit in a second. Each takes an update, a refusal too, unless the instance remembers that all lines are busy."""
    return limit / write_units(item_of_all(at_once))


def filling_seconds(lines, at_once, limit):
    """The least time until `lines` of the slots are taken, if all callers want one.

    A request tries a slot at random. The more of them are taken, the more often it needs a second update.
    """
    now, minute, of_minute = 0.0, 0, 0
    for taken in range(lines):
        if int(now / 60) != minute:
            minute, of_minute = int(now / 60), 0
        of_all = (1 + taken / at_once) * write_units(item_of_all(taken + 1)) / limit
        of_minute += 1
        registered = REGISTRATIONS * write_units(item_of_minute(of_minute)) / (limit * SHARDS)
        now += max(of_all, registered)
    return now


def writes_of_call(per_minute, seconds):
    """The write units of a call, if `per_minute` calls begin in each minute and each lasts `seconds`."""
    of_minute = write_units(item_of_minute(per_minute))
    of_all = write_units(item_of_all(per_minute * seconds / 60))
    return OF_MINUTE * of_minute + OF_ALL * of_all + OF_CALLER


def last_end(rate, seconds):
    """When the last call ends on average within `seconds`, if `rate` calls end in a second, at random. 0 if none does."""
    return seconds - (1 - math.exp(-rate * seconds)) / rate


def waiting_seconds(per_minute):
    """How long a round of the keeper waits on average, if `per_minute` calls end in a minute.

    It stays until the last end within the time for which it looks ahead, and a little longer for a call of the next round.
    """
    rate = per_minute / 60
    if not rate:
        return 0.0
    return last_end(rate, AHEAD) + IN_RESERVE * (1 - math.exp(-rate * (AHEAD - PERIOD)))


def looks(per_minute):
    """How often a round looks at the registry on average while it waits: at each end, in whole seconds, and after LOOK_AGAIN at the
    latest. Once the next round has begun, that one ends the calls, and this one looks IN_RESERVE later."""
    rate = per_minute / 60
    if not rate:
        return 0.0
    goes_on = 1 - math.exp(-rate * (AHEAD - PERIOD))
    before = goes_on * PERIOD + (1 - goes_on) * last_end(rate, PERIOD)
    each = until_next_end(rate, LOOK_AGAIN)
    each_after = IN_RESERVE + until_next_end(rate, LOOK_AGAIN - IN_RESERVE)
    return before / each + (waiting_seconds(per_minute) - before) / each_after


def until_next_end(rate, most):
    """The seconds until the next call ends on average, in whole seconds, and at most `most`."""
    return (1 - math.exp(-rate * most)) / (1 - math.exp(-rate))


def reads_of_look(per_minute):
    """The read units of a look."""
    return MINUTES * SHARDS * read_units(item_of_minute(per_minute))
