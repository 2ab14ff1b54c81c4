"""A flow: one publisher's messages to one topic, and how many of them may be under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic_ns

from .checker import Checker
from .frame import text_frame
from .load import Load
from .mark import SEQUENCES, Run, pattern


class Flow:
    """Publishes, takes the answers, and follows how far the topic's readers are.

    In a closed loop it publishes as soon as its window has room; without a window, `publish` is called from outside.
    """

    __slots__ = (
        "_base",
        "_lines_per_frame",
        "_readers",
        "_sent",
        "_template",
        "_window",
        "_write",
        "acked",
        "limit",
        "load",
        "published",
        "slowest",
        "topic",
        "wait_for_ack",
        "wait_for_readers",
    )

    def __init__(
        self,
        load: Load,
        id: int,
        topic: str,
        *,
        payload: int,
        durable: bool,
        write: Callable[[bytes], None],
        readers: int = 0,
        window: int = 0,
        until: str = "acked",
        limit: int | None = None,
        lines_per_frame: int = 64,
    ) -> None:
        self.load = load
        self.topic = topic
        self.acked = Checker()
        self.published = 0
        self.limit = limit
        """How many it publishes in all; None is no limit."""
        self.slowest = 1
        """The least `next` of the topic's readers."""
        self.wait_for_ack = until in ("acked", "both")
        self.wait_for_readers = until in ("delivered", "both")
        self._readers = {1: readers} if readers else {}
        self._window = window
        self._base = id * SEQUENCES
        self._sent: deque[int] = deque()
        self._write = write
        self._lines_per_frame = lines_per_frame
        flag = b"" if durable else b',"ephemeral":true'
        self._template = (
            b'{"op":"pub","topic":"'
            + topic.encode()
            + b'","id":"%016d","data":"'
            + pattern(payload)
            + b'"'
            + flag
            + b"}"
        )

    def publish(self, count: int, due: int) -> None:
        """Publish so many messages now. `due` is when they should have been: the start of their latency, in ns."""
        base = self._base + self.published
        self.published += count
        self.load.published += count
        self._sent.extend([due] * count)
        template, step = self._template, self._lines_per_frame
        lines = [template % (key, key, due) for key in range(base + 1, base + count + 1)]
        self._write(b"".join(text_frame(lines[at : at + step]) for at in range(0, count, step)))

    def fill(self) -> None:
        """Publish as much as there is room for."""
        if not self._window or not self.load.sending:
            return
        arrived = self.published
        if self.wait_for_ack:
            arrived = self.acked.next - 1
        if self.wait_for_readers and self.slowest <= arrived:
            arrived = self.slowest - 1
        room = arrived + self._window - self.published
        if self.limit is not None and room > self.limit - self.published:
            room = self.limit - self.published
        if room > 0:
            self.publish(room, monotonic_ns())

    def reader_moved(self, before: int, after: int) -> None:
        """One of the topic's readers is further than it was (its `next`, before and after)."""
        readers = self._readers
        readers[after] = readers.get(after, 0) + 1
        left = readers[before] - 1
        if left:
            readers[before] = left
            return
        del readers[before]
        if before == self.slowest:
            self.slowest = min(readers)
            if self.wait_for_readers:
                self.fill()

    def take_answers(self, runs: list[Run]) -> None:
        """`ok`s have come, in this order."""
        acked, load, sent = self.acked, self.load, self._sent
        now = monotonic_ns()
        for _, first, count in runs:
            load.acked += count
            if acked.next == first:
                acked.next = first + count
            else:
                acked.take(first, count)
            due = [sent.popleft() for _ in range(min(count, len(sent)))]
            load.ack_latencies.extend([now - one for one in due if load.record_from <= one < load.record_to])
        if self.wait_for_ack:
            self.fill()
