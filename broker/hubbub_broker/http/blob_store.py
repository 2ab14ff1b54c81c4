"""Large bodies at the HTTP door: put into their topic as any publisher would, and read from there.

It does what the SDK does (`hubbub_protocol.blobs` has the form), for those who hold no socket: what comes is put into
a file first, because a blob's name is the hash of all of it. What goes out was read once before, and is good.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Sequence
from time import time
from typing import IO

from msgspec import Raw

from hubbub_protocol import blobs
from hubbub_protocol.blobs import BlobRef, Copy, CopyKey, Piece, Survey
from hubbub_protocol.codec import decode_broker, encode_value
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import Err, Msg, Pub

from .api import BrokerApi, PublishRequest, Refused, StoredLine

AHEAD = 4
"""Pieces that are published together."""

_SURVEYED = 1000
"""Pieces in one page of a survey."""

_ANY = Filter({"type": blobs.TYPE}, ["headers.blob"])


class BlobStore:
    """The large bodies of a broker."""

    def __init__(self, broker: BrokerApi) -> None:
        self._broker = broker
        self._page_bytes = broker.settings.max_frame

    async def find(self, group: str, sha256: str) -> tuple[BlobRef, int] | None:
        """A whole copy that is what its name says, and the seq of its first piece. None: nothing is left of it.

        Raises:
            Refused: `internal`, if there are copies, and none is what it should be; or what the history is refused for.
        """
        topic = blobs.blob_topic(group, sha256)
        survey, _ = await self._survey(topic, None)
        whole = survey.whole()
        for by, copy in whole:
            ref = BlobRef(sha256=sha256, size=survey.copies[by, copy].size, group=group, by=by, copy=copy)
            first = survey.copies[by, copy].first
            if await self._is_good(ref, first):
                return ref, first
        if whole:
            raise Refused.because(ErrorCode.INTERNAL, f"no copy of {topic} is what it is named after")
        return None

    async def put(self, agent: str, ref: BlobRef, file: IO[bytes]) -> tuple[BlobRef, bool]:
        """Store a file's content, unless it is there for long enough. The reference that names the copy; whether it was
        there.

        Raises:
            Refused: what a piece of it was refused for. What is stored by then is gone on with the next time.
        """
        survey, max_age = await self._survey(ref.topic, ref.size)

        def is_lasting(copy: Copy) -> bool:
            return not max_age or blobs.is_lasting(copy.since + max_age - time(), max_age)

        for by, copy in survey.whole((agent, "")):
            found = _of(ref, by, copy)
            if is_lasting(survey.copies[by, copy]) and await self._is_good(found, survey.copies[by, copy].first):
                return found, True
        begun = survey.begun(agent)
        if begun is not None and is_lasting(survey.copies[agent, begun]):
            at = survey.copies[agent, begun]
            found = _of(ref, agent, begun)
            await self._upload(agent, found, file, at.have)
            if await self._is_good(found, at.first):
                return found, False
        found = _of(ref, agent, uuid.uuid4().hex[:16])
        await self._upload(agent, found, file, 0)
        return found, False

    async def read(self, ref: BlobRef, first: int) -> AsyncIterator[bytes]:
        """A copy, piece by piece. It ends early where something of it is gone.

        Raises:
            Refused: what the history is refused for.
        """
        key: CopyKey = (ref.by, ref.copy)
        wanted = Filter({"type": blobs.TYPE, "from": ref.by}, None)
        copy = Copy(ref.size)
        after = first - 1
        while True:
            page = await self._broker.history(ref.topic, after, AHEAD, self._page_bytes, wanted)
            for stored in page.messages:
                frame, piece = _piece(stored)
                if piece is None or (frame.sender, piece.copy) != key:
                    continue
                skip = copy.add(frame.seq or 0, piece)
                if skip >= 0:
                    yield stored.line[stored.header_size + skip :] if stored.header_size else b""
                if copy.is_whole:
                    return
            if page.next >= page.head:
                return
            after = page.next

    async def _survey(self, topic: str, size: int | None) -> tuple[Survey, float]:
        """What there is, and for how many seconds it is kept (0: for ever)."""
        survey = Survey(size)
        after = 0
        while True:
            page = await self._broker.history(topic, after, _SURVEYED, self._page_bytes, _ANY)
            for stored in page.messages:
                frame, piece = _piece(stored)
                if piece is not None:
                    survey.add(frame.sender, frame.seq or 0, piece, frame.ts)
            if page.next >= page.head:
                return survey, page.max_age
            after = page.next

    async def _is_good(self, ref: BlobRef, first: int) -> bool:
        digest = hashlib.sha256()
        size = 0
        async for data in self.read(ref, first):
            digest.update(data)
            size += len(data)
        return size == ref.size and digest.hexdigest() == ref.sha256

    async def _upload(self, agent: str, ref: BlobRef, file: IO[bytes], at: int) -> None:
        largest = blobs.PIECE_BYTES
        count = 1  # the first piece goes alone: a policy may want smaller ones
        while True:
            requests = []
            end = at
            for _ in range(count):
                data = await asyncio.to_thread(_read, file, end, largest)
                if data or not ref.size:
                    requests.append(_request(ref, end, data))
                end += len(data)
                if end >= ref.size:
                    break
            refusal = _refusal(await self._broker.publish(agent, requests))
            if refusal is None:
                at, count = end, AHEAD
                if at >= ref.size:
                    return
            elif count == 1 and refusal.code == ErrorCode.TOO_LARGE and largest // 2 >= blobs.PIECE_BYTES_MIN:
                largest //= 2
            else:
                raise Refused(refusal)


def _of(ref: BlobRef, by: str, copy: str) -> BlobRef:
    return BlobRef(
        sha256=ref.sha256,
        size=ref.size,
        group=ref.group,
        by=by,
        copy=copy,
        name=ref.name,
        media_type=ref.media_type,
    )


def _request(ref: BlobRef, at: int, data: bytes) -> PublishRequest:
    piece = Piece(at, len(data), ref.size, ref.copy)
    headers = Raw(encode_value({blobs.HEADER: piece}))
    return PublishRequest(Pub(topic=ref.topic, id=str(uuid.uuid4()), type=blobs.TYPE, headers=headers), data)


def _refusal(answers: Sequence[object]) -> Err | None:
    return next((answer for answer in answers if isinstance(answer, Err)), None)


def _piece(stored: StoredLine) -> tuple[Msg, Piece | None]:
    frame = decode_broker(stored.line[: stored.header_size] if stored.header_size else stored.line)
    assert isinstance(frame, Msg), "what is stored is a message"
    return frame, blobs.piece_of(bytes(frame.headers))


def _read(file: IO[bytes], at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)
