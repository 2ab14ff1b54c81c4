"""Agents behind one breaker, kept in their group's state: the work ends, and what fails is spared."""

import asyncio
import random
from collections.abc import Callable

from hubbub import Agent, Backoff, CircuitOpen
from hubbub.resilience import BreakerPolicy, BreakerState, SharedCircuitBreaker, TimeBased, Transition
from hubbub.testing import MemoryBroker

AGENTS = 20
TASKS = 30
"""That each of them has to get done."""
SICK_SECONDS = 120.0
POLICY = BreakerPolicy(
    window=TimeBased(seconds=10),
    minimum_calls=10,
    failure_rate=0.4,
    wait_seconds=10,
    probes=3,
    failures=(ConnectionError,),
)


class Service:
    """Fails half of its calls until it is well."""

    def __init__(self) -> None:
        self.source = random.Random(7)
        self.calls: list[float] = []
        self.done = 0

    async def work(self) -> None:
        now = asyncio.get_running_loop().time()
        self.calls.append(now)
        await asyncio.sleep(0.05)
        if now < SICK_SECONDS and self.source.random() < 0.5:
            raise ConnectionError("not well")
        self.done += 1


async def test_the_work_ends_and_a_service_that_fails_half_of_its_calls_sees_few_probes(
    broker: MemoryBroker, make_agent: Callable[..., Agent]
) -> None:
    service = Service()
    published: list[Transition] = []
    agents = [make_agent(f"a{number}") for number in range(AGENTS)]

    async def do_tasks(breaker: SharedCircuitBreaker, source: random.Random) -> None:
        left, failed = TASKS, 0
        while left:
            try:
                await breaker.call(service.work)
            except ConnectionError:
                failed += 1
                await asyncio.sleep(Backoff(base=0.1, cap=1.0).delay(failed, source))
            except CircuitOpen as refused:
                await asyncio.sleep(max(0.1, refused.retry_after or 0.0))
            else:
                left, failed = left - 1, 0

    async def take_part(agent: Agent) -> None:
        breaker = agent.breaker("svc", POLICY, publish=published.append, clock=asyncio.get_running_loop().time)
        async with breaker.running():
            await do_tasks(breaker, random.Random(agent.name))

    for agent in agents:
        await agent.open()
        await agent.wait_for("online")
    async with asyncio.timeout(3600):
        await asyncio.gather(*map(take_part, agents))
    for agent in agents:
        await agent.close()

    assert service.done == AGENTS * TASKS
    assert any(change.after is BreakerState.OPEN for change in published)
    half_open = sum(change.after is BreakerState.HALF_OPEN for change in published)
    closed = 1 + sum(change.after is BreakerState.CLOSED for change in published)
    sick = sum(at < SICK_SECONDS for at in service.calls)
    # Each time that it is closed the agents find out anew, some with calls under way by then; else there are probes.
    found_out = POLICY.minimum_calls + 2 * AGENTS
    assert sick <= closed * found_out + half_open * 2 * POLICY.probes
    assert half_open <= 1 + SICK_SECONDS / POLICY.wait_seconds + 1
    failed = len(service.calls) - service.done
    print(f"{len(service.calls)} calls, {failed} failed, half open {half_open} times, closed {closed - 1} times")
