"""The lines that a shard answers a publisher with, encoded by hand: one is due for every publish."""

from hubbub_protocol.codec import decode_broker, encode, encode_value
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err, Ok, Pub
from hubbub_protocol.limits import ID_BYTES_MAX, TOPIC_BYTES_MAX


def ok(pub: Pub, wire_id: bytes, wire_topic: bytes, seq: int, lc: int) -> bytes:
    """The `ok` of a durable message. `wire_id` is the id as JSON text; a topic needs no escaping."""
    if pub.rid is None:
        return b'{"op":"ok","id":%b,"topic":"%b","seq":%d,"lc":%d}' % (wire_id, wire_topic, seq, lc)
    return b'{"op":"ok","rid":%b,"id":%b,"topic":"%b","seq":%d,"lc":%d}' % (
        encode_value(pub.rid),
        wire_id,
        wire_topic,
        seq,
        lc,
    )


def ok_signal(pub: Pub, wire_id: bytes, wire_topic: bytes, lc: int) -> bytes:
    """The `ok` of an ephemeral message, which has no seq."""
    if pub.rid is None:
        return b'{"op":"ok","id":%b,"topic":"%b","lc":%d}' % (wire_id, wire_topic, lc)
    return b'{"op":"ok","rid":%b,"id":%b,"topic":"%b","lc":%d}' % (encode_value(pub.rid), wire_id, wire_topic, lc)


def ok_duplicate(line: bytes) -> bytes:
    """The same `ok`, for a message that was there already."""
    return line[:-1] + b',"dup":true}'


def ok_repeat(pub: Pub, topic: str, seq: int, lc: int | None) -> bytes:
    """The `ok` of a message that was there already; without an `lc` where retention took it."""
    return encode(Ok(rid=pub.rid, id=pub.id, topic=topic, seq=seq, lc=lc, dup=True))


def refusal(
    pub: Pub, code: ErrorCode, message: str, *, retry_after: float | None = None, expect: int | None = None
) -> bytes:
    """The `err` of a publish that was not taken."""
    return encode(
        Err(
            code=code,
            message=message,
            rid=pub.rid,
            id=pub.id if len(pub.id) <= ID_BYTES_MAX else None,  # what was too long is not sent back
            topic=pub.topic if len(pub.topic) <= TOPIC_BYTES_MAX else None,
            retry_after=retry_after,
            expect=expect,
        )
    )


def failed(line: bytes, message: str, retry_after: float) -> bytes:
    """The `err` in place of an answer that was not sent, because what it is about did not reach stable storage."""
    said = decode_broker(line)
    assert isinstance(said, (Ok, Err))
    return encode(
        Err(
            code=ErrorCode.READ_ONLY,
            message=message,
            rid=said.rid,
            id=said.id,
            topic=said.topic,
            retry_after=retry_after,
        )
    )
