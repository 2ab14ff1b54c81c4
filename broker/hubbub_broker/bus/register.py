"""The register of agents for several workers: the home worker has it, the others a copy.

What the copy has is so, as long as there is a link to home: a new agent may come late, and whoever does not find it
asks at home; one that is unregistered is gone from every copy before that is answered. Without the link the copy is
empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from hubbub_broker.logs import get_logger
from hubbub_broker.peers import Peers, Reply
from hubbub_broker.refusal import Elsewhere, Refusal
from hubbub_protocol.errors import ErrorCode, ProtocolError

from .agents import AgentRecord, Agents, Card

PAGE = 1000
"""Records in one message, when a worker is given the whole register."""

_AWAY_RETRY = 0.25
"""When somebody whom the copy does not have may try again."""

log = get_logger(__name__)


class Register:
    """The home worker's side: tells the others what its register has."""

    def __init__(self, agents: Agents, peers: Peers) -> None:
        self._agents = agents
        self._peers = peers
        self._heard_too = agents.on_change
        agents.on_change = self._changed
        agents.on_removed = self._removed
        peers.on_joined.append(self._joined)
        peers.handlers["seen"] = self._seen
        peers.handlers["agent"] = self._look_up

    def _joined(self, worker: int) -> None:
        records = [_fields(record) for record in self._agents]
        for begin in range(0, len(records), PAGE):
            self._peers.tell(worker, "agents", records[begin : begin + PAGE])
        self._peers.tell(worker, "agents", None)  # that is all of it

    def _changed(self, name: str, record: AgentRecord | None) -> None:
        self._heard_too(name, record)
        if record is not None:
            self._peers.tell_all("agents", [_fields(record)])

    async def _removed(self, name: str) -> None:
        """Have every worker let go of its copy. One that is away has none, and gets a new one when it is back."""
        there = [worker for worker in self._peers.topology.others if self._peers.is_here(worker)]
        told = [self._peers.ask(worker, "agent_gone", name) for worker in there]
        for found in await asyncio.gather(*told, return_exceptions=True):
            if isinstance(found, Refusal):
                message = f"{name} is unregistered, but not every worker has answered to that: {found.message}"
                raise Refusal(ErrorCode.OVERLOADED, message, found.retry_after)
            if isinstance(found, BaseException):
                raise found

    def _seen(self, arguments: list[Any], reply: Reply) -> None:
        """An agent is at another worker: it is registered if it was not. Its record."""
        name, group, card, socket = arguments
        try:
            record = self._agents.seen(name, group, None if card is None else _card(*card), socket)
        except ProtocolError as error:
            raise Refusal(ErrorCode.BAD_REQUEST, str(error)) from None
        reply(_fields(record))

    def _look_up(self, arguments: list[Any], reply: Reply) -> None:
        record = self._agents.get(arguments[0])
        reply(None if record is None else _fields(record))


class RegisterCopy:
    """What another worker than the home one has in place of `Agents`."""

    def __init__(self, peers: Peers, online: Callable[[], Iterable[tuple[str, str | None]]]) -> None:
        """`online` says which agents have connections here, and in which group each was greeted."""
        self._peers = peers
        self._home = peers.topology.home
        self._online = online
        self._records: dict[str, AgentRecord] = {}
        peers.on_joined.append(self._joined)
        peers.on_lost.append(self._lost)
        peers.handlers["agents"] = self._take
        peers.handlers["agent_gone"] = self._let_go

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[AgentRecord]:
        return iter(self._records.values())

    def get(self, name: str) -> AgentRecord | None:
        """The agent of that name, if it is known here that it is registered."""
        return self._records.get(name)

    def with_capability(self, capability: str) -> list[AgentRecord]:
        """The agents that can do something, as far as is known here."""
        return [record for record in self if capability in record.capabilities]

    def seen(
        self, name: str, group: str | None = None, card: Card | None = None, socket: bool | None = None
    ) -> AgentRecord:
        """An agent that is known is here. Whoever greets one makes it known before, by `ensure`.

        Raises:
            Refusal: it is not known, or not any more.
        """
        record = self._records.get(name)
        if record is None:
            message = f"the register, which worker {self._home} has, does not answer for {name} now"
            raise Refusal(ErrorCode.OVERLOADED, message, _AWAY_RETRY)
        self._peers.tell(self._home, "seen", name, group, card, socket)
        return record

    def left(self, name: str) -> None:
        """A connection of an agent has ended. One that is not registered stays so."""
        if name in self._records:
            self._peers.tell(self._home, "seen", name, None, None, None)

    async def ensure(self, name: str, group: str | None = None, card: Card | None = None) -> AgentRecord:
        """The agent of that name; it is registered if it was not. The home worker is asked, unless it is known here.

        Raises:
            Refusal: home is away, or there are too many agents.
        """
        record = self._records.get(name)
        if record is None:
            record = self._put(await self._peers.ask(self._home, "seen", name, group, card, None))
        return record

    async def look_up(self, name: str) -> AgentRecord | None:
        """The agent of that name, by the word of the home worker unless it is known here.

        Raises:
            Refusal: home is away.
        """
        record = self._records.get(name)
        if record is None:
            fields = await self._peers.ask(self._home, "agent", name)
            record = None if fields is None else self._put(fields)
        return record

    async def register(self, *_: object) -> AgentRecord:
        """Nothing that is done here.

        Raises:
            Elsewhere: always.
        """
        raise self._at_home()

    async def unregister(self, _: str) -> bool:
        """Nothing that is done here.

        Raises:
            Elsewhere: always.
        """
        raise self._at_home()

    def _at_home(self) -> Elsewhere:
        return Elsewhere(self._home, f"the register of agents is at worker {self._home}")

    # From home ------------------------------------------------------------------------------------------------------

    def _joined(self, worker: int) -> None:
        if worker == self._home:
            for name, group in self._online():
                self._peers.tell(worker, "seen", name, group, None, True)

    def _lost(self, worker: int) -> None:
        if worker == self._home:
            self._records.clear()

    def _take(self, arguments: list[Any], _reply: Reply) -> None:
        if arguments[0] is None:
            log.info("register copied", agents=len(self._records))
            return
        for fields in arguments[0]:
            self._put(fields)

    def _let_go(self, arguments: list[Any], reply: Reply) -> None:
        self._records.pop(arguments[0], None)
        reply(None)

    def _put(self, fields: dict[str, Any]) -> AgentRecord:
        record = msgspec.convert(fields, AgentRecord)
        self._records[record.name] = record
        return record


def _fields(record: AgentRecord) -> Any:
    return msgspec.to_builtins(record)


def _card(capabilities: Sequence[str] | None, description: str | None) -> Card:
    return Card(None if capabilities is None else tuple(capabilities), description)
