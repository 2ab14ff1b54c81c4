"""Dead letters over HTTP: look, redrive, drop."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from hubbub_broker.access import Operation
from hubbub_protocol.codec import encode_value
from hubbub_protocol.limits import LAMPORT_MAX
from hubbub_protocol.names import check_group, dead_letters_of

from .body import body_of, read_model
from .caller import FromCaller
from .history import render_line
from .models import BAD, MISSING, UNAVAILABLE
from .operator_api import LetterChoice, LetterInfo, LetterOutcome, OperatorApi
from .operator_models import (
    LetterItem,
    LetterRefusal,
    Letters,
    LettersHandled,
    RedriveBody,
    WhichBody,
    WholeLetter,
)

PAGE_DEFAULT = 100
PAGE_MAX = 1000
"""Letters in one answer."""

Group = Annotated[str, Path(description="The group.", examples=["research"])]


def routes(operators: OperatorApi) -> APIRouter:
    """The routes, on a broker."""
    router = APIRouter(tags=["dead letters"])
    settings = operators.settings

    @router.get("/v1/dead/{group}", summary="Open dead letters", responses={**BAD, **UNAVAILABLE})
    async def letters(
        caller: FromCaller,
        group: Group,
        consumer: Annotated[str | None, Query(description="What this consumer could not deal with.")] = None,
        topic: Annotated[str | None, Query(description="Messages of this topic.")] = None,
        after: Annotated[int, Query(ge=0, le=LAMPORT_MAX, description="Letters with a larger seq than this.")] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="Letters at most.")] = PAGE_DEFAULT,
    ) -> Letters:
        """The messages of a group that no consumer could deal with, and about which nothing was done yet.

        Go on with `after` = `next` until `next` is null: a page may be short, or empty, although there is more.
        """
        caller.require(Operation.READ_DEAD, dead_letters_of(check_group(group)))
        page = await operators.letters(group, LetterChoice(consumer=consumer, topic=topic), after, limit)
        return Letters(letters=[LetterItem(**_fields(letter)) for letter in page.letters], next=page.next)

    @router.get(
        "/v1/dead/{group}/{seq}",
        summary="One dead letter",
        response_class=Response,
        responses={200: {"model": WholeLetter}, **BAD, **MISSING, **UNAVAILABLE},
    )
    async def letter(
        caller: FromCaller,
        group: Group,
        seq: Annotated[int, Path(ge=1, le=LAMPORT_MAX, description="The letter's seq.", examples=[4])],
    ) -> Response:
        """A letter with what it is about, byte by byte as it was published."""
        caller.require(Operation.READ_DEAD, dead_letters_of(check_group(group)))
        found = await operators.letter(group, seq)
        content = b'%s,"letter":%s}' % (encode_value(_fields(found))[:-1], render_line(found.line))
        return Response(content, media_type="application/json")

    @router.post(
        "/v1/dead/{group}/redrive",
        summary="Redrive",
        responses={**BAD, **UNAVAILABLE},
        openapi_extra={"requestBody": body_of(RedriveBody)},
    )
    async def redrive(caller: FromCaller, request: Request, group: Group) -> LettersHandled:
        """Give messages back to the consumer that could not deal with them, and to no other. Attempts begin again.

        Twice is as good as once. After a crash in between a letter may be open still; no message is lost.
        """
        caller.require(Operation.MEND_DEAD, dead_letters_of(check_group(group)))
        body = await read_model(request, RedriveBody, settings.max_frame, settings.hello_timeout)
        return _handled(await operators.redrive(group, _choice(body), body.after, republish=body.republish))

    @router.post(
        "/v1/dead/{group}/drop",
        summary="Drop",
        responses={**BAD, **UNAVAILABLE},
        openapi_extra={"requestBody": body_of(WhichBody)},
    )
    async def drop(caller: FromCaller, request: Request, group: Group) -> LettersHandled:
        """Take letters as handled, without another word. They stay readable in `GROUP/_dead`."""
        caller.require(Operation.MEND_DEAD, dead_letters_of(check_group(group)))
        body = await read_model(request, WhichBody, settings.max_frame, settings.hello_timeout)
        return _handled(await operators.drop(group, _choice(body), body.after))

    return router


def _choice(body: WhichBody) -> LetterChoice:
    return LetterChoice(body.seqs, body.consumer, body.topic)


def _fields(info: LetterInfo) -> dict[str, Any]:
    fields = {name: value for name, value in asdict(info).items() if name not in ("line", "sender")}
    return {**fields, "from": info.sender}


def _handled(outcome: LetterOutcome) -> LettersHandled:
    return LettersHandled(
        done=outcome.done,
        already=outcome.already,
        refused=outcome.refused,
        refusals=[LetterRefusal(seq=seq, code=err.code, message=err.message) for seq, err in outcome.refusals],
        next=outcome.next,
    )
