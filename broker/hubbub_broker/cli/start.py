"""`--from`: where a subscription starts, as people write it."""

import time
from collections.abc import Callable
from datetime import datetime

from hubbub_broker.quantity import parse_duration

from .exit_code import ExitCode, Failure

Start = str | dict[str, float | int]

FORMS = "new, all, seq:N, last:N, or since:TIME (10m, 2026-01-31T12:00, or seconds since the epoch)"
_EPOCH_LIKE = 1e8
"""A bare number above this is seconds since the epoch (1973 and later), below it seconds ago."""


def parse_start(text: str, clock: Callable[[], float] = time.time) -> Start:
    """What the SDK takes as `start`.

    Raises:
        Failure: saying which forms there are.
    """
    kind, colon, value = text.partition(":")
    try:
        if kind in ("new", "all") and not colon:
            return kind
        if kind in ("seq", "last"):
            number = int(value)
            if number >= 1:
                return {kind: number}
        if kind == "since":
            return {"since": parse_time(value, clock)}
    except ValueError:
        pass
    raise Failure(f"--from {text}: one of {FORMS} is wanted", ExitCode.USAGE)


def parse_time(text: str, clock: Callable[[], float] = time.time) -> float:
    """Seconds since the epoch: of a duration ago, an ISO 8601 time (local if it has no zone), or the number itself.

    Raises:
        ValueError: if it is none of these.
    """
    try:
        seconds = parse_duration(text)
    except ValueError:
        return datetime.fromisoformat(text).timestamp()
    return seconds if seconds >= _EPOCH_LIKE else clock() - seconds
