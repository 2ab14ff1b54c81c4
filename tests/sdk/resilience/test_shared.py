"""A breaker that agents share, on virtual time: what fifty of them do to a service and to a store."""

import asyncio
import threading
from itertools import pairwise

import pytest

from harness.breaker_fleet import Fleet, Line
from hubbub.resilience import BreakerPolicy, CircuitOpen, CountBased, MemoryStateStore, SharedCircuitBreaker

POLICY = BreakerPolicy(wait_seconds=20, probes=3, probe_seconds=5)
MANY = 50


async def open_it(fleet: Fleet, by: int = 0) -> None:
    fleet.service.is_well = False
    for _ in range(POLICY.minimum_calls):
        await fleet.call(by)
    await fleet.until(lambda: fleet.states == {"open"})


class TestOpening:
    async def test_one_agents_failures_protect_all(self) -> None:
        async with Fleet(POLICY, MANY).running() as fleet:
            await open_it(fleet)
            assert await asyncio.gather(*(fleet.call(number) for number in range(MANY))) == [None] * MANY
            assert len(fleet.service.called_at) == POLICY.minimum_calls

    async def test_failures_that_no_agent_sees_enough_of_are_added_up(self) -> None:
        async with Fleet(POLICY, MANY).running() as fleet:
            fleet.service.is_well = False
            assert set(await asyncio.gather(*(fleet.call(number) for number in range(MANY)))) == {False}
            await fleet.until(lambda: fleet.states == {"open"}, 2.0)

    async def test_one_agent_that_fails_alone_among_many_opens_nothing(self) -> None:
        size = 20
        async with Fleet(POLICY, size).running() as fleet:
            well = asyncio.ensure_future(fleet.call_for(45, 0.5, list(range(1, size))))
            await asyncio.sleep(15)
            for _ in range(100):
                with pytest.raises(ZeroDivisionError):
                    async with fleet.breakers[0]:
                        raise ZeroDivisionError
                await asyncio.sleep(0.2)
            await well
            assert fleet.states == {"closed"}
            assert fleet.heard == []

    async def test_what_failed_before_it_closed_does_not_count_again(self) -> None:
        async with Fleet(POLICY, 5).running() as fleet:
            await open_it(fleet)
            fleet.service.is_well = True
            await fleet.breakers[1].reset()
            await fleet.until(lambda: fleet.states == {"closed"})
            fleet.service.is_well = False
            assert [await fleet.call(0) for _ in range(POLICY.minimum_calls - 1)] == [False] * 9
            await asyncio.sleep(5)
            assert fleet.states == {"closed"}
            assert all(breaker.counts.failures == 9 for breaker in fleet.breakers)


