"""Mail to ALL: everybody who is registered now gets it, or nobody.

It is a promise first: who gets it, and what, is one record. When that is on stable storage each copy is published under
the same id. A broker that crashes in between publishes all of them again when it is back, and the inboxes' dedup takes
each once: so everybody gets it, or (no record) nobody.

Whether it may be promised is asked before: what its sender can mend (a schema, a size, a time-to-live that an inbox
does not take) refuses it for all, and the guard looks at it once, as a message to `_mail/@ALL`. The copies are the
broker's own work: no rule, rate or budget of an inbox stops one that is promised.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from hubbub_broker.guard import Memory
from hubbub_broker.kinds import StateKind
from hubbub_broker.logs import get_logger
from hubbub_broker.policy import TopicPolicy
from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import RETRY_SECONDS, Shard
from hubbub_protocol.codec import encode, reader_of
from hubbub_protocol.errors import BadFrame, ErrorCode
from hubbub_protocol.frames import NO_DATA, Err, Msg, Ok, Pub
from hubbub_protocol.limits import LAMPORT_MAX
from hubbub_protocol.names import MAIL, MAIL_TO_ALL

from .agents import Agents, durable
from .limits import Limits

COPIES_AT_ONCE = 500
"""Copies of a mail to ALL that are on their way to the disk at a time."""

log = get_logger(__name__)


class Publish(Protocol):
    """Publishes one copy, wherever its inbox is; the answer comes when it is on stable storage."""

    async def __call__(self, sender: str, pub: Pub, *, promised: bool) -> Ok | Err:
        """Publish."""


class SentToAll(NamedTuple):
    """What became of a mail to ALL."""

    recipients: int
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


@dataclass(slots=True)
class _Everybody:
    """What the guard sees as the conversation."""

    policy: TopicPolicy
    name: str = MAIL_TO_ALL
    memory: Memory | None = None


_encoder = msgspec.json.Encoder()
_round_of = reader_of(_Round)


class ToAll:
    """Sends mail to ALL. A `Ledger` of the shard that keeps the rounds."""

    def __init__(
        self,
        agents: Agents,
        home: Shard,
        publish: Publish,
        limits: Limits,
        *,
        window: float,
        loop: AbstractEventLoop,
        clock: Callable[[], float],
    ) -> None:
        self._agents = agents
        self._home = home
        self._publish = publish
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
                self._rounds[key] = _round_of(body)
            except BadFrame as error:
                log.warning("mail to ALL unreadable", reason=str(error))
        home.batch.ledgers.append(self)

    def resume(self) -> None:
        """Finish what a crash left under way."""
        for key, round in self._rounds.items():
            if not round.done:
                self._begin(key, round, promised=True)

    async def close(self) -> None:
        """Stop; what is under way goes on when the broker is back."""
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def send(self, sender: str, pub: Pub) -> SentToAll:
        """Send a mail to every agent that is registered now, but the sender; returns when every copy is on stable
        storage. Of `pub`, which was admitted, its id, data, headers and time-to-live count.

        Raises:
            Refusal: nobody gets it; or (`internal`) not all have it yet, and the broker goes on with it.
        """
        key = f"{sender}\0{pub.id}".encode()
        round = self._rounds.get(key)
        dup = round is not None
        if round is None:
            to = [(record.inbox, record.name) for record in self._agents if record.name != sender]
            pub = self._check(sender, pub, [inbox for inbox, _ in to])
            round = self._rounds[key] = _Round(
                data=pub.data.copy(),
                to=to,
                recipients=len(to),
                ts=self._clock(),
                headers=pub.headers.copy() if pub.headers else NO_DATA,
                ttl=pub.ttl,
            )
            self._dirty[key] = None
            self._begin(key, round, promised=False)
        if not round.done:
            # Whoever sends it again meanwhile waits for the same promise, and hears the same of it.
            await asyncio.shield(self._under_way.get(key) or self._begin(key, round, promised=True))
        return SentToAll(round.recipients, dup)

    # May it be promised? --------------------------------------------------------------------------------------------

    def _check(self, sender: str, pub: Pub, inboxes: Sequence[str]) -> Pub:
        """Everybody or nobody: what one inbox would refuse is not promised to the others. What the copies are made of.

        Raises:
            Refusal: naming the first inbox that does not take it, and why; or the limit of the sender.
        """
        for inbox in inboxes:
            misfit = self._home.misfit(Pub(topic=inbox, id=pub.id, type=MAIL, data=pub.data))
            if misfit is not None:
                raise Refusal(ErrorCode.BAD_REQUEST, f"{inbox} does not take it, so nobody gets it: {misfit}")
        self._check_sizes(sender, pub, inboxes)
        pub = self._limits.admit_broadcast(sender, pub, self._clock())
        everybody = _Everybody(self._home.policies.of(MAIL_TO_ALL))
        if pub.headers or pub.parent is not None or everybody.policy.watches_all:
            denial = self._home.guard.admit(everybody, sender, pub, None, self._home.batch.mark_time())
            if denial is not None:
                raise Refusal(denial.code, denial.message, denial.retry_after)
        return pub

    def _check_sizes(self, sender: str, pub: Pub, inboxes: Sequence[str]) -> None:
        policies = self._home.policies  # they, and schemas, are the same at every worker
        copy = Msg(topic="", id=pub.id, sender=sender, ts=self._clock(), lc=LAMPORT_MAX, data=pub.data, type=MAIL)
        size = len(encode(msgspec.structs.replace(copy, seq=LAMPORT_MAX, headers=pub.headers)))
        longest = max(map(len, inboxes), default=0)
        if policies.take_everywhere(size + longest, pub.ttl):
            return
        for inbox in inboxes:
            policy = policies.of(inbox)
            if size + len(inbox) > policy.max_message:
                message = f"takes {size + len(inbox)} bytes there; the limit (max_message) is {policy.max_message}"
                raise Refusal(ErrorCode.TOO_LARGE, f"{inbox} does not take it, so nobody gets it: it {message}")
            if pub.ttl is not None and 0 < policy.max_ttl < pub.ttl:
                message = f"`ttl` is {pub.ttl:g} s; the limit there (max_ttl) is {policy.max_ttl:g} s"
                raise Refusal(ErrorCode.BAD_REQUEST, f"{inbox} does not take it, so nobody gets it: {message}")

    # Keeping the promise --------------------------------------------------------------------------------------------

    def _begin(self, key: bytes, round: _Round, *, promised: bool) -> asyncio.Task[None]:
        task = self._loop.create_task(self._carry_out(key, round, promised), name="mail to ALL")
        self._under_way[key] = task
        task.add_done_callback(lambda task: self._ended(key, task))
        return task

    def _ended(self, key: bytes, task: asyncio.Task[None]) -> None:
        if self._under_way.get(key) is task:
            del self._under_way[key]
        if not task.cancelled():
            task.exception()  # whoever waits has it; nobody may

    async def _carry_out(self, key: bytes, round: _Round, promised: bool) -> None:
        if not promised:
            try:
                await durable(self._home, self._loop)
            except Refusal:
                del self._rounds[key]
                self._dirty[key] = None  # it may have got into the log by a later batch
                self._home.batch.want()
                raise
        try:
            await self._deliver(key, round)
        except Exception as error:
            log.exception("mail to ALL not delivered", reason=str(error))
            message = "not all have it yet; the broker's log says why, and it goes on when it is asked again"
            raise Refusal(ErrorCode.INTERNAL, message, RETRY_SECONDS) from None

    async def _deliver(self, key: bytes, round: _Round) -> None:
        sender, _, id = key.decode().partition("\0")  # the id is its sender's own, and may have a NUL in it
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
            self._dirty.update(dict.fromkeys(self._writing))
        self._writing.clear()
