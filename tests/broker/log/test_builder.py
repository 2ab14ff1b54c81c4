"""An index made from records: the short way, for plain messages, and the long way tell the same."""

import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.shard_log import line_of
from hubbub_broker.log import Files, scan
from hubbub_broker.log.builder import IndexBuilder
from hubbub_broker.log.header import HEADER_SIZE
from hubbub_broker.log.index import MemoryIndex, TopicIndex
from hubbub_broker.log.record import (
    FIRST,
    MESSAGE,
    MESSAGE_BODY,
    MESSAGE_SIZE,
    VERSION,
    Tail,
    encode_state,
    encode_tail,
    seal_record,
)

MARK = 0xA1B2C3D5
TOPICS = ["g/a", "g/b", "g/ä", "group/a/long/name"]


def message(random: Random, topic: str, seq: int, **changes: int) -> bytes:
    line = line_of(topic, random.randbytes(random.choice((0, 5, 200))))
    writer = random.choice((b"", b"w1", b"another"))
    fields = {
        "kind": MESSAGE,
        "version": VERSION,
        "flags": random.choice((0, 0, FIRST)),
        "topic_size": len(topic.encode()),
        "writer_size": len(writer),
        "header_size": random.choice((0, 0, 9)),
    } | changes
    body = MESSAGE_BODY.pack(
        MESSAGE_SIZE + len(writer) + len(line),
        *fields.values(),
        seq,
        random.randrange(2**40),
        float(random.randrange(1000)),
        random.choice((0.0, 5.0)),
        random.getrandbits(64),
        random.choice((0, random.getrandbits(64))),
        random.choice((0, seq)),
    )
    return seal_record(MARK, body + writer + line)


def segment(random: Random, count: int) -> bytes:
    """A file as a bad disk leaves it: mostly messages in order, and everything else that there can be."""
    heads: dict[str, int] = {}
    parts = []
    for _ in range(count):
        topic = random.choice(TOPICS)
        head = heads.get(topic, random.randrange(5))
        kind = random.choices(("message", "hole", "back", "odd", "state", "tail", "garbage", "flip"), (60, *[2] * 7))[0]
        if kind == "message":
            parts.append(message(random, topic, head + 1))
            heads[topic] = head + 1
        elif kind == "hole":
            parts.append(message(random, topic, head + 3))
            heads[topic] = head + 3
        elif kind == "back":
            parts.append(message(random, topic, max(head - 1, 0)))
        elif kind == "odd":
            change = random.choice(({"kind": 9}, {"version": 9}, {"header_size": 9999}, {"topic_size": 999}))
            parts.append(message(random, topic, head + 1, **change))
        elif kind == "state":
            parts.append(seal_record(MARK, encode_state(7, random.randbytes(1), random.randbytes(3), FIRST)))
        elif kind == "tail":
            tail = Tail(topic, head, 5, 6.0, 700, {b"w1": (head, 3.0)})
            parts.append(seal_record(MARK, encode_tail(tail, 0)))
        elif kind == "garbage":
            parts.append(random.randbytes(random.randrange(1, 40)))
        else:
            spoilt = bytearray(message(random, topic, head + 1))
            spoilt[random.randrange(len(spoilt))] ^= 1 << random.randrange(8)
            parts.append(bytes(spoilt))
    return b"".join(parts)[: -random.choice((1, 1000)) or None] if random.random() < 0.5 else b"".join(parts)


def seen(index: MemoryIndex) -> dict[str, Any]:
    """All that an index knows, as plain values."""
    found: dict[str, Any] = {name: getattr(index, name) for name in MemoryIndex.__slots__}
    found["topics"] = {
        name: {slot: getattr(topic, slot) for slot in TopicIndex.__slots__} for name, topic in index.topics.items()
    }
    found["states"] = sorted(index.states.rows())
    found["ids"] = index.ids.keys
    return found


@pytest.mark.parametrize("window", [200, 3000, 1 << 20])
@given(seed=st.integers(0, 2**32))
def test_both_ways_tell_the_same(window: int, seed: int) -> None:
    random = Random(seed)
    data = bytes(HEADER_SIZE) + segment(random, random.choice((1, 10, 100)))
    files = Files()
    quick, slow = (IndexBuilder(3, lambda _name: None) for _ in range(2))
    torn = None
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(scan, "WINDOW", window)
        path = Path(folder) / "file"
        path.write_bytes(data)
        with files.reading(path) as fd:
            quick_torn = quick.read(files, fd, MARK, len(data))
            for found in scan.scan(files, fd, MARK, HEADER_SIZE, len(data)):
                if found.record is None and found.offset + found.size >= len(data):
                    torn = found
                else:
                    slow.add(found)
    assert quick_torn == torn
    assert seen(quick.index) == seen(slow.index)
    assert quick.last_batch == slow.last_batch


def test_plain_messages_go_the_short_way() -> None:
    random = Random(1)
    data = b"".join(message(random, "g/a", seq, header_size=0) for seq in range(1, 101))
    builder = IndexBuilder(3, lambda _name: None)
    first = message(Random(1), "g/a", 1, header_size=0)
    assert builder.take(data, 0, HEADER_SIZE, MARK) == 0, "the topic's first message says what it is called"
    assert builder.add(scan.Found(HEADER_SIZE, len(first), first))
    taken = builder.take(data, len(first), HEADER_SIZE + len(first), MARK)
    assert len(first) + taken == len(data)
    assert builder.index.records == 100
