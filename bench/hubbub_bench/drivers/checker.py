"""The checker: what one receiver has seen of one sender, and what is wrong with it. Pure."""


class Checker:
    """Takes sequence numbers as they come, which should be 1, 2, 3 and so on.

    A number that comes after a later one is out of order; one that comes again is a duplicate; one that never comes is
    lost. `next` may be moved by hand when the next one that is due has come: that is what nearly always happens.
    """

    __slots__ = ("_missing", "duplicated", "next", "out_of_order")

    def __init__(self) -> None:
        self.next = 1
        """One more than the largest number seen."""
        self.duplicated = 0
        self.out_of_order = 0
        self._missing: list[tuple[int, int]] = []
        """Stretches below `next` that have not come: from, up to but not including."""

    def take(self, first: int, count: int) -> None:
        """Numbers `first` and so on, `count` of them, have come."""
        end = first + count
        if first > self.next:
            self._missing.append((self.next, first))
        elif first < self.next:
            self._take_old(first, min(end, self.next))
        self.next = max(self.next, end)

    def lost(self, sent: int) -> int:
        """How many of the `sent` numbers have not come."""
        return sum(end - first for first, end in self._missing) + max(0, sent + 1 - self.next)

    def _take_old(self, first: int, end: int) -> None:
        late = 0
        left = []
        for low, high in self._missing:
            begin, stop = max(low, first), min(high, end)
            if begin >= stop:
                left.append((low, high))
                continue
            late += stop - begin
            left += [part for part in ((low, begin), (stop, high)) if part[0] < part[1]]
        self._missing = left
        self.out_of_order += late
        self.duplicated += end - first - late
