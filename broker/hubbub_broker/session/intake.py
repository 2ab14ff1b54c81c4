"""What a connection has sent, taken a turn at a time: whoever sends much at once waits behind the others.

A turn of the event loop belongs to everybody. What a connection's bytes ask for is done until `TURN_SECONDS` are over;
the rest waits, in its order, for the next turn, and until it is done nothing more is read from the socket. So what
waits is bounded by what one read brings.
"""

from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from time import perf_counter
from typing import Protocol, TypeVar, cast

from hubbub_broker.metrics import Metrics
from hubbub_protocol.codec import decode_client_lines
from hubbub_protocol.frames import Pub

TURN_SECONDS = 0.002
"""How long what one connection has sent may keep the loop: a tenth of what anyone would notice, and time enough for
some hundreds of publishes."""
LINES = 16
"""Lines between two looks at the clock."""

AHEAD_BYTES = 256 * 1024
"""What may be decoded in one go: half a millisecond, and as much as is read from a socket at once."""

_PUBLISHES = {Pub}
"""What most lines are, and what alone is read ahead: others keep parts of what they came in for longer."""

T = TypeVar("T")


class Source(Protocol):
    """Whose lines they are."""

    def receive_line(self, line: bytes) -> None:
        """One line."""

    def receive_publish(self, pub: Pub) -> None:
        """One line that has been read already."""

    def receive_binary(self, payload: bytes) -> None:
        """One message whose payload is bytes."""

    def stop_reading(self) -> None:
        """Nothing more is to come for now."""

    def resume_reading(self) -> None:
        """Go on."""


class Intake:
    """Between the frames of a connection and its session."""

    __slots__ = ("_binary", "_ends", "_line", "_loop", "_metrics", "_publish", "_source", "_waiting")

    def __init__(self, source: Source, metrics: Metrics, loop: AbstractEventLoop) -> None:
        self._source = source
        self._line = source.receive_line
        self._publish = source.receive_publish
        self._binary = source.receive_binary
        self._metrics = metrics
        self._loop = loop
        self._waiting: deque[Callable[[], None]] | None = None
        """What waits, in its order; None as long as nothing does, as on all connections but a few."""
        self._ends = inf
        """When this turn is over."""

    def begin(self) -> None:
        """Bytes have come: the turn begins."""
        self._ends = perf_counter() + TURN_SECONDS

    def text(self, payload: bytes, frames: int = 1) -> None:
        """What came in text frames: one line or more."""
        self._metrics.frames_in += frames
        self._metrics.bytes_in += len(payload) + 1 - frames  # those that were joined have a newline more
        if b"\n" not in payload:
            if self._waiting is not None or perf_counter() > self._ends:
                self._wait(self._line, payload)
            else:
                self._line(payload)
            return
        found = decode_client_lines(payload) if len(payload) <= AHEAD_BYTES else None
        if found is not None and set(map(type, found)) == _PUBLISHES:
            self._take(self._publish, cast("list[Pub]", found))
        else:
            self._take(self._line, [line for line in payload.split(b"\n") if line])

    def _take(self, take: Callable[[T], None], items: list[T]) -> None:
        """Take them, a few at a time; what is left when the turn is over waits."""
        start = 0
        if self._waiting is None:
            while perf_counter() <= self._ends:
                for item in items[start : start + LINES]:
                    take(item)
                start += LINES
                if start >= len(items):
                    return
        for item in items[start:]:
            self._wait(take, item)

    def binary(self, payload: bytes) -> None:
        """A binary frame: one message."""
        self._metrics.frames_in += 1
        self._metrics.bytes_in += len(payload)
        if self._waiting is not None or perf_counter() > self._ends:
            self._wait(self._binary, payload)
        else:
            self._binary(payload)

    def finish(self) -> None:
        """Take what waits, all of it: the client is going, and what it sent before that counts."""
        waiting = self._waiting
        while waiting:
            waiting.popleft()()

    def _wait(self, take: Callable[[T], None], item: T) -> None:
        if self._waiting is None:
            self._waiting = deque()
            self._source.stop_reading()
            self._loop.call_soon(self._go_on)
        self._waiting.append(partial(take, item))

    def _go_on(self) -> None:
        waiting = self._waiting
        assert waiting is not None
        self.begin()
        while waiting:
            for _ in range(LINES):
                waiting.popleft()()
                if not waiting:  # or the connection is gone, and has taken the rest along
                    break
            if perf_counter() > self._ends:
                break
        if waiting:
            self._loop.call_soon(self._go_on)
        else:
            self._waiting = None
            self._source.resume_reading()
