"""A member that speaks frames: as little work as possible for each message, so that the broker is what is measured."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hubbub_bench.drivers.connection import Connection, DriverError, Redirected
from hubbub_bench.drivers.frame import text_frame, upgrade_request
from hubbub_bench.drivers.mark import SEQUENCES, BadMark, Sighting, read_mark
from hubbub_bench.peers import Address
from hubbub_protocol.codec import encode
from hubbub_protocol.frames import Ack, Frame, From, Hello, Ping, Rid, Sub
from hubbub_protocol.names import group_of

from .member import Member, Ways
from .outgoing import Outgoing
from .place import Place
from .tally import Tally

ANSWER_SECONDS = 60.0
"""How long the broker may take to answer a request: it may have thousands of connections to greet at once."""
BACK_SECONDS = 0.2
"""Wait before a member whose connection the broker ended comes back."""


class Line(Struct, gc=False):
    """What is read of a line of the broker's."""

    op: str
    topic: str = ""
    seq: int | None = None
    id: str | None = None
    data: Raw = Raw()
    attempt: int = 1
    rid: Rid | None = None
    code: str = ""
    message: str = ""
    next: int = 0
    dropped: int = 0
    reason: str = ""


_decode = msgspec.json.Decoder(Line).decode


class LastRun:
    """The frame that a conversation's readers got last, read once. Who gets the same bytes compares them instead."""

    __slots__ = ("messages", "text", "topic")

    def __init__(self) -> None:
        self.text = b""
        self.topic = ""
        self.messages: list[tuple[Sighting, int | None, int]] = []


class Wire(Connection):
    """A member's connection of the moment."""

    __slots__ = ("answers", "member")

    def __init__(self, member: RawMember, request: bytes) -> None:
        super().__init__(request)
        self.member = member
        self.answers: dict[Rid, asyncio.Future[Line]] = {}

    def on_text(self, text: bytes) -> None:
        """A text frame has come."""
        self.member.on_text(self, text)

    def on_failure(self, error: DriverError) -> None:
        """The broker hung up, or can't be understood."""
        for answer in self.answers.values():
            if not answer.done():
                answer.set_exception(error)
        self.member.on_failure(self, error)

    async def ask(self, request: Frame, rid: Rid) -> Line:
        """Send a request and wait for its answer.

        Raises:
            DriverError: if it is refused, or none comes.
        """
        answer: asyncio.Future[Line] = asyncio.get_running_loop().create_future()
        self.answers[rid] = answer
        self.write(text_frame([encode(request)]))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                line = await answer
        except TimeoutError:
            raise DriverError(f"no answer to {type(request).__name__} in {ANSWER_SECONDS:.0f} s") from None
        return line


