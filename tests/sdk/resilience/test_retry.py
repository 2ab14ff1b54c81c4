"""Retries: which errors, how often, how long apart, and what makes them stop."""

import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub import Backoff
from hubbub.resilience import CircuitBreaker, CircuitOpen, RetryBudget, RetryPolicy


class Busy(Exception):
    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__("busy")
        self.retry_after = retry_after


def policy(**options: Any) -> RetryPolicy:
    values: dict[str, Any] = {"on": Busy, "source": random.Random(1), "backoff": Backoff(base=1.0, cap=8.0)}
    return RetryPolicy(**{**values, **options})


class Service:
    """Raises the errors that it was given, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.called_at: list[float] = []

    async def ask(self) -> str:
        self.called_at.append(asyncio.get_running_loop().time())
        return self.answer()

    def answer(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "well"


class TestCalls:
    async def test_it_tries_again_and_hands_over_the_answer(self) -> None:
        service, retry = Service(Busy(), Busy()), policy()
        assert await retry(service.ask)() == "well"
        assert len(service.called_at) == 3
        assert (retry.stats.calls, retry.stats.retries, retry.stats.recovered) == (1, 2, 1)

    async def test_at_the_end_the_last_error_is_raised_with_a_note(self) -> None:
        last = Busy()
        service, retry = Service(Busy(), Busy(), last), policy()
        with pytest.raises(Busy) as raised:
            await retry.call(service.ask)
        assert raised.value is last
        assert raised.value.__notes__ == ["given up after 3 attempt(s)"]
        assert retry.stats.gave_up == 1

    async def test_other_errors_are_raised_at_once_as_they_are(self) -> None:
        service = Service(ValueError())
        with pytest.raises(ValueError) as raised:
            await policy().call(service.ask)
        assert not hasattr(raised.value, "__notes__")
        assert len(service.called_at) == 1

    async def test_an_open_breaker_is_not_asked_again(self) -> None:
        breaker = CircuitBreaker("svc")
        breaker.trip()
        service = Service()
        with pytest.raises(CircuitOpen):
            await policy(on=Exception).call(breaker(service.ask))
        assert breaker.stats.refused == 1

    async def test_a_cancelled_call_is_over(self) -> None:
        service, retry = Service(*[Busy() for _ in range(100)]), policy(attempts=100)
        task = asyncio.ensure_future(retry.call(service.ask))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(service.called_at) == 1

    async def test_attempts_may_be_looped_over(self) -> None:
        service, numbers = Service(Busy(), Busy()), []
        answer = None
        async for attempt in policy().each_attempt():
            with attempt:
                numbers.append(attempt.number)
                answer = await service.ask()
        assert answer == "well"
        assert numbers == [1, 2, 3]

    async def test_a_loop_that_is_left_early_is_over(self) -> None:
        numbers = []
        async for attempt in policy().each_attempt():
            with attempt:
                numbers.append(attempt.number)
        assert numbers == [1]


class TestPlainFunctions:
    def test_without_a_loop_the_thread_sleeps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        slept: list[float] = []
        monkeypatch.setattr(time, "sleep", slept.append)
        service = Service(Busy(), Busy())
        assert policy()(service.answer)() == "well"
        assert len(slept) == 2
        assert all(0 < seconds <= 2 for seconds in slept)

    @pytest.mark.real_time
    async def test_in_a_worker_thread(self) -> None:
        service = Service(Busy(), Busy())
        assert await asyncio.to_thread(policy(backoff=Backoff(base=1e-3))(service.answer)) == "well"

    async def test_the_event_loop_is_never_put_to_sleep(self) -> None:
        with pytest.raises(RuntimeError, match="thread"):
            policy().call_plain(Service(Busy()).answer)


class TestDelays:
    @given(st.integers(0, 2**32), st.integers(1, 12))
    def test_they_are_drawn_from_under_a_ceiling_that_doubles(self, seed: int, attempt: int) -> None:
        retry = policy(attempts=20, source=random.Random(seed))
        delay = retry.decide(Busy(), attempt, 0.0).delay
        assert delay is not None
        assert 0 <= delay <= min(8.0, 2.0 ** (attempt - 1))

    @given(st.floats(0, 60), st.integers(0, 2**32))
    def test_nobody_comes_back_before_told_and_not_all_at_once(self, told: float, seed: int) -> None:
        delay = policy(source=random.Random(seed)).decide(Busy(told), 1, 0.0).delay
        assert delay is not None
        assert told <= delay <= told + 1.0

    async def test_they_are_waited(self) -> None:
        service = Service(Busy(20.0), Busy())
        await policy().call(service.ask)
        first, second, third = service.called_at
        assert 20.0 <= second - first <= 21.01
        assert 0 < third - second <= 2.01

    def test_a_wait_that_is_not_worth_it_is_not_begun(self) -> None:
        decision = policy(retry_after_max=10).decide(Busy(10.1), 1, 0.0)
        assert decision.delay is None
        assert "10.1" in decision.reason

    async def test_there_is_an_end_to_all_attempts_together(self) -> None:
        loop = asyncio.get_running_loop()
        service = Service(*[Busy(4.0) for _ in range(100)])
        retry = policy(attempts=100, max_seconds=20, clock=loop.time)
        with pytest.raises(Busy):
            await retry.call(service.ask)
        assert service.called_at[-1] - service.called_at[0] <= 20
        assert 3 <= len(service.called_at) <= 6


class TestBudget:
    async def test_calls_to_one_dependency_share_it(self) -> None:
        budget = RetryBudget(share=0, per_second=0, burst=5)
        one, other = policy(attempts=10, budget=budget), policy(attempts=10, budget=budget)
        services = [Service(*[Busy() for _ in range(10)]) for _ in range(4)]
        results = await asyncio.gather(
            *((one, other)[n % 2].call(service.ask) for n, service in enumerate(services)), return_exceptions=True
        )
        assert all(isinstance(result, Busy) for result in results)
        assert sum(len(service.called_at) for service in services) == 4 + 5
        assert one.stats.over_budget + other.stats.over_budget == 4
        assert any("budget" in note for result in results for note in result.__notes__)  # type: ignore[union-attr]

    def test_a_retry_that_is_not_made_costs_none(self) -> None:
        budget = RetryBudget(share=0, per_second=0, burst=1)
        retry = policy(budget=budget, attempts=2, max_seconds=10)
        for error, attempt, elapsed in [(ValueError(), 1, 0.0), (Busy(), 2, 0.0), (Busy(100), 1, 0.0), (Busy(), 1, 11)]:
            assert retry.decide(error, attempt, elapsed).delay is None
        assert budget.left == 1

    @given(
        st.lists(st.tuples(st.sampled_from(["call", "retry"]), st.floats(0, 5)), max_size=80),
        st.floats(0, 1),
        st.floats(0, 2),
        st.floats(1, 10),
    )
    def test_retries_stay_in_proportion_in_any_stretch_of_time(
        self, course: list[tuple[str, float]], share: float, per_second: float, burst: float
    ) -> None:
        now = 0.0
        budget = RetryBudget(share, per_second=per_second, burst=burst, clock=lambda: now)
        history: list[tuple[float, int, int]] = []
        for what, seconds in course:
            now += seconds
            if what == "call":
                budget.deposit()
                history.append((now, 1, 0))
            else:
                history.append((now, 0, int(budget.withdraw())))
        for first in range(len(history)):
            calls = retries = 0
            for at, made, granted in history[first:]:
                calls, retries = calls + made, retries + granted
                assert retries <= burst + share * calls + per_second * (at - history[first][0]) + 1e-6

    def test_what_is_left_is_granted(self) -> None:
        now = 0.0
        budget = RetryBudget(0.5, per_second=0.25, burst=2, clock=lambda: now)
        assert [budget.withdraw() for _ in range(3)] == [True, True, False]
        budget.deposit()
        budget.deposit()
        assert [budget.withdraw() for _ in range(2)] == [True, False]
        now = 4.0
        assert [budget.withdraw() for _ in range(2)] == [True, False]
        assert (budget.stats.calls, budget.stats.retries, budget.stats.refused) == (2, 4, 3)

    def test_threads_spend_each_retry_once(self) -> None:
        budget = RetryBudget(share=0, per_second=0, burst=500)
        with ThreadPoolExecutor(8) as threads:
            granted = list(threads.map(lambda _: budget.withdraw(), range(2000)))
        assert sum(granted) == 500

    @pytest.mark.parametrize("values", [{"share": -1}, {"per_second": -1}, {"burst": 0.5}])
    def test_a_budget_that_makes_no_sense_is_refused(self, values) -> None:
        with pytest.raises(ValueError):
            RetryBudget(**values)


def test_what_to_retry_has_to_be_said() -> None:
    with pytest.raises(TypeError):
        RetryPolicy()  # type: ignore[call-arg]


@pytest.mark.parametrize("settings", [{"attempts": 0}, {"max_seconds": 0}, {"retry_after_max": -1}])
def test_settings_that_make_no_sense_are_refused(settings) -> None:
    with pytest.raises(ValueError):
        policy(**settings)
