"""The first 64 bytes of a segment file.

 0  8s   magic "HUBBUBLG"
 8  u16  format version
10  u16  shard
12  u32  mark       random: begins every record of this file
16  u64  segment number
24  f64  when it was made
32  16s  epoch in which it was made
48  12x  zero
60  u32  crc32 of the 60 bytes before
"""

from struct import Struct
from typing import NamedTuple
from zlib import crc32

from .errors import FormatError, LogDamaged

MAGIC = b"HUBBUBLG"
FORMAT = 1
HEADER_SIZE = 64
_FIELDS = Struct("<8sHHIQd16s12x")
_SUM = Struct("<I")


class SegmentHeader(NamedTuple):
    """What a segment file says of itself."""

    shard: int
    number: int
    mark: int
    epoch: str
    made: float

    def encode(self) -> bytes:
        """The header's 64 bytes."""
        fields = _FIELDS.pack(MAGIC, FORMAT, self.shard, self.mark, self.number, self.made, self.epoch.encode())
        return fields + _SUM.pack(crc32(fields))

    @classmethod
    def decode(cls, data: bytes, shard: int, number: int) -> "SegmentHeader":
        """Read and check a header.

        Raises:
            LogDamaged: it is cut short or fails its checksum.
            FormatError: it is of another version, shard or place.
        """
        if len(data) < HEADER_SIZE:
            raise LogDamaged(f"segment {number} has no whole header")
        fields = data[: _FIELDS.size]
        if fields[:8] != MAGIC or _SUM.unpack_from(data, _FIELDS.size)[0] != crc32(fields):
            raise LogDamaged(f"the header of segment {number} fails its checksum")
        _, version, its_shard, mark, its_number, made, epoch = _FIELDS.unpack(fields)
        if version != FORMAT:
            raise FormatError(f"segment {number} has format {version}, this program knows {FORMAT}: use a newer one")
        if (its_shard, its_number) != (shard, number):
            raise FormatError(
                f"segment {number} of shard {shard} says that it is segment {its_number} of shard {its_shard}: "
                "a file was moved; put it back where it belongs"
            )
        return cls(its_shard, its_number, mark, epoch.rstrip(b"\0").decode(), made)
