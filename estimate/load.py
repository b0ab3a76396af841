"""A peak load of requests for tokens against every limit on their way, simulated event by event.

Times are in seconds. Random values are drawn for each trainee in advance, from a seed, so that runs differ only in their
limits.
"""

import collections
import dataclasses
import heapq
import itertools
import math
import random

from estimate.description import DAILY_LIMIT, RETRIES
from estimate.stock import Stock

# More than any load reaches.
UNLIMITED = 10**9

# The function's pauses before it asks again, each as the shortest and the longest one in seconds. The table is asked twice.
[TABLE_PAUSE] = RETRIES["dynamodb"]["pauses"]
OPENAI = RETRIES["openai"]
OPENAI_PAUSES = OPENAI["pauses"]
# OpenAI's time for a 429, in seconds. This is an assumption.
OPENAI_REFUSAL = 0.05


@dataclasses.dataclass(frozen=True)
class Outage:
    """A failure of OpenAI that all requests meet."""

    # Whether a connection can be made. If not, a cold start waits for one until its time limit.
    accepts: bool = True
    # The wait that each 429 asks for, in seconds. None: OpenAI does not answer at all.
    wait: float | None = None


@dataclasses.dataclass
class Instance:
    """One instance of the function, and its memory."""

    # When it last read the secret.
    read: float
    # The end of its last full mint without an answer, and the number of brief ones after it.
    silent_since: float | None = None
    brief: int = 0
    stock: Stock = dataclasses.field(default_factory=Stock)

    def limit(self, now, full):
        """The longest time for its next mint, if a full one takes that long."""
        silent = self.silent_since is not None and now - self.silent_since < OPENAI["memory"]
        return OPENAI["brief_limit"] if silent and self.brief < OPENAI["brief_mints"] else full

    def not_answered(self, now, limit):
        if limit == OPENAI["brief_limit"]:
            self.brief += 1
        else:
            self.silent_since, self.brief = now, 0


