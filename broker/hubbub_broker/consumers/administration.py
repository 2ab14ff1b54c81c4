"""What an operator asks of a shard's consumers: where they stand; to begin elsewhere, to wait, to be gone.

Each change is on stable storage before the call returns. A reset and a removal are one record each: a crash leaves the
consumer as it was before, or as it is after, in every topic at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from hubbub_broker.kinds import StateKind
from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import TOPICS_PAGE, Start
from hubbub_protocol.codec import encode
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err
from hubbub_protocol.names import check_consumer, check_pattern, is_hidden, is_pattern, literal_prefix, matcher

from .census import Census, Standing
from .consumer import Consumer
from .member import Member
from .terms import Terms, consumer_key, consumer_of_key, is_internal, start_fields

if TYPE_CHECKING:
    from .consumers import Consumers


class MemberReport(NamedTuple):
    """One member, as operators see it."""

    agent: str
    session: str
    since: float
    outstanding: int
    max_unacked: int
    ack_wait: float
    draining: bool


class Report(NamedTuple):
    """One consumer, as operators see it."""

    terms: Terms
    members: tuple[MemberReport, ...]
    outstanding: int
    """Messages that members have."""
    waiting: int
    """Messages that failed and come again, or are on their way to the dead letters."""
    acked: int
    """Since the broker's start, like the next two."""
    redelivered: int
    dead: int
    standing: Standing


