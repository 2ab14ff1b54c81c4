"""A member that is an agent of the SDK: what whoever writes one sees."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from hubbub import Agent, Gap, HubbubError, Message, Receipt
from hubbub_bench.drivers.connection import DriverError
from hubbub_bench.drivers.mark import read_mark

from .member import Member, Ways
from .outgoing import Outgoing
from .place import Place
from .tally import Tally

START_SECONDS = 60.0
CLOSE_SECONDS = 10.0


class SdkMember(Member):
    """One `hubbub.Agent` after the other: each leaves as a program does that ends, and a new one goes on."""

    def __init__(self, ways: Ways, tally: Tally, name: str) -> None:
        super().__init__(ways, tally, name)
        self._agent: Agent | None = None
        self._reading = asyncio.Event()
        self._reading.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self) -> None:
        """Make an agent, and wait until all that it reads is subscribed."""
        where = self.ways.address
        agent = Agent(where.agent or self.name, url=where.url, token=where.token or None, local=False)
        await agent.open()
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._subscribe(agent)
        except (HubbubError, TimeoutError) as error:
            why = agent.last_failure or error
            await agent.close(0)
            raise DriverError(f"{self.name}: {why}") from None
        self._agent = agent
        self.open(there=True)
        for one in self.outgoing:
            for sequence in list(one.waiting):
                self.publish(one, sequence)
        self.go_on()

    async def leave(self) -> None:
        """End the agent: what it accepted is delivered first."""
        self.open(there=False)
        for place in self.places:
            place.excused = True
        agent, self._agent = self._agent, None
        if agent is not None:
            await agent.close(CLOSE_SECONDS)
        self.abandon()
        for task in tuple(self._tasks):
            task.cancel()

    async def close(self) -> None:
        """End it for good."""
        await self.leave()

    def publish(self, outgoing: Outgoing, sequence: int) -> None:
        """Hand it to the SDK in pipelined form."""
        if self._agent is not None:
            self._run(self._publish(self._agent, outgoing, sequence))

    def pause(self, paused: bool) -> None:
        """Let handlers wait, or go on."""
        if paused:
            self._reading.clear()
        else:
            self._reading.set()

    async def settle(self) -> None:
        """Wait until what was accepted is confirmed."""
        if self._agent is not None:
            await self._agent.flush()

    async def _subscribe(self, agent: Agent) -> None:
        consumer = self.consumer_name()
        for place in self.places:
            handler = self._handler(place)
            if consumer is not None:
                agent.on(place.topic, consumer=consumer, max_unacked=self.ways.max_unacked, dedup=None)(handler)
                await agent.consumption(place.topic, consumer).ready()
                place.arrive()
                continue
            came_back = bool(place.live_since) and self.ways.durable
            start: Any = {"seq": place.seq + 1} if came_back else "new"
            subscription = agent.subscribe(place.topic, start=start, on_gap=partial(self._gap, place))
            await subscription.ready()
            place.arrive()
            self._run(self._read(subscription, handler))

    async def _read(self, messages: Any, handler: Callable[[Message], Awaitable[None]]) -> None:
        try:
            async for message in messages:
                await handler(message)
        except HubbubError as error:
            self.tally.fail(DriverError(f"{self.name}: {error}"))

    def _handler(self, place: Place) -> Callable[[Message], Awaitable[None]]:
        seconds = self.ways.handler

        async def handle(message: Message) -> None:
            if not self._reading.is_set():
                await self._reading.wait()
            seen = read_mark(message.raw)
            place.take(seen.flow, seen.sequence, seen.due, message.seq, message.attempt)
            if seconds:
                await asyncio.sleep(seconds)

        return handle

    def _gap(self, place: Place, gap: Gap) -> None:
        if gap.reason == "slow" and gap.dropped:
            self.tally.told += gap.dropped
            place.told += gap.dropped
        else:
            self.tally.gaps += 1

    async def _publish(self, agent: Agent, outgoing: Outgoing, sequence: int) -> None:
        try:
            future = await agent.submit(
                self.places[outgoing.place].topic,
                outgoing.data(sequence).decode(),
                id=f"{outgoing.base + sequence:016d}",
                ephemeral=not self.ways.durable,
            )
        except HubbubError as error:
            if agent is self._agent:
                self.tally.fail(DriverError(f"{self.name}: {error}"))
            return
        future.add_done_callback(lambda done: self._answered(done, agent, outgoing, sequence))

    def _answered(self, done: Future[Receipt], agent: Agent, outgoing: Outgoing, sequence: int) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            outgoing.answer(sequence)
        elif agent is self._agent:
            self.tally.fail(DriverError(f"{self.name}: {error}"))

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
