"""Which connection serves which subscription.

One connection serves all, as long as no two of its feeds overlap. A subscription that needs a topic which is on the
wire already goes

  - to the feed that is there, when it wants the same from here on (it begins "now", or stands exactly where the feed
    is, and has the same filter): the two share it;
  - else to a feed of its own on a side link, a further connection of the same agent. As soon as both feeds are live
    and stand at the same place, it moves over to the older one, and a side link without feeds is closed.

So each iterator sees each message once, in order, wherever it began; a slow one delays only itself; and a thousand that
follow one conversation live cost one wire subscription.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from hubbub_protocol.frames import Gap

from .channel import Channel
from .cursor import Cursor, TopicCursor, is_live_start
from .errors import HubbubError, Refused
from .feed import Feed, FeedState
from .local import LocalMessage
from .mailbox import Mailbox
from .message import Message
from .stats import Stats

logger = logging.getLogger("hubbub")

SIDE_LINKS_MAX = 16
"""Further connections that one agent may hold. Subscriptions that would need more wait until one is free."""


SIDE_LINGER_SECONDS = 10.0
"""How long a side link without feeds is kept: a subscription with a slow reader leaves the wire and comes back."""


class Host(Protocol):
    """The agent, as far as the main connection's fate is concerned."""

    def online(self) -> None:
        """The main connection is up."""

    def offline(self, reason: str) -> None:
        """It is down."""

    def unreachable(self, reason: str) -> None:
        """An attempt failed."""

    def refused(self, refusal: Refused) -> None:
        """The broker will not have this agent."""


class Switchboard:
    """All channels of one agent, and the mailboxes that they serve."""

    def __init__(self, host: Host, open_side: Callable[["Switchboard", int], Channel], stats: Stats) -> None:
        """`open_side(self, k)` makes the k-th side channel."""
        self._host = host
        self._stats = stats
        self._open_side = open_side
        self._main: Channel | None = None
        self._sides: list[Channel] = []
        self._side_count = 0
        self._serving: dict[Mailbox, tuple[Channel, Feed]] = {}
        self._waiting: deque[Mailbox] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._suspended: set[Mailbox] = set()

    def start(self, main: Channel) -> None:
        """Connect."""
        self._main = main
        main.supervisor.start()

    async def stop(self) -> None:
        """Close all connections."""
        channels = [*self._sides, *([self._main] if self._main is not None else [])]
        self._sides.clear()
        if self._sweep is not None:
            self._sweep.cancel()
        await asyncio.gather(*(channel.supervisor.stop() for channel in channels), *self._closing)

    def end_all(self, error: BaseException | None) -> None:
        """End every subscription."""
        for box in (*self._serving, *self._waiting, *self._suspended):
            box.end(error)
        self._serving.clear()
        self._waiting.clear()
        self._suspended.clear()

    @property
    def main(self) -> Channel:
        """The connection that publishes."""
        assert self._main is not None, "start() came first"
        return self._main

    @property
    def side_links(self) -> int:
        """How many further connections there are now."""
        return len(self._sides)

    def feed_of(self, box: Mailbox) -> Feed | None:
        """The feed that serves a mailbox now."""
        served = self._serving.get(box)
        return served[1] if served is not None else None

    # Mailboxes ---------------------------------------------------------------------------------------------------

    def attach(self, box: Mailbox) -> None:
        """Serve a mailbox, from where its cursor stands."""
        channels = [self.main, *self._sides]
        for channel in channels:
            feed = channel.feeds.get(box.topic)
            if feed is not None and _joinable(feed, box):
                self._serving[box] = (channel, feed)
                feed.join(box)
                return
        for channel in channels:
            if self._feed(channel, box):
                return
        if len(self._sides) >= SIDE_LINKS_MAX:
            logger.warning("! subscription to %s waits: all %d side links are in use", box.topic, SIDE_LINKS_MAX)
            self._waiting.append(box)
            return
        self._side_count += 1
        channel = self._open_side(self, self._side_count)
        self._sides.append(channel)
        channel.supervisor.start()
        self._feed(channel, box)

    def leave(self, box: Mailbox) -> None:
        """Nobody reads it any more."""
        self._suspended.discard(box)
        if box in self._waiting:
            self._waiting.remove(box)
        self._part(box)
        self._close_idle_sides_later()

    def behind(self, box: Mailbox) -> None:
        """Its reader is slow: take its feed off the wire or, if others want that on, take it off the feed."""
        served = self._serving.get(box)
        if served is None:
            return
        channel, feed = served
        self._stats.suspensions += 1
        if feed.wanted:
            self.brimming(box)
        else:
            channel.feeds.check(feed)

    def brimming(self, box: Mailbox) -> None:
        """It is to be given no more for now."""
        if box in self._serving:
            self._suspended.add(box)
            self._part(box)

    def drained(self, box: Mailbox) -> None:
        """Its reader has caught up: go on."""
        served = self._serving.get(box)
        if served is not None:
            channel, feed = served
            self._tell_missed(box, feed)
            channel.feeds.check(feed)
        elif box in self._suspended:
            self._suspended.discard(box)
            self._tell_missed(box, None)
            self.attach(box)

    def _tell_missed(self, box: Mailbox, feed: Feed | None) -> None:
        """Ephemeral messages that went by while a subscription was off the wire are lost; durable ones are not."""
        if box.had_ephemerals and (feed is None or feed.state is not FeedState.ON):
            cursor = box.cursor if feed is None else feed.cursor
            seq = max(0, cursor.seq) if isinstance(cursor, TopicCursor) else 0
            box.tell_gap(Gap(topic=box.topic, first=seq, last=seq, reason="slow"))

    def hear(self, heard: LocalMessage, message: Message, size: int) -> int:
        """Hand a local message to those it is for; returns how many."""
        taken = 0
        for box, (_, feed) in tuple(self._serving.items()):
            if feed.matches(message.topic) and takes_local(box, feed.cursor, heard):
                part = message.part(feed.filter)
                if part is None:
                    box.pass_over(message)
                    continue
                box.put_local(part, size)
                taken += 1
                if feed.cursor.heard is None and not feed.cursor.begun:
                    feed.cursor.heard = asyncio.get_running_loop().time()
        return taken

    def _feed(self, channel: Channel, box: Mailbox) -> bool:
        """Serve a mailbox by a feed of its own, if none stands in the way there."""
        feed = Feed(box.topic, box.cursor, box.filter)
        feed.boxes.append(box)
        if not channel.feeds.overlapping(box.topic):
            channel.feeds.add(feed)
        else:
            leaving = channel.feeds.get(box.topic)
            if leaving is None or not channel.feeds.succeed(leaving, feed):
                return False
        self._serving[box] = (channel, feed)
        return True

    def _part(self, box: Mailbox) -> None:
        served = self._serving.pop(box, None)
        if served is not None:
            channel, feed = served
            feed.part(box)
            if not feed.boxes:
                channel.feeds.remove(feed)

    # Channels ----------------------------------------------------------------------------------------------------

    def channel_up(self, channel: Channel) -> None:
        if channel is self._main:
            self._host.online()

    def channel_down(self, channel: Channel, reason: str) -> None:
        if channel is self._main:
            self._host.offline(reason)

    def channel_failed(self, channel: Channel, reason: str) -> None:
        if channel is self._main:
            self._host.unreachable(reason)

    def channel_refused(self, channel: Channel, refusal: Refused) -> None:
        if channel is self._main:
            self._host.refused(refusal)
            return
        if channel in self._sides:
            self._sides.remove(channel)
        self._end_feeds(channel, refusal)

    def channel_read(self, _channel: Channel) -> None:
        """Bring together what stands at the same place."""
        if self._sides:
            self._merge()

    def feed_off(self, feed: Feed) -> None:
        """A feed is off its wire for good. Mailboxes it still had were behind, and go on when they have drained."""
        for box in feed.boxes:
            self._serving.pop(box, None)
            feed.part(box)
            if not box.closed:
                self._suspended.add(box)
        for _ in range(len(self._waiting)):
            self.attach(self._waiting.popleft())
        self._close_idle_sides_later()

    def _merge(self) -> None:
        for side in tuple(self._sides):
            for feed in side.feeds:
                if not feed.live or not feed.boxes:
                    continue
                older = self._older_twin(side, feed)
                if older is not None:
                    self._move(feed, side, *older)

    def _older_twin(self, side: Channel, feed: Feed) -> tuple[Channel, Feed] | None:
        for channel in (self.main, *self._sides):
            if channel is side:
                return None
            twin = channel.feeds.get(feed.topic)
            if twin is not None and twin.live and twin.filter == feed.filter and twin.cursor.same_place(feed.cursor):
                return channel, twin
        return None

    def _move(self, feed: Feed, side: Channel, channel: Channel, twin: Feed) -> None:
        for box in feed.boxes:
            self._serving[box] = (channel, twin)
            twin.join(box)
        feed.boxes = []
        side.feeds.remove(feed)

    def _end_feeds(self, channel: Channel, error: HubbubError) -> None:
        for feed in channel.feeds:
            for box in feed.boxes:
                self._serving.pop(box, None)
        channel.feeds.fail(error)

    def _close_idle_sides_later(self) -> None:
        if self._sides and self._sweep is None and any(not len(side.feeds) for side in self._sides):
            self._sweep = asyncio.get_running_loop().call_later(SIDE_LINGER_SECONDS, self._close_idle_sides)

    def _close_idle_sides(self) -> None:
        self._sweep = None
        for side in tuple(self._sides):
            if not len(side.feeds):
                self._sides.remove(side)
                task = asyncio.create_task(side.supervisor.stop(), name="hubbub-side-close")
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)


