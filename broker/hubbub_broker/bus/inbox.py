"""Reading an inbox without a socket.

The inbox is a topic, the read mark the consumer `inbox` of it. What a socket holds (it is leased) is not read here, and
what is marked here comes to no socket: between the two nothing comes twice.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Sequence
from contextlib import suppress
from time import time
from typing import NamedTuple

from hubbub_broker.consumers import EXPIRED, Consumers, Place
from hubbub_broker.refusal import Refusal
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.names import READ_MARK

from .agents import durable


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

    async def read(
        self, after: int, limit: int, max_bytes: int, *, mark: bool, wait: float
    ) -> tuple[list[Unread], int]:
        """Up to `limit` unread messages above seq `after`, oldest first, and how many more are unread.

        With `mark`, they are marked as read, which is on stable storage when this returns. With `wait`, so many seconds
        are waited for the first of them.

        Raises:
            Refusal: they could not be marked (and are unread still).
            LogError: they can't be read.
        """
        found = await self._collect(after, limit, max_bytes)
        if not found and wait > 0:
            await self._wait(after, wait)
            found = await self._collect(after, limit, max_bytes)
        place = self._place()
        if mark:
            found = [unread for unread in found if unread.seq not in place.out and unread.seq not in place.settled]
            await self._mark(place, [unread.seq for unread in found])
        left = place.topic.delivered - place.settled.count_up_to(place.topic.delivered)
        left -= len(place.out) + len(place.condemned)  # these are not for who polls
        return found, max(0, left - (0 if mark else len(found)))

    async def mark(self, seqs: Sequence[int]) -> int:
        """Mark messages as read, whoever holds them; returns, when that is on stable storage, how many were unread.

        Raises:
            Refusal: `bad_request` for a seq that there is none of, `read_only`.
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
                consumer.settle_waiting(place, seq, READ_MARK)
        if place.dirty:
            self._consumers.hurry(place)
        try:
            await durable(self._consumers.shard, self._loop)
        except Refusal:
            for seq in seqs:
                place.settled.discard(seq)
            self._consumers.changed(place)
            raise

    async def _collect(self, after: int, limit: int, max_bytes: int) -> list[Unread]:
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
                if seq in place.out or seq in place.condemned:
                    continue
                if expires and expires <= now:
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
