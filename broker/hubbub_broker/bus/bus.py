"""The simple bus of a broker, put together."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from time import time

from hubbub_broker.config import Settings
from hubbub_broker.consumers import Consumers
from hubbub_broker.shard import Shard
from hubbub_protocol.names import inbox_of

from .agents import HOME, Agents
from .arrivals import Arrivals
from .inbox import Inbox
from .mail import Limits, Mail
from .presence import Presence, Wills


class Bus:
    """Agents, their mail, and where they are."""

    def __init__(
        self,
        settings: Settings,
        shard_of: Callable[[str], Shard],
        consumers_of: Callable[[str], Consumers],
        limits: Limits,
        here: Callable[[str], bool],
        loop: AbstractEventLoop,
    ) -> None:
        """`here` says whether an agent is connected now."""
        home = shard_of(HOME)
        self.arrivals = Arrivals(shard_of)
        self.agents = Agents(
            home, default_group=settings.default_group, most=settings.max_agents, loop=loop, clock=time
        )
        self.agents.on_change = self.arrivals.changed
        self.mail = Mail(self.agents, home, shard_of, limits, window=settings.dedup_window, loop=loop, clock=time)
        self.presence = Presence(shard_of)
        self.wills = Wills(shard_of, here, loop)
        self.online = here
        self._consumers_of = consumers_of
        self._default_group = settings.default_group
        self._loop = loop

    def inbox_of(self, agent: str) -> str:
        """The topic that is an agent's inbox, or will be when it is registered."""
        record = self.agents.get(agent)
        return inbox_of(self._default_group, agent) if record is None else record.inbox

    def inbox(self, agent: str, group: str | None = None) -> Inbox:
        """An agent's inbox. The agent is registered, in `group`, if it was not.

        Raises:
            Refusal: there are too many agents.
            BadName: the name is none.
        """
        record = self.agents.seen(agent, group)
        return Inbox(self._consumers_of(record.group), record.inbox, self._loop)

    async def close(self) -> None:
        """Stop."""
        self.wills.close()
        await self.mail.close()
