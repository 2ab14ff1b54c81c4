"""Publishing without a connection: the answer settles a future."""

from __future__ import annotations

import asyncio

from hubbub_protocol.codec import decode_broker
from hubbub_protocol.frames import Err, Ok

from .cursor import Cursor


class Answer:
    """A `Sink` for one publish."""

    __slots__ = ("_future", "cursors", "writable")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.writable = False
        self.cursors: dict[str, Cursor] = {}
        self._future: asyncio.Future[bytes] = loop.create_future()

    def write(self, blob: bytes) -> None:  # noqa: ARG002 - the signature is Sink's
        raise AssertionError("this sink subscribes to nothing")

    def answer(self, lines: list[bytes]) -> None:
        """The answer."""
        self.settle(1, lines)

    def settle(self, count: int, lines: list[bytes]) -> None:  # noqa: ARG002 - the signature is Sink's
        """The answer."""
        if not self._future.done():
            self._future.set_result(lines[0])

    def stop_reading(self) -> None:
        """Who waits for the answer is its own backpressure."""

    def resume_reading(self) -> None:
        """Nothing was stopped."""

    async def wait(self) -> Ok | Err:
        """What the shard answered."""
        frame = decode_broker(await self._future)
        assert isinstance(frame, (Ok, Err))
        return frame
