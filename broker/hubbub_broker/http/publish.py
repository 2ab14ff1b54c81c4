"""`POST /v1/publish`: the wire's `pub` for those who hold no socket."""

import base64
import binascii
import uuid
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from msgspec.structs import asdict

from hubbub_broker.access import Operation
from hubbub_protocol.codec import decoder_of, encode
from hubbub_protocol.errors import BadFrame, ErrorCode
from hubbub_protocol.frames import NO_DATA, Err, Ok, Pub
from hubbub_protocol.names import check_agent, is_topic

from .api import BrokerApi, PublishRequest, Refused
from .body import JSON_TYPE, check_json, read_body
from .caller import Caller, FromCaller
from .models import ERRORS, Publication, PublishAnswer, PublishOk
from .refusal import response_to, retry_after

DEFAULT_AGENT = "http"
"""Who publishes if the request does not say: curl, a webhook, a cron job."""


class HttpPub(Pub, frozen=True, kw_only=True, tag="pub"):
    """A `pub` whose id may be left out, and whose payload may be bytes in base64."""

    id: str = ""
    data_base64: str | None = None


_decode = decoder_of(HttpPub | list[HttpPub])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON_TYPE: {
                "schema": {
                    "anyOf": [
                        Publication.model_json_schema(),
                        {"type": "array", "items": Publication.model_json_schema(), "minItems": 1},
                    ]
                },
                "example": {"topic": "research/conv-42", "id": "018f-1", "data": {"text": "hello"}},
            }
        },
    }
}


def routes(broker: BrokerApi) -> APIRouter:
    """The route, on `broker`."""
    router = APIRouter(tags=["messages"])
    settings = broker.settings

    @router.post(
        "/v1/publish",
        summary="Publish",
        openapi_extra=_BODY,
        response_class=Response,
        responses={
            200: {"model": PublishOk | list[PublishOk], "description": "Durable, or handed on if ephemeral."},
            207: {"model": list[PublishAnswer], "description": "A list of which some were refused: see each answer."},
            **ERRORS,
        },
    )
    async def publish(
        request: Request,
        caller: FromCaller,
        agent: Annotated[str | None, Query(description="Who publishes, where the token does not say.")] = None,
        x_hubbub_agent: Annotated[str | None, Header(description="The same, as a header.")] = None,
    ) -> Response:
        """Publish one message, or a list of them, in order. The answer comes when they are on stable storage.

        A message is an object as in `pub` on the WebSocket. An `id` makes a retry safe: a second publish of the same id
        by the same agent to the same topic is stored and delivered no second time, and its answer has `"dup": true`.
        Without one, an id is made up. `data_base64` in place of `data` makes the payload bytes.

        A list is answered by a list in the same order, with status 207 if any message in it was refused. At most
        `max_inflight` messages, and `max_frame` bytes.
        """
        check_json(request)
        name = check_agent(caller.name(agent or x_hubbub_agent or None) or DEFAULT_AGENT)
        found = _decode(await read_body(request, settings.max_frame, settings.hello_timeout))
        several = isinstance(found, list)
        pubs = found if several else [found]
        if len(pubs) > settings.max_inflight:
            message = f"{len(pubs)} messages in a list; the limit here (max_inflight) is {settings.max_inflight}"
            raise Refused.because(ErrorCode.TOO_LARGE, message)
        answers = await _publish(broker, caller, name, [to_request(pub) for pub in pubs])
        return _all(answers) if several else _one(answers[0])

    return router


async def _publish(
    broker: BrokerApi, caller: Caller, name: str, requests: Sequence[PublishRequest]
) -> Sequence[Ok | Err]:
    """Publish what the caller may; what it may not is refused in its place."""
    refused = {}
    for place, request in enumerate(requests):
        pub = request.pub
        why = caller.why_not(Operation.PUBLISH, pub.topic) if is_topic(pub.topic) else None  # else no topic at all
        if why is not None:
            broker.metrics.count_refusal(ErrorCode.FORBIDDEN)
            refused[place] = Err(code=ErrorCode.FORBIDDEN, message=why, rid=pub.rid, id=pub.id, topic=pub.topic)
    if not refused:
        return await broker.publish(name, requests)
    taken = iter(await broker.publish(name, [one for place, one in enumerate(requests) if place not in refused]))
    return [refused.get(place) or next(taken) for place in range(len(requests))]


def to_request(pub: HttpPub) -> PublishRequest:
    """The wire's form of a message that came over HTTP.

    Raises:
        BadFrame: if the payload is given twice, or is not base64.
    """
    fields: dict[str, Any] = asdict(pub)
    text = fields.pop("data_base64")
    fields["id"] = pub.id or str(uuid.uuid4())
    if text is None:
        return PublishRequest(Pub(**fields))
    if pub.data != NO_DATA:
        raise BadFrame("a message has `data` or `data_base64`, not both")
    try:
        return PublishRequest(Pub(**fields), base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise BadFrame(f"data_base64 is not base64: {error}") from None


def _one(answer: Ok | Err) -> Response:
    if isinstance(answer, Err):
        return response_to(answer)
    return Response(encode(answer), 200, media_type=JSON_TYPE)


def _all(answers: Sequence[Ok | Err]) -> Response:
    refused = [answer for answer in answers if isinstance(answer, Err)]
    waits = [answer.retry_after for answer in refused if answer.retry_after is not None]
    headers = {"Retry-After": retry_after(max(waits))} if waits else {}
    content = b"[" + b",".join(map(encode, answers)) + b"]"
    return Response(content, 207 if refused else 200, headers, JSON_TYPE)
