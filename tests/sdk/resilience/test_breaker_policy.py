"""What opens a breaker, and what is a failure."""

import asyncio

import pytest

from hubbub.resilience import BreakerPolicy, BulkheadFull, CircuitOpen, Counts
from hubbub.resilience.breaker_policy import Verdict


@pytest.mark.parametrize(
    ("policy", "counts", "opens"),
    [
        (BreakerPolicy(), Counts(9, 9, 0), False),
        (BreakerPolicy(), Counts(10, 4, 0), False),
        (BreakerPolicy(), Counts(10, 5, 0), True),
        (BreakerPolicy(failure_rate=None, failure_threshold=3), Counts(2, 2, 0), False),
        (BreakerPolicy(failure_rate=None, failure_threshold=3), Counts(1000, 3, 0), True),
        (BreakerPolicy(failure_threshold=3), Counts(3, 3, 0), True),
        (BreakerPolicy(slow_call_seconds=1, slow_call_rate=0.5), Counts(10, 0, 4), False),
        (BreakerPolicy(slow_call_seconds=1, slow_call_rate=0.5), Counts(10, 0, 5), True),
        (BreakerPolicy(slow_call_seconds=1, slow_call_rate=0.5), Counts(9, 0, 9), False),
        (BreakerPolicy(failure_rate=1.0), Counts(10, 9, 0), False),
        (BreakerPolicy(failure_rate=1.0), Counts(10, 10, 0), True),
    ],
)
def test_it_opens_at_its_threshold_and_not_below(policy: BreakerPolicy, counts: Counts, opens: bool) -> None:
    assert bool(policy.reason_to_open(counts)) is opens


def test_the_reason_names_the_setting_and_the_counts() -> None:
    assert BreakerPolicy().reason_to_open(Counts(12, 7, 0)) == "7 of 12 calls failed (failure_rate 0.5)"


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (None, Verdict(False, False)),
        (ValueError(), Verdict(True, False)),
        (LookupError(), None),
        (KeyError(), None),
        (CircuitOpen("", ""), None),
        (BulkheadFull("", ""), None),
        (asyncio.CancelledError(), None),
        (KeyboardInterrupt(), None),
    ],
)
def test_which_errors_count(error: BaseException | None, verdict: Verdict | None) -> None:
    assert BreakerPolicy(ignored=LookupError).judge(error, None, 0.1) == verdict


def test_errors_that_are_not_named_say_that_the_dependency_is_well() -> None:
    policy = BreakerPolicy(failures=(ConnectionError, TimeoutError))
    assert policy.judge(ValueError(), None, 0.1) == Verdict(False, False)
    assert policy.judge(ConnectionResetError(), None, 0.1) == Verdict(True, False)


def test_errors_may_be_told_by_a_predicate() -> None:
    policy = BreakerPolicy(failures=lambda error: "503" in str(error))
    assert policy.judge(ValueError("503"), None, 0.1) == Verdict(True, False)
    assert policy.judge(ValueError("400"), None, 0.1) == Verdict(False, False)


def test_a_result_may_stand_for_a_failure() -> None:
    policy = BreakerPolicy(failed_result=lambda status: status >= 500)
    assert policy.judge(None, 503, 0.1) == Verdict(True, False)
    assert policy.judge(None, 200, 0.1) == Verdict(False, False)


def test_a_predicate_that_fails_counts_as_a_failure_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: object) -> bool:
        raise ZeroDivisionError

    assert BreakerPolicy(failures=broken).judge(ValueError(), None, 0.1) == Verdict(True, False)
    assert BreakerPolicy(failed_result=broken).judge(None, 200, 0.1) == Verdict(True, False)
    assert len(caplog.records) == 2


class TestSlow:
    def test_a_slow_call_is_a_failed_one(self) -> None:
        policy = BreakerPolicy(slow_call_seconds=1.0)
        assert policy.judge(None, None, 1.0) == Verdict(False, False)
        assert policy.judge(None, None, 1.1) == Verdict(True, True)

    def test_unless_slow_calls_have_a_rate_of_their_own(self) -> None:
        policy = BreakerPolicy(slow_call_seconds=1.0, slow_call_rate=0.9)
        assert policy.judge(None, None, 1.1) == Verdict(False, True)
        assert policy.judge(ValueError(), None, 1.1) == Verdict(True, True)

    def test_so_is_one_that_its_caller_gave_up_after_that_time(self) -> None:
        policy = BreakerPolicy(slow_call_seconds=1.0)
        assert policy.judge(asyncio.CancelledError(), None, 0.9) is None
        assert policy.judge(asyncio.CancelledError(), None, 1.1) == Verdict(True, True)


def test_the_wait_grows_to_its_bound() -> None:
    policy = BreakerPolicy(wait_seconds=10, wait_factor=2, wait_max=35)
    assert [policy.wait(trips) for trips in (1, 2, 3, 10_000)] == [10, 20, 35, 35]


@pytest.mark.parametrize(
    "settings",
    [
        {"failure_rate": 0},
        {"failure_rate": 1.1},
        {"failure_rate": None},
        {"slow_call_rate": 0.5},
        {"failure_threshold": 0},
        {"minimum_calls": 0},
        {"probes": 0},
        {"wait_seconds": 0},
        {"wait_seconds": float("nan")},
        {"probe_seconds": -1},
        {"wait_factor": 0.5},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings) -> None:
    with pytest.raises(ValueError):
        BreakerPolicy(**settings)
