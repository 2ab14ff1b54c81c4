"""Reading messages back: a chunk at a time for readers that are behind, one at a time, by time, by id.

Everything that is handed out has been checked: the record's checksum, its mark, its seq and its topic.
"""

import asyncio
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple
from zlib import crc32

from hubbub_broker.logs import get_logger

from .errors import LogDamaged
from .files import NOT_CACHED, Files
from .record import (
    EXPIRES,
    EXPIRES_AT,
    MESSAGE,
    MESSAGE_READ,
    MESSAGE_SIZE,
    PREFIX_SIZE,
    SPECIAL,
    Message,
    decode_message,
)
from .segment import Segment, Shelf, Span
from .sidecar import NotCached
from .stats import LogStats
from .syncer import Syncer
from .topic import TopicLog

_log = get_logger(__name__)

READ_MAX = 256 * 1024
"""Bytes of one read."""
GAP_MAX = 8 * 1024
"""Bytes between two records of a topic that are read along rather than cost a read of their own."""
DENSE = 4
"""Where at least one byte in so many is wanted, a whole stretch is read at once."""

RETENTION, RESET = "retention", "reset"


class Chunk:
    """A run of a topic's messages.

    `lines` are the messages from seq `first` on, without holes; `next` is what to ask for next. `first` is above what
    was asked for where something is gone, and `reason` says why. `special` has, by index in `lines`, (header_size,
    expires) of those that have either; None when there are none.
    """

    __slots__ = ("first", "lines", "next", "reason", "special")

    def __init__(self, first: int) -> None:
        self.first = first
        self.lines: list[bytes] = []
        self.next = first
        self.reason: str | None = None
        self.special: dict[int, tuple[int, float]] | None = None


class Place(NamedTuple):
    """Where a seq is: a segment, the topic's span in it, and the position in the span."""

    segment: Segment
    span: Span
    position: int


class Stretch(NamedTuple):
    """Bytes to read at once: records `start` to `stop` (excluded) of a window."""

    offset: int
    size: int
    start: int
    stop: int


