"""Slow down, then stop: what happens to something that goes on and on. Pure; time is passed in.

             more than `limit`                  `stop` more, all slowed
    free ------------------------> slowed ------------------------------> stopped
      ^                               |                                      |
      +------ silence of `window` ----+--------------------------------------+

While it is free, the level rises by one each time and sinks by `limit` in each `window`. While it is slowed, each step
has to wait twice as long as the one before. Whoever retries as told never gets out by that alone: only silence ends it.
"""

from math import inf
from typing import NamedTuple

FIRST_WAIT = 0.25
"""Seconds between the first two that are slowed: a person would not notice, a loop is slowed a thousandfold."""
LONGEST_WAIT = 30.0
"""Seconds; half a window, where that is shorter."""


class Pace(NamedTuple):
    """The limits of one rule."""

    limit: int
    """What goes by unhindered in one window."""
    window: float
    stop: int
    """How many more are let by, slowed."""


class Level(NamedTuple):
    """Where something stands after its newest step. A value: whatever follows from one message may go on from it."""

    value: float
    at: float
    """When the newest step was made."""
    slowed: int
    """Steps made since the limit was passed; 0: it was not."""


Came = tuple[Level, int]
"""How often some content came round, and how far down a chain it has stood."""


def step(pace: Pace, before: Level | None, now: float) -> tuple[Level, float]:
    """One more step: where it leads, and how long it has to wait; 0.0: taken now, infinite: stopped.

    What has to wait is not made: the level stays what it was.
    """
    if before is None or now - before.at >= pace.window:
        return Level(1.0, now, 0), 0.0
    value, at, slowed = before
    if not slowed:
        value = max(0.0, value - (now - at) * pace.limit / pace.window) + 1.0
        if value <= pace.limit:
            return Level(value, now, 0), 0.0
    if slowed >= pace.stop:
        return before, inf
    wait = at + min(FIRST_WAIT * 2.0 ** min(slowed, 16), LONGEST_WAIT, pace.window / 2) - now
    if wait > 0:
        return before, wait
    return Level(value, now, slowed + 1), 0.0
