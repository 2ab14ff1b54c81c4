"""How many sockets each IP address has open, and all together: a leaf."""

from collections.abc import Callable
from functools import partial

from .open_files import Room

Leave = Callable[[], None]


class Addresses:
    """Counts sockets by address, up to a limit, and all of them.

    Args:
        limit: sockets of one address at a time; 0 is no limit.
        room: how many sockets there may be.
    """

    __slots__ = ("_limit", "_open", "_sockets", "room")

    def __init__(self, limit: int, room: Room) -> None:
        self._limit = limit
        self.room = room
        self._sockets = 0
        self._open: dict[str, tuple[int, Leave]] = {}

    def enter(self, address: str) -> Leave | None:
        """One more of this address; what is returned takes it out again. None, and not counted, if it may have no more.

        All sockets of an address get the same function, so that a count costs a connection nothing.
        """
        there, leave = self._open.get(address) or (0, partial(self._leave, address))
        if self._limit and there >= self._limit:
            return None
        self._open[address] = there + 1, leave
        self._sockets += 1
        return leave

    @property
    def full(self) -> bool:
        """Whether there are as many sockets as there is room for."""
        return self._sockets >= self.room.sockets

    def of(self, address: str) -> int:
        """How many it has open."""
        return self._open[address][0] if address in self._open else 0

    def _leave(self, address: str) -> None:
        there, leave = self._open[address]
        self._sockets -= 1
        if there > 1:
            self._open[address] = there - 1, leave
        else:
            del self._open[address]
