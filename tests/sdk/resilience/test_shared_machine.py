"""A shared breaker under any interleaving: each step of each agent at the store is let through, or not, by itself.

Hypothesis decides which operation at the store goes on next, which fails, whose answer is lost, which agent learns of
changes, who dies, and when time passes. The agents are the real ones; only the store waits to be told.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from harness.virtual_time import VirtualTimeLoop
from hubbub.resilience import (
    BreakerPolicy,
    BreakerState,
    CircuitOpen,
    MemoryStateStore,
    SharedCircuitBreaker,
    StateEntry,
    Transition,
)

PROBE_SECONDS = 5.0
STORE_SECONDS = 3.0
WAIT_SECONDS = 20.0
CIRCUIT = "breakers/svc/circuit"


@dataclass
class Stepped:
    """One agent's way to the store, on which every operation waits for its turn."""

    store: MemoryStateStore
    waiting: list[asyncio.Future[bool]] = field(default_factory=list)
    is_cut: bool = False

    async def get(self, key: str) -> tuple[Any, int]:
        await self.turn()
        return await self.store.get(key)

    async def put(self, key: str, value: Any, expected_version: int) -> int:
        is_answer_lost = await self.turn()
        version = await self.store.put(key, value, expected_version)
        if is_answer_lost:
            raise ConnectionError("the answer was lost")
        return version

    async def watch(self, prefix: str) -> AsyncIterator[StateEntry]:
        async for entry in self.store.watch(prefix):
            await self.turn()
            yield entry

    async def turn(self) -> bool:
        if self.is_cut:
            raise ConnectionError("cut")
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        try:
            return await turn
        finally:
            if turn in self.waiting:
                self.waiting.remove(turn)


@dataclass
class Agent:
    breaker: SharedCircuitBreaker
    line: Stepped
    calls: list[tuple[asyncio.Task[None], asyncio.Future[bool]]] = field(default_factory=list)
    is_dead: bool = False


@dataclass
class Probe:
    """A call of the service while half open, by an agent that had the store."""

    began: float


