"""Waiting for a batch without a connection: what is to happen once something is on stable storage, or is not."""

from asyncio import Future
from collections.abc import Callable
from typing import TypeVar

from hubbub_broker.shard import Cursor
from hubbub_protocol.codec import decode_broker
from hubbub_protocol.frames import Err, Ok

T = TypeVar("T")

Then = Callable[[Err | None], None]


def resolve(future: Future[T], value: T) -> None:
    """Let whoever waits for `future` have `value`, if somebody still does."""
    if not future.done():
        future.set_result(value)


class Confirm:
    """A `Sink` that gets one answer, and passes it to `then`: None, or why it failed."""

    __slots__ = ("_then", "cursors", "writable")

    def __init__(self, then: Then) -> None:
        self._then = then
        self.writable = False
        self.cursors: dict[str, Cursor] = {}

    def write(self, blob: bytes) -> None:  # noqa: ARG002 - the signature is Sink's
        raise AssertionError("this sink subscribes to nothing")

    def answer(self, lines: list[bytes]) -> None:
        """The answer."""
        self.settle(1, lines)

    def settle(self, count: int, lines: list[bytes]) -> None:  # noqa: ARG002 - the signature is Sink's
        """The answer."""
        frame = decode_broker(lines[0])
        self._then(frame if isinstance(frame, Err) else None)

    def stop_reading(self) -> None:
        """There is nothing to be read from."""

    def resume_reading(self) -> None:
        """Nothing was stopped."""


class Reply(Confirm):
    """A `Sink` for one publish, that passes on the answer itself."""

    __slots__ = ("_told",)

    def __init__(self, told: Callable[[Ok | Err], None]) -> None:
        super().__init__(lambda _: None)
        self._told = told

    def settle(self, count: int, lines: list[bytes]) -> None:  # noqa: ARG002 - the signature is Sink's
        """The answer."""
        frame = decode_broker(lines[0])
        assert isinstance(frame, (Ok, Err))
        self._told(frame)