class TestProbing:
    @pytest.mark.parametrize("size", [1, 10, MANY])
    async def test_a_failing_service_sees_as_many_probes_whatever_the_number_of_agents(self, size: int) -> None:
        async with Fleet(POLICY, size).running() as fleet:
            await open_it(fleet)
            before, began = len(fleet.service.called_at), asyncio.get_running_loop().time()
            await fleet.call_for(300, 0.5)
            spent = asyncio.get_running_loop().time() - began
            probes = fleet.service.called_at[before:]
            # Each period begins a whole wait after the last one, and its first failure ends it.
            periods = 1 + sum(later - earlier > 1 for earlier, later in pairwise(probes))
            assert 10 <= periods <= spent / POLICY.wait_seconds
            assert len(probes) <= POLICY.probes * periods
            assert fleet.states <= {"open", "half_open"}

    async def test_when_it_is_well_again_it_closes_for_all_after_as_many_probes_as_it_takes(self) -> None:
        async with Fleet(POLICY, MANY).running() as fleet:
            await open_it(fleet)
            await fleet.call_for(10, 0.5)
            fleet.service.is_well = True
            calling = asyncio.ensure_future(fleet.call_for(30, 0.5))
            before = len(fleet.service.called_at)
            await fleet.until(lambda: "closed" in fleet.states, POLICY.wait_seconds + 2)
            assert len(fleet.service.called_at) - before == POLICY.probes
            await fleet.until(lambda: fleet.states == {"closed"}, 1.0)
            await calling

    async def test_each_transition_is_made_and_published_once_and_heard_by_all(self) -> None:
        async with Fleet(POLICY, MANY).running() as fleet:
            await open_it(fleet)
            fleet.service.is_well = True
            await fleet.call_for(30, 0.5)
            assert fleet.states == {"closed"}
            assert [(one.epoch, one.after.value) for one in fleet.published] == [
                (1, "open"),
                (2, "half_open"),
                (3, "closed"),
            ]
            for epoch in (1, 2, 3):
                heard = [one for one in fleet.heard if one.epoch == epoch]
                assert len(heard) == MANY
                assert len({(one.by, one.reason) for one in heard}) == 1

    async def test_agents_that_die_with_all_probes_lose_them_by_their_deadline(self) -> None:
        async with Fleet(POLICY, 5).running() as fleet:
            await open_it(fleet)
            await asyncio.sleep(POLICY.wait_seconds)
            fleet.service.is_well = True
            dead = [asyncio.ensure_future(fleet.breakers[n].call(fleet.service.answer, 1e6)) for n in (0, 1)]
            await fleet.until(lambda: all(breaker.stats.probes for breaker in fleet.breakers[:2]))
            with fleet.lines[0].cut(), fleet.lines[1].cut():
                for task in dead:
                    task.cancel()
                await asyncio.wait(dead)
                assert await fleet.call(2) is True
                assert await fleet.call(3) is None, "two of three slots are with the dead"
                await asyncio.sleep(POLICY.probe_seconds)
                assert [await fleet.call(3) for _ in range(2)] == [True, True]
                await fleet.until(lambda: {breaker.state for breaker in fleet.breakers[2:]} == {"closed"}, 1.0)

    async def test_a_probe_that_ends_too_late_has_no_say(self) -> None:
        async with Fleet(POLICY, 2).running() as fleet:
            await open_it(fleet)
            await asyncio.sleep(POLICY.wait_seconds)
            late = asyncio.ensure_future(fleet.breakers[0].call(fleet.service.answer, 10.0))
            await asyncio.sleep(POLICY.probe_seconds + 1)
            fleet.service.is_well = True
            assert [await fleet.call(1) for _ in range(3)] == [True] * 3
            await fleet.until(lambda: fleet.states == {"closed"}, 1.0)
            with pytest.raises(ConnectionError):
                await late
            await asyncio.sleep(1)
            assert fleet.states == {"closed"}


