"""Latencies as a high-dynamic-range histogram: three digits of every value, however far apart they are."""

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

_HIGHEST = 3600 * 10**9
_DIGITS = 3
_MS = 1e6


class Latencies:
    """Durations given in nanoseconds, read in milliseconds."""

    def __init__(self, nanoseconds: Iterable[int] = ()) -> None:
        self._histogram = HdrHistogram(1, _HIGHEST, _DIGITS)
        for value in nanoseconds:
            self.add(value)

    def add(self, nanoseconds: int) -> None:
        """One more. Below one nanosecond counts as one; above an hour is an error.

        Raises:
            ValueError: if it is longer than an hour.
        """
        if not self._histogram.record_value(max(1, nanoseconds)):
            raise ValueError(f"{nanoseconds} ns is longer than this histogram holds, an hour")

    def __getstate__(self) -> bytes:
        return bytes(self._histogram.encode())

    def __setstate__(self, encoded: bytes) -> None:
        self._histogram = HdrHistogram.decode(encoded)

    def merge(self, other: "Latencies") -> None:
        """Add all of another's."""
        self._histogram.add(other._histogram)  # noqa: SLF001 - the same class

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self._histogram.get_total_count())

    def percentile(self, percent: float) -> float:
        """Milliseconds that so many per cent did not exceed; 0.0 if there are none."""
        return float(self._histogram.get_value_at_percentile(percent)) / _MS if self.count else 0.0

    @property
    def max_ms(self) -> float:
        """The longest."""
        return float(self._histogram.get_max_value()) / _MS if self.count else 0.0
