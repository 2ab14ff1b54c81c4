"""The simple bus of a broker, put together."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from time import time

from hubbub_broker.config import Settings
from hubbub_broker.consumers import Consumers
from hubbub_broker.peers import Peers, Way
from hubbub_broker.shard import Shard
from hubbub_broker.topology import HOME
from hubbub_protocol.names import inbox_of

from .agents import AgentRecord, Agents
from .arrivals import Arrivals
from .inbox import Inbox
from .limits import Limits
from .mail import Mail
from .presence import Presence, Wills
from .register import Register, RegisterCopy
from .remote_mail import RemoteMail


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
        *,
        peers: Peers | None = None,
        way_to: Callable[[str], Way] | None = None,
        greeted: Callable[[], Iterable[tuple[str, str | None]]] = tuple,
    ) -> None:
        """`here` says whether an agent is connected now.

        `peers` are the other workers, if there are any; then `way_to` says how to publish to a group, wherever it is,
        and `greeted` which agents are connected to this one, each with its group.
        """
        way = shard_of if way_to is None else way_to
        self.agents: Agents | RegisterCopy
        self.mail: Mail | RemoteMail
        self.told: Arrivals | None = None
        """Tells who came and left; None at a worker that is not the home one."""
        self.arrivals: Arrivals | None = None
        """The same, where one process sees all of it by itself: of several workers the home one puts it together."""
        if peers is None or peers.topology.is_home:
            home = shard_of(HOME)
            agents = self.agents = Agents(
                home, default_group=settings.default_group, most=settings.max_agents, loop=loop, clock=time
            )
            self.mail = Mail(agents, home, way, limits, window=settings.dedup_window, loop=loop, clock=time)
            self.told = Arrivals(shard_of)
            agents.on_change = self.told.changed
            if peers is not None:
                Register(agents, peers)
            else:
                self.arrivals = self.told
        else:
            copy = self.agents = RegisterCopy(peers, greeted)
            self.mail = RemoteMail(copy, peers)
        self.presence = Presence(shard_of)
        self.wills = Wills(way, here, limits, loop)
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
        return self.inbox_at(self.agents.seen(agent, group, socket=None if self.online(agent) else False))

    def inbox_at(self, record: AgentRecord) -> Inbox:
        """The inbox of an agent that is registered; whoever asks is not taken for it."""
        return Inbox(self._consumers_of(record.group), record.inbox, self._loop)

    async def close(self) -> None:
        """Stop."""
        self.wills.close()
        await self.mail.close()
