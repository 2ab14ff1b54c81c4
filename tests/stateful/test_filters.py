"""A filtered reader against a plain one, on a real shard, by random steps: messages, filters, places to come back to,
sockets that are full, syncs that take their time, and power cuts.

Promises: whatever happens, what a filtered reader gets of a topic is what a plain one gets of it, sifted: each message
once and in order, over any number of connections, each begun behind what the reader was told of last. A consumer's
members get what is its business, and the rest counts as settled.
"""

import os
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from harness.filter_oracle import cut, matches
from harness.shard_site import Line, Peer, ShardSite
from hubbub_broker.log import LogSettings

TOPICS = ["g/a", "g/b/c"]
NAMES = [*TOPICS, "g/*", "g/**", "**"]
SIZES = [0, 10, 300, 20_000]


def drawn_where(source: random.Random) -> dict[str, Any] | None:
    number = source.randrange(10)
    return source.choice(
        [
            None,
            {"type": source.choice("abc")},
            {"type": {"in": ["a", "b"]}, "data.n": {">=": number}},
            {"from": "joe", "headers.h": {"<": number}},
            {"any": [{"data.list.x": number}, {"not": {"headers": {"exists": True}}}]},
            {"type": "never"},
            {"id": {"prefix": f"{number}"}},
        ]
    )


def drawn_select(source: random.Random) -> list[str] | None:
    return source.choice([None, None, [], ["data.n"], ["headers.h", "data.list.x"], ["data"], ["headers"]])


class Reader:
    """A client that comes back to its place, as the SDK does."""

    def __init__(self, number: int, name: str, where: Any, select: Any, consumer: str | None = None) -> None:
        self.agent = f"reader{number}"
        self.name = name
        self.where = where
        self.select = select
        self.consumer = consumer
        self.peer: Peer | None = None
        self.seqs: dict[str, int] = {}
        self.got: dict[str, list[Line]] = defaultdict(list)
        self.to_ack: list[tuple[str, int]] = []

    def come(self, site: ShardSite) -> None:
        self.peer = site.connect(self.agent)
        self.peer.hear = self.hear
        fields: dict[str, Any] = {"topic": self.name, "where": self.where, "select": self.select}
        if self.consumer is not None:
            fields |= {"consumer": self.consumer, "from_": "all", "max_unacked": 3, "ack_wait": 10_000, "backoff": [0]}
            fields["max_deliver"] = 0
        elif "*" in self.name:
            fields["from_"] = {"since": 0, "after": self.seqs} if self.seqs else "all"
        else:
            fields["from_"] = {"seq": self.seqs.get(self.name, 0) + 1}
        self.peer.request("sub", **{name: value for name, value in fields.items() if value is not None})

    def hear(self, line: Line, raw: bytes) -> None:
        topic, seq = line.get("topic", ""), line.get("seq", 0)
        assert line["op"] != "err", line
        assert line["op"] != "gap" or line.get("dropped"), line  # ephemeral ones are nobody's due
        if line["op"] == "msg":
            assert matches(line, self.of_the_envelope), line
            if "seq" not in line:
                return
            if self.consumer is None:
                assert seq > self.seqs.get(topic, 0), f"{line} came again, or too late"
                self.seqs[topic] = seq
            else:
                self.to_ack.append((topic, seq))
            self.got[topic].append(line)
        elif line["op"] in ("skip", "live") and self.consumer is None and topic in TOPICS:
            assert seq >= self.seqs.get(topic, 0)
            self.seqs[topic] = seq

    @property
    def of_the_envelope(self) -> dict[str, Any]:
        """The part of the filter that can be tried on what is left of a message."""
        return {name: test for name, test in (self.where or {}).items() if name in ("type", "from", "id")}

    def ack(self) -> None:
        """Settle everything that came."""
        if self.peer is None or not self.peer.reading or self.peer.close_code is not None:
            return
        for topic, seq in self.to_ack:
            self.peer.request("ack", topic=topic, consumer=self.consumer, seq=seq)
        self.to_ack.clear()

    def expected(self, topic: str, plain: list[Line]) -> list[Line]:
        covered = topic == self.name or ("*" in self.name and (self.name != "g/*" or topic.count("/") == 1))
        return [cut(line, self.select) for line in plain if covered and matches(line, self.where)]


