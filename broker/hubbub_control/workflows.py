"""Workflows over HTTP: where their instances stand, how they came there, and what is ordered of them.

It reads and orders as any agent may, through the state of the workflow's conversation; instances move without it.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse
from prometheus_client import Metric
from pydantic import BaseModel, Field

from hubbub import Agent
from hubbub.workflows import Change, Flow, IllegalTransition, Instance, NoSuchInstance, Order, Status
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.names import state_of

from .caller import CHANGE_STATE, HISTORY, PUBLISH, READ_STATE, Caller, FromCaller, require
from .refusal import ControlRoute, Refusal

PAGE_MAX = 1_000
ONLINE_SECONDS = 2.0
"""How long a request waits for the plane to be connected."""


class InstanceStatus(BaseModel):
    """Where an instance of a workflow stands."""

    id: str
    status: str = Field(description="running, paused, compensating, done, failed or cancelled.")
    state: str
    since: float = Field(description="When it came into its state.")
    started: float
    changes: int = Field(description="How often it has changed.")
    due: float | None = Field(description="When something happens to it by itself, next.")
    why: str = Field(description="Why it failed, or was cancelled.")


class InstancePage(BaseModel):
    """Some instances, in the order of their ids."""

    instances: list[InstanceStatus]
    after: str | None = Field(description="Ask with this id for what follows; null at the end.")


class Transition(BaseModel):
    """One change of an instance."""

    n: int
    at: float
    source: str | None
    target: str
    cause: str
    by: str
    why: str


class InstanceDetail(InstanceStatus):
    """An instance with its data and its history."""

    data: dict[str, Any]
    history: list[Transition]


class Ordering(BaseModel):
    """Why something is ordered, and by whom."""

    why: str = Field(default="", max_length=500)
    by: str | None = Field(default=None, description="Who orders it, where the token does not say.")


class Workflows:
    """A `Part`."""

    name = "workflows"

    def __init__(self) -> None:
        self._agent: Agent | None = None
        self._ready = asyncio.Event()

    async def run(self, agent: Agent) -> None:
        """Answer with this agent, until cancelled."""
        self._agent = agent
        self._ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            self._agent = None
            self._ready.clear()

    def metrics(self) -> Iterable[Metric]:
        """None: instances are on the log, and counted nowhere else."""
        return ()

    def routes(self) -> APIRouter:
        """Four."""
        router = APIRouter(prefix="/v1/control/workflows", tags=["workflows"], route_class=ControlRoute)

        @router.get("/{group}/{name}", summary="The instances of a workflow")
        async def instances(
            caller: FromCaller,
            group: str,
            name: str,
            status: Status | None = None,
            state: str | None = None,
            after: str | None = None,
            limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
        ) -> InstancePage:
            """In the order of their ids. A page may hold fewer than `limit` although there are more: see `after`."""
            flow = await self._flow(caller, READ_STATE, group, name)
            found, more = await flow.instances(status, state=state, after=after, limit=limit)
            return InstancePage(instances=[InstanceStatus(**_fields(one)) for one in found], after=more)

        @router.get("/{group}/{name}/{id}", summary="An instance, with its history")
        async def instance(caller: FromCaller, group: str, name: str, id: str) -> InstanceDetail:
            """Where it stands, its data, and how it came there."""
            require(caller, HISTORY, f"{group}/{name}/{id}")
            flow = await self._flow(caller, READ_STATE, group, name)
            with _refusing():
                found, history = await flow.get(id), await flow.history(id)
            return InstanceDetail(**_fields(found), data=found.data, history=[_told(change) for change in history])

        @router.get("/{group}/{name}/{id}/diagram", summary="Where an instance stands, as a Mermaid diagram")
        async def diagram(caller: FromCaller, group: str, name: str, id: str) -> PlainTextResponse:
            """The declared machine, the way that the instance came, and where it is."""
            require(caller, HISTORY, f"{group}/{name}/{id}")
            flow = await self._flow(caller, READ_STATE, group, name)
            with _refusing():
                return PlainTextResponse(await flow.diagram(id))

        @router.post("/{group}/{name}/{id}/{order}", summary="Pause, resume, cancel or retry an instance")
        async def order(
            caller: FromCaller, group: str, name: str, id: str, order: Order, ordering: Ordering | None = None
        ) -> InstanceStatus:
            """Answers 409 where the instance can't, and changes nothing then."""
            said = ordering or Ordering()
            require(caller, PUBLISH, f"{group}/{name}/{id}")  # where the change is told
            flow = await self._flow(caller, CHANGE_STATE, group, name, by=caller.name(said.by))
            with _refusing():
                return InstanceStatus(**_fields(await flow.order(id, order, said.why)))

        return router

    async def _flow(self, caller: Caller, operation: str, group: str, name: str, by: str | None = None) -> Flow:
        require(caller, operation, state_of(f"{group}/{name}"))
        with suppress(TimeoutError):
            async with asyncio.timeout(ONLINE_SECONDS):
                await self._ready.wait()
        if self._agent is None:
            raise Refusal(ErrorCode.OVERLOADED, "the control plane is not connected to its broker", 1.0)
        return Flow(self._agent, name, group=group, by=by)


@contextmanager
def _refusing() -> Iterator[None]:
    """What workflows refuse, as the control plane says it."""
    try:
        yield
    except NoSuchInstance as error:
        raise Refusal(ErrorCode.NOT_FOUND, str(error)) from error
    except IllegalTransition as error:
        raise Refusal(ErrorCode.CONFLICT, str(error)) from error


def _fields(instance: Instance) -> dict[str, Any]:
    return {
        "id": instance.id,
        "status": str(instance.status),
        "state": instance.state,
        "since": instance.since,
        "started": instance.started,
        "changes": instance.n,
        "due": instance.due,
        "why": instance.why,
    }


def _told(change: Change) -> Transition:
    return Transition(
        n=change.n,
        at=change.at,
        source=change.source,
        target=change.target,
        cause=change.cause,
        by=change.by,
        why=change.why,
    )
