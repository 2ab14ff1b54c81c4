"""A subscription on the wire, and the table of those that share a connection.

    off --- ask ---> asked --- ok ---> on --- leave ---> leaving --- ok ---> off
     ^                 |                |                   |
     +---------- the connection ended, at any time ---------+

The protocol knows a subscription by its topic, once for each connection. So a feed serves all mailboxes of this agent
that want the same messages at the same place, in lockstep; and no two feeds of one connection may overlap, since a
message does not say to which subscription it belongs.
"""

import logging
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Protocol

from hubbub_protocol import names
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import Err, Gap, Live, Msg, Ok, Rid, Skip, Sub, Unsub

from . import policy
from .backoff import Backoff
from .cursor import Cursor, PatternCursor
from .errors import HubbubError
from .link import Link
from .mailbox import MESSAGE_OVERHEAD_BYTES, Mailbox
from .message import Message

logger = logging.getLogger("hubbub")

RETRY = Backoff(base=1.0, cap=60.0)
"""How long a subscription that the broker can't take now is put off, when the broker does not say."""

ROUTES_MAX = 100_000
"""Topics for which a connection remembers the pattern feed that they belong to."""


class FeedState(StrEnum):
    """Where a feed stands on its wire."""

    OFF = "off"
    ASKED = "asked"
    ON = "on"
    LEAVING = "leaving"


class FeedEvent(StrEnum):
    """What happens to a feed."""

    ASK = "ask"
    TAKEN = "taken"
    LEAVE = "leave"
    LEFT = "left"
    REFUSED = "refused"
    LOST = "lost"


TRANSITIONS: dict[FeedState, dict[FeedEvent, FeedState]] = {
    FeedState.OFF: {FeedEvent.ASK: FeedState.ASKED, FeedEvent.LOST: FeedState.OFF},
    FeedState.ASKED: {
        FeedEvent.TAKEN: FeedState.ON,
        FeedEvent.REFUSED: FeedState.OFF,
        FeedEvent.LOST: FeedState.OFF,
    },
    FeedState.ON: {FeedEvent.LEAVE: FeedState.LEAVING, FeedEvent.LOST: FeedState.OFF},
    FeedState.LEAVING: {FeedEvent.LEFT: FeedState.OFF, FeedEvent.LOST: FeedState.OFF},
}


class Feed:
    """One wire subscription and the mailboxes that it fills."""

    def __init__(self, topic: str, cursor: Cursor, filter: Filter | None = None) -> None:
        self.topic = topic
        self.filter = filter
        """What of the topic its mailboxes want; None: everything."""
        self.matches: Callable[[str], bool] = names.reader_of(topic) if names.is_pattern(topic) else topic.__eq__
        self.cursor = cursor
        self.boxes: list[Mailbox] = []
        self.state = FeedState.OFF
        self.live = False
        """Whether the replay has reached the head since the feed was last taken."""
        self.asked_at = 0.0
        self.refusals = 0
        """How often in a row the broker has put it off."""
        self.successor: Feed | None = None
        """Takes this one's place on the connection once it is off."""

    def happen(self, event: FeedEvent) -> None:
        """Move as the table says."""
        self.state = TRANSITIONS[self.state][event]
        if self.state is not FeedState.ON:
            self.live = False

    @property
    def wanted(self) -> bool:
        """Whether any mailbox has room for more."""
        return any(not box.is_behind for box in self.boxes)

    def take(self, message: Message, frame: Msg, size: int) -> int:
        """Hand a message to every mailbox. Returns how many before it never came, or -1 if it is not new."""
        missing = self.cursor.admit(frame)
        if missing >= 0:
            if missing and self.filter is None:
                assert frame.seq is not None
                self.tell(Gap(topic=frame.topic, first=frame.seq - missing, last=frame.seq - 1, reason="unknown"))
            for box in self.boxes:
                box.put(message, size)
        return missing

    def tell(self, gap: Gap) -> None:
        """Tell every mailbox of a gap."""
        for box in tuple(self.boxes):
            box.tell_gap(gap)

    def sub(self, rid: Rid) -> Sub:
        """What is asked of the broker, to go on from where it stands."""
        filter = self.filter
        return Sub(
            topic=self.topic,
            start=self.cursor.start(),
            where=None if filter is None else filter.where,
            select=None if filter is None else filter.select,
            rid=rid,
        )

    def opened(self, ok: Ok) -> None:
        """The broker took it."""
        self.refusals = 0
        self.cursor.opened(ok, self.asked_at)
        for box in self.boxes:
            box.ready.set()

    def went_live(self, now: float) -> None:
        """The replay reached the head, at the broker's time `now`."""
        self.live = True
        self.cursor.live(now)
        for box in self.boxes:
            box.live.set()

    def join(self, box: Mailbox) -> None:
        """Serve one more mailbox, from here on."""
        self.boxes.append(box)
        if self.state is FeedState.ON:
            box.ready.set()
        if self.live:
            box.live.set()

    def part(self, box: Mailbox) -> None:
        """Serve a mailbox no more; its own cursor is where it stands now."""
        # A new list, because this may happen while `take` goes through the old one.
        self.boxes = [other for other in self.boxes if other is not box]
        box.cursor = self.cursor.copy()

    def fail(self, error: HubbubError) -> None:
        """End all mailboxes."""
        for box in tuple(self.boxes):
            box.end(error)


