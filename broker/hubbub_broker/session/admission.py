"""The limits that every publish must pass before it reaches a shard, whichever door it comes by."""

from hubbub_broker.refusal import Refusal
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Pub
from hubbub_protocol.limits import ID_BYTES_MAX, LAMPORT_MAX, TTL_SECONDS_MAX, TYPE_CHARS_MAX
from hubbub_protocol.names import check_topic


def check_publish(pub: Pub) -> None:
    """Check the fields that the schema can't.

    Raises:
        Refusal: `bad_request`, naming the field and what is allowed.
        BadName: if `reply_to` is not a topic.
    """
    if not 0 < len(pub.id) <= ID_BYTES_MAX or (not pub.id.isascii() and len(pub.id.encode()) > ID_BYTES_MAX):
        raise Refusal(ErrorCode.BAD_REQUEST, f"`id` has 1 to {ID_BYTES_MAX} bytes")
    if pub.lc and not 0 <= pub.lc < LAMPORT_MAX:
        raise Refusal(ErrorCode.BAD_REQUEST, f"`lc` is from 0 to {LAMPORT_MAX - 1}")
    if pub.n is not None and not 1 <= pub.n <= LAMPORT_MAX:
        raise Refusal(ErrorCode.BAD_REQUEST, "`n` counts this publisher's messages to this topic: 1, 2, 3 ...")
    if pub.ttl is not None and not 0 < pub.ttl <= TTL_SECONDS_MAX:
        raise Refusal(ErrorCode.BAD_REQUEST, f"`ttl` is in seconds, above 0 and up to {TTL_SECONDS_MAX:.0f}")
    if pub.parent is not None and not 0 < len(pub.parent.encode()) <= ID_BYTES_MAX:
        raise Refusal(ErrorCode.BAD_REQUEST, f"`parent` is a message id: 1 to {ID_BYTES_MAX} bytes")
    if pub.type is not None and len(pub.type) > TYPE_CHARS_MAX:
        raise Refusal(ErrorCode.BAD_REQUEST, f"`type` has at most {TYPE_CHARS_MAX} characters")
    if pub.headers and not bytes(pub.headers).startswith(b"{"):
        raise Refusal(ErrorCode.BAD_REQUEST, "`headers` is an object")
    if pub.reply_to is not None:
        check_topic(pub.reply_to)
