"""A network that misbehaves, between an agent and any transport: a class for each fault.

    transport = FaultyTransport(broker.transport(), source, [Delay(0.0, 0.2), Cut(0.01), Duplicate(0.02)])

Each fault sees every frame on its way, in both directions, and says what becomes of it. A frame never overtakes another
and none is lost in the middle, because no stream does that; what a stream can do is end, or fall silent for good.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from hubbub.transport import ConnectFailed, Connection, ConnectionLost, Transport


class Fate(Enum):
    """What becomes of a connection at a frame."""

    PASS = "pass"
    CUT_BEFORE = "cut before"
    """The connection ends, and this frame is not delivered."""
    CUT_AFTER = "cut after"
    """This frame is delivered, and then the connection ends."""
    SILENCE = "silence"
    """From this frame on nothing is delivered in this direction, and nobody is told."""
    TWICE = "twice"
    """This frame is delivered twice."""


@dataclass(frozen=True)
class Delay:
    """Every frame takes its time: between `low` and `high` seconds, drawn anew for each."""

    low: float
    high: float

    def seconds(self, source: random.Random) -> float:
        return source.uniform(self.low, self.high)

    def fate(self, source: random.Random) -> Fate:
        return Fate.PASS


@dataclass(frozen=True)
class Cut:
    """The connection ends at a frame, with this probability; half the time the frame still arrives."""

    probability: float

    def seconds(self, source: random.Random) -> float:
        return 0.0

    def fate(self, source: random.Random) -> Fate:
        if source.random() >= self.probability:
            return Fate.PASS
        return source.choice((Fate.CUT_BEFORE, Fate.CUT_AFTER))


@dataclass(frozen=True)
class Silence:
    """One direction falls silent at a frame, with this probability."""

    probability: float

    def seconds(self, source: random.Random) -> float:
        return 0.0

    def fate(self, source: random.Random) -> Fate:
        return Fate.SILENCE if source.random() < self.probability else Fate.PASS


@dataclass(frozen=True)
class Duplicate:
    """A frame arrives twice, with this probability."""

    probability: float

    def seconds(self, source: random.Random) -> float:
        return 0.0

    def fate(self, source: random.Random) -> Fate:
        return Fate.TWICE if source.random() < self.probability else Fate.PASS


Fault = Delay | Cut | Silence | Duplicate


class FaultyTransport:
    """A transport whose connections have faults."""

    def __init__(
        self, inner: Transport, source: random.Random, faults: Sequence[Fault], *, refuse: float = 0.0
    ) -> None:
        """`refuse` is the probability that an attempt to connect fails."""
        self._inner = inner
        self._source = source
        self._faults = faults
        self._refuse = refuse
        self.healed = False
        """Set it, and no fault happens any more."""

    async def connect(self, url: str, headers: dict[str, str]) -> Connection:
        if not self.healed and self._source.random() < self._refuse:
            raise ConnectFailed("the network refuses")
        return FaultyConnection(await self._inner.connect(url, headers), self)

    def judge(self) -> tuple[float, Fate]:
        """How long the next frame takes, and what becomes of it."""
        if self.healed:
            return 0.0, Fate.PASS
        seconds = sum(fault.seconds(self._source) for fault in self._faults)
        fates = [fate for fault in self._faults if (fate := fault.fate(self._source)) is not Fate.PASS]
        return seconds, fates[0] if fates else Fate.PASS


class FaultyConnection:
    """A connection with faults. Each direction is a queue and a task that moves it on."""

    def __init__(self, inner: Connection, network: FaultyTransport) -> None:
        self._inner = inner
        self._network = network
        self._in: asyncio.Queue[bytes] = asyncio.Queue()
        self._out: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue()
        self._over: asyncio.Future[ConnectionLost] = asyncio.get_running_loop().create_future()
        self._closing = False
        self._tasks = [asyncio.create_task(self._carry_in()), asyncio.create_task(self._carry_out())]
        self._first = True

    async def receive(self) -> bytes:
        if self._in.empty():
            getting = asyncio.create_task(self._in.get())
            try:
                either: list[asyncio.Future[Any]] = [getting, self._over]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if getting.done():
                    return getting.result()
            finally:
                getting.cancel()
            raise self._over.result()
        return self._in.get_nowait()

    async def send(self, frame: bytes, *, binary: bool = False) -> None:
        if self._over.done():
            raise self._over.result()
        self._out.put_nowait((frame, binary))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        if not self._over.done():
            drained = asyncio.create_task(self._out.join())
            either: list[asyncio.Future[Any]] = [drained, self._over]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            drained.cancel()
        await self._inner.close(code, reason)
        self._end(ConnectionLost(code, reason))

    def abort(self) -> None:
        self._end(ConnectionLost())

    def _end(self, lost: ConnectionLost) -> None:
        if not self._over.done():
            self._over.set_result(lost)
            self._inner.abort()
            for task in self._tasks:
                if task is not asyncio.current_task():
                    task.cancel()

    async def _carry_in(self) -> None:
        try:
            while True:
                frame = await self._inner.receive()
                if not await self._carry(partial(self._in.put_nowait, frame)):
                    return
        except ConnectionLost as lost:
            self._end(lost)

    async def _carry_out(self) -> None:
        try:
            while True:
                frame, binary = await self._out.get()
                first, self._first = self._first, False
                if not await self._carry(partial(self._inner.send, frame, binary=binary), handshake=first):
                    return
                self._out.task_done()
        except ConnectionLost as lost:
            self._end(lost)

    async def _carry(self, deliver: Callable[[], Any], *, handshake: bool = False) -> bool:
        """Let a frame pass as the network will have it. False: nothing passes any more."""
        seconds, fate = self._network.judge()
        if seconds:
            await asyncio.sleep(seconds)
        if fate is Fate.SILENCE:
            return False
        if fate is Fate.CUT_BEFORE:
            self._end(ConnectionLost())
            return False
        times = 2 if fate is Fate.TWICE and not handshake else 1
        for _ in range(times):
            result = deliver()
            if isinstance(result, Awaitable):
                await result
        if fate is Fate.CUT_AFTER:
            await asyncio.sleep(0)
            self._end(ConnectionLost())
            return False
        return True