class Reporter(Protocol):
    """Who wants to know what becomes of feeds."""

    def feed_off(self, feed: Feed) -> None:
        """A feed left the table: its mailboxes, if it still has any, stand at their own cursors."""


class FeedTable:
    """The feeds of one connection."""

    def __init__(
        self,
        reporter: Reporter,
        later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float],
    ) -> None:
        """`later(seconds, call)` is a timer, `clock` a steady clock."""
        self._reporter = reporter
        self._later = later
        self._clock = clock
        self._link: Link | None = None
        self._feeds: dict[str, Feed] = {}
        self._patterns: list[tuple[Callable[[str], bool], Feed]] = []
        self.routes: dict[str, Feed] = {}
        """Topic to feed, as far as known. Hot code looks here first."""

    def __iter__(self) -> Iterator[Feed]:
        return iter(tuple(self._feeds.values()))

    def __len__(self) -> int:
        return len(self._feeds)

    def get(self, topic: str) -> Feed | None:
        """The feed of exactly this topic or pattern."""
        return self._feeds.get(topic)

    def find(self, topic: str) -> Feed | None:
        """The feed to which a message of `topic` belongs."""
        feed = self.routes.get(topic)
        if feed is not None:
            return feed
        for matches, feed in self._patterns:
            if matches(topic):
                if len(self.routes) >= ROUTES_MAX:
                    self._rebuild_routes()
                self.routes[topic] = feed
                return feed
        return None

    def overlapping(self, topic: str) -> bool:
        """Whether a feed here could get messages of `topic` (which may be a pattern)."""
        return any(names.readers_overlap(topic, other) for other in self._feeds)

    # Life of a feed ---------------------------------------------------------------------------------------------

    def add(self, feed: Feed) -> None:
        """Put a feed on this connection."""
        self._feeds[feed.topic] = feed
        if names.is_pattern(feed.topic):
            self._patterns.append((feed.matches, feed))
        else:
            self.routes[feed.topic] = feed
        self._ask(feed)

    def succeed(self, feed: Feed, successor: Feed) -> bool:
        """Have `successor` take the place of a feed of the same topic that nobody wants any more and that is still on
        the wire. False if it is not so.
        """
        if feed.boxes or feed.successor is not None or feed.state is FeedState.OFF:
            return False
        feed.successor = successor
        return True

    def remove(self, feed: Feed) -> None:
        """Take a feed off: at once when it is not on the wire, else once the broker has confirmed it."""
        if feed.state is FeedState.OFF:
            self._forget(feed)
        elif feed.state is FeedState.ON:
            self._leave(feed)
        # asked or leaving: what comes next decides, by whether anyone wants it then

    def check(self, feed: Feed) -> None:
        """Do what the mailboxes' room calls for."""
        if feed.state is FeedState.OFF:
            if feed.wanted:
                self._ask(feed)
            else:
                self._forget(feed)
        elif feed.state is FeedState.ON and not feed.wanted:
            self._leave(feed)

    def link_up(self, link: Link) -> None:
        """Subscribe everything again, each feed after what it has handed over."""
        self._link = link
        for feed in self:
            self.check(feed)

    def link_down(self) -> None:
        """Nothing is on the wire any more."""
        self._link = None
        for feed in self:
            feed.happen(FeedEvent.LOST)
            if not feed.boxes:
                self._forget(feed)

    def parted(self, topics: set[str]) -> None:
        """These are off the wire, though the connection goes on: they are asked for again, each from its place."""
        for topic in topics:
            feed = self._feeds.get(topic)
            if feed is not None and feed.state is FeedState.ON:  # else what is under way has an answer of its own
                feed.happen(FeedEvent.LOST)
                self.check(feed)

    def fail(self, error: HubbubError) -> None:
        """End all feeds and their mailboxes."""
        for feed in self:
            feed.fail(error)
        self._feeds.clear()
        self._patterns.clear()
        self.routes.clear()

    # What the broker says ---------------------------------------------------------------------------------------

    def live(self, frame: Live) -> None:
        """A replay has reached the head."""
        self.passed(frame)
        feed = self._feeds.get(frame.topic)
        if feed is not None and feed.state is FeedState.ON:
            assert self._link is not None
            feed.went_live(self._link.broker_time())

    def passed(self, frame: Live | Skip) -> None:
        """The broker tells how far it has come in a topic of which only a part is wanted."""
        feed = None if names.is_pattern(frame.topic) else self.find(frame.topic)
        if feed is not None and feed.filter is not None and feed.state is FeedState.ON:
            feed.cursor.passed(frame.topic, frame.seq)

    def gap(self, frame: Gap) -> None:
        """Some messages will not come."""
        feed = self._feeds.get(frame.topic) or self.find(frame.topic)
        if feed is not None:
            if not names.is_pattern(frame.topic):
                feed.cursor.gap(frame)
            feed.tell(frame)

    def beat(self) -> None:
        """Once a heartbeat: forget ids that are old, and keep patterns' cursors small."""
        for feed in self._feeds.values():
            for box in feed.boxes:
                box.recent.age(self._clock())
        if self._link is None:
            return
        now = self._link.broker_time()
        for _, feed in self._patterns:
            if isinstance(feed.cursor, PatternCursor):
                feed.cursor.prune(now)

    # ------------------------------------------------------------------------------------------------------------

    def _ask(self, feed: Feed) -> None:
        link = self._link
        if link is None:
            return
        feed.happen(FeedEvent.ASK)
        feed.asked_at = link.broker_time()
        feed.cursor.asked(feed.asked_at, self._clock())
        link.ask(feed.sub, lambda answer: self._asked(feed, answer))

    def _asked(self, feed: Feed, answer: Ok | Err) -> None:
        if isinstance(answer, Ok):
            feed.happen(FeedEvent.TAKEN)
            feed.opened(answer)
            self.check(feed)
            return
        feed.happen(FeedEvent.REFUSED)
        if not feed.boxes:
            self._forget(feed)
        elif policy.is_retryable(answer.code):
            delay = RETRY.ceiling(feed.refusals) if answer.retry_after is None else answer.retry_after
            feed.refusals += 1
            logger.warning("! subscription to %s put off for %.1f s: %s", feed.topic, delay, answer.message)
            self._later(delay, lambda: self._ask_again(feed))
        else:
            logger.warning("! subscription to %s refused: %s (%s)", feed.topic, answer.message, answer.code)
            feed.fail(policy.rejection_of(answer))
            self._forget(feed)

    def _ask_again(self, feed: Feed) -> None:
        if self._feeds.get(feed.topic) is feed and feed.state is FeedState.OFF:
            self.check(feed)

    def _leave(self, feed: Feed) -> None:
        link = self._link
        assert link is not None, "a feed is on only while its link is up"
        feed.happen(FeedEvent.LEAVE)
        link.ask(lambda rid: Unsub(topic=feed.topic, rid=rid), lambda _: self._left(feed))

    def _left(self, feed: Feed) -> None:
        feed.happen(FeedEvent.LEFT)
        self.check(feed)

    def _forget(self, feed: Feed) -> None:
        if self._feeds.get(feed.topic) is feed:
            del self._feeds[feed.topic]
            self._patterns = [(matches, other) for matches, other in self._patterns if other is not feed]
            self._rebuild_routes()
        if feed.successor is not None and feed.successor.boxes:
            self.add(feed.successor)
        self._reporter.feed_off(feed)

    def _rebuild_routes(self) -> None:
        self.routes.clear()
        for topic, feed in self._feeds.items():
            if not names.is_pattern(topic):
                self.routes[topic] = feed


def size_of(frame: Msg) -> int:
    """What a received message costs in memory, in bytes, roughly."""
    return len(frame.data) + MESSAGE_OVERHEAD_BYTES
