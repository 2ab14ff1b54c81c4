"""Where a topic stands: a row of the catalogue, or what overlays it."""

from typing import NamedTuple


class Standing(NamedTuple):
    """Where a topic stands, as the catalogue and the indexes tell it."""

    name: str
    first: int
    base: int
    """Bytes that retention has taken."""
    head: int
    lc: int
    last_ts: float
    segment: int
    total: int


class TopicInfo(NamedTuple):
    """A line of the list of topics."""

    name: str
    head: int
    first: int
    last_ts: float
    bytes: int
