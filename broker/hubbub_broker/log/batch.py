"""What was appended and is not yet durable, with all that is needed to take it back."""

from asyncio import Future
from typing import NamedTuple

from .index import TopicIndex
from .record import PREFIX_SIZE, seal_record_parts, with_more
from .segment import Segment
from .topic import TopicLog

Appended = tuple[int, TopicLog, TopicIndex, bytes, bytes, int | None, int, float]
"""A message that was appended, and what stood before it:

    offset, topic, its index, the record behind mark and checksum up to its line, its line,
    the writer's count before (None: none), lc before, ts before
"""


class StateAppended(NamedTuple):
    """A state that was appended, and the body that its key had in the segment before; None: none."""

    kind: int
    key: bytes
    before: bytes | None


class TailAppended(NamedTuple):
    """A tail that was appended; `writers` are those that the segment's index did not have before."""

    place: TopicIndex
    writers: list[bytes]


class Batch:
    """Records that go to the file in one write; the log's append methods fill `parts` and `messages` directly."""

    __slots__ = ("messages", "others", "parts", "segment", "start", "waiters")

    def __init__(self, segment: Segment, start: int) -> None:
        self.segment = segment
        self.start = start
        """Where it begins in the segment's file."""
        self.parts: list[bytes] = []
        """Two for each record: mark and checksum come first, and the checksum is of all behind it."""
        self.messages: list[Appended] = []
        self.others: list[StateAppended | TailAppended] = []
        self.waiters: list[Future[None]] = []

    def bind(self, start: int, mark: int) -> None:
        """Make one step of the records from `parts[start]` on: each but the last says that there is more of it."""
        parts = self.parts
        for place in range(start, len(parts) - 2, 2):
            body = parts[place][PREFIX_SIZE:] + parts[place + 1]
            parts[place], parts[place + 1] = seal_record_parts(mark, with_more(body))

    @property
    def records(self) -> int:
        """How many records it has."""
        return len(self.messages) + len(self.others)
