"""The tokens of the daily limit that an instance has taken and not used yet: function/src/admission/stock.rs, for the model."""

import dataclasses
import math

from estimate.description import DAILY_LIMIT


@dataclasses.dataclass
class Stock:
    """One instance's tokens, and its last batch: the size, the time, and the limit's item after it."""

    tokens: int = 0
    size: int = 0
    at: float = 0
    count: int = 0
    instances: int = 0
    refused: float | None = None

    def take(self):
        taken = self.tokens > 0
        self.tokens -= taken
        return taken

    def ahead(self, now, limit):
        """The number of tokens to take beyond the one that is needed at once."""
        if not self.size:
            return 0
        left = max(0, limit - self.count)
        needed = self.size * DAILY_LIMIT["ahead_seconds"] / max(now - self.at, 0.001)
        harmless = min(left // (DAILY_LIMIT["kept_part"] * self.instances), 2 * self.size)
        aim = DAILY_LIMIT["updates_per_second"]
        fleet = self.instances * self.size / max(now - self.at, DAILY_LIMIT["shortest_seconds"])
        fast = math.ceil(fleet / aim) if fleet >= aim else 0
        return int(min(needed, max(harmless, fast), left // DAILY_LIMIT["near"], DAILY_LIMIT["most"]))

    def add(self, now, size, used, count, instances):
        self.tokens += size - used
        self.size, self.at, self.count, self.instances, self.refused = size, now, count, instances, None

    def keeps(self, limit):
        """Whether an unused token is kept: others are kept too, or there are many instances and enough tokens for them."""
        crowd = self.instances >= DAILY_LIMIT["crowd"]
        enough = (limit - self.count) // max(1, self.instances) >= DAILY_LIMIT["crowd_part"]
        return self.size > 1 or (crowd and enough)

    def refuses(self, now):
        return not self.tokens and self.refused is not None and now - self.refused < DAILY_LIMIT["refused_seconds"]
