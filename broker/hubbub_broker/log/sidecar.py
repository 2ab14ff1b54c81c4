"""A sealed segment's index on disk, searched in place: `00000000000000000001.idx` beside the `.log`.

    header     512 bytes: magic, format, shard, segment, its mark and size, counts, times, then for each section its
               offset, size and crc32; the header's own crc32 last
    pages      for each topic, for each 1,024 seqs: u64 offsets, u32 sizes, u32 crc32
    sections   TOPICS_DIR, TOPICS   a hash table (table.py): topic key -> entry
               IDS_DIR, IDS         a hash table of id hashes, mixed with their topic's salt
               NAMES                the topics' names, one after the other
               DEDUP                u64 dedup hashes, then u64 seqs, in the order of the file
               WRITERS              the writers whose count changed in this segment
               STATES               the newest body of each key in this segment
               DAMAGE               u64 offset, u64 size of what could not be read when the segment was scanned

It is written to a temporary file, synced and renamed, so it is there whole or not at all; every part has a checksum
that is checked when the part is used. Whatever is wrong with it, it can be made again from the segment.
"""

from array import array
from collections.abc import Generator, Iterator
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from .errors import LogDamaged
from .files import NOT_CACHED, Files
from .index import MemoryIndex, TopicIndex
from .names import topic_key
from .standing import Standing
from .table import SLICE, Table, build_ids, build_rows

MAGIC = b"HUBBUBIX"
FORMAT = 1
HEADER_SIZE = 512
PAGE_SEQS = 1024
PAGE_ROW = 12
(TOPICS_DIR, TOPICS, IDS_DIR, IDS, NAMES, DEDUP, WRITERS, STATES, DAMAGE) = range(9)
SECTIONS = 9
PIECE_BYTES = 256 * 1024
"""What is copied or summed in one go."""
PIECE_ITEMS = PIECE_BYTES // 8

_HEAD = Struct("<8sHHIQQQQdd")
_SECTION = Struct("<QQI4x")
_ENTRY = Struct("<16sIH2xQQQQQQQdd")
_WRITER = Struct("<IHHQd")
_STATE = Struct("<BxxxII")
_PAIR = Struct("<QQ")
_SUM = Struct("<I")
SUM_AT = HEADER_SIZE - _SUM.size


class NotCached(Exception):
    """A part of the sidecar is not in the page cache, and the caller does not want to wait."""


class Entry(NamedTuple):
    """One topic in a sealed segment."""

    key: bytes
    name_at: int
    name_size: int
    first: int
    seqs: int
    previous: int
    pages_at: int
    bytes: int
    base: int
    lc: int
    first_ts: float
    last_ts: float

    @property
    def head(self) -> int:
        """Its newest seq at the end of the segment."""
        return self.first + self.seqs - 1

    @property
    def total(self) -> int:
        """Bytes of its records up to the end of the segment."""
        return self.base + self.bytes

    def standing(self, name: str, segment: int) -> Standing:
        """Where the topic stood at the end of the segment."""
        return Standing(name, self.first, self.base, self.head, self.lc, self.last_ts, segment, self.total)


class Writer(NamedTuple):
    """A writer's count at the end of a segment."""

    topic: str
    writer: bytes
    n: int
    ts: float


# Making one ----------------------------------------------------------------------------------------------------------


def build(
    index: MemoryIndex, *, shard: int, segment: int, mark: int, covers: int
) -> Generator[None, None, list[bytes]]:
    """The parts of the file. A generator that yields every few rows, so that the loop can go on in between."""
    pages: list[bytes] = []
    names = bytearray()
    rows: list[tuple[int, bytes]] = []
    writers: list[bytes] = []
    at = HEADER_SIZE
    work = 0
    # Appending counts nothing for the segment as a whole: only reading it does.
    index.last_ts = max([index.last_ts, *(topic.last_ts for topic in index.topics.values() if topic.offsets)])
    for topic in index.topics.values():
        name = topic.name.encode()
        key = topic_key(name)
        rows.append((int.from_bytes(key[:8], "big"), _entry(topic, key, len(names), len(name), at)))
        for start in range(0, len(topic.offsets), PAGE_SEQS):
            page = topic.offsets[start : start + PAGE_SEQS].tobytes() + topic.sizes[start : start + PAGE_SEQS].tobytes()
            pages.append(page + _SUM.pack(crc32(page)))
            at += len(pages[-1])
            work += 32
        for writer, n in topic.writers.items():
            ts = index.tail_writers.get((topic.name, writer), topic.last_ts)
            writers.append(_WRITER.pack(len(names), len(name), len(writer), n, ts) + writer)
            work += 1
        names += name
        work += 1
        if work >= SLICE:
            work = 0
            yield
    sections: list[list[bytes]] = [[] for _ in range(SECTIONS)]
    directory, sections[TOPICS] = yield from build_rows(rows, len(rows))
    sections[TOPICS_DIR] = [directory]
    directory, sections[IDS] = yield from build_ids(index.ids.keys)
    sections[IDS_DIR] = [directory]
    sections[NAMES] = [bytes(names)]
    sections[DEDUP] = [*_pieces(index.dedup_hashes), *_pieces(index.dedup_seqs)]
    sections[WRITERS] = writers
    sections[STATES] = yield from _state_rows(index)
    sections[DAMAGE] = [_PAIR.pack(*pair) for pair in index.damage]
    yield
    head = _HEAD.pack(
        MAGIC, FORMAT, shard, mark, segment, covers, index.records, len(rows), index.first_ts, index.newest_ts
    )
    out = pages
    for section in sections:
        size = crc = work = 0
        for part in section:
            crc = crc32(part, crc)
            size += len(part)
            work += len(part)
            if work >= PIECE_BYTES:
                work = 0
                yield
        head += _SECTION.pack(at, size, crc)
        at += size
        out += section
    head = head.ljust(SUM_AT, b"\0")
    parts = [head + _SUM.pack(crc32(head))]
    for piece in _joined(out):
        parts.append(piece)
        yield
    return parts


