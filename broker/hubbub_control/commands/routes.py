"""The routes of commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query

from hubbub_control.caller import CONTROL, FromCaller, require
from hubbub_control.refusal import ControlRoute, Refusal
from hubbub_protocol.errors import ErrorCode

from .models import CommandBody, CommandItem, CommandItems, shown

if TYPE_CHECKING:
    from .commands import Commands

PAGE_MAX = 1000
"""Commands in one answer."""


def routes(commands: Commands) -> APIRouter:
    """The routes, on `commands`."""
    router = APIRouter(tags=["control"], route_class=ControlRoute)

    @router.post("/v1/control/commands", summary="Command agents")
    async def command(
        caller: FromCaller,
        body: CommandBody,
        by: Annotated[str | None, Query(description="Who commands, where the token does not say.")] = None,
    ) -> CommandItem:
        """Order something of an agent, of a group, or of whoever can do something. It is on the log before anybody
        hears of it. An agent obeys once, before the deadline or not at all, and answers; one that is away hears it when
        it is back.

        `cancel` calls off a message and everything that grew from it, through every agent that it reached.
        """
        require(caller, CONTROL)
        given = await commands.command(body, caller.name(by) or "operator")
        if body.wait:
            await commands.settled(given, body.wait)
        return shown(given, commands.clock())

    @router.get("/v1/control/commands", summary="What was commanded")
    async def listed(
        caller: FromCaller,
        agent: Annotated[str | None, Query(description="Those that were for this agent.")] = None,
        offset: Annotated[int, Query(ge=0, description="How many to pass over.")] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="Commands at most.")] = 100,
    ) -> CommandItems:
        """Who ordered what of whom, when, and what became of it: newest first."""
        require(caller, CONTROL)
        commands.require_known()
        now = commands.clock()
        found = [each for each in commands.trail.newest() if agent is None or agent in each.targets]
        return CommandItems(commands=[shown(each, now) for each in found[offset : offset + limit]], total=len(found))

    @router.get("/v1/control/commands/{id}", summary="One command")
    async def one(caller: FromCaller, id: str) -> CommandItem:
        """What became of a command."""
        require(caller, CONTROL)
        commands.require_known()
        found = commands.trail.get(id)
        if found is None:
            raise Refusal(ErrorCode.NOT_FOUND, f"there is no command {id!r}, or it is too old to be known here")
        return shown(found, commands.clock())

    return router
