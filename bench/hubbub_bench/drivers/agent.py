"""An agent: one connection that publishes a flow, or subscribes to a topic, or both."""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import Any

from hubbub_protocol.codec import decode_broker, encode
from hubbub_protocol.frames import Err, Frame, Gap, Goaway, Hello, Live, Ok, Ping, Pong, Rid, Sub, Welcome

from .checker import Checker
from .connection import Connection, DriverError
from .flow import Flow
from .frame import received_text_frame, text_frame
from .load import Load
from .mark import BadMark, Deliveries, read_deliveries, read_ids

ANSWER_SECONDS = 60.0
"""How long the broker may take to answer a request: it may have thousands of connections to greet at once."""

_MSG = b'"op":"msg"'
_OK = b'"op":"ok"'
_RID = b'"rid"'


class LastFrame:
    """The frame that a topic's readers got last, read once. Who gets the same bytes compares them instead."""

    __slots__ = ("deliveries", "frame")

    def __init__(self) -> None:
        self.frame = b""
        """Header and all: nearly always that is what one read from the socket returns."""
        self.deliveries = Deliveries(0, [], [])


class Agent(Connection):
    """One agent. `checkers` judge what it gets, by flow; `flow` is what it publishes."""

    __slots__ = ("_answers", "_flows", "_last", "checkers", "flow", "load", "name")

    def __init__(
        self, load: Load, name: str, request: bytes, last: LastFrame | None = None, flows: dict[int, Flow] | None = None
    ) -> None:
        super().__init__(request)
        self.load = load
        self.name = name
        self.flow: Flow | None = None
        self.checkers: dict[int, Checker] = {}
        self._flows = flows or {}
        self._last = last or LastFrame()
        self._answers: dict[Rid, asyncio.Future[Frame]] = {}

    async def greet(self) -> None:
        """Shake hands and say hello.

        Raises:
            DriverError: if the broker does not want it.
        """
        await self._wait(self.upgraded, "the handshake")
        await self._ask(Hello(agent=self.name, rid="hello"), "hello")

    async def subscribe(self, topic: str, start: str = "new") -> None:
        """Subscribe, from `new` or `all`."""
        await self._ask(Sub(topic=topic, start=start, rid="sub"), "sub")

    async def settle(self) -> None:
        """Return when everything that the broker had sent by now is here."""
        await self._ask(Ping(rid="ping"), "ping")

    # From the connection --------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        last = self._last
        if data == last.frame and self.splitter.between_frames:
            self._deliver(last.deliveries)
        else:
            super().data_received(data)

    def on_text(self, text: bytes) -> None:
        lines = text.count(b"\n") + 1
        if text.count(_MSG) == lines:
            last = self._last
            last.frame, last.deliveries = received_text_frame(text), read_deliveries(text, lines)
            self._deliver(last.deliveries)
        elif self.flow is not None and text.count(_OK) == lines and _RID not in text:
            self.flow.take_answers(read_ids(text, lines))
        else:
            for line in text.split(b"\n"):
                if line:
                    self._take_line(line)

    def on_failure(self, error: DriverError) -> None:
        failure = DriverError(f"{self.name}: {error}")
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(failure)
        self.load.fail(failure)

    def _deliver(self, deliveries: Deliveries) -> None:
        load = self.load
        load.delivered += deliveries.count
        if load.time_deliveries:
            now, begin, end = monotonic_ns(), load.record_from, load.record_to
            load.latencies.extend([now - due for due in deliveries.stamps if begin <= due < end])
        if load.delivered >= load.goal:
            load.reach_goal()
        for id, first, count in deliveries.runs:
            checker = self.checkers.get(id)
            if checker is None:
                load.strays += count
                continue
            before = checker.next
            if before == first:
                checker.next = first + count
            else:
                checker.take(first, count)
            if checker.next != before and id in self._flows:
                self._flows[id].reader_moved(before, checker.next)

    def _take_line(self, line: bytes) -> None:
        if _MSG in line:
            self._deliver(read_deliveries(line, 1))
            return
        answer = decode_broker(line)
        match answer:
            case Welcome(rid=rid) | Pong(rid=rid) | Ok(rid=rid) if rid is not None:
                self._answers.pop(rid).set_result(answer)
            case Ok() if self.flow is not None:
                self.flow.take_answers(read_ids(line, 1))
            case Err():
                raise DriverError(f"the broker refused ({answer.code}): {answer.message}")
            case Gap():
                self.load.gaps += 1
            case Goaway():
                raise DriverError(f"the broker is leaving: {answer.reason}")
            case Live():
                pass
            case _:
                raise BadMark(f"not expected here: {line[:200]!r}")

    async def _ask(self, request: Frame, rid: str) -> None:
        self._answers[rid] = answer = asyncio.get_running_loop().create_future()
        self.write(text_frame([encode(request)]))
        await self._wait(answer, rid)

    async def _wait(self, answer: asyncio.Future[Any], what: str) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await answer
        except TimeoutError:
            raise DriverError(f"{self.name}: no answer to {what} in {ANSWER_SECONDS:.0f} s") from None
