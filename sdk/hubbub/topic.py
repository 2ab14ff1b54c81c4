"""A conversation, as an agent holds it."""

from asyncio import Future
from collections.abc import Callable
from typing import Any, Protocol, Unpack

from hubbub_protocol.blobs import BlobRef
from hubbub_protocol.frames import Gap
from hubbub_protocol.names import group_of

from .blob_content import Attachable
from .causes import Causes, Context, Counter
from .errors import HubbubError
from .message import Message, Publisher, PublishOptions, Receipt
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

    def causes(self) -> Causes:
        """The causal history of what the agent reads."""
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

    async def message(self, id: str) -> Message | None:
        """A stored message of this conversation by its id: the newest that has it. None: there is none (any more).

        Raises:
            RequestTimeout, Rejected, Refused, Closed
        """
        return await self._agent.causes().message(self.name, id)

    async def thread(self, id: str, *, limit: int = 1000) -> list[Message]:
        """The whole thread that a message is in: the first message that led to it here, and all that grew from that
        by `parent`, in order, at most `limit` of them.

        Raises:
            NotFound: there is no such message.
            RequestTimeout, Rejected, Refused, Closed
        """
        return await self._agent.causes().thread(self.name, id, limit)

    async def context(
        self,
        message: Message | str | None = None,
        *,
        budget_bytes: int | None = None,
        budget_tokens: int | None = None,
        counter: Counter | None = None,
        depth: int = 100,
    ) -> Context:
        """What an agent needs to know to go on from a message, and no more: the message and what led to it, newest
        first, cut at a budget.

            context = await conversation.context(message, budget_tokens=4000, counter=lambda m: len(encode(m.raw)))
            prompt = [m.data for m in reversed(context.messages)]

        `message` is one, an id, or (None) the newest of the conversation. `counter` says what a message costs; without
        it, a byte is a byte of its data, and a token four of them. At most `depth` ancestors.

        Raises:
            ValueError: not exactly one budget is given.
            NotFound: there is no message of that id.
            RequestTimeout, Rejected, Refused, Closed
        """
        causes = self._agent.causes()
        return await causes.context(self.name, message, budget_bytes, budget_tokens, counter, depth)

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
