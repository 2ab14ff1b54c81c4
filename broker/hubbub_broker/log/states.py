"""A segment's states in memory: the newest body of each key, found by key and by prefix."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import islice

FEW = 64
"""So many new keys are put into their places one by one; more are merged with all the others."""

_KINDS = [bytes([kind]) for kind in range(256)]


class StateTable:
    """The newest body of each key in one segment; an empty one: deleted here.

    Memory grows with the keys, never with how often they are written. The order of the keys is made when somebody asks
    for a prefix, out of those that are new since the last time: writing stays as cheap as a dictionary.
    """

    __slots__ = ("_bodies", "_new", "_ordered")

    def __init__(self) -> None:
        self._bodies: dict[bytes, bytes] = {}
        """By kind and key as one string: it takes less room than a pair, and is sorted eight times as fast."""
        self._ordered: list[bytes] = []
        """Keys in order, but for those in `_new`."""
        self._new: dict[bytes, None] = {}
        """Keys that nobody has asked a prefix for since they came."""

    def __len__(self) -> int:
        return len(self._bodies)

    def has(self, kind: int, key: bytes) -> bool:
        """Whether the key was set or deleted in this segment."""
        return _KINDS[kind] + key in self._bodies

    def put(self, kind: int, key: bytes, body: bytes) -> bytes | None:
        """Set the newest body of a key; returns the one before it, None if there was none in this segment."""
        whole = _KINDS[kind] + key
        before = self._bodies.get(whole)
        self._bodies[whole] = body
        if before is None:
            self._new[whole] = None
        return before

    def restore(self, kind: int, key: bytes, before: bytes | None) -> None:
        """Undo the last `put` of a key."""
        whole = _KINDS[kind] + key
        if before is not None:
            self._bodies[whole] = before
            return
        del self._bodies[whole]
        if whole in self._new:
            del self._new[whole]
        else:
            del self._ordered[bisect_left(self._ordered, whole)]

    def get(self, kind: int, key: bytes) -> bytes | None:
        """The newest body of a key in this segment; empty: deleted here; None: not in this segment."""
        return self._bodies.get(_KINDS[kind] + key)

    def rows(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Every (kind, key, body). The table must not change meanwhile."""
        for whole, body in self._bodies.items():
            yield whole[0], whole[1:], body

    def with_prefix(self, kind: int, prefix: bytes) -> dict[bytes, bytes]:
        """The keys of a kind that begin with a prefix, and their bodies. Others are not looked at."""
        self._put_in_order()
        ordered, bodies = self._ordered, self._bodies
        found: dict[bytes, bytes] = {}
        start = _KINDS[kind] + prefix
        for place in range(bisect_left(ordered, start), len(ordered)):
            whole = ordered[place]
            if not whole.startswith(start):
                break
            found[whole[1:]] = bodies[whole]
        return found

    def after(self, kind: int, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The same in the order of the keys, and with those deleted here: those behind `after`, so many at most."""
        self._put_in_order()
        ordered, bodies = self._ordered, self._bodies
        start = _KINDS[kind] + prefix
        place = max(bisect_left(ordered, start), bisect_right(ordered, _KINDS[kind] + after))
        found = []
        for whole in islice(ordered, place, place + limit):
            if not whole.startswith(start):
                break
            found.append((whole[1:], bodies[whole]))
        return found

    def _put_in_order(self) -> None:
        if len(self._new) <= FEW:
            for key in self._new:
                insort(self._ordered, key)
        else:
            self._ordered += sorted(self._new)
            self._ordered.sort()  # two runs: one merge
        self._new.clear()
