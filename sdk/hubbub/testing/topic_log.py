"""A topic in memory: its messages, and what is on its way into them."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec.structs import replace

from hubbub_protocol import codec, names
from hubbub_protocol.filters import Filter, View
from hubbub_protocol.frames import From, Msg, Ok, Pub

if TYPE_CHECKING:
    from .connection import Session


@dataclass(slots=True)
class Stored:
    """A message in a topic's log."""

    frame: Msg
    line: bytes
    payload: bytes | None
    expires_at: float | None

    def as_json(self) -> bytes:
        """The message as JSON; a payload of bytes as `data_base64`."""
        if self.payload is None:
            return self.line
        return b'%b,"data_base64":"%b"}' % (self.line[:-1], base64.b64encode(self.payload))

    def part(self, filter: Filter | None) -> "Stored | None":
        """What of it somebody wants; None: nothing."""
        if filter is None:
            return self
        view = View(self.frame, binary=self.payload is not None)
        if not filter.matches(view):
            return None
        headers, data, with_payload = filter.cut(view)
        frame = replace(self.frame, headers=headers, data=data)
        return Stored(frame, codec.encode(frame), self.payload if with_payload else None, self.expires_at)


@dataclass(slots=True)
class Arrival:
    """An accepted message on its way into the log."""

    pub: Pub
    payload: bytes | None
    sender: str
    writer: str
    askers: "list[tuple[Session, bool]]"
    """Who gets the `ok`, and whether as a duplicate."""
    orphan: bool = False


@dataclass(slots=True)
class TopicLog:
    """A topic."""

    name: str
    epoch: str
    first: int = 1
    lc: int = 0
    messages: list[Stored] = field(default_factory=list)
    ids: dict[tuple[str, str], Ok] = field(default_factory=dict)
    writers: dict[str, int] = field(default_factory=dict)
    durable_writers: dict[str, int] = field(default_factory=dict)
    pending: dict[tuple[str, str], Arrival] = field(default_factory=dict)
    held: dict[str, list[Arrival]] = field(default_factory=dict)
    """By the id of the parent that they wait for."""

    @property
    def head(self) -> int:
        return self.first - 1 + len(self.messages)

    def knows(self, id: str) -> bool:
        """Whether a message of that id is here, or about to be."""
        return any(known == id for _, known in self.ids) or any(known == id for _, known in self.pending)


class Subscriber:
    """A subscription: a cursor in each of its topics."""

    def __init__(self, session: "Session", name: str, start: str | From, filter: Filter | None = None) -> None:
        self.filter = filter
        self.passed = 0
        """Messages that went by since it was last sent anything."""
        self.session = session
        self.name = name
        self.start = start
        self.matches: Callable[[str], bool] = names.reader_of(name) if names.is_pattern(name) else name.__eq__
        self.next: dict[str, int] = {}
        self.live = False
