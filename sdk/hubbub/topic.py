"""A conversation, as an agent holds it."""

from asyncio import Future
from collections.abc import Callable
from typing import Any, Protocol, Unpack

from hubbub_protocol.frames import Gap

from .message import Publisher, PublishOptions, Receipt
from .outcomes import Tracked
from .subscription import StartOption, Subscription


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
    ) -> Subscription:
        """Subscribe."""
        ...


class Topic:
    """A topic (or a pattern, to subscribe only) with the agent that uses it."""

    __slots__ = ("_agent", "name")

    def __init__(self, agent: Conversant, name: str) -> None:
        self._agent = agent
        self.name = name
        """The whole name, with its group."""

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
    ) -> Subscription:
        """Subscribe: see `Agent.subscribe`."""
        return self._agent.subscribe(self.name, start=start, buffer=buffer, on_gap=on_gap)
