"""The clock of latencies: seconds that every process of this machine counts alike, and that nobody sets."""

from time import monotonic as now

__all__ = ["now"]
