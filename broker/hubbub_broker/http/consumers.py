"""Consumers over HTTP: where they stand; reset, pause, resume, remove."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from hubbub_broker.access import Operation, of_consumer
from hubbub_protocol.names import check_consumer, check_pattern, is_pattern, matcher

from .body import body_of, read_model
from .caller import Caller, FromCaller
from .models import BAD, MISSING, UNAVAILABLE
from .operator_api import ConsumerInfo, OperatorApi
from .operator_models import CONSUMER, ConsumerItem, Consumers, MemberItem, Removed, ResetBody

PAGE_DEFAULT = 100
PAGE_MAX = 1000
"""Consumers in one answer: each is counted for it."""

Topic = Annotated[
    str, Path(description="The consumer's topic or pattern, its slashes as they are.", examples=["research/tasks"])
]
Name = Annotated[str, Query(description="The consumer's name.", examples=[CONSUMER])]


def routes(operators: OperatorApi) -> APIRouter:
    """The routes, on a broker."""
    router = APIRouter(tags=["consumers"])
    settings = operators.settings

    @router.get("/v1/consumers", summary="Consumers", responses={**BAD, **UNAVAILABLE})
    async def consumers(
        caller: FromCaller,
        topic: Annotated[str | None, Query(description="Those of topics that match this; or of this pattern.")] = None,
        name: Annotated[str | None, Query(description="Those of this name.")] = None,
        offset: Annotated[int, Query(ge=0, description="How many to pass over.")] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="Consumers at most.")] = PAGE_DEFAULT,
    ) -> Consumers:
        """The consumers of topics that the caller may read, sorted by topic and name, with what each is behind."""
        wanted = None if topic is None else matcher(check_pattern(topic))
        if name is not None:
            check_consumer(name)
        found = [
            (each, called)
            for each, called in operators.consumer_names()
            if name in (None, called)
            and (wanted is None or each == topic or (not is_pattern(each) and wanted(each)))
            and (caller.sees_all or caller.may(Operation.SETTLE, each))
        ]
        page = [await operators.consumer(each, called) for each, called in found[offset : offset + limit]]
        return Consumers(consumers=[_item(info) for info in page], total=len(found))

    @router.get("/v1/consumers/{topic:path}", summary="One consumer", responses={**BAD, **MISSING, **UNAVAILABLE})
    async def consumer(caller: FromCaller, topic: Topic, name: Name) -> ConsumerItem:
        """Its terms and members, and how far behind it is."""
        caller.require(Operation.SETTLE, check_pattern(topic))
        return _item(await operators.consumer(topic, name))

    @router.post(
        "/v1/consumers/{topic:path}/reset",
        summary="Begin again elsewhere",
        responses={**BAD, **MISSING, **UNAVAILABLE},
        openapi_extra={"requestBody": body_of(ResetBody)},
    )
    async def reset(caller: FromCaller, request: Request, topic: Topic, name: Name) -> ConsumerItem:
        """Let a consumer go back, or ahead; a pattern's in all of its topics at once.

        Its members stay. What they have out is theirs no longer: their acks get `conflict`. A crash leaves it where it
        was, or where it is now.
        """
        _require_manage(caller, check_pattern(topic), name)
        body = await read_model(request, ResetBody, settings.max_frame, settings.hello_timeout)
        return _item(await operators.reset_consumer(topic, name, body.start))

    @router.post("/v1/consumers/{topic:path}/pause", summary="Pause", responses={**BAD, **MISSING, **UNAVAILABLE})
    async def pause(caller: FromCaller, topic: Topic, name: Name) -> ConsumerItem:
        """Give out nothing more until it is resumed, also over a restart. What is out can be settled."""
        _require_manage(caller, check_pattern(topic), name)
        return _item(await operators.pause_consumer(topic, name, paused=True))

    @router.post("/v1/consumers/{topic:path}/resume", summary="Resume", responses={**BAD, **MISSING, **UNAVAILABLE})
    async def resume(caller: FromCaller, topic: Topic, name: Name) -> ConsumerItem:
        """Go on."""
        _require_manage(caller, check_pattern(topic), name)
        return _item(await operators.pause_consumer(topic, name, paused=False))

    @router.delete("/v1/consumers/{topic:path}", summary="Remove", responses={**BAD, **MISSING, **UNAVAILABLE})
    async def remove(caller: FromCaller, topic: Topic, name: Name) -> Removed:
        """Take a consumer away, with its position in every topic. Its members are told `not_found`.

        The messages stay; the next `sub` under that name begins anew.
        """
        _require_manage(caller, check_pattern(topic), name)
        return Removed(topic=topic, name=name, positions=await operators.remove_consumer(topic, name))

    return router


def _require_manage(caller: Caller, topic: str, name: str) -> None:
    for operation, target in of_consumer(Operation.MANAGE, topic, name):
        caller.require(operation, target)


def _item(info: ConsumerInfo) -> ConsumerItem:
    fields = asdict(info)
    fields["members"] = [MemberItem(**member) for member in fields["members"]]
    return ConsumerItem(**fields)
