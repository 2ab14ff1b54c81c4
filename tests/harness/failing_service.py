"""A service that fails half of its calls for a while, agents that have work for it, and what a breaker spares it."""

import asyncio
import random
from collections import Counter

from hubbub import Backoff, CircuitOpen
from hubbub.resilience import BreakerPolicy, BreakerState, SharedCircuitBreaker


class FailingService:
    """Fails half of its calls until it is well."""

    def __init__(self, sick_seconds: float) -> None:
        self.source = random.Random(7)
        self.loop = asyncio.get_running_loop()
        self.sick_until = self.loop.time() + sick_seconds
        self.calls: list[float] = []
        self.done = 0

    async def work(self) -> None:
        now = self.loop.time()
        self.calls.append(now)
        await asyncio.sleep(0.05)
        if now < self.sick_until and self.source.random() < 0.5:
            raise ConnectionError("not well")
        self.done += 1

    @property
    def sick_calls(self) -> int:
        """Calls that it got while it was not well."""
        return sum(at < self.sick_until for at in self.calls)


async def do_tasks(service: FailingService, breaker: SharedCircuitBreaker, tasks: int, source: random.Random) -> None:
    """Get so many calls done, as agents do: again after a failure, and when the breaker says so."""
    left, failed = tasks, 0
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


def calls_allowed(policy: BreakerPolicy, went_to: Counter[BreakerState], agents: int) -> int:
    """The calls that a service may get while it fails half of them, by how often the breaker went where.

    Each time that it is closed the agents find out anew, some with calls under way by then; else there are probes.
    """
    found_out = policy.minimum_calls + 2 * agents
    closed = 1 + went_to[BreakerState.CLOSED]
    return closed * found_out + went_to[BreakerState.HALF_OPEN] * 2 * policy.probes
