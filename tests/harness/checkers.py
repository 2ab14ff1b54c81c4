"""Judges of a history. Pure: they know no broker, no clock and no socket.

Each anomaly has one name:

    lost           answered `ok`, and not there in the end; or there, and a reader that should have it never got it
    duplicate      one seq twice to one reader; one message of one publisher stored, or delivered, twice
    nonmonotonic   a lower seq after a higher one
    skip           a seq left out without a gap that says so
    fork           one seq, two contents: between readers, answers, and what is there in the end
    phantom        a message that nobody published, or not like that
    overtaken      a publisher's messages to a topic in another order than it published them
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .history import History, Hole, Message, Reading

STORE = "the replay"
"""Who is named when what is stored is wrong, and not what one reader got."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One thing that must not be."""

    kind: str
    topic: str
    seq: int | None
    where: str
    what: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.topic}#{self.seq} at {self.where}{f': {self.what}' if self.what else ''}"


def check(history: History, *, ordered: bool = True) -> list[Anomaly]:
    """Everything that is wrong with a history.

    Args:
        history: the run.
        ordered: whether publishers numbered what they sent, so that its order was promised.
    """
    return [
        *find_lost(history),
        *find_duplicates(history),
        *find_disorder(history),
        *find_forks(history),
        *find_phantoms(history),
        *(find_overtaken(history) if ordered else ()),
    ]


def explain(anomalies: list[Anomaly], seed: object = None, most: int = 20) -> str:
    """What a failing test prints."""
    kinds = sorted({anomaly.kind for anomaly in anomalies})
    counts = ", ".join(f"{sum(anomaly.kind == kind for anomaly in anomalies)} {kind}" for kind in kinds)
    lines = [f"{counts} (seed {seed})", *map(str, anomalies[:most])]
    return "\n".join(lines)


def find_lost(history: History) -> Iterator[Anomaly]:
    """Answered and gone; stored and not delivered to a reader that must be complete."""
    stored = {(m.sender, m.topic, m.id) for m in _stored(history)}
    holes = _holes(history.replay)
    for answer in history.answered:
        if (answer.sender, answer.topic, answer.id) not in stored and (answer.topic, answer.seq) not in holes:
            yield Anomaly("lost", answer.topic, answer.seq, STORE, f"{answer.id} of {answer.sender} was answered ok")
    for reading in history.readings:
        yield from _lost_to(reading, history)


def _lost_to(reading: Reading, history: History) -> Iterator[Anomaly]:
    if not reading.complete:
        return
    for topic in reading.topics | reading.entries.keys():
        if reading.local:
            yield from _never_heard(reading, topic, history)
            continue
        last = max((m.seq or 0 for m in history.replay.get(topic, []) if isinstance(m, Message)), default=0)
        head = reading.head(topic)
        if head < last and (reading.start is None or reading.start <= last):
            yield Anomaly("lost", topic, head + 1, reading.name, f"it got nothing after {head}, the head is {last}")


def _never_heard(reading: Reading, topic: str, history: History) -> Iterator[Anomaly]:
    """Of a publisher that a reader of what is new has heard, what that one had said before the first is not its own:
    it may have been waiting for the broker already when the reader began with a local message.
    """
    page = list(_messages(reading.entries.get(topic, [])))
    heard = {(message.sender, message.id) for message in page}
    start = reading.start or min((message.seq for message in page if message.seq is not None), default=1)
    begun: set[str] = set()
    for message in _messages(history.replay.get(topic, [])):
        if (message.sender, message.id) in heard:
            begun.add(message.sender)
        elif (message.seq or 0) >= start and (
            reading.start is not None or message.sender in begun or not any(s == message.sender for s, _ in heard)
        ):
            yield Anomaly("lost", topic, message.seq, reading.name, f"{message.id} of {message.sender} never came")


def find_duplicates(history: History) -> Iterator[Anomaly]:
    """The same again: in what is stored, or to one reader."""
    pages = [(STORE, history.replay), *((reading.name, reading.entries) for reading in history.readings)]
    for name, entries in pages:
        for topic, page in entries.items():
            seqs: set[int] = set()
            ids: dict[tuple[str, str], int | None] = {}
            for message in _messages(page):
                key = (message.sender, message.id)
                if message.seq in seqs:
                    yield Anomaly("duplicate", topic, message.seq, name)
                elif key in ids:
                    what = f"{message.id} of {message.sender} is {ids[key]} already"
                    yield Anomaly("duplicate", topic, message.seq, name, what)
                if message.seq is not None:
                    seqs.add(message.seq)
                ids[key] = message.seq


