"""Which messages were seen lately: a bounded memory with a time-to-live.

Two generations instead of a time for each entry: when the young one is full or old enough, it becomes the old one and
the former old one is forgotten. A key is remembered for at least `ttl` seconds and at least `bound / 2` further keys,
whichever ends first, and for at most twice that; adding one costs a set insertion.
"""

from collections.abc import Hashable


class Recent:
    """A set of keys that forgets."""

    __slots__ = ("_half", "_old", "_turned_at", "_young", "ttl")

    def __init__(self, bound: int, ttl: float) -> None:
        """`bound` keys at most are held (2 at least); `ttl` is in seconds."""
        self._half = max(1, bound // 2)
        self.ttl = ttl
        self._young: set[Hashable] = set()
        self._old: set[Hashable] = set()
        self._turned_at = float("-inf")

    def __contains__(self, key: Hashable) -> bool:
        return key in self._young or key in self._old

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def add(self, key: Hashable) -> bool:
        """Remember `key`. Returns False if it was there already."""
        if key in self._young or key in self._old:
            return False
        self._young.add(key)
        if len(self._young) >= self._half:
            self._turn()
        return True

    def age(self, now: float) -> None:
        """Forget what is older than the time-to-live. Call it now and then; `now` is any steady clock, in seconds."""
        if now - self._turned_at >= self.ttl:
            self._turn()
            self._turned_at = now

    def _turn(self) -> None:
        self._old = self._young
        self._young = set()
