"""Dead letters: which are still open, and what an operator does about them.

A letter is open until it was redriven, republished or dropped. Which ones were is a position like every other: that of
the broker's own consumer `_dlq` on the group's dead-letter topic.

A message that is redriven is open again for its consumer, on stable storage, before its letter counts as handled: a
crash in between leaves both open, and nothing is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from time import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import Publisher, Topic
from hubbub_protocol.codec import decode_broker, decode_value, reader_of
from hubbub_protocol.errors import BadFrame, ErrorCode
from hubbub_protocol.frames import NO_DATA, Err, Msg, Ok, Pub
from hubbub_protocol.names import check_group, dead_letters_of

from .confirm import Reply, resolve
from .place import Entry, Place
from .terms import Terms

if TYPE_CHECKING:
    from .consumers import Consumers

KEEPER = "_dlq"
"""The consumer whose settled messages are the letters that were handled."""

CHUNK_BYTES = 256 * 1024
"""Letters that are read in one go."""

SCAN_MAX = 10_000
"""Letters that one call looks at."""

AT_ONCE = 200
"""Letters that are handled between two commits: about 10 ms of the loop."""

REFUSALS_TOLD = 100
"""Letters of which a call says why they were not handled; it counts the others."""


class About(msgspec.Struct):
    """What a letter says of its message."""

    reason: str
    attempts: int
    first_failure: float
    last_failure: float
    topic: str
    seq: int
    consumer: str
    consumer_topic: str
    original: dict[str, msgspec.Raw]
    """The message's own fields but `data`, each as the text that it was."""

    def said(self, field: str) -> str | None:
        """A field of the message that is text; None if it has none such."""
        try:
            found = decode_value(self.original.get(field, b"null"))
        except BadFrame:
            return None
        return found if isinstance(found, str) else None


class _Headers(msgspec.Struct):
    dead: About


class _Envelope(msgspec.Struct):
    headers: _Headers
    ts: float


_envelope_of = reader_of(_Envelope)


class Letter(NamedTuple):
    """An open dead letter."""

    seq: int
    """Its place in the dead-letter topic."""
    ts: float
    """When it was written there."""
    about: About
    line: bytes
    """As it stands in the log: a wire line; or so many bytes of header, then payload."""
    header_size: int


class Which(NamedTuple):
    """Which letters: these, or every open one (of a consumer; of a topic)."""

    seqs: tuple[int, ...] | None = None
    consumer: str | None = None
    topic: str | None = None

    def takes(self, about: About) -> bool:
        """Whether a letter is meant."""
        return self.consumer in (None, about.consumer) and self.topic in (None, about.topic)


class Unhandled(NamedTuple):
    """A letter that stays open, and why."""

    seq: int
    refusal: Refusal


class Outcome(NamedTuple):
    """What a call did."""

    done: int
    already: int
    """Of the letters that were named: not open, be it no longer or never."""
    refused: int
    refusals: tuple[Unhandled, ...]
    """The first of those."""
    next: int | None
    """Go on behind this seq: there are more letters than one call looks at. None: that was all."""


