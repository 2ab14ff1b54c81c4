"""The register of agents: who there is, in which group, and what it can do.

An agent is registered by its first hello, by pulling its inbox, or by hand. The register is keyed state of one shard's
log; a registration by hand is answered when it is on stable storage, the others get there with the next batch.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple, Self

import msgspec

from hubbub_broker.kinds import StateKind
from hubbub_broker.log import LogError
from hubbub_broker.logs import get_logger
from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import RETRY_SECONDS, Answer, Shard
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err
from hubbub_protocol.limits import CAPABILITIES_MAX, CAPABILITY_CHARS_MAX, DESCRIPTION_CHARS_MAX
from hubbub_protocol.names import check_agent, check_group, inbox_of, is_reserved

SEEN_SECONDS = 60.0
"""How exactly the register remembers, over a restart, when an agent was last seen."""

log = get_logger(__name__)


class AgentRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A registered agent."""

    name: str
    group: str
    capabilities: tuple[str, ...] = ()
    description: str = ""
    registered: float
    """When, in seconds since the Unix epoch."""
    seen: float
    """When it was last here, likewise."""
    socket: bool = False
    """Whether it was connected then; or else it pulled its inbox, or was registered by hand."""

    @property
    def inbox(self) -> str:
        """Its inbox's topic."""
        return inbox_of(self.group, self.name)


class Card(NamedTuple):
    """What an agent says of itself. None: nothing new."""

    capabilities: tuple[str, ...] | None = None
    description: str | None = None

    @classmethod
    def of(cls, capabilities: Sequence[str] | None, description: str | None) -> Self:
        """A card that keeps the limits.

        Raises:
            Refusal: `bad_request`, naming the limit.
        """
        if capabilities is not None:
            if len(capabilities) > CAPABILITIES_MAX:
                raise Refusal(ErrorCode.BAD_REQUEST, f"`capabilities` are {CAPABILITIES_MAX} at most")
            if not all(0 < len(each) <= CAPABILITY_CHARS_MAX for each in capabilities):
                raise Refusal(ErrorCode.BAD_REQUEST, f"a capability has 1 to {CAPABILITY_CHARS_MAX} characters")
            capabilities = tuple(dict.fromkeys(capabilities))
        if description is not None and len(description) > DESCRIPTION_CHARS_MAX:
            raise Refusal(ErrorCode.BAD_REQUEST, f"`description` has {DESCRIPTION_CHARS_MAX} characters at most")
        return cls(capabilities, description)


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AgentRecord] = msgspec.json.Decoder(AgentRecord)


