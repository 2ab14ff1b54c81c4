"""A segment's index made from its records: at recovery, and wherever a sidecar is missing or damaged."""

from collections.abc import Callable, Iterable

from .index import STRIPE_MASK, MemoryIndex, TopicIndex
from .names import topic_key, topic_salt
from .record import Message, State, Tail, decode
from .scan import Found
from .segment import Segment, Shelf
from .standing import Standing

HOLE_MAX = 1 << 26
"""Lost seqs in a row that an index makes room for: more than a segment has room for records, so more can't be true."""


class IndexBuilder:
    """Takes a segment's records in order and notes where each one is."""

    def __init__(self, segment: int, standing: Callable[[str], Standing | None]) -> None:
        self._segment = segment
        self._standing = standing
        self._salts: dict[str, int] = {}
        self.index = MemoryIndex()

    def add(self, found: Found) -> bool:
        """Note a stretch of the file; False when it is damage."""
        if found.record is not None:
            try:
                decoded = decode(found.record)
            except ValueError:
                pass
            else:
                if self._add(found, decoded):
                    self.index.records += 1
                    return True
        self.index.damage.append((found.offset, found.size))
        return False

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
        salt = self._salts.get(message.topic)
        if salt is None:
            salt = self._salts[message.topic] = topic_salt(message.topic.encode())
        key = message.id_hash ^ salt
        index.ids[key & STRIPE_MASK].add(key)
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


def build_alone(shelf: Shelf, segment: Segment, stretches: Iterable[Found]) -> MemoryIndex:
    """The index of a sealed segment, its way back looked up in the sidecars of the segments before it."""
    builder = IndexBuilder(segment.number, lambda _name: None)
    for found in stretches:
        builder.add(found)
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