class RawMember(Member):
    """One agent, one connection."""

    def __init__(self, ways: Ways, tally: Tally, name: str, last: dict[str, LastRun]) -> None:
        super().__init__(ways, tally, name)
        self._last = last
        self._wire: Wire | None = None
        self._by_topic: dict[str, Place] = {}
        self._by_flow: dict[int, Outgoing] = {}
        self._unsent: list[bytes] = []
        self._acks: dict[str, list[int]] = {}
        self._seed = 0
        self._away = False
        self._back: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Connect, subscribe where it was, and send again what has no answer."""
        self._by_topic = {place.topic: place for place in self.places}
        self._by_flow = {one.id: one for one in self.outgoing}
        self._seed += 1
        where = self._address()
        try:
            wire = await self._connect(where)
        except Redirected as elsewhere:
            wire = await self._connect(Address.parse(elsewhere.location).vouched_for(where.token, where.agent))
        await wire.ask(Hello(agent=where.agent or self.name, rid="hello"), "hello")
        for number, place in enumerate(self.places):
            ok = await wire.ask(self._sub(place, number), number)
            if place.seq == 0 and ok.next:
                place.seq = ok.next - 1
            place.arrive()
        self._away = False
        self.open(there=True)
        for one in self.outgoing:
            for sequence in list(one.waiting):
                self.publish(one, sequence)
        self.go_on()

    def _address(self) -> Address:
        """Where it connects. Whose conversations are all in one group says so: of several workers one has it."""
        where = self.ways.address
        groups = {group_of(place.topic) for place in self.places}
        if len(groups) != 1:
            return where
        return replace(where, path=f"{where.path}{'&' if '?' in where.path else '?'}group={groups.pop()}")

    async def _connect(self, where: Address) -> Wire:
        request = upgrade_request(where.host, where.port, where.path, self._seed, where.token)
        tls = ssl.create_default_context() if where.tls else None
        loop = asyncio.get_running_loop()
        try:
            _, wire = await loop.create_connection(lambda: Wire(self, request), where.host, where.port, ssl=tls)
        except OSError as error:
            raise DriverError(f"can't connect to {where.host}:{where.port}: {error}") from None
        self._wire = wire
        async with asyncio.timeout(ANSWER_SECONDS):
            await wire.upgraded
        return wire

    async def leave(self) -> None:
        """Drop the connection in the middle of whatever it is doing."""
        self.open(there=False)
        self._away = True
        for place in self.places:
            place.excused = True
        self._acks.clear()
        self.abandon()
        self._unsent.clear()
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.abort()

    async def close(self) -> None:
        """Say goodbye."""
        if self._back is not None:
            self._back.cancel()
        self._away = True
        if self._wire is not None:
            self._wire.close()

    def publish(self, outgoing: Outgoing, sequence: int) -> None:
        """Send it with what else this turn of the loop brings."""
        if self._wire is None:
            return  # it is sent when the connection comes
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        flag = b"" if self.ways.durable else b',"ephemeral":true'
        self._unsent.append(
            b'{"op":"pub","topic":"%b","id":"%016d","data":"%b"%b}'
            % (
                self.places[outgoing.place].topic.encode(),
                outgoing.base + sequence,
                outgoing.data(sequence),
                flag,
            )
        )

    def pause(self, paused: bool) -> None:
        """Leave what comes in the socket, or read it."""
        if self._wire is not None:
            self._wire.pause(paused)

    async def settle(self) -> None:
        """Ask for a pong, which comes after everything else."""
        if self._wire is not None:
            await self._wire.ask(Ping(rid="ping"), "ping")

    # From the connection --------------------------------------------------------------------------------------------

    def on_text(self, wire: Wire, text: bytes) -> None:
        """A text frame has come."""
        if wire is not self._wire:
            return
        if b'"op":"msg"' not in text[:64]:
            for line in text.split(b"\n"):
                if line:
                    self._take_line(wire, _decode(line), [])
            return
        topic = text.partition(b'"topic":"')[2].partition(b'"')[0].decode()
        last = self._last.get(topic)
        if last is not None and last.text == text:
            place = self._by_topic[topic]
            for seen, seq, attempt in last.messages:
                place.take(seen.flow, seen.sequence, seen.due, seq, attempt)
            return
        lines = [_decode(part) for part in text.split(b"\n")]
        messages: list[tuple[Sighting, int | None, int]] = []
        for one in lines:
            self._take_line(wire, one, messages)
        alike = len(messages) == len(lines) and all(one.topic == topic for one in lines)
        if last is not None and alike and self.ways.consumer == "none":
            last.text, last.messages = text, messages

    def on_failure(self, wire: Wire, error: DriverError) -> None:
        """The broker ended the connection: it is told in the report, and the member comes back if it may."""
        if wire is not self._wire or self._away:
            return
        code = wire.close_code or 0
        if not wire.broken and (code == 0 or code in (1001, 1013) or 4000 <= code < 4500):
            self.tally.hung_up[code] += 1
            self._wire = None
            self.open(there=False)
            self.abandon()
            for place in self.places:
                place.excused = True
            self._back = asyncio.get_running_loop().create_task(self._come_back())
        else:
            self.tally.fail(DriverError(f"{self.name}: {error}"))

    async def _come_back(self) -> None:
        await asyncio.sleep(BACK_SECONDS)
        try:
            await self.join()
        except (DriverError, TimeoutError) as error:
            self.tally.fail(DriverError(f"{self.name}: {error}"))

    def _take_line(self, wire: Wire, line: Line, messages: list[tuple[Sighting, int | None, int]]) -> None:
        match line.op:
            case "msg":
                place = self._by_topic.get(line.topic)
                if place is None:
                    self.tally.strays += 1
                    return
                seen = read_mark(bytes(line.data))
                messages.append((seen, line.seq, line.attempt))
                place.take(seen.flow, seen.sequence, seen.due, line.seq, line.attempt)
                if self.ways.consumer != "none" and line.seq is not None:
                    self._handle(line.topic, line.seq)
            case "ok" if line.rid is None and line.id is not None:
                flow, sequence = divmod(int(line.id), SEQUENCES)
                self._by_flow[flow].answer(sequence)
            case "ok" | "welcome" | "pong" if line.rid is not None:
                answer = wire.answers.pop(line.rid)
                if not answer.done():
                    answer.set_result(line)
            case "err":
                self._refused(wire, line)
            case "gap" if line.reason == "slow" and line.dropped:
                self.tally.told += line.dropped
                self._by_topic[line.topic].told += line.dropped
            case "gap":
                self.tally.gaps += 1
            case "live" | "goaway":
                pass
            case _:
                raise BadMark(f"not expected here: {line}")

    def _refused(self, wire: Wire, line: Line) -> None:
        error = DriverError(f"{self.name}: the broker refused ({line.code}): {line.message}")
        answer = wire.answers.pop(line.rid, None) if line.rid is not None else None
        if answer is None:
            self.tally.fail(error)
        elif not answer.done():
            answer.set_exception(error)

    # What it sends --------------------------------------------------------------------------------------------------

    def _sub(self, place: Place, rid: int) -> Sub:
        consumer = self.consumer_name()
        if consumer is not None:
            return Sub(topic=place.topic, consumer=consumer, max_unacked=self.ways.max_unacked, rid=rid)
        resume: Any = From(seq=place.seq + 1) if place.seq and self.ways.durable else "new"
        if place.live_since and self.ways.durable and not place.seq:
            resume = "all"  # it was there before the first message
        return Sub(topic=place.topic, start=resume, rid=rid)

    def _handle(self, topic: str, seq: int) -> None:
        if self.ways.handler:
            asyncio.get_running_loop().call_later(self.ways.handler, self._ack, topic, seq, self._wire)
        else:
            self._ack(topic, seq, self._wire)

    def _ack(self, topic: str, seq: int, wire: Wire | None) -> None:
        if wire is not self._wire:
            return  # it was delivered on a connection that is gone, and comes again
        if not self._acks:
            asyncio.get_running_loop().call_soon(self._flush_acks)
        self._acks.setdefault(topic, []).append(seq)

    def _flush(self) -> None:
        lines, self._unsent = self._unsent, []
        if self._wire is not None and lines:
            self._wire.write(b"".join(text_frame(lines[at : at + 64]) for at in range(0, len(lines), 64)))

    def _flush_acks(self) -> None:
        acks, self._acks = self._acks, {}
        consumer = self.consumer_name()
        if self._wire is not None and acks and consumer is not None:
            self._wire.write(
                text_frame([encode(Ack(topic=topic, consumer=consumer, seqs=seqs)) for topic, seqs in acks.items()])
            )
