"""Presence: who is in a topic, and who comes and goes.

What one reads is ordinary: the broker tells whoever reads a topic of each `join` and `leave`, by ephemeral messages of
type `presence`. What is asked of the broker is to be present (`join`), whose answer says who is there; it is asked
again on every new connection, and whenever signals may have been missed. What differs from what was known is told as
events, so that the set and the events always agree.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Literal, NamedTuple, Self

from hubbub_protocol.frames import Err, Gap, Join, Leave, Ok

from . import policy
from .backoff import Backoff
from .errors import HubbubError, MessageDecodeError, fresh
from .link import Link
from .message import Message
from .stopping import cancel_and_wait
from .subscription import Subscriber, Subscription

logger = logging.getLogger("hubbub")

PRESENCE = "presence"
"""The `type` of the broker's signals."""

EVENTS_MAX = 10_000
"""Events that wait for whoever iterates; beyond that the oldest go."""

RETRY = Backoff(base=0.5, cap=30.0)
"""How long a `join` that the broker can't take now is put off, when the broker does not say."""


class PresenceEvent(NamedTuple):
    """Somebody came, or went."""

    kind: Literal["join", "leave"]
    agent: str


class Presence:
    """An agent's presence in a topic, and its view of who else is there. An iterator over what changes.

        async with conv.presence() as here:
            print(here.agents)
            async for event in here:
                print(event.agent, event.kind)

    After `async with` (or `ready()`) the broker has taken it. While it is away, `agents` is what was known last.
    """

    def __init__(self, topic: str, subscriber: Subscriber, attendance: "Attendance") -> None:
        self._topic = topic
        self._subscriber = subscriber
        self._attendance = attendance
        self._agents: set[str] = set()
        self._events: deque[PresenceEvent] = deque(maxlen=EVENTS_MAX)
        self._changed = asyncio.Event()
        self._known = asyncio.Event()
        self._listeners: list[Callable[[PresenceEvent], None]] = []
        self._subscription: Subscription | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ended = False
        self.error: BaseException | None = None
        """What ended it, if something did."""

    @property
    def topic(self) -> str:
        """The topic."""
        return self._topic

    @property
    def agents(self) -> frozenset[str]:
        """Who is there, this agent among them."""
        return frozenset(self._agents)

    def on_change(self, listener: Callable[[PresenceEvent], None]) -> None:
        """Call `listener(event)`, in the event loop, for all who come and go from now on."""
        self._listeners.append(listener)

    async def ready(self) -> None:
        """Wait until the broker has said who is there.

        Raises:
            HubbubError: what ended it instead.
        """
        await self._known.wait()
        self._check()

    def open(self) -> None:
        """Come, as soon as the broker is there. Idempotent."""
        if self._reading is None and not self._ended:
            self._subscription = self._subscriber.subscribe(self._topic, on_gap=self._missed)
            self._reading = asyncio.create_task(self._read(self._subscription), name=f"hubbub-presence-{self._topic}")

    async def close(self) -> None:
        """Go. Idempotent."""
        self._end(None)
        if self._reading is not None:
            await cancel_and_wait(self._reading)
        if self._subscription is not None:
            await self._subscription.dismiss()

    async def __aenter__(self) -> Self:
        self.open()
        try:
            await self.ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PresenceEvent:
        while not self._events:
            if self._ended:
                self._check()
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._events.popleft()

    # ------------------------------------------------------------------------------------------------------------

    async def _read(self, subscription: Subscription) -> None:
        try:
            await subscription.ready()  # only then: a signal that comes later than the broker's answer must be heard
            self._attendance.add(self)
            async for message in subscription:
                if message.type == PRESENCE:
                    self._heard(message)
        except HubbubError as error:
            self._end(error)
        else:
            self._end(None)

    def _heard(self, message: Message) -> None:
        try:
            data = message.data
        except MessageDecodeError:
            return
        match data:
            case {"event": "join" | "leave" as kind, "agent": str(agent)} if agent == message.sender:
                self._attendance.doubt(self)
                self._set(kind, agent)

    def _set(self, kind: Literal["join", "leave"], agent: str) -> None:
        if (kind == "join") == (agent in self._agents):
            return
        (self._agents.add if kind == "join" else self._agents.discard)(agent)
        event = PresenceEvent(kind, agent)
        self._events.append(event)
        self._changed.set()
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                logger.exception("! a listener to the presence in %s failed", self._topic)

    def _missed(self, _gap: Gap) -> None:
        self._attendance.ask(self)

    def answered(self, present: list[str]) -> None:
        """The broker says who is there."""
        for agent in sorted(self._agents.difference(present)):
            self._set("leave", agent)
        for agent in present:
            self._set("join", agent)
        self._known.set()

    def refused(self, error: HubbubError) -> None:
        """The broker will not have it there."""
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self._ended:
            return
        self._ended = True
        self.error = error
        self._attendance.remove(self)
        self._known.set()
        self._changed.set()

    def _check(self) -> None:
        if self.error is not None:
            raise fresh(self.error)


