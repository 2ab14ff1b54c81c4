"""The routes of policies and schemas. They are for operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Response

from hubbub import StateConflictError
from hubbub_control.caller import ADMIN, FromCaller, require
from hubbub_control.refusal import ControlRoute, Refusal
from hubbub_protocol.codec import encode
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err

from .kept import POLICY, SCHEMA, Document, Place
from .models import (
    EXAMPLE_POLICY,
    EXAMPLE_SCHEMA,
    History,
    PolicyDocument,
    PolicyDocuments,
    SchemaDocument,
    SchemaDocuments,
    Step,
    Written,
)

if TYPE_CHECKING:
    from .rules import Rules

NOTE_CHARS_MAX = 1000
HISTORY_MAX = 500
"""Changes in one answer."""

PRECONDITION_FAILED = 412

ONE_POLICY, ONE_SCHEMA = "/v1/control/policies/{name}", "/v1/control/schemas/{group}/{type}"

IfMatch = Annotated[str | None, Header(description='Only if it has this version, such as `"7"`; `"0"` is none.')]
By = Annotated[str | None, Query(max_length=128, description="Who does it, where the token names nobody.")]
Note = Annotated[str | None, Query(max_length=NOTE_CHARS_MAX, description="Why.")]
Limit = Annotated[int, Query(ge=1, le=HISTORY_MAX, description="Changes at most.")]
APolicy = Annotated[dict[str, Any], Body(examples=[EXAMPLE_POLICY])]
ASchema = Annotated[dict[str, Any], Body(examples=[EXAMPLE_SCHEMA])]

CHANGED: dict[int | str, dict[str, Any]] = {
    400: {"description": "It is none that can be used; the message names the field and what is allowed."},
    PRECONDITION_FAILED: {"description": "It has another version than `If-Match` says; `ETag` is that."},
}


def routes(rules: Rules) -> APIRouter:
    """The routes, on `rules`."""
    router = APIRouter(tags=["policies and schemas"], route_class=ControlRoute)

    @router.get("/v1/control/policies", summary="Policies, as they were written")
    async def policies(caller: FromCaller) -> PolicyDocuments:
        """Every policy that was set at run time, by name. What is in force of them, `/v1/policies` says."""
        require(caller, ADMIN)
        return PolicyDocuments(policies=[_policy(each) for each in await rules.all(POLICY)])

    @router.get(ONE_POLICY, summary="A policy")
    async def policy(caller: FromCaller, response: Response, name: str) -> PolicyDocument:
        """One policy, as it was written."""
        require(caller, ADMIN)
        return _policy(_tagged(response, await rules.get(POLICY.place(name))))

    @router.put(ONE_POLICY, summary="Set a policy", responses=CHANGED, response_model=PolicyDocument)
    async def set_policy(
        caller: FromCaller,
        response: Response,
        name: str,
        policy: APolicy,
        if_match: IfMatch = None,
        by: By = None,
        note: Note = None,
    ) -> Any:
        """Set a policy, a new one or in place of one. It holds for the next message after the answer.

        Over the rules that the broker was started with it says what it says, and they say the rest. Of several that
        match a topic the one of highest `priority` wins, then the first by name.
        """
        require(caller, ADMIN)
        place, who = POLICY.place(name), caller.name(by)
        done = rules.put(place, policy, who, note, _expected(if_match))
        return await _made(response, done, _policy)

    @router.delete(ONE_POLICY, summary="Drop a policy", responses=CHANGED, response_model=PolicyDocument)
    async def drop_policy(
        caller: FromCaller,
        response: Response,
        name: str,
        if_match: IfMatch = None,
        by: By = None,
        note: Note = None,
    ) -> Any:
        """Take a policy out, from the next message on. The answer is what it was."""
        require(caller, ADMIN)
        place, who = POLICY.place(name), caller.name(by)
        return await _made(response, rules.drop(place, who, note, _expected(if_match)), _policy)

    @router.get(ONE_POLICY + "/history", summary="The changes of a policy")
    async def policy_history(caller: FromCaller, name: str, limit: Limit = 100) -> History:
        """Who set or dropped it, when, and to what; newest first, as far back as the log keeps it."""
        require(caller, ADMIN)
        return await _history(rules, POLICY.place(name), limit)

    @router.get("/v1/control/schemas", summary="Schemas, as they were written")
    async def schemas(caller: FromCaller) -> SchemaDocuments:
        """Every JSON Schema of a message type, by group and type."""
        require(caller, ADMIN)
        return SchemaDocuments(schemas=[_schema(each) for each in await rules.all(SCHEMA)])

    @router.get(ONE_SCHEMA, summary="A schema")
    async def schema(caller: FromCaller, response: Response, group: str, type: str) -> SchemaDocument:
        """The schema of a group's messages of one type."""
        require(caller, ADMIN)
        return _schema(_tagged(response, await rules.get(SCHEMA.place(group, type))))

    @router.put(ONE_SCHEMA, summary="Set a schema", responses=CHANGED, response_model=SchemaDocument)
    async def set_schema(
        caller: FromCaller,
        response: Response,
        group: str,
        type: str,
        schema: ASchema,
        if_match: IfMatch = None,
        by: By = None,
        note: Note = None,
    ) -> Any:
        """Hold messages of that type in that group to a JSON Schema, from the next one on.

        What does not fit is refused, or only counted, as the setting `schemas` of the topic's policy says.
        """
        require(caller, ADMIN)
        place, who = SCHEMA.place(group, type), caller.name(by)
        done = rules.put(place, schema, who, note, _expected(if_match))
        return await _made(response, done, _schema)

    @router.delete(ONE_SCHEMA, summary="Drop a schema", responses=CHANGED, response_model=SchemaDocument)
    async def drop_schema(
        caller: FromCaller,
        response: Response,
        group: str,
        type: str,
        if_match: IfMatch = None,
        by: By = None,
        note: Note = None,
    ) -> Any:
        """Hold messages of that type to nothing any more. The answer is what it was."""
        require(caller, ADMIN)
        place, who = SCHEMA.place(group, type), caller.name(by)
        return await _made(response, rules.drop(place, who, note, _expected(if_match)), _schema)

    @router.get(ONE_SCHEMA + "/history", summary="The changes of a schema")
    async def schema_history(caller: FromCaller, group: str, type: str, limit: Limit = 100) -> History:
        """Who set or dropped it, when, and to what; newest first, as far back as the log keeps it."""
        require(caller, ADMIN)
        return await _history(rules, SCHEMA.place(group, type), limit)

    return router


