"""Tools for people who look into a data directory at rest: is all well, how big is it, what is in it?

They take the directory's lock, so they refuse one that a broker has open, and they change nothing: a torn tail or a
stale sidecar is told of, not mended.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .builder import IndexBuilder
from .directory import read_meta
from .errors import FormatError, LogDamaged
from .files import Files
from .header import HEADER_SIZE, SegmentHeader
from .index import MemoryIndex
from .lock import lock_directory
from .meta import ShardMeta
from .names import segment_numbers, segment_path, sidecar_path
from .record import Message, State, Tail, decode
from .scan import scan
from .sidecar import Sidecar


@dataclass(slots=True)
class Problem:
    """Something that is not as it should be."""

    file: str
    offset: int
    what: str


@dataclass(slots=True)
class Report:
    """What `verify` found."""

    shards: int = 0
    segments: int = 0
    records: int = 0
    messages: int = 0
    bytes: int = 0
    topics: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    """What a broker mends by itself when it opens the directory: a torn tail, a missing sidecar."""

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged or lost."""
        return not self.problems


@dataclass(slots=True)
class ShardStat:
    """The size of one shard."""

    number: int
    epoch: str
    segments: int
    bytes: int
    sidecar_bytes: int
    first_segment: int
    last_segment: int


@dataclass(frozen=True, slots=True)
class Dumped:
    """One decoded record and where it is."""

    shard: int
    segment: int
    offset: int
    record: Message | State | Tail


def shards_of(directory: Path) -> list[tuple[int, Path]]:
    """The shards of a data directory.

    Raises:
        FormatError: it is none.
    """
    meta = read_meta(directory)
    if meta is None:
        raise FormatError(f"{directory} is no data directory: name the one that the broker was started with")
    return [(number, directory / "shards" / f"{number:03d}") for number in range(meta.shards)]


# Verify --------------------------------------------------------------------------------------------------------------


def verify(directory: Path) -> Report:
    """Check every checksum, every topic's seqs, and every sidecar against its segment.

    Raises:
        LogError: the directory is in use, or is none.
    """
    report = Report()
    shards = shards_of(directory)
    with lock_directory(directory):
        for number, path in shards:
            report.shards += 1
            if path.exists():
                _ShardVerifier(Files(), number, path, report).run()
            else:
                report.problems.append(Problem(str(path), 0, "the shard's folder is missing"))
    return report


class _ShardVerifier:
    """Checks one shard, segment by segment."""

    def __init__(self, files: Files, number: int, path: Path, report: Report) -> None:
        self._files = files
        self._number = number
        self._path = path
        self._report = report
        self._heads: dict[str, int] = {}

    def run(self) -> None:
        """Check the shard."""
        meta = self._check_meta()
        numbers = segment_numbers(self._files.names(self._path))
        self._check_newest(meta, numbers)
        for number in numbers:
            if number > numbers[0] and number - 1 not in numbers and (meta is None or number - 1 not in meta.missing):
                self._problem(segment_path(self._path, number - 1), 0, "the segment is missing")
            self._check_segment(number, meta, last=number == numbers[-1])
        self._report.topics += len(self._heads)

    def _check_meta(self) -> ShardMeta | None:
        try:
            meta = ShardMeta.load(self._files, self._path, self._number)
        except FormatError as error:
            self._problem(self._path, 0, str(error))
            return None
        if meta is None and self._files.names(self._path):
            self._problem(self._path, 0, "the shard's identity is missing or damaged")
        return meta

    def _check_newest(self, meta: ShardMeta | None, numbers: list[int]) -> None:
        """Retention leaves the newest segment, and those that were there at the last clean close."""
        if meta is None:
            return
        if not numbers:
            self._problem(self._path, 0, "the history is lost: there is no segment")
        elif meta.clean_newest > numbers[-1]:
            lost = segment_path(self._path, meta.clean_newest)
            self._problem(lost, 0, "the segment, the newest at the last clean stop, is lost")

    def _check_segment(self, number: int, meta: ShardMeta | None, *, last: bool) -> None:
        path = segment_path(self._path, number)
        report = self._report
        report.segments += 1
        with self._files.reading(path) as fd:
            size = self._files.size(fd)
            report.bytes += size
            try:
                header = SegmentHeader.decode(self._files.read(fd, HEADER_SIZE, 0), self._number, number)
            except (LogDamaged, FormatError) as error:
                self._problem(path, 0, str(error))
                return
            index = self._check_records(path, fd, header.mark, size, last=last)
        if meta is not None and meta.clean_segment == number and size < meta.clean_size:
            self._problem(path, size, f"{meta.clean_size - size} bytes that it had at the last clean stop are lost")
        self._check_seqs(path, index)
        self._check_sidecar(number, index, header.mark, size, last=last)

    def _check_records(self, path: Path, fd: int, mark: int, size: int, *, last: bool) -> MemoryIndex:
        builder = IndexBuilder(0, lambda _name: None)
        for found in scan(self._files, fd, mark, HEADER_SIZE, size):
            if found.record is None and last and found.offset + found.size == size:
                self._note(path, found.offset, f"a torn tail of {found.size} bytes")
            else:
                builder.add(found)
        torn_from = builder.torn_from
        if torn_from is not None:
            if last:
                self._note(path, torn_from, f"a step that is not whole, of {size - torn_from} bytes")
            else:
                builder.end()
        for offset, length in builder.index.damage:
            self._problem(path, offset, f"{length} bytes can't be read")
        self._report.records += builder.index.records
        self._report.messages += sum(topic.count for topic in builder.index.topics.values())
        return builder.index

    def _check_seqs(self, path: Path, index: MemoryIndex) -> None:
        for name, topic in index.topics.items():
            known = self._heads.get(name)
            if known is not None and topic.count and topic.first != known + 1:
                self._problem(path, 0, f"{name} goes on at {topic.first}, but stood at {known}")
            for position, size in enumerate(topic.sizes):
                if not size:
                    self._problem(path, topic.offsets[position], f"{name} has no {topic.first + position}")
            self._heads[name] = topic.head

    def _check_sidecar(self, number: int, index: MemoryIndex, mark: int, size: int, *, last: bool) -> None:
        path = sidecar_path(self._path, number)
        if not path.exists():
            if not last:
                self._note(path, 0, "the sidecar is missing")
            return
        try:
            sidecar = Sidecar(self._files, path)
        except LogDamaged as error:
            self._problem(path, 0, str(error))
            return
        try:
            if (sidecar.segment, sidecar.mark) == (number, mark) and sidecar.covers > size:
                self._problem(
                    segment_path(self._path, number), size, f"{sidecar.covers - size} bytes at its end are lost"
                )
                return
            if (sidecar.segment, sidecar.mark, sidecar.covers) != (number, mark, size):
                self._note(path, 0, "the sidecar was made for another state of the segment")
                return
            for wrong in sidecar.verify():
                self._problem(path, 0, wrong)
            self._compare(path, sidecar, index)
        except LogDamaged as error:
            self._problem(path, 0, str(error))
        finally:
            sidecar.close()

    def _compare(self, path: Path, sidecar: Sidecar, index: MemoryIndex) -> None:
        names = set(index.topics)
        for name, entry in sidecar.entries():
            topic = index.topics.get(name)
            names.discard(name)
            span = sidecar.find(entry.key)
            if topic is None or span is None:
                if entry.seqs:
                    self._problem(path, 0, f"{name} is in the sidecar and not in the segment")
                continue
            position = 0
            while position < topic.count:
                window = span.window(position, cached=False) if position < span.count else None
                if window is None:
                    break
                offsets, sizes, start = window
                stop = start + len(offsets)
                if offsets != topic.offsets[start:stop] or sizes != topic.sizes[start:stop]:
                    break
                position = stop
            if (entry.first, entry.seqs) != (topic.first, topic.count) or position < topic.count:
                self._problem(path, 0, f"{name} is not where the sidecar says")
        for name in names:
            self._problem(path, 0, f"{name} is in the segment and not in the sidecar")

    def _problem(self, path: Path, offset: int, what: str) -> None:
        self._report.problems.append(Problem(str(path), offset, what))

    def _note(self, path: Path, offset: int, what: str) -> None:
        self._report.notes.append(Problem(str(path), offset, what))


