"""`GET /v1/topics/TOPIC/messages`: a page of a topic's history, for those who hold no socket."""

import base64
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from hubbub_broker.access import Operation
from hubbub_protocol.codec import encode_value
from hubbub_protocol.limits import LAMPORT_MAX
from hubbub_protocol.names import check_topic

from .api import BrokerApi, HistoryPage, StoredLine
from .caller import FromCaller
from .models import BAD, UNAVAILABLE, History
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
