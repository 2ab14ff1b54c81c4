"""`GET /v1/topics/TOPIC/messages`: a page of a topic's history, or one message, for those who hold no socket."""

import base64
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from hubbub_broker.access import Operation
from hubbub_protocol.codec import encode_value
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.limits import ID_BYTES_MAX, LAMPORT_MAX
from hubbub_protocol.names import check_topic

from .api import BrokerApi, HistoryPage, Refused, StoredLine
from .caller import FromCaller
from .models import BAD, UNAVAILABLE, History, Line
from .wanted import FromSelect, FromWhere, filter_asked

PAGE_DEFAULT = 100
PAGE_MAX = 1000
"""Messages in one answer."""


def routes(broker: BrokerApi) -> APIRouter:
    """The route, on `broker`."""
    router = APIRouter(tags=["messages"])
    max_bytes = broker.settings.max_frame

    @router.get(
        "/v1/topics/{topic:path}/messages",
        summary="A page of history",
        response_class=Response,
        responses={200: {"model": History}, **BAD, **UNAVAILABLE},
    )
    async def history(
        caller: FromCaller,
        topic: Annotated[str, Path(description="The topic, its slashes as they are.", examples=["research/conv-42"])],
        after: Annotated[int, Query(ge=0, le=LAMPORT_MAX, description="Messages with a larger seq than this.")] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="Messages at most.")] = PAGE_DEFAULT,
        where: FromWhere = None,
        select: FromSelect = None,
    ) -> Response:
        """The messages of a topic with `seq` > `after`, in order.

        A page may hold fewer messages than `limit`: it also ends at about `max_frame` bytes, and expired messages are
        passed over. Go on with `after` = `next` until `next` equals `head`. Where `first` is larger than
        `after` + 1, what lies between is no longer kept. A topic that nobody published to yet is an empty one.

        With `where` or `select` a page holds what these let through, and ends where enough has been looked at: go on as
        above, though it may be empty.
        """
        caller.require(Operation.HISTORY, check_topic(topic))
        page = await broker.history(topic, after, limit, max_bytes, filter_asked(where, select, broker.settings))
        return Response(render(topic, page), media_type="application/json")

    @router.get(
        "/v1/topics/{topic:path}/messages/{id}",
        summary="One message, and what led to it",
        response_class=Response,
        responses={
            200: {"model": Line},
            404: {"description": "There is no such message (any more)."},
            **BAD,
            **UNAVAILABLE,
        },
    )
    async def find(
        caller: FromCaller,
        topic: Annotated[str, Path(description="The topic, its slashes as they are.", examples=["research/conv-42"])],
        id: Annotated[str, Path(description="The message's id.", max_length=ID_BYTES_MAX)],
        ancestors: Annotated[
            int, Query(ge=0, description="How many of those that led to it within the topic: its parent, and so on.")
        ] = 0,
    ) -> Response:
        """A stored message by its id, the newest that has it, then its ancestors, nearest first.

        It ends with the first of them; or at `max_ancestors`, or about half of `max_frame` bytes: then go on with the
        last one's `parent`; or where a parent is not there: then `missing` is its id.
        """
        caller.require(Operation.HISTORY, check_topic(topic))
        limit = broker.settings.max_ancestors
        if ancestors > limit:
            message = f"`ancestors` is {ancestors}; the limit (max_ancestors) is {limit}: ask again from the last one"
            raise Refused.because(ErrorCode.BAD_REQUEST, message)
        messages, missing = await broker.find(topic, id, ancestors)
        if not messages:
            raise Refused.because(ErrorCode.NOT_FOUND, f"{topic} has no such message (any more)")
        body = encode_value({"topic": topic, "missing": missing})
        content = b'%b,"messages":[%b]}' % (body[:-1], b",".join(map(render_line, messages)))
        return Response(content, media_type="application/json")

    return router


def render(topic: str, page: HistoryPage) -> bytes:
    """The page as JSON. The messages are the stored lines as they are: nothing is decoded."""
    begin = encode_value({"topic": topic, "epoch": page.epoch, "head": page.head, "first": page.first})
    messages = b",".join(map(render_line, page.messages))
    return b'%s,"messages":[%s],"next":%d}' % (begin[:-1], messages, page.next)


def render_line(stored: StoredLine) -> bytes:
    """A stored message as JSON; a payload of bytes as `data_base64`."""
    if not stored.header_size:
        return stored.line
    header = stored.line[: stored.header_size].rstrip()
    return b'%s,"data_base64":"%s"}' % (header[:-1], base64.b64encode(stored.line[stored.header_size :]))