# Stat and dump -------------------------------------------------------------------------------------------------------


def stat(directory: Path) -> list[ShardStat]:
    """The size of each shard.

    Raises:
        LogError: the directory is in use, or is none.
    """
    files = Files()
    found = []
    shards = shards_of(directory)
    with lock_directory(directory):
        for number, path in shards:
            names = files.names(path) if path.exists() else []
            numbers = segment_numbers(names)
            meta = ShardMeta.load(files, path, number)
            sidecars = [sidecar_path(path, n) for n in numbers]
            found.append(
                ShardStat(
                    number,
                    meta.epoch if meta else "",
                    len(numbers),
                    sum(files.file_size(segment_path(path, n)) for n in numbers),
                    sum(files.file_size(p) for p in sidecars if p.exists()),
                    min(numbers, default=0),
                    max(numbers, default=0),
                )
            )
    return found


def dump(directory: Path, pattern: str | None = None, limit: int | None = None) -> Iterator[Dumped]:
    """Records in the order of each shard's log; with a pattern only messages (and tails) of topics that match it.

    In a pattern `*` is one whole segment and a last `**` the rest. What is damaged is left out: `verify` tells of it.

    Raises:
        LogError: the directory is in use, or is none.
    """
    shards = shards_of(directory)
    count = 0
    with lock_directory(directory):
        for number, path in shards:
            if not path.exists():
                continue
            for dumped in _dump_shard(Files(), number, path):
                if pattern is not None and not _wanted(dumped.record, pattern):
                    continue
                if limit is not None and count >= limit:
                    return
                count += 1
                yield dumped


def _wanted(record: Message | State | Tail, pattern: str) -> bool:
    return not isinstance(record, State) and topic_matches(pattern, record.topic)


def topic_matches(pattern: str, topic: str) -> bool:
    """Whether a topic matches a pattern."""
    wanted, names = pattern.split("/"), topic.split("/")
    for position, part in enumerate(wanted):
        if part == "**" and position == len(wanted) - 1:
            return len(names) > position
        if position >= len(names) or part not in ("*", names[position]):
            return False
    return len(wanted) == len(names)


def _dump_shard(files: Files, shard: int, path: Path) -> Iterator[Dumped]:
    for number in segment_numbers(files.names(path)):
        with files.reading(segment_path(path, number)) as fd:
            try:
                header = SegmentHeader.decode(files.read(fd, HEADER_SIZE, 0), shard, number)
            except LogDamaged:
                continue
            for found in scan(files, fd, header.mark, HEADER_SIZE, files.size(fd)):
                if found.record is None:
                    continue
                try:
                    yield Dumped(shard, number, found.offset, decode(found.record))
                except ValueError:
                    continue
