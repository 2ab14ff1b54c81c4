"""Reading a segment from one end to the other, whatever has happened to it.

Every record is checked. Behind a bad one the scan looks for the segment's mark and goes on at the next record whose
checksum holds; the mark is random, so nobody can have planted it in a payload. Memory stays bounded, whatever a damaged
length claims: a record longer than the rest of the file is bad at once.
"""

from collections.abc import Callable, Generator
from typing import NamedTuple
from zlib import crc32

from .files import Files
from .record import COMMON, COMMON_SIZE, PREFIX_SIZE, RECORD_SIZE_MAX

WINDOW = 1 << 20


Take = Callable[[bytes, int, int, int], int]
"""Is offered bytes, where in them to begin, the place in the file, and the mark; takes whole records that it has
checked itself, and answers how many bytes they are. What it does not take comes as ever."""


class Found(NamedTuple):
    """A stretch of the file: a whole record, or, where `record` is None, what can't be read."""

    offset: int
    size: int
    record: bytes | None


class _Window:
    """The part of the file around the place that is looked at."""

    __slots__ = ("_fd", "_files", "data", "end", "start")

    def __init__(self, files: Files, fd: int, end: int) -> None:
        self._files = files
        self._fd = fd
        self.end = end
        self.start = 0
        self.data = b""

    def at(self, offset: int, size: int) -> int:
        """Make sure that `size` bytes from `offset` on are there (fewer at the end); the position of the first."""
        position = offset - self.start
        if position < 0 or position + size > len(self.data):
            self.data = self._files.read(self._fd, max(size, min(WINDOW, self.end - offset)), offset)
            self.start = offset
            return 0
        return position


def scan(
    files: Files, fd: int, mark: int, start: int, end: int, take: Take | None = None
) -> Generator[Found, None, None]:
    """All that lies between two places of a segment file, in order, without gaps but for what `take` has taken."""
    window = _Window(files, fd, end)
    offset = start
    while offset < end:
        if take is not None:
            position = window.at(offset, min(COMMON_SIZE, end - offset))
            taken = take(window.data, position, offset, mark)
            if taken:
                offset += taken
                continue
        size = _record_size(window, mark, offset)
        if size:
            position = window.at(offset, size)
            yield Found(offset, size, window.data[position : position + size])
        else:
            size = _next_record(window, mark, offset + 1) - offset
            yield Found(offset, size, None)
        offset += size


def _record_size(window: _Window, mark: int, offset: int) -> int:
    """The size of the record that begins here; 0 when none does, or it is bad."""
    rest = window.end - offset
    if rest < COMMON_SIZE:
        return 0
    position = window.at(offset, COMMON_SIZE)
    if len(window.data) - position < COMMON_SIZE:
        return 0  # the file is shorter than it was said to be
    its_mark, crc, size, _, _, _ = COMMON.unpack_from(window.data, position)
    if its_mark != mark or not COMMON_SIZE <= size <= min(rest, RECORD_SIZE_MAX):
        return 0
    position = window.at(offset, size)
    if crc32(memoryview(window.data)[position + PREFIX_SIZE : position + size]) != crc:
        return 0
    return int(size)


def _next_record(window: _Window, mark: int, offset: int) -> int:
    """Where the next whole record begins; the end when there is none."""
    pattern = mark.to_bytes(4, "little")
    while offset < window.end:
        position = window.at(offset, min(WINDOW, window.end - offset))
        found = window.data.find(pattern, position)
        if found < 0:
            if window.start + len(window.data) >= window.end or len(window.data) < len(pattern):
                break
            offset = window.start + len(window.data) - len(pattern) + 1
            continue
        offset = window.start + found
        if _record_size(window, mark, offset):
            return offset
        offset += 1
    return window.end
