"""The part that keeps policies and schemas.

Promises:

- A change that was answered is on stable storage and in force: the broker looks at it, makes it and goes by it. What it
  refuses has changed nothing.
- Each change has who made it, when, and why, in the same step; so has each deletion.
- Nothing is kept here: another control plane, or the next one, goes on with what the log has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily

from hubbub import Agent, Message, Publication, SharedState, StateConflictError
from hubbub_control.refusal import Refusal
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.names import CONTROL_GROUP

from .kept import Document, Kind, Place
from .routes import routes

SECONDS = 10.0
"""How long a request waits for the broker."""


class Rules:
    """A `Part`."""

    name = "rules"

    def __init__(self) -> None:
        self._agent: Agent | None = None
        self._changes: dict[tuple[str, str], int] = {}

    # Part -----------------------------------------------------------------------------------------------------------

    async def run(self, agent: Agent) -> None:
        """Be there for the routes."""
        self._agent = agent
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._agent = None

    def routes(self) -> APIRouter:
        """The routes of policies and schemas."""
        return routes(self)

    def metrics(self) -> Iterable[Metric]:
        """Changes, by what became of them."""
        family = CounterMetricFamily(
            "hubbub_control_rule_changes", "Changes of policies and schemas, by outcome.", labels=("kind", "outcome")
        )
        for labels, count in sorted(self._changes.items()):
            family.add_metric(labels, count)
        yield family

    # Reading --------------------------------------------------------------------------------------------------------

    async def all(self, kind: Kind) -> list[Document]:
        """Every document of a kind, by name."""
        entries = await self._state().entries(kind.pattern, timeout=SECONDS)
        found = []
        for key, (value, version) in entries.items():
            names = key.split("/")[1:]
            if len(names) == len(kind.parts):  # what somebody else put there has no name that could be asked for
                found.append(Document.read(kind.place(*names), version, value))
        return found

    async def get(self, place: Place) -> Document:
        """One document.

        Raises:
            Refusal: `not_found`.
        """
        value, version = await self._state().get(place.key, timeout=SECONDS)
        if not version:
            raise Refusal(ErrorCode.NOT_FOUND, f"there is no {place.kind.name} {'/'.join(place.names)}")
        return Document.read(place, version, value)

    async def history(self, place: Place, limit: int) -> list[Message]:
        """The changes of a document, newest first, so far as retention has them."""
        async with self._at_work().subscribe(place.history, {"last": limit}, buffer=limit) as messages:
            try:
                async with asyncio.timeout(SECONDS):
                    await messages.caught_up()
            except TimeoutError:
                raise Refusal(ErrorCode.OVERLOADED, f"{place.history} could not be read in time", 1.0) from None
            return (await messages.take(limit))[::-1] if messages.buffered else []

    # Changing -------------------------------------------------------------------------------------------------------

    async def put(self, place: Place, content: Any, by: str | None, note: str | None, expected: int | None) -> Document:
        """Set a document.

        Raises:
            StateConflictError: it has another version than `expected`; 0 is none.
            Rejected: the broker does not take it, and says why.
        """
        at = round(time.time(), 3)
        value = {place.kind.name: content, "by": by, "at": at, "note": note}
        version = await self._change(place, {place.key: value}, (), {**value, "action": "set"}, expected)
        return Document(place, version, content, by, at, note)

    async def drop(self, place: Place, by: str | None, note: str | None, expected: int | None) -> Document:
        """Take a document out; returns what it was.

        Raises:
            Refusal: `not_found`.
            StateConflictError: it has another version than `expected`.
        """
        last = await self.get(place)
        told = {"action": "drop", "by": by, "at": round(time.time(), 3), "note": note}
        await self._change(place, {}, (place.key,), told, last.version if expected is None else expected)
        return last

    async def _change(
        self, place: Place, values: dict[str, Any], delete: tuple[str, ...], told: dict[str, Any], expected: int | None
    ) -> int:
        labels = (place.kind.name, "refused")
        try:
            version = await self._state().update(
                values,
                delete=delete,
                expected_version=None if expected is None else {place.key: expected},
                publish=[Publication(place.history, told, type=place.kind.name)],
                timeout=SECONDS,
            )
            labels = (place.kind.name, "made")
        except StateConflictError:
            labels = (place.kind.name, "conflict")
            raise
        finally:
            self._changes[labels] = self._changes.get(labels, 0) + 1
        return version

    # ----------------------------------------------------------------------------------------------------------------

    def _at_work(self) -> Agent:
        agent = self._agent
        if agent is None or agent.state != "online":
            why = "the control plane has no connection to its broker; what was set before is in force all the same"
            raise Refusal(ErrorCode.OVERLOADED, why, 1.0)
        return agent

    def _state(self) -> SharedState:
        return self._at_work().group_state(CONTROL_GROUP)
