"""`get`: one stored message, and those that led to it."""

from __future__ import annotations

import base64
from time import time
from typing import TYPE_CHECKING

from msgspec import Raw

from hubbub_broker.access import Operation
from hubbub_broker.log import LogError
from hubbub_broker.refusal import Refusal, unreadable
from hubbub_broker.shard import Found, Lookup, Shard
from hubbub_protocol.codec import encode
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Get, Ok
from hubbub_protocol.names import check_topic, group_of

if TYPE_CHECKING:
    from .session import Session
    from .sessions import Sessions


def check_get(get: Get, session: Session, sessions: Sessions) -> Shard:
    """Whether a request makes sense, and may be made: the shard that it is for.

    Raises:
        Refusal, BadName: why not.
        Elsewhere: it is another worker's.
    """
    session.require(Operation.HISTORY, check_topic(get.topic))
    if (get.id is None) == (get.seq is None):
        raise Refusal(ErrorCode.BAD_REQUEST, "a `get` has exactly one of `id` and `seq`")
    limit = sessions.settings.max_ancestors
    if not 0 <= get.ancestors <= limit:
        message = f"`ancestors` is {get.ancestors}; the limit (max_ancestors) is {limit}: ask again from the last one"
        raise Refusal(ErrorCode.BAD_REQUEST, message)
    return sessions.shard_of(group_of(get.topic))


async def answer_get(get: Get, session: Session, shard: Shard, max_bytes: int) -> None:
    """Look it up, and answer."""
    try:
        found = await Lookup(shard).lineage(get.topic, get.id, get.seq, get.ancestors, max_bytes)
    except LogError as error:
        session.refuse(get.rid, unreadable(error))
        return
    if not found.messages:
        what = f"message {get.seq}" if get.id is None else "such message"
        session.refuse(get.rid, Refusal(ErrorCode.NOT_FOUND, f"{get.topic} has no {what} (any more)"))
        return
    max_age = shard.topic(get.topic).policy.max_age or None
    ok = Ok(
        rid=get.rid,
        topic=get.topic,
        messages=[Raw(as_json(one)) for one in found.messages],
        missing=found.missing,
        max_age=max_age,
        left=None if max_age is None else max(0.0, round(found.messages[0].frame.ts + max_age - time(), 3)),
    )
    session.answer([encode(ok)])


def as_json(found: Found) -> bytes:
    """A stored message as JSON; a payload of bytes as `data_base64`."""
    if not found.header_size:
        return found.line
    payload = base64.b64encode(found.line[found.header_size :])
    return b'%b,"data_base64":"%b"}' % (found.line[: found.header_size - 1], payload)