def _policy(document: Document) -> PolicyDocument:
    (name,) = document.place.names
    return PolicyDocument(
        name=name,
        policy=document.content,
        version=document.version,
        by=document.by,
        at=document.at,
        note=document.note,
    )


def _schema(document: Document) -> SchemaDocument:
    group, type = document.place.names
    return SchemaDocument(
        group=group,
        type=type,
        schema=document.content,
        version=document.version,
        by=document.by,
        at=document.at,
        note=document.note,
    )


def _tagged(response: Response, document: Document) -> Document:
    response.headers["ETag"] = f'"{document.version}"'
    return document


def _expected(if_match: str | None) -> int | None:
    """The version that is expected.

    Raises:
        Refusal: it is none.
    """
    if if_match is None:
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not text.isdecimal() or len(text) > 15:
        raise Refusal(ErrorCode.BAD_REQUEST, f'If-Match is {if_match[:80]!r}; one version such as "7" is wanted')
    return int(text)


async def _made(
    response: Response, change: Awaitable[Document], shown: Callable[[Document], Written]
) -> Written | Response:
    try:
        return shown(_tagged(response, await change))
    except StateConflictError as conflict:
        err = Err(
            code=ErrorCode.CONFLICT,
            message=f"it has version {conflict.current}, not {conflict.expected}: read it again",
            expected=conflict.expected,
            current=conflict.current,
        )
        tag = {"ETag": f'"{conflict.current}"'}
        return Response(encode(err), PRECONDITION_FAILED, tag, "application/json")


async def _history(rules: Rules, place: Place, limit: int) -> History:
    """What its topic tells."""
    changes = [message.data for message in await rules.history(place, limit)]
    return History(changes=[Step.model_validate(each) for each in changes])
