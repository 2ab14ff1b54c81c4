"""Hubbub for scripts: the same agent, without asyncio.

    from hubbub.sync import Agent

    with Agent("joe", group="research") as joe:
        receipt = joe.publish("conv-42", {"text": "hello"})
        for msg in joe.subscribe("conv-42", start="all"):
            msg.reply({"text": "hi"})

The agent lives in an event loop in a thread of its own; every call here hands its work over and waits. So it may be
used from several threads, and Ctrl-C ends any wait.
"""

import asyncio
import contextlib
import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from hubbub_protocol.blobs import BlobRef
from hubbub_protocol.frames import Gap

from . import agent as asynchronous
from . import message as received
from .consuming import ConsumerOptions, HandlerOptions
from .consuming import Consumption as AsyncConsumption
from .delivery import Delivery as AsyncDelivery
from .errors import Closed
from .message import PublishOptions, Receipt
from .outcomes import Listener as OutcomeListener
from .scripting import Consumption, Delivery, Message, Tracked
from .state import State
from .stats import Stats
from .subscription import StartOption
from .subscription import Subscription as AsyncSubscription
from .wants import Select, Where

BATCH = 100
"""Messages that an iterator fetches from the agent's thread at once."""

T = TypeVar("T")
H = TypeVar("H", bound=Callable[[Any], Any])


