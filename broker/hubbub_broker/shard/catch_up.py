"""Catch-up: readers that are behind are brought to the head from the log, a chunk at a time, in turn.

One for the whole process, so that a thousand readers who come back at once share the loop fairly with each other and
with live traffic: it does at most `SLICE_SECONDS` of work, then lets everything else run. A reader costs nothing while
its connection can take no more: it comes back into the round when the connection says so.
"""

from asyncio import AbstractEventLoop
from collections import OrderedDict, deque
from functools import partial
from time import perf_counter, time

from hubbub_broker.log import Chunk, LogError
from hubbub_broker.logs import get_logger
from hubbub_broker.metrics import Metrics
from hubbub_broker.wire import Special, frames, text_frame
from hubbub_protocol.codec import encode
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import Gap, Live

from .cursor import Cursor
from .filtered import SKIP_MESSAGES, Sieve, skip_frame
from .sink import Sink
from .topic import Topic

log = get_logger(__name__)

RETRY_SECONDS = 1.0
"""Wait before a read that failed is tried again."""

SLICE_SECONDS = 0.002
"""How long catch-up holds the loop in one go: below what a live message's latency would show."""

CHUNK_BYTES = 128 * 1024
"""How much is read for one reader in one go."""

_BEFORE_TOPIC = len(b'{"op":"msg","topic":"')

_CACHED_CHUNKS = 64
"""Encoded chunks kept for other readers who come by the same place: 8 MiB. Many readers that come back together read
the same history."""


Key = tuple[str, int, Filter | None]


class CatchUp:
    """Feeds cursors that are behind, and calls each one's `caught_up` when it has reached its topic's head."""

    def __init__(self, loop: AbstractEventLoop, metrics: Metrics) -> None:
        self._loop = loop
        self._metrics = metrics
        self._behind: dict[Sink, deque[Cursor]] = {}
        self._round: deque[Sink] = deque()
        self._in_round: set[Sink] = set()
        self._scheduled = False
        self._cache: OrderedDict[Key, tuple[bytes, int, int, int]] = OrderedDict()
        """By where it begins: a chunk's blob, what comes next, its messages, and how many went by behind the last."""

    def add(self, cursor: Cursor) -> None:
        """Bring this cursor to the head. It must not be live."""
        queue = self._behind.get(cursor.sink)
        if queue is None:
            queue = self._behind[cursor.sink] = deque()
        queue.append(cursor)
        self.wake(cursor.sink)

    def wake(self, sink: Sink) -> None:
        """The connection can take more."""
        if sink in self._behind and sink not in self._in_round:
            self._in_round.add(sink)
            self._round.append(sink)
            self._schedule()

    def forget(self, sink: Sink) -> None:
        """The connection is gone."""
        self._behind.pop(sink, None)

    @property
    def behind(self) -> int:
        """Cursors that are behind now."""
        return sum(len(queue) for queue in self._behind.values())

    @property
    def largest_lag(self) -> int:
        """Messages by which the slowest reader is behind."""
        return max((cursor.lag for queue in self._behind.values() for cursor in queue), default=0)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        end = perf_counter() + SLICE_SECONDS
        while self._round:
            sink = self._round.popleft()
            self._in_round.discard(sink)
            if self._serve(sink):
                self._in_round.add(sink)
                self._round.append(sink)
            if perf_counter() >= end:
                break
        if self._round:
            self._schedule()

    def _serve(self, sink: Sink) -> bool:
        """Give one connection one chunk. True if it can take another and there is one."""
        queue = self._behind.get(sink)
        if queue is None or not sink.writable:
            return False
        for _ in range(len(queue)):
            cursor = queue.popleft()
            if cursor.closed:
                continue
            if cursor.warming:
                queue.append(cursor)
                continue
            if self._advance(cursor):
                if not cursor.closed:
                    queue.append(cursor)
                break
        if not queue:
            self._behind.pop(sink, None)
            return False
        return any(not cursor.warming for cursor in queue)

    def _advance(self, cursor: Cursor) -> bool:
        """Send the cursor's next chunk. True if it stays behind."""
        topic = cursor.topic
        if cursor.next <= topic.delivered:
            key = (topic.name, cursor.next, cursor.filter)
            cached = self._cache.get(key)
            if cached is not None and cached[1] <= topic.delivered + 1:
                blob, cursor.next, count, passed = cached
                self._send(cursor, blob, count, passed)
            else:
                try:
                    chunk = topic.store.read_chunk(topic.log, cursor.next, topic.delivered, CHUNK_BYTES)
                except LogError as error:
                    self._put_off(cursor, error)
                    return True
                if chunk is None:
                    self._warm(cursor)
                    return True
                self._send_chunk(cursor, chunk, key)
        if cursor.next <= topic.delivered:
            return True
        cursor.caught_up(cursor)
        return False

    def _send_chunk(self, cursor: Cursor, chunk: Chunk, key: Key) -> None:
        topic = cursor.topic
        gap = chunk.first - cursor.next if chunk.lines else chunk.next - cursor.next
        if gap > 0:
            reason = chunk.reason or "retention"
            self._metrics.count_gap(reason)
            last = cursor.next + gap - 1
            cursor.sink.write(text_frame(encode(Gap(topic=topic.name, first=cursor.next, last=last, reason=reason))))
        cursor.next = chunk.next
        if not chunk.lines:
            return
        lines, special, passed = chunk.lines, chunk.special, 0
        if cursor.filter is not None:
            sieve = Sieve(topic.name, chunk.first, lines, special)
            lines, special, passed = sieve.through(cursor.filter, self._metrics)
        elif special is not None:
            lines, special = without_expired(topic, chunk.first, lines, special, time(), self._metrics)
        blob = frames(lines, special) if lines else b""
        if chunk.special is None and gap <= 0 and len(blob) <= 2 * CHUNK_BYTES:
            self._cache[key] = (blob, chunk.next, len(lines), passed)
            if len(self._cache) > _CACHED_CHUNKS:
                self._cache.popitem(last=False)
        self._send(cursor, blob, len(lines), passed)

    def _send(self, cursor: Cursor, blob: bytes, count: int, passed: int) -> None:
        self._metrics.catch_up_chunks += 1
        if blob:
            self._metrics.deliveries_replay += count
            self._metrics.bytes_out += len(blob)
            cursor.passed = passed
            cursor.sink.write(blob)
            return
        cursor.passed += passed
        if cursor.passed >= SKIP_MESSAGES:
            cursor.passed = 0
            cursor.sink.write(skip_frame(cursor.topic.name, cursor.next - 1))

    def _warm(self, cursor: Cursor) -> None:
        """What comes next is not in memory: let a thread fetch it, so that the disk holds nobody up."""
        self._metrics.reads_cold += 1
        cursor.warming = True
        topic = cursor.topic
        topic.store.warm(topic.log, cursor.next, topic.delivered, CHUNK_BYTES, partial(self._ready, cursor))

    def _put_off(self, cursor: Cursor, error: LogError) -> None:
        """The disk can't be read. The reader stays where it is, and is not sent past what it has not had."""
        log.error("log unreadable", topic=cursor.topic.name, seq=cursor.next, reason=str(error))
        cursor.warming = True
        self._loop.call_later(RETRY_SECONDS, self._ready, cursor)

    def _ready(self, cursor: Cursor) -> None:
        cursor.warming = False
        self.wake(cursor.sink)


