"""What the routes for operators need of a broker: consumers, dead letters, receipts, and who is how fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hubbub_broker.config import Settings
from hubbub_protocol.frames import Err, Receipt

from .api import StoredLine

From = str | dict[str, Any]
"""Where to begin, as in a `sub`: `"all"`, `"new"`, `{"seq": N}`, `{"since": TIME}`, `{"last": N}`."""


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """One member of a consumer."""

    agent: str
    session: str
    since: float
    outstanding: int
    max_unacked: int
    ack_wait: float
    draining: bool


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """One consumer. Counts of what has happened are since the broker's start."""

    topic: str
    name: str
    created: float
    start: str
    max_deliver: int
    backoff: Sequence[float]
    exclusive: bool
    ordered: str | None
    paused: bool
    members: Sequence[MemberInfo]
    lag: int
    """Messages up to the head that are not settled."""
    topics: int
    """Topics in which there are any."""
    oldest: float | None
    """When the oldest of those was sequenced."""
    outstanding: int
    waiting: int
    acked: int
    redelivered: int
    dead: int


@dataclass(frozen=True, slots=True)
class LetterInfo:
    """One open dead letter."""

    seq: int
    ts: float
    reason: str
    attempts: int
    first_failure: float
    last_failure: float
    topic: str
    message: int
    """The seq of the message that it is about."""
    consumer: str
    consumer_topic: str
    id: str
    sender: str
    line: StoredLine


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Some open dead letters."""

    letters: Sequence[LetterInfo]
    next: int | None
    """The `after` of the next page; None when this is the last."""


@dataclass(frozen=True, slots=True)
class LetterChoice:
    """Which letters are meant: those with these seqs, or all that are open (of a consumer, of a topic)."""

    seqs: Sequence[int] | None = None
    consumer: str | None = None
    topic: str | None = None


@dataclass(frozen=True, slots=True)
class LetterOutcome:
    """What was done about letters."""

    done: int
    already: int
    """Of those that were named: not open."""
    refused: int
    refusals: Sequence[tuple[int, Err]]
    """The first of those, each with the letter's seq."""
    next: int | None
    """The `after` to go on with; None when there are no more."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Of the newest messages, how many seconds half of them took at most, and nine in ten, and 99 in a hundred."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class ConsumerRow:
    """A consumer's figures."""

    topic: str
    name: str
    paused: bool
    members: int
    lag: int | None
    """As of the last count; None before the first."""
    oldest: float | None
    outstanding: int
    waiting: int
    acked: int
    redelivered: int
    dead: int
    wait: Spread
    work: Spread
    total: Spread


@dataclass(frozen=True, slots=True)
class AgentRow:
    """An agent at one consumer's work."""

    agent: str
    topic: str
    consumer: str
    state: str
    since: float
    """Since when it is in that state, or a member, in seconds since the Unix epoch."""
    on: str | None
    """`TOPIC#SEQ` of the message that it is at, or late with."""
    outstanding: int
    acked: int
    work: Spread


@dataclass(frozen=True, slots=True)
class Top:
    """Who is how fast."""

    now: float
    """When this was, in seconds since the Unix epoch: what a rate is worked out from."""
    consumers_total: int
    consumers: Sequence[ConsumerRow]
    agents_total: int
    agents: Sequence[AgentRow]


class OperatorApi(Protocol):
    """A broker, as an operator's routes see it. Every change is on stable storage before its call returns.

    Every method may raise `Refused`; `BadName` for what is no name.
    """

    settings: Settings

    def consumer_names(self) -> Sequence[tuple[str, str]]:
        """Topic or pattern, and name, of every consumer, sorted. The broker's own are not among them."""

    async def consumer(self, topic: str, name: str) -> ConsumerInfo:
        """One consumer."""

    async def reset_consumer(self, topic: str, name: str, start: From) -> ConsumerInfo:
        """Let it begin again elsewhere. What its members have out is theirs no longer."""

    async def pause_consumer(self, topic: str, name: str, *, paused: bool) -> ConsumerInfo:
        """Give out nothing more, or go on."""

    async def remove_consumer(self, topic: str, name: str) -> int:
        """Take it away, with its members. How many positions it had."""

    async def letters(self, group: str, choice: LetterChoice, after: int, limit: int) -> LetterPage:
        """Open dead letters with a larger seq than `after`."""

    async def letter(self, group: str, seq: int) -> LetterInfo:
        """One open dead letter."""

    async def redrive(self, group: str, choice: LetterChoice, after: int, *, republish: bool) -> LetterOutcome:
        """Give messages back to the consumers that could not deal with them, or publish copies of them."""

    async def drop(self, group: str, choice: LetterChoice, after: int) -> LetterOutcome:
        """Take letters as handled."""

    def receipts(self, id: str) -> Sequence[tuple[str, Receipt]]:
        """What became of the messages with this id, each with who published it."""

    async def top(self, limit: int) -> Top:
        """The consumers that are furthest behind, and the agents that need a look most."""
