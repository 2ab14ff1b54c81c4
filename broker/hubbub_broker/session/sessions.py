"""All the sessions of a broker, and what they share: the way to the shards, the limits, the register of who is here."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence

from msgspec import Raw
from msgspec.structs import replace

from hubbub_broker.access import Access
from hubbub_broker.bus import PRESENCE_BYTES, Bus, Card
from hubbub_broker.config import Settings
from hubbub_broker.consumers import Consumers
from hubbub_broker.guard import Denial, Guard
from hubbub_broker.metrics import Metrics
from hubbub_broker.open_files import room_for
from hubbub_broker.peers import Way
from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import CatchUp, Shard, Sink, Topic
from hubbub_broker.state import StatesOf
from hubbub_protocol.causal import BROADCASTS
from hubbub_protocol.codec import encode_value, members_of
from hubbub_protocol.errors import CloseCode, ErrorCode
from hubbub_protocol.frames import Change, Pub
from hubbub_protocol.names import (
    CONTROL_AGENT,
    check_topic,
    group_of,
    is_dead_letters,
    is_heard_by_control,
    is_reserved,
    is_said_by_control,
    is_state,
)

from .admission import check_publish
from .entrance import Gate
from .mailing import Lines
from .session import Session
from .socket import Socket

SURPLUS = 0.02
"""Share of `max_connections` that may be open beyond it, ten at least, until their `hello`: only that tells whether a
connection replaces another, which the broker does not know yet to be dead."""
SURPLUS_LEAST = 10


class Sessions:
    """The register of connected agents."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        shards: Sequence[Shard],
        shard_of: Callable[[str], Shard],
        catch_up: CatchUp,
        guard: Guard,
        consumers_of: Callable[[str], Consumers],
        access: Access | None = None,
    ) -> None:
        self.settings = settings
        self.access = access or Access(settings, metrics)
        self.metrics = metrics
        self.shards = shards
        self.shard_of = shard_of
        self.catch_up = catch_up
        self.consumers_of = consumers_of
        """The consumers of the shard that owns a group."""
        self.sockets: set[Socket] = set()
        """Every WebSocket, from before its handshake to its last byte."""
        self.open: dict[Session, None] = {}
        self.room = room_for(settings.max_connections, sum(shard.log.open_files for shard in shards))
        """How many connections there may be."""
        self.draining = False
        self.guard = guard
        self._limits_rate = guard.limits_publishes
        self._by_agent: dict[str, dict[Session, None]] = {}
        self._lives: dict[tuple[str, str], Session] = {}
        self._count = 0
        self._gone: asyncio.Event = asyncio.Event()
        self.bus: Bus | None = None
        """Registers agents, takes mail, knows who is where. Without one there is none of that."""
        self.states_of: StatesOf | None = None
        """The states of the shard that owns a group. Without them there are none."""
        self.to_all: Lines = {}
        """The mails to ALL that are under way, and in which order they go on."""
        self.on_agent: Callable[[str], None] = lambda _: None
        """Called when an agent is there: what it missed can be told."""
        self.on_gone: Callable[[str], None] = lambda _: None
        """Called when the last connection of an agent is gone."""
        self.answer_change: Callable[[Change, Sink], Sink] = _at_once
        """What gets the answer to a change of a state, in place of the sink that asked for it."""
        self.gate: Gate | None = None
        """Where there are several workers: sends connections on, and makes agents known before they come in."""
        self.way_to: Callable[[str], Way] = shard_of
        """How to publish to a group, wherever it is."""

    def next_id(self) -> str:
        """A name for a new session."""
        self._count += 1
        return f"s{self._count}"

    @property
    def is_full(self) -> bool:
        """Whether there are as many as there is room for."""
        return len(self.open) >= self.room.connections

    @property
    def is_crowded(self) -> bool:
        """Whether there are so many more that not even a `hello` is waited for."""
        limit = self.room.connections
        return len(self.open) >= limit + max(SURPLUS_LEAST, int(limit * SURPLUS))

    def gives_place(self, session: Session, agent: str, life: str | None) -> bool:
        """Whether a connection that came when there were enough may stay: it replaces one of its own, or one has gone.

        If not, it is closed.
        """
        older = None if life is None else self._lives.get((agent, life))
        if older is None and len(self.open) > self.room.connections:
            self.turn_away(session)
            return False
        session.surplus = False
        return True

    def turn_away(self, session: Session) -> None:
        """Close a connection for which there is no place."""
        reason = self.room.why
        self.metrics.refuse_connection(reason.partition(":")[0], session.client, reason)
        session.close(CloseCode.TRY_AGAIN_LATER, reason)

    def joined(self, session: Session) -> None:
        """A connection was accepted."""
        self.open[session] = None

    def greeted(self, session: Session) -> None:
        """A session has said who it is. An older connection of the same life is replaced."""
        assert session.agent is not None
        self.named(session, session.agent)
        if session.life is None:
            return
        key = (session.agent, session.life)
        older = self._lives.get(key)
        self._lives[key] = session
        if older is not None and older is not session:
            older.close(CloseCode.REPLACED, "replaced by a newer connection of the same session")

    def named(self, session: Session, agent: str) -> None:
        """It is known whose session this is."""
        self._by_agent.setdefault(agent, {})[session] = None

    def of(self, agent: str) -> Collection[Session]:
        """The sessions under an agent's name, oldest first."""
        return self._by_agent.get(agent, {}).keys()

    def agents(self) -> Iterator[tuple[str, str | None]]:
        """The agents that are here, each with the group that it was greeted in."""
        for agent, sessions in self._by_agent.items():
            yield agent, next((session.groups[0] for session in sessions if session.groups), None)

    def tell(self, agent: str, line: bytes) -> bool:
        """Send a line to every session under that name. False if there is none."""
        sessions = self._by_agent.get(agent, ())
        for session in sessions:
            session.answer([line])
        return bool(sessions)

    def disconnect(self, agent: str) -> int:
        """End all connections of an agent, as an operator wants it (4503): its client does not come back. How many."""
        found = list(self.of(agent))
        for session in found:
            session.close(CloseCode.DISCONNECTED_BY_OPERATOR, "disconnected by an operator")
        return len(found)

    async def all_gone(self) -> None:
        """Wait until no connection is open."""
        while self.open:
            self._gone.clear()
            await self._gone.wait()

    def left(self, session: Session) -> None:
        """A session has ended."""
        self.catch_up.forget(session)
        for shard in self.shards:
            shard.batch.forget(session)
        if session.agent is not None:
            named = self._by_agent.get(session.agent)
            if named is not None:
                named.pop(session, None)
                if not named:
                    del self._by_agent[session.agent]
                    self.on_gone(session.agent)
        if session.life is not None and session.agent is not None:
            key = (session.agent, session.life)
            if self._lives.get(key) is session:
                del self._lives[key]

    def arrived(self, session: Session, card: Card | None = None) -> str | None:
        """An agent is here, and is registered in the first of its groups if it was not. Its inbox.

        `card` is what it says of itself.

        Raises:
            Refusal: there are too many agents.
        """
        if self.bus is None or session.agent in (None, CONTROL_AGENT):
            return None
        self.bus.wills.back(session.agent)
        record = self.bus.agents.seen(session.agent, next(iter(session.groups), None), card, socket=True)
        if self.bus.arrivals is not None and all(other is session for other in self.of(session.agent)):
            self.bus.arrivals.came(record)
        return record.inbox

    def lost(self, session: Session, code: int) -> None:
        """The socket of a session is gone; `code` says how."""
        self.open.pop(session, None)
        if self.bus is not None and session.agent is not None and not self.draining:
            self.bus.agents.left(session.agent)
            if self.bus.arrivals is not None and not self.of(session.agent):
                self.bus.arrivals.left(session.agent)
            will = session.will
            if will is not None and code not in (CloseCode.NORMAL, CloseCode.GOING_AWAY) and not self.of(session.agent):
                self.bus.wills.dropped(session.agent, will)
        if not self.open:
            self._gone.set()

    def open_topic(self, name: str) -> tuple[Shard, Topic]:
        """The topic to publish to, and the shard that owns it.

        Raises:
            BadName: if it is not a topic.
            Refusal: if only the broker publishes there.
            Elsewhere: if it is another worker's.
        """
        self.check_open(name)
        shard = self.shard_of(group_of(name))
        return shard, shard.topic(name)

    def check_open(self, name: str) -> None:
        """See that clients may publish to a topic at all.

        Raises:
            BadName: if it is not a topic.
            Refusal: if only the broker publishes there.
        """
        check_topic(name)
        control = is_heard_by_control(name) or is_said_by_control(name)
        if (is_reserved(name) and not control) or is_dead_letters(name) or is_state(name):
            own = (
                f"{group_of(name)!r} is the broker's own group" if is_reserved(name) else f"{name} is the broker's own"
            )
            raise Refusal(ErrorCode.FORBIDDEN, f"{own}: only the broker publishes there")

    def admit(self, agent: str, pub: Pub, payload: bytes | None = None, topic: str | None = None) -> None:
        """Check one publish against the limits that are the same at every door.

        `topic` is where it goes, if `pub` does not say that itself: mail names an agent, and not its inbox.

        Raises:
            Refusal: naming the limit.
            BadName: if a name in it is none.
        """
        if self.draining:
            message = "the broker is stopping: reconnect"
            raise Refusal(ErrorCode.SHUTTING_DOWN, message, self.settings.reconnect_spread)
        check_publish(pub)
        if self._limits_rate:
            size = len(pub.headers) + (len(pub.data) if payload is None else len(payload))
            _require(self.guard.admit_publish(agent, topic or pub.topic, size))

    def admit_presence(self, agent: str, topic: str) -> None:
        """Count what will be told of an agent that joins a topic, or leaves it.

        Raises:
            Refusal: if that is more than the agent, or the topic's group, may publish.
        """
        if self._limits_rate:
            _require(self.guard.admit_publish(agent, topic, PRESENCE_BYTES))

    def count_presence(self, agent: str) -> None:
        """Count what will be told of an agent that leaves: nothing can stop that."""
        if self._limits_rate:
            self.guard.count_publish(agent, PRESENCE_BYTES)

    def admit_broadcast(self, agent: str, pub: Pub, now: float) -> Pub:
        """Count a message to all; it with the header that says how many such messages led to it.

        Raises:
            Refusal: if that is more than `broadcast_rate`, or `broadcast_depth`.
        """
        found = self.guard.admit_broadcast(agent, pub, now)
        if isinstance(found, Denial):
            raise Refusal(found.code, found.message, found.retry_after, limit=found.rule)
        return replace(pub, headers=Raw(encode_value({**(members_of(pub.headers) or {}), BROADCASTS: found})))


def _require(denial: Denial | None) -> None:
    if denial is not None:
        raise Refusal(denial.code, denial.message, denial.retry_after, limit=denial.rule)


def _at_once(_: Change, sink: Sink) -> Sink:
    return sink
