"""`/v1/state/...`: shared states for those who hold no socket, with `ETag`, `If-Match` and `If-None-Match`."""

import uuid
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Path, Query, Request, Response
from msgspec.structs import asdict, replace

from hubbub_broker.access import Operation
from hubbub_protocol.codec import decoder_of, encode, encode_value
from hubbub_protocol.entity_tags import PRECONDITION, READ_ON_CONDITION, Conditions, tag_of
from hubbub_protocol.errors import BadFrame, ErrorCode
from hubbub_protocol.frames import Change, Entry, Err, Ok, State
from hubbub_protocol.limits import STATE_KEYS_MAX
from hubbub_protocol.names import check_agent, check_key, state_of

from .api import Refused
from .body import JSON_TYPE, check_json, read_body
from .caller import Caller, FromCaller
from .conditions import FromConditions, unread
from .models import BAD, MISSING, TOPIC, UNAVAILABLE
from .publish import DEFAULT_AGENT
from .refusal import response_to
from .state_api import StateApi
from .state_models import Changed, StateChange, StateEntryItem, StatePage

Name = Annotated[
    str, Path(description="The conversation, its slashes as they are; or the group.", examples=[TOPIC, "research"])
]
Key = Annotated[str, Query(description="The key.", examples=["plan"])]
IdempotencyKey = Annotated[
    str | None, Header(description="A second change with the same one is answered as the first, and not made again.")
]
Who = Annotated[str | None, Query(description="Who changes it, where the token does not say.")]


class HttpChange(Change, frozen=True, kw_only=True, tag="change"):
    """A `change` whose topic stands in the address, and whose id may be left out."""

    topic: str = ""
    id: str = ""


_decode_change = decoder_of(HttpChange)
_decode_value = decoder_of(msgspec.Raw)

_VALUE = {"requestBody": {"required": True, "content": {JSON_TYPE: {"schema": {}, "example": {"steps": 3}}}}}
_CHANGE = {"requestBody": {"required": True, "content": {JSON_TYPE: {"schema": StateChange.model_json_schema()}}}}


class _Asker:
    """What the routes have in common."""

    def __init__(self, states: StateApi) -> None:
        self._states = states

    async def entry(self, topic: str, key: str) -> Entry | None:
        """What a key holds."""
        ok = await self._states.read(State(topic=topic, keys=[check_key(key)]))
        if isinstance(ok, Err):
            raise Refused(ok)
        return ok.entries[0] if ok.entries else None

    async def change(self, caller: Caller, agent: str | None, change: Change) -> Ok | Err:
        """Make a change in somebody's name."""
        name = check_agent(caller.name(agent) or DEFAULT_AGENT)
        return await self._states.change(name, change, caller.require)

    async def expected(self, caller: Caller, topic: str, key: str, conditions: Conditions) -> dict[str, int] | None:
        """The version that a request says the key has."""
        current = None
        if conditions.asks_for_current:
            caller.require(Operation.READ_STATE, state_of(topic))
            entry = await self.entry(topic, key)
            if entry is None and conditions.anything:
                what = f"there is no key {key} in the state of {topic} (If-Match: *)"
                raise Refused.because(ErrorCode.NOT_FOUND, what)
            current = 0 if entry is None else entry.version
        version = conditions.expected(current)
        return None if version is None else {key: version}

    async def expected_of_all(self, caller: Caller, change: Change, conditions: Conditions) -> int | None:
        """The version that a request says the whole state has, in its headers or in its body."""
        current = None
        if conditions.asks_for_current:
            caller.require(Operation.READ_STATE, state_of(change.topic))
            ok = await self._states.read(State(topic=change.topic, limit=1))
            if isinstance(ok, Err):
                raise Refused(ok)
            current = ok.head or 0
        version = conditions.expected(current)
        if version is not None and change.expect is not None:
            raise BadFrame("`expect` and If-Match (or If-None-Match) both say what is expected: send one of them")
        return version