def _entry(topic: TopicIndex, key: bytes, name_at: int, name_size: int, pages_at: int) -> bytes:
    return _ENTRY.pack(
        key,
        name_at,
        name_size,
        topic.first,
        topic.count,
        topic.previous,
        pages_at,
        topic.bytes,
        topic.base,
        topic.lc,
        topic.first_ts,
        topic.last_ts,
    )


def _state_rows(index: MemoryIndex) -> Generator[None, None, list[bytes]]:
    rows = []
    for kind, key, body in index.states.rows():
        rows.append(_STATE.pack(kind, len(key), len(body)) + key + body)
        if not len(rows) % SLICE:
            yield
    return rows


def _pieces(values: "array[int]") -> Iterator[bytes]:
    """An array's bytes in pieces that are quick to copy and sum."""
    for start in range(0, len(values), PIECE_ITEMS):
        yield values[start : start + PIECE_ITEMS].tobytes()


def _joined(parts: list[bytes], least: int = PIECE_BYTES) -> Iterator[bytes]:
    """The same bytes in pieces of a good size to write."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= least:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


# Looking into one ----------------------------------------------------------------------------------------------------


class SidecarSpan:
    """One topic's records in a sealed segment."""

    __slots__ = ("_sidecar", "count", "entry", "first", "first_ts", "previous")

    def __init__(self, sidecar: "Sidecar", entry: Entry) -> None:
        self._sidecar = sidecar
        self.entry = entry
        self.first = entry.first
        self.first_ts = entry.first_ts
        self.count = entry.seqs
        self.previous = entry.previous

    def window(self, position: int, *, cached: bool) -> tuple["array[int]", "array[int]", int] | None:
        """Offsets and sizes of the page around a position, and the position of its first; None: not cached."""
        page = position // PAGE_SEQS
        start = page * PAGE_SEQS
        count = min(PAGE_SEQS, self.count - start)
        at = self.entry.pages_at + page * (PAGE_SEQS * PAGE_ROW + _SUM.size)
        try:
            data = self._sidecar.read(count * PAGE_ROW + _SUM.size, at, cached=cached)
        except NotCached:
            return None
        if len(data) != count * PAGE_ROW + _SUM.size or _SUM.unpack_from(data, count * PAGE_ROW)[0] != crc32(
            memoryview(data)[: count * PAGE_ROW]
        ):
            raise LogDamaged(f"a page of the index of segment {self._sidecar.segment} fails its checksum")
        offsets: array[int] = array("Q")
        offsets.frombytes(data[: count * 8])
        sizes: array[int] = array("I")
        sizes.frombytes(data[count * 8 : count * PAGE_ROW])
        return offsets, sizes, start