class TestStore:
    async def test_ordinary_calls_are_never_written_one_by_one(self) -> None:
        size = 20
        async with Fleet(POLICY, size).running() as fleet:
            await fleet.call_for(60, 0.2)
            calls = len(fleet.service.called_at)
            written = sum(len(line.written) for line in fleet.lines)
            assert calls > 4_000
            assert written <= size * (60 / 10 + 2), "a healthy agent reports three times in a window"

    async def test_while_calls_fail_all_reports_together_stay_near_their_bound(self) -> None:
        policy = BreakerPolicy(minimum_calls=10**6)
        size = 10
        async with Fleet(policy, size, reports_per_second=4.0, report_seconds=0.1).running() as fleet:
            calls = 0

            async def fail_now_and_then(number: int) -> None:
                nonlocal calls
                for turn in range(150):
                    fleet.service.is_well = turn % 3 > 0
                    await fleet.call(number)
                    calls += 1
                    await asyncio.sleep(0.1)

            began = asyncio.get_running_loop().time()
            await asyncio.gather(*(fail_now_and_then(number) for number in range(size)))
            spent = asyncio.get_running_loop().time() - began
            assert fleet.states == {"closed"}
            assert calls == 150 * size
            written = sum(len(line.written) for line in fleet.lines)
            assert written <= 4 * spent + 2 * size, "and a first round, when nobody knows how many there are"

    async def test_an_open_breaker_asks_nobody(self) -> None:
        async with Fleet(POLICY, 5).running() as fleet:
            await open_it(fleet)
            await asyncio.sleep(2)
            before = [len(line.written) for line in fleet.lines]
            await fleet.call_for(10, 0.01)
            assert [len(line.written) for line in fleet.lines] == before

    async def test_who_leaves_takes_its_report_along(self) -> None:
        fleet = Fleet(POLICY, 3)
        async with fleet.running():
            await asyncio.gather(*(fleet.call(number) for number in range(3)))
            await asyncio.sleep(1)
            assert sum("/reports/" in key for key in fleet.store._entries) == 3
        assert not [key for key in fleet.store._entries if "/reports/" in key]

    async def test_the_report_of_who_died_is_cleared_away(self) -> None:
        async with Fleet(POLICY, 3).running() as fleet:
            await asyncio.gather(*(fleet.call(number) for number in range(3)))
            await asyncio.sleep(1)
            fleet.lines[2].is_cut.set()
            await asyncio.sleep(12 * 30)
            await asyncio.gather(fleet.call(0), fleet.call(1))
            await asyncio.sleep(11)
            await asyncio.gather(fleet.call(0), fleet.call(1))
            await asyncio.sleep(11)
            there = [key for key in fleet.store._entries if "/reports/" in key]
            assert len(there) == 2
            assert not any(key.endswith(fleet.breakers[2].member) for key in there)

    async def test_a_write_whose_answer_is_lost_is_found_again(self) -> None:
        async with Fleet(POLICY, 3).running() as fleet:
            fleet.lines[0].swallows_answers = True
            fleet.service.is_well = False
            for _ in range(POLICY.minimum_calls):
                await fleet.call(0)
            await fleet.until(lambda: fleet.states == {"open"})
            fleet.lines[0].swallows_answers = False
            await fleet.until(lambda: not fleet.breakers[0].is_degraded)
            assert {breaker._replica.view.epoch for breaker in fleet.breakers} == {1}


