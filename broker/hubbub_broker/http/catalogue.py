"""What there is: topics, connected sessions, shards, and where a group lives."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request

from hubbub_broker.access import Operation
from hubbub_broker.policy import ANY_TOPIC
from hubbub_protocol import PATH
from hubbub_protocol.limits import TOPIC_BYTES_MAX
from hubbub_protocol.names import check_agent, check_group, check_pattern, inbox_of, literal_prefix, matcher

from .api import BrokerApi, SessionInfo, TopicEntry
from .caller import Caller, FromCaller
from .models import (
    BAD,
    UNAVAILABLE,
    Disconnected,
    RouteItem,
    SessionItem,
    Sessions,
    ShardItem,
    Shards,
    TopicItem,
    Topics,
)

PAGE_DEFAULT = 100
PAGE_MAX = 1000
"""Topics in one answer."""
SCAN_MAX = 10_000
"""Topics that one request looks at: a pattern that matches almost none is answered in several short pages."""
SESSIONS_DEFAULT = 1000
SESSIONS_MAX = 10_000
"""Sessions in one answer."""


def routes(broker: BrokerApi) -> APIRouter:
    """The routes, on `broker`."""
    router = APIRouter(tags=["what there is"])

    @router.get("/v1/topics", summary="Topics", responses=BAD)
    async def topics(
        caller: FromCaller,
        prefix: Annotated[str, Query(max_length=TOPIC_BYTES_MAX, description="Topics that begin with this.")] = "",
        pattern: Annotated[str, Query(description="Topics that match this; `research/*`, say.")] = ANY_TOPIC,
        after: Annotated[str, Query(max_length=TOPIC_BYTES_MAX, description="Topics whose name comes later.")] = "",
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="Topics at most.")] = PAGE_DEFAULT,
    ) -> Topics:
        """The durable topics that the caller may read or publish to, sorted by name.

        Go on with `after` = `next` until `next` is null. A page may be short, or even empty, although there is more:
        only `next` tells.
        """
        visible = None if caller.sees_all else partial(caller.may, Operation.SEE_TOPIC)
        found, following = await find(broker, prefix, check_pattern(pattern), after, limit, visible=visible)
        return Topics(topics=[_topic(entry) for entry in found], next=following)

    @router.get("/v1/sessions", summary="Connected sessions", responses=BAD)
    async def sessions(
        caller: FromCaller,
        offset: Annotated[int, Query(ge=0, description="How many to pass over.")] = 0,
        limit: Annotated[int, Query(ge=1, le=SESSIONS_MAX, description="Sessions at most.")] = SESSIONS_DEFAULT,
    ) -> Sessions:
        """The sessions that are connected to this broker by WebSocket, sorted by agent.

        Those are shown that the caller may send to, or read the inbox of. The addresses are for operators.
        """
        found = [info for info in broker.sessions() if _visible(caller, info)]
        operator = caller.may(Operation.ADMIN)
        page = [
            SessionItem(
                agent=info.agent,
                session=info.session,
                since=info.since,
                address=info.address if operator else "",
                subscriptions=info.subscriptions,
            )
            for info in found[offset : offset + limit]
        ]
        return Sessions(sessions=page, total=len(found))

    @router.delete("/v1/sessions", summary="Disconnect an agent", responses={**BAD, **UNAVAILABLE})
    async def disconnect(
        caller: FromCaller,
        agent: Annotated[str, Query(description="Whose connections are to end.", examples=["joe"])],
    ) -> Disconnected:
        """End all WebSocket connections of an agent, with the close code 4503: a client does not come back by itself.

        Nothing keeps the agent out that is started again: its token goes on to be good until it ends, or its key does.
        """
        caller.require(Operation.ADMIN)
        return Disconnected(agent=agent, connections=await broker.disconnect(check_agent(agent)))

    @router.get("/v1/shards", summary="Shards")
    async def shards(caller: FromCaller) -> Shards:
        """The shards of this broker and how they are. For whoever may read the metrics."""
        caller.require(Operation.METRICS)
        return Shards(
            shards=[
                ShardItem(
                    shard=info.shard,
                    epoch=info.epoch,
                    topics=info.topics,
                    pending_bytes=info.pending_bytes,
                    log_bytes=info.log_bytes,
                    read_only=info.read_only,
                )
                for info in broker.shards()
            ]
        )

    @router.get("/v1/route", summary="Where a group lives", responses=BAD)
    async def route(
        request: Request,
        caller: FromCaller,
        group: Annotated[str, Query(description="The group: a topic's first segment.", examples=["research"])],
    ) -> RouteItem:
        """The shard of a group, and the address of the broker that owns it."""
        caller.require(Operation.ROUTE, check_group(group))
        found = broker.route(group, request.url.netloc)
        return RouteItem(group=group, shard=found.shard, url=found.url or _own_url(request))

    return router


def _visible(caller: Caller, info: SessionInfo) -> bool:
    if caller.sees_all or caller.identity.name == info.agent:
        return True
    return any(caller.may(Operation.SEE_AGENT, inbox_of(group, info.agent)) for group in info.groups)


async def find(
    broker: BrokerApi,
    prefix: str,
    pattern: str,
    after: str,
    limit: int,
    scan: int = SCAN_MAX,
    *,
    visible: Callable[[str], bool] | None = None,
) -> tuple[list[TopicEntry], str | None]:
    """Topics that begin with `prefix`, match `pattern` and are `visible`, and the name to go on after; None if there
    are no more.

    The broker is asked for what the pattern's literal beginning allows; only wildcards take looking at more.
    """
    beginning = literal_prefix(pattern)
    if not (beginning.startswith(prefix) or prefix.startswith(beginning)):
        return [], None
    narrowest = max(beginning, prefix, key=len)
    matches = matcher(pattern)
    found: list[TopicEntry] = []
    while scan > 0:
        wanted = min(limit - len(found) if pattern == ANY_TOPIC and visible is None else PAGE_MAX, scan)
        entries = await broker.topics(narrowest, after, wanted)
        for entry in entries:
            after = entry.topic
            if matches(entry.topic) and (visible is None or visible(entry.topic)):
                found.append(entry)
                if len(found) == limit:
                    return found, after
        if len(entries) < wanted:
            return found, None
        scan -= wanted
        await asyncio.sleep(0)  # a thousand looks are enough for one turn of the loop
    return found, after


def _topic(entry: TopicEntry) -> TopicItem:
    return TopicItem(topic=entry.topic, head=entry.head, first=entry.first, ts=entry.ts, bytes=entry.bytes)


def _own_url(request: Request) -> str:
    scheme = "wss" if request.url.scheme == "https" else "ws"
    return f"{scheme}://{request.url.netloc}{PATH}"
