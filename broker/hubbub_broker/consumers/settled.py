"""Which messages of a topic a consumer is done with: everything up to a floor, and ranges above it.

    1 ......... floor | open | start..end | open | start..end | open ...
    all settled               settled              settled

A thousand messages that wait for their next delivery cost a thousand ranges at most, however many were settled between
them.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable


class Settled:
    """A set of seqs (1, 2, 3 …) that is dense at its beginning. Pure."""

    __slots__ = ("_ends", "_starts", "floor")

    def __init__(self, floor: int = 0, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self.floor = floor
        """Every seq up to here is settled."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        for first, last in ranges:
            self.add_range(first, last)

    def __contains__(self, seq: int) -> bool:
        if seq <= self.floor:
            return True
        at = bisect_right(self._starts, seq) - 1
        return at >= 0 and seq <= self._ends[at]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The ranges above the floor, first and last seq of each, in order, none touching another."""
        return list(zip(self._starts, self._ends, strict=True))

    @property
    def top(self) -> int:
        """The largest settled seq."""
        return self._ends[-1] if self._ends else self.floor

    def count_up_to(self, seq: int) -> int:
        """How many seqs from 1 to `seq` are settled."""
        above = sum(max(0, min(last, seq) - first + 1) for first, last in self.ranges)
        return min(self.floor, seq) + above

    def add(self, seq: int) -> None:
        """Settle one."""
        if seq == self.floor + 1 and not self._starts:
            self.floor = seq
        else:
            self.add_range(seq, seq)

    def add_range(self, first: int, last: int) -> None:
        """Settle all from `first` to `last`."""
        if first <= self.floor + 1:
            self.floor = max(self.floor, last)
            gone = bisect_right(self._starts, self.floor + 1)
            if gone:
                self.floor = max(self.floor, self._ends[gone - 1])
                del self._starts[:gone], self._ends[:gone]
            return
        low = bisect_left(self._ends, first - 1)  # the first range that touches or overlaps, or lies behind
        high = bisect_right(self._starts, last + 1)
        if low < high:
            first = min(first, self._starts[low])
            last = max(last, self._ends[high - 1])
        self._starts[low:high] = [first]
        self._ends[low:high] = [last]

    def discard(self, seq: int) -> None:
        """Make one open again."""
        if seq not in self:
            return
        if seq <= self.floor:
            if seq < self.floor:
                self._starts.insert(0, seq + 1)
                self._ends.insert(0, self.floor)
            self.floor = seq - 1
            return
        at = bisect_right(self._starts, seq) - 1
        first, last = self._starts[at], self._ends[at]
        parts = [part for part in ((first, seq - 1), (seq + 1, last)) if part[0] <= part[1]]
        self._starts[at : at + 1] = [part[0] for part in parts]
        self._ends[at : at + 1] = [part[1] for part in parts]

    def hole(self, seq: int) -> tuple[int, int | None]:
        """The next run of open seqs from `seq` on: its first, and its last (None: it has no end)."""
        first = max(seq, self.floor + 1)
        at = bisect_right(self._starts, first) - 1
        if at >= 0 and first <= self._ends[at]:
            first = self._ends[at] + 1
        after = bisect_right(self._starts, first)
        return first, self._starts[after] - 1 if after < len(self._starts) else None

    def copy(self) -> "Settled":
        """One that changes by itself."""
        return Settled(self.floor, self.ranges)
