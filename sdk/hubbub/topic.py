"""A conversation, as an agent holds it."""

from asyncio import Future
from collections.abc import Callable
from typing import Any, Protocol, Unpack

from hubbub_protocol.blobs import BlobRef
from hubbub_protocol.frames import Gap
from hubbub_protocol.names import group_of

from .blob_content import Attachable
from .errors import HubbubError
from .message import Publisher, PublishOptions, Receipt
from .outcomes import Tracked
from .presence import Presence
from .shared_state import Lease, SharedState
from .subscription import StartOption, Subscription
from .wants import Select, Where


class Conversant(Publisher, Protocol):
    """What a topic needs of its agent."""

    async def submit(self, topic: str, data: Any, /, **options: Unpack[PublishOptions]) -> "Future[Receipt]":
        """Publish in pipelined form."""
        ...

    async def publish_tracked(
        self, topic: str, data: Any, /, *, consumers: int = 1, **options: Unpack[PublishOptions]
    ) -> Tracked:
        """Publish, and hear what becomes of it."""
        ...

    def subscribe(
        self,
        topic: str,
        /,
        start: StartOption = "new",
        *,
        buffer: int | None = None,
        on_gap: Callable[[Gap], None] | None = None,
        where: Where | None = None,
        select: Select | None = None,
    ) -> Subscription:
        """Subscribe."""
        ...

    def presence(self, topic: str) -> Presence:
        """Be present, and see who else is."""
        ...

    def shared_state(self, topic: str) -> SharedState:
        """The state that the agents of a conversation share."""
        ...

    async def attach(self, group: str, content: Attachable, /, *, name: str = "", media_type: str = "") -> BlobRef:
        """Store a large body."""
        ...


class Topic:
    """A topic (or a pattern, to subscribe only) with the agent that uses it."""

    __slots__ = ("_agent", "_here", "name")

    def __init__(self, agent: Conversant, name: str) -> None:
        self._agent = agent
        self.name = name
        """The whole name, with its group."""
        self._here: Presence | None = None

    def __repr__(self) -> str:
        return f"<Topic {self.name}>"

    async def publish(self, data: Any, **options: Unpack[PublishOptions]) -> Receipt:
        """Publish, and wait for the receipt: see `Agent.publish`."""
        return await self._agent.publish(self.name, data, **options)

    async def submit(self, data: Any, **options: Unpack[PublishOptions]) -> "Future[Receipt]":
        """Publish, and wait only until it is accepted: see `Agent.submit`."""
        return await self._agent.submit(self.name, data, **options)

    async def publish_tracked(self, data: Any, *, consumers: int = 1, **options: Unpack[PublishOptions]) -> Tracked:
        """Publish, wait for the receipt, and hear what becomes of it: see `Agent.publish_tracked`."""
        return await self._agent.publish_tracked(self.name, data, consumers=consumers, **options)

    def subscribe(
        self,
        start: StartOption = "new",
        *,
        buffer: int | None = None,
        on_gap: Callable[[Gap], None] | None = None,
        where: Where | None = None,
        select: Select | None = None,
    ) -> Subscription:
        """Subscribe: see `Agent.subscribe`."""
        return self._agent.subscribe(self.name, start=start, buffer=buffer, on_gap=on_gap, where=where, select=select)

    @property
    def state(self) -> SharedState:
        """The state that the agents of this conversation share: see `SharedState`.

        Raises:
            InvalidName: this is a pattern.
            Closed: the agent is not open.
        """
        return self._agent.shared_state(self.name)

    def lease(self, name: str, *, ttl: float = 30.0, timeout: float | None = None) -> Lease:
        """A lease of this conversation, for a block: one holder at a time. See `Lease`."""
        return self.state.lease(name, ttl=ttl, timeout=timeout)

    async def attach(self, content: Attachable, *, name: str = "", media_type: str = "") -> BlobRef:
        """Store a large body for messages of this conversation to refer to: see `Agent.attach`.

        report = await conversation.attach(Path("report.pdf"))
        await conversation.publish({"text": "done"}, attachments=[report])
        """
        return await self._agent.attach(group_of(self.name), content, name=name, media_type=media_type)

    def presence(self) -> Presence:
        """Be present here and see who else is, for as long as its block lasts: see `Presence`."""
        return self._agent.presence(self.name)

    async def join(self) -> frozenset[str]:
        """Be present here until `leave`, over all connections; returns who is here now. Twice is as once.

        Raises:
            Rejected, Closed, Refused: the broker will not have it.
        """
        if self._here is None or self._here.error is not None:
            self._here = self.presence()
        self._here.open()
        return await self.present()

    async def leave(self) -> None:
        """Be present here no longer. Idempotent."""
        here, self._here = self._here, None
        if here is not None:
            await here.close()

    async def present(self) -> frozenset[str]:
        """Who is here now, for an agent that has joined.

        Raises:
            HubbubError: it has not joined; or what ended its presence.
        """
        if self._here is None:
            raise HubbubError(f"`join()` {self.name} first: who is there sees who is there")
        await self._here.ready()
        return self._here.agents
