"""What a connection has sent, taken a turn at a time: whoever sends much at once waits behind the others.

A turn of the event loop belongs to everybody. What a connection's bytes ask for is done until `TURN_SECONDS` are over;
the rest waits, in its order, for the next turn, and until it is done nothing more is read from the socket. So what
waits is bounded by what one read brings.
"""

from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from math import inf
from time import perf_counter
from typing import Protocol

from hubbub_broker.metrics import Metrics

TURN_SECONDS = 0.002
"""How long what one connection has sent may keep the loop: a tenth of what anyone would notice, and time enough for
some hundreds of publishes."""
LINES = 16
"""Lines between two looks at the clock."""

Take = Callable[[bytes], None]


class Source(Protocol):
    """Whose lines they are."""

    def receive_line(self, line: bytes) -> None:
        """One line."""

    def receive_binary(self, payload: bytes) -> None:
        """One message whose payload is bytes."""

    def stop_reading(self) -> None:
        """Nothing more is to come for now."""

    def resume_reading(self) -> None:
        """Go on."""


class Intake:
    """Between the frames of a connection and its session."""

    __slots__ = ("_binary", "_ends", "_line", "_loop", "_metrics", "_source", "_waiting")

    def __init__(self, source: Source, metrics: Metrics, loop: AbstractEventLoop) -> None:
        self._source = source
        self._line = source.receive_line
        self._binary = source.receive_binary
        self._metrics = metrics
        self._loop = loop
        self._waiting: deque[tuple[Take, bytes]] | None = None
        """What waits, in its order; None as long as nothing does, as on all connections but a few."""
        self._ends = inf
        """When this turn is over."""

    def begin(self) -> None:
        """Bytes have come: the turn begins."""
        self._ends = perf_counter() + TURN_SECONDS

    def text(self, payload: bytes) -> None:
        """A text frame: one line or more."""
        self._metrics.frames_in += 1
        self._metrics.bytes_in += len(payload)
        lines = [line for line in payload.split(b"\n") if line] if b"\n" in payload else None
        if self._waiting is not None or perf_counter() > self._ends:
            self._put_off([payload] if lines is None else lines)
        elif lines is None:
            self._line(payload)
        else:
            for start in range(0, len(lines), LINES):
                if start and perf_counter() > self._ends:
                    self._put_off(lines[start:])
                    return
                for line in lines[start : start + LINES]:
                    self._line(line)

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
            take, payload = waiting.popleft()
            take(payload)

    def _put_off(self, lines: list[bytes]) -> None:
        for line in lines:
            self._wait(self._line, line)

    def _wait(self, take: Take, payload: bytes) -> None:
        if self._waiting is None:
            self._waiting = deque()
            self._source.stop_reading()
            self._loop.call_soon(self._go_on)
        self._waiting.append((take, payload))

    def _go_on(self) -> None:
        waiting = self._waiting
        assert waiting is not None
        self.begin()
        while waiting:
            for _ in range(LINES):
                take, payload = waiting.popleft()
                take(payload)
                if not waiting:  # or the connection is gone, and has taken the rest along
                    break
            if perf_counter() > self._ends:
                break
        if waiting:
            self._loop.call_soon(self._go_on)
        else:
            self._waiting = None
            self._source.resume_reading()
