"""A large body that a message refers to: fetched when it is wanted, and checked against its hash."""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import IO

from hubbub_protocol.blobs import BlobRef

from .errors import BlobCorrupt, BlobGone

FETCH_BYTES_MAX = 64 << 20
"""What `Blob.fetch` takes into memory, unless told otherwise."""

Pieces = Callable[[], AsyncGenerator[bytes, None]]
"""Reads one copy from its beginning, and ends where that ends."""


class Blob:
    """A large body, as its reference names it.

        data = await blob.fetch()
        await blob.fetch_to("report.pdf")
        async for piece in blob: ...

    All three raise `BlobGone` if it is not there whole, and `BlobCorrupt` if it is not what its hash says; an iteration
    does so before its last piece at the latest. They wait while the broker is away.
    """

    def __init__(self, ref: BlobRef, copies: Callable[[], Awaitable[Sequence[Pieces]]]) -> None:
        """`copies()` finds the whole copies that there are, the best first.

        Raises:
            BlobGone: there is none.
        """
        self.ref = ref
        self._copies = copies

    def __repr__(self) -> str:
        return f"<Blob {self.ref.name or self.ref.sha256[:12]} of {self.ref.size} bytes in {self.ref.group}>"

    async def fetch(self, max_bytes: int = FETCH_BYTES_MAX) -> bytes:
        """All of it.

        Raises:
            ValueError: it is larger than `max_bytes`.
            BlobGone, BlobCorrupt
        """
        if self.ref.size > max_bytes:
            raise ValueError(f"{self!r} is larger than max_bytes, {max_bytes}: use fetch_to, or iterate over it")
        parts: list[bytes] = []

        async def keep(piece: bytes) -> None:
            parts.append(piece)

        await self._from_any(parts.clear, keep)
        return b"".join(parts)

    async def fetch_to(self, path: str | os.PathLike[str]) -> Path:
        """Into a file, which is there when it is whole, and not before.

        Raises:
            OSError
            BlobGone, BlobCorrupt
        """
        target = Path(path)
        part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
        file = await asyncio.to_thread(part.open, "xb")
        try:
            await self._from_any(lambda: _empty(file), lambda piece: asyncio.to_thread(_write, file, piece))
            await asyncio.to_thread(_finish, file, part, target)
        except BaseException:
            file.close()
            part.unlink(missing_ok=True)
            raise
        return target

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        copies = await self._copies()
        async with aclosing(self._checked(copies[0])) as pieces:
            async for piece in pieces:
                yield piece

    async def _from_any(self, begin: Callable[[], object], take: Callable[[bytes], Awaitable[object]]) -> None:
        """Read a copy that is what it should be; try the next one where one is not."""
        failure: BlobCorrupt | BlobGone | None = None
        for copy in await self._copies():
            begin()
            try:
                async with aclosing(self._checked(copy)) as pieces:
                    async for piece in pieces:
                        await take(piece)
            except (BlobCorrupt, BlobGone) as error:
                failure = error
            else:
                return
        assert failure is not None, "there is a copy, or that is said"
        raise failure

    async def _checked(self, copy: Pieces) -> AsyncGenerator[bytes, None]:
        """The pieces of a copy; the last one once the whole has been checked."""
        digest = hashlib.sha256()
        size = 0
        last = b""
        async with aclosing(copy()) as pieces:
            async for piece in pieces:
                if last:
                    yield last
                digest.update(piece)
                size += len(piece)
                last = piece
        if size < self.ref.size:
            raise BlobGone(f"{self!r}: of this copy {size} bytes are left")
        if size != self.ref.size or digest.hexdigest() != self.ref.sha256:
            raise BlobCorrupt(f"{self!r}: what is stored is not what it is named after")
        if last:
            yield last


def _write(file: IO[bytes], piece: bytes) -> None:
    file.write(piece)


def _empty(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()


def _finish(file: IO[bytes], part: Path, target: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
    part.replace(target)
