"""Reading an inbox without a socket.

The inbox is a topic, the read mark the consumer `inbox` of it. What a socket holds (it is leased) is not read here, and
what is marked here comes to no socket: between the two nothing comes twice.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from time import time
from typing import NamedTuple

import msgspec

from hubbub_broker.consumers import EXPIRED, Consumers, Place
from hubbub_broker.refusal import Refusal
from hubbub_protocol.codec import reader_of
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.names import READ_MARK

from .agents import durable

SEARCH_PAGE = 1000
SEARCH_BYTES = 1 << 20
"""Messages, and bytes of them, that are looked through at a time for an id."""


class _Id(msgspec.Struct):
    id: str


_id_of = reader_of(_Id)


class Unread(NamedTuple):
    """A message that is unread: its seq, and its line (with `header_size`, so much header, then a payload of bytes)."""

    seq: int
    line: bytes
    header_size: int


class Inbox:
    """One agent's inbox."""

    def __init__(self, consumers: Consumers, topic: str, loop: AbstractEventLoop) -> None:
        self._consumers = consumers
        self._topic = topic
        self._loop = loop

    def _place(self) -> Place:
        return self._consumers.place(self._consumers.ensure(self._topic, READ_MARK), self._topic)

    async def read(self, after: int, limit: int, max_bytes: int, wait: float = 0.0) -> list[Unread]:
        """Up to `limit` unread messages above seq `after`, oldest first. With `wait`, so many seconds are waited for
        the first of them. Until the caller next awaits something they are nobody else's.

        Raises:
            LogError: they can't be read.
        """
        found = await self._collect(after, limit, max_bytes)
        if not found and wait > 0:
            await self._wait(after, wait)
            found = await self._collect(after, limit, max_bytes)
        place = self._place()
        return [unread for unread in found if unread.seq not in place.out and unread.seq not in place.settled]

    def unread(self) -> int:
        """How many messages are unread that nobody has in work."""
        place = self._place()
        left = place.topic.delivered - place.settled.count_up_to(place.topic.delivered)
        return max(0, left - len(place.out) - len(place.condemned))

    async def seqs_of(self, ids: Sequence[str]) -> list[int]:
        """The seqs of unread messages, by id, those included that a socket has in work.

        Two senders may have used the same id: as often as it is named, the oldest unread message with it is meant. One
        that is not among the unread ones was marked before, or is none.

        Raises:
            LogError: they can't be read.
        """
        found: list[int] = []
        left = Counter(ids)
        after = 0
        while left:
            page = await self._collect(after, SEARCH_PAGE, SEARCH_BYTES, leased=True)
            if not page:
                break
            for unread in page:
                id = _id_of(unread.line[: unread.header_size] if unread.header_size else unread.line).id
                if id in left:
                    found.append(unread.seq)
                    left[id] -= 1
                    if not left[id]:
                        del left[id]
            after = page[-1].seq
            await asyncio.sleep(0)  # others have their turn while an id is looked for that is not there
        return found

    async def mark(self, seqs: Sequence[int]) -> int:
        """Mark messages as read, whoever holds them; returns, when that is on stable storage, how many were unread.

        Raises:
            Refusal: `bad_request` for a seq that there is none of, `read_only`: they are unread still.
        """
        place = self._place()
        for seq in seqs:
            if not 1 <= seq <= place.topic.delivered:
                raise Refusal(ErrorCode.BAD_REQUEST, f"{self._topic} has messages 1 to {place.topic.delivered}")
        unread = [seq for seq in dict.fromkeys(seqs) if seq not in place.settled]
        await self._mark(place, unread)
        return len(unread)

    async def _mark(self, place: Place, seqs: Sequence[int]) -> None:
        consumer = place.consumer
        for seq in seqs:
            lease = place.out.get(seq)
            if lease is not None:
                consumer.settle(lease)
            else:
                place.condemned.pop(seq, None)
                consumer.settle_waiting(place, seq, READ_MARK, READ_MARK)
        if place.dirty:
            self._consumers.hurry(place)
        try:
            await durable(self._consumers.shard, self._loop)
        except Refusal:
            for seq in seqs:
                place.settled.discard(seq)
            self._consumers.changed(place)
            raise

    async def _collect(self, after: int, limit: int, max_bytes: int, *, leased: bool = False) -> list[Unread]:
        found: list[Unread] = []
        size = 0
        next = after + 1
        while len(found) < limit and size < max_bytes:
            place = self._place()
            topic = place.topic
            first, last = place.settled.hole(next)
            upto = topic.delivered if last is None else min(last, topic.delivered)
            if first > upto:
                return found
            upto = min(upto, first + limit - len(found) - 1)
            chunk = topic.store.read_chunk(topic.log, first, upto, max_bytes - size)
            if chunk is None:
                warm = asyncio.Event()
                topic.store.warm(topic.log, first, upto, max_bytes, warm.set)
                await warm.wait()
                continue
            start = chunk.first if chunk.lines else chunk.next
            if start > first:
                place.consumer.lost(place, first, start - 1, chunk.reason or "retention")
            special = chunk.special or {}
            now = time()
            for index, line in enumerate(chunk.lines):
                seq = start + index
                header_size, expires = special.get(index, (0, 0.0))
                held = seq in place.out or seq in place.condemned
                if held and not leased:
                    continue
                if not held and expires and expires <= now:
                    place.consumer.condemn(place, seq, EXPIRED, None)
                    continue
                found.append(Unread(seq, line, header_size))
                size += len(line)
            next = chunk.next
        return found

    async def _wait(self, after: int, seconds: float) -> None:
        """Wait until something may be there."""
        place = self._place()
        self._consumers.shard.readers.follow(place.topic, place)
        there = asyncio.Event()
        place.watchers.add(there.set)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while True:
                        await there.wait()
                        there.clear()
                        if await self._collect(after, 1, 1):
                            return
        finally:
            place.watchers.discard(there.set)
