"""A segment's states in memory: the newest body of each key, found by key and by prefix."""

from bisect import bisect_left, insort
from collections.abc import Iterator

KeyOfKind = tuple[int, bytes]

FEW = 64
"""So many new keys are put into their places one by one; more are merged with all the others."""


class StateTable:
    """The newest body of each key in one segment; an empty one: deleted here.

    Memory grows with the keys, never with how often they are written. The order of the keys is made when somebody asks
    for a prefix, out of those that are new since the last time: writing stays as cheap as a dictionary.
    """

    __slots__ = ("_bodies", "_new", "_ordered")

    def __init__(self) -> None:
        self._bodies: dict[KeyOfKind, bytes] = {}
        self._ordered: list[KeyOfKind] = []
        """Keys in order, but for those in `_new`."""
        self._new: set[KeyOfKind] = set()
        """Keys that nobody has asked a prefix for since they came."""

    def __len__(self) -> int:
        return len(self._bodies)

    def __contains__(self, key: KeyOfKind) -> bool:
        return key in self._bodies

    def put(self, kind: int, key: bytes, body: bytes) -> bytes | None:
        """Set the newest body of a key; returns the one before it, None if there was none in this segment."""
        whole = (kind, key)
        before = self._bodies.get(whole)
        self._bodies[whole] = body
        if before is None:
            self._new.add(whole)
        return before

    def restore(self, kind: int, key: bytes, before: bytes | None) -> None:
        """Undo the last `put` of a key."""
        whole = (kind, key)
        if before is not None:
            self._bodies[whole] = before
            return
        del self._bodies[whole]
        if whole in self._new:
            self._new.discard(whole)
        else:
            del self._ordered[bisect_left(self._ordered, whole)]

    def get(self, kind: int, key: bytes) -> bytes | None:
        """The newest body of a key in this segment; empty: deleted here; None: not in this segment."""
        return self._bodies.get((kind, key))

    def rows(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Every (kind, key, body). The table must not change meanwhile."""
        for (kind, key), body in self._bodies.items():
            yield kind, key, body

    def with_prefix(self, kind: int, prefix: bytes) -> dict[bytes, bytes]:
        """The keys of a kind that begin with a prefix, and their bodies. Others are not looked at."""
        self._put_in_order()
        ordered, bodies = self._ordered, self._bodies
        found: dict[bytes, bytes] = {}
        for place in range(bisect_left(ordered, (kind, prefix)), len(ordered)):
            its_kind, key = ordered[place]
            if its_kind != kind or not key.startswith(prefix):
                break
            found[key] = bodies[kind, key]
        return found

    def _put_in_order(self) -> None:
        if len(self._new) <= FEW:
            for key in self._new:
                insort(self._ordered, key)
        else:
            self._ordered += sorted(self._new)
            self._ordered.sort()  # two runs: one merge
        self._new.clear()
