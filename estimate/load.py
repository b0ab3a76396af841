"""A peak load of requests for tokens against every limit on their way, simulated event by event.

Times are in seconds. Random values are drawn for each trainee in advance, from a seed, so that runs differ only in their
limits.
"""

import collections
import dataclasses
import heapq
import itertools
import random

from estimate.description import RETRIES

# More than any load reaches.
UNLIMITED = 10**9

# The function's pauses before it asks again, each as the shortest and the longest one in seconds. The table is asked twice.
[TABLE_PAUSE] = RETRIES["dynamodb"]["pauses"]
OPENAI_PAUSES = RETRIES["openai"]["pauses"]
# OpenAI's time for a 429, in seconds. This is an assumption.
OPENAI_REFUSAL = 0.05


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
        self.busy = self.peak = self.colds = self.taken = 0
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
            return self.later(now + self.load.start, self.begin, trainee)
        read = self.idle.pop()
        if now - read >= self.load.key_ttl:  # in the background, while the old key serves
            self.reads[int(now)] += 1
            read = now
        self.later(now + self.load.own, self.count, trainee, read)

    def begin(self, now, trainee):
        self.reads[int(now)] += 1
        if not self.secret.take(now):
            return self.release(now, "secret_reads", now)
        self.later(now + self.load.first, self.count, trainee, now)

    def count(self, now, trainee, read, again=True):
        """Counts against the trainee's own quota, which no trainee exceeds."""
        if not self.limits.own:
            return self.count_all(now, trainee, read)
        self.writes[int(now)] += 1
        if self.table.take(now):
            return self.later(now + self.load.update, self.count_all, trainee, read)
        if again:
            return self.later(now + self.pause(trainee, TABLE_PAUSE), self.count, trainee, read, False)
        self.release(now, "table_writes", read)

    def count_all(self, now, trainee, read, again=True):
        """Counts against the daily limit, which is one item of the table."""
        if not self.limits.daily:
            return self.ask(now, trainee, read)
        self.writes[int(now)] += 1
        full = "table_writes" if not self.table.take(now) else "partition_writes" if not self.partition.take(now) else ""
        if full and again:
            return self.later(now + self.pause(trainee, TABLE_PAUSE), self.count_all, trainee, read, False)
        if full:
            return self.release(now, full, read)
        if self.taken >= self.limits.daily:
            return self.later(now + self.load.update, self.release, "daily", read)
        self.taken += 1
        self.later(now + self.load.update, self.ask, trainee, read)

    def ask(self, now, trainee, read, tries=0):
        self.tries[int(now)] += 1
        if self.openai.take(now):
            return self.later(now + self.drawn[trainee][1], self.answer, trainee, read)
        if tries == len(OPENAI_PAUSES):
            return self.later(now + OPENAI_REFUSAL, self.release, "openai", read)
        self.later(now + OPENAI_REFUSAL + self.pause(trainee, OPENAI_PAUSES[tries]), self.ask, trainee, read, tries + 1)

    def answer(self, now, trainee, read):
        self.waits.append(now - self.drawn[trainee][0])
        self.release(now, "token", read)

    def release(self, _, outcome, read):
        self.busy -= 1
        self.idle.append(read)
        self.refuse(outcome)

    def refuse(self, outcome):
        self.ended[outcome] += 1

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