class Walk:
    def __init__(self, directory: Path, seed: int) -> None:
        self.source = source = random.Random(seed)
        segments = LogSettings(segment_bytes=source.choice([4_000, 1 << 20]), min_free_bytes=1)
        memory = source.choice([1, 1000])
        self.site = ShardSite(directory, seed=seed, log=segments, topics_in_memory=memory, max_filters=100)
        self.plain = Reader(0, "**", None, None)
        self.readers = [self.plain]
        for number in range(1, 7):
            self.readers.append(
                Reader(number, source.choice(NAMES), drawn_where(source) or {"type": "a"}, drawn_select(source))
            )
        for number in range(7, 9):
            name = source.choice(["g/a", "g/b/c", "g/**"])
            self.readers.append(Reader(number, name, drawn_where(source), drawn_select(source), f"c{number}"))
        self.count = 0
        self.publisher = self.site.connect("joe")
        for reader in self.readers:
            reader.come(self.site)
        self.site.settle()

    def publish(self) -> None:
        source = self.source
        if not self.publisher.reading:
            return
        lines = []
        for _ in range(source.choice([1, 1, 3, 20, 300])):
            self.count += 1
            line: Line = {"op": "pub", "topic": source.choice(TOPICS), "id": f"{self.count}"}
            if source.random() < 0.1:
                line["ephemeral"] = True
            if source.random() < 0.8:
                line["type"] = source.choice("abc")
            if source.random() < 0.5:
                line["headers"] = {"h": source.randrange(10), "text": ',"data":{}'}
            if source.random() < 0.1:
                line["payload"] = bytes(source.choice(SIZES))
            else:
                items = [{"x": source.randrange(10), "y": 0} for _ in range(source.randrange(3))]
                line["data"] = {"n": source.randrange(10), "list": items, "pad": "p" * source.choice(SIZES[:3])}
            lines.append(line)
        self.publisher.send(*lines)

    def go_on(self) -> None:
        match self.source.randrange(5):
            case 0:
                self.site.loop.turn()
            case 1:
                self.site.sync()
            case 2:
                self.site.tick(self.source.choice([0.05, 1.5, 100.0]))
            case 3:
                for reader in self.readers:
                    reader.ack()
            case _:
                self.site.settle()

    def read_or_not(self) -> None:
        peer = self.source.choice(self.readers).peer
        assert peer is not None
        if self.source.random() < 0.5:
            peer.fill(self.source.choice([0, 300, 3000]))
        else:
            peer.drain()

    def come_back(self) -> None:
        reader = self.source.choice(self.readers)
        assert reader.peer is not None
        reader.peer.disconnect()
        reader.to_ack.clear()
        reader.come(self.site)

    def power_cut(self) -> None:
        self.site.crash()
        self.site.reopen()
        self.publisher = self.site.connect("joe")
        for reader in self.readers:
            reader.to_ack.clear()
            reader.come(self.site)

    def check(self) -> None:
        """Everybody reads everything: then each has what the plain one has, sifted."""
        for reader in self.readers:
            assert reader.peer is not None
            reader.peer.drain()
        self.site.settle()
        while any(reader.to_ack for reader in self.readers):
            for reader in self.readers:
                reader.ack()
            self.site.settle()
        self.site.tick(1.0)
        self.site.settle()
        self.site.raise_uncaught()
        for topic in TOPICS:
            plain = self.plain.got[topic]
            assert [line["seq"] for line in plain] == list(range(1, len(plain) + 1))
            for reader in self.readers[1:]:
                expected = reader.expected(topic, plain)
                if reader.consumer is None:
                    assert reader.got[topic] == expected, (reader.name, reader.where, reader.select)
                else:
                    self.check_consumer(reader, topic, expected, len(plain))

    def check_consumer(self, reader: Reader, topic: str, expected: list[Line], head: int) -> None:
        assert reader.consumer is not None
        extra = ("consumer", "made", "lease", "attempt")
        got = {
            line["seq"]: {name: value for name, value in line.items() if name not in extra}
            for line in reader.got[topic]
        }
        assert got == {line["seq"]: line for line in expected}, (reader.name, reader.where)
        consumer = self.site.consumers.covering(topic, reader.consumer)
        if consumer is not None and head:
            assert self.site.consumers.place(consumer, topic).settled.floor == head


def walk(directory: Path, seed: int, steps: int) -> None:
    course = Walk(directory, seed)
    choices = {
        course.publish: 20,
        course.go_on: 40,
        course.read_or_not: 12,
        course.come_back: 6,
        course.power_cut: 1,
        course.check: 1,
    }
    try:
        for step in course.source.choices(list(choices), list(choices.values()), k=steps):
            step()
        course.check()
    finally:
        course.site.close()


@pytest.mark.parametrize("seed", range(6))
def test_what_a_filter_lets_through_is_the_plain_topic_sifted(tmp_path: Path, seed: int) -> None:
    walk(tmp_path, seed, 120)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_many_walks(tmp_path: Path) -> None:
    given = os.environ.get("HUBBUB_TEST_SEED")
    for seed in [int(given)] if given else [random.SystemRandom().randrange(2**32) for _ in range(150)]:
        print(f"HUBBUB_TEST_SEED={seed}")
        walk(tmp_path / str(seed), seed, 400)
