"""The routes of policies and schemas. They are for operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Query, Response

from hubbub import StateConflictError
from hubbub_control.caller import ADMIN, FromCaller, require
from hubbub_control.conditions import FromConditions, other_version
from hubbub_control.refusal import ControlRoute, Refusal
from hubbub_protocol.entity_tags import NOT_MODIFIED, PRECONDITION, READ_ON_CONDITION, Conditions, tag_of
from hubbub_protocol.errors import ErrorCode

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

ONE_POLICY, ONE_SCHEMA = "/v1/control/policies/{name}", "/v1/control/schemas/{group}/{type}"

By = Annotated[str | None, Query(max_length=128, description="Who does it, where the token names nobody.")]
Note = Annotated[str | None, Query(max_length=NOTE_CHARS_MAX, description="Why.")]
Limit = Annotated[int, Query(ge=1, le=HISTORY_MAX, description="Changes at most.")]
APolicy = Annotated[dict[str, Any], Body(examples=[EXAMPLE_POLICY])]
ASchema = Annotated[dict[str, Any], Body(examples=[EXAMPLE_SCHEMA])]

CHANGED: dict[int | str, dict[str, Any]] = {
    400: {"description": "It is none that can be used; the message names the field and what is allowed."},
    **PRECONDITION,
}


def routes(rules: Rules) -> APIRouter:
    """The routes, on `rules`."""
    router = APIRouter(tags=["policies and schemas"], route_class=ControlRoute)

    @router.get("/v1/control/policies", summary="Policies, as they were written")
    async def policies(caller: FromCaller) -> PolicyDocuments:
        """Every policy that was set at run time, by name. What is in force of them, `/v1/policies` says."""
        require(caller, ADMIN)
        return PolicyDocuments(policies=[_policy(each) for each in await rules.all(POLICY)])

    @router.get(ONE_POLICY, summary="A policy", responses=READ_ON_CONDITION, response_model=PolicyDocument)
    async def policy(caller: FromCaller, conditions: FromConditions, response: Response, name: str) -> Any:
        """One policy, as it was written."""
        require(caller, ADMIN)
        return _read(conditions, response, await rules.get(POLICY.place(name)), _policy)

    @router.put(ONE_POLICY, summary="Set a policy", responses=CHANGED, response_model=PolicyDocument)
    async def set_policy(
        caller: FromCaller,
        conditions: FromConditions,
        response: Response,
        name: str,
        policy: APolicy,
        by: By = None,
        note: Note = None,
    ) -> Any:
        """Set a policy, a new one or in place of one. It holds for the next message after the answer.

        Over the rules that the broker was started with it says what it says, and they say the rest. Of several that
        match a topic the one of highest `priority` wins, then the first by name.
        """
        require(caller, ADMIN)
        place, who = POLICY.place(name), caller.name(by)
        done = rules.put(place, policy, who, note, await _expected(rules, place, conditions))
        return await _made(response, done, _policy)

    @router.delete(ONE_POLICY, summary="Drop a policy", responses=CHANGED, response_model=PolicyDocument)
    async def drop_policy(
        caller: FromCaller,
        conditions: FromConditions,
        response: Response,
        name: str,
        by: By = None,
        note: Note = None,
    ) -> Any:
        """Take a policy out, from the next message on. The answer is what it was."""
        require(caller, ADMIN)
        place, who = POLICY.place(name), caller.name(by)
        return await _made(response, rules.drop(place, who, note, await _expected(rules, place, conditions)), _policy)

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

    @router.get(ONE_SCHEMA, summary="A schema", responses=READ_ON_CONDITION, response_model=SchemaDocument)
    async def schema(caller: FromCaller, conditions: FromConditions, response: Response, group: str, type: str) -> Any:
        """The schema of a group's messages of one type."""
        require(caller, ADMIN)
        return _read(conditions, response, await rules.get(SCHEMA.place(group, type)), _schema)

    @router.put(ONE_SCHEMA, summary="Set a schema", responses=CHANGED, response_model=SchemaDocument)
    async def set_schema(
        caller: FromCaller,
        conditions: FromConditions,
        response: Response,
        group: str,
        type: str,
        schema: ASchema,
        by: By = None,
        note: Note = None,
    ) -> Any:
        """Hold messages of that type in that group to a JSON Schema, from the next one on.

        What does not fit is refused, or only counted, as the setting `schemas` of the topic's policy says.
        """
        require(caller, ADMIN)
        place, who = SCHEMA.place(group, type), caller.name(by)
        done = rules.put(place, schema, who, note, await _expected(rules, place, conditions))
        return await _made(response, done, _schema)

    @router.delete(ONE_SCHEMA, summary="Drop a schema", responses=CHANGED, response_model=SchemaDocument)
    async def drop_schema(
        caller: FromCaller,
        conditions: FromConditions,
        response: Response,
        group: str,
        type: str,
        by: By = None,
        note: Note = None,
    ) -> Any:
        """Hold messages of that type to nothing any more. The answer is what it was."""
        require(caller, ADMIN)
        place, who = SCHEMA.place(group, type), caller.name(by)
        return await _made(response, rules.drop(place, who, note, await _expected(rules, place, conditions)), _schema)

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
    response.headers["ETag"] = tag_of(document.version)
    return document


def _read(
    conditions: Conditions, response: Response, document: Document, shown: Callable[[Document], Written]
) -> Written | Response:
    tag = tag_of(document.version)
    instead = conditions.instead(tag)
    if instead is None:
        return shown(_tagged(response, document))
    if instead == NOT_MODIFIED:
        return Response(status_code=instead, headers={"ETag": tag})
    return other_version(document.version)


async def _expected(rules: Rules, place: Place, conditions: Conditions) -> int | None:
    """The version that is expected.

    Raises:
        Refusal: `not_found`, where any would do and there is none.
        BadFrame: that can't be said of a change.
    """
    current = None
    if conditions.asks_for_current:
        try:
            current = (await rules.get(place)).version
        except Refusal as refusal:
            if refusal.code != ErrorCode.NOT_FOUND or conditions.anything:
                raise
            current = 0
    return conditions.expected(current)


async def _made(
    response: Response, change: Awaitable[Document], shown: Callable[[Document], Written]
) -> Written | Response:
    try:
        return shown(_tagged(response, await change))
    except StateConflictError as conflict:
        return other_version(conflict.current, conflict.expected)


async def _history(rules: Rules, place: Place, limit: int) -> History:
    """What its topic tells."""
    changes = [message.data for message in await rules.history(place, limit)]
    return History(changes=[Step.model_validate(each) for each in changes])
