"""How many sockets each IP address has open: a leaf."""

from collections.abc import Callable
from functools import partial

Leave = Callable[[], None]


class Addresses:
    """Counts sockets by address, up to a limit.

    Args:
        limit: sockets of one address at a time; 0 is no limit.
    """

    __slots__ = ("_limit", "_open")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[str, tuple[int, Leave]] = {}

    def enter(self, address: str) -> Leave | None:
        """One more of this address; what is returned takes it out again. None, and not counted, if it may have no more.

        All sockets of an address get the same function, so that a count costs a connection nothing.
        """
        there, leave = self._open.get(address) or (0, partial(self._leave, address))
        if self._limit and there >= self._limit:
            return None
        self._open[address] = there + 1, leave
        return leave

    def of(self, address: str) -> int:
        """How many it has open."""
        return self._open[address][0] if address in self._open else 0

    def _leave(self, address: str) -> None:
        there, leave = self._open[address]
        if there > 1:
            self._open[address] = there - 1, leave
        else:
            del self._open[address]