class TestWithoutTheStore:
    async def test_each_agent_goes_on_by_its_local_view_and_says_so(self, caplog: pytest.LogCaptureFixture) -> None:
        async with Fleet(POLICY, 3).running() as fleet:
            with fleet.lines[0].cut():
                await fleet.until(lambda: fleet.breakers[0].is_degraded)
                fleet.service.is_well = False
                for _ in range(POLICY.minimum_calls):
                    assert await fleet.call(0) is False
                assert fleet.breakers[0].state == "open"
                assert await fleet.call(0) is None
                await asyncio.sleep(POLICY.wait_seconds)
                fleet.service.is_well = True
                assert [await fleet.call(0) for _ in range(4)] == [True] * 4
                assert [breaker.state for breaker in fleet.breakers] == ["closed"] * 3
            await fleet.until(lambda: not fleet.breakers[0].is_degraded)
            assert [now for number, now in fleet.said_degraded if number == 0] == [False, True, False]
            assert fleet.breakers[0].stats.degradations == 1
            assert [record for record in caplog.records if "local view" in record.message]

    async def test_when_it_is_back_the_shared_state_counts(self) -> None:
        async with Fleet(POLICY, 3).running() as fleet:
            with fleet.lines[0].cut():
                await fleet.until(lambda: fleet.breakers[0].is_degraded)
                fleet.service.is_well = False
                for _ in range(POLICY.minimum_calls):
                    await fleet.call(1)
                await fleet.until(lambda: fleet.breakers[2].state == "open")
                assert fleet.breakers[0].state == "closed"
            await fleet.until(lambda: fleet.breakers[0].state == "open")

    async def test_failures_seen_meanwhile_are_told_when_it_is_back(self) -> None:
        async with Fleet(POLICY, 3).running() as fleet:
            fleet.service.is_well = False
            with fleet.lines[0].cut():
                await fleet.until(lambda: fleet.breakers[0].is_degraded)
                for _ in range(POLICY.minimum_calls - 1):
                    assert await fleet.call(0) is False
            await fleet.until(lambda: not fleet.breakers[0].is_degraded)
            await fleet.until(lambda: fleet.breakers[1].counts.failures == 9, 2.0)
            await fleet.call(1)
            await fleet.until(lambda: fleet.states == {"open"}, 2.0)

    async def test_it_starts_without_one_and_joins_later(self) -> None:
        fleet = Fleet(POLICY, 2)
        fleet.lines[1].is_cut.set()
        async with fleet.running():
            assert [breaker.is_degraded for breaker in fleet.breakers] == [False, True]
            await open_it_alone(fleet)
            fleet.lines[1].is_cut.clear()
            await fleet.until(lambda: fleet.states == {"open"})

    async def test_a_store_that_does_not_answer_has_failed(self) -> None:
        async with Fleet(POLICY, 1, store_seconds=2.0).running() as fleet:
            await open_it(fleet)
            await asyncio.sleep(POLICY.wait_seconds)
            fleet.lines[0].latency = 1e6
            began = asyncio.get_running_loop().time()
            assert await fleet.call(0) is False
            assert asyncio.get_running_loop().time() - began < 2.1
            assert fleet.breakers[0].is_degraded

    async def test_a_record_that_is_none_is_a_failure_of_the_store(self) -> None:
        async with Fleet(POLICY, 2).running() as fleet:
            version = await fleet.store.put("breakers/svc/circuit", {"state": "ajar"}, 0)
            await fleet.until(lambda: all(breaker.is_degraded for breaker in fleet.breakers))
            assert await fleet.call(0) is True
            await fleet.store.put("breakers/svc/circuit", None, version)
            await fleet.until(lambda: not any(breaker.is_degraded for breaker in fleet.breakers))

    async def test_a_report_that_is_none_is_passed_over(self, caplog: pytest.LogCaptureFixture) -> None:
        async with Fleet(POLICY, 2).running() as fleet:
            await fleet.store.put("breakers/svc/reports/x", [], 0)
            await fleet.until(lambda: sum("report of x" in record.message for record in caplog.records) == 2)
            await open_it(fleet)

    async def test_when_the_record_is_removed_all_begin_anew(self) -> None:
        async with Fleet(POLICY, 3).running() as fleet:
            await open_it(fleet)
            _, version = await fleet.store.get("breakers/svc/circuit")
            await fleet.store.put("breakers/svc/circuit", None, version)
            await fleet.until(lambda: fleet.states == {"closed"})
            await open_it(fleet, by=1)
            assert (await fleet.store.get("breakers/svc/circuit"))[0]["state"] == "open"


async def open_it_alone(fleet: Fleet) -> None:
    fleet.service.is_well = False
    for _ in range(POLICY.minimum_calls):
        await fleet.call(0)
    await fleet.until(lambda: fleet.breakers[0].state == "open")


class TestClocks:
    @pytest.mark.parametrize("skew", [-3600.0, 3600.0])
    async def test_a_wrong_clock_among_those_who_watch_moves_no_probe(self, skew: float) -> None:
        fleet = Fleet(POLICY, 3)
        fleet.make(skew=skew)
        async with fleet.running():
            await open_it(fleet, by=3)
            before, began = len(fleet.service.called_at), asyncio.get_running_loop().time()
            await fleet.call_for(100, 0.5)
            probes = fleet.service.called_at[before:]
            assert probes[0] - began >= POLICY.wait_seconds - 0.1
            periods = 1 + sum(later - earlier > 1 for earlier, later in pairwise(probes))
            assert 3 <= periods <= 100 / POLICY.wait_seconds
            assert len(probes) <= POLICY.probes * periods

    async def test_who_comes_in_later_waits_for_what_is_left(self) -> None:
        fleet = Fleet(POLICY, 1)
        async with fleet.running():
            await open_it(fleet)
            await asyncio.sleep(12)
            late = fleet.make()
            async with late.running():
                assert late.state == "open"
                with pytest.raises(CircuitOpen) as refused:
                    await late.call(fleet.service.answer)
                assert refused.value.retry_after == pytest.approx(8, abs=0.2)

    async def test_and_if_its_clock_is_wrong_one_wait_at_most(self) -> None:
        fleet = Fleet(POLICY, 1)
        async with fleet.running():
            await open_it(fleet)
            late = fleet.make(skew=-3600.0)
            async with late.running():
                with pytest.raises(CircuitOpen) as refused:
                    await late.call(fleet.service.answer)
                assert refused.value.retry_after == POLICY.wait_seconds


