"""Large bodies as messages: how they are put into their topic, and read from it. `hubbub_protocol.blobs` has the form.

put()    what is there? a whole copy that is what it should be -> done; one that was begun -> go on; else a new one
open()   what is there? the whole copies, that of the reference first -> read one from its first piece on
"""

import hashlib
import secrets
from asyncio import Future
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol, Unpack

from msgspec.structs import replace

from hubbub_protocol import blobs
from hubbub_protocol.blobs import BlobRef, Copy, CopyKey, Piece, Survey
from hubbub_protocol.causal import HOPS

from .blob import Blob, Pieces
from .blob_content import Content
from .causes import Causes
from .errors import BlobCorrupt, BlobGone, NotFound, TooLarge
from .history import up_to_head
from .message import Message, PublishOptions, Receipt
from .subscription import StartOption, Subscription
from .wants import Select, Where

AHEAD = 4
"""Pieces that are on their way to the broker at a time."""


class Host(Protocol):
    """What this needs of its agent."""

    name: str

    async def submit(self, topic: str, data: Any, /, **options: Unpack[PublishOptions]) -> "Future[Receipt]":
        """Publish in pipelined form."""
        ...

    def subscribe(
        self, topic: str, /, start: StartOption = "new", *, where: Where | None = None, select: Select | None = None
    ) -> Subscription:
        """Subscribe."""
        ...

    def causes(self) -> Causes:
        """Asks for single messages."""
        ...


