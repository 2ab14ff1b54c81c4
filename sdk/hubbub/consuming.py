"""How an agent takes part in consumers: what it may say of one, and who works on what comes."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, TypedDict

from hubbub_protocol import names
from hubbub_protocol.frames import Gap

from .activity import Activity
from .cancels import Cancels
from .consumer import Consumer, ConsumerSpec, Taker
from .consumers import ConsumerTable, check_apart
from .delivery import Delivery
from .errors import LeaseLost, fresh
from .handlers import ErrorHook, Handler
from .message import Publisher
from .naming import checked
from .seen import MemorySeen, SeenStore
from .stats import Stats
from .subscription import StartOption, start_of
from .wants import Select, Where, wanted
from .workers import AckPolicy, Workers

ACK_WAIT_SECONDS = 30.0
"""How long the broker waits for a sign of life before it gives a message to another, unless told otherwise."""

CLOSE_SECONDS = 5.0
"""How long closing waits for confirmations."""

MAX_UNACKED = 16
"""Messages that the broker gives ahead of their acks, likewise: each is at work at once by default, so not too many."""


class ConsumerOptions(TypedDict, total=False):
    """What may be said of a consumer beside its topic and its name."""

    ack_wait: float
    """Seconds after which the broker gives a message to another, when it hears nothing. Default 30.

    The agent tells it by itself, so a handler may take longer: this is how long a crash goes unnoticed while the
    connection seems to stand."""
    max_unacked: int
    """Messages that the broker gives before the first is settled. Default 16."""
    max_deliver: int
    """Deliveries after which a message that fails goes to the dead letters; 0: never. Default: the broker's, 5."""
    backoff: Sequence[float]
    """Seconds until a message that failed comes again: after the first failure, the second, …; the last goes on."""
    exclusive: bool
    """One member at a time gets everything, the others stand by."""
    ordered: str
    """The header whose value is a message's key, or `*`, where its topic is: messages of one key are worked on one
    after the other."""
    where: Where
    """Only messages of which this holds are the consumer's business; the others count as settled: see
    docs/context.md."""
    select: Select
    """Its members are given only these parts of their data and headers."""


class HandlerOptions(ConsumerOptions, total=False):
    """And what a handler may say beside."""

    ack: Literal["return", "receipt", "manual"]
    """When a message is acked: see `hubbub.workers`. Default: when the handler returns."""
    dedup: SeenStore | None
    """What remembers which messages were done: see `hubbub.seen`. Default: a `MemorySeen` of its own; None: nothing."""


def spec_of(topic: str, name: str, start: StartOption, options: ConsumerOptions) -> ConsumerSpec:
    """What is asked of the broker.

    Raises:
        InvalidName, ValueError: saying what is wrong with it.
    """
    checked(names.check_consumer, name)
    ack_wait = options.get("ack_wait", ACK_WAIT_SECONDS)
    max_unacked = options.get("max_unacked", MAX_UNACKED)
    max_deliver = options.get("max_deliver")
    backoff = options.get("backoff")
    if not ack_wait > 0:
        raise ValueError(f"ack_wait is {ack_wait}: seconds, more than 0")
    if max_unacked < 1:
        raise ValueError(f"max_unacked is {max_unacked}: 1 message or more")
    if max_deliver is not None and max_deliver < 0:
        raise ValueError(f"max_deliver is {max_deliver}: 1 delivery or more, or 0 for no end")
    if backoff is not None and not (len(backoff) and all(seconds >= 0 for seconds in backoff)):
        raise ValueError(f"backoff is {backoff!r}: one number of seconds or more")
    if options.get("exclusive") and options.get("ordered") is not None:
        raise ValueError("exclusive and ordered exclude one another")
    return ConsumerSpec(
        topic=topic,
        name=name,
        start=start_of(start),
        ack_wait=ack_wait,
        max_unacked=max_unacked,
        max_deliver=max_deliver,
        backoff=None if backoff is None else tuple(backoff),
        exclusive=options.get("exclusive", False),
        ordered=options.get("ordered"),
        filter=wanted(options.get("where"), options.get("select")),
    )