def routes(states: StateApi) -> APIRouter:
    """The routes, on a broker's states."""
    router = APIRouter(tags=["state"])
    settings = states.settings
    asker = _Asker(states)

    @router.get(
        "/v1/state/{topic:path}",
        summary="A state, or one key of it",
        response_model=StatePage | StateEntryItem,
        responses={**READ_ON_CONDITION, **BAD, **MISSING, **UNAVAILABLE},
    )
    async def read(
        caller: FromCaller,
        conditions: FromConditions,
        topic: Name,
        key: Annotated[str | None, Query(description="One key; else those that match.")] = None,
        match: Annotated[str | None, Query(description="A pattern of keys, such as `tasks/*`.")] = None,
        after: Annotated[str | None, Query(description="Go on behind this key: a page's `more`.")] = None,
        limit: Annotated[int, Query(ge=1, le=STATE_KEYS_MAX, description="Keys at most.")] = STATE_KEYS_MAX,
    ) -> Response:
        """With `key`: its value and version (also as `ETag`), 404 if it is not there. Without: a page of the keys; the
        `ETag` is the version of the whole state.

        All that was answered to anyone before is in it.
        """
        caller.require(Operation.READ_STATE, state_of(topic))
        if key is not None:
            entry = await asker.entry(topic, key)
            if entry is None:
                raise Refused.because(ErrorCode.NOT_FOUND, f"there is no key {key} in the state of {topic}")
            return _read(conditions, entry, entry.version)
        ok = await states.read(State(topic=topic, match=match, after=after, limit=limit))
        if isinstance(ok, Err):
            raise Refused(ok)
        page = {"topic": ok.topic, "version": ok.head, "epoch": ok.epoch, "entries": ok.entries, "more": ok.more}
        return _read(conditions, page, ok.head or 0)

    @router.put(
        "/v1/state/{topic:path}",
        summary="Set a key",
        response_model=Changed,
        responses={**BAD, **PRECONDITION, **UNAVAILABLE},
        openapi_extra=_VALUE,
    )
    async def put(
        caller: FromCaller,
        conditions: FromConditions,
        request: Request,
        topic: Name,
        key: Key,
        ttl: Annotated[float | None, Query(description="Seconds after which it goes by itself.")] = None,
        agent: Who = None,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """The body is the value: any JSON. The answer comes when it is on stable storage, with its version."""
        check_json(request)
        value = _decode_value(await read_body(request, settings.max_frame, settings.hello_timeout))
        change = Change(
            topic=topic,
            id=idempotency_key or str(uuid.uuid4()),
            set={check_key(key): value},
            expect=await asker.expected(caller, topic, key, conditions),
            ttl={} if ttl is None else {key: ttl},
        )
        return _conditional(await asker.change(caller, agent, change))

    @router.delete(
        "/v1/state/{topic:path}",
        summary="Delete a key",
        response_model=Changed,
        responses={**BAD, **PRECONDITION, **UNAVAILABLE},
    )
    async def delete(
        caller: FromCaller,
        conditions: FromConditions,
        topic: Name,
        key: Key,
        agent: Who = None,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """One that is not there is deleted, too; with `If-Match` it has to be there."""
        change = Change(
            topic=topic,
            id=idempotency_key or str(uuid.uuid4()),
            delete=[check_key(key)],
            expect=await asker.expected(caller, topic, key, conditions),
        )
        return _conditional(await asker.change(caller, agent, change))

    @router.post(
        "/v1/state/{topic:path}",
        summary="Change several keys, and publish, in one step",
        response_model=Changed,
        responses={
            409: {"description": "A version is not the one in `expect`; nothing was changed."},
            **PRECONDITION,
            **BAD,
            **UNAVAILABLE,
        },
        openapi_extra=_CHANGE,
    )
    async def post(
        caller: FromCaller, conditions: FromConditions, request: Request, topic: Name, agent: Who = None
    ) -> Response:
        """All of it is made, or nothing: keys set and deleted, and messages to topics of the same group.

        `If-Match` is the version of the whole state, as a page's `ETag` says it; of keys, `expect` says it.
        """
        check_json(request)
        given = _decode_change(await read_body(request, settings.max_frame, settings.hello_timeout))
        fields = asdict(given) | {"topic": topic, "id": given.id or str(uuid.uuid4())}
        change = Change(**fields)
        version = await asker.expected_of_all(caller, change, conditions)
        if version is not None:
            return _conditional(await asker.change(caller, agent, replace(change, expect=version)))
        answer = await asker.change(caller, agent, change)
        return response_to(answer) if isinstance(answer, Err) else _json(encode(answer), answer.seq or 0)

    return router


def _read(conditions: Conditions, found: Any, version: int) -> Response:
    instead = conditions.instead(tag_of(version))
    if instead is not None:
        return unread(instead, tag_of(version))
    return _json(encode_value(found), version)


def _etag(version: int) -> dict[str, str]:
    return {"ETag": tag_of(version)}


def _json(body: bytes, version: int) -> Response:
    return Response(body, 200, _etag(version), JSON_TYPE)


def _conditional(answer: Ok | Err) -> Response:
    if isinstance(answer, Ok):
        return _json(encode(answer), answer.seq or 0)
    if answer.code == ErrorCode.CONFLICT:
        return response_to(answer, 412, _etag(answer.current or 0))
    return response_to(answer)
