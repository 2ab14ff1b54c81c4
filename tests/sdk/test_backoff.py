"""Delays between attempts."""

import random
from itertools import islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from hubbub import Backoff


@given(st.integers(0, 10_000), st.integers())
def test_a_delay_lies_under_its_ceiling(attempt: int, seed: int) -> None:
    backoff = Backoff()
    assert 0 <= backoff.delay(attempt, random.Random(seed)) <= backoff.ceiling(attempt) <= 10.0


def test_ceilings_double_up_to_the_cap() -> None:
    backoff = Backoff(base=0.1, cap=1.0)
    assert [backoff.ceiling(attempt) for attempt in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_the_jitter_is_full() -> None:
    source = random.Random(1)
    delays = [Backoff().delay(5, source) for _ in range(2000)]
    assert min(delays) < 0.1
    assert max(delays) > 3.1
    assert 1.5 < sum(delays) / len(delays) < 1.7


def test_a_thousand_agents_come_back_spread_out() -> None:
    first = sorted(Backoff().delay(3, random.Random(agent)) for agent in range(1000))
    assert all(later - earlier < 0.02 for earlier, later in pairwise(first))


def test_one_outage() -> None:
    delays = list(islice(Backoff(base=1, cap=4).delays(random.Random(7)), 100))
    assert len(delays) == 100
    assert max(delays) <= 4
