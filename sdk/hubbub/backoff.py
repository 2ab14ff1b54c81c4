"""When to try again: exponential backoff with full jitter.

The delay is drawn evenly from nothing to a ceiling that doubles, so that a thousand agents who lost the same broker
at the same moment come back spread out ("full jitter" in Brooker, Exponential Backoff And Jitter, 2015).
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

SETTLED_SECONDS = 5.0
"""A connection that lived this long counts as good: the next attempts start from the lowest ceiling again."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """A curve of delays, in seconds."""

    base: float = 0.1
    """The first ceiling."""

    cap: float = 10.0
    """The highest ceiling: above it waiting longer spreads nobody further, and only delays the recovery."""

    factor: float = 2.0

    def ceiling(self, attempt: int) -> float:
        """The longest delay before attempt number `attempt` (0 is the first retry)."""
        # The exponent is bounded, because a float overflows after a thousand failed attempts.
        return min(self.cap, self.base * self.factor ** min(attempt, 64))

    def delay(self, attempt: int, source: random.Random) -> float:
        """One delay before attempt number `attempt`."""
        return source.uniform(0.0, self.ceiling(attempt))

    def delays(self, source: random.Random) -> Iterator[float]:
        """All delays of one outage, in order, without end."""
        attempt = 0
        while True:
            yield self.delay(attempt, source)
            attempt += 1
