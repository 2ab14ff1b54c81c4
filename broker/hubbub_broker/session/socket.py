"""The socket of a session, as far as those who use it know it."""

from typing import Protocol


class Connection(Protocol):
    """What a session needs of its socket."""

    def write(self, blob: bytes) -> None:
        """Send encoded frames."""

    def pause_reading(self) -> None:
        """Take no more from the socket."""

    def resume_reading(self) -> None:
        """Go on."""

    def close(self, code: int, reason: str) -> None:
        """Close with that code, after what was written."""


class Socket(Connection, Protocol):
    """What the broker needs of it, from before there is a session."""

    def cut(self) -> None:
        """End it at once, whatever is still to be sent or said."""
