"""Undoing what was appended: a batch could not be made durable, and nothing may remember it."""

from .batch import Appended, Batch, StateAppended
from .dedup import Dedup
from .index import MemoryIndex
from .record import decode_message, seal_record


def take_back(batch: Batch, dedup: Dedup) -> None:
    """Make topics, index and dedup as they were before the batch, the newest record first."""
    memory = batch.segment.index
    assert memory is not None
    for item in reversed(batch.messages):
        _take_back_message(memory, item, dedup)
    for other in reversed(batch.others):
        if isinstance(other, StateAppended):
            memory.states.restore(other.kind, other.key, other.before)
        else:
            for writer in other.writers:
                other.place.writers.pop(writer, None)
                memory.tail_writers.pop((other.place.name, writer), None)


def _take_back_message(memory: MemoryIndex, item: Appended, dedup: Dedup) -> None:
    _, topic, index, head, line, n_before, lc_before, ts_before = item
    message = decode_message(seal_record(0, head + line))
    index.offsets.pop()
    index.bytes -= index.sizes.pop()
    index.lc = topic.lc = lc_before
    index.last_ts = topic.last_ts = ts_before
    topic.head -= 1
    newer = topic.index
    if newer is not None and newer is not index:  # it had gone on to the next segment, and nothing of that is left
        newer.first = topic.head + 1
        newer.base = topic.total = index.total
        newer.lc, newer.last_ts = lc_before, ts_before
    if message.n:
        if n_before is None:
            topic.writers.pop(message.writer, None)
            index.writers.pop(message.writer, None)
        else:
            topic.writers[message.writer] = index.writers[message.writer] = n_before
    memory.ids.take_back()
    if message.dedup_hash:
        dedup.discard(message.dedup_hash)
        memory.dedup_hashes.pop()
        memory.dedup_seqs.pop()
