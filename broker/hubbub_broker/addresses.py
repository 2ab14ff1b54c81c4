"""How many sockets each IP address has open: a leaf."""


class Addresses:
    """Counts sockets by address, up to a limit.

    Args:
        limit: sockets of one address at a time; 0 is no limit.
    """

    __slots__ = ("_limit", "_open")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[str, int] = {}

    def enter(self, address: str) -> bool:
        """One more of this address. False, and not counted, if it has as many as it may."""
        there = self._open.get(address, 0)
        if self._limit and there >= self._limit:
            return False
        self._open[address] = there + 1
        return True

    def leave(self, address: str) -> None:
        """One fewer."""
        left = self._open.get(address, 0) - 1
        if left > 0:
            self._open[address] = left
        else:
            self._open.pop(address, None)

    def of(self, address: str) -> int:
        """How many it has open."""
        return self._open.get(address, 0)
