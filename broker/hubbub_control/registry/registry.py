"""The part that knows who is there: keeps the picture by what agents and broker say, and asks those who are silent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import uuid4

from fastapi import APIRouter
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from hubbub import HubbubError, Message, MessageDecodeError, NotFound, SharedState
from hubbub.control.control import PROBE
from hubbub.control.reports import REPORT
from hubbub_control.client import Client
from hubbub_control.refusal import RETRY_SECONDS, Refusal
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.names import AGENTS, CONTROL_GROUP, REPORTS, line_of

from . import card_routes, routes
from .cards import skills_of
from .models import read_task
from .picture import TASKS_MAX, Limits, Picture, Report

logger = logging.getLogger("hubbub.control")

PAGE = 1000
"""Agents of the register that are asked for at a time."""

TICK_SECONDS = 1.0
"""How often silent agents are looked for."""

PROBES_MAX = 200
"""Probes in a tick: more than that at once would make agents slow that are not."""

CARD = "card"
"""What the keys of cards begin with."""

AGAIN_SECONDS = 30.0
"""How often deaf agents are probed again."""


class Registry:
    """A `Part`. Nothing of its picture is its own: it is the broker's register, and what agents say."""

    name = "registry"

    def __init__(
        self, limits: Limits | None = None, *, secured: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        """`secured`: whether callers have to show a token, so that strangers are told of nobody."""
        self.picture = Picture(limits)
        self.secured = secured
        self.clock = clock
        self.reports = 0
        self.probes = 0
        self._known = False
        self.on_process: Callable[[str], None] = lambda _: None
        """Called with an agent's name when a process of it reports that did not before."""
        self._asking = False
        self._news: set[str] = set()
        """Agents of whom the broker has told something while the register is asked for."""
        self._greeted: deque[str] = deque()
        self._agent: Client | None = None
        self._skills: dict[str, tuple[str, ...]] = {}
        """By agent that brought a card."""

    # At work --------------------------------------------------------------------------------------------------------

    async def run(self, agent: Client) -> None:
        """Keep the picture."""
        self._known = False
        online = asyncio.Event()
        agent.on_state(lambda _before, after: online.set() if after == "online" else None)
        if agent.state == "online":
            online.set()
        self._agent = agent
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_cards(agent))
            tasks.create_task(self._hear(agent, REPORTS, self._reported))
            tasks.create_task(self._hear(agent, AGENTS, self._told))
            tasks.create_task(self._look(agent, online))
            tasks.create_task(self._probe(agent))

    async def _hear(self, agent: Client, topic: str, take: Callable[[Message], None]) -> None:
        async for message in agent.subscribe(topic):
            try:
                take(message)
            except (MessageDecodeError, TypeError, ValueError, KeyError, AttributeError) as error:
                logger.warning("! %r says nothing that is understood: %s", message, error)

    async def _look(self, agent: Client, online: asyncio.Event) -> None:
        """Ask for the whole register whenever the connection is new: what was told meanwhile is told no more."""
        while True:
            await online.wait()
            online.clear()
            try:
                await self._take_register(agent)
            except HubbubError as error:
                logger.warning("! the register of agents is not known yet: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                if agent.state == "online":
                    online.set()

    async def _take_register(self, agent: Client) -> None:
        self._asking = True
        self._news.clear()
        names: list[str] = []
        while True:
            page = await agent.look("/v1/agents", {"offset": len(names), "limit": PAGE})
            now = self.clock()
            for item in page["agents"]:
                name = item["agent"]
                names.append(name)
                if name in self._news:
                    continue  # what was told since this was asked for is newer
                self._register(item)
                view = self.picture.get(name)
                if view is not None and item["online"] != view.online:
                    self.picture.came(name, now) if item["online"] else self.picture.left(name, now)
            if not page["agents"] or len(names) >= page["total"]:
                break
        self.picture.only([*names, *self._news])
        self._known = True
        self._asking = False
        self._greeted = deque(self.picture.greeted())

    def _register(self, item: Mapping[str, Any]) -> None:
        group = item["inbox"].partition("/")[0] if "inbox" in item else item["group"]
        name = item["agent"]
        self.picture.registered(
            name,
            group,
            item["capabilities"],
            item["description"],
            seen=item["seen"],
            socket=item.get("socket"),  # a broker of another version may not say
            skills=self._skills.get(name, ()),
        )

    def _told(self, message: Message) -> None:
        """The broker says that somebody came, left, or is registered otherwise."""
        data, now = message.data, self.clock()
        name = data["agent"]
        if self._asking:
            self._news.add(name)
        match message.type:
            case "came":
                self._register(data)
                self.picture.came(name, now)
            case "registered":
                self._register(data)
            case "left":
                self.picture.left(name, now)
            case "forgotten":
                self.picture.forgotten(name)

    def _reported(self, message: Message) -> None:
        """An agent says how it is. Its name is the broker's word, the rest its own."""
        if message.type != REPORT:
            return
        data = message.data
        report = Report(
            at=self.clock(),
            running=_count(data["running"]),
            waiting=_count(data["waiting"]),
            room=_count(data["room"]),
            done=_count(data["done"]),
            lag=max(0.0, float(data.get("lag", 0.0))),
            paused=bool(data.get("paused", False)),
            since=_time(data.get("since")),
            tasks=tuple(task for task in map(read_task, data.get("tasks", ())[:TASKS_MAX]) if task is not None),
        )
        self.reports += 1
        session = str(data["session"])[:128]
        view = self.picture.get(message.sender)
        is_new = view is None or session not in view.reports
        self.picture.reported(message.sender, session, report, probe="probe" in data)
        if is_new:
            self.on_process(message.sender)

    async def _probe(self, agent: Client) -> None:
        """Ask those who are silent, and at the beginning everyone, how they are."""
        ticks = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            ticks += 1
            if agent.state != "online":
                continue
            now = self.clock()
            asked = self.picture.overdue(now, PROBES_MAX)
            if ticks % round(AGAIN_SECONDS / TICK_SECONDS) == 0:
                asked += self.picture.probe_again(now, PROBES_MAX)
            self.picture.forget_silent(now)
            greeted = [self._greeted.popleft() for _ in range(min(len(self._greeted), PROBES_MAX - len(asked)))]
            await asyncio.gather(*(self._ask(agent, name) for name in (*asked, *greeted)))

    async def _ask(self, agent: Client, name: str) -> None:
        """Probe an agent, if it hears such at all."""
        self.probes += 1
        try:
            asked = await agent.publish(line_of(name), {}, type=PROBE, ephemeral=True, mandatory=True, id=uuid4().hex)
        except NotFound:
            self.picture.says_nothing(name)
        else:
            if asked.dropped:
                self._greeted.append(name)
            else:
                self.picture.asked(name, self.clock())

    # Cards ----------------------------------------------------------------------------------------------------------

    async def _read_cards(self, agent: Client) -> None:
        """Know what the agents' cards say that they can do, from the log."""
        async for entry in agent.group_state(CONTROL_GROUP).watch(f"{CARD}/*"):
            name = entry.key.partition("/")[2]
            self._skills.pop(name, None)
            if not entry.deleted:
                self._skills[name] = skills_of(entry.value)
            self.picture.carded(name, self._skills.get(name, ()))

    async def card(self, name: str) -> Any:
        """The card that an agent brought; None if it brought none."""
        return (await self._state().get(f"{CARD}/{name}")).value

    async def keep_card(self, name: str, card: dict[str, Any]) -> None:
        """Keep an agent's card; returns when it is on stable storage."""
        await self._state().put(f"{CARD}/{name}", card)

    async def drop_card(self, name: str) -> None:
        """Forget it."""
        await self._state().delete(f"{CARD}/{name}")

    def _state(self) -> SharedState:
        self.require_known()
        assert self._agent is not None
        return self._agent.group_state(CONTROL_GROUP)

    # For the routes -------------------------------------------------------------------------------------------------

    def require_known(self) -> None:
        """Insist that the picture is one.

        Raises:
            Refusal: `overloaded`: the broker could not be asked yet.
        """
        if not self._known:
            raise Refusal(ErrorCode.OVERLOADED, "the register of agents is not known yet: ask again", RETRY_SECONDS)

    def routes(self) -> APIRouter:
        """Its routes."""
        router = routes.routes(self)
        router.include_router(card_routes.routes(self))
        return router

    def metrics(self) -> Iterable[Metric]:
        """How many agents are how, and what that costs."""
        states = GaugeMetricFamily("hubbub_control_agents", "Registered agents, by state.", labels=("state",))
        for state, count in self.picture.counts(self.clock()).items():
            states.add_metric((state,), count)
        yield states
        yield CounterMetricFamily("hubbub_control_reports", "Reports that agents made of themselves.", self.reports)
        yield CounterMetricFamily("hubbub_control_probes", "Agents that were asked whether they hear.", self.probes)


def _time(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _count(value: Any) -> int:
    return max(0, int(value))
