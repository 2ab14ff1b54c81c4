"""The routes of agent cards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Request

from hubbub_control.caller import REGISTER, SEE_AGENT, FromCaller, may_see, require
from hubbub_control.refusal import ControlRoute, Refusal
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.names import check_agent, inbox_of

from .cards import card_of, check_card, team_card

if TYPE_CHECKING:
    from .registry import Registry

WELL_KNOWN = "/.well-known/agent-card.json"
"""Where A2A looks for a card."""


def routes(registry: Registry) -> APIRouter:
    """The routes, on `registry`."""
    router = APIRouter(tags=["control"], route_class=ControlRoute)
    picture = registry.picture

    @router.get("/v1/control/agents/{agent}/card", summary="An agent's card")
    async def card(caller: FromCaller, request: Request, agent: str) -> dict[str, Any]:
        """What an agent says of itself, as an A2A agent card: the one that it brought, or one made of the register."""
        registry.require_known()
        view = picture.get(check_agent(agent))
        require(caller, SEE_AGENT, inbox_of("_" if view is None else view.group, agent))
        if view is None:
            raise Refusal(ErrorCode.NOT_FOUND, f"no agent {agent!r} is registered")
        brought = await registry.card(agent)
        return brought if isinstance(brought, dict) else card_of(view, str(request.base_url))

    @router.put("/v1/control/agents/{agent}/card", summary="Bring an agent's card", status_code=204)
    async def bring(caller: FromCaller, agent: str, card: Annotated[Any, Body(description="The card.")]) -> None:
        """Keep an A2A agent card for an agent. Its skills are found as capabilities. Whose it is may bring it, and an
        operator.
        """
        require(caller, REGISTER, check_agent(agent))
        registry.require_known()
        if picture.get(agent) is None:
            raise Refusal(ErrorCode.NOT_FOUND, f"no agent {agent!r} is registered")
        await registry.keep_card(agent, check_card(card))

    @router.delete("/v1/control/agents/{agent}/card", summary="Take an agent's card away", status_code=204)
    async def take_away(caller: FromCaller, agent: str) -> None:
        """From here on its card is made of the register."""
        require(caller, REGISTER, check_agent(agent))
        await registry.drop_card(agent)

    @router.get("/v1/control/card", summary="The team's card")
    async def team(caller: FromCaller, request: Request) -> dict[str, Any]:
        """An A2A agent card of all agents together that the caller may see: what can be asked for here."""
        registry.require_known()
        found = [
            name for view in picture if may_see(caller, inbox_of(view.group, view.name)) for name in view.capabilities
        ]
        return team_card(found, str(request.base_url), secured=registry.secured)

    @router.get(WELL_KNOWN, summary="The team's card, for strangers")
    async def well_known(request: Request) -> dict[str, Any]:
        """Where A2A looks for an agent card. Where a token is wanted, it says so and tells of nobody: the whole card is
        at /v1/control/card then.
        """
        found = [] if registry.secured else [name for view in picture for name in view.capabilities]
        return team_card(found, str(request.base_url), secured=registry.secured)

    return router
