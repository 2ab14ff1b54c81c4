"""What the HTTP routes need of a broker. The broker implements it; tests have a small one of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hubbub_broker.access import Access
from hubbub_broker.config import Settings
from hubbub_broker.metrics import Metrics
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import Err, Ok, Pub


class Refused(Exception):
    """The broker does not do what was asked. `err` is what the client gets; its code decides the status."""

    def __init__(self, err: Err) -> None:
        super().__init__(f"{err.code}: {err.message}")
        self.err = err

    @classmethod
    def because(cls, code: ErrorCode, message: str, retry_after: float | None = None) -> "Refused":
        """A refusal with this code and message."""
        return cls(Err(code=code, message=message, retry_after=retry_after))


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """One message to publish: the frame, and its payload where that is bytes (then the frame has no `data`)."""

    pub: Pub
    payload: bytes | None = None


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A message as it stands in the log: a wire line; or, with `header_size`, so many bytes of header, then payload."""

    line: bytes
    header_size: int = 0


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Some of a topic's messages, in order."""

    epoch: str
    head: int
    """The topic's last seq; 0 if it has none."""
    first: int
    """The first seq that can still be read; head + 1 if there is none."""
    messages: Sequence[StoredLine]
    next: int
    """What to ask with as `after` for the next page; `head` when there is no more. Expired messages are passed over."""
    max_age: float = 0.0
    """Seconds that the topic's messages are kept for; 0: for ever."""


@dataclass(frozen=True, slots=True)
class TopicEntry:
    """A topic and how much of it there is."""

    topic: str
    head: int
    first: int
    ts: float
    """Time of its last message, seconds since the epoch; 0.0 if there is none."""
    bytes: int
    """Size of its history in the log."""


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One connected session."""

    agent: str
    session: str
    since: float
    """When it connected, seconds since the epoch."""
    address: str
    subscriptions: int
    groups: Sequence[str] = ()
    """The groups that it works in."""


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One shard's state."""

    shard: int
    epoch: str
    topics: int
    """Topics in memory."""
    pending_bytes: int
    log_bytes: int
    read_only: str | None
    """Why it takes nothing, or None."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a group lives."""

    shard: int
    url: str | None = None
    """The WebSocket address of the broker that owns the shard; None is the broker that was asked."""


@dataclass(frozen=True, slots=True)
class BudgetEntry:
    """What a conversation has used, and what it may use; a budget of 0 is none."""

    topic: str
    messages: int
    bytes: int
    cost: float
    budget_messages: int
    budget_bytes: int
    budget_cost: float


class StatusApi(Protocol):
    """What serves HTTP at all, as every door sees it."""

    settings: Settings
    metrics: Metrics
    """Where requests are counted."""
    access: Access
    """Who may do what. The routes ask it before they ask the broker for anything."""

    def ready(self) -> Err | None:
        """None if it does what it is there for; otherwise why not (`shutting_down`, `read_only`, …)."""

    def render_metrics(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the form that the `Accept` header asks for, and its content type."""


class BrokerApi(StatusApi, Protocol):
    """A broker, as the HTTP routes see it. Everything runs on the broker's event loop."""

    async def publish(self, agent: str, requests: Sequence[PublishRequest]) -> Sequence[Ok | Err]:
        """Publish in the order given, and wait until every message is durable, or refused.

        The broker makes the same checks as for a `pub` on a WebSocket (names, sizes, limits, policies); what it refuses
        it answers with an `Err` in that message's place, and counts. The answers have the requests' order.
        """

    async def history(
        self, topic: str, after: int, limit: int, max_bytes: int, filter: Filter | None = None
    ) -> HistoryPage:
        """Up to `limit` messages with seq > `after`, about `max_bytes` at most, at least one if there is any.

        With a filter, what that lets through of a bounded number of messages. A topic that nobody published to yet is
        an empty one.

        Raises:
            Refused: if another broker owns the topic, or the history can't be read now.
        """

    async def find(self, topic: str, id: str, ancestors: int) -> tuple[Sequence[StoredLine], str | None]:
        """The newest message with an id, then so many of its ancestors, nearest first; nothing if there is none.

        And the id of the parent that is not there, if the line of ancestors breaks off.

        Raises:
            Refused: if another broker owns the topic, or the history can't be read now.
        """

    async def topics(self, prefix: str, after: str, limit: int) -> Sequence[TopicEntry]:
        """Up to `limit` durable topics that begin with `prefix` and whose names come after `after`, sorted by name."""

    def sessions(self) -> Sequence[SessionInfo]:
        """The connected sessions, sorted by agent and session."""

    async def disconnect(self, agent: str) -> int:
        """End the connections of an agent; its client does not come back. How many there were."""

    def shards(self) -> Sequence[ShardInfo]:
        """The shards of this broker, by number."""

    def route(self, group: str, host: str) -> Route:
        """Where `group` lives, for a client that reaches this broker as `host`."""

    def budget(self, topic: str) -> BudgetEntry:
        """What a conversation has used."""

    def reset_budget(self, topic: str) -> BudgetEntry:
        """Let a conversation begin again at nothing; what it had used before."""
