"""Finding a stored message by its id, and those that led to it.

The log's index knows which segments have an id; within such a part the topic's messages are looked through, from the
newest back, since what is asked for is mostly near the end. So what a search costs does not grow with history, and it
holds the loop for one read at a time.
"""

import asyncio
from time import time
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from hubbub_protocol.codec import decode_broker, encode_value
from hubbub_protocol.frames import Msg

from .shard import Shard
from .topic import Topic

WINDOW = 64
WINDOW_MAX = 4096
"""Messages that are looked through together: first few, then more."""

READ_BYTES = 256 * 1024


class Found(NamedTuple):
    """A stored message."""

    seq: int
    line: bytes
    header_size: int

    @property
    def frame(self) -> Msg:
        """What it says."""
        frame = decode_broker(self.line[: self.header_size] if self.header_size else self.line)
        assert isinstance(frame, Msg), "a stored line is a message"
        return frame


class Lineage(NamedTuple):
    """A message and some of its ancestors within its topic, nearest first."""

    messages: list[Found]
    missing: str | None
    """The id of the parent that is not there, if the line breaks off."""


class Lookup:
    """Looks into the topics of one shard. All calls are made on the loop."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    async def lineage(self, name: str, id: str | None, seq: int | None, ancestors: int, max_bytes: int) -> Lineage:
        """A message, by its id (the newest one that has it) or seq, and up to so many ancestors.

        It ends early where about `max_bytes` have been found, and where a parent is not there.

        Raises:
            LogError: the log can't be read.
        """
        found = await self.by_seq(name, seq) if seq is not None else await self.by_id(name, id or "")
        messages: list[Found] = []
        missing: str | None = None
        size = 0
        while found is not None:
            messages.append(found)
            size += len(found.line)
            parent = found.frame.parent
            if parent is None or len(messages) > ancestors or size >= max_bytes:
                break
            found = await self.by_id(name, parent, found.seq - 1)
            missing = parent if found is None else None
        return Lineage(messages, missing)

    async def by_seq(self, name: str, seq: int) -> Found | None:
        """One message. None: it is not there (any more), or its time is over."""
        topic = self._shard.topic(name)
        if not 1 <= seq <= topic.delivered:
            return None
        return await self._last_of(topic, seq, seq, b"")

    async def by_id(self, name: str, id: str, upto: int | None = None) -> Found | None:
        """The newest message with an id, of those up to a seq. None: there is none (any more)."""
        topic = self._shard.topic(name)
        needle = b'"id":%b,' % encode_value(id)
        limit = topic.delivered if upto is None else min(upto, topic.delivered)
        for first, last in list(topic.store.spans_with_id(topic.log, xxh3_64_intdigest(id.encode()))):
            high = min(last, limit)
            window = WINDOW
            while high >= first:
                low = max(first, high - window + 1)
                found = await self._last_of(topic, low, high, needle)
                if found is not None:
                    return found
                high = low - 1
                window = min(4 * window, WINDOW_MAX)
        return None

    async def _last_of(self, topic: Topic, low: int, high: int, needle: bytes) -> Found | None:
        """The last message in a range whose line goes on with `needle` behind its seq, and whose time is not over."""
        start = len(b'{"op":"msg","topic":"') + len(topic.wire_name) + len(b'","seq":')
        now = time()
        last: Found | None = None
        next = low
        while next <= high:
            chunk = topic.store.read_chunk(topic.log, next, high, READ_BYTES)
            if chunk is None:
                warm = asyncio.Event()
                topic.store.warm(topic.log, next, high, READ_BYTES, warm.set)
                await warm.wait()
                continue
            special = chunk.special or {}
            for index, line in enumerate(chunk.lines):
                if line.startswith(needle, line.index(b",", start) + 1):
                    header_size, expires = special.get(index, (0, 0.0))
                    if not expires or expires > now:
                        last = Found(chunk.first + index, line, header_size)
            next = chunk.next
            await asyncio.sleep(0)
        return last
