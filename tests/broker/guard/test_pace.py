"""Slow down, then stop: what `step` promises, whatever the times at which it is asked."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_broker.guard.pace import LONGEST_WAIT, Level, Pace, step

PACE = Pace(limit=5, window=10.0, stop=3)


def test_free_then_slowed_ever_more_then_stopped() -> None:
    level: Level | None = None
    for _ in range(5):
        level, wait = step(PACE, level, 100.0)
        assert wait == 0
    now, waits = 100.0, []
    while (asked := step(PACE, level, now))[1] != inf:
        same, wait = asked
        assert same == level, "what has to wait is not made"
        waits.append(wait)
        now += wait
        level, wait = step(PACE, level, now)
        assert wait == 0, "it may go on when it was told to"
    assert waits == pytest.approx([0.25, 0.5, 1.0])


def test_silence_ends_it_and_nothing_less() -> None:
    level, now = Level(5.0, 100.0, 0), 100.0
    while (asked := step(PACE, level, now))[1] != inf:
        level, wait = asked
        now += wait
    assert step(PACE, level, level.at + 9.9)[1] == inf
    assert step(PACE, level, level.at + 10.0) == (Level(1.0, level.at + 10.0, 0), 0.0)


@given(st.lists(st.floats(0.2, 4.0), min_size=1, max_size=200))
def test_what_keeps_to_its_rate_never_waits(gaps: list[float]) -> None:
    pace = Pace(limit=50, window=10.0, stop=0)
    level, now = None, 0.0
    for gap in gaps:
        now += gap
        level, wait = step(pace, level, now)
        assert wait == 0


@given(st.integers(0, 200), st.integers(1, 100))
def test_whoever_retries_as_told_gets_limit_and_stop_and_no_more(stop: int, limit: int) -> None:
    pace = Pace(limit, 60.0, stop)
    level, now, taken = None, 0.0, 0
    while True:
        level, wait = step(pace, level, now)
        if wait == inf:
            break
        assert wait <= LONGEST_WAIT
        taken += not wait
        now += wait
    assert taken == limit + stop