def takes_local(box: Mailbox, cursor: Cursor, heard: LocalMessage) -> bool:
    """Whether a subscription at `cursor` can take a local message without breaking its publisher's order.

    See the table in `local`. A publisher's earlier messages that were before the subscription's time are marked, so
    that they are dropped when they come.
    """
    frame = heard.frame
    topic, sender = frame.topic, frame.sender
    early = is_live_start(cursor.wanted) and not cursor.begun
    first = early and cursor.heard is None
    if box.closed or box.is_behind or box.has_seen((topic, sender, frame.id)):
        return False
    if not early and not box.live.is_set():
        return False
    unseen = [id for id in heard.waiting_before if not box.has_seen((topic, sender, id))]
    if unseen:
        if not first or frame.ephemeral:
            return False
        for id in unseen:
            box.expect_copy((topic, sender, id))
    elif not heard.waiting_before and heard.confirmed_before is not None and not first:
        id, seq = heard.confirmed_before
        if not box.has_seen((topic, sender, id)):
            return seq is not None and cursor.reached(topic, seq)
    if first and heard.confirmed_before is not None:
        _, seq = heard.confirmed_before
        if seq is not None:
            cursor.skip(topic, seq)
    return True


def _joinable(feed: Feed, box: Mailbox) -> bool:
    """Whether a mailbox misses nothing, and gets nothing it does not want, if it joins now."""
    if feed.state is not FeedState.ON or not feed.live or feed.filter != box.filter:
        return False
    if not box.cursor.begun:
        return is_live_start(box.cursor.wanted) and box.cursor.heard is None
    return feed.cursor.same_place(box.cursor)
