"""Presence: who is in a topic; and last wills: what is said for an agent that dropped.

Both are the broker's memory only: after its restart the agents come back and say so again.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Sequence
from uuid import uuid4

import msgspec

from hubbub_broker.consumers import Confirm
from hubbub_broker.logs import get_logger
from hubbub_broker.peers import Way
from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import Publisher, Shard
from hubbub_protocol.codec import encode_value
from hubbub_protocol.frames import Err, Pub, Will
from hubbub_protocol.names import group_of

from .limits import Limits

PRESENCE = "presence"
"""The `type` of what tells that somebody came or went."""

PRESENCE_BYTES = 40
"""What such a message counts as, for rates in bytes: its data without the agent's name."""

log = get_logger(__name__)


class Presence:
    """Who is in which topic: the agents with a connection that has said so (`join`)."""

    def __init__(self, shard_of: Callable[[str], Shard]) -> None:
        self._shard_of = shard_of
        self._here: dict[str, dict[str, int]] = {}

    def join(self, topic: str, agent: str) -> None:
        """An agent has come. Those who are there are told, by an ephemeral message, unless it was there before.

        Raises:
            Elsewhere: the topic is another worker's.
        """
        self._shard_of(group_of(topic))
        agents = self._here.setdefault(topic, {})
        agents[agent] = agents.get(agent, 0) + 1
        if agents[agent] == 1:
            self._tell(topic, agent, "join")

    def leave(self, topic: str, agent: str) -> bool:
        """One connection of an agent has left. Those who are there are told when it was the last; whether it was."""
        agents = self._here.get(topic, {})
        left = agents.get(agent, 0) - 1
        if left > 0:
            agents[agent] = left
            return False
        if agent not in agents:
            return False
        del agents[agent]
        if not agents:
            del self._here[topic]
        self._tell(topic, agent, "leave")
        return True

    def present(self, topic: str) -> Sequence[str]:
        """Who is in a topic, by name.

        Raises:
            Elsewhere: the topic is another worker's.
        """
        self._shard_of(group_of(topic))
        return sorted(self._here.get(topic, ()))

    def _tell(self, topic: str, agent: str, event: str) -> None:
        data = msgspec.Raw(encode_value({"event": event, "agent": agent}))
        say(self._shard_of, agent, Pub(topic=topic, id=uuid4().hex, type=PRESENCE, data=data, ephemeral=True))


class Wills:
    """What agents want said if they drop and don't come back in time."""

    def __init__(
        self, way_to: Callable[[str], Way], here: Callable[[str], bool], limits: Limits, loop: AbstractEventLoop
    ) -> None:
        self._way_to = way_to
        self._limits = limits
        self._here = here
        self._loop = loop
        self._due: dict[str, tuple[TimerHandle, Will]] = {}

    def dropped(self, agent: str, will: Will) -> None:
        """An agent's connection was lost, and it has no other."""
        self.back(agent)
        self._due[agent] = (self._loop.call_later(will.delay, self._speak, agent), will)

    def back(self, agent: str) -> None:
        """It is here again."""
        found = self._due.pop(agent, None)
        if found is not None:
            found[0].cancel()

    def _speak(self, agent: str) -> None:
        _, will = self._due.pop(agent)
        if self._here(agent):
            return
        pub = Pub(
            topic=will.topic,
            id=uuid4().hex,
            type=will.type or "will",
            data=will.data or msgspec.Raw(b"null"),
            ephemeral=will.ephemeral,
        )
        try:
            self._limits.admit(agent, pub)
        except Refusal as refusal:  # it is a message of the agent's as any other, and waits until there is room for it
            if refusal.retry_after is not None:
                self._due[agent] = (self._loop.call_later(refusal.retry_after, self._speak, agent), will)
            return
        say(self._way_to, agent, pub)

    def close(self) -> None:
        """Say nothing any more."""
        for timer, _ in self._due.values():
            timer.cancel()
        self._due.clear()


def say(way_to: Callable[[str], Way], agent: str, pub: Pub) -> None:
    """Publish what an agent would have said itself. What the shard refuses is logged."""

    def answered(error: Err | None) -> None:
        if error is not None:
            log.warning("not published", topic=pub.topic, type=pub.type, reason=error.message)

    shard = way_to(group_of(pub.topic))
    shard.publish(Publisher(agent, None, shard.topic(pub.topic)), pub, None, Confirm(answered))