class Subscription:
    """An iterator over the messages of a topic or a pattern: see `hubbub.Subscription`."""

    def __init__(self, inner: AsyncSubscription, agent: "Agent") -> None:
        self._inner = inner
        self._agent = agent
        self._ahead: deque[received.Message] = deque()

    @property
    def topic(self) -> str:
        """The topic or pattern."""
        return self._inner.topic

    @property
    def gaps(self) -> int:
        """How often messages were missed."""
        return self._inner.gaps

    def ready(self) -> None:
        """Wait until the broker has taken the subscription."""
        self._agent.wait(self._inner.ready())

    def caught_up(self) -> None:
        """Wait until the replay has reached the head."""
        self._agent.wait(self._inner.caught_up())

    def close(self) -> None:
        """End it."""
        self._agent.wait(self._inner.close())

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        if not self._ahead:
            self._ahead.extend(self._agent.wait(self._inner.take(BATCH)))
        if not self._ahead:
            raise StopIteration
        return Message(self._ahead.popleft(), self._agent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Agent:
    """An agent for scripts. It takes the options of `hubbub.Agent`."""

    def __init__(self, name: str, **options: Any) -> None:
        self._inner = asynchronous.Agent(name, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # Life -------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start the thread and begin to connect."""
        if self._thread is not None:
            raise Closed("an agent is opened once; make a new one")
        loop = self._loop = asyncio.new_event_loop()
        # A daemon, so that a script that forgets to close its agent can end.
        self._thread = threading.Thread(target=loop.run_forever, name=f"hubbub-{self._inner.name}", daemon=True)
        self._thread.start()
        try:
            self.wait(self._inner.open())
        except BaseException:
            self._stop_thread()
            raise

    def close(self, drain: float | None = None) -> None:
        """Deliver what was accepted, for `drain` seconds at most, and end. Idempotent.

        Raises:
            Undelivered: if some accepted messages got no receipt in that time.
        """
        if self._loop is None:
            return
        try:
            self.wait(self._inner.close(drain))
        finally:
            self._stop_thread()

    def _stop_thread(self) -> None:
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:  # the error that ended the block is the one to be seen
            with contextlib.suppress(Exception):
                self.close()

    @property
    def name(self) -> str:
        """Who this agent is."""
        return self._inner.name

    @property
    def state(self) -> State:
        """`connecting`, `online`, `degraded` or `closed`."""
        return self._inner.state

    @property
    def stats(self) -> Stats:
        """What it counted."""
        return self._inner.stats

    def wait_for(self, *states: str, timeout: float | None = None) -> State:
        """Wait until the state is one of `states`: see `hubbub.Agent.wait_for`."""
        return self.wait(self._inner.wait_for(*states, timeout=timeout))

    # Work -------------------------------------------------------------------------------------------------------

    def publish(self, topic: str, data: Any, /, **options: Unpack[PublishOptions]) -> Receipt:
        """Publish, and wait for the receipt: see `hubbub.Agent.publish`."""
        return self.wait(self._inner.publish(topic, data, **options))

    def submit(self, topic: str, data: Any, /, **options: Unpack[PublishOptions]) -> "Future[Receipt]":
        """Publish, and wait only until it is accepted: see `hubbub.Agent.submit`. The future is a concurrent one."""
        receipt: Future[Receipt] = Future()
        self.wait(self._submit(receipt, topic, data, options))
        return receipt

    def publish_tracked(
        self, topic: str, data: Any, /, *, consumers: int = 1, **options: Unpack[PublishOptions]
    ) -> Tracked:
        """Publish, and hear what becomes of the message: see `hubbub.Agent.publish_tracked`."""
        return Tracked(self.wait(self._inner.publish_tracked(topic, data, consumers=consumers, **options)), self)

    def on_outcome(self, listener: OutcomeListener) -> None:
        """Call `listener(outcome)`, in the agent's thread, for each receipt: see `hubbub.Agent.on_outcome`."""
        self._inner.on_outcome(listener)

    def attach(
        self,
        group: str,
        content: bytes | bytearray | memoryview | os.PathLike[str],
        /,
        *,
        name: str = "",
        media_type: str = "",
    ) -> BlobRef:
        """Store a large body, for `attachments` of a publish: see `hubbub.Agent.attach`."""
        return self.wait(self._inner.attach(group, content, name=name, media_type=media_type))

    def thread(self, topic: str, id: str, *, limit: int = 1000) -> list[Message]:
        """The whole thread that a message is in: see `hubbub.Topic.thread`."""
        found = self.wait(self._inner.topic(topic).thread(id, limit=limit))
        return [Message(message, self) for message in found]

    def send(
        self, to: str, subject: str = "", body: Any = "", *, create: bool = False, **options: Unpack[PublishOptions]
    ) -> Receipt:
        """Send a mail, and wait for the receipt: see `hubbub.Agent.send`."""
        return self.wait(self._inner.send(to, subject, body, create=create, **options))

    def on_command(self, name: str) -> Callable[[H], H]:
        """Decorate a function that does, in a thread, what is commanded: see `hubbub.Agent.on_command`."""
        return self._inner.on_command(name)

    def cancel(self, topic: str, id: str, *, reason: str = "") -> None:
        """Call off a message and everything that grew from it: see `hubbub.Agent.cancel`."""
        self.wait(self._inner.cancel(topic, id, reason=reason))

    def flush(self) -> None:
        """Wait until everything accepted so far is confirmed."""
        self.wait(self._inner.flush())

    def request(
        self,
        topic: str,
        data: Any,
        /,
        timeout: float,
        *,
        type: str | None = None,
        headers: dict[str, Any] | None = None,
        durable: bool = False,
        mandatory: bool = False,
    ) -> Message:
        """Ask a question and wait for the first answer: see `hubbub.Agent.request`."""
        asking = self._inner.request(
            topic, data, timeout, type=type, headers=headers, durable=durable, mandatory=mandatory
        )
        return Message(self.wait(asking), self)

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
        """Subscribe: see `hubbub.Agent.subscribe`. `on_gap` is called in the agent's thread."""

        async def subscribe() -> AsyncSubscription:
            return self._inner.subscribe(topic, start, buffer=buffer, on_gap=on_gap, where=where, select=select)

        return Subscription(self.wait(subscribe()), self)

    def consume(
        self,
        topic: str,
        /,
        consumer: str,
        *,
        start: StartOption = "new",
        on_gap: Callable[[Gap], None] | None = None,
        **options: Unpack[ConsumerOptions],
    ) -> Consumption:
        """Share the work of a topic: see `hubbub.Agent.consume`. `on_gap` is called in the agent's thread."""

        async def consume() -> AsyncConsumption:
            return self._inner.consume(topic, consumer, start=start, on_gap=on_gap, **options)

        return Consumption(self.wait(consume()), self)

    def consumption(self, topic: str, /, consumer: str) -> Consumption:
        """The membership that a handler has: see `hubbub.Agent.consumption`."""
        return Consumption(self._inner.consumption(topic, consumer), self)

    def on(
        self,
        topic: str,
        *,
        start: StartOption = "new",
        concurrency: int | None = None,
        buffer: int | None = None,
        consumer: str | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Callable[[H], H]:
        """Decorate a function to be called, in a thread, with each message (with a consumer: each `Delivery`): see
        `hubbub.Agent.on`.
        """
        register = self._inner.on(
            topic, start=start, concurrency=concurrency, buffer=buffer, consumer=consumer, **options
        )

        def decorate(handler: H) -> H:
            @functools.wraps(handler)
            def call(message: received.Message) -> Any:
                ours = Delivery(message, self) if isinstance(message, AsyncDelivery) else Message(message, self)
                return handler(ours)

            async def registered() -> None:
                register(call)

            if self._loop is None:
                register(call)
            else:
                self.wait(registered())
            return handler

        return decorate

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the agent's thread do something, and wait for it. Interrupted (by Ctrl-C, say), it is cancelled there.

        Raises:
            Closed: if the agent is not open.
        """
        loop = self._loop
        if loop is None:
            work.close()
            raise Closed(f"agent {self._inner.name} is not open")
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except CancelledError:
            raise Closed(f"agent {self._inner.name} is closed") from None
        except BaseException:
            future.cancel()
            raise

    async def _submit(self, receipt: "Future[Receipt]", topic: str, data: Any, options: PublishOptions) -> None:
        settled = await self._inner.submit(topic, data, **options)
        settled.add_done_callback(functools.partial(_copy, receipt))


def _copy(receipt: "Future[Receipt]", settled: "asyncio.Future[Receipt]") -> None:
    """Give one future's outcome to another, for another thread."""
    if not receipt.set_running_or_notify_cancel():
        return
    error = settled.exception() if not settled.cancelled() else Closed("the agent is closed")
    if error is not None:
        receipt.set_exception(error)
    else:
        receipt.set_result(settled.result())


__all__ = ["Agent", "Consumption", "Delivery", "Message", "Subscription", "Tracked"]
