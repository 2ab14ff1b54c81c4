"""What is to be stored as a large body: bytes, a file, or what comes bit by bit. Its hash has to be known first."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

READ_BYTES = 1 << 20
"""What is read from a file in one go."""

Attachable = bytes | bytearray | memoryview | os.PathLike[str] | AsyncIterable[bytes]


_NO_CONTENT = "{} can't be attached: bytes can, a path (pathlib.Path), or an asynchronous iterator of bytes"


class Content:
    """Bytes that can be read more than once."""

    def __init__(self, source: memoryview | IO[bytes], size: int, sha256: str) -> None:
        self.size = size
        self.sha256 = sha256
        self._source = source

    async def read(self, at: int, count: int) -> bytes:
        """So many bytes from an offset on; fewer at the end."""
        source = self._source
        if isinstance(source, memoryview):
            return bytes(source[at : at + count])
        return await asyncio.to_thread(_read, source, at, count)


@asynccontextmanager
async def content_of(source: Attachable) -> AsyncIterator[Content]:
    """What a source holds, for as long as the block lasts. What comes bit by bit is put into a temporary file.

    Raises:
        TypeError: it is none of these. A text may be a path or a text: say which, by `Path(...)` or `.encode()`.
        OSError: a file can't be read, or written.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        view = memoryview(source).cast("B")
        yield Content(view, len(view), hashlib.sha256(view).hexdigest())
        return
    if isinstance(source, os.PathLike):
        file: IO[bytes] = await asyncio.to_thread(Path(source).open, "rb")
    elif hasattr(source, "__aiter__"):
        file = await asyncio.to_thread(tempfile.TemporaryFile)
    else:
        raise TypeError(_NO_CONTENT.format(type(source).__name__))
    try:
        if not isinstance(source, os.PathLike):
            async for piece in source:
                await asyncio.to_thread(file.write, piece)
        size, sha256 = await asyncio.to_thread(_look_through, file)
        yield Content(file, size, sha256)
    finally:
        file.close()


def _look_through(file: IO[bytes]) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    file.seek(0)
    while piece := file.read(READ_BYTES):
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()


def _read(file: IO[bytes], at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)
