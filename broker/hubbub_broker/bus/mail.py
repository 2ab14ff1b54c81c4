"""Mail: a message of type `mail` into an agent's inbox, or into everybody's.

A mail to ALL is a promise first: who gets it, and what, is one record. When that is on stable storage each copy is
published under the same id. A broker that crashes in between publishes all of them again when it is back, and the
inboxes' dedup takes each once: so everybody gets it, or (no record) nobody.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from hubbub_broker.kinds import StateKind
from hubbub_broker.log import LogError
from hubbub_broker.logs import get_logger
from hubbub_broker.peers import Way
from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import RETRY_SECONDS, Answer, Publisher, Shard
from hubbub_protocol.codec import encode_value
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import NO_DATA, Err, Ok, Pub

from .agents import AgentRecord, Agents, durable

ALL = "ALL"
"""Stands for every registered agent but the sender."""

MAIL = "mail"
"""The `type` of a mail."""

TO_ALL = "_hubbub/broadcast"
"""What stands for the topic of a mail to ALL where one is wanted."""

COPIES_AT_ONCE = 500
"""Copies of a mail to ALL that are on their way to the disk at a time."""

log = get_logger(__name__)


class Limits(Protocol):
    """The limits that are the same at every door. Each raises Refusal."""

    def admit(self, agent: str, pub: Pub) -> None:
        """Check one publish."""

    def admit_send(self, agent: str) -> None:
        """Count a message to an inbox."""

    def admit_broadcast(self, agent: str) -> None:
        """Count a message to all."""


class Sent(NamedTuple):
    """What became of a mail."""

    id: str
    to: str
    seq: int | None
    """Its place in the inbox; None for ALL."""
    recipients: int | None
    """How many got it, for ALL."""
    dup: bool


class _Round(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A mail to ALL, as it stands in the log."""

    data: msgspec.Raw = NO_DATA
    to: list[tuple[str, str]] = []
    """Inboxes of its recipients, and their names; empty once all have it."""
    recipients: int
    ts: float
    headers: msgspec.Raw = NO_DATA
    ttl: float | None = None
    done: bool = False


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[_Round] = msgspec.json.Decoder(_Round)


