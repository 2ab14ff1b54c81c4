"""`GET /v1/topics/TOPIC/stream`: a topic as server-sent events, for browsers and shell scripts."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import StreamingResponse

from hubbub_broker.access import Operation
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.limits import LAMPORT_MAX
from hubbub_protocol.names import check_topic

from .api import Refused
from .bus_api import BusApi, StreamEvent
from .caller import Caller, FromCaller
from .models import BAD, UNAVAILABLE
from .wanted import FromSelect, FromWhere, filter_asked

_ID = "`Last-Event-ID` is what a stream gave as `id`: EPOCH:SEQ"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def routes(bus: BusApi) -> APIRouter:
    """The route, on `bus`."""
    router = APIRouter(tags=["messages"])

    @router.get(
        "/v1/topics/{topic:path}/stream",
        summary="A topic as server-sent events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}, **BAD, **UNAVAILABLE},
    )
    async def stream(
        caller: FromCaller,
        request: Request,
        topic: Annotated[str, Path(description="The topic, its slashes as they are.", examples=["research/conv-42"])],
        after: Annotated[
            int | None, Query(ge=0, le=LAMPORT_MAX, description="Begin with what comes behind this seq; 0 is all.")
        ] = None,
        last_event_id: Annotated[str | None, Header(description="Go on behind this event.")] = None,
        where: FromWhere = None,
        select: FromSelect = None,
    ) -> StreamingResponse:
        """Every message of a topic, as an event whose `data` is the message as subscribers get it.

        Without `after` it begins with what comes from now on. It begins with an `id`, and one goes with each durable
        message: a browser that reconnects sends the last as `Last-Event-ID`, and misses nothing. An event `gap` says
        what is no longer kept.
        """
        caller.require(Operation.SUBSCRIBE, check_topic(topic))
        epoch = None
        if last_event_id:
            epoch, after = _place(last_event_id)
        events = bus.stream(topic, after, epoch, filter_asked(where, select, bus.settings))
        first = await anext(events)  # what is refused is refused before the answer begins
        return StreamingResponse(
            _lines(first, events, request, caller), media_type="text/event-stream", headers=_HEADERS
        )

    return router


def _place(last_event_id: str) -> tuple[str | None, int]:
    epoch, _, seq = last_event_id.rpartition(":")
    if not seq.isdecimal() or not seq.isascii() or len(seq) > 16:
        raise Refused.because(ErrorCode.BAD_REQUEST, _ID)
    return epoch or None, int(seq)


async def _lines(
    first: StreamEvent, events: AsyncIterator[StreamEvent], request: Request, caller: Caller
) -> AsyncIterator[bytes]:
    yield _event(first)
    async for event in events:
        if caller.ended or await request.is_disconnected():
            return
        yield _event(event)


def _event(event: StreamEvent) -> bytes:
    id = b"" if event.id is None else b"id: %b\n" % event.id.encode()
    if not event.data:
        return b": here\n%b\n" % id  # without data it is no event; its id counts all the same
    return b"%bevent: %b\ndata: %b\n\n" % (id, event.event.encode(), event.data)