class Sidecar:
    """A sidecar file. Only its header is in memory; everything else is read where it lies.

    Raises:
        LogDamaged: from every method that reads, when what it read fails its checksum.
    """

    __slots__ = (
        "_cached",
        "_fd",
        "_files",
        "_ids",
        "_sections",
        "_topics",
        "covers",
        "first_ts",
        "last_ts",
        "mark",
        "path",
        "records",
        "segment",
        "shard",
        "topic_count",
    )

    def __init__(self, files: Files, path: Path) -> None:
        self._files = files
        self._cached = False
        self.path = path
        self._fd = files.open(path)
        try:
            self._load_header()
        except BaseException:
            self.close()
            raise

    def _load_header(self) -> None:
        head = self._files.read(self._fd, HEADER_SIZE, 0)
        if len(head) != HEADER_SIZE or _SUM.unpack_from(head, SUM_AT)[0] != crc32(head[:SUM_AT]):
            raise LogDamaged(f"the header of {self.path.name} fails its checksum")
        (
            magic,
            version,
            self.shard,
            self.mark,
            self.segment,
            self.covers,
            self.records,
            self.topic_count,
            self.first_ts,
            self.last_ts,
        ) = _HEAD.unpack_from(head)
        if magic != MAGIC or version != FORMAT:
            raise LogDamaged(f"{self.path.name} is no index of this version")  # it will be made again
        self._sections = [_SECTION.unpack_from(head, _HEAD.size + number * _SECTION.size) for number in range(SECTIONS)]
        self._topics = self._table(TOPICS_DIR, _ENTRY.size)
        self._ids = self._table(IDS_DIR, 8)

    def _table(self, directory: int, row_size: int) -> Table:
        """A hash table: its rows are the section right behind its directory."""
        offset, size, _ = self._sections[directory]
        return Table(size, row_size, lambda wanted, at: self.read(wanted, offset + at))

    @property
    def is_open(self) -> bool:
        """Whether it holds a descriptor."""
        return self._fd >= 0

    def close(self) -> None:
        """Let go of the file; the next look opens it again."""
        if self._fd >= 0:
            self._files.close(self._fd)
            self._fd = -1

    def reopen(self) -> None:
        """Open the file if it is not."""
        if self._fd < 0:
            self._fd = self._files.open(self.path)

    def read(self, size: int, at: int, *, cached: bool = False) -> bytes:
        """Bytes of the file.

        Raises:
            NotCached: `cached` was asked for, and they are not in the page cache.
        """
        if not (cached or self._cached):
            return self._files.read(self._fd, size, at)
        buffer = bytearray(size)
        got = self._files.read_cached(self._fd, memoryview(buffer), at)
        if got == NOT_CACHED:
            raise NotCached
        if got != size:
            return self._files.read(self._fd, size, at)
        return bytes(buffer)

    def section(self, number: int) -> bytes:
        """A whole section."""
        offset, size, crc = self._sections[number]
        data = self._files.read(self._fd, size, offset)
        if len(data) != size or crc32(data) != crc:
            raise LogDamaged(f"section {number} of {self.path.name} fails its checksum")
        return data

    def find(self, key: bytes, *, cached: bool = False) -> SidecarSpan | None:
        """A topic's records here.

        Raises:
            NotCached: `cached` was asked for, and the look-up would wait for the disk.
        """
        self._cached = cached
        try:
            row = self._topics.row(int.from_bytes(key[:8], "big"), key)
        finally:
            self._cached = False
        return None if row is None else SidecarSpan(self, Entry._make(_ENTRY.unpack(row)))

    def has_id(self, key: int) -> bool:
        """Whether a message with this (salted) id hash is here."""
        return self._ids.has(key)

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Every topic here, in no order. All that is read is read before the first one comes."""
        return _entries(self.section(NAMES), self.section(TOPICS))

    def writers(self) -> Iterator[Writer]:
        """The writers whose count changed here. All that is read is read before the first one comes."""
        return _writers(self.section(NAMES), self.section(WRITERS))

    def states(self) -> Iterator[tuple[int, bytes, bytes]]:
        """The newest (kind, key, body) of each key here; an empty body: deleted here."""
        data = self.section(STATES)
        at = 0
        while at < len(data):
            kind, key_size, body_size = _STATE.unpack_from(data, at)
            at += _STATE.size
            middle = at + key_size
            end = middle + body_size
            yield kind, data[at:middle], data[middle:end]
            at = end

    def dedup(self) -> tuple["array[int]", "array[int]"]:
        """Dedup hashes and their seqs, in the order of the file."""
        data = self.section(DEDUP)
        half = len(data) // 2
        hashes: array[int] = array("Q")
        hashes.frombytes(data[:half])
        seqs: array[int] = array("Q")
        seqs.frombytes(data[half:])
        return hashes, seqs

    def damage(self) -> list[tuple[int, int]]:
        """Offset and size of what could not be read when the segment was scanned."""
        return [(at, size) for at, size in _PAIR.iter_unpack(self.section(DAMAGE))]

    def verify(self) -> list[str]:
        """Check every section; says what is wrong."""
        wrong = []
        for number in range(SECTIONS):
            try:
                self.section(number)
            except LogDamaged as error:
                wrong.append(str(error))
        return wrong


def _entries(names: bytes, rows: bytes) -> Iterator[tuple[str, Entry]]:
    for values in _ENTRY.iter_unpack(rows):
        entry = Entry._make(values)
        yield names[entry.name_at : entry.name_at + entry.name_size].decode(), entry


def _writers(names: bytes, data: bytes) -> Iterator[Writer]:
    at = 0
    while at < len(data):
        name_at, name_size, size, n, ts = _WRITER.unpack_from(data, at)
        at += _WRITER.size
        yield Writer(names[name_at : name_at + name_size].decode(), data[at : at + size], n, ts)
        at += size
