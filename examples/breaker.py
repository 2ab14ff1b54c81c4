"""Three agents call the same service, and share one circuit breaker through their group.

The service breaks down. The agents' failures are added up, so after a few in all nobody asks it any more; each is told
so at once, and goes on with something else. Then one probe at a time finds out that it is well again, and all go on.
"""

import asyncio

from hubbub import Agent, CircuitOpen
from hubbub.resilience import BreakerPolicy, SharedCircuitBreaker, TimeBased, Transition

POLICY = BreakerPolicy(window=TimeBased(10.0), failure_threshold=5, wait_seconds=0.5, probes=1)


class Service:
    """Some service on the network, which is down for a while."""

    def __init__(self) -> None:
        self.is_down = True
        self.calls = 0

    async def complete(self, prompt: str) -> str:
        self.calls += 1
        if self.is_down:
            raise ConnectionError("the service is down")
        return prompt.upper()


async def work(breaker: SharedCircuitBreaker, service: Service, until_done: int) -> int:
    """Ask until so many answers have come. How often this agent was spared a call."""
    done = spared = 0
    while done < until_done:
        try:
            await breaker.call(service.complete, "hello")
            done += 1
        except CircuitOpen:
            spared += 1
        except ConnectionError:
            pass
        await asyncio.sleep(0.05)
    return spared


def tell(change: Transition) -> None:
    if change.made_here:
        print(f"{change.breaker}: {change.before} -> {change.after} by {change.by.partition('.')[0]} ({change.reason})")


async def main() -> None:
    service = Service()
    async with (
        Agent("ann", group="lab") as ann,
        Agent("bob", group="lab") as bob,
        Agent("eve", group="lab") as eve,
        ann.breaker("model", POLICY, report_seconds=0.1, on_transition=tell).running() as anns,
        bob.breaker("model", POLICY, report_seconds=0.1, on_transition=tell).running() as bobs,
        eve.breaker("model", POLICY, report_seconds=0.1, on_transition=tell).running() as eves,
    ):
        await anns.reset("a new day")
        working = [asyncio.create_task(work(breaker, service, until_done=3)) for breaker in (anns, bobs, eves)]
        await asyncio.sleep(2.0)
        print(f"after 2 s the service that is down was called {service.calls} times")
        service.is_down = False
        spared = sum([await each for each in working])
        print(f"all are done; they were spared {spared} calls")


asyncio.run(main())
