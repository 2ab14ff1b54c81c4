"""What a shard's log is told: sizes, windows, limits."""

from dataclasses import dataclass

from .errors import LogError
from .segment import OPEN_MAX

MIB = 2**20


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Bounds of one shard's log."""

    segment_bytes: int = 16 * MIB
    """A segment is sealed when it reaches this (it ends with the batch that reached it)."""
    segment_topics: int = 50_000
    """Or when it has messages of so many topics: each takes 650 bytes of memory until the segment is sealed."""
    unsealed_segments: int = 4
    """So many full segments may wait to be sealed; while there are more, nothing further is confirmed."""
    dedup_entries: int = 200_000
    """Ids remembered; up to twice as many are, since they are let go a generation at a time."""
    dedup_window: float = 86_400.0
    """Seconds for which an id is remembered, unless `dedup_entries` newer ones push it out."""
    min_free_bytes: int = 64 * MIB
    """Free disk space below which the shard stays read-only after a full disk."""
    retention_bytes: int = 0
    """Size of the whole shard beyond which the oldest segments go; 0 is no limit."""

    @property
    def open_files(self) -> int:
        """Descriptors that one shard's log has at most.

        Those of the active segment and the full ones, of sealed ones with their indexes, of a file that is being made,
        of the directory, and of the catalogue: two connections, each with its write-ahead log and shared memory.
        """
        return 1 + self.unsealed_segments + 2 * OPEN_MAX + 1 + 1 + 6

    def __post_init__(self) -> None:
        least = min(self.segment_bytes, self.segment_topics, self.unsealed_segments, self.dedup_entries)
        if least < 1 or self.dedup_window <= 0:
            raise LogError(
                "segment_bytes, segment_topics, unsealed_segments, dedup_entries and dedup_window must be positive: "
                "correct the settings"
            )
        if self.min_free_bytes < 0 or self.retention_bytes < 0:
            raise LogError("min_free_bytes and retention_bytes must not be negative: correct the settings")


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of one topic's history is kept; 0 is no limit."""

    max_age: float = 0.0
    """Seconds."""
    max_bytes: int = 0
    max_count: int = 0