class Mail:
    """Sends mail. A `Ledger` of the shard that keeps the rounds to ALL."""

    def __init__(
        self,
        agents: Agents,
        home: Shard,
        way_to: Callable[[str], Way],
        limits: Limits,
        *,
        window: float,
        loop: AbstractEventLoop,
        clock: Callable[[], float],
    ) -> None:
        self._agents = agents
        self._home = home
        self._way_to = way_to
        self._limits = limits
        self._window = window
        self._loop = loop
        self._clock = clock
        self._rounds: dict[bytes, _Round] = {}
        self._dirty: dict[bytes, None] = {}
        self._writing: list[bytes] = []
        self._under_way: dict[bytes, asyncio.Task[None]] = {}
        for key, body in home.log.states(StateKind.BROADCAST):
            try:
                self._rounds[key] = _decoder.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                log.warning("mail to ALL unreadable", reason=str(error))
        home.batch.ledgers.append(self)

    def resume(self) -> None:
        """Finish what a crash left under way."""
        for key, round in self._rounds.items():
            if not round.done:
                self._go_round(key, round)

    async def close(self) -> None:
        """Stop; what is under way goes on when the broker is back."""
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    # To one ---------------------------------------------------------------------------------------------------------

    def recipient(self, name: str, *, create: bool) -> AgentRecord:
        """Whose inbox a mail goes to.

        Raises:
            Refusal: `not_found`: nobody is registered under that name, and it is not to be created.
            BadName: if the name is none.
        """
        record = self._agents.get(name)
        if record is not None:
            return record
        if not create:
            raise Refusal(
                ErrorCode.NOT_FOUND,
                f"no agent {name!r} is registered: it is by its first hello or by reading its inbox; "
                "or send with `create` to keep the mail for it",
            )
        return self._agents.seen(name)

    async def send(
        self,
        sender: str,
        to: str,
        data: dict[str, Any],
        id: str,
        *,
        create: bool = False,
        ttl: float | None = None,
        parent: str | None = None,
        headers: dict[str, Any] | None = None,
    ) -> Sent:
        """Send a mail; returns when it is on stable storage. The same id from the same sender is sent once.

        Raises:
            Refusal: why it was not taken.
            BadName: if a name is none.
        """
        raw_headers = msgspec.Raw(encode_value(headers)) if headers else NO_DATA
        raw = msgspec.Raw(encode_value(data))
        if to == ALL:
            to_all = Pub(topic=TO_ALL, id=id, data=raw, headers=raw_headers, ttl=ttl)
            self._limits.admit(sender, to_all)
            return await self.send_to_all(sender, to_all)
        record = self.recipient(to, create=create)
        pub = Pub(topic=record.inbox, id=id, type=MAIL, data=raw, ttl=ttl, parent=parent, headers=raw_headers)
        self._limits.admit_send(sender)
        self._limits.admit(sender, pub)
        frame = await self._publish(sender, pub)
        if isinstance(frame, Err):
            raise Refusal(ErrorCode(frame.code), frame.message, frame.retry_after)
        return Sent(id, to, frame.seq, None, frame.dup)

    async def _publish(self, sender: str, pub: Pub, *, promised: bool = False) -> Ok | Err:
        shard = self._way_to(pub.topic.partition("/")[0])
        answer = Answer(self._loop)
        try:
            publisher = Publisher(sender, None, shard.topic(pub.topic))
            publisher.promised = promised
            shard.publish(publisher, pub, None, answer)
        except LogError as error:
            return Err(code=ErrorCode.INTERNAL, message=f"the log could not be read: {error}", retry_after=1.0)
        return await answer.wait()

    # To all ---------------------------------------------------------------------------------------------------------

    async def send_to_all(self, sender: str, pub: Pub) -> Sent:
        """Send a mail to every agent that is registered now, but the sender; returns when every copy is on stable
        storage. Of `pub`, which was admitted, its id, data, headers and time-to-live count.

        Raises:
            Refusal: nobody gets it; or (`internal`) not all have it yet, and the broker goes on with it.
        """
        id = pub.id
        key = f"{sender}\0{id}".encode()
        round = self._rounds.get(key)
        dup = round is not None
        if round is None:
            to = [(record.inbox, record.name) for record in self._agents if record.name != sender]
            self._check_schemas(pub, [inbox for inbox, _ in to])
            self._limits.admit_broadcast(sender)
            round = self._rounds[key] = _Round(
                data=pub.data, to=to, recipients=len(to), ts=self._clock(), headers=pub.headers or NO_DATA, ttl=pub.ttl
            )
            self._dirty[key] = None
            try:
                await durable(self._home, self._loop)
            except Refusal:
                del self._rounds[key]
                self._dirty.pop(key, None)
                raise
        if not round.done:
            task = self._under_way.get(key) or self._go_round(key, round)
            await asyncio.shield(task)
        return Sent(id, ALL, None, round.recipients, dup)

    def _check_schemas(self, pub: Pub, inboxes: list[str]) -> None:
        """Everybody or nobody: what one inbox would refuse is not promised to the others."""
        for inbox in inboxes:
            copy = Pub(topic=inbox, id=pub.id, type=MAIL, data=pub.data)
            misfit = self._home.misfit(copy)  # schemas are the same everywhere
            if misfit is not None:
                raise Refusal(ErrorCode.BAD_REQUEST, misfit)

    def _go_round(self, key: bytes, round: _Round) -> asyncio.Task[None]:
        task = self._loop.create_task(self._deliver(key, round), name="mail to ALL")
        self._under_way[key] = task
        task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return task

    async def _deliver(self, key: bytes, round: _Round) -> None:
        sender, id = key.decode().split("\0")
        for begin in range(0, len(round.to), COPIES_AT_ONCE):
            copies = round.to[begin : begin + COPIES_AT_ONCE]
            await asyncio.gather(*(self._copy(sender, id, inbox, round) for inbox, _ in copies))
        round.done, round.to, round.data, round.headers = True, [], NO_DATA, NO_DATA  # these are left out, when written
        self._dirty[key] = None
        self._home.batch.want()

    async def _copy(self, sender: str, id: str, inbox: str, round: _Round) -> None:
        """Publish one copy, however long the disk is full: the promise is made."""
        while True:
            ttl = round.ttl
            if ttl is not None:  # it counts from when the mail was sent, whatever came in between
                ttl -= max(0.0, self._clock() - round.ts)
                if ttl <= 0:
                    return
            pub = Pub(topic=inbox, id=id, type=MAIL, data=round.data, headers=round.headers, ttl=ttl)
            frame = await self._publish(sender, pub, promised=True)
            if isinstance(frame, Ok):
                return
            if not ErrorCode(frame.code).retryable:
                log.warning("mail not delivered", topic=inbox, code=frame.code, reason=frame.message)
                return
            await asyncio.sleep(frame.retry_after or RETRY_SECONDS)

    def age(self, now: float) -> None:
        """Forget the rounds whose dedup window is over. Called now and then."""
        for key, round in list(self._rounds.items()):
            if round.done and round.ts + self._window < now:
                del self._rounds[key]
                self._dirty[key] = None
        if self._dirty:
            self._home.batch.want()

    # In the log (Ledger) --------------------------------------------------------------------------------------------

    def write(self) -> bool:
        """Append what has changed."""
        if not self._dirty or self._home.log.failed is not None:
            return False
        for key in self._dirty:
            round = self._rounds.get(key)
            self._home.log.append_state(StateKind.BROADCAST, key, b"" if round is None else _encoder.encode(round))
            self._writing.append(key)
        self._dirty.clear()
        return True

    def written(self, *, durable: bool) -> None:
        """What was appended is on stable storage, or was taken back."""
        if not durable:
            self._dirty.update(dict.fromkeys(key for key in self._writing if key in self._rounds))
        self._writing.clear()
