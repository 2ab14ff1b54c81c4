"""How the control plane itself is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fastapi import APIRouter
from prometheus_client import Metric
from pydantic import BaseModel, Field

from hubbub import Agent

from .caller import METRICS, FromCaller, require
from .refusal import ControlRoute

if TYPE_CHECKING:
    from .plane import ControlPlane


class PlaneStatus(BaseModel):
    """The control plane now."""

    online: bool = Field(description="Whether it is connected to its broker.")
    restarts: int = Field(description="How often its parts began anew after a failure.")
    failure: str | None = Field(None, description="Why they did so last, or why it is not connected.")
    parts: list[str] = Field(description="What it is made of.")


class Status:
    """A `Part` that tells of the plane, and ends its run when the broker will not have it."""

    name = "status"

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def run(self, agent: Agent) -> None:
        """Wait until the broker refuses the agent: nothing can be done with it any more, and another may fare better.

        Raises:
            Refused: why.
        """
        await agent.wait_for("closed")
        await agent.wait_for("online")  # it never will be: raises why

    def routes(self) -> APIRouter:
        """One route."""
        router = APIRouter(tags=["control"], route_class=ControlRoute)

        @router.get("/v1/control/status", summary="How the control plane is")
        async def status(caller: FromCaller) -> PlaneStatus:
            """Whether the control plane is at work. Publishing, delivery and reconnecting do not depend on it."""
            require(caller, METRICS)
            return self.now()

        return router

    def now(self) -> PlaneStatus:
        """The answer of that route."""
        plane = self._plane
        failure = plane.failure
        if not plane.online and plane.agent is not None and plane.agent.last_failure is not None:
            failure = plane.agent.last_failure
        return PlaneStatus(
            online=plane.online, restarts=plane.restarts, failure=failure, parts=[part.name for part in plane.parts]
        )

    def metrics(self) -> Iterable[Metric]:
        """None of its own: the plane's are."""
        return ()
