"""How far behind consumers are: messages that are not settled, over all of their topics, counted without haste.

A pattern may have a hundred thousand topics. They are counted a slice at a time, so that nobody waits for it; what is
published meanwhile may be in the figure or not.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from hubbub_broker.log import LogError, TopicInfo
from hubbub_broker.logs import get_logger
from hubbub_broker.shard import TOPICS_PAGE, Topic
from hubbub_protocol.codec import reader_of
from hubbub_protocol.names import is_hidden, is_pattern, literal_prefix, matcher

from .settled import Settled

if TYPE_CHECKING:
    from .consumer import Consumer
    from .consumers import Consumers

SLICE_SECONDS = 0.002
"""How long a count holds the loop in one go."""

OLDEST_READS = 1000
"""Topics that are asked for their oldest open message, at most: each is a read of the log."""

COUNT_SECONDS = 2.0
"""A count is good for so long; who asks later sets the next one going."""

log = get_logger(__name__)


class Standing(NamedTuple):
    """How far behind a consumer is."""

    lag: int
    """Messages up to the head that are not settled and can still be read."""
    topics: int
    """Topics in which there are any."""
    oldest: float | None
    """When the oldest of them was sequenced, in seconds since the Unix epoch; None if there is none. With more than
    `OLDEST_READS` such topics, the oldest of the first of them."""


class _Stamp(msgspec.Struct):
    ts: float


_stamp_of = reader_of(_Stamp)


class Census:
    """Counts the consumers of a shard: one when asked, or all of them, once in a while, for the metrics."""

    def __init__(self, consumers: Consumers, loop: asyncio.AbstractEventLoop) -> None:
        self._consumers = consumers
        self._loop = loop
        self.standings: dict[tuple[str, str], Standing] = {}
        """By topic and name, as of the last count."""
        self._task: asyncio.Task[None] | None = None
        self._counted = float("-inf")

    # All ------------------------------------------------------------------------------------------------------------

    def refresh(self, most: int) -> asyncio.Task[None] | None:
        """Set a count of up to `most` consumers going, unless the last one is still good. The one that is under way."""
        if self._task is None and self._loop.time() >= self._counted + COUNT_SECONDS and any(self._consumers):
            self._task = self._loop.create_task(self._count_all(most), name="consumer census")
        return self._task

    async def _count_all(self, most: int) -> None:
        counted: dict[tuple[str, str], Standing] = {}
        try:
            for consumer in [each for each, _ in zip(self._consumers, range(most), strict=False)]:
                if not consumer.retired:
                    terms = consumer.terms
                    counted[terms.topic, terms.name] = await self.count(consumer)
                    await asyncio.sleep(0)
        except LogError as error:
            log.warning("consumers not counted", reason=str(error))
        finally:
            self._task = None
            self._counted = self._loop.time()
        self.standings = counted

    def close(self) -> None:
        """Stop what is under way."""
        if self._task is not None:
            self._task.cancel()

    # One ------------------------------------------------------------------------------------------------------------

    async def count(self, consumer: Consumer) -> Standing:
        """How far behind a consumer is now.

        Raises:
            LogError: the log can't be read.
        """
        topic = consumer.terms.topic
        if not is_pattern(topic):
            found = self._consumers.shard.topic(topic)
            first = found.store.first_seq(found.log)
            lag, seq = _open(self._consumers.place(consumer, topic).settled, first, found.delivered)
            return Standing(lag, bool(lag), await self._time_of(found, seq) if lag else None)
        return await self._count_pattern(consumer)

    async def _count_pattern(self, consumer: Consumer) -> Standing:
        matches, prefix = matcher(consumer.terms.topic), literal_prefix(consumer.terms.topic)
        lag = topics = 0
        oldest: float | None = None
        after = ""
        until = perf_counter() + SLICE_SECONDS
        while True:
            page = self._consumers.shard.log.topics(prefix, after, TOPICS_PAGE)
            for info in page:
                if perf_counter() >= until:
                    await asyncio.sleep(0)
                    until = perf_counter() + SLICE_SECONDS
                if not matches(info.name) or is_hidden(info.name):
                    continue
                found, seq = self._open_in(consumer, info)
                if not found:
                    continue
                lag += found
                topics += 1
                if topics <= OLDEST_READS:
                    ts = await self._time_of(self._consumers.shard.topic(info.name), seq)
                    if ts is not None:
                        oldest = ts if oldest is None else min(oldest, ts)
            if len(page) < TOPICS_PAGE:
                return Standing(lag, topics, oldest)
            after = page[-1].name

    def _open_in(self, consumer: Consumer, info: TopicInfo) -> tuple[int, int]:
        """How many messages of a topic are open, and the first of them. Brings no topic into memory if it can."""
        place = consumer.places.get(info.name)
        if place is not None and not place.topic.gone:
            return _open(place.settled, info.first, place.topic.delivered)
        position = self._consumers.position_of(consumer, info.name)
        if position is not None:
            return _open(position.settled(), info.first, info.head)
        if consumer.terms.start == "new" and info.last_ts < consumer.terms.created:
            return 0, 0
        if consumer.terms.start == "all":
            return _open(Settled(info.first - 1), info.first, info.head)
        place = self._consumers.place(consumer, info.name)
        return _open(place.settled, info.first, place.topic.delivered)

    async def _time_of(self, topic: Topic, seq: int) -> float | None:
        """When a message was sequenced; None if it can't be read any more."""
        while seq <= topic.delivered:
            chunk = topic.store.read_chunk(topic.log, seq, seq, 1)
            if chunk is not None:
                if not chunk.lines:
                    return None
                size = (chunk.special or {}).get(0, (0, 0.0))[0]
                return _stamp_of(chunk.lines[0][:size] if size else chunk.lines[0]).ts
            warm = asyncio.Event()
            topic.store.warm(topic.log, seq, seq, 1, warm.set)
            await warm.wait()
        return None


def _open(settled: Settled, first: int, head: int) -> tuple[int, int]:
    """How many seqs from `first` to `head` are not settled, and the first of those."""
    count = head - first + 1 - (settled.count_up_to(head) - settled.count_up_to(first - 1))
    return max(0, count), settled.hole(first)[0]