def live_line(topic: str, seq: int) -> bytes:
    """The line that tells a reader that it has reached the head."""
    return encode(Live(topic=topic, seq=seq))


def without_expired(
    topic: Topic, first: int, lines: list[bytes], special: Special, now: float, metrics: Metrics
) -> tuple[list[bytes], Special | None]:
    """A run without the messages whose time is over, and with a `gap` where those with a seq stood.

    `lines[0]` has seq `first`; ephemeral lines among them take no seq.
    """
    kept: list[bytes] = []
    kept_special: Special = {}
    gone_first = gone_last = 0

    def tell() -> None:
        nonlocal gone_first
        if gone_first:
            metrics.count_gap("expired")
            kept.append(encode(Gap(topic=topic.name, first=gone_first, last=gone_last, reason="expired")))
            gone_first = 0

    seq = first
    for index, line in enumerate(lines):
        header_size, expires = special.get(index, (0, 0.0))
        has_seq = is_durable(topic, line)
        if expires and expires <= now:
            metrics.expired_dropped += 1
            if has_seq:
                gone_first = gone_first or seq
                gone_last = seq
        else:
            tell()
            if header_size:
                kept_special[len(kept)] = (header_size, 0.0)
            kept.append(line)
        seq += has_seq
    tell()
    return kept, kept_special or None


def is_durable(topic: Topic, line: bytes) -> bool:
    """Whether an encoded message of this topic has a seq: it then stands right behind the topic."""
    return line.startswith(b'"seq":', _BEFORE_TOPIC + len(topic.wire_name) + 2)
