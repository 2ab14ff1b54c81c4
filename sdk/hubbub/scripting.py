"""What a script holds of an agent that lives in another thread: see `hubbub.sync`."""

import os
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from . import consuming, delivery, outcomes
from . import message as received
from .blob import FETCH_BYTES_MAX
from .message import MessageView, Receipt
from .outcomes import Outcome

T = TypeVar("T")


class Waiter(Protocol):
    """The agent, as far as these need it."""

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the agent's thread do something, and wait for it."""


class Message(MessageView):
    """A received message."""

    __slots__ = ("_agent", "_inner")

    def __init__(self, inner: received.Message, agent: Waiter) -> None:
        super().__init__(*inner.contents())
        self._inner = inner
        self._agent = agent

    def fetch(self, which: int | str = 0, *, max_bytes: int = FETCH_BYTES_MAX) -> bytes:
        """Fetch a large body that it refers to: see `hubbub.Message.fetch`."""
        return self._agent.wait(self._inner.fetch(which, max_bytes=max_bytes))

    def fetch_to(self, path: str | os.PathLike[str], which: int | str = 0) -> Path:
        """Fetch a large body that it refers to into a file: see `hubbub.Message.fetch_to`."""
        return self._agent.wait(self._inner.fetch_to(path, which))

    def ancestors(self, depth: int = 10) -> "list[Message]":
        """What led to it, nearest first: see `hubbub.Message.ancestors`."""
        return [Message(each, self._agent) for each in self._agent.wait(self._inner.ancestors(depth))]

    def reply(
        self,
        data: Any,
        *,
        type: str | None = None,
        headers: dict[str, Any] | None = None,
        ttl: float | None = None,
        ephemeral: bool | None = None,
    ) -> Receipt:
        """Answer it, and wait for the receipt: see `hubbub.Message.reply`."""
        return self._agent.wait(self._inner.reply(data, type=type, headers=headers, ttl=ttl, ephemeral=ephemeral))


class Delivery(Message):
    """A message of a consumer, to be settled: see `hubbub.Delivery`. Each call waits for the broker's confirmation."""

    __slots__ = ("_delivery",)

    def __init__(self, inner: delivery.Delivery, agent: Waiter) -> None:
        super().__init__(inner, agent)
        self._delivery = inner

    @property
    def consumer(self) -> str:
        """The consumer that it belongs to."""
        return self._delivery.consumer

    @property
    def made(self) -> float:
        """When that consumer was made, or last reset, by the broker's clock."""
        return self._delivery.made

    @property
    def attempt(self) -> int:
        """1 at its first delivery, then 2, 3 and so on."""
        return self._delivery.attempt

    @property
    def lost(self) -> threading.Event:
        """Set when nobody wants the work on it any more."""
        return self._delivery.lost

    def ack(self) -> None:
        """It is done."""
        self._agent.wait(self._delivery.ack())

    def nack(self, delay: float | None = None, reason: str | None = None) -> None:
        """It failed: let it come again."""
        self._agent.wait(self._delivery.nack(delay, reason))

    def term(self, reason: str | None = None) -> None:
        """It will never succeed."""
        self._agent.wait(self._delivery.term(reason))

    def extend(self) -> None:
        """Have the broker confirm that it is still this agent's."""
        self._agent.wait(self._delivery.extend())


class Consumption:
    """Membership in a consumer: see `hubbub.Consumption`."""

    def __init__(self, inner: consuming.Consumption, agent: Waiter) -> None:
        self._inner = inner
        self._agent = agent

    @property
    def topic(self) -> str:
        """The topic or pattern."""
        return self._inner.topic

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self._inner.name

    @property
    def unsettled(self) -> int:
        """Messages that this agent was given and whose end the broker has not confirmed."""
        return self._inner.unsettled

    def ready(self) -> None:
        """Wait until the broker has taken this member."""
        self._agent.wait(self._inner.ready())

    def caught_up(self) -> None:
        """Wait until there was nothing left from before."""
        self._agent.wait(self._inner.caught_up())

    def drain(self, seconds: float = 10.0) -> None:
        """Finish what is at work, and give back the rest."""
        self._agent.wait(self._inner.drain(seconds))

    def close(self) -> None:
        """Give back what was not settled."""
        self._agent.wait(self._inner.close())

    def __iter__(self) -> Iterator[Delivery]:
        return self

    def __next__(self) -> Delivery:
        inner = self._agent.wait(self._next())
        if inner is None:
            raise StopIteration
        return Delivery(inner, self._agent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def _next(self) -> delivery.Delivery | None:
        return await anext(self._inner, None)


class Tracked:
    """A published message, and what becomes of it: see `hubbub.Tracked`."""

    def __init__(self, inner: outcomes.Tracked, agent: Waiter) -> None:
        self._inner = inner
        self._agent = agent

    @property
    def receipt(self) -> Receipt | None:
        """Its place in the topic."""
        return self._inner.receipt

    def done(self, timeout: float | None = None) -> Outcome:
        """Wait until it is finished."""
        return self._agent.wait(self._inner.done(timeout))

    def __iter__(self) -> Iterator[Outcome]:
        return self

    def __next__(self) -> Outcome:
        outcome = self._agent.wait(self._next())
        if outcome is None:
            raise StopIteration
        return outcome

    async def _next(self) -> Outcome | None:
        return await anext(self._inner, None)
