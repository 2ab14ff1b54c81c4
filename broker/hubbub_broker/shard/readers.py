"""Readers: who reads which topic from where. Hands out runs, and lets subscriptions and patterns join and leave."""

import asyncio
from collections.abc import Callable

from hubbub_broker.log import ShardLog
from hubbub_broker.metrics import Metrics
from hubbub_broker.pattern_index import PatternIndex
from hubbub_broker.refusal import Refusal
from hubbub_broker.wire import frames, text_frame
from hubbub_protocol.codec import encode
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import Gap
from hubbub_protocol.names import literal_prefix

from .catch_up import CatchUp, live_line, without_expired
from .cursor import Cursor
from .filtered import Group, Sieve
from .pattern import PatternSubscription
from .sink import Sink
from .start import Start
from .topic import Follower, Run, Topic

TOPICS_PAGE = 200
"""Topics looked at in one go when a pattern asks for the past."""


class Readers:
    """The cursors of a shard's topics. Which topics there are is the shard's business: it is asked by `topic`."""

    def __init__(
        self, log: ShardLog, metrics: Metrics, catch_up: CatchUp, topic: Callable[[str], Topic], max_filters: int
    ) -> None:
        self._patterns: PatternIndex[PatternSubscription] = PatternIndex()
        self.pattern_epoch = 0
        """Counts the changes of the patterns: a topic whose own count is behind has to look for new ones."""
        self.followers_of: Callable[[str], tuple[Follower, ...]] = lambda _: ()
        """Asked, at the same occasions, who else follows a topic."""
        self.on_special: Callable[[Topic, Run], None] = lambda _, __: None
        """Told of each run that has a binary message in it, or one with a time to live."""
        self._log = log
        self._metrics = metrics
        self._catch_up = catch_up
        self._topic = topic
        self._max_filters = max_filters
        self._pattern_filters: dict[Filter, int] = {}
        """Filters of patterns, and how many patterns have each."""

    def deliver(self, topic: Topic, run: Run, now: float) -> None:
        """Give a run to everyone who has all that was before it; who is full stays behind, at a number."""
        topic.used = now
        if topic.pattern_epoch != self.pattern_epoch:
            self._attach_patterns(topic)
        topic.delivered += run.durable
        signals = len(run.lines) - run.durable
        topic.signals += signals
        if run.special is not None:
            self.on_special(topic, run)
        if topic.followers:
            for follower in topic.followers:
                follower.follow(run)
        if topic.groups:
            self._deliver_filtered(topic, run, now, topic.groups)
        live = topic.live
        if not live or not run.lines:
            return
        lines, special = run.lines, run.special
        if special is not None:
            lines, special = without_expired(topic, run.first, lines, special, now, self._metrics)
            if not lines:
                return
        self._hand_out(topic, run, live, frames(lines, special), len(lines))

    def _deliver_filtered(self, topic: Topic, run: Run, now: float, groups: dict[Filter, Group]) -> None:
        """Give each filter's readers what it lets through, and tell them now and then of how much went by."""
        sieve = Sieve(topic.name, run.first, run.lines, run.special, now)
        for filter, group in groups.items():
            if not group.live:
                continue
            lines, special, passed = sieve.through(filter, self._metrics)
            if lines:
                group.passed = passed
                self._hand_out(topic, run, group.live, frames(lines, special), len(lines))
                continue
            group.passed += passed
            skip = group.skip(topic.name, topic.delivered, now)
            if skip is not None:
                for cursor in group.live:
                    cursor.sink.write(skip)

    def _hand_out(self, topic: Topic, run: Run, live: dict[Cursor, None], blob: bytes, messages: int) -> None:
        """Write a run's blob to all who are live; who can't take it falls behind."""
        behind: list[Cursor] | None = None
        for cursor in live:
            sink = cursor.sink
            if sink.writable:
                sink.write(blob)
            elif behind is None:
                behind = [cursor]
            else:
                behind.append(cursor)
        count = len(live)
        if behind is not None:
            count -= len(behind)
            for cursor in behind:
                del live[cursor]
                cursor.next = run.first
                cursor.signals_seen = topic.signals - (len(run.lines) - run.durable)
                self._catch_up.add(cursor)
        self._metrics.deliveries_live += count * messages
        self._metrics.bytes_out += count * len(blob)

    # One topic ------------------------------------------------------------------------------------------------------

    def subscribe(self, sink: Sink, name: str, start: Start, filter: Filter | None = None) -> tuple[Cursor, Gap | None]:
        """A cursor for one topic, not yet moving: `begin` starts it, once its `ok` has been sent.

        A connection has one cursor for each topic. If a pattern of its own reads this topic already, the new cursor
        takes over: from where it was asked to start, or from where the pattern still was, whichever comes first.

        Raises:
            Refusal: the topic is read through as many filters as may be.
        """
        topic = self._topic(name)
        if filter is not None and filter not in (topic.groups or ()):
            self._check_filters(len(topic.groups or ()), f"{name} is read through")
        earlier = sink.cursors.get(name)
        next, gap = start.in_topic(topic)
        cursor = Cursor(sink, topic, next, self.join, filter=filter)
        if earlier is not None:
            earlier.detach()
            cursor.next = min(next, earlier.next)
            cursor.signals_seen = earlier.signals_seen
            if earlier.pattern is not None:
                earlier.pattern.settle()
        sink.cursors[name] = cursor
        return cursor, gap

    def begin(self, cursor: Cursor) -> None:
        """Start a cursor: live at once if it is at the head, else by way of the log."""
        if cursor.next > cursor.topic.delivered:
            self.join(cursor)
        else:
            self._catch_up.add(cursor)

    def join(self, cursor: Cursor) -> None:
        """A cursor has reached the head: it becomes live, and its reader is told what it should know."""
        topic = cursor.topic
        topic.peers(cursor)[cursor] = None
        missed = topic.signals - cursor.signals_seen
        if missed:
            self._metrics.ephemeral_dropped += missed
            self._metrics.count_gap("slow")
            at = topic.delivered
            cursor.sink.write(
                text_frame(encode(Gap(topic=topic.name, first=at, last=at, reason="slow", dropped=missed)))
            )
        if cursor.announce:
            cursor.announce = False
            pattern = cursor.pattern
            if pattern is None or not pattern.start.is_new:
                cursor.sink.write(text_frame(live_line(topic.name, topic.delivered)))
            if pattern is not None and cursor in pattern.unfinished:
                pattern.finish(cursor)
                pattern.settle()

    def drop(self, cursor: Cursor) -> None:
        """The reader wants no more of this topic by its own name. A pattern of its own that matches goes on with it."""
        cursor.detach()
        for subscription in self._patterns.candidates(cursor.topic.name):
            if subscription.sink is cursor.sink and subscription.matches(cursor.topic.name):
                self._attach_at(subscription, cursor.topic, cursor.next, cursor.signals_seen)
                return

    # Patterns -------------------------------------------------------------------------------------------------------

    def subscribe_pattern(
        self, sink: Sink, pattern: str, start: Start, on_live: Callable[[], None], filter: Filter | None = None
    ) -> PatternSubscription:
        """A rule for this shard's topics, in force from now. If it asks for the past, `replay` has to follow.

        What it may be refused for, `check_pattern_filter` says.
        """
        self.pattern_epoch += 1
        subscription = PatternSubscription(sink, pattern, start, on_live, filter)
        if filter is not None:
            self._pattern_filters[filter] = self._pattern_filters.get(filter, 0) + 1
        self._patterns.add(pattern, subscription)
        return subscription

    def check_pattern_filter(self, filter: Filter | None) -> None:
        """Make sure that one more pattern may have this filter.

        Raises:
            Refusal: the shard's patterns have as many filters as may be.
        """
        if filter is not None and filter not in self._pattern_filters:
            self._check_filters(len(self._pattern_filters), "the patterns of this shard have")

    def _check_filters(self, there: int, what: str) -> None:
        if there >= self._max_filters:
            message = f"{what} {there} different filters, the limit (max_filters): use one of them, or filter yourself"
            raise Refusal(ErrorCode.OVERLOADED, message, 1.0, limit="max_filters")

    def attach(self, subscription: PatternSubscription, topic: Topic) -> None:
        """Let a pattern join one topic that it matches, unless its connection reads that topic already."""
        if not subscription.closed and topic.name not in subscription.sink.cursors:
            self._attach_at(subscription, topic, subscription.start_in(topic), topic.signals)

    def _attach_at(self, subscription: PatternSubscription, topic: Topic, next: int, signals_seen: int) -> None:
        cursor = Cursor(subscription.sink, topic, next, self.join, subscription, subscription.filter)
        cursor.signals_seen = signals_seen
        subscription.sink.cursors[topic.name] = cursor
        if subscription.listing and next <= topic.delivered:
            subscription.unfinished.add(cursor)
        self.begin(cursor)

    async def replay(self, subscription: PatternSubscription) -> None:
        """Let a pattern that asks for the past join every topic that there is, some at a time.

        It becomes live when all that was there has been sent. Topics that come meanwhile join by themselves.
        """
        after = ""
        prefix = literal_prefix(subscription.pattern)
        while not subscription.closed:
            page = self._log.topics(prefix, after, TOPICS_PAGE)
            for info in page:
                if subscription.matches(info.name) and info.name not in subscription.sink.cursors:
                    self.attach(subscription, self._topic(info.name))
                    await subscription.room()
            if len(page) < TOPICS_PAGE:
                break
            after = page[-1].name
            await asyncio.sleep(0)  # a page is half a millisecond of the loop
        subscription.listing = False
        subscription.settle()

    def drop_pattern(self, subscription: PatternSubscription) -> None:
        """Take a pattern back, with its cursors."""
        self.forget_pattern(subscription)
        for cursor in [each for each in subscription.sink.cursors.values() if each.pattern is subscription]:
            self.drop(cursor)

    def forget_pattern(self, subscription: PatternSubscription) -> None:
        """The connection of a pattern is gone, and its cursors with it."""
        filter = subscription.filter
        self._patterns.discard(subscription.pattern, subscription)
        if filter is not None and not subscription.closed:
            self._pattern_filters[filter] -= 1
            if not self._pattern_filters[filter]:
                del self._pattern_filters[filter]
        subscription.closed = True

    def follow(self, topic: Topic, follower: Follower) -> None:
        """Let somebody follow a topic from here on."""
        if follower not in topic.followers:
            topic.followers = (*topic.followers, follower)

    def unfollow(self, topic: Topic, follower: Follower) -> None:
        """Let somebody follow a topic no longer."""
        topic.followers = tuple(each for each in topic.followers if each is not follower)

    def heard(self, topic: Topic) -> bool:
        """Whether anybody would get what is published to the topic now."""
        if topic.pattern_epoch != self.pattern_epoch:
            self._attach_patterns(topic)
        return bool(topic.cursors or topic.followers)

    def heard_besides(self, topic: Topic, sink: Sink) -> bool:
        """Whether anybody on another connection than `sink` would get what is published to the topic now."""
        if topic.pattern_epoch != self.pattern_epoch:
            self._attach_patterns(topic)
        if topic.cursors > (topic.name in sink.cursors):
            return True
        return any(follower.served_besides(sink) for follower in topic.followers)

    def _attach_patterns(self, topic: Topic) -> None:
        topic.pattern_epoch = self.pattern_epoch
        for follower in self.followers_of(topic.name):
            self.follow(topic, follower)
        for subscription in self._patterns.candidates(topic.name):
            if subscription.matches(topic.name):
                self.attach(subscription, topic)