class BlobStore:
    """The large bodies that an agent stores and fetches."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def put(self, ref: BlobRef, content: Content) -> BlobRef:
        """Store a content, unless it is there for long enough; the reference that names the copy.

        It returns when a whole copy is on stable storage: one that was written just now, or one that was read back and
        is what it should be. What an interrupted upload has left is gone on with.

        Raises:
            ValueError: the content has changed while it was read.
            Rejected, Refused, BufferFull, Closed: as `Agent.publish`.
        """
        survey = await self._survey(ref.topic, ref.size)
        for by, copy in survey.whole((self._host.name, "")):
            found = replace(ref, by=by, copy=copy)
            first = survey.copies[by, copy].first
            if await self._is_lasting(ref.topic, first) and await self._is_good(found, first):
                return found
        begun = survey.begun(self._host.name)
        if begun is not None and await self._is_lasting(ref.topic, survey.copies[self._host.name, begun].first):
            at = survey.copies[self._host.name, begun]
            found = replace(ref, by=self._host.name, copy=begun)
            await self._upload(found, content, at.have)
            if await self._is_good(found, at.first):
                return found
        found = replace(ref, by=self._host.name, copy=secrets.token_hex(8))
        await self._upload(found, content, 0)
        return found

    def open(self, ref: BlobRef) -> Blob:
        """What a reference names."""
        return Blob(ref, partial(self._copies, ref))

    async def find(self, group: str, sha256: str) -> BlobRef:
        """A reference to a blob of which only the hash is known. Whether it is what it should be, fetching it tells.

        Raises:
            BlobGone: there is no whole copy of it.
        """
        survey = await self._survey(blobs.blob_topic(group, sha256), None)
        for key in survey.whole():
            return BlobRef(sha256=sha256, size=survey.copies[key].size, group=group, by=key[0], copy=key[1])
        raise BlobGone(f"{group} has no whole copy of {sha256}: retention took it, or it was never stored")

    # Reading ------------------------------------------------------------------------------------------------------

    async def _survey(self, topic: str, size: int | None) -> Survey:
        survey = Survey(size)
        subscription = self._host.subscribe(topic, "all", where={"type": blobs.TYPE}, select=["headers.blob"])
        async with aclosing(_pieces(subscription)) as pieces:
            async for message, piece in pieces:
                survey.add(message.sender, message.seq or 0, piece)
        return survey

    async def _copies(self, ref: BlobRef) -> Sequence[Pieces]:
        survey = await self._survey(ref.topic, ref.size)
        whole = survey.whole((ref.by, ref.copy))
        if not whole:
            raise BlobGone(f"{ref.topic} has no whole copy of {ref.name or 'it'}: retention takes what is old")
        return [partial(self._read, ref, key, survey.copies[key].first) for key in whole]

    async def _read(self, ref: BlobRef, key: CopyKey, first: int) -> AsyncGenerator[bytes, None]:
        """A copy, piece by piece. It ends early where something of it is gone."""
        by, id = key
        where: dict[str, Any] = {"type": blobs.TYPE, "from": by}
        if id:
            where["headers.blob.copy"] = id
        copy = Copy(ref.size)
        subscription = self._host.subscribe(ref.topic, {"seq": max(1, first)}, where=where)
        async with aclosing(_pieces(subscription)) as pieces:
            async for message, piece in pieces:
                if piece.copy != id:
                    continue
                skip = copy.add(message.seq or 0, piece)
                if skip >= 0:
                    if len(message.raw) != piece.len:
                        raise BlobCorrupt(f"{ref.topic}: piece {message.seq} is not as long as it says")
                    yield message.raw[skip:]
                if copy.is_whole:
                    return

    async def _is_good(self, ref: BlobRef, first: int) -> bool:
        """Whether a copy is what its name says."""

        async def only() -> Sequence[Pieces]:
            return [partial(self._read, ref, (ref.by, ref.copy), first)]

        try:
            async with aclosing(aiter(Blob(ref, only))) as pieces:
                async for _ in pieces:
                    pass
        except (BlobGone, BlobCorrupt):
            return False
        return True

    async def _is_lasting(self, topic: str, first: int) -> bool:
        """Whether a copy that begins there is kept for long enough to be referred to anew."""
        try:
            stay = await self._host.causes().stay(topic, first)
        except NotFound:
            return False
        return stay is None or blobs.is_lasting(*stay)

    # Writing ------------------------------------------------------------------------------------------------------

    async def _upload(self, ref: BlobRef, content: Content, at: int) -> None:
        """Put what is missing from `at` on. The last piece goes when all of the content was seen to be what it was."""
        digest = hashlib.sha256()
        for begin in range(0, at, blobs.PIECE_BYTES):
            digest.update(await content.read(begin, min(blobs.PIECE_BYTES, at - begin)))
        largest = blobs.PIECE_BYTES
        ahead: deque[Future[Receipt]] = deque()
        first = True
        while first or at < ref.size:
            data = await content.read(at, largest)
            if at + len(data) >= ref.size:
                whole = digest.copy()
                whole.update(data)
                if at + len(data) != ref.size or whole.hexdigest() != ref.sha256:
                    raise ValueError(f"{ref.name or 'what is attached'} has changed while it was read")
            elif not data:
                raise ValueError(f"{ref.name or 'what is attached'} has changed while it was read: it ends early")
            sent = await self._send(ref, at, data)
            if first:
                try:
                    await sent
                except TooLarge:  # a policy of this group may want smaller messages
                    if largest // 2 < blobs.PIECE_BYTES_MIN:
                        raise
                    largest //= 2
                    continue
                first = False
            else:
                ahead.append(sent)
            digest.update(data)
            at += len(data)
            while len(ahead) > (AHEAD if at < ref.size else 0):
                await ahead.popleft()

    async def _send(self, ref: BlobRef, at: int, data: bytes) -> "Future[Receipt]":
        piece = Piece(at, len(data), ref.size, ref.copy)
        headers = {blobs.HEADER: piece, HOPS: 0}
        return await self._host.submit(ref.topic, data, type=blobs.TYPE, headers=headers)


async def _pieces(subscription: Subscription) -> AsyncGenerator[tuple[Message, Piece], None]:
    async with aclosing(up_to_head(subscription)) as messages:
        async for message in messages:
            piece = blobs.piece_of(message.raw_headers)
            if piece is not None:
                yield message, piece