class TestThreads:
    @pytest.mark.real_time
    async def test_a_plain_function_in_a_thread_may_be_a_probe_and_on_the_loop_may_not(self) -> None:
        policy = BreakerPolicy(wait_seconds=1e-3, probes=1)
        breaker = SharedCircuitBreaker("svc", policy, store=MemoryStateStore(), agent="joe")
        threads = []

        @breaker
        def work() -> None:
            threads.append(threading.current_thread())

        closed = asyncio.Event()
        breaker._announcer._listeners = (lambda one: closed.set() if one.after == "closed" else None, None)
        async with breaker.running():
            await breaker.trip()
            await asyncio.sleep(0.01)  # the wait is over then, whatever the machine does
            with pytest.raises(CircuitOpen):
                work()
            await asyncio.to_thread(work)
            assert breaker.stats.probes == 1
            async with asyncio.timeout(10):
                await closed.wait()
            work()
            assert threads == [threads[0], threading.current_thread()]

    @pytest.mark.real_time
    async def test_failures_in_threads_open_it(self) -> None:
        store = MemoryStateStore()
        one, other = (SharedCircuitBreaker("svc", POLICY, store=store, agent=name) for name in ("a", "b"))
        opened = asyncio.Event()

        def fail() -> None:
            with pytest.raises(ZeroDivisionError), one:
                raise ZeroDivisionError

        async with one.running(), other.running():
            other._announcer._listeners = (lambda _: opened.set(), None)
            await asyncio.gather(*(asyncio.to_thread(fail) for _ in range(10)))
            async with asyncio.timeout(10):
                await opened.wait()
            assert other.state == "open"


async def test_before_start_and_after_close_it_works_alone() -> None:
    fleet = Fleet(POLICY, 1)
    breaker = fleet.breakers[0]
    fleet.service.is_well = False
    for _ in range(POLICY.minimum_calls):
        assert await fleet.call(0) is False
    assert breaker.state == "open"
    await breaker.reset()
    async with breaker.running():
        await open_it(fleet)
    await breaker.close()
    with pytest.raises(RuntimeError, match="started before"):
        await breaker.start()
    assert await fleet.call(0) is None
    await asyncio.sleep(POLICY.wait_seconds)
    fleet.service.is_well = True
    assert [await fleet.call(0) for _ in range(3)] == [True] * 3
    assert breaker.state == "closed"


async def test_by_hand_it_is_tripped_and_reset_for_all() -> None:
    async with Fleet(POLICY, 4).running() as fleet:
        await fleet.breakers[0].trip("maintenance")
        await fleet.until(lambda: fleet.states == {"open"})
        assert {one.reason for one in fleet.heard} == {"maintenance"}
        await fleet.breakers[3].reset()
        await fleet.until(lambda: fleet.states == {"closed"})


async def test_settings_that_make_no_sense_are_refused() -> None:
    store = Line(MemoryStateStore())
    with pytest.raises(TypeError, match="TimeBased"):
        SharedCircuitBreaker("svc", BreakerPolicy(window=CountBased(10)), store=store, agent="a")
    for name in ("", "a/b"):
        with pytest.raises(ValueError, match="name"):
            SharedCircuitBreaker(name, store=store, agent="a")
    with pytest.raises(ValueError, match="report_seconds"):
        SharedCircuitBreaker("svc", store=store, agent="a", report_seconds=0)