@dataclass(frozen=True, slots=True)
class WorkerRegistration:
    """A handler of a consumer, and what it wants."""

    spec: ConsumerSpec
    handler: Handler
    concurrency: int
    policy: AckPolicy
    options: HandlerOptions
    kind: type[Consumer]

    @classmethod
    def maker(
        cls,
        spec: ConsumerSpec,
        concurrency: int | None,
        options: HandlerOptions,
        kind: type[Consumer] = Consumer,
    ) -> "Callable[[Handler], WorkerRegistration]":
        """What makes one of a handler.

        Raises:
            ValueError: if an option is out of range.
        """
        number = spec.max_unacked if concurrency is None else concurrency
        if not 1 <= number <= spec.max_unacked:
            raise ValueError(f"concurrency is {number}: 1 to max_unacked, which is {spec.max_unacked}")
        policy = AckPolicy(options.get("ack", "return"))
        return lambda handler: cls(spec, handler, number, policy, options, kind)

    def check_apart(self, others: Iterable[object]) -> None:
        """Make sure that it shares no messages with the other handlers of its agent.

        Raises:
            Conflict: it does.
        """
        specs = [other.spec for other in others if isinstance(other, WorkerRegistration)]
        check_apart(specs, self.spec.name, self.spec.topic)


class Consumption:
    """Membership in a consumer: an asynchronous iterator over messages to be settled.

        async with joe.consume("research/tasks", consumer="workers") as tasks:
            async for msg in tasks:
                await work(msg)
                await msg.ack()

    A message is kept from others, by itself, as long as it is held here; one that nobody holds any more goes to another
    when its `ack_wait` is over. At the end of the block what was not settled is given back.

    With a handler (`Agent.on`) there is nothing to iterate over; it is drained in the same way.
    """

    def __init__(self, consumer: Consumer, inbox: "Inbox | None") -> None:
        self.consumer = consumer
        """What it is for the agent."""
        self._inbox = inbox

    def __repr__(self) -> str:
        return f"<Consumption {self.name} of {self.topic}>"

    @property
    def topic(self) -> str:
        """The topic or pattern."""
        return self.consumer.spec.topic

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self.consumer.spec.name

    @property
    def unsettled(self) -> int:
        """Messages that this agent was given and whose end the broker has not confirmed."""
        return self.consumer.unsettled

    async def ready(self) -> None:
        """Wait until the broker has taken this member.

        Raises:
            HubbubError: what ended it instead.
        """
        await self.consumer.ready.wait()
        self._check()

    async def caught_up(self) -> None:
        """Wait until there was nothing left from before.

        Raises:
            HubbubError: what ended it instead.
        """
        await self.consumer.live.wait()
        self._check()

    async def drain(self, seconds: float = 10.0) -> None:
        """Take nothing more, give back what was not begun, and let what is at work be finished, settled and confirmed,
        for so many seconds. What is not finished by then is given back, too, and cancelled.
        """
        await self.consumer.drain(seconds)

    async def close(self) -> None:
        """End it: give back what was not settled, and wait until the broker has confirmed what was (for a moment: if it
        is away, that is told when it is back).
        """
        await self.consumer.drain(CLOSE_SECONDS, finish=False)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delivery:
        assert self._inbox is not None, "what has a handler is not iterated over"
        delivery = await self._inbox.get()
        if delivery is None:
            raise StopAsyncIteration
        return delivery

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _check(self) -> None:
        if self.consumer.error is not None:
            raise fresh(self.consumer.error)


class Inbox:
    """Messages of a consumer that its reader has not taken yet. The broker bounds them by `max_unacked`."""

    def __init__(self, stats: Stats, limit: int) -> None:
        self._stats = stats
        self._limit = limit
        self._waiting: deque[Delivery] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self._error: BaseException | None = None

    async def get(self) -> Delivery | None:
        """The next, or None at the end. Cancelling it loses nothing.

        Raises:
            HubbubError: what ended it.
        """
        while not self._waiting:
            if self._ended:
                if self._error is not None:
                    raise fresh(self._error)
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft()

    def take(self, delivery: Delivery) -> None:
        if delivery.ephemeral and len(self._waiting) >= self._limit:
            self._stats.dropped += 1  # nobody else bounds what is not acked
            return
        self._waiting.append(delivery)
        self._changed.set()

    def lost(self, delivery: Delivery, _error: LeaseLost) -> bool:
        if delivery in self._waiting:
            self._waiting.remove(delivery)
        return False

    def hold(self) -> list[Delivery]:
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def give_back(self) -> list[Delivery]:
        waiting = self.hold()
        self._ended = True
        self._changed.set()
        return waiting

    def cancel(self) -> None:
        """Whoever took a message out sees that it is `lost`."""

    async def finished(self) -> None:
        """Nothing is at work here."""

    def end(self, error: BaseException | None) -> None:
        self._waiting.clear()
        self._ended = True
        self._error = self._error or error
        self._changed.set()


