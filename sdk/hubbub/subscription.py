"""What an application reads from."""

import asyncio
import contextlib
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from hubbub_protocol.frames import From, Gap

from .cursor import Start
from .errors import fresh
from .mailbox import Mailbox
from .message import Message

StartOption = str | dict[str, Any]
"""`"new"`, `"all"`, `{"seq": N}`, `{"last": N}` or `{"since": T}`; `{"seq": N, "epoch": E}` of that history only."""


class Subscription:
    """An asynchronous iterator over the messages of a topic or a pattern.

    Each message once, in the topic's order, across any number of disconnects. It reads ahead into a bounded buffer;
    when that is full, the subscription leaves the wire and goes on from its place when there is room again. It ends
    when it is closed, when the agent is, or when nobody holds it any more (so leaving a loop by `break` is enough).

        async for message in conversation.subscribe(start="all"): ...

        async with conversation.subscribe() as incoming:    # closed at the end of the block
            await incoming.ready()
            first = await anext(incoming)
    """

    def __init__(self, box: Mailbox, read: Callable[[Message], None] | None = None) -> None:
        self._box = box
        self._read = read
        self._finalizer = weakref.finalize(self, _let_go, box, asyncio.get_running_loop())
        self._finalizer.atexit = False
        box.on_end = self._finalizer.detach

    @property
    def topic(self) -> str:
        """The topic or pattern."""
        return self._box.topic

    @property
    def buffered(self) -> int:
        """How many messages were read ahead."""
        return len(self._box)

    @property
    def gaps(self) -> int:
        """How often messages were missed, and the subscription told so (`on_gap`)."""
        return self._box.gaps

    @property
    def duplicates(self) -> int:
        """How many messages came again and were dropped."""
        return self._box.duplicates

    async def ready(self) -> None:
        """Wait until the broker has taken the subscription: what is published after that will come.

        Raises:
            HubbubError: what ended the subscription instead.
        """
        await self._box.ready.wait()
        self._check()

    async def caught_up(self) -> None:
        """Wait until the replay has reached the head: what comes after that is new. Read on meanwhile, in another task,
        if the history is longer than the buffer.

        Raises:
            HubbubError: what ended the subscription instead.
        """
        await self._box.live.wait()
        self._check()

    async def close(self) -> None:
        """End it. What was read ahead can still be taken. Idempotent."""
        self._box.leave()

    async def dismiss(self) -> None:
        """End it and forget what was read ahead."""
        self._box.clear()
        await self.close()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._box.closed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        message = await self._box.get()
        if message is None:
            raise StopAsyncIteration
        if self._read is not None:
            self._read(message)
        return message

    async def take(self, limit: int = 100) -> list[Message]:
        """Wait for a message, and take with it what else was read ahead: `limit` at most; none at the end.

        Raises:
            HubbubError: what ended the subscription, after what was read ahead.
        """
        messages = await self._box.get_many(limit)
        if self._read is not None:
            for message in messages:
                self._read(message)
        return messages

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _check(self) -> None:
        if self._box.error is not None:
            raise fresh(self._box.error)


class Subscriber(Protocol):
    """Who subscribes: an agent, for what is built on its subscriptions."""

    def subscribe(
        self,
        topic: str,
        /,
        start: StartOption = "new",
        *,
        buffer: int | None = None,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> Subscription:
        """Subscribe to a topic."""
        ...


def start_of(option: StartOption) -> Start:
    """A start as the protocol has it.

    Raises:
        ValueError: saying what is allowed.
    """
    if option in ("new", "all"):
        return str(option)
    if isinstance(option, dict) and option.keys() == {"seq", "epoch"}:
        match option:
            case {"seq": int(seq), "epoch": str(epoch)} if seq >= 1:
                return From(seq=seq, epoch=epoch)
    if isinstance(option, dict) and len(option) == 1:
        match option:
            case {"seq": int(seq)} if seq >= 1:
                return From(seq=seq)
            case {"last": int(last)} if last >= 0:
                return From(last=last)
            case {"since": int(since) | float(since)} if since >= 0:
                return From(since=float(since))
    raise ValueError(
        f'start is {option!r}: "new", "all", {{"seq": N}} (N from 1), {{"last": N}} or {{"since": SECONDS_SINCE_EPOCH}}'
    )


def _let_go(box: Mailbox, loop: asyncio.AbstractEventLoop) -> None:
    """Leave the wire for an iterator that nobody holds. Garbage may be collected in any thread."""
    if not box.closed:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and everything in it gone
            loop.call_soon_threadsafe(box.leave)
