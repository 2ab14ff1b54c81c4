"""Following a topic without a socket of its own: each message once, in order, for as long as somebody reads.

    async for lines in Tail(topic, 5):  # from seq 5 on, then what comes

What comes while its reader is slow is read from the log later; only ephemeral messages are then missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import time
from typing import NamedTuple

from .catch_up import is_durable
from .topic import Run, Topic

AHEAD_BYTES = 128 * 1024
"""What is kept for a reader that is slow."""


class Line(NamedTuple):
    """A message, or (with `gap`) the reason why those from `seq` to `last` don't come."""

    seq: int
    """0 for an ephemeral message."""
    line: bytes
    header_size: int
    gap: str | None = None
    last: int = 0


class Tail:
    """A `Follower` of one topic that is read by one task."""

    def __init__(self, topic: Topic, next: int, follow: Callable[[Topic, Tail], None]) -> None:
        self._topic = topic
        self._next = next
        self._ahead: deque[tuple[Line, float]] = deque()
        self._ahead_bytes = 0
        self._stirred = asyncio.Event()
        self._closed = False
        follow(topic, self)

    # Follower -------------------------------------------------------------------------------------------------------

    def follow(self, run: Run) -> None:
        """A run has been delivered to the topic's live readers."""
        due = self._next
        for kept, _ in reversed(self._ahead):
            if kept.seq:
                due = kept.seq + 1
                break
        if run.first == due and self._ahead_bytes < AHEAD_BYTES:
            seq = run.first
            special = run.special or {}
            for index, line in enumerate(run.lines):
                header_size, expires = special.get(index, (0, 0.0))
                durable = is_durable(self._topic, line)
                self._ahead.append((Line(seq if durable else 0, line, header_size), expires))
                self._ahead_bytes += len(line)
                seq += durable
        self._stirred.set()

    def served_besides(self, sink: object) -> bool:
        """It listens."""
        return sink is not self

    @property
    def idle(self) -> bool:
        """The topic stays while somebody reads."""
        return self._closed

    def gone(self) -> None:
        """Nothing is left to be done."""

    # Reading --------------------------------------------------------------------------------------------------------

    async def read(self, patience: float) -> list[Line]:
        """What comes next; nothing if nothing came for `patience` seconds.

        Raises:
            LogError: the log can't be read.
        """
        lines = await self._read()
        if not lines:
            try:
                async with asyncio.timeout(patience):
                    await self._stirred.wait()
            except TimeoutError:
                return []
            lines = await self._read()
        return lines

    def close(self) -> None:
        """Follow no more."""
        self._closed = True
        self._topic.followers = tuple(each for each in self._topic.followers if each is not self)

    async def _read(self) -> list[Line]:
        self._stirred.clear()
        topic = self._topic
        now = time()
        if self._ahead and self._ahead[0][0].seq in (0, self._next):
            taken = [line for line, expires in self._ahead if not expires or expires > now]
            self._next = max([self._next, *(line.seq + 1 for line, _ in self._ahead if line.seq)])
            self._ahead.clear()
            self._ahead_bytes = 0
            return taken
        self._ahead.clear()
        self._ahead_bytes = 0
        while self._next <= topic.delivered:
            first = self._next
            chunk = topic.store.read_chunk(topic.log, first, topic.delivered, AHEAD_BYTES)
            if chunk is None:
                warm = asyncio.Event()
                topic.store.warm(topic.log, first, topic.delivered, AHEAD_BYTES, warm.set)
                await warm.wait()
                continue
            start = chunk.first if chunk.lines else chunk.next
            found = [Line(first, b"", 0, chunk.reason or "retention", start - 1)] if start > first else []
            special = chunk.special or {}
            for index, line in enumerate(chunk.lines):
                header_size, expires = special.get(index, (0, 0.0))
                if not expires or expires > now:
                    found.append(Line(start + index, line, header_size))
            self._next = chunk.next
            if found:
                return found
        return []
