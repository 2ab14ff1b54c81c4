"""What happened, as the clients themselves saw it: what a workload writes down, and `checkers` judges.

sent        what a publisher tried to publish, in its order
answered    what the broker said of it
readings    what each reader got, in its order, gaps included
replay      what an independent reader finds in the end: the durable truth
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Message:
    """One message as somebody got it. `content` is whatever tells one message from another."""

    topic: str
    seq: int | None
    id: str
    sender: str
    content: Hashable = None


@dataclass(frozen=True, slots=True)
class Hole:
    """A `gap`: messages that the broker said will not come."""

    topic: str
    first: int
    last: int
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An `ok`."""

    sender: str
    topic: str
    id: str
    seq: int
    dup: bool = False


@dataclass(slots=True)
class Reading:
    """What one reader got, topic by topic.

    `start` is the first seq that it must get in every topic; None: whatever comes first, and no hole from there.
    `complete`: it is to have everything up to the end of the replay. `local`: it may hear messages of its own process
    before they have a seq, so that it is judged by ids and by each publisher's own order.
    """

    name: str
    start: int | None = 1
    complete: bool = True
    local: bool = False
    entries: dict[str, list[Message | Hole]] = field(default_factory=lambda: defaultdict(list))
    topics: set[str] = field(default_factory=set)
    """Topics that it must have read, even if nothing of them ever came."""

    def saw(self, message: Message) -> None:
        """A message came."""
        self.entries[message.topic].append(message)

    def told(self, hole: Hole) -> None:
        """A gap came."""
        self.entries[hole.topic].append(hole)

    def head(self, topic: str) -> int:
        """The last seq that came, or that a gap covers."""
        for entry in reversed(self.entries.get(topic, [])):
            if isinstance(entry, Hole):
                return entry.last
            if entry.seq is not None:
                return entry.seq
        return 0


@dataclass(slots=True)
class History:
    """One run."""

    sent: dict[tuple[str, str], dict[str, Hashable]] = field(default_factory=lambda: defaultdict(dict))
    """(publisher, topic) -> id -> content, in the order of publishing."""
    answered: list[Answer] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    replay: dict[str, list[Message | Hole]] = field(default_factory=lambda: defaultdict(list))

    def publishing(self, sender: str, topic: str, id: str, content: Hashable = None) -> None:
        """A publisher is about to publish (for the first time: a repeat is the same message)."""
        self.sent[sender, topic].setdefault(id, content)

    def reading(self, name: str, *topics: str, start: int | None = 1, local: bool = False) -> Reading:
        """A reader's page in this history."""
        reading = Reading(name, start, local=local, topics=set(topics))
        self.readings.append(reading)
        return reading
