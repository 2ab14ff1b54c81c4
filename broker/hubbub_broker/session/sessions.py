"""All the sessions of a broker, and what they share: the way to the shards, the limits, the register of who is here."""

import asyncio
from collections.abc import Callable, Sequence

from hubbub_broker.config import Settings
from hubbub_broker.guard import Denial, Guard
from hubbub_broker.metrics import Metrics
from hubbub_broker.shard import CatchUp, Shard, Topic
from hubbub_protocol.errors import CloseCode, ErrorCode
from hubbub_protocol.frames import Pub
from hubbub_protocol.names import check_topic, group_of, is_reserved

from .admission import check_publish
from .refusal import Refusal
from .session import Session


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
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.shards = shards
        self.shard_of = shard_of
        self.catch_up = catch_up
        self.open: dict[Session, None] = {}
        self.draining = False
        self.guard = guard
        self._limits_rate = guard.limits_publishes
        self._lives: dict[tuple[str, str], Session] = {}
        self._count = 0
        self._gone: asyncio.Event = asyncio.Event()

    def next_id(self) -> str:
        """A name for a new session."""
        self._count += 1
        return f"s{self._count}"

    def joined(self, session: Session) -> None:
        """A connection was accepted."""
        self.open[session] = None

    def greeted(self, session: Session) -> None:
        """A session has said who it is. An older connection of the same life is replaced."""
        if session.life is None or session.agent is None:
            return
        key = (session.agent, session.life)
        older = self._lives.get(key)
        self._lives[key] = session
        if older is not None and older is not session:
            older.close(CloseCode.REPLACED, "replaced by a newer connection of the same session")

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
        if session.life is not None and session.agent is not None:
            key = (session.agent, session.life)
            if self._lives.get(key) is session:
                del self._lives[key]

    def lost(self, session: Session) -> None:
        """The socket of a session is gone."""
        self.open.pop(session, None)
        if not self.open:
            self._gone.set()

    def open_topic(self, name: str) -> tuple[Shard, Topic]:
        """The topic to publish to, and the shard that owns it.

        Raises:
            BadName: if it is not a topic.
            Refusal: if its group is the broker's own.
        """
        check_topic(name)
        if is_reserved(name):
            raise Refusal(ErrorCode.FORBIDDEN, f"{group_of(name)!r} is the broker's own group: only it publishes there")
        shard = self.shard_of(group_of(name))
        return shard, shard.topic(name)

    def admit(self, agent: str, pub: Pub, payload: bytes | None = None) -> None:
        """Check one publish against the limits that are the same at every door.

        Raises:
            Refusal: naming the limit.
            BadName: if a name in it is none.
        """
        if self.draining:
            message = "the broker is stopping: reconnect"
            raise Refusal(ErrorCode.SHUTTING_DOWN, message, self.settings.reconnect_spread)
        check_publish(pub)
        if self._limits_rate:
            size = len(pub.data) if payload is None else len(payload)
            _require(self.guard.admit_publish(agent, group_of(pub.topic), size))

    def admit_send(self, agent: str) -> None:
        """Count a message to an inbox.

        Raises:
            Refusal: if that is more than `send_rate`.
        """
        _require(self.guard.admit_send(agent))

    def admit_broadcast(self, agent: str) -> None:
        """Count a message to all.

        Raises:
            Refusal: if that is more than `broadcast_rate`.
        """
        _require(self.guard.admit_broadcast(agent))


def _require(denial: Denial | None) -> None:
    if denial is not None:
        raise Refusal(denial.code, denial.message, denial.retry_after)
