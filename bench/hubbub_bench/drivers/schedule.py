"""When messages are due in an open loop: fixed before the first is sent. Pure."""

from collections.abc import Iterator
from random import Random

_SECOND = 10**9


def due_times(start: int, rate: float, arrivals: str, random: Random) -> Iterator[int]:
    """Times in ns from `start`, `rate` a second for ever: evenly spaced, or as independent senders make them."""
    interval = _SECOND / rate
    due = float(start)
    while True:
        yield int(due)
        due += interval if arrivals == "even" else random.expovariate(1.0) * interval