class Consumptions:
    """All consumers that an agent takes part in."""

    def __init__(
        self,
        publisher: Publisher,
        stats: Stats,
        cancels: Cancels,
        activity: Activity,
        on_error: Callable[[], ErrorHook | None],
    ) -> None:
        self.table = ConsumerTable()
        self.at_work: dict[tuple[str, str], Consumption] = {}
        """Those with handlers, by topic and name."""
        self._publisher = publisher
        self._stats = stats
        self._cancels = cancels
        self._activity = activity
        self.paused = False
        """Whether nothing is taken for now."""
        self._room: dict[Consumer, int] = {}
        self._workers: dict[Consumer, Workers] = {}
        self._on_error = on_error

    def iterate(
        self, spec: ConsumerSpec, on_gap: Callable[[Gap], None] | None, kind: type[Consumer] = Consumer
    ) -> tuple[Consumer, "Inbox"]:
        """Join, and read by iterating.

        Raises:
            Conflict: this agent is in it already.
        """
        inbox = Inbox(self._stats, spec.max_unacked)
        return self._join(spec, inbox, spec.max_unacked, on_gap, kind), inbox

    def work(self, wanted: WorkerRegistration) -> None:
        """Join, and have a handler called.

        Raises:
            Conflict: this agent is in it already.
        """
        spec, options = wanted.spec, wanted.options
        workers = Workers(
            wanted.handler,
            concurrency=wanted.concurrency,
            policy=wanted.policy,
            dedup=options["dedup"] if "dedup" in options else MemorySeen(),
            stats=self._stats,
            cancels=self._cancels,
            activity=self._activity,
            on_error=self._on_error,
        )
        consumer = workers.consumer = self._join(spec, workers, wanted.concurrency, None, wanted.kind)
        self._workers[consumer] = workers
        self.at_work[spec.topic, spec.name] = Consumption(consumer, None)

    async def drain(self, seconds: float) -> int:
        """Finish what handlers are at work on. What was taken from an iterator may be with whoever is closing the
        agent: that is not waited for. Returns how much was not finished, and is given back.
        """
        workers = {consumption.consumer for consumption in self.at_work.values()}
        consumers = list(self.table)
        await asyncio.gather(*(consumer.drain(seconds, finish=consumer in workers) for consumer in consumers))
        return sum(consumer.unfinished for consumer in consumers)

    def pause(self) -> None:
        """Take nothing more for now."""
        self.paused = True
        for consumer in self.table:
            consumer.pause()

    def resume(self) -> None:
        """Go on."""
        self.paused = False
        for consumer in self.table:
            consumer.resume()

    def limit_concurrency(self, most: int) -> None:
        """Let each handler work on so many messages at a time, and on no more than it was made for."""
        for workers in self._workers.values():
            workers.limit(most)

    @property
    def room(self) -> int:
        """Messages that can be at work here at a time."""
        made = sum(self._room.values())
        return made - sum(workers.withheld for workers in self._workers.values())

    @property
    def held(self) -> int:
        """Messages that this agent was given and whose end the broker has not confirmed."""
        return sum(consumer.unsettled for consumer in self.table)

    def _join(
        self,
        spec: ConsumerSpec,
        taker: Taker,
        room: int,
        on_gap: Callable[[Gap], None] | None,
        kind: type[Consumer],
    ) -> Consumer:
        self.table.check(spec.name, spec.topic)
        consumer = kind(spec, taker, self._publisher, self._stats, on_gap=on_gap, gone=self._gone)
        self._room[consumer] = room
        if self.paused:
            consumer.pause()
        self.table.add(consumer)
        return consumer

    def _gone(self, consumer: Consumer) -> None:
        self._room.pop(consumer, None)
        self._workers.pop(consumer, None)
        self.table.remove(consumer)
