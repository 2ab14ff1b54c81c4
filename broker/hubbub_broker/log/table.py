"""A hash table in a file: rows of one size in buckets, searched in place, each bucket with its own checksum.

    directory   for each bucket: u32 its first row, u32 the row after its last, u32 crc32 over these two and its rows
    rows        bucket after bucket

A look-up is two small reads. A row's bucket is given by the highest bits of its key; a bucket holds some tens of rows,
in no order. The checksum covers the place in the directory, too, so that a damaged one can't pass for an empty bucket.
"""

from array import array
from collections.abc import Callable, Generator, Iterable
from struct import Struct
from zlib import crc32

from .errors import LogDamaged

SLICE = 256
"""Rows between two chances for the loop to go on."""

BUCKET_BYTES_MAX = 1 << 24
"""Far above any bucket: a damaged directory must not make anyone allocate."""

_PLACE = Struct("<III")
_BOUNDS = Struct("<II")

Read = Callable[[int, int], bytes]
"""Reads (size, offset) of the table, directory first, rows right behind it."""


def bucket_bits(rows: int, each: int) -> int:
    """How many bits of a key choose its bucket, for about `each` rows in one."""
    return max(0, (max(1, rows // each) - 1).bit_length())


def build_ids(keys: "array[int]") -> Generator[None, None, tuple[bytes, list[bytes]]]:
    """Directory and rows of a table whose rows are its 64-bit keys. A generator that yields every few rows."""
    bits = bucket_bits(len(keys), 96)
    shift = 64 - bits
    buckets: list[array[int]] = [array("Q") for _ in range(1 << bits)]
    for start in range(0, len(keys), SLICE):
        for key in keys[start : start + SLICE]:
            buckets[key >> shift].append(key)
        yield
    return (yield from _finish(buckets, 8))


def build_rows(rows: Iterable[tuple[int, bytes]], count: int) -> Generator[None, None, tuple[bytes, list[bytes]]]:
    """Directory and rows of a table of (key, row), all rows of one size."""
    bits = bucket_bits(count, 16)
    shift = 64 - bits
    buckets = [bytearray() for _ in range(1 << bits)]
    size = 1
    for done, (key, row) in enumerate(rows, 1):
        buckets[key >> shift] += row
        size = len(row)
        if not done % SLICE:
            yield
    return (yield from _finish(buckets, size))


def _finish(
    buckets: "list[array[int]] | list[bytearray]", row_size: int
) -> Generator[None, None, tuple[bytes, list[bytes]]]:
    directory: list[bytes] = []
    out: list[bytes] = []
    end = 0
    for done, bucket in enumerate(buckets, 1):
        data = bytes(bucket)
        start, end = end, end + len(data) // row_size
        directory.append(_PLACE.pack(start, end, crc32(data, crc32(_BOUNDS.pack(start, end)))))
        out.append(data)
        if not done % SLICE:
            yield
    return b"".join(directory), out


class Table:
    """A table to look into. Holds nothing of it in memory."""

    __slots__ = ("_read", "_row_size", "_rows_at", "_shift")

    def __init__(self, directory_size: int, row_size: int, read: Read) -> None:
        buckets = max(1, directory_size // _PLACE.size)
        self._shift = 64 - (buckets - 1).bit_length()
        self._row_size = row_size
        self._rows_at = directory_size
        self._read = read

    def bucket(self, key: int) -> bytes:
        """All rows of the key's bucket.

        Raises:
            LogDamaged: they fail their checksum.
        """
        place = self._read(_PLACE.size, (key >> self._shift) * _PLACE.size)
        if len(place) == _PLACE.size:
            start, end, crc = _PLACE.unpack(place)
            size = (end - start) * self._row_size
            if 0 <= size <= BUCKET_BYTES_MAX:
                data = self._read(size, self._rows_at + start * self._row_size) if size else b""
                if len(data) == size and crc32(data, crc32(place[: _BOUNDS.size])) == crc:
                    return data
        raise LogDamaged("a bucket of a sidecar fails its checksum")

    def has(self, key: int) -> bool:
        """Whether a table of bare keys has this one."""
        keys: array[int] = array("Q")
        keys.frombytes(self.bucket(key))
        return key in keys

    def row(self, key: int, start: bytes) -> bytes | None:
        """The row of a key that begins with `start`."""
        data = self.bucket(key)
        size = self._row_size
        for at in range(0, len(data), size):
            if data.startswith(start, at):
                return data[at : at + size]
        return None
