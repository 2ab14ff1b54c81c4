"""A reader's place in a topic. That is all a subscription costs while its reader is slow: a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hubbub_protocol.filters import Filter

from .sink import Sink

if TYPE_CHECKING:
    from .pattern import PatternSubscription
    from .topic import Topic


class Cursor:
    """One connection's place in one topic.

    Either it is *live* (a key of `topic.peers`): it has all up to `topic.delivered` and gets each new run as that goes
    out; or it is *behind*: `next` is the first seq that it has not been sent, and catch-up reads that from the log.
    """

    __slots__ = (
        "announce",
        "caught_up",
        "closed",
        "filter",
        "next",
        "passed",
        "pattern",
        "signals_seen",
        "sink",
        "topic",
        "warming",
    )

    def __init__(
        self,
        sink: Sink,
        topic: Topic,
        next: int,
        caught_up: Callable[[Cursor], None],
        pattern: PatternSubscription | None = None,
        filter: Filter | None = None,
    ) -> None:
        self.sink = sink
        self.topic = topic
        self.next = next
        self.caught_up = caught_up
        """Called when it has reached the head, and is to become live."""
        self.pattern = pattern
        """The pattern that this cursor came from, if it was not asked for by the topic's own name."""
        self.announce = True
        """Whether the reader is to be told (`live`) when it has caught up."""
        self.signals_seen = topic.signals
        """The topic's count of ephemeral messages when the reader was last live: it is told how many it missed. The
        cursor that goes on in this one's place goes on from it, too."""
        self.closed = False
        self.filter = filter
        """What its reader wants of the topic; None: everything."""
        self.passed = 0
        """Messages that it was passed over by in the log since its reader was last sent anything."""
        topic.enter(self)
        self.warming = False
        """What it needs next is being read into memory; until then there is no use in trying."""

    @property
    def lag(self) -> int:
        """Durable messages that the reader has not been sent yet. 0 when live."""
        return 0 if self in self.topic.peers(self) else max(0, self.topic.delivered + 1 - self.next)

    def detach(self) -> None:
        """Take the cursor out of its topic and its connection. `next` and `signals_seen` then say where it was."""
        if self.closed:
            return
        self.closed = True
        peers = self.topic.peers(self)
        if self in peers:
            del peers[self]
            self.next = self.topic.delivered + 1
            self.signals_seen = self.topic.signals
        self.topic.leave(self)
        if self.sink.cursors.get(self.topic.name) is self:
            del self.sink.cursors[self.topic.name]
        if self.pattern is not None:
            self.pattern.finish(self)
