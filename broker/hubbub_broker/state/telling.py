"""The messages that tell of changes, on the topic `GROUP/_state...`.

    {"set": {KEY: VALUE}, "delete": [KEY], "ttl": {KEY: SECONDS}, "keep": [KEY], "expired": true,
     "published": [{topic, id, seq, lc}]}

What is empty is left out. The message's seq is the version of each key in it.
"""

from collections.abc import Sequence

from hubbub_protocol.codec import decode_value, encode_value
from hubbub_protocol.errors import BadFrame
from hubbub_protocol.frames import Change, Published

TYPE = "state"
"""Their `type`."""


def tell(change: Change, published: Sequence[Published] = (), *, expired: bool = False) -> bytes:
    """The data of the message that tells of a change."""
    parts = []
    if change.set:
        parts.append(b'"set":{%b}' % b",".join(b'"%b":%b' % (key.encode(), value) for key, value in change.set.items()))
    if change.delete:
        parts.append(b'"delete":%b' % encode_value(change.delete))
    if change.ttl:
        parts.append(b'"ttl":%b' % encode_value(change.ttl))
    if change.keep:
        parts.append(b'"keep":%b' % encode_value(change.keep))
    if expired:
        parts.append(b'"expired":true')
    if published:
        parts.append(b'"published":%b' % encode_value(published))
    return b"{%b}" % b",".join(parts)


def published_with(data: bytes) -> list[Published] | None:
    """What the message that tells of a change says of those that went with it."""
    try:
        told = decode_value(data) if data else {}
    except BadFrame:
        return None
    return [Published(**each) for each in told.get("published", ())] or None
