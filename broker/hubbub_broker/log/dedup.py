"""Which ids the shard has seen lately, and the seq that each one got."""

from collections.abc import Iterable

from .index import STRIPE_MASK, STRIPES

Stripes = list[dict[int, int]]


class Dedup:
    """Two generations of hash tables: new ids go into the young one; when that is full, or as old as the window, it
    becomes the old one, and the old one is dropped whole. So at least `entries` are remembered, at most twice as many.
    """

    __slots__ = ("_born", "_entries", "_old", "_window", "young")

    def __init__(self, entries: int, window: float, now: float) -> None:
        self._entries = entries
        self._window = window
        self._old: Stripes = [{} for _ in range(STRIPES)]
        self._born = now
        self.young: Stripes = [{} for _ in range(STRIPES)]
        """Cut into stripes by the hash's lowest bits. The log writes to it directly: a call here would cost as much."""

    def __len__(self) -> int:
        return sum(map(len, self.young)) + sum(map(len, self._old))

    def find(self, key: int) -> int:
        """The seq that this hash got, or 0."""
        stripe = key & STRIPE_MASK
        found = self.young[stripe].get(key)
        if found is None:
            found = self._old[stripe].get(key, 0)
        return found

    def discard(self, key: int) -> None:
        """Forget one that was taken back."""
        stripe = key & STRIPE_MASK
        if self.young[stripe].pop(key, None) is None:
            self._old[stripe].pop(key, None)

    def turn(self, now: float) -> None:
        """Begin a new generation if it is time. Called once for each batch: cheap."""
        if now - self._born >= self._window or sum(map(len, self.young)) >= self._entries:
            self._old, self.young = self.young, [{} for _ in range(STRIPES)]
            self._born = now

    def load(self, pairs: Iterable[tuple[Iterable[int], Iterable[int]]]) -> None:
        """Fill the old generation from stored hashes and seqs, oldest first."""
        for hashes, seqs in pairs:
            for key, seq in zip(hashes, seqs, strict=True):
                self._old[key & STRIPE_MASK][key] = seq
