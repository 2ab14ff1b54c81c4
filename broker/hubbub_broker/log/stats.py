"""What a shard's log counts: plain numbers, written by the loop alone, read without a lock."""

HISTOGRAM_SIZE = 26
"""Buckets of each histogram. Bucket k counts values up to 2**k (records, or microseconds); the last one the rest."""


class Histogram:
    """A fixed histogram with buckets by powers of two, plus count, sum and maximum."""

    __slots__ = ("buckets", "count", "max", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * HISTOGRAM_SIZE
        self.count = 0
        self.sum: float = 0
        self.max: float = 0

    def observe(self, value: float, units: int) -> None:
        """Count a value; `units` is the same as a whole number of records or microseconds."""
        self.buckets[min((units - 1).bit_length() if units > 0 else 0, HISTOGRAM_SIZE - 1)] += 1
        self.count += 1
        self.sum += value
        if value > self.max:
            self.max = value


class LogStats:
    """Counters since the log was opened."""

    __slots__ = (
        "batch_records",
        "bytes",
        "catalogue_rebuilds",
        "damaged",
        "dedup_entries",
        "dropped_segments",
        "open_seconds",
        "records",
        "seals",
        "segments",
        "sync_histogram",
        "sync_seconds",
        "syncs",
        "truncated_bytes",
        "write_histogram",
        "write_seconds",
        "writes",
    )

    def __init__(self) -> None:
        self.records = 0
        """Records that became durable."""
        self.bytes = 0
        """Their bytes."""
        self.writes = 0
        self.write_seconds = 0.0
        self.syncs = 0
        self.sync_seconds = 0.0
        self.batch_records = Histogram()
        self.write_histogram = Histogram()
        self.sync_histogram = Histogram()
        self.segments = 0
        """Segment files now."""
        self.seals = 0
        self.dropped_segments = 0
        """Segments that retention took."""
        self.damaged = 0
        """Damaged places found: records, index pages, lost files."""
        self.truncated_bytes = 0
        """Bytes of torn tails that recovery cut off."""
        self.catalogue_rebuilds = 0
        self.dedup_entries = 0
        """Ids remembered now."""
        self.open_seconds = 0.0
        """How long recovery took."""

    def synced(self, records: int, size: int, seconds: float) -> None:
        """A batch is durable."""
        self.records += records
        self.bytes += size
        self.syncs += 1
        self.sync_seconds += seconds
        self.batch_records.observe(records, records)
        self.sync_histogram.observe(seconds, int(seconds * 1e6))

    def wrote(self, seconds: float) -> None:
        """A batch was handed to the operating system."""
        self.writes += 1
        self.write_seconds += seconds
        self.write_histogram.observe(seconds, int(seconds * 1e6))
