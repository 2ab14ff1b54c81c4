"""An open loop's times are fixed beforehand; the alarm rings at them."""

import asyncio
from itertools import islice, pairwise
from random import Random
from time import monotonic_ns

import pytest

from hubbub_bench.drivers.clock import Alarm
from hubbub_bench.drivers.schedule import due_times

SECOND = 10**9


def test_even_arrivals_are_evenly_spaced() -> None:
    assert list(islice(due_times(1000, 2000, "even", Random(1)), 4)) == [1000, 501_000, 1_001_000, 1_501_000]


def test_even_arrivals_keep_their_rate_when_it_does_not_divide_a_second() -> None:
    *_, last = islice(due_times(0, 3, "even", Random(1)), 3001)
    assert last == pytest.approx(1000 * SECOND, abs=10)


def test_poisson_arrivals_have_the_rate_and_are_the_same_for_a_seed() -> None:
    times = list(islice(due_times(0, 1000, "poisson", Random(7)), 20_001))
    assert times == list(islice(due_times(0, 1000, "poisson", Random(7)), 20_001))
    gaps = [after - before for before, after in pairwise(times)]
    assert sum(gaps) / len(gaps) == pytest.approx(SECOND / 1000, rel=0.03)
    variance = sum((gap - SECOND / 1000) ** 2 for gap in gaps) / len(gaps)
    assert variance**0.5 == pytest.approx(SECOND / 1000, rel=0.05), "exponential gaps vary by their mean"


async def test_the_alarm_rings_when_due_and_not_before_and_as_last_set() -> None:
    rung: list[int] = []
    done = asyncio.Event()

    def ring() -> None:
        rung.append(monotonic_ns())
        done.set()

    alarm = Alarm(ring)
    now = monotonic_ns()
    alarm.set(now + SECOND // 1000)
    alarm.set(now + SECOND // 100)
    await asyncio.wait_for(done.wait(), 10)
    assert len(rung) == 1
    assert rung[0] >= now + SECOND // 100
    done.clear()
    alarm.set(now)
    await asyncio.wait_for(done.wait(), 10)
    assert len(rung) == 2, "a time that has passed rings at once"
    alarm.close()