class Reader:
    """Reads a shard's segments for the loop."""

    def __init__(self, shelf: Shelf, stats: LogStats) -> None:
        self._shelf = shelf
        self._files: Files = shelf.files
        self._stats = stats
        self._buffer = bytearray(READ_MAX)
        self._view = memoryview(self._buffer)

    # A chunk --------------------------------------------------------------------------------------------------------

    def read_chunk(self, topic: TopicLog, seq: int, upto: int, max_bytes: int) -> Chunk | None:
        """See `ShardLog.read_chunk`."""
        chunk = Chunk(max(seq, 1))
        end = min(upto, topic.head)
        budget = max_bytes
        try:
            while chunk.next <= end and (budget > 0 or not chunk.lines):
                taken = self._read_on(topic, chunk, end, budget)
                if not taken:
                    break
                budget -= taken
        except NotCached:
            if not chunk.lines:
                return None
        except OSError as error:  # of a sidecar: the next try may find it well
            if not chunk.lines:
                raise LogDamaged(f"{topic.name} can't be read at {chunk.next}: {error}; check the disk") from error
        if chunk.next > end and not chunk.lines:
            chunk.next = chunk.first = upto + 1
        return chunk

    def _read_on(  # noqa: PLR0911 - a return for each way in which a read can end
        self, topic: TopicLog, chunk: Chunk, end: int, budget: int
    ) -> int:
        """Add what one read gives; returns its bytes, 0 when the chunk ends here."""
        seq = chunk.next
        if seq < topic.first:
            self._skip(chunk, topic.first, RETENTION)
            return 1
        place = self._place(topic, seq, cached=True)
        if isinstance(place, int):  # nothing is left of it; this is the next that is
            if chunk.lines:
                return 0
            gone = seq < topic.first or 0 < topic.chain.older < self._shelf.oldest
            self._skip(chunk, min(place, end + 1), RETENTION if gone else RESET)
            return 1
        segment, span, position = place
        window = self._window(segment, topic, span, position, cached=True)
        if window is None:
            raise NotCached
        offsets, sizes, base = window
        start = position - base
        if not sizes[start]:
            if chunk.lines:
                return 0
            self._skip(chunk, seq + 1, RESET)
            return 1
        stop = min(len(sizes), start + end - seq + 1)
        if offsets[stop - 1] >= segment.durable:
            stop = bisect_left(offsets, segment.durable, start, stop)
            if stop == start:
                return 0
        stretch = plan(offsets, sizes, start, stop, budget)
        data = self._load(segment, stretch)
        return self._take(topic, chunk, segment, window, stretch, data)

    def _skip(self, chunk: Chunk, seq: int, reason: str) -> None:
        chunk.next = chunk.first = seq
        chunk.reason = reason if chunk.reason != RESET else RESET

    def _load(self, segment: Segment, stretch: Stretch) -> bytes:
        fd = self._shelf.data(segment)
        view = self._view[: stretch.size] if stretch.size <= READ_MAX else memoryview(bytearray(stretch.size))
        try:
            got = self._files.read_cached(fd, view, stretch.offset)
        except OSError as error:
            raise LogDamaged(
                f"{segment.path.name} can't be read at {stretch.offset}: {error}; check the disk"
            ) from error
        if got == NOT_CACHED:
            raise NotCached
        return bytes(view[:got])

    def _take(
        self,
        topic: TopicLog,
        chunk: Chunk,
        segment: Segment,
        window: tuple["array[int]", "array[int]", int],
        stretch: Stretch,
        data: bytes,
    ) -> int:
        """Check the records in `data` and add their lines; returns the bytes taken, 0 when the chunk ends here."""
        offsets, sizes, _ = window
        origin, _, start, stop = stretch
        lines = chunk.lines
        seq = first = chunk.next
        mark = segment.mark
        line_start = topic.line_start
        unpack = MESSAGE_READ.unpack_from
        limit = len(data)
        at = end = 0
        for offset, size in zip(offsets[start:stop], sizes[start:stop], strict=True):
            at = offset - origin
            end = at + size
            if end > limit or not size:
                break
            its_mark, crc, its_size, kind, flags, writer_size, header_size, its_seq = unpack(data, at)
            line = data[at + MESSAGE_SIZE + writer_size : end]
            if (
                crc32(data[at + PREFIX_SIZE : end]) != crc
                or its_seq != seq
                or its_mark != mark
                or its_size != size
                or kind != MESSAGE
                or not line.startswith(line_start)
            ):
                break
            if flags & SPECIAL:
                if chunk.special is None:
                    chunk.special = {}
                chunk.special[len(lines)] = (header_size, EXPIRES.unpack_from(data, at + EXPIRES_AT)[0])
            lines.append(line)
            seq += 1
        else:
            chunk.next = seq
            return max(1, end)
        chunk.next = seq
        if end > limit and seq > first:
            return end  # cut short by the cache; the rest is for the next read
        if end > limit and self._files.size(self._shelf.data(segment)) >= origin + end:
            raise NotCached
        if not size:
            return 1  # a hole that is known of: the next round steps over it
        if lines:
            return 0  # the next chunk begins with the damage, and says so
        self._tell_damage(segment, offset, topic, seq)
        self._skip(chunk, seq + 1, RESET)
        return 1

    def _tell_damage(self, segment: Segment, offset: int, topic: TopicLog, seq: int) -> None:
        if segment.report(offset):
            self._stats.damaged += 1
            _log.warning("record damaged", file=str(segment.path), offset=offset, topic=topic.name, seq=seq)

    # Finding the place ----------------------------------------------------------------------------------------------

    def _place(self, topic: TopicLog, seq: int, *, cached: bool = False) -> Place | int:
        """Where a seq is; or, where nothing has it, the next seq that something has (head + 1 when nothing does)."""
        index = topic.index
        if index is not None and seq >= index.first:
            if seq <= index.head:
                return Place(self._shelf.segments[index.segment], index, seq - index.first)
            return topic.head + 1
        chain = topic.chain
        newest = index.previous if index is not None else topic.segment
        chain.drop_before(self._shelf.oldest)
        chain.reach(newest, seq, lambda number: self._link(topic, number, cached=cached))
        after = index.first if index is not None and index.count else topic.head + 1
        position = chain.position(seq)
        if position >= 0:
            place = self._in_segment(topic, chain.numbers[position], seq, cached=cached)
            if place is not None:
                return place
        position += 1
        return chain.firsts[position] if position < len(chain.firsts) else after

    def _in_segment(self, topic: TopicLog, number: int, seq: int, *, cached: bool) -> Place | None:
        segment = self._shelf.get(number)
        span = self._link(topic, number, cached=cached)
        if segment is None or span is None or seq >= span.first + span.count:
            return None
        return Place(segment, span, seq - span.first)

    def _link(self, topic: TopicLog, number: int, *, cached: bool = False) -> Span | None:
        segment = self._shelf.get(number)
        if segment is None:
            return None
        try:
            return self._shelf.find(segment, topic, cached=cached)
        except LogDamaged as error:
            self._shelf.repair(segment, str(error))
            return self._shelf.find(segment, topic)

    def _window(
        self, segment: Segment, topic: TopicLog, span: Span, position: int, *, cached: bool
    ) -> tuple["array[int]", "array[int]", int] | None:
        try:
            return span.window(position, cached=cached)
        except LogDamaged as error:
            self._shelf.repair(segment, str(error))
            again = self._shelf.find(segment, topic)
            if again is None or position >= again.count:
                raise
            return again.window(position, cached=False)

    # Warming --------------------------------------------------------------------------------------------------------

    def warm(
        self, topic: TopicLog, seq: int, upto: int, max_bytes: int, syncer: Syncer, done: Callable[[], None]
    ) -> None:
        """Bring what `read_chunk` needs into the page cache, in a thread, then call `done` on the loop."""
        loop = asyncio.get_running_loop()
        wanted = self.ranges_to_warm(topic, seq, upto, max_bytes)
        if wanted is None:
            loop.call_soon(done)
            return
        segment, offset, size, sidecar = wanted
        path = segment.sidecar_path if sidecar else segment.path
        files = self._files

        def job() -> None:
            with files.reading(path) as fd:
                end = files.size(fd) if sidecar else offset + size
                for at in range(offset, end, 1 << 20):
                    files.read(fd, min(1 << 20, end - at), at)

        # An error is not lost: whoever reads next meets it.
        syncer.submit(job, loop, lambda _error: done())

    def ranges_to_warm(
        self, topic: TopicLog, seq: int, upto: int, max_bytes: int
    ) -> tuple[Segment, int, int, bool] | None:
        """What to bring into the page cache so that a chunk can be read: segment, offset, size, and whether it is the
        sidecar that is needed first. None: nothing to warm.
        """
        seq = max(seq, topic.first)
        end = min(upto, topic.head)
        while seq <= end:
            try:
                place = self._place(topic, seq, cached=True)
                if isinstance(place, int):
                    seq = place
                    continue
                window = self._window(place.segment, topic, place.span, place.position, cached=True)
            except NotCached:
                window = None
                place = self._place(topic, seq)
                if isinstance(place, int):
                    seq = place
                    continue
            if window is None:
                return place.segment, 0, 0, True
            offsets, sizes, base = window
            start = place.position - base
            if not sizes[start]:
                seq += 1
                continue
            stop = min(len(sizes), start + end - seq + 1)
            last = min(bisect_left(offsets, offsets[start] + max(max_bytes, 1), start + 1, stop), stop) - 1
            return place.segment, offsets[start], offsets[last] + sizes[last] - offsets[start], False
        return None

    # One message ----------------------------------------------------------------------------------------------------

    def read_message(self, topic: TopicLog, seq: int) -> Message | None:
        """One message that has been written; waits for the disk. None: it is gone, or damaged (and told of)."""
        if seq < topic.first or seq > topic.head:
            return None
        place = self._place(topic, seq)
        if isinstance(place, int):
            return None
        window = self._window(place.segment, topic, place.span, place.position, cached=False)
        if window is None:
            return None
        offsets, sizes, base = window
        offset, size = offsets[place.position - base], sizes[place.position - base]
        return self._message_at(topic, place.segment, seq, offset, size) if size else None

    def _message_at(self, topic: TopicLog, segment: Segment, seq: int, offset: int, size: int) -> Message | None:
        try:
            record = self._files.read(self._shelf.data(segment), size, offset)
        except OSError as error:
            raise LogDamaged(f"{segment.path.name} can't be read at {offset}: {error}; check the disk") from error
        message = check_message(record, segment.mark, size)
        if message is None or message.seq != seq or message.topic != topic.name:
            self._tell_damage(segment, offset, topic, seq)
            return None
        return message

    def place_of(self, topic: TopicLog, seq: int) -> tuple[Segment, int] | None:
        """The segment and offset of a seq in the index in memory; None when it is not there."""
        index = topic.index
        if index is None or not index.first <= seq <= index.head:
            return None
        return self._shelf.segments[index.segment], index.offsets[seq - index.first]

    # By time and by id ----------------------------------------------------------------------------------------------

    def seq_at(self, topic: TopicLog, ts: float, time_of: Callable[[int], float | None]) -> int:
        """The first seq not older than `ts`; head + 1 when none is. `time_of` knows what is not written yet, too."""
        low, high = max(topic.first, self._newest_before(topic, ts)), topic.head + 1
        while low < high:
            probe = middle = (low + high) // 2
            found = time_of(probe)
            while found is None and probe + 1 < high:  # a lost one has no time: its next neighbour speaks for it
                probe += 1
                found = time_of(probe)
            if found is None or found >= ts:
                high = middle
            else:
                low = probe + 1
        return low

    def _newest_before(self, topic: TopicLog, ts: float) -> int:
        """The first seq of the newest segment that begins before `ts`: a look into each, from the newest back."""
        index = topic.index
        if index is not None and index.count and index.first_ts < ts:
            return index.first
        number = index.previous if index is not None else topic.segment
        while number:
            span = self._link(topic, number)
            if span is None:
                break
            if span.count and span.first_ts < ts:
                return span.first
            number = span.previous
        return topic.first

    def has_id(self, topic: TopicLog, key: int, fresh: list[Segment]) -> bool:
        """Whether the topic has a message with this (salted) id hash."""
        return next(self.spans_with_id(topic, key, fresh), None) is not None

    def spans_with_id(self, topic: TopicLog, key: int, fresh: list[Segment]) -> Iterator[tuple[int, int]]:
        """The parts of a topic that have a message with this (salted) id hash: first and last seq, newest first.

        Raises:
            LogDamaged: the disk can't be read; the next try may find it well.
        """
        try:
            yield from self._spans_with_id(topic, key, fresh)
        except OSError as error:
            raise LogDamaged(f"ids of {topic.name} can't be looked up: {error}; check the disk") from error

    def _spans_with_id(self, topic: TopicLog, key: int, fresh: list[Segment]) -> Iterator[tuple[int, int]]:
        for segment in reversed(fresh):
            if segment.index is not None and segment.index.ids.has(key):
                part = segment.index.topics.get(topic.name)
                if part is not None and part.count:
                    yield part.first, part.head
        chain = topic.chain
        index = topic.index
        newest = index.previous if index is not None else topic.segment
        seq = (index.first if index is not None else topic.head + 1) - 1
        while seq >= topic.first:
            chain.drop_before(self._shelf.oldest)
            chain.reach(newest, seq, lambda number: self._link(topic, number))
            position = chain.position(seq)
            if position < 0:
                return
            first = chain.firsts[position]
            segment_ = self._shelf.get(chain.numbers[position])
            if segment_ is not None and segment_.index is None and self._has_id(segment_, key):
                yield max(first, topic.first), seq
            seq = first - 1

    def _has_id(self, segment: Segment, key: int) -> bool:
        try:
            return self._shelf.sidecar(segment).has_id(key)
        except LogDamaged as error:
            self._shelf.repair(segment, str(error))
            return self._shelf.sidecar(segment).has_id(key)