class AnyInterleaving(RuleBasedStateMachine):
    """Agents, a store that is slow at will, and a service that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        asyncio.set_event_loop(self.loop)
        self.store = MemoryStateStore()
        self.agents: list[Agent] = []
        self.probes: dict[int, list[Probe]] = {}
        self.published: list[int] = []

    def teardown(self) -> None:
        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        try:
            self.converge()
        finally:
            self.loop.run_until_complete(end())
            asyncio.set_event_loop(None)
            self.loop.close()

    def settle(self) -> None:
        """Let everything go on that can, without time passing."""

        async def turns() -> None:
            for _ in range(20):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    @property
    def living(self) -> list[Agent]:
        return [agent for agent in self.agents if not agent.is_dead]

    @initialize(size=st.integers(2, 4), probes=st.integers(1, 2), is_open=st.booleans())
    def begin(self, size: int, probes: int, is_open: bool) -> None:
        self.policy = BreakerPolicy(
            failure_rate=None,
            failure_threshold=3,
            wait_seconds=WAIT_SECONDS,
            probes=probes,
            probe_seconds=PROBE_SECONDS,
        )
        for number in range(size):
            self.add(number)
        self.let_all_go_on(times=6)
        if is_open:  # where races are: all have waited, and whoever calls next wants to be the first
            tripping = self.loop.create_task(self.agents[0].breaker.trip())
            self.settle()
            self.let_all_go_on(times=6)
            assert tripping.done()
            self.loop.run_until_complete(asyncio.sleep(WAIT_SECONDS))

    def add(self, number: int) -> None:
        line = Stepped(self.store)

        def publish(transition: Transition) -> None:
            if not breaker.is_degraded:
                self.published.append(transition.epoch)

        breaker = SharedCircuitBreaker(
            "svc",
            self.policy,
            store=line,
            agent=f"a{number}",
            store_seconds=STORE_SECONDS,
            clock=self.loop.time,
            wall=lambda: 1e9 + self.loop.time(),
            source=random.Random(number),
            publish=publish,
        )
        agent = Agent(breaker, line)
        self.agents.append(agent)
        self.loop.create_task(breaker.start())
        self.settle()

    def release(self, agent: Agent, which: int, *, is_answer_lost: bool = False) -> None:
        turns = [turn for turn in agent.line.waiting if not turn.done()]
        if turns:
            turns[which % len(turns)].set_result(is_answer_lost)
            self.settle()

    # What can happen ------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.living)
    @rule(who=st.integers(0, 9))
    def call(self, who: int) -> None:
        agent = self.living[who % len(self.living)]
        end: asyncio.Future[bool] = self.loop.create_future()

        async def serve() -> None:
            view = agent.breaker._replica.view
            if view.state is BreakerState.HALF_OPEN and not agent.breaker.is_degraded:
                self.probes.setdefault(view.epoch, []).append(Probe(self.loop.time()))
            if not await end:
                raise ConnectionError("not well")

        async def go() -> None:
            with contextlib.suppress(ConnectionError, CircuitOpen):
                await agent.breaker.call(serve)

        agent.calls.append((self.loop.create_task(go()), end))
        self.settle()

    @precondition(lambda self: any(agent.calls for agent in self.living))
    @rule(who=st.integers(0, 9), which=st.integers(0, 9), well=st.booleans())
    def answer(self, who: int, which: int, well: bool) -> None:
        busy = [agent for agent in self.living if agent.calls]
        agent = busy[who % len(busy)]
        _, end = agent.calls.pop(which % len(agent.calls))
        if not end.done():
            end.set_result(well)
        self.settle()

    @precondition(lambda self: self.living)
    @rule(who=st.integers(0, 9), times=st.sampled_from([1, 2, 3]))
    def fail_quickly(self, who: int, times: int) -> None:
        for _ in range(times):
            self.call(who)
            agent = self.living[who % len(self.living)]
            _, end = agent.calls.pop()
            end.set_result(False)
            self.settle()

    @precondition(lambda self: any(agent.line.waiting for agent in self.living))
    @rule(who=st.integers(0, 9), which=st.integers(0, 9))
    def step(self, who: int, which: int) -> None:
        waiting = [agent for agent in self.living if agent.line.waiting]
        self.release(waiting[who % len(waiting)], which)

    @rule()
    def everyone_steps(self) -> None:
        self.let_all_go_on()

    @precondition(lambda self: any(agent.line.waiting for agent in self.living))
    @rule(who=st.integers(0, 9), which=st.integers(0, 9))
    def lose_an_answer(self, who: int, which: int) -> None:
        waiting = [agent for agent in self.living if agent.line.waiting]
        self.release(waiting[who % len(waiting)], which, is_answer_lost=True)

    @precondition(lambda self: len(self.living) > 1)
    @rule(who=st.integers(0, 9))
    def die(self, who: int) -> None:
        agent = self.living[who % len(self.living)]
        agent.is_dead = agent.line.is_cut = True
        for task in (*agent.breaker._tasks, *(task for task, _ in agent.calls)):
            task.cancel()
        self.settle()
        agent.line.waiting.clear()

    @rule()
    def join(self) -> None:
        if len(self.living) < 5:
            self.add(len(self.agents))

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.5, 5.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.settle()

    # What always holds ----------------------------------------------------------------------------------------------

    @invariant()
    def probes_are_bounded_for_all_agents_together(self) -> None:
        for epoch, probes in self.probes.items():
            assert len(probes) < 2 * self.policy.probes, f"epoch {epoch}: {probes}"
            # A slot is used a second time only when its lease is over, which began before the store agreed to it.
            lapsed = [one for one in probes if one.began + PROBE_SECONDS - STORE_SECONDS <= probes[-1].began]
            assert len(probes) <= self.policy.probes + len(lapsed), f"epoch {epoch}: {probes}"

    @invariant()
    def each_shared_transition_is_published_once(self) -> None:
        assert len(self.published) == len(set(self.published))

    def converge(self) -> None:
        """Once the store answers everyone, all see one state, and a service that is well is found to be."""
        if not self.living:
            return
        self.answer_all()
        for _ in range(600):
            self.let_all_go_on()
            self.loop.run_until_complete(asyncio.sleep(0.25))
            views = [agent.breaker._replica.view for agent in self.living]
            if (
                not any(agent.breaker.is_degraded for agent in self.living)
                and len({view.epoch for view in views}) == 1
                and views[0].state is BreakerState.CLOSED
            ):
                break
            self.call(0)
            self.let_all_go_on()
            self.answer_all()
        else:
            raise AssertionError([(agent.breaker._replica.view, agent.breaker.is_degraded) for agent in self.living])
        record, _ = self.loop.run_until_complete(self.store.get(CIRCUIT))
        assert {agent.breaker._replica.view.epoch for agent in self.living} == {record["epoch"] if record else 0}

    def let_all_go_on(self, times: int = 1) -> None:
        for agent in self.living * times:
            for _ in range(len(agent.line.waiting)):
                self.release(agent, 0)

    def answer_all(self) -> None:
        for agent in self.living:
            while agent.calls:
                _, end = agent.calls.pop()
                if not end.done():
                    end.set_result(True)
        self.settle()


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(max_examples=60, stateful_step_count=40)
