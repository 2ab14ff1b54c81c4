"""The consumers of one connection: which of them a frame is for."""

import logging
from collections.abc import Iterable, Iterator

from hubbub_protocol import names
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err, Gap, Live, Msg

from . import policy
from .consumer import Consumer, ConsumerSpec
from .errors import Conflict
from .link import Link

logger = logging.getLogger("hubbub")

ROUTES_MAX = 100_000
"""Topics for which it is remembered whose they are."""


def check_apart(specs: Iterable[ConsumerSpec], name: str, topic: str) -> None:
    """Make sure that one more consumer shares no messages with any of these.

    Raises:
        Conflict: it does.
    """
    for spec in specs:
        if spec.name == name and names.overlap(spec.topic, topic):
            raise _conflict(spec)


def _conflict(spec: ConsumerSpec) -> Conflict:
    text = f"this agent is in consumer {spec.name} of {spec.topic} already: drain that, or take another name"
    return Conflict(text, ErrorCode.CONFLICT)


class ConsumerTable:
    """An agent's consumers. They all live on its main connection: a message says whose it is."""

    def __init__(self) -> None:
        self._consumers: dict[tuple[str, str], Consumer] = {}
        self._routes: dict[tuple[str, str], Consumer] = {}
        self._link: Link | None = None

    def __iter__(self) -> Iterator[Consumer]:
        return iter(tuple(self._consumers.values()))

    def __len__(self) -> int:
        return len(self._consumers)

    def check(self, name: str, topic: str) -> None:
        """Make sure that a message's topic and consumer say whose it is.

        Raises:
            Conflict: another one here would share messages with it.
        """
        same = self._consumers.get((name, topic))  # asked for by that name, whatever it stands for by now
        if same is not None:
            raise _conflict(same.spec)
        check_apart((consumer.spec for consumer in self), name, topic)

    def add(self, consumer: Consumer) -> None:
        """One more."""
        spec = consumer.spec
        self._consumers[spec.name, spec.topic] = consumer
        if self._link is not None:
            consumer.link_up(self._link)

    def remove(self, consumer: Consumer) -> None:
        """It is over."""
        self._consumers = {key: other for key, other in self._consumers.items() if other is not consumer}
        self._routes = {key: other for key, other in self._routes.items() if other is not consumer}

    def link_up(self, link: Link) -> None:
        """Everything settles and asks again."""
        self._link = link
        for consumer in self:
            consumer.link_up(link)

    def link_down(self) -> None:
        """Nothing is on the wire any more."""
        self._link = None
        for consumer in self:
            consumer.link_down()

    def deliver(self, frame: Msg, payload: bytes | None = None) -> None:
        """A message came. One for a consumer that has ended is the broker's again by now."""
        assert frame.consumer is not None
        consumer = self._find(frame.consumer, frame.topic)
        if consumer is not None:
            consumer.deliver(frame, payload)

    def live(self, frame: Live) -> None:
        """A consumer has nothing left from before."""
        assert frame.consumer is not None
        consumer = self._consumers.get((frame.consumer, frame.topic)) or self._find(frame.consumer, frame.topic)
        if consumer is not None:
            consumer.came_alive(frame)

    def gap(self, frame: Gap) -> None:
        """A consumer will not get some messages."""
        assert frame.consumer is not None
        consumer = self._find(frame.consumer, frame.topic)
        if consumer is not None:
            consumer.gap(frame)

    def told(self, frame: Err) -> None:
        """What the broker says unasked: a message is another's now; or the consumer is no more."""
        if frame.consumer is None or frame.topic is None:
            return
        if frame.seq is None:
            named = (frame.consumer, frame.topic)
            ended = next((each for each in self if (each.spec.name, each.spec.topic) == named), None)
            if ended is not None:
                logger.warning("! %r ends: %s", ended, frame.message)
                ended.end(policy.rejection_of(frame))
            return
        consumer = self._find(frame.consumer, frame.topic)
        if consumer is not None:
            consumer.conflict(frame.topic, frame.seq)

    def stop(self, error: BaseException) -> None:
        """The agent is at its end."""
        for consumer in self:
            consumer.stop(error)
        self._consumers.clear()
        self._routes.clear()

    def _find(self, name: str, topic: str) -> Consumer | None:
        found = self._routes.get((name, topic))
        if found is not None:
            return found
        for consumer in self._consumers.values():
            if consumer.spec.name == name and consumer.matches(topic):
                if len(self._routes) >= ROUTES_MAX:
                    self._routes.clear()
                self._routes[name, topic] = consumer
                return consumer
        return None