class Agents:
    """The agents of a broker. A `Ledger` of the shard that keeps them."""

    def __init__(
        self, shard: Shard, *, default_group: str, most: int, loop: AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        self._shard = shard
        self._default_group = default_group
        self._most = most
        self._loop = loop
        self._clock = clock
        self._records: dict[str, AgentRecord] = {}
        self._by_capability: dict[str, dict[str, None]] = {}
        self.on_change: Callable[[str, AgentRecord | None], None] = lambda _name, _record: None
        """Called when a registration is another, and with None when it is gone."""
        self._dirty: dict[str, None] = {}
        self._writing: list[str] = []
        self._stored_seen: dict[str, float] = {}
        self.on_removed: Callable[[str], Awaitable[None]] | None = None
        """Awaited before it is answered that an agent is unregistered: every copy has to let go of it."""
        for _, body in shard.log.states(StateKind.AGENT):
            try:
                record = _decoder.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                log.warning("agent unreadable", reason=str(error))
                continue
            self._put(record)
            self._stored_seen[record.name] = record.seen
        shard.batch.ledgers.append(self)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[AgentRecord]:
        return iter(self._records.values())

    def get(self, name: str) -> AgentRecord | None:
        """The agent of that name, if it is registered."""
        return self._records.get(name)

    def with_capability(self, capability: str) -> list[AgentRecord]:
        """The agents that can do something."""
        return [self._records[name] for name in self._by_capability.get(capability, ())]

    # Changing -------------------------------------------------------------------------------------------------------

    def seen(
        self, name: str, group: str | None = None, card: Card | None = None, socket: bool | None = None
    ) -> AgentRecord:
        """An agent is here; it is registered if it was not. Its group stays what it was at first, and is none of the
        broker's own: an inbox there would be what only the broker publishes to. `socket` says whether it is connected;
        None: as it was.

        Raises:
            Refusal: `overloaded` if there are too many.
            BadName: if the name or the group is none.
        """
        now = self._clock()
        record = self._records.get(name)
        if record is None:
            record = self._new(name, None if group is not None and is_reserved(group) else group, now)
            self._note(name)
        else:
            record.seen = max(record.seen, now)
            if now - self._stored_seen.get(name, 0.0) >= SEEN_SECONDS:
                self._note(name)
        if card is not None and self._describe(record, card):
            self._note(name)
        if socket is not None and socket != record.socket:
            record.socket = socket
            self._note(name)
            self.on_change(name, record)
        return record

    def left(self, name: str) -> None:
        """A connection of an agent has ended: it was here until now. One that is not registered stays so."""
        if name in self._records:
            self.seen(name)

    async def register(self, name: str, group: str | None = None, card: Card | None = None) -> AgentRecord:
        """Register an agent, or change what is said of it; returns when that is on stable storage.

        Raises:
            Refusal: `conflict` if it is registered in another group, `bad_request` for a group of the broker's own,
                `overloaded` if there are too many, `read_only`.
            BadName: if the name or the group is none.
        """
        record = self._records.get(name)
        if group is not None and is_reserved(group):
            raise Refusal(ErrorCode.BAD_REQUEST, f"{group!r} is a group of the broker's own: no agent's inbox is there")
        if record is None:
            record = self._new(name, group, self._clock())
        elif group is not None and group != record.group:
            raise Refusal(
                ErrorCode.CONFLICT,
                f"{name} is registered in group {record.group}, where its inbox is: unregister it first",
            )
        if card is not None:
            self._describe(record, card)
        await self._store(name)
        return record

    async def unregister(self, name: str) -> bool:
        """Forget an agent; returns when that is on stable storage. False if there is none. Its inbox's topic stays."""
        record = self._records.pop(name, None)
        if record is None:
            return False
        self._forget_capabilities(record)
        self.on_change(name, None)
        self._stored_seen.pop(name, None)
        await self._store(name)
        if self.on_removed is not None:
            await self.on_removed(name)
        return True

    def _new(self, name: str, group: str | None, now: float) -> AgentRecord:
        check_agent(name)
        if len(self._records) >= self._most:
            raise Refusal(
                ErrorCode.OVERLOADED,
                f"{self._most} agents are registered, the limit (max_agents): unregister those that are gone",
                limit="max_agents",
            )
        record = AgentRecord(name=name, group=check_group(group or self._default_group), registered=now, seen=now)
        self._put(record)
        self.on_change(name, record)
        return record

    def _describe(self, record: AgentRecord, card: Card) -> bool:
        """Take what an agent says of itself. True if that is news."""
        capabilities = record.capabilities if card.capabilities is None else card.capabilities
        description = record.description if card.description is None else card.description
        if (capabilities, description) == (record.capabilities, record.description):
            return False
        self._forget_capabilities(record)
        record.capabilities, record.description = capabilities, description
        self._put(record)
        self.on_change(record.name, record)
        return True

    def _put(self, record: AgentRecord) -> None:
        self._records[record.name] = record
        for capability in record.capabilities:
            self._by_capability.setdefault(capability, {})[record.name] = None

    def _forget_capabilities(self, record: AgentRecord) -> None:
        for capability in record.capabilities:
            named = self._by_capability.get(capability, {})
            named.pop(record.name, None)
            if not named:
                self._by_capability.pop(capability, None)

    # In the log (Ledger) --------------------------------------------------------------------------------------------

    def _note(self, name: str) -> None:
        self._dirty[name] = None
        self._shard.batch.want()

    async def _store(self, name: str) -> None:
        self._note(name)
        await durable(self._shard, self._loop)

    def write(self) -> bool:
        """Append what has changed."""
        if not self._dirty:
            return False
        try:
            for name in list(self._dirty):
                record = self._records.get(name)
                body = b"" if record is None else _encoder.encode(record)
                self._shard.log.append_state(StateKind.AGENT, name.encode(), body)
                if record is not None:
                    self._stored_seen[name] = record.seen
                del self._dirty[name]
                self._writing.append(name)
        except LogError as error:
            log.warning("register not written", reason=str(error))
        return bool(self._writing)

    def written(self, *, durable: bool) -> None:
        """What was appended is on stable storage, or was taken back."""
        if not durable:
            self._dirty.update(dict.fromkeys(self._writing))
        self._writing.clear()


async def durable(shard: Shard, loop: AbstractEventLoop) -> None:
    """Wait until what the shard's ledgers have up to now is on stable storage.

    Raises:
        Refusal: `read_only`: it could not be written. It will be when there is room again, if the broker lives.
    """
    if shard.log.failed is not None:
        raise Refusal(ErrorCode.READ_ONLY, f"this shard is read-only: {shard.log.failed}", RETRY_SECONDS)
    answer = Answer(loop)
    shard.batch.answer_when_durable(answer, b'{"op":"ok"}')
    shard.batch.want()
    frame = await answer.wait()
    if isinstance(frame, Err):
        raise Refusal(ErrorCode(frame.code), frame.message, frame.retry_after)
