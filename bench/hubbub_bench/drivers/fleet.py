"""The fleet: the agents of one run, connected and hung up together."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from secrets import token_hex
from types import TracebackType
from typing import Self

from hubbub_bench.peers import Address

from .agent import Agent, LastFrame
from .connection import DriverError
from .flow import Flow
from .frame import upgrade_request
from .load import Load

_PROCESS = token_hex(3)
"""Keeps this process's names apart from those that earlier ones used on the same broker, which remembers their ids."""
AT_ONCE = 100
"""Handshakes under way at a time."""

_run_numbers = count(1)


class Fleet:
    """Agents on one broker, with names that no other run has, and topics too unless `topics` names them."""

    def __init__(self, address: Address, load: Load, label: str, groups: int = 1, topics: str = "") -> None:
        self._address = address
        self._groups = groups
        self._run = f"{label}-{_PROCESS}-{next(_run_numbers)}"
        self._topics = topics or self._run
        self._seeds = count(1)
        self.load = load
        self.agents: list[Agent] = []
        self.flows: dict[int, Flow] = {}
        """By id; agents report here how far they have read."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for agent in self.agents:
            agent.close()
        await asyncio.sleep(0)

    def topic(self, number: int) -> str:
        """The name of the run's topic of that number."""
        return f"{self._topics}-{number % self._groups}/conversation-{number}"

    async def connect(self, number: int, role: str) -> list[Agent]:
        """So many new agents, greeted.

        Raises:
            DriverError: if one can't connect.
        """
        made: list[Agent] = []

        async def one(index: int) -> None:
            made.append(await self.connect_one(f"{role}-{index}"))

        await in_turn(one(index) for index in range(number))
        return made

    async def connect_one(self, name: str, last: LastFrame | None = None) -> Agent:
        """One new agent, greeted. `last` is for readers of one topic to share.

        Raises:
            DriverError: if it can't connect.
        """
        where = self._address
        request = upgrade_request(where.host, where.port, where.path, next(self._seeds), where.token)
        tls = ssl.create_default_context() if where.tls else None
        try:
            _, agent = await asyncio.get_running_loop().create_connection(
                lambda: Agent(self.load, where.agent or f"{self._run}-{name}", request, last, self.flows),
                where.host,
                where.port,
                ssl=tls,
            )
        except OSError as error:
            raise DriverError(f"can't connect to {where.host}:{where.port}: {error}") from None
        self.agents.append(agent)
        await agent.greet()
        return agent

    async def each(self, what: Callable[[Agent], Awaitable[None]], agents: Iterable[Agent] | None = None) -> None:
        """Do something with every agent (or those), many at a time."""
        await in_turn(what(agent) for agent in (self.agents if agents is None else agents))


async def in_turn(work: Iterable[Awaitable[None]]) -> None:
    """Do all of it, some at a time, until one fails."""
    todo = iter(work)

    async def worker() -> None:
        for one in todo:
            await one

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(worker())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
