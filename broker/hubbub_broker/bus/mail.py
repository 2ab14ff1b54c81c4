"""Mail: a message of type `mail` into an agent's inbox; `to_all` puts one into everybody's."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from hubbub_broker.log import LogError
from hubbub_broker.peers import Way
from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import Answer, Publisher, Shard
from hubbub_protocol.codec import encode_value
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import NO_DATA, Err, Ok, Pub
from hubbub_protocol.names import MAIL

from .agents import AgentRecord, Agents
from .limits import Limits
from .to_all import ToAll

ALL = "ALL"
"""Stands for every registered agent but the sender."""

TO_ALL = "_hubbub/broadcast"
"""What stands for the topic of a mail to ALL where one is wanted."""


class Sent(NamedTuple):
    """What became of a mail."""

    id: str
    to: str
    seq: int | None
    """Its place in the inbox; None for ALL."""
    recipients: int | None
    """How many got it, for ALL."""
    dup: bool


class Mail:
    """Sends mail."""

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
        self._way_to = way_to
        self._limits = limits
        self._loop = loop
        self._all = ToAll(agents, home, self._publish, limits, window=window, loop=loop, clock=clock)

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
        data: msgspec.Raw,
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
        if to == ALL:
            to_all = Pub(topic=TO_ALL, id=id, data=data, headers=raw_headers, ttl=ttl)
            self._limits.admit(sender, to_all)
            return await self.send_to_all(sender, to_all)
        record = self.recipient(to, create=create)
        pub = Pub(topic=record.inbox, id=id, type=MAIL, data=data, ttl=ttl, parent=parent, headers=raw_headers)
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
        """Send a mail to every agent that is registered now, but the sender: see `ToAll.send`."""
        recipients, dup = await self._all.send(sender, pub)
        return Sent(pub.id, ALL, None, recipients, dup)

    def resume(self) -> None:
        """Finish what a crash left under way."""
        self._all.resume()

    def age(self, now: float) -> None:
        """Forget what is over. Called now and then."""
        self._all.age(now)

    async def close(self) -> None:
        """Stop; what is under way goes on when the broker is back."""
        await self._all.close()
