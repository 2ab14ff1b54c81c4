"""A subscription by pattern: a rule by which a connection joins every topic that matches, now and later."""

import asyncio
from collections.abc import Callable

from hubbub_protocol.filters import Filter
from hubbub_protocol.names import reader_of

from .cursor import Cursor
from .sink import Sink
from .start import Start
from .topic import Topic

_UNFINISHED_MAX = 64
"""Topics of one pattern whose history is replayed at a time: the rest need not be in memory yet."""


class PatternSubscription:
    """One pattern of one connection in one shard.

    Nothing is done for a topic before that topic has something to deliver, or its history is asked for: a new pattern
    costs the same whether there are ten topics or a hundred thousand.
    """

    __slots__ = (
        "_on_live",
        "_room",
        "closed",
        "filter",
        "listing",
        "live",
        "matches",
        "pattern",
        "sink",
        "start",
        "unfinished",
    )

    def __init__(
        self, sink: Sink, pattern: str, start: Start, on_live: Callable[[], None], filter: Filter | None = None
    ) -> None:
        self.sink = sink
        self.pattern = pattern
        self.start = start
        self.filter = filter
        """What it wants of the topics that match."""
        self.matches: Callable[[str], bool] = reader_of(pattern)
        self.unfinished: set[Cursor] = set()
        """Cursors still replaying what was there at the start; while there are any, or while `listing`, the
        subscription as a whole has not reached the head."""
        self.listing = not start.is_new
        self.live = start.is_new
        """Everything of the past that it asked for has been sent. What it joins from now on, it joins at the head."""
        self.closed = False
        self._on_live = on_live
        self._room: asyncio.Future[None] | None = None

    def only(self, readable: Callable[[str], bool]) -> None:
        """Pass over topics that match and are not `readable`: asked once for each topic, not for each message."""
        matches = self.matches
        self.matches = lambda topic: matches(topic) and readable(topic)

    def start_in(self, topic: Topic) -> int:
        """The seq at which this subscription begins in `topic`."""
        return topic.delivered + 1 if self.live else self.start.in_pattern(topic)

    def settle(self) -> None:
        """Become live if nothing of the past is left to send."""
        if not (self.live or self.listing or self.unfinished or self.closed):
            self.live = True
            self._on_live()

    def finish(self, cursor: Cursor) -> None:
        """A cursor has replayed what was there, or is gone."""
        self.unfinished.discard(cursor)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def room(self) -> None:
        """Wait until fewer than `_UNFINISHED_MAX` topics are being replayed."""
        while len(self.unfinished) >= _UNFINISHED_MAX:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
