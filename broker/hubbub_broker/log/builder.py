"""A segment's index made from its records: at recovery, and wherever a sidecar is missing or damaged."""

from collections.abc import Callable
from struct import Struct
from zlib import crc32

from .files import Files
from .header import HEADER_SIZE
from .index import MemoryIndex, TopicIndex
from .names import topic_key, topic_salt
from .record import (
    FIRST,
    LINE_START,
    MESSAGE,
    MESSAGE_BODY,
    MESSAGE_SIZE,
    MORE,
    PREFIX_SIZE,
    TOPIC_AT,
    VERSION,
    Message,
    State,
    Tail,
    decode,
)
from .scan import Found, scan
from .segment import Segment, Shelf
from .standing import Standing

HOLE_MAX = 1 << 26
"""Lost seqs in a row that an index makes room for: more than a segment has room for records, so more can't be true."""


_unpack = Struct("<II" + MESSAGE_BODY.format[1:]).unpack_from


class IndexBuilder:
    """Takes a segment's records in order and notes where each one is."""

    def __init__(self, segment: int, standing: Callable[[str], Standing | None]) -> None:
        self._segment = segment
        self._standing = standing
        self._known: dict[bytes, tuple[TopicIndex, int]] = {}
        """Topics that have a message here, each with its salt."""
        self.index = MemoryIndex()
        self.last_batch = HEADER_SIZE
        """Where the last batch begins."""
        self._open: list[Found] = []
        """The records of a step whose end has not been seen yet, with the damage between them."""

    def read(self, files: Files, fd: int, mark: int, end: int) -> Found | None:
        """Note all records of a file up to `end`; returns what can't be used and reaches to the end, if anything: what
        can't be read, and a step that is not whole.
        """
        for found in scan(files, fd, mark, HEADER_SIZE, end, self.take):
            if found.record is None and found.offset + found.size >= end:
                return self._torn(found.offset, end)
            self.add(found)
        return self._torn(end, end)

    def read_all(self, files: Files, fd: int, mark: int, end: int) -> None:
        """Note all records of a file that was once whole up to `end`: nothing in it is torn, only damaged."""
        for found in scan(files, fd, mark, HEADER_SIZE, end, self.take):
            self.add(found)
        self.end()

    def _torn(self, offset: int, end: int) -> Found | None:
        if self._open:
            offset = self._open[0].offset
        return Found(offset, end - offset, None) if offset < end else None

    def add(self, found: Found) -> bool:
        """Note a stretch of the file; False when it is damage. A step is noted when it is whole."""
        flags = 0 if found.record is None else found.record[14]
        if self._open and flags & FIRST:  # what lies before was on stable storage: its end was lost later
            self.end()
        if flags & MORE or (self._open and found.record is None):
            self._open.append(found)
            return found.record is not None
        if self._open:
            self.end()
        return self._note(found)

    def end(self) -> None:
        """Note the records of a step whose end does not come: they were on stable storage."""
        opened, self._open = self._open, []
        for found in opened:
            self._note(found)

    @property
    def torn_from(self) -> int | None:
        """Where a step begins of which only a part has come; None when there is none."""
        return self._open[0].offset if self._open else None

    def _note(self, found: Found) -> bool:
        if found.record is not None:
            try:
                decoded = decode(found.record)
            except ValueError:
                pass
            else:
                if self._add(found, decoded):
                    self.index.records += 1
                    if found.record[14] & FIRST:
                        self.last_batch = found.offset
                    return True
        self.index.damage.append((found.offset, found.size))
        return False

    def take(self, data: bytes, at: int, offset: int, mark: int) -> int:
        """Note the whole messages that begin here, as `add` does but in a quarter of the time; stop at anything else.

        After a crash this is what a start waits for. It stops at a topic's first message, at a seq that is not the
        next, at a step, and at whatever fails a check: those go the long way. Returns how many bytes it has taken.
        """
        index, known = self.index, self._known
        if not index.first_ts or self._open:
            return 0
        view = memoryview(data)
        start, end = at, len(data)
        last = end - MESSAGE_SIZE
        moved = offset - at
        add_id, add_hash, add_seq = index.ids.keys.append, index.dedup_hashes.append, index.dedup_seqs.append
        records, ts = 0, index.last_ts
        while at <= last:
            (
                its_mark,
                crc,
                size,
                kind,
                version,
                flags,
                topic_size,
                writer_size,
                header_size,
                seq,
                lc,
                its_ts,
                _,
                id_hash,
                dedup_hash,
                n,
            ) = _unpack(data, at)
            line = at + MESSAGE_SIZE + writer_size
            name_at = line + TOPIC_AT
            stop = at + size
            entry = known.get(data[name_at : name_at + topic_size])
            if (
                entry is None
                or its_mark != mark
                or kind != MESSAGE
                or version != VERSION
                or flags & MORE
                or not name_at + topic_size <= stop <= end
                or header_size > stop - line
                or not data.startswith(LINE_START, line)
                or crc32(view[at + PREFIX_SIZE : stop]) != crc
            ):
                break
            topic, salt = entry
            offsets = topic.offsets
            if seq != topic.first + len(offsets):
                break
            offsets.append(at + moved)
            topic.sizes.append(size)
            topic.bytes += size
            topic.lc = lc
            topic.last_ts = ts = its_ts
            if n:
                topic.writers[data[at + MESSAGE_SIZE : line]] = n
            add_id(id_hash ^ salt)
            if dedup_hash:
                add_hash(dedup_hash)
                add_seq(seq)
            if flags & FIRST:
                self.last_batch = at + moved
            records += 1
            at = stop
        index.records += records
        index.last_ts = ts
        return at - start

    def _add(self, found: Found, decoded: Message | State | Tail) -> bool:
        if isinstance(decoded, Message):
            return self._add_message(found, decoded)
        if isinstance(decoded, State):
            self.index.states.put(decoded.kind, decoded.key, decoded.body)
        else:
            self._add_tail(decoded)
        return True

    def _add_message(self, found: Found, message: Message) -> bool:
        index = self.index
        topic = index.topics.get(message.topic)
        if topic is None:
            topic = self._enter(message.topic, message.seq)
        offsets = topic.offsets
        if not offsets:
            topic.first = message.seq
            topic.first_ts = message.ts
        lost = message.seq - topic.first - len(offsets)
        if not 0 <= lost <= HOLE_MAX:
            return False  # a seq that goes back: no sequencer writes that
        if lost:
            offsets.extend([found.offset] * lost)
            topic.sizes.extend([0] * lost)
        offsets.append(found.offset)
        topic.sizes.append(found.size)
        topic.bytes += found.size
        topic.lc = message.lc
        topic.last_ts = message.ts
        if message.n:
            topic.writers[message.writer] = message.n
        name = message.topic.encode()
        if name not in self._known:
            self._known[name] = topic, topic_salt(name)
        index.ids.keys.append(message.id_hash ^ self._known[name][1])
        if message.dedup_hash:
            index.dedup_hashes.append(message.dedup_hash)
            index.dedup_seqs.append(message.seq)
        if not index.first_ts:
            index.first_ts = message.ts
        index.last_ts = message.ts
        return True

    def _add_tail(self, tail: Tail) -> None:
        topic = self.index.topics.get(tail.topic)
        if topic is None:
            topic = self._enter(tail.topic, tail.head + 1)
        if not topic.offsets and tail.head >= topic.first - 1:
            topic.first = tail.head + 1
            topic.base = tail.total
            topic.lc = tail.lc
            topic.last_ts = tail.last_ts
        for writer, (n, ts) in tail.writers.items():
            if writer not in topic.writers:
                topic.writers[writer] = n
                self.index.tail_writers[tail.topic, writer] = ts

    def _enter(self, name: str, first: int) -> TopicIndex:
        before = self._standing(name)
        if before is None:
            topic = TopicIndex(name, self._segment, first, 0, 0, 0, 0.0)
        else:
            topic = TopicIndex(name, self._segment, first, before.segment, before.total, before.lc, before.last_ts)
        self.index.topics[name] = topic
        return topic


def build_alone(shelf: Shelf, segment: Segment, fd: int) -> MemoryIndex:
    """The index of a sealed segment, its way back looked up in the sidecars of the segments before it."""
    builder = IndexBuilder(segment.number, lambda _name: None)
    builder.read_all(shelf.files, fd, segment.mark, segment.size)
    unlinked = {topic_key(t.name.encode()): t for t in builder.index.topics.values() if t.first > 1}
    for number in sorted((n for n in shelf.segments if n < segment.number), reverse=True):
        if not unlinked:
            break
        sidecar = shelf.sidecar(shelf.segments[number])
        for key, topic in list(unlinked.items()):
            span = sidecar.find(key)
            if span is not None:
                topic.previous = number
                if topic.count:  # else a tail record has said it, and knows better
                    topic.base = span.entry.total
                del unlinked[key]
    return builder.index