def find_disorder(history: History) -> Iterator[Anomaly]:
    """Seqs that go back, or leave one out: of every reader, and of what is stored."""
    for topic, page in history.replay.items():
        yield from _disorder(STORE, topic, page, 1)
    for reading in history.readings:
        if reading.local:
            continue
        for topic, page in reading.entries.items():
            yield from _disorder(reading.name, topic, page, reading.start)


def _disorder(name: str, topic: str, page: list[Message | Hole], start: int | None) -> Iterator[Anomaly]:
    expected = start
    for entry in page:
        if isinstance(entry, Hole):
            if expected is None or entry.last >= expected:
                expected = entry.last + 1
            continue
        if entry.seq is None:
            continue
        if expected is not None and entry.seq > expected:
            yield Anomaly("skip", topic, expected, name, f"{entry.seq} came where {expected} was due")
        elif expected is not None and entry.seq < expected - 1:  # one less is the last one again: a duplicate
            yield Anomaly("nonmonotonic", topic, entry.seq, name, f"it came where {expected} was due")
        expected = entry.seq + 1 if expected is None else max(expected, entry.seq + 1)


def find_forks(history: History) -> Iterator[Anomaly]:
    """One seq that stands for two messages."""
    truth: dict[tuple[str, int], tuple[str, str, object]] = {}
    names: dict[tuple[str, int], str] = {}
    pages = [(STORE, history.replay), *((reading.name, reading.entries) for reading in history.readings)]
    for name, entries in pages:
        for message in _messages(entry for page in entries.values() for entry in page):
            if message.seq is None:
                continue
            place = (message.topic, message.seq)
            mine = (message.sender, message.id, message.content)
            other = truth.setdefault(place, mine)
            if other != mine:
                what = f"{mine}, but {other} at {names[place]}"
                yield Anomaly("fork", message.topic, message.seq, name, what)
            names.setdefault(place, name)
    for answer in history.answered:
        known = truth.get((answer.topic, answer.seq))
        if known is not None and known[:2] != (answer.sender, answer.id):
            what = f"answered to {answer.id} of {answer.sender}, but it is {known}"
            yield Anomaly("fork", answer.topic, answer.seq, "an answer", what)
    yield from _answered_twice(history)


def _answered_twice(history: History) -> Iterator[Anomaly]:
    seqs: dict[tuple[str, str, str], int] = {}
    for answer in history.answered:
        first = seqs.setdefault((answer.sender, answer.topic, answer.id), answer.seq)
        if first != answer.seq:
            what = f"{answer.id} of {answer.sender} was answered with {first} before"
            yield Anomaly("fork", answer.topic, answer.seq, "an answer", what)


def find_phantoms(history: History) -> Iterator[Anomaly]:
    """Messages that nobody published, or not with this content."""
    pages = [(STORE, history.replay), *((reading.name, reading.entries) for reading in history.readings)]
    for name, entries in pages:
        for message in _messages(entry for page in entries.values() for entry in page):
            published = history.sent.get((message.sender, message.topic), {})
            if message.id not in published:
                yield Anomaly("phantom", message.topic, message.seq, name, f"{message.id} of {message.sender}")
            elif published[message.id] != message.content:
                what = f"{message.content!r} was published as {published[message.id]!r}"
                yield Anomaly("phantom", message.topic, message.seq, name, what)


def find_overtaken(history: History) -> Iterator[Anomaly]:
    """A publisher's own order turned round: in what is stored, and (ephemeral ones included) at every reader."""
    places = {
        (sender, topic, id): place for (sender, topic), ids in history.sent.items() for place, id in enumerate(ids)
    }
    pages = [(STORE, history.replay), *((reading.name, reading.entries) for reading in history.readings)]
    for name, entries in pages:
        for topic, page in entries.items():
            last: dict[str, int] = {}
            for message in _messages(page):
                place = places.get((message.sender, topic, message.id), -1)
                if place < last.get(message.sender, -1):
                    what = f"{message.id} of {message.sender} comes after one that was published later"
                    yield Anomaly("overtaken", topic, message.seq, name, what)
                last[message.sender] = max(place, last.get(message.sender, -1))


def _messages(entries: Iterable[Message | Hole]) -> Iterator[Message]:
    return (entry for entry in entries if isinstance(entry, Message))


def _stored(history: History) -> Iterator[Message]:
    return _messages(entry for page in history.replay.values() for entry in page)


def _holes(replay: dict[str, list[Message | Hole]]) -> set[tuple[str, int]]:
    """Places that the replay itself says are gone (retention, damage)."""
    return {
        (topic, seq)
        for topic, page in replay.items()
        for hole in page
        if isinstance(hole, Hole)
        for seq in range(hole.first, hole.last + 1)
    }
