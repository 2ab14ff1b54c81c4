"""Agents that share a circuit breaker, the store that they share it through, and the service that they call."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from hubbub.resilience import (
    BreakerPolicy,
    CircuitOpen,
    MemoryStateStore,
    SharedCircuitBreaker,
    StateEntry,
    Transition,
)


class Service:
    """Fails while it is not well. Remembers when it was called."""

    def __init__(self) -> None:
        self.is_well = True
        self.called_at: list[float] = []

    async def answer(self, seconds: float = 0.05) -> None:
        self.called_at.append(asyncio.get_running_loop().time())
        is_well = self.is_well
        await asyncio.sleep(seconds)
        if not is_well:
            raise ConnectionError("not well")


class Line:
    """One agent's way to the store: takes time, counts what is written, and can be cut."""

    def __init__(self, store: MemoryStateStore, latency: float = 0.005) -> None:
        self.store = store
        self.latency = latency
        self.is_cut = asyncio.Event()
        self.swallows_answers = False
        """Whether writes are done and then said to have failed."""
        self.written: list[str] = []

    async def get(self, key: str) -> tuple[Any, int]:
        await self._pass()
        return await self.store.get(key)

    async def put(self, key: str, value: Any, expected_version: int) -> int:
        await self._pass()
        self.written.append(key)
        version = await self.store.put(key, value, expected_version)
        if self.swallows_answers:
            raise ConnectionError("the answer was lost")
        return version

    async def watch(self, prefix: str) -> AsyncIterator[StateEntry]:
        await self._pass()
        entries = aiter(self.store.watch(prefix))
        cut = asyncio.ensure_future(self.is_cut.wait())
        coming = asyncio.ensure_future(anext(entries))
        try:
            while True:
                await asyncio.wait((coming, cut), return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(self.latency)
                if cut.done():
                    raise ConnectionError("the line is cut")
                yield coming.result()
                coming = asyncio.ensure_future(anext(entries))
        finally:
            coming.cancel()
            cut.cancel()
            await asyncio.gather(coming, cut, return_exceptions=True)

    async def _pass(self) -> None:
        if self.is_cut.is_set():
            raise ConnectionError("the line is cut")
        await asyncio.sleep(self.latency)

    @contextmanager
    def cut(self) -> Iterator[None]:
        self.is_cut.set()
        try:
            yield
        finally:
            self.is_cut.clear()


class Fleet:
    """Agents with a breaker each, of one name."""

    def __init__(self, policy: BreakerPolicy, size: int, **options: Any) -> None:
        self.store = MemoryStateStore()
        self.service = Service()
        self.policy = policy
        self.options = options
        self.lines: list[Line] = []
        self.breakers: list[SharedCircuitBreaker] = []
        self.published: list[Transition] = []
        self.heard: list[Transition] = []
        self.said_degraded: list[tuple[int, bool]] = []
        for _ in range(size):
            self.make()

    def make(self, *, skew: float = 0.0) -> SharedCircuitBreaker:
        """One more agent. Its wall clock is wrong by `skew` seconds."""
        loop = asyncio.get_running_loop()
        number = len(self.breakers)
        line = Line(self.store)
        breaker = SharedCircuitBreaker(
            "svc",
            self.policy,
            store=line,
            agent=f"a{number}",
            on_transition=self.heard.append,
            publish=self.published.append,
            on_degraded=lambda now: self.said_degraded.append((number, now)),
            clock=loop.time,
            wall=lambda: 1e9 + loop.time() + skew,
            source=random.Random(number),
            **self.options,
        )
        self.lines.append(line)
        self.breakers.append(breaker)
        return breaker

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Fleet"]:
        async with AsyncExitStack() as stack:
            for breaker in self.breakers:
                await stack.enter_async_context(breaker.running())
            yield self

    async def call(self, number: int) -> bool | None:
        """One call by one agent: whether it went well, or None if it was refused."""
        try:
            await self.breakers[number].call(self.service.answer)
        except ConnectionError:
            return False
        except CircuitOpen:
            return None
        return True

    async def call_for(self, seconds: float, every: float, agents: list[int] | None = None) -> None:
        """Every agent calls at its own pace, about so often, for so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds

        async def go_on(number: int) -> None:
            source = random.Random(number)
            while loop.time() < end:
                await asyncio.sleep(source.uniform(0, 2 * every))
                await self.call(number)

        await asyncio.gather(*(go_on(number) for number in (range(len(self.breakers)) if agents is None else agents)))

    async def until(self, what: Any, seconds: float = 100.0) -> None:
        """Wait for a condition, in virtual time."""
        async with asyncio.timeout(seconds):
            while not what():  # noqa: ASYNC110 - what is waited for tells nobody, and virtual time costs nothing
                await asyncio.sleep(0.01)

    @property
    def states(self) -> set[str]:
        return {breaker.state.value for breaker in self.breakers}
