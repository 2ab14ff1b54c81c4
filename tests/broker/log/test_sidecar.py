"""Sidecars: every topic, id and row is found again; a damaged one says so."""

from pathlib import Path

import pytest

from hubbub_broker.log import Files, LogDamaged
from hubbub_broker.log.index import MemoryIndex, TopicIndex
from hubbub_broker.log.names import topic_key
from hubbub_broker.log.sidecar import PAGE_SEQS, Sidecar, Writer, build


def finished(steps):
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


@pytest.fixture
def index() -> MemoryIndex:
    index = MemoryIndex()
    for number in range(300):
        topic = TopicIndex(f"g/{number}", 5, number + 1, 3, 10, number, 2.0)
        for position in range(3 * PAGE_SEQS - 7 if number == 0 else number % 4):
            topic.offsets.append(1000 * number + position)
            topic.sizes.append(position + 1)
        topic.writers = {b"w": number} if number % 2 else {}
        index.topics[topic.name] = topic
        key = number * 0x9E3779B97F4A7C15 % 2**64
        index.ids.keys.append(key)
        index.dedup_hashes.append(key)
        index.dedup_seqs.append(number)
    index.states.put(7, b"k", b"body")
    index.states.put(8, b"", b"")
    index.damage = [(64, 9)]
    index.records = 300
    return index


@pytest.fixture
def path(tmp_path: Path, index: MemoryIndex) -> Path:
    path = tmp_path / "00000000000000000005.idx"
    Files().replace(path, finished(build(index, shard=3, segment=5, mark=7, covers=999)))
    return path


def test_everything_is_found(path, index):
    sidecar = Sidecar(Files(), path)
    for name, topic in index.topics.items():
        span = sidecar.find(topic_key(name.encode()))
        assert span is not None
        assert (span.first, span.count, span.previous) == (topic.first, topic.count, 3)
        for position in range(0, topic.count, 100):
            window = span.window(position, cached=True)
            assert window is not None
            offsets, sizes, start = window
            assert offsets[position - start] == topic.offsets[position]
            assert sizes[position - start] == topic.sizes[position]
    assert sidecar.find(topic_key(b"g/none")) is None
    assert all(sidecar.has_id(key) for key in index.ids.keys)
    assert not sidecar.has_id(12345)
    assert {name: entry.standing(name, 5) for name, entry in sidecar.entries()} == {
        name: topic.standing() for name, topic in index.topics.items()
    }
    assert set(sidecar.writers()) == {Writer(f"g/{n}", b"w", n, 2.0) for n in range(300) if n % 2}
    assert list(sidecar.states()) == [(7, b"k", b"body"), (8, b"", b"")]
    assert sidecar.dedup() == (index.dedup_hashes, index.dedup_seqs)
    assert sidecar.damage() == [(64, 9)]
    assert sidecar.verify() == []
    sidecar.close()


def test_a_file_cut_short_is_refused(path):
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(LogDamaged, match="header"):
        Sidecar(Files(), path)


def test_a_damaged_empty_bucket_does_not_pass_for_an_absent_id(path, index):
    """The directory is under the bucket's checksum."""
    data = bytearray(path.read_bytes())
    sidecar = Sidecar(Files(), path)
    offset, size, _ = sidecar._sections[2]
    for at in range(offset, offset + size, 12):
        data[at + 4 : at + 8] = data[at : at + 4]
    sidecar.close()
    path.write_bytes(data)
    sidecar = Sidecar(Files(), path)
    key = index.ids.keys[0]
    with pytest.raises(LogDamaged):
        sidecar.has_id(key)
    sidecar.close()
