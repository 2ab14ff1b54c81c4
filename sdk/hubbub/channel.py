"""One connection's worth of work: its subscriptions and, on the main one, the publishes and the consumers.

An agent has one channel, and more ("side links") only while several of its subscriptions need the same topic at
different places: see `switchboard`.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hubbub_protocol.frames import BrokerFrame, Err, Gap, Live, Msg, Ok, Receipt, Skip

from .backoff import Backoff
from .consumers import ConsumerTable
from .control.lines import Lines
from .errors import Refused
from .feed import FeedTable, Reporter, size_of
from .link import Ending, Endpoint, Link
from .message import Message, Publisher
from .sender import Sender
from .stats import Stats
from .supervisor import Supervisor
from .transport import Transport

logger = logging.getLogger("hubbub")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every channel of an agent needs."""

    transport: Transport
    backoff: Backoff
    source: random.Random
    stats: Stats
    publisher: Publisher
    saw: Callable[[int], None]
    """Learns the Lamport timestamps of what comes in."""
    outcome: Callable[[Receipt], None]
    """Learns what became of published messages."""


class ChannelOwner(Reporter, Protocol):
    """Who has channels."""

    def channel_up(self, channel: "Channel") -> None:
        """It is connected."""

    def channel_down(self, channel: "Channel", reason: str) -> None:
        """It is not connected any more."""

    def channel_failed(self, channel: "Channel", reason: str) -> None:
        """An attempt to connect failed."""

    def channel_refused(self, channel: "Channel", refusal: Refused) -> None:
        """The broker will not have it; no further attempt is made."""

    def channel_read(self, channel: "Channel") -> None:
        """A frame was taken in whole."""


class Channel:
    """A supervised connection, its feeds, and perhaps a sender."""

    def __init__(
        self,
        owner: ChannelOwner,
        endpoint: Endpoint,
        surroundings: Surroundings,
        sender: Sender | None = None,
        consumers: ConsumerTable | None = None,
        lines: Lines | None = None,
    ) -> None:
        """`lines` are what the agent hears by itself; a side link has none."""
        self._owner = owner
        self._sender = sender
        self._consumers = consumers if consumers is not None else ConsumerTable()
        self._lines = lines if lines is not None else Lines()
        self._outcome = surroundings.outcome
        self._stats = surroundings.stats
        self._publisher = surroundings.publisher
        self._saw = surroundings.saw
        loop = asyncio.get_running_loop()
        self.feeds = FeedTable(owner, loop.call_later, loop.time)
        self.supervisor = Supervisor(
            self,
            surroundings.transport,
            endpoint,
            backoff=surroundings.backoff,
            source=surroundings.source,
            stats=surroundings.stats,
        )

    @property
    def is_up(self) -> bool:
        """Whether it is connected."""
        return self.supervisor.link is not None

    def link_up(self, link: Link) -> None:
        """Subscribe first, then publish: an answer to what is published finds the subscription in place."""
        link.on_beat = self._beat
        link.on_parted = self._parted
        self._owner.channel_up(self)
        self.feeds.link_up(link)
        self._consumers.link_up(link)
        self._lines.link_up(link)
        if self._sender is not None:
            self._sender.link_up(link)

    def _parted(self, topics: set[str]) -> None:
        """These subscriptions are off the wire, though the connection goes on."""
        self.feeds.parted(topics)
        self._lines.parted(topics)

    def link_down(self, ending: Ending) -> None:
        self.feeds.link_down()
        self._consumers.link_down()
        self._lines.link_down()
        if self._sender is not None:
            self._sender.link_down()
        self._owner.channel_down(self, ending.reason or f"closed with code {ending.code}")

    def link_failed(self, reason: str) -> None:
        logger.info("! no connection: %s", reason)
        self._owner.channel_failed(self, reason)

    def link_refused(self, refusal: Refused) -> None:
        logger.error("! refused by the broker: %s", refusal)
        self._owner.channel_refused(self, refusal)

    def receive(self, frames: list[BrokerFrame]) -> None:
        """Take a batch of frames in. The hot path of everything that is received."""
        feeds = self.feeds
        routes = feeds.routes
        publisher = self._publisher
        own = self._lines.topics
        sender = self._sender
        stats = self._stats
        answers = False
        lc = received = 0
        for frame in frames:
            if isinstance(frame, Msg):
                if frame.consumer is not None:
                    self._consumers.deliver(frame)
                    received += 1
                    lc = max(lc, frame.lc)
                    continue
                if frame.topic in own:
                    self._lines.receive(frame)
                feed = routes.get(frame.topic) or feeds.find(frame.topic)
                if feed is None:
                    continue
                if feed.take(Message(frame, publisher), frame, size_of(frame)) >= 0:
                    received += 1
                else:
                    stats.duplicates += 1
                lc = max(lc, frame.lc)
            elif isinstance(frame, Ok | Err) and frame.rid is None and frame.id is not None and sender is not None:
                sender.answered(frame)
                answers = True
            else:
                self._control(frame)
        if answers:
            assert sender is not None
            sender.pumped()
        if received:
            stats.received += received
            self._saw(lc)
        self._owner.channel_read(self)

    def receive_binary(self, message: Msg, payload: bytes) -> None:
        """Take a message in whose payload is bytes."""
        if message.consumer is not None:
            self._consumers.deliver(message, payload)
            self._stats.received += 1
            self._saw(message.lc)
            return
        feed = self.feeds.find(message.topic)
        if feed is None:
            return
        size = size_of(message) + len(payload)
        if feed.take(Message(message, self._publisher, payload), message, size) >= 0:
            self._stats.received += 1
            self._saw(message.lc)
        else:
            self._stats.duplicates += 1
        self._owner.channel_read(self)

    def _control(self, frame: BrokerFrame) -> None:
        if isinstance(frame, Live):
            if frame.consumer is None:
                self._lines.live(frame.topic)
            (self.feeds if frame.consumer is None else self._consumers).live(frame)
        elif isinstance(frame, Gap):
            if frame.consumer is None:
                self._lines.gap(frame)
            (self.feeds if frame.consumer is None else self._consumers).gap(frame)
        elif isinstance(frame, Skip):
            self.feeds.passed(frame)
        elif isinstance(frame, Receipt):
            self._outcome(frame)
        elif isinstance(frame, Err) and frame.rid is None and frame.consumer is not None:
            self._consumers.told(frame)
        else:
            link = self.supervisor.link
            if link is not None:
                link.control(frame)

    def _beat(self) -> None:
        self.feeds.beat()
        if self._sender is not None:
            self._sender.beat()
