"""One segment: a file of records, and the index that leads into it, in memory or as a sidecar."""

from array import array
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from .errors import LogDamaged
from .files import Files
from .header import HEADER_SIZE, SegmentHeader
from .index import MemoryIndex
from .names import segment_path, sidecar_path
from .sidecar import Sidecar
from .topic import TopicLog

OPEN_MAX = 8
"""Sealed segments kept open, each with two descriptors: a reader that catches up needs one at a time."""
REPORTED_MAX = 1000


class Span(Protocol):
    """One topic's records in one segment."""

    @property
    def first(self) -> int:
        """The first seq here."""

    @property
    def count(self) -> int:
        """How many seqs are here."""

    @property
    def previous(self) -> int:
        """The segment before that has the topic."""

    @property
    def first_ts(self) -> float:
        """When the first message here was sequenced."""

    def window(self, position: int, *, cached: bool) -> tuple["array[int]", "array[int]", int] | None:
        """Offsets and sizes around a position, and the position of the first of them; None: not in the page cache."""


class Segment:
    """A segment file. `index` is there until the sidecar is; `fd` is -1 while the file is not open."""

    __slots__ = ("directory", "durable", "fd", "index", "mark", "number", "reported", "sidecar", "size")

    def __init__(self, directory: Path, number: int, mark: int, size: int) -> None:
        self.directory = directory
        self.number = number
        self.mark = mark
        self.size = size
        """Bytes written."""
        self.durable = size
        """Bytes on stable storage."""
        self.fd = -1
        self.index: MemoryIndex | None = None
        self.sidecar: Sidecar | None = None
        self.reported: set[int] = set()
        """Offsets of damage that has been told of."""

    @property
    def path(self) -> Path:
        """The file of records."""
        return segment_path(self.directory, self.number)

    @property
    def sidecar_path(self) -> Path:
        """The index file."""
        return sidecar_path(self.directory, self.number)

    def report(self, offset: int) -> bool:
        """Whether damage at this place is news."""
        if offset in self.reported or len(self.reported) >= REPORTED_MAX:
            return False
        self.reported.add(offset)
        return True

    def rest(self, files: Files) -> None:
        """Let go of the descriptors; what is known of the sidecar stays."""
        if self.fd >= 0:
            files.close(self.fd)
            self.fd = -1
        if self.sidecar is not None:
            self.sidecar.close()

    def close(self, files: Files) -> None:
        """Let go of the files."""
        self.rest(files)
        self.sidecar = None


class Shelf:
    """A shard's segments, by number; keeps a few of the sealed ones open, those used last."""

    def __init__(self, files: Files, directory: Path, shard: int) -> None:
        self.files = files
        self.directory = directory
        self.shard = shard
        self.segments: dict[int, Segment] = {}
        """Oldest first."""
        self._open: OrderedDict[int, Segment] = OrderedDict()
        self.repair: Callable[[Segment, str], None] = _no_repair
        """Makes a sidecar again that turned out to be missing or damaged. Set once by the log."""

    def add(self, segment: Segment) -> None:
        """Put the newest segment at the end."""
        self.segments[segment.number] = segment

    def get(self, number: int) -> Segment | None:
        """A segment, if it is there."""
        return self.segments.get(number)

    @property
    def oldest(self) -> int:
        """The lowest number; 0 when there is none."""
        return next(iter(self.segments), 0)

    def data(self, segment: Segment) -> int:
        """A descriptor of its records. It stays open until a few other segments were used."""
        self._use(segment)
        if segment.fd < 0:
            segment.fd = self.files.open(segment.path)
        return segment.fd

    def sidecar(self, segment: Segment) -> Sidecar:
        """Its index file, open; made again if it has to be."""
        self._use(segment)
        sidecar = segment.sidecar
        try:
            if sidecar is None:
                sidecar = self.checked_sidecar(segment)
            else:
                sidecar.reopen()
        except (LogDamaged, FileNotFoundError) as error:
            self.repair(segment, str(error))
            sidecar = self.checked_sidecar(segment)
        segment.sidecar = sidecar
        return sidecar

    def checked_sidecar(self, segment: Segment) -> Sidecar:
        """Open a segment's index file and make sure that it belongs to it. The caller closes it."""
        sidecar = Sidecar(self.files, segment.sidecar_path)
        fits = (sidecar.shard, sidecar.segment, sidecar.covers) == (self.shard, segment.number, segment.size)
        if fits and segment.mark in (0, sidecar.mark):
            return sidecar
        sidecar.close()
        raise LogDamaged(f"{segment.sidecar_path.name} was made for another file than {segment.path.name}")

    def find(self, segment: Segment, topic: TopicLog, *, cached: bool = False) -> Span | None:
        """A topic's records in a segment.

        Raises:
            NotCached: `cached` was asked for, and the look-up would wait for the disk.
        """
        if segment.index is not None:
            return segment.index.topics.get(topic.name)
        return self.sidecar(segment).find(topic.key, cached=cached)

    def read_header(self, segment: Segment) -> SegmentHeader:
        """The file's header.

        Raises:
            LogDamaged: it is cut short or damaged.
            FormatError: it is not this file's.
        """
        with self.files.reading(segment.path) as fd:
            return SegmentHeader.decode(self.files.read(fd, HEADER_SIZE, 0), self.shard, segment.number)

    def remove(self, segment: Segment) -> None:
        """Forget a segment and delete its files. The records go first: an index without them is swept away at open."""
        self.forget(segment)
        self.files.unlink(segment.path)
        self.files.unlink(segment.sidecar_path)

    def forget(self, segment: Segment) -> None:
        """Take a segment off the shelf."""
        del self.segments[segment.number]
        self._open.pop(segment.number, None)
        segment.close(self.files)

    def settle(self, segment: Segment) -> None:
        """A segment was sealed: from here on it is opened when needed."""
        segment.index = None
        self._open.pop(segment.number, None)
        segment.close(self.files)

    def close(self) -> None:
        """Close every file."""
        for segment in self.segments.values():
            segment.close(self.files)
        self._open.clear()
        self.files.let_go(self.directory)

    def _use(self, segment: Segment) -> None:
        if segment.index is not None:
            return  # the active one and those being sealed stay open
        self._open[segment.number] = segment
        self._open.move_to_end(segment.number)
        while len(self._open) > OPEN_MAX:
            _, other = self._open.popitem(last=False)
            other.rest(self.files)


def _no_repair(segment: Segment, why: str) -> None:
    raise LogDamaged(f"the index of {segment.path.name} is unusable: {why}")