class DeadLetters:
    """The dead letters of a shard's groups. One call changes them at a time."""

    def __init__(self, consumers: Consumers) -> None:
        self._consumers = consumers
        self._turn = asyncio.Lock()

    # Looking --------------------------------------------------------------------------------------------------------

    def is_handled(self, topic: str, seq: int) -> bool:
        """Whether the letter `seq` of a dead-letter topic is no longer open."""
        if self._consumers.get(topic, KEEPER) is None:
            return False
        return seq in self._keeper(topic).settled

    async def page(self, group: str, which: Which, after: int, limit: int) -> tuple[list[Letter], int | None]:
        """Open letters with a larger seq than `after`, up to `limit`; and the `after` to go on with, None at the end.

        A page may be short although there is more: one call looks at `SCAN_MAX` letters at most.

        Raises:
            BadName: the group can't be one's.
            LogError: the log can't be read.
        """
        found: list[Letter] = []
        seen = 0
        last = after
        async for letter in self._open(dead_letters_of(check_group(group)), after):
            seen += 1
            last = letter.seq
            if which.takes(letter.about):
                found.append(letter)
            if len(found) == limit or seen == SCAN_MAX:
                return found, last
        return found, None

    async def letter(self, group: str, seq: int) -> Letter:
        """One open letter.

        Raises:
            BadName, LogError: as `page`.
            Refusal: `not_found`: there is none, or it was handled.
        """
        topic = dead_letters_of(check_group(group))
        if self.is_handled(topic, seq):
            raise Refusal(ErrorCode.NOT_FOUND, f"dead letter {seq} of {group} was redriven or dropped")
        letter = await self._read(topic, seq)
        if letter is None:
            raise Refusal(ErrorCode.NOT_FOUND, f"{group} has no dead letter {seq}")
        return letter

    async def _open(self, topic: str, after: int) -> AsyncIterator[Letter]:
        found = self._consumers.shard.topic(topic)
        store = found.store
        next = max(after + 1, store.first_seq(found.log))
        while True:
            settled = self._keeper(topic).settled if self._consumers.get(topic, KEEPER) is not None else None
            first, last = settled.hole(next) if settled is not None else (next, None)
            upto = found.delivered if last is None else min(last, found.delivered)
            if first > upto:
                return
            chunk = store.read_chunk(found.log, first, upto, CHUNK_BYTES)
            if chunk is None:
                await self._warm(found, first, upto)
                continue
            for index, line in enumerate(chunk.lines):
                letter = _letter(chunk.first + index, line, (chunk.special or {}).get(index, (0, 0.0))[0])
                if letter is not None:
                    yield letter
            next = chunk.next
            await asyncio.sleep(0)

    async def _read(self, topic: str, seq: int) -> Letter | None:
        found = self._consumers.shard.topic(topic)
        entry = await self._entry(found, seq)
        return None if entry is None else _letter(seq, entry.line, entry.header_size)

    async def _entry(self, topic: Topic, seq: int) -> Entry | None:
        """One message; None if there is none, or retention took it."""
        while 1 <= seq <= topic.delivered:
            chunk = topic.store.read_chunk(topic.log, seq, seq, 1)
            if chunk is not None:
                special = (chunk.special or {}).get(0, (0, 0.0))
                return Entry(seq, chunk.lines[0], *special) if chunk.lines else None
            await self._warm(topic, seq, seq)
        return None

    async def _warm(self, topic: Topic, first: int, upto: int) -> None:
        warm = asyncio.Event()
        topic.store.warm(topic.log, first, upto, CHUNK_BYTES, warm.set)
        await warm.wait()

    def _keeper(self, topic: str) -> Place:
        """The place that knows which letters were handled. Made when it is first needed."""
        consumer = self._consumers.get(topic, KEEPER) or self._consumers.add(self._keeper_terms(topic))
        place = self._consumers.place(consumer, topic)
        self._consumers.shard.readers.follow(place.topic, place)  # so that the topic stays while it is not written
        return place

    def _keeper_terms(self, topic: str) -> Terms:
        created = self._consumers.shard.batch.mark_time()
        return Terms(topic=topic, name=KEEPER, created=created, start="all", max_deliver=0)

    # Handling -------------------------------------------------------------------------------------------------------

    async def redrive(self, group: str, which: Which, after: int = 0, *, republish: bool = False) -> Outcome:
        """Give messages back to the consumer that could not deal with them, their attempts begun again.

        With `republish` a copy goes to the topic instead, as a new message for everyone who reads it: for when
        retention took the original, or its consumer is gone. Twice is as good as once.

        Raises:
            BadName, LogError: as `page`.
            Refusal: `read_only`. What was done up to then stays done.
        """
        return await self._handle(group, which, after, self._republish if republish else self._give_back)

    async def drop(self, group: str, which: Which, after: int = 0) -> Outcome:
        """Take letters as settled, without another word. They stay readable in their topic.

        Raises:
            BadName, LogError, Refusal: as `redrive`.
        """
        return await self._handle(group, which, after, self._let_go)

    async def _handle(
        self, group: str, which: Which, after: int, handle: Callable[[Letter], Awaitable[Place | None]]
    ) -> Outcome:
        topic = dead_letters_of(check_group(group))
        self._consumers.check_writable()
        done = already = seen = 0
        unhandled: list[Unhandled] = []
        next: int | None = None
        async with self._turn:
            letters: list[Letter] = []
            async for letter in self._meant(topic, which, after):
                if letter is None:
                    already += 1
                    continue
                seen += 1
                if which.seqs is not None or which.takes(letter.about):
                    letters.append(letter)
                if len(letters) == AT_ONCE:
                    done += await self._handle_some(topic, letters, handle, unhandled)
                    letters = []
                if which.seqs is None and seen == SCAN_MAX:
                    next = letter.seq
                    break
            done += await self._handle_some(topic, letters, handle, unhandled)
        return Outcome(done, already, len(unhandled), tuple(unhandled[:REFUSALS_TOLD]), next)

    async def _meant(self, topic: str, which: Which, after: int) -> AsyncIterator[Letter | None]:
        """The letters that are meant; None for each one that was named and is not open."""
        if which.seqs is None:
            async for letter in self._open(topic, after):
                yield letter
            return
        for seq in dict.fromkeys(which.seqs):
            yield None if self.is_handled(topic, seq) else await self._read(topic, seq)

    async def _handle_some(
        self,
        topic: str,
        letters: Iterable[Letter],
        handle: Callable[[Letter], Awaitable[Place | None]],
        unhandled: list[Unhandled],
    ) -> int:
        """Handle some letters: first what becomes of their messages is made durable, then that they are handled."""
        places: dict[Place, None] = {}
        handled: list[int] = []
        for letter in letters:
            try:
                place = await handle(letter)
            except Refusal as refusal:
                unhandled.append(Unhandled(letter.seq, refusal))
                continue
            handled.append(letter.seq)
            if place is not None:
                places[place] = None
        if not handled:
            return 0
        if places:
            await self._consumers.stored(*places)
        keeper = self._keeper(topic)
        store = keeper.topic.store
        keeper.settled.add_range(1, store.first_seq(keeper.topic.log) - 1)  # what retention took is nobody's to handle
        for seq in handled:
            keeper.settled.add_range(seq, seq)
        self._consumers.changed(keeper)
        await self._consumers.stored(keeper)
        return len(handled)

    async def _let_go(self, letter: Letter) -> Place | None:  # noqa: ARG002 - the signature of a way to handle one
        return None

    async def _give_back(self, letter: Letter) -> Place | None:
        about = letter.about
        entry = await self._entry(self._consumers.shard.topic(about.topic), about.seq)
        consumer = self._consumers.get(about.consumer_topic, about.consumer)
        if consumer is None:
            raise Refusal(
                ErrorCode.NOT_FOUND,
                f"consumer {about.consumer} of {about.consumer_topic} is gone: `republish` gives the message to all "
                f"who read {about.topic}, `drop` to nobody",
            )
        if entry is None:
            raise Refusal(
                ErrorCode.NOT_FOUND,
                f"retention took message {about.seq} of {about.topic}: `republish` publishes the letter's copy of it "
                "as a new one",
            )
        if entry.expires and entry.expires <= time():
            raise Refusal(
                ErrorCode.CONFLICT,
                f"the time-to-live of message {about.seq} of {about.topic} is over: `republish` publishes it as a new "
                "one, without",
            )
        place = self._consumers.place(consumer, about.topic)
        if about.seq in place.condemned:
            raise Refusal(
                ErrorCode.CONFLICT, f"message {about.seq} of {about.topic} is on its way to the dead letters now", 1.0
            )
        if about.seq not in place.settled:
            return place  # it comes by itself: it was redriven before, and a crash kept the letter open
        limit = self._consumers.settings.consumer_window
        if place.unsettled >= limit:
            raise Refusal(
                ErrorCode.OVERLOADED,
                f"consumer {about.consumer} has {limit} messages of {about.topic} out or waiting, the limit "
                "(consumer_window): redrive the rest later",
                1.0,
                limit="consumer_window",
            )
        consumer.redeliver(place, about.seq)
        return place

    async def _republish(self, letter: Letter) -> Place | None:
        header = letter.line[: letter.header_size] if letter.header_size else letter.line
        frame = decode_broker(header)
        assert isinstance(frame, Msg)
        about = letter.about
        pub = Pub(
            topic=about.topic,
            id=f"{frame.topic}#{letter.seq}",
            type=about.said("type"),
            headers=about.original.get("headers", NO_DATA),
            reply_to=about.said("reply_to"),
            data=frame.data,
            lc=frame.lc,
            track="track" in about.original,
        )
        payload = letter.line[letter.header_size :] if letter.header_size else None
        shard = self._consumers.shard
        answer: asyncio.Future[Ok | Err] = asyncio.get_running_loop().create_future()
        sink = Reply(partial(resolve, answer))
        shard.publish(Publisher(frame.sender, None, shard.topic(about.topic)), pub, payload, sink)
        told = await answer
        if isinstance(told, Err):
            raise Refusal(ErrorCode(told.code), told.message, told.retry_after)
        return None


def _letter(seq: int, line: bytes, header_size: int) -> Letter | None:
    """A letter, read; None if it is none (written by a newer program, say)."""
    try:
        envelope = _envelope_of(line[:header_size] if header_size else line)
    except BadFrame:
        return None
    return Letter(seq, envelope.ts, envelope.headers.dead, line, header_size)