def check_message(record: bytes, mark: int, size: int) -> Message | None:
    """Decode a message record, or None when anything about it is wrong."""
    if len(record) != size or size < MESSAGE_SIZE:
        return None
    its_mark, crc, its_size, kind, *_ = MESSAGE_READ.unpack_from(record)
    if its_mark != mark or its_size != size or kind != MESSAGE or crc32(memoryview(record)[PREFIX_SIZE:]) != crc:
        return None
    try:
        return decode_message(record)
    except ValueError:
        return None


def plan(offsets: "array[int]", sizes: "array[int]", start: int, stop: int, budget: int) -> Stretch:
    """The next stretch to read: as many of the records `start` to `stop` as lie close together and fit.

    `sizes[start]` is not 0. Where the topic has the file mostly to itself one look at the two ends decides; elsewhere
    records are taken along as long as the gaps between them are small.
    """
    origin = offsets[start]
    room = min(READ_MAX, max(budget, 1))
    far = bisect_left(offsets, origin + room, start, stop)  # the first that begins beyond the room
    if far > start + 1 and offsets[far - 1] + sizes[far - 1] - origin > room:
        far -= 1  # the last one would stick out
    end = offsets[far - 1] + sizes[far - 1]
    if end - origin <= DENSE * sum(sizes[start:far]):
        return Stretch(origin, end - origin, start, far)
    at = start + 1
    end = origin + sizes[start]
    while at < far and offsets[at] - end <= GAP_MAX:
        end = max(end, offsets[at] + sizes[at])
        at += 1
    return Stretch(origin, end - origin, start, at)
