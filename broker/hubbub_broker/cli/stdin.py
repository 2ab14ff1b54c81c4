"""Lines from standard input, without holding up the event loop, and without being held up at the end.

A thread reads the file descriptor itself. A thread inside `sys.stdin` would keep the interpreter from exiting on Ctrl-C
until one more line came.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator

from .exit_code import Failure

CHUNK = 65_536
LINE_BYTES_MAX = 64 * 2**20
"""Bytes of one line: more than any broker takes, and less than a machine has."""
AHEAD = 16
"""Chunks read ahead."""


async def lines(fd: int = 0) -> AsyncIterator[bytes]:
    """The lines of `fd`, without their ends; the last one whether it has an end or not.

    Raises:
        Failure: if one is longer than `LINE_BYTES_MAX`.
    """
    rest = b""
    async for chunk in _chunks(fd):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
        if len(rest) > LINE_BYTES_MAX:
            raise Failure(f"a line of standard input is longer than {LINE_BYTES_MAX} bytes")
    if rest:
        yield rest


async def _chunks(fd: int) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    room = threading.Semaphore(AHEAD)
    stopped = threading.Event()

    def read() -> None:
        chunk: bytes | OSError = b"first"
        while chunk and not isinstance(chunk, OSError):
            room.acquire()
            if stopped.is_set():
                return
            try:
                chunk = os.read(fd, CHUNK)
            except OSError as error:
                chunk = error
            try:
                loop.call_soon_threadsafe(queue.put_nowait, chunk)
            except RuntimeError:  # the loop is closed: nobody listens any more
                return

    threading.Thread(target=read, name="stdin", daemon=True).start()
    try:
        while chunk := await queue.get():
            if isinstance(chunk, OSError):
                raise Failure(f"can't read standard input: {chunk.strerror}")
            yield chunk
            room.release()
    finally:
        stopped.set()
        room.release()
