"""The token bucket, against what it promises: a rate in the long run, a burst at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_broker.guard import TokenBucket


def test_a_burst_then_the_rate() -> None:
    bucket = TokenBucket(rate=2, burst=3, now=0)
    assert [bucket.take(0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert bucket.take(0.5) == 0
    assert bucket.take(0.5) == pytest.approx(0.5)


@given(st.lists(st.floats(0, 3), max_size=80), st.floats(0.1, 50), st.integers(1, 20))
def test_it_never_gives_more_than_it_says(steps: list[float], rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst, now=100.0)
    now, taken = 100.0, 0
    for step in steps:
        now += step
        wait = bucket.take(now)
        taken += wait == 0
        assert taken <= burst + (now - 100.0) * rate + 1e-6
        if wait:
            assert 0 < wait <= 1 / rate + 1e-9
