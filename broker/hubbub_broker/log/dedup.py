"""Which ids the shard has seen lately, and the seq that each one got."""

from collections.abc import Iterable

from .ids import STRIPE_MASK, STRIPES

Stripes = list[dict[int, int]]


class Dedup:
    """Two generations of hash tables: new ids go into the young one; when that is full, or as old as the window, it
    becomes the old one, and the old one is dropped whole. So at least `entries` are remembered, at most twice as many.
    """

    __slots__ = ("_born", "_entries", "_old", "_old_mask", "_window", "young")

    def __init__(self, entries: int, window: float, now: float) -> None:
        self._entries = entries
        self._window = window
        self._old: Stripes = [{}]
        self._old_mask = 0
        """Which bits of a hash say where it is in `_old`: none in what was loaded, one table, since it won't grow."""
        self._born = now
        self.young: Stripes = [{} for _ in range(STRIPES)]
        """Cut into stripes by the hash's lowest bits. The log writes to it directly: a call here would cost as much."""

    def __len__(self) -> int:
        return sum(map(len, self.young)) + sum(map(len, self._old))

    def find(self, key: int) -> int:
        """The seq that this hash got, or 0."""
        found = self.young[key & STRIPE_MASK].get(key)
        if found is None:
            found = self._old[key & self._old_mask].get(key, 0)
        return found

    def discard(self, key: int) -> None:
        """Forget one that was taken back."""
        if self.young[key & STRIPE_MASK].pop(key, None) is None:
            self._old[key & self._old_mask].pop(key, None)

    def turn(self, now: float) -> None:
        """Begin a new generation if it is time. Called once for each batch: cheap."""
        if now - self._born >= self._window or sum(map(len, self.young)) >= self._entries:
            self._old, self.young = self.young, [{} for _ in range(STRIPES)]
            self._old_mask = STRIPE_MASK
            self._born = now

    def load(self, pairs: Iterable[tuple[Iterable[int], Iterable[int]]]) -> None:
        """Fill the old generation from stored hashes and seqs, oldest first."""
        table: dict[int, int] = {}
        for hashes, seqs in pairs:
            table.update(zip(hashes, seqs, strict=True))
        self._old, self._old_mask = [table], 0
