"""The breaker of one process: around coroutine functions, plain functions and blocks, in tasks and threads."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from hubbub.resilience import BreakerPolicy, BreakerState, CircuitBreaker, CircuitOpen, CountBased, Counts, Transition

POLICY = BreakerPolicy(failure_rate=None, failure_threshold=3, wait_seconds=10, probes=2, slow_call_seconds=5)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("svc", POLICY, clock=clock)


@contextmanager
def failing():
    with pytest.raises(ConnectionError):
        yield


def state_of(breaker: CircuitBreaker) -> BreakerState:
    """Its state now: a property, of which a type checker would believe that it stays."""
    return breaker.state


def fail() -> None:
    raise ConnectionError


def break_it(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        with failing():
            breaker.call_plain(fail)
    assert state_of(breaker) is BreakerState.OPEN


class TestWaysIn:
    async def test_a_coroutine_function(self, breaker: CircuitBreaker) -> None:
        @breaker
        async def work(number: int) -> int:
            """Works."""
            if number < 0:
                raise ConnectionError
            return number + 1

        assert work.__doc__ == "Works."
        assert await work(1) == 2
        for _ in range(3):
            with failing():
                await work(-1)
        with pytest.raises(CircuitOpen) as refused:
            await work(1)
        assert (refused.value.name, refused.value.retry_after) == ("svc", 10.0)
        assert "svc is open" in str(refused.value)

    def test_a_plain_function_without_any_loop(self, breaker: CircuitBreaker) -> None:
        @breaker
        def work(number: int) -> int:
            return 1 // number

        assert work(1) == 1
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                work(0)
        with pytest.raises(CircuitOpen):
            work(1)

    async def test_blocks_of_either_kind(self, breaker: CircuitBreaker) -> None:
        async with breaker:
            pass
        for _ in range(3):
            with failing(), breaker:
                fail()
        with pytest.raises(CircuitOpen):
            async with breaker:
                raise AssertionError("not entered")
        with pytest.raises(CircuitOpen), breaker:
            raise AssertionError("not entered")

    async def test_an_object_whose_call_is_a_coroutine_function(self, breaker: CircuitBreaker) -> None:
        class Client:
            async def __call__(self) -> str:
                await asyncio.sleep(6)
                raise ConnectionError

        guarded: Any = breaker(Client())
        with failing():
            await guarded()
        assert breaker.counts.failures == 1

    def test_generators_are_refused(self, breaker: CircuitBreaker) -> None:
        async def stream():
            yield 1

        def rows():
            yield 1

        for function in (stream, rows):
            with pytest.raises(TypeError, match="generator"):
                breaker(function)

    async def test_blocks_of_many_tasks_and_of_two_breakers_are_kept_apart(self, clock: Clock) -> None:
        outer, inner = CircuitBreaker("outer", POLICY, clock=clock), CircuitBreaker("inner", POLICY, clock=clock)

        async def work(number: int) -> None:
            async with outer:
                try:
                    with inner:
                        await asyncio.sleep(number % 3)
                        raise ConnectionError
                except ConnectionError:
                    await asyncio.sleep(number % 2)

        results = await asyncio.gather(*(work(number) for number in range(9)), return_exceptions=True)
        assert results == [None] * 9
        assert outer.stats.succeeded == 9
        assert inner.stats.failed == 9


class TestHalfOpen:
    def test_probes_that_succeed_close_it(self, breaker: CircuitBreaker, clock: Clock) -> None:
        break_it(breaker)
        clock.now = 10.0
        breaker.call_plain(int)
        assert state_of(breaker) is BreakerState.HALF_OPEN
        breaker.call_plain(int)
        assert state_of(breaker) is BreakerState.CLOSED
        assert breaker.counts == Counts()

    def test_a_probe_that_fails_opens_it(self, breaker: CircuitBreaker, clock: Clock) -> None:
        break_it(breaker)
        clock.now = 10.0
        with failing():
            breaker.call_plain(fail)
        assert state_of(breaker) is BreakerState.OPEN
        with pytest.raises(CircuitOpen):
            breaker.call_plain(int)

    def test_so_does_a_slow_one(self, breaker: CircuitBreaker, clock: Clock) -> None:
        break_it(breaker)
        clock.now = 10.0
        with breaker:
            clock.now = 16.0
        assert state_of(breaker) is BreakerState.OPEN

    async def test_no_more_than_permitted_are_out(self, breaker: CircuitBreaker, clock: Clock) -> None:
        break_it(breaker)
        clock.now = 10.0
        let_go = asyncio.Event()
        probes = [asyncio.ensure_future(breaker.call(let_go.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(CircuitOpen, match="its probes are out"):
            await breaker.call(let_go.wait)
        let_go.set()
        await asyncio.gather(*probes)
        assert state_of(breaker) is BreakerState.CLOSED
        assert breaker.stats.probes == 2

    async def test_a_probe_that_is_called_off_gives_its_slot_back(self, breaker: CircuitBreaker, clock: Clock) -> None:
        break_it(breaker)
        clock.now = 10.0
        probe = asyncio.ensure_future(breaker.call(asyncio.Event().wait))
        await asyncio.sleep(0)
        probe.cancel()
        await asyncio.wait([probe])
        assert state_of(breaker) is BreakerState.HALF_OPEN
        for _ in range(2):
            breaker.call_plain(int)
        assert state_of(breaker) is BreakerState.CLOSED

    def test_a_call_from_before_has_no_say(self, breaker: CircuitBreaker, clock: Clock) -> None:
        with failing(), breaker:
            break_it(breaker)
            clock.now = 10.0
            for _ in range(2):
                breaker.call_plain(int)
            fail()
        assert state_of(breaker) is BreakerState.CLOSED
        assert breaker.counts == Counts()


class TestFallback:
    async def test_it_answers_what_is_refused_with_the_calls_arguments(self, breaker: CircuitBreaker) -> None:
        async def cached(number: int, *, unit: str) -> str:
            return f"{number} {unit}, from the cache"

        @breaker.guard(fallback=cached)
        async def work(number: int, *, unit: str) -> str:
            raise ConnectionError

        for _ in range(3):
            with failing():
                await work(1, unit="m")
        assert await work(1, unit="m") == "1 m, from the cache"
        assert breaker.stats.fallbacks == 1

    def test_it_may_answer_for_failures_too(self, breaker: CircuitBreaker) -> None:
        @breaker.guard(fallback=lambda: "cached", fallback_on=(CircuitOpen, ConnectionError))
        def work() -> str:
            raise ConnectionError

        assert [work() for _ in range(5)] == ["cached"] * 5
        assert breaker.stats.failed == 3
        assert breaker.stats.refused == 2

    async def test_a_plain_fallback_serves_a_coroutine_function(self, breaker: CircuitBreaker) -> None:
        breaker.trip()

        @breaker.guard(fallback=lambda: "cached")
        async def work() -> str:
            raise AssertionError

        assert await work() == "cached"

    def test_a_coroutine_fallback_does_not_serve_a_plain_one(self, breaker: CircuitBreaker) -> None:
        async def cached() -> None: ...

        with pytest.raises(TypeError, match="fallback"):
            breaker.guard(fallback=cached)(int)


class TestTelling:
    def test_transitions_are_told_in_order_and_counted(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        told: list[Transition] = []
        sent: list[Any] = []
        breaker = CircuitBreaker(
            "svc",
            POLICY,
            clock=clock,
            wall=lambda: 1e9 + clock.now,
            on_transition=told.append,
            publish=lambda event: sent.append(event.as_dict()),
        )
        with caplog.at_level(logging.INFO, "hubbub"):
            break_it(breaker)
            clock.now = 10.0
            for _ in range(2):
                breaker.call_plain(int)
        assert [(one.before.value, one.after.value) for one in told] == [
            ("closed", "open"),
            ("open", "half_open"),
            ("half_open", "closed"),
        ]
        assert sent == [one.as_dict() for one in told]
        assert sent[0] == {
            "breaker": "svc",
            "before": "closed",
            "after": "open",
            "epoch": 1,
            "at": 1e9,
            "reason": "3 of 3 calls failed (failure_threshold 3)",
            "by": "",
            "made_here": True,
        }
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]
        counted = breaker.stats.as_dict()
        assert {name: count for name, count in counted.items() if count} == {
            "calls": 5,
            "succeeded": 2,
            "failed": 3,
            "probes": 2,
            "opened": 1,
            "half_opened": 1,
            "closed": 1,
        }

    def test_a_listener_that_fails_harms_nobody_and_may_use_the_breaker(self, clock: Clock) -> None:
        seen = []

        def listen(transition: Transition) -> None:
            seen.append((transition.after, made.state, made.counts))
            raise ZeroDivisionError

        made = CircuitBreaker("svc", POLICY, clock=clock, on_transition=listen)
        break_it(made)
        assert seen == [(BreakerState.OPEN, BreakerState.OPEN, Counts())]
        assert made.stats.listener_errors == 1

    async def test_a_publication_may_be_awaited(self, clock: Clock) -> None:
        sent: list[str] = []

        async def send(transition: Transition) -> None:
            await asyncio.sleep(1)
            sent.append(transition.after)
            raise ConnectionError

        breaker = CircuitBreaker("svc", POLICY, clock=clock, publish=send)
        break_it(breaker)
        assert sent == []
        await asyncio.sleep(2)
        assert sent == ["open"]
        assert breaker.stats.listener_errors == 1

    async def test_publications_that_never_end_are_bounded(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        begun = []
        let_go = asyncio.Event()

        async def send(transition: Transition) -> None:
            begun.append(transition)
            await let_go.wait()

        breaker = CircuitBreaker("svc", POLICY, clock=clock, publish=send)
        for _ in range(105):
            breaker.trip()
        await asyncio.sleep(0)
        assert len(begun) == 100
        assert breaker.stats.listener_errors == 5
        assert "100 calls of a listener have not ended" in caplog.text
        let_go.set()
        await breaker._announcer.close(1.0)

    def test_without_an_event_loop_a_coroutine_has_nobody_to_await_it(self, clock: Clock) -> None:
        async def send(transition: Transition) -> None:
            raise AssertionError

        breaker = CircuitBreaker("svc", POLICY, clock=clock, publish=send)
        break_it(breaker)
        assert breaker.stats.listener_errors == 1

    def test_by_hand(self, breaker: CircuitBreaker) -> None:
        breaker.trip("deploying")
        with pytest.raises(CircuitOpen):
            breaker.call_plain(int)
        breaker.reset()
        assert breaker.call_plain(int) == 0


def test_rates_are_taken_when_the_minimum_is_reached_also_by_a_good_call(clock: Clock) -> None:
    breaker = CircuitBreaker("svc", BreakerPolicy(minimum_calls=4, window=CountBased(10)), clock=clock)
    for _ in range(3):
        with failing():
            breaker.call_plain(fail)
    assert state_of(breaker) is BreakerState.CLOSED
    breaker.call_plain(int)
    assert state_of(breaker) is BreakerState.OPEN


def test_threads_count_exactly_and_share_the_probes(clock: Clock) -> None:
    policy = BreakerPolicy(failure_rate=None, failure_threshold=400, wait_seconds=10, probes=3)
    breaker = CircuitBreaker("svc", policy, clock=clock)
    together = threading.Barrier(8)

    def work(_: int) -> None:
        together.wait()
        for _ in range(50):
            with failing():
                breaker.call_plain(fail)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert state_of(breaker) is BreakerState.OPEN
    assert breaker.stats.failed == 400

    clock.now = 10.0
    inside = threading.Semaphore(0)
    let_go = threading.Event()
    refused = threading.Barrier(6)

    def probe(_: int) -> bool:
        try:
            with breaker:
                inside.release()
                let_go.wait()
                return True
        except CircuitOpen:
            refused.wait()
            return False

    with ThreadPoolExecutor(8) as threads:
        results = [threads.submit(probe, number) for number in range(8)]
        for _ in range(3):
            inside.acquire()
        refused.wait()
        let_go.set()
    assert sum(result.result() for result in results) == 3
    assert state_of(breaker) is BreakerState.CLOSED