@dataclasses.dataclass(frozen=True)
class Load:
    """The arrivals, and the duration of each part of an answer."""

    trainees: int
    seconds: float
    # Whether 8 of 10 arrive within the first tenth of the time; otherwise, all arrive evenly.
    sharp: bool
    upstream: float
    own: float
    first: float
    # The time of one update of the table.
    update: float
    start: float
    key_ttl: float
    # The longest random wait of a page before its request.
    spread: float = 0
    outage: Outage | None = None
    seed: int = 1

    def draw(self):
        """Each trainee's arrival, OpenAI's time for the token, and the position within each random pause."""
        chance = random.Random(self.seed)
        drawn = []
        for number in range(self.trainees):
            within = self.seconds / 10 if self.sharp and number % 10 < 8 else self.seconds
            # One in a hundred of OpenAI's answers takes more than twice the median.
            arrival = chance.uniform(0, within) + chance.uniform(0, self.spread)
            drawn.append((arrival, self.upstream * chance.lognormvariate(0, 0.3), chance.random()))
        return sorted(drawn)


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits in the order in which a request meets them. For `own` and `daily`, 0 means off, as in the template."""

    rate: int
    burst: int
    concurrency: int
    starts: int
    secret_reads: int
    own: int
    table_writes: int
    partition_writes: int
    daily: int
    openai: float
    mint_time: float


class Bucket:
    """A token bucket with a rate per second and a size."""

    def __init__(self, rate, size):
        self.rate, self.size, self.level, self.at = rate, max(1, size), max(1, size), 0.0

    def take(self, now):
        self.level = min(self.size, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


class Run:
    """One load against one set of limits, and the outcome of each request."""

    def __init__(self, load, limits):
        self.load, self.limits = load, limits
        self.ended = collections.Counter()
        self.waits = []
        self.busy = self.peak = self.colds = self.taken = self.batches = self.instances = 0
        self.reads, self.writes, self.tries = (collections.Counter() for _ in range(3))
        self.idle, self.events, self.order = [], [], itertools.count()
        self.api = Bucket(limits.rate, limits.burst)
        self.starts = Bucket(limits.starts / 10, limits.starts)
        self.secret = Bucket(limits.secret_reads, limits.secret_reads)
        self.table = Bucket(limits.table_writes, limits.table_writes)
        self.partition = Bucket(limits.partition_writes, limits.partition_writes)
        self.openai = Bucket(limits.openai / 60, limits.openai / 60)
        self.drawn = load.draw()
        for trainee, (arrival, _, _) in enumerate(self.drawn):
            self.later(arrival, self.arrive, trainee)
        while self.events:
            now, _, step, arguments = heapq.heappop(self.events)
            step(now, *arguments)

    def later(self, when, step, *arguments):
        heapq.heappush(self.events, (when, next(self.order), step, arguments))

    def pause(self, trainee, bounds):
        return bounds[0] + self.drawn[trainee][2] * (bounds[1] - bounds[0])

    def arrive(self, now, trainee):
        if not self.api.take(now):
            return self.refuse("rate")
        if not self.idle and self.busy >= self.limits.concurrency:
            return self.refuse("concurrency")
        if not self.idle and not self.starts.take(now):
            return self.refuse("starts")
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        if not self.idle:
            self.colds += 1
            unreachable = self.load.outage and not self.load.outage.accepts
            return self.later(now + self.load.start + (OPENAI["connect_timeout"] if unreachable else 0), self.begin, trainee)
        instance = self.idle.pop()
        if now - instance.read >= self.load.key_ttl:  # in the background, while the old key serves
            self.reads[int(now)] += 1
            instance.read = now
        self.later(now + self.load.own, self.count, trainee, instance)

    def begin(self, now, trainee):
        self.reads[int(now)] += 1
        instance = Instance(read=now)
        if self.load.outage and not self.load.outage.accepts:
            instance.not_answered(now, OPENAI["full_limit"])
        if not self.secret.take(now):
            return self.release(now, "secret_reads", instance)
        self.later(now + self.load.first, self.count, trainee, instance)

    def count(self, now, trainee, instance, again=True):
        """Counts against the trainee's own quota, which no trainee exceeds."""
        if self.limits.daily and instance.stock.refuses(now):
            return self.release(now, "daily", instance)
        if not self.limits.own:
            return self.count_all(now, trainee, instance)
        self.writes[int(now)] += 1
        if self.table.take(now):
            return self.later(now + self.load.update, self.count_all, trainee, instance)
        if again:
            return self.later(now + self.pause(trainee, TABLE_PAUSE), self.count, trainee, instance, False)
        self.release(now, "table_writes", instance)

    def count_all(self, now, trainee, instance, again=True):
        """Counts against the daily limit, which is one item of the table: with a token that the instance has, or with one of
        a new batch. While OpenAI is asked, an instance that has used its last token takes others."""
        stock = instance.stock
        if not self.limits.daily:
            return self.ask(now, trainee, instance)
        if stock.take():
            ahead = 0 if stock.tokens else stock.ahead(now, self.limits.daily)
            if ahead and not self.write_to_limit(now):
                self.take_batch(now, instance, ahead, 0)
            return self.ask(now, trainee, instance)
        full = self.write_to_limit(now)
        if full and again:
            return self.later(now + self.pause(trainee, TABLE_PAUSE), self.count_all, trainee, instance, False)
        if full:
            return self.release(now, full, instance)
        if self.take_batch(now, instance, 1 + stock.ahead(now, self.limits.daily), 1) or self.take_batch(now, instance, 1, 1):
            return self.later(now + self.load.update, self.ask, trainee, instance)
        stock.refused = now
        self.later(now + self.load.update, self.release, "daily", instance)

    def write_to_limit(self, now):
        """Writes to the daily limit's item. Returns the limit that refuses it, if any."""
        self.writes[int(now)] += 1
        return "table_writes" if not self.table.take(now) else "partition_writes" if not self.partition.take(now) else ""

    def take_batch(self, now, instance, size, used):
        """Takes tokens of the daily limit, if as many are left. An update that finds the item's set full is made twice."""
        if self.taken + size > self.limits.daily:
            return False
        self.taken += size
        self.batches += 1
        self.instances += not instance.stock.size
        if self.batches % DAILY_LIMIT["set"] == 0:
            self.write_to_limit(now)
        instance.stock.add(now, size, used, self.taken, self.instances)
        return True

    def ask(self, now, trainee, instance, tries=0):
        self.tries[int(now)] += 1
        outage = self.load.outage
        silent = outage and outage.wait is None
        if silent or (not outage and self.openai.take(now)):
            takes, limit = math.inf if silent else self.drawn[trainee][1], instance.limit(now, self.limits.mint_time)
            if takes <= limit:
                instance.silent_since = None
                return self.later(now + takes, self.answer, trainee, instance)
            instance.not_answered(now + limit, limit)
            return self.later(now + limit, self.release, "mint_time", instance)
        wait = outage.wait if outage else 0
        if tries == len(OPENAI_PAUSES) or wait > OPENAI["longest_wait"]:
            return self.later(now + OPENAI_REFUSAL, self.give_back, instance)
        again = now + OPENAI_REFUSAL + wait + self.pause(trainee, OPENAI_PAUSES[tries])
        self.later(again, self.ask, trainee, instance, tries + 1)

    def give_back(self, now, instance):
        """Gives the token back that OpenAI refused: the trainee's own, and that of the daily limit."""
        self.writes[int(now)] += self.limits.own > 0
        stock = instance.stock
        if self.limits.daily and (stock.keeps(self.limits.daily) or self.write_to_limit(now)):
            stock.tokens += 1
        elif self.limits.daily:
            self.taken -= 1
        self.later(now + self.load.update, self.release, "openai", instance)

    def answer(self, now, trainee, instance):
        self.waits.append(now - self.drawn[trainee][0])
        self.release(now, "token", instance)

    def release(self, _, outcome, instance):
        self.busy -= 1
        self.idle.append(instance)
        self.refuse(outcome)

    def refuse(self, outcome):
        self.ended[outcome] += 1

    def kept(self):
        """The tokens of the daily limit that instances have taken and not used."""
        return sum(instance.stock.tokens for instance in self.idle)

    def wait(self, share):
        """The time within which this share of the tokens was issued, in milliseconds."""
        waits = sorted(self.waits)
        return 1000 * waits[min(len(waits) - 1, int(share * len(waits)))] if waits else 0


def binding(load, limits):
    """The limits that bind, with the number of refusals: first the one that refuses most, then the next without that one, and
    so on."""
    found = []
    while refused := {name: many for name, many in Run(load, limits).ended.items() if name != "token"}:
        worst = max(refused, key=refused.get)
        found.append((worst, refused[worst]))
        limits = dataclasses.replace(limits, **{worst: UNLIMITED})
    return found