class Attendance:
    """All topics in which an agent is present. It says so on its main connection."""

    def __init__(self) -> None:
        self._link: Link | None = None
        self._present: dict[str, list[Presence]] = {}
        self._asked: dict[str, bool] = {}
        """Topics about which the broker is asked; True: what it answers may be stale."""
        self._refusals: dict[str, int] = {}
        self._retries: dict[str, asyncio.TimerHandle] = {}

    def link_up(self, link: Link) -> None:
        """Come again."""
        self.link_down()  # what was asked on another connection has no answer
        self._link = link
        for topic in self._present:
            self._ask(topic)

    def link_down(self) -> None:
        """The broker has seen this agent leave."""
        self._link = None
        self._asked.clear()
        self._refusals.clear()
        for timer in self._retries.values():
            timer.cancel()
        self._retries.clear()

    def add(self, presence: Presence) -> None:
        """One more."""
        self._present.setdefault(presence.topic, []).append(presence)
        self._ask(presence.topic)

    def remove(self, presence: Presence) -> None:
        """One fewer; with the last one the agent leaves."""
        topic = presence.topic
        here = self._present.get(topic, [])
        if presence not in here:
            return
        here.remove(presence)
        if not here:
            del self._present[topic]
            timer = self._retries.pop(topic, None)
            if timer is not None:
                timer.cancel()
            if self._link is not None:
                self._link.ask(lambda rid: Leave(topic=topic, rid=rid), _ignore)

    def ask(self, presence: Presence) -> None:
        """Something may have been missed."""
        if presence.topic in self._present:
            self._ask(presence.topic)

    def doubt(self, presence: Presence) -> None:
        """A signal came: an answer that is on its way may be older."""
        if presence.topic in self._asked:
            self._asked[presence.topic] = True

    def _ask(self, topic: str) -> None:
        self._retries.pop(topic, None)
        if self._link is None:
            return
        if topic in self._asked:
            self._asked[topic] = True
            return
        self._asked[topic] = False
        link = self._link
        link.ask(lambda rid: Join(topic=topic, rid=rid), lambda answer: self._answered(link, topic, answer))

    def _answered(self, link: Link, topic: str, answer: Ok | Err) -> None:
        if link is not self._link:
            return
        stale = self._asked.pop(topic, False)
        here = self._present.get(topic, [])
        if not here:
            return
        if isinstance(answer, Ok):
            self._refusals.pop(topic, None)
            for presence in tuple(here):
                presence.answered(answer.present or [])
            if stale and topic in self._present:
                self._ask(topic)
        elif policy.is_retryable(answer.code):
            count = self._refusals.get(topic, 0)
            self._refusals[topic] = count + 1
            delay = RETRY.ceiling(count) if answer.retry_after is None else answer.retry_after
            loop = asyncio.get_running_loop()
            self._retries[topic] = loop.call_later(delay, self._ask, topic)
        else:
            error = policy.rejection_of(answer)
            for presence in tuple(here):
                presence.refused(error)


def _ignore(_answer: Ok | Err) -> None:
    """Leaving is sure, whatever the broker says to it."""
