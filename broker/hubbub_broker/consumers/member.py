"""A member of a consumer: one connection's share in its work."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from hubbub_broker.shard import Sink, Start
from hubbub_protocol.filters import Filter

from .lease import Lease

if TYPE_CHECKING:
    from .consumer import Consumer
    from .place import Place


class Wish(NamedTuple):
    """What a member asks for. None: what the consumer has, or the setting."""

    topic: str
    name: str
    start: Start
    ack_wait: float
    max_unacked: int
    max_deliver: int | None
    backoff: tuple[float, ...] | None
    exclusive: bool
    ordered: str | None
    filter: Filter | None = None
    """What of its topics is its business."""


class Member:
    """Holds at most `max_unacked` messages at a time."""

    __slots__ = (
        "ack_wait",
        "agent",
        "announce",
        "consumer",
        "draining",
        "gone",
        "id",
        "leases",
        "lines",
        "max_unacked",
        "overdue",
        "session",
        "since",
        "sink",
        "special",
        "stalled",
        "ticket",
        "timed",
    )

    def __init__(
        self, sink: Sink, agent: str, session: str, consumer: Consumer, ack_wait: float, max_unacked: int, since: float
    ) -> None:
        self.sink = sink
        self.agent = agent
        self.session = session
        """The life of the agent, or the connection's own name."""
        self.consumer = consumer
        self.ack_wait = ack_wait
        """Seconds that it may take for a message before it says something of it."""
        self.max_unacked = max_unacked
        self.since = since
        self.leases: dict[tuple[Place, int], Lease] = {}
        """What it has out, in the order in which that runs out."""
        self.lines: list[bytes] = []
        """What it is to be sent at the end of this turn."""
        self.special: dict[int, tuple[int, float]] = {}
        self.announce = True
        """Whether it is to be told (`live`) when there is nothing left from before."""
        self.draining = False
        """It wants nothing more, and is finishing what it has."""
        self.gone = False
        self.overdue = False
        """It has let its time for a message run out, and settled none since."""
        self.ticket = 0
        """Its newest place in the pool's queue."""
        self.timed = False
        """Whether a look at its deadlines is due some time."""
        self.stalled: deque[tuple[Place, int]] = deque()
        """Messages whose key is this member's, for which it had no room."""
        self.id = id(self)

    @property
    def has_room(self) -> bool:
        """Whether it can be given one more."""
        return len(self.leases) < self.max_unacked and self.sink.writable and not (self.draining or self.gone)
