"""A segment's index in memory: from (topic, seq) to a place in the file, for the active segment and those being sealed.

Nothing here grows with history: when the segment is sealed, its sidecar file takes over.
"""

from array import array

from .ids import SegmentIds
from .standing import Standing
from .states import StateTable


class TopicIndex:
    """One topic's records in one segment.

    `offsets` and `sizes` have an entry for each seq from `first` on; a size of 0 stands for a record that is damaged or
    lost.
    """

    __slots__ = (
        "base",
        "bytes",
        "first",
        "first_ts",
        "last_ts",
        "lc",
        "name",
        "offsets",
        "previous",
        "segment",
        "sizes",
        "writers",
    )

    def __init__(self, name: str, segment: int, first: int, previous: int, base: int, lc: int, last_ts: float) -> None:
        self.name = name
        self.segment = segment
        self.first = first
        self.previous = previous
        """The segment in which the topic occurred before; 0 for none."""
        self.base = base
        """Bytes of the topic's records in all segments before this one."""
        self.bytes = 0
        self.lc = lc
        self.first_ts = 0.0
        self.last_ts = last_ts
        self.offsets: array[int] = array("Q")
        self.sizes: array[int] = array("I")
        self.writers: dict[bytes, int] = {}
        """The writers whose count changed in this segment."""

    @property
    def head(self) -> int:
        """The topic's newest seq at the end of this segment."""
        return self.first + len(self.offsets) - 1

    @property
    def count(self) -> int:
        """Seqs in this segment, lost ones included."""
        return len(self.offsets)

    @property
    def total(self) -> int:
        """Bytes of the topic's records up to the end of this segment."""
        return self.base + self.bytes

    def standing(self) -> Standing:
        """Where the topic stood at the end of this segment."""
        return Standing(
            self.name, self.first, self.base, self.head, self.lc, self.last_ts, self.segment, self.base + self.bytes
        )

    def window(self, position: int, *, cached: bool) -> "tuple[array[int], array[int], int] | None":
        """Offsets and sizes around a position, and the position of the first of them. All are in memory."""
        del position, cached
        return self.offsets, self.sizes, 0


class MemoryIndex:
    """All that is known of one segment's records."""

    __slots__ = (
        "damage",
        "dedup_hashes",
        "dedup_seqs",
        "first_ts",
        "ids",
        "last_ts",
        "records",
        "states",
        "tail_writers",
        "topics",
    )

    def __init__(self) -> None:
        self.topics: dict[str, TopicIndex] = {}
        self.ids = SegmentIds()
        self.dedup_hashes: array[int] = array("Q")
        self.dedup_seqs: array[int] = array("Q")
        self.states = StateTable()
        self.tail_writers: dict[tuple[str, bytes], float] = {}
        """When a writer that was carried over from a dropped segment wrote last (others: the segment's own time)."""
        self.damage: list[tuple[int, int]] = []
        """Offset and size of what could not be read when the segment was scanned."""
        self.records = 0
        self.first_ts = 0.0
        self.last_ts = 0.0

    @property
    def newest_ts(self) -> float:
        """When the segment's newest message was sequenced. Appending keeps `last_ts` of topics only."""
        return max((topic.last_ts for topic in self.topics.values() if topic.offsets), default=self.last_ts)
