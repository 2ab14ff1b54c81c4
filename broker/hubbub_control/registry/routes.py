"""The routes of the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query

from hubbub_control.caller import SEE_AGENT, FromCaller, may_see, require
from hubbub_control.refusal import RETRY_SECONDS, ControlRoute, Refusal
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.names import check_agent, inbox_of

from .models import AgentStatus, AgentStatuses, Picked, shown
from .picture import AgentState

if TYPE_CHECKING:
    from .registry import Registry

PAGE_MAX = 1000
"""Agents in one answer."""

Capability = Annotated[str | None, Query(description="Those that can do this.")]
Group = Annotated[str | None, Query(description="Those of this group.")]


def routes(registry: Registry) -> APIRouter:
    """The routes, on `registry`."""
    router = APIRouter(tags=["control"], route_class=ControlRoute)
    picture = registry.picture

    @router.get("/v1/control/agents", summary="Agents, and how they are")
    async def agents(
        caller: FromCaller,
        capability: Capability = None,
        group: Group = None,
        state: Annotated[AgentState | None, Query(description="Those that are so.")] = None,
        offset: Annotated[int, Query(ge=0, description="How many to pass over.")] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="Agents at most.")] = PAGE_MAX,
    ) -> AgentStatuses:
        """Every registered agent with its state and its load, sorted by name. Those are shown that the caller may send
        to, or read the inbox of.
        """
        registry.require_known()
        now = registry.clock()
        found = [
            view
            for view in picture.find(capability, group)
            if state in (None, picture.state(view, now)) and may_see(caller, inbox_of(view.group, view.name))
        ]
        found.sort(key=lambda view: view.name)
        page = [shown(picture, view, now) for view in found[offset : offset + limit]]
        return AgentStatuses(agents=page, total=len(found))

    @router.get("/v1/control/agents/{agent}", summary="One agent, and how it is")
    async def one(caller: FromCaller, agent: str) -> AgentStatus:
        """What an agent is at work on, as it reported last."""
        registry.require_known()
        view = picture.get(check_agent(agent))
        if view is None:
            require(caller, SEE_AGENT, inbox_of("_", agent))
            raise Refusal(ErrorCode.NOT_FOUND, f"no agent {agent!r} is registered")
        require(caller, SEE_AGENT, inbox_of(view.group, view.name))
        return shown(picture, view, registry.clock())

    @router.get("/v1/control/route", summary="Whom to give work to")
    async def route(caller: FromCaller, capability: Capability = None, group: Group = None) -> Picked:
        """The agent with the least to do among those that can do something, or of a group, as far as is known: not one
        that is gone, deaf, paused or not heard from yet, a slow one only if there is no other, and one that has no room
        at all only if nobody has: then it says so. 404 if there is none.

        Who was named counts as having that much more to do until it reports again.
        """
        if capability is None and group is None:
            raise Refusal(ErrorCode.BAD_REQUEST, "say a `capability` or a `group`")
        registry.require_known()
        now = registry.clock()
        candidates = [
            view for view in picture.find(capability, group) if may_see(caller, inbox_of(view.group, view.name))
        ]
        view = picture.least_loaded(candidates, now)
        if view is None:
            if any(picture.state(each, now) is AgentState.UNKNOWN for each in candidates):
                message = "whoever may be meant is connected, and has yet to say how it is: ask again"
                raise Refusal(ErrorCode.OVERLOADED, message, RETRY_SECONDS)
            wanted = f"can do {capability!r}" if capability is not None else f"is in group {group!r}"
            raise Refusal(ErrorCode.NOT_FOUND, f"nobody who {wanted} is here and hears")
        return Picked(
            agent=view.name,
            group=view.group,
            inbox=inbox_of(view.group, view.name),
            state=picture.state(view, now),
            load=round(view.load, 3),
            room=view.room if view.reports else None,
        )

    return router
