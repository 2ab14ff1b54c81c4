"""What a shard needs of whoever reads or publishes: the only way in which this floor knows the one above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .cursor import Cursor


class Sink(Protocol):
    """One connection, seen from a shard. All calls are made on the loop and must return at once."""

    writable: bool
    """False while the connection holds as much unsent data as it may. Its cursors then stay where they are."""

    cursors: dict[str, Cursor]
    """Its place in each topic that it reads, by the topic's name: one for each, however many subscriptions match."""

    def write(self, blob: bytes) -> None:
        """Send whole, encoded frames, in order. Never refuses; a full connection turns `writable` off."""

    def answer(self, lines: list[bytes]) -> None:
        """Send answers (`ok`, `err`) to requests of this connection."""

    def settle(self, count: int, lines: list[bytes]) -> None:
        """Send answers to `count` publishes, which are no longer in flight."""

    def stop_reading(self) -> None:
        """Take no more from this connection until `resume_reading`: what it sends waits in its own socket."""

    def resume_reading(self) -> None:
        """Undo `stop_reading`."""


class Nobody:
    """A `Sink` of which nothing comes: whoever publishes through it does not wait for the answer."""

    def __init__(self) -> None:
        self.writable = False
        self.cursors: dict[str, Cursor] = {}

    def write(self, blob: bytes) -> None:
        """Nothing is subscribed to."""

    def answer(self, lines: list[bytes]) -> None:
        """Nobody asked."""

    def settle(self, count: int, lines: list[bytes]) -> None:
        """Nobody waits."""

    def stop_reading(self) -> None:
        """There is no connection."""

    def resume_reading(self) -> None:
        """There is no connection."""
