"""Sliding windows, against counting everything anew."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.resilience import CountBased, Counts, TimeBased

calls = st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.booleans()), max_size=60)
"""(ticks since the last call, failed, slow)"""


@given(calls, st.integers(1, 8), st.integers(0, 40))
def test_a_time_window_holds_the_calls_of_its_buckets_and_no_others(
    history: list[tuple[int, bool, bool]], buckets: int, wait: int
) -> None:
    spec = TimeBased(seconds=4.0 * buckets, buckets=buckets)
    window = spec.make()
    now, made = 0, []
    for ticks, failed, slow in history:
        now += ticks
        window.record(now, failed=failed, slow=slow)
        made.append((now, failed, slow))
    now += wait
    inside = [call for call in made if call[0] // 4 > now // 4 - buckets]
    assert window.counts(now) == Counts(len(inside), sum(call[1] for call in inside), sum(call[2] for call in inside))
    # Nothing of the last `seconds - width` is missing, nothing older than `seconds` is left.
    assert all(call in inside for call in made if call[0] > now - spec.seconds + spec.width)
    assert all(call[0] > now - spec.seconds for call in inside)


@given(calls, st.integers(1, 8))
def test_a_count_window_holds_the_last_calls(history: list[tuple[int, bool, bool]], size: int) -> None:
    window = CountBased(size).make()
    for _, failed, slow in history:
        window.record(0.0, failed=failed, slow=slow)
    last = history[-size:]
    assert window.counts(0.0) == Counts(len(last), sum(call[1] for call in last), sum(call[2] for call in last))


@pytest.mark.parametrize("spec", [TimeBased(10.0, 5), CountBased(5)])
def test_a_window_forgets_when_told_and_does_not_grow(spec: TimeBased | CountBased) -> None:
    window = spec.make()
    for number in range(10_000):
        window.record(number / 10, failed=True, slow=False)
    held = [getattr(window, name) for name in ("_buckets", "_calls") if hasattr(window, name)]
    assert [len(one) for one in held] == [5]
    window.reset()
    assert window.counts(1000.0) == Counts()


def test_a_clock_that_was_read_by_two_threads_loses_no_call() -> None:
    window = TimeBased(10.0, 5).make()
    window.record(4.0, failed=False, slow=False)
    window.record(3.9, failed=True, slow=False)
    assert window.counts(4.0) == Counts(2, 1, 0)


@pytest.mark.parametrize("make", [lambda: TimeBased(0), lambda: TimeBased(1, 0), lambda: CountBased(0)])
def test_a_window_of_nothing_is_refused(make) -> None:
    with pytest.raises(ValueError, match="window"):
        make()
