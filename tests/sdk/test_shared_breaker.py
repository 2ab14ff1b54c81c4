"""Agents behind one breaker, kept in their group's state: the work ends, and what fails is spared."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

from harness.failing_service import FailingService, calls_allowed, do_tasks
from hubbub import Agent
from hubbub.resilience import BreakerPolicy, BreakerState, TimeBased, Transition
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


async def test_the_work_ends_and_a_service_that_fails_half_of_its_calls_sees_few_probes(
    broker: MemoryBroker, make_agent: Callable[..., Agent]
) -> None:
    service = FailingService(SICK_SECONDS)
    published: list[Transition] = []
    agents = [make_agent(f"a{number}") for number in range(AGENTS)]

    async def take_part(agent: Agent) -> None:
        breaker = agent.breaker("svc", POLICY, publish=published.append, clock=asyncio.get_running_loop().time)
        async with breaker.running():
            await do_tasks(service, breaker, TASKS, random.Random(agent.name))

    for agent in agents:
        await agent.open()
        await agent.wait_for("online")
    async with asyncio.timeout(3600):
        await asyncio.gather(*map(take_part, agents))
    for agent in agents:
        await agent.close()

    assert service.done == AGENTS * TASKS
    went_to = Counter(change.after for change in published)
    assert went_to[BreakerState.OPEN]
    assert service.sick_calls <= calls_allowed(POLICY, went_to, AGENTS)
    assert went_to[BreakerState.HALF_OPEN] <= 1 + SICK_SECONDS / POLICY.wait_seconds + 1
    told = [message.frame.data for message in broker.log("g/_breakers").messages]
    assert len(told) == len(published), "each transition is an event of the group, once"
    print(f"{len(service.calls)} calls, {len(service.calls) - service.done} failed, {dict(went_to)}")
