"""The stored record: one layout for everything durable.

Every record (numbers are little-endian):

     0  u32  mark      the segment's own random number, from its file header: a record can't be forged inside a payload,
                       and one of another file does not pass for one of this
     4  u32  crc32     over everything behind it
     8  u32  size      of the whole record
    12  u8   kind      MESSAGE | STATE | TAIL
    13  u8   version
    14  u8   flags     FIRST: begins a batch, so what lies before it was on stable storage when this was written
                       SPECIAL: a message with a binary payload or an expiry
                       MORE: the next record belongs to the same step. After a crash a step is there whole or not at all
    15  u8   0

MESSAGE: what every reader gets, as it goes over the wire. The topic stands in the line and is not stored again.

    16  u16  topic_size       line[21:21 + topic_size]
    18  u16  writer_size
    20  u32  header_size      0: a text line; else line[:header_size] is the header and the rest the payload
    24  i64  seq              never negative, nor are lc and n: what SQLite can hold
    32  i64  lc
    40  f64  ts
    48  f64  expires          0: never
    56  u64  id_hash
    64  u64  dedup_hash
    72  i64  n                0: not given
    80       writer, line

STATE: the newest body of a (kind, key); an empty body deletes it.

    16  u8   state kind
    17  u8   0
    18  u16  0
    20  u32  key_size
    24       key, body

TAIL: where a topic stands, written when the last segment that told it is dropped.

    16  u16  topic_size
    18  u16  writers
    20  u32  0
    24  u64  head
    32  u64  lc
    40  f64  last_ts
    48  u64  total            bytes of all its records ever
    56       topic, then for each writer: u16 size, f64 ts, u64 n, bytes
"""

from struct import Struct
from typing import NamedTuple
from zlib import crc32

VERSION = 1
MESSAGE, STATE, TAIL = 1, 2, 3
FIRST, SPECIAL, MORE = 1, 2, 4

LINE_START = b'{"op":"msg","topic":"'
TOPIC_AT = len(LINE_START)

PREFIX = Struct("<II")
COMMON = Struct("<IIIBBBx")
MESSAGE_BODY = Struct("<IBBBxHHIqqddQQq")
"""A message behind mark and checksum: size, kind, version, flags, topic_size, writer_size, header_size, seq, …"""
MESSAGE_READ = Struct("<IIIBxBxxxHIQ")
"""What a reader needs: mark, crc, size, kind, flags, writer_size, header_size, seq."""
STATE_BODY = Struct("<IBBBxBxxxI")
TAIL_BODY = Struct("<IBBBxHHxxxxQQdQ")
TAIL_WRITER = Struct("<HdQ")

PREFIX_SIZE = PREFIX.size
COMMON_SIZE = COMMON.size
MESSAGE_SIZE = PREFIX_SIZE + MESSAGE_BODY.size
STATE_SIZE = PREFIX_SIZE + STATE_BODY.size
TAIL_SIZE = PREFIX_SIZE + TAIL_BODY.size
FLAGS_AT = 14 - PREFIX_SIZE
"""Where the flags stand in a record without mark and checksum."""
EXPIRES = Struct("<d")
EXPIRES_AT = 48
TS_AT = 40
RECORD_SIZE_MAX = 2**31 - 1
"""Above any message that the broker takes, below what one write can do."""


class Message(NamedTuple):
    """A decoded message record."""

    topic: str
    seq: int
    lc: int
    ts: float
    expires: float
    header_size: int
    id_hash: int
    dedup_hash: int
    writer: bytes
    n: int
    line: bytes


class State(NamedTuple):
    """A decoded state record."""

    kind: int
    key: bytes
    body: bytes


class Tail(NamedTuple):
    """A decoded tail record."""

    topic: str
    head: int
    lc: int
    last_ts: float
    total: int
    writers: dict[bytes, tuple[int, float]]


def seal_record(mark: int, body: bytes) -> bytes:
    """A whole record: the body with mark and checksum in front."""
    return PREFIX.pack(mark, crc32(body)) + body


def seal_record_parts(mark: int, body: bytes) -> tuple[bytes, bytes]:
    """The same in two parts."""
    return PREFIX.pack(mark, crc32(body)), body


def with_more(body: bytes) -> bytes:
    """The same record, without mark and checksum, saying that the next one belongs to the same step."""
    return body[:FLAGS_AT] + bytes((body[FLAGS_AT] | MORE,)) + body[FLAGS_AT + 1 :]


def encode_state(kind: int, key: bytes, body: bytes, flags: int) -> bytes:
    """A state record without mark and checksum."""
    size = STATE_SIZE + len(key) + len(body)
    return STATE_BODY.pack(size, STATE, VERSION, flags, kind, len(key)) + key + body


def encode_tail(tail: Tail, flags: int) -> bytes:
    """A tail record without mark and checksum."""
    name = tail.topic.encode()
    parts = [name]
    for writer, (n, ts) in tail.writers.items():
        parts += (TAIL_WRITER.pack(len(writer), ts, n), writer)
    rest = b"".join(parts)
    fixed = TAIL_BODY.pack(
        TAIL_SIZE + len(rest),
        TAIL,
        VERSION,
        flags,
        len(name),
        len(tail.writers),
        tail.head,
        tail.lc,
        tail.last_ts,
        tail.total,
    )
    return fixed + rest


def decode(record: bytes) -> Message | State | Tail:
    """A whole record whose checksum holds.

    Raises:
        ValueError: it is of a kind or version that this program does not know, or does not add up.
    """
    kind, version = record[12], record[13]
    if version != VERSION:
        raise ValueError(f"record version {version}: written by a newer program")
    if kind == MESSAGE:
        return decode_message(record)
    if kind == STATE:
        _, _, _, _, state_kind, key_size = STATE_BODY.unpack_from(record, PREFIX_SIZE)
        end = STATE_SIZE + key_size
        if end > len(record):
            raise ValueError("a state record whose key is longer than itself")
        return State(state_kind, record[STATE_SIZE:end], record[end:])
    if kind == TAIL:
        return _decode_tail(record)
    raise ValueError(f"record kind {kind}: written by a newer program")


def decode_message(record: bytes) -> Message:
    """A whole message record whose checksum holds."""
    _, _, _, _, topic_size, writer_size, header_size, seq, lc, ts, expires, id_hash, dedup_hash, n = (
        MESSAGE_BODY.unpack_from(record, PREFIX_SIZE)
    )
    start = MESSAGE_SIZE + writer_size
    line = record[start:]
    if not line.startswith(LINE_START) or len(line) < TOPIC_AT + topic_size or header_size > len(line):
        raise ValueError("a message record whose line does not fit its sizes")
    topic = line[TOPIC_AT : TOPIC_AT + topic_size].decode()
    writer = record[MESSAGE_SIZE:start]
    return Message(topic, seq, lc, ts, expires, header_size, id_hash, dedup_hash, writer, n, line)


def _decode_tail(record: bytes) -> Tail:
    _, _, _, _, topic_size, count, head, lc, last_ts, total = TAIL_BODY.unpack_from(record, PREFIX_SIZE)
    at = TAIL_SIZE + topic_size
    topic = record[TAIL_SIZE:at].decode()
    writers = {}
    for _ in range(count):
        if at + TAIL_WRITER.size > len(record):
            raise ValueError("a tail record that ends within its writers")
        size, ts, n = TAIL_WRITER.unpack_from(record, at)
        at += TAIL_WRITER.size
        writers[record[at : at + size]] = (n, ts)
        at += size
    return Tail(topic, head, lc, last_ts, total, writers)
