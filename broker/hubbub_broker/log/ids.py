"""Which ids a segment's messages have, in memory: noted by all, looked up by those who ask for a parent."""

from array import array

STRIPES = 16
"""Hash tables are cut into this many, by the lowest bits of the key: a big table that grows moves all its entries at
once (8 ms at 175,000), and the loop would stand still."""
STRIPE_MASK = STRIPES - 1


class SegmentIds:
    """The id hashes of a segment's messages, each mixed with its topic's salt.

    A message appends its hash to `keys`, and that is all it pays. Tables to look into are made of them when somebody
    asks, and are kept up from then on, batch by batch (`gather`): where nobody answers anybody there are none.
    """

    __slots__ = ("_gathered", "_stripes", "asked", "keys")

    def __init__(self, *, asked: bool = False) -> None:
        self.keys: array[int] = array("Q")
        """In the order of the messages. Two of one topic may have the same: publishers choose ids for themselves."""
        self.asked = asked
        """Whether anybody has asked, of this segment or of the one before."""
        self._stripes: list[set[int]] = []
        self._gathered = 0
        """How many of `keys` are in the tables."""

    def has(self, key: int) -> bool:
        """Whether a message has this one."""
        self.asked = True
        if self._gathered < len(self.keys):
            self.gather()
        return bool(self._stripes) and key in self._stripes[key & STRIPE_MASK]

    def gather(self) -> None:
        """Bring the tables up to date."""
        stripes = self._stripes
        if not stripes:
            stripes[:] = [set() for _ in range(STRIPES)]
        for key in self.keys[self._gathered :]:
            stripes[key & STRIPE_MASK].add(key)
        self._gathered = len(self.keys)

    def take_back(self) -> None:
        """Forget the newest. It may be in the tables, and an older message may have the same: they are made anew."""
        self.keys.pop()
        if self._gathered > len(self.keys):
            self._stripes.clear()
            self._gathered = 0