class Administration:
    """Looks into the consumers of one shard, and changes them."""

    def __init__(self, consumers: Consumers, loop: asyncio.AbstractEventLoop) -> None:
        self._consumers = consumers
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self.census = Census(consumers, loop)

    async def report(self, consumer: Consumer) -> Report:
        """Where a consumer stands. Counts over all its topics, a few at a time.

        Raises:
            LogError: the log can't be read.
        """
        standing = await self.census.count(consumer)
        return Report(
            terms=consumer.terms,
            members=tuple(_member(member) for member in consumer.pool.members),
            outstanding=outstanding(consumer),
            waiting=waiting(consumer),
            acked=consumer.acked,
            redelivered=consumer.redelivered,
            dead=consumer.dead,
            standing=standing,
        )

    def find(self, topic: str, name: str) -> Consumer:
        """The consumer of exactly this topic or pattern.

        Raises:
            BadName: it can't be one's.
            Refusal: `not_found`; it names those of that name, or of that topic, that there are.
        """
        check_pattern(topic)
        check_consumer(name)
        found = None if is_internal(name) else self._consumers.get(topic, name)
        if found is None:
            raise Refusal(ErrorCode.NOT_FOUND, f"there is no consumer {name} of {topic}{self._instead(topic, name)}")
        return found

    def _instead(self, topic: str, name: str) -> str:
        there = [each.terms for each in self._consumers if not is_internal(each.terms.name)]
        topics = [terms.topic for terms in there if terms.name == name][:5]
        names = [terms.name for terms in there if terms.topic == topic][:5]
        if topics:
            return f"; {name} reads {', '.join(topics)}"
        return f"; it has {', '.join(names)}" if names else ""

    def close(self) -> None:
        """Stop what is under way."""
        self.census.close()
        for task in self._tasks:
            task.cancel()

    async def reset(self, topic: str, name: str, start: Start) -> Consumer:
        """Let a consumer begin again at `start`, in every topic that it reads. Only one topic has a seq to begin at.

        Members stay. What they have out is theirs no longer: their acks get `conflict`, and it comes again if it lies
        behind `start`. Attempts begin again, but for what was out.

        Raises:
            Refusal: `not_found`; `bad_request` for a seq that the topic has not reached; `read_only`.
        """
        consumer = self.find(topic, name)
        self._consumers.check_writable()
        if start.seq is not None:
            self._check_seq(topic, start.seq)
        fresh = self._begin_again(consumer, start)
        await self._consumers.stored()
        return fresh

    def _begin_again(self, consumer: Consumer, start: Start) -> Consumer:
        """Put one with other terms in a consumer's place, with its members.

        Positions of before are void from the record of the new terms on: they carry the old `created`.
        """
        consumers = self._consumers
        kind, number = start_fields(start)
        made = consumers.shard.batch.mark_time()
        terms = replace(consumer.terms, created=made, start=kind, number=number)
        members = [member for member in consumer.pool.members if not member.draining]
        ended = {
            (lease.place.topic.name, lease.seq): (lease.member.sink, lease.attempt)
            for member in consumer.pool.members
            for lease in member.leases.values()
        }
        consumers.retire(consumer)
        fresh = consumers.add(terms)
        fresh.acked, fresh.dead, fresh.redelivered = consumer.acked, consumer.dead, consumer.redelivered
        fresh.fences = dict(list(consumer.fences.items())[-consumers.settings.consumer_window :]) | ended
        for member in members:
            member.consumer = fresh
            member.gone = False
            consumers.begin(member)
        self._let_go(consumer)
        return fresh

    def _let_go(self, consumer: Consumer) -> None:
        """Let the topics forget the places of a consumer that is gone, some at a time."""
        task = self._loop.create_task(self._unfollow(consumer), name=f"consumer {consumer.terms.name} retired")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _unfollow(self, consumer: Consumer) -> None:
        for number, place in enumerate(list(consumer.places.values()), 1):
            self._consumers.shard.readers.unfollow(place.topic, place)
            if number % TOPICS_PAGE == 0:
                await asyncio.sleep(0)

    def _check_seq(self, topic: str, seq: int) -> None:
        if is_pattern(topic):
            raise Refusal(ErrorCode.BAD_REQUEST, "a seq goes with one topic: reset a pattern to a time, `all` or `new`")
        head = self._consumers.shard.topic(topic).delivered
        if seq > head + 1:
            raise Refusal(ErrorCode.BAD_REQUEST, f"{topic} has messages 1 to {head}: reset to 1 to {head + 1}")

    async def pause(self, topic: str, name: str, *, paused: bool) -> Consumer:
        """Give out nothing more, or go on. What is out can be settled meanwhile. Twice is as good as once.

        Raises:
            Refusal: `not_found`, `read_only`.
        """
        consumer = self.find(topic, name)
        self._consumers.check_writable()
        self._consumers.change_terms(consumer, replace(consumer.terms, paused=paused))
        if not paused:
            for place in list(consumer.places.values()):
                consumer.stir(place)
            consumer.stir()
        await self._consumers.stored()
        return consumer

    async def remove(self, topic: str, name: str) -> int:
        """Take a consumer away, with its position in every topic. How many positions that were.

        Its members are told (`err`, `not_found`) and are members no more. The consumer is gone from its first record
        on. A crash may leave some of its positions in the log: they count for nothing, also for a later consumer of
        that name, and go with the next removal of one.

        Raises:
            Refusal: `not_found`, `read_only`.
        """
        consumer = self.find(topic, name)
        self._consumers.check_writable()
        members = list(consumer.pool.members)
        self._consumers.retire(consumer)
        self._consumers.delete(StateKind.CONSUMER, [consumer.terms.key])
        self._let_go(consumer)
        for member in members:
            _dismiss(member)
        await self._consumers.stored()
        return await self._forget(consumer.terms)

    async def _forget(self, terms: Terms) -> int:
        """Delete the positions of a consumer that is gone, some at a time."""
        if not is_pattern(terms.topic):
            return await self._delete([consumer_key(terms.name, terms.topic)])
        matches, prefix = matcher(terms.topic), literal_prefix(terms.topic)
        after, count = "", 0
        while True:
            page = self._consumers.shard.log.topics(prefix, after, TOPICS_PAGE)
            names = [info.name for info in page if matches(info.name) and not is_hidden(info.name)]
            count += await self._delete([consumer_key(terms.name, name) for name in names])
            if len(page) < TOPICS_PAGE:
                return count
            after = page[-1].name
            await asyncio.sleep(0)

    async def _delete(self, keys: Sequence[bytes]) -> int:
        void = [key for key in keys if self._is_void(key)]
        if void:
            log = self._consumers.shard.log
            pages = [page for key in void for page, _ in log.states(StateKind.FAILURES, key + b"\0")]
            self._consumers.delete(StateKind.FAILURES, pages)
            self._consumers.delete(StateKind.POSITION, void)
            await self._consumers.stored()
        return len(void)

    def _is_void(self, key: bytes) -> bool:
        """Whether there is a position, and it is no consumer's: one of that name may have been made meanwhile."""
        body = self._consumers.shard.log.state(StateKind.POSITION, key)
        if body is None:
            return False
        topic, name = consumer_of_key(key)
        consumer = self._consumers.covering(topic, name)
        return consumer is None or self._consumers.position_of(consumer, topic) is None


def outstanding(consumer: Consumer) -> int:
    """Messages that its members have."""
    return sum(len(member.leases) for member in consumer.pool.members)


def waiting(consumer: Consumer) -> int:
    """Messages that were delivered, failed, and are neither out nor settled."""
    return sum(len(place.waiting) for place in consumer.places.values())


def _member(member: Member) -> MemberReport:
    return MemberReport(
        agent=member.agent,
        session=member.session,
        since=member.since,
        outstanding=len(member.leases),
        max_unacked=member.max_unacked,
        ack_wait=member.ack_wait,
        draining=member.draining,
    )


def _dismiss(member: Member) -> None:
    terms = member.consumer.terms
    message = f"consumer {terms.name} of {terms.topic} was removed by an operator: `sub` makes it anew"
    err = Err(code=ErrorCode.NOT_FOUND, message=message, topic=terms.topic, consumer=terms.name)
    member.sink.answer([encode(err)])
