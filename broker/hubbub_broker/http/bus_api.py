"""What the routes of the simple bus need of a broker."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Raw

from hubbub_broker.config import Settings
from hubbub_protocol.filters import Filter

from .api import StoredLine


@dataclass(frozen=True, slots=True)
class MailRequest:
    """A mail to send."""

    sender: str
    to: str
    """An agent's name, or `ALL`."""
    data: Raw
    id: str
    create: bool = False
    headers: dict[str, Raw] = field(default_factory=dict)
    in_reply_to: str | None = None
    """The id of the mail in the sender's inbox that it answers."""


@dataclass(frozen=True, slots=True)
class MailSent:
    """What became of it."""

    id: str
    to: str
    seq: int | None
    recipients: int | None
    dup: bool


@dataclass(frozen=True, slots=True)
class Reader:
    """Whose inbox is read."""

    agent: str
    itself: bool
    """Whether it is the agent that reads: then it is there, and is registered if it was not."""
    group: str | None
    """Where its inbox is to be if it is registered now."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What of an inbox is wanted, and what becomes of it."""

    after: int
    limit: int
    wait: float
    """Seconds to wait for mail if there is none."""
    mark: bool
    """Whether it is marked as read, for good."""
    check: Callable[[], None]
    """Asked when there is something, or the wait is over. What it raises leaves all unread."""
    show: Callable[[int, StoredLine], bytes]
    """A message, with its seq, as the answer has it. Asked for all of them before any is marked."""


@dataclass(frozen=True, slots=True)
class InboxPage:
    """Some of what is unread."""

    messages: Sequence[bytes]
    """As they are shown."""
    remaining: int
    """How many more are unread."""


@dataclass(frozen=True, slots=True)
class RegisteredAgent:
    """An agent as the register has it."""

    agent: str
    group: str
    inbox: str
    capabilities: Sequence[str]
    description: str
    registered: float
    seen: float
    online: bool
    socket: bool


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """Something that a stream tells: a message, a gap; or nothing, as a sign of life or to say where it stands."""

    id: str | None
    """What to come back with as `Last-Event-ID`."""
    event: str
    data: bytes


class BusApi(Protocol):
    """The simple bus, as the HTTP routes see it. Each call raises `Refused` for what is not to be had."""

    settings: Settings

    async def send(self, mail: MailRequest, allow: Callable[[str | None], None]) -> MailSent:
        """Send a mail; returns when it is on stable storage.

        `allow` is asked about the inbox, or about None for ALL, and raises if need be.
        """

    def inbox_of(self, agent: str) -> str:
        """The topic that is an agent's inbox, or will be when it is registered."""

    async def inbox(self, reader: Reader, reading: Reading) -> InboxPage:
        """Read what is unread. What is to be marked is so, on stable storage, when this returns."""

    async def mark(self, reader: Reader, seqs: Sequence[int], ids: Sequence[str]) -> int:
        """Mark messages as read, by seq and by id; how many were unread."""

    async def register(
        self, agent: str, group: str | None, capabilities: Sequence[str] | None, description: str | None
    ) -> RegisteredAgent:
        """Register an agent, or change what is said of it."""

    async def unregister(self, agent: str) -> None:
        """Forget an agent."""

    def registered(self, agent: str) -> RegisteredAgent:
        """One agent."""

    def find(self, capability: str | None, group: str | None) -> Sequence[RegisteredAgent]:
        """The registered agents, sorted by name."""

    def knows(self, agent: str) -> bool:
        """Whether an agent is registered."""

    def present(self, topic: str) -> Sequence[str]:
        """Who is in a topic."""

    def stream(
        self, topic: str, after: int | None, epoch: str | None, filter: Filter | None = None
    ) -> AsyncIterator[StreamEvent]:
        """The messages of a topic with seq > `after` (None: those that come from now on), for as long as it is read."""
