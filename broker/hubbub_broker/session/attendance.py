"""Where a connection's agent is present, and what is to be said for it if the connection is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hubbub_broker.access import Identity, Operation
from hubbub_broker.bus import Presence
from hubbub_broker.refusal import Refusal
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Pub, Will
from hubbub_protocol.names import check_topic, is_hidden, is_reserved

from .admission import check_publish

if TYPE_CHECKING:
    from .session import Session
    from .sessions import Sessions

WILL_DELAY_MAX = 3600.0
"""Seconds that a will may wait for its agent to come back."""


def check_join(topic: str, session: Session) -> None:
    """See that an agent may be present in a topic: that it may read what is said there.

    Coming and going is said there in its name. In a conversation of a group that is its readers' to say; elsewhere (an
    inbox, what is the broker's own) it takes what a `pub` takes.

    Raises:
        Refusal: it may not.
        BadName: it is no topic.
    """
    session.require(Operation.SUBSCRIBE, check_topic(topic))
    if is_reserved(topic) or is_hidden(topic):
        session.require(Operation.PUBLISH, topic)


class Attendance:
    """The topics in which one connection is present. It leaves them all when it ends."""

    __slots__ = ("_agent", "_limit", "_presence", "_sessions", "_topics")

    def __init__(self, agent: str, presence: Presence, sessions: Sessions) -> None:
        self._agent = agent
        self._presence = presence
        self._sessions = sessions
        self._limit = sessions.settings.max_subscriptions
        self._topics: set[str] = set()

    def join(self, topic: str) -> Sequence[str]:
        """Come. Twice is as once. Who is there now, by name.

        Raises:
            Refusal: `overloaded`: this connection is in too many topics; `rate_limited`: the agent says too much.
            Elsewhere: the topic is another worker's.
        """
        present = self._presence.present(topic)
        if topic not in self._topics:
            if len(self._topics) >= self._limit:
                raise Refusal(
                    ErrorCode.OVERLOADED,
                    f"this connection is present in {self._limit} topics, the limit (max_subscriptions): leave some",
                    limit="max_subscriptions",
                )
            if self._agent not in present:
                self._sessions.admit_presence(self._agent, topic)
            self._presence.join(topic, self._agent)
            self._topics.add(topic)
            present = self._presence.present(topic)
        return present

    def leave(self, topic: str) -> None:
        """Go, if it is there. It always may; what it publishes afterwards pays for it."""
        if topic in self._topics:
            self._topics.discard(topic)
            if self._presence.leave(topic, self._agent):
                self._sessions.count_presence(self._agent)

    def lost(self) -> None:
        """The connection has ended."""
        for topic in list(self._topics):
            self.leave(topic)


def check_will(will: Will, sessions: Sessions, identity: Identity) -> None:
    """See that a will could be published as it stands by whoever leaves it.

    Raises:
        Refusal: it could not.
        BadName: its topic is none.
    """
    sessions.check_open(will.topic)
    why = sessions.access.why_not(identity, Operation.PUBLISH, will.topic)
    if why is not None:
        raise Refusal(ErrorCode.FORBIDDEN, why)
    check_publish(Pub(topic=will.topic, id="will", type=will.type, data=will.data))
    if not 0 <= will.delay <= WILL_DELAY_MAX:
        raise Refusal(ErrorCode.BAD_REQUEST, f"`will.delay` is 0 to {WILL_DELAY_MAX:.0f} seconds")
