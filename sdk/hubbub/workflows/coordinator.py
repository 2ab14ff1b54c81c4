"""Coordinators: they hear what happened, and make the step that follows from it.

Any number of processes coordinate the same workflow. They share what happens through consumers: the answers of one
instance one after the other, and its messages in their order. Each event is acked after its step is durable. What is
heard twice is refused the second time, so a coordinator may die at any point. Nothing that matters is in its memory.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec

from hubbub.agent import Agent
from hubbub.delivery import Delivery
from hubbub.errors import HubbubError, MessageDecodeError, RequestTimeout, StateConflictError
from hubbub.stopping import cancel_and_wait
from hubbub_protocol.frames import BY_TOPIC

from . import topics
from .book import Book, Due
from .engine import Engine
from .errors import NoSuchInstance
from .instance import Broke, Elapsed, Event, Finished, Heard
from .model import Workflow
from .state_store import book_of

logger = logging.getLogger("hubbub")

CONSUMER = "coordinators"
BACKOFF_SECONDS = (0.1, 0.5, 2.0, 10.0)
"""When an event comes again that could not be dealt with."""

EVENTS_MAX = 64
"""Events at a time."""

TICK_SECONDS = 1.0
"""How often a coordinator looks for due times that others have set."""

TYPES_MAX = 10_000
"""Instances of which is remembered, for so many seconds, which messages may move them."""
TYPES_SECONDS = 30.0

ACK_WAIT_SECONDS = 10.0
"""How long a coordinator that died goes unnoticed, when its connection seems to stand."""


class Coordinator:
    """Moves the instances of a workflow.

        async with Agent("coordinator-1", group="research") as agent:
            await Coordinator(agent, report).run()

    Instances of earlier declarations of the same name are moved too, each by the declaration that it was started with.
    """

    def __init__(
        self,
        agent: Agent,
        workflow: Workflow,
        *,
        group: str | None = None,
        tick: float = TICK_SECONDS,
        clock: Callable[[], float] = time.time,
        source: random.Random | None = None,
    ) -> None:
        """Args:
        agent: whose connection is used, and who is named in the history.
        workflow: what is coordinated.
        group: where. Default: the agent's own group.
        keep: seconds that an instance which ended is kept for `Flow.get`, `list` and retries.
        tick: seconds between two looks for what is due; time-outs are as exact as that.
        clock, source: seconds since the epoch, and randomness; for tests.
        """
        where = group or agent.group
        if where is None:
            raise ValueError("a coordinator needs a group: give one here, or to its agent")
        if not tick > 0:
            raise ValueError(f"tick is {tick}: seconds, more than 0")
        self.agent = agent
        self.workflow = workflow
        self._home = topics.home_of(where, workflow.name)
        self._book: Book = book_of(agent, self._home)
        self._random = source or random.Random()
        self.engine = Engine(self._book, clock=clock, source=self._random)
        self._clock = clock
        self._tick = tick
        self._wake = asyncio.Event()
        self._next = 0.0
        self._ticking: asyncio.Task[None] | None = None
        self._types: dict[str, tuple[float, frozenset[str]]] = {}
        self._consuming: list[tuple[str, str]] = []

    async def run(self) -> None:
        """Coordinate until this is cancelled."""
        async with self:
            await asyncio.Event().wait()

    async def __aenter__(self) -> Self:
        await self._declare()
        self._consume(topics.answers_of(self._home), self._hear_answer, ordered=topics.INSTANCE)
        # Whether or not this declaration waits for any: instances of another one may, and nobody else may be left.
        self._consume(f"{self._home}/*", self._hear_message, ordered=BY_TOPIC, where={"type": {"!=": topics.CHANGE}})
        for topic, consumer in self._consuming:
            await self.agent.consumption(topic, consumer).ready()
        self._ticking = asyncio.create_task(self._watch_dues(), name=f"hubbub-dues-{self._home}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._ticking is not None:
            await cancel_and_wait(self._ticking)
        for topic, consumer in self._consuming:
            await self.agent.consumption(topic, consumer).drain()

    async def _declare(self) -> None:
        """Write the declaration down, however long the broker is away."""
        while True:
            try:
                return await self._book.declare(self.workflow)
            except RequestTimeout as error:
                logger.warning("! %s can't be coordinated yet: %s", self._home, error)

    def _consume(self, topic: str, handler: Callable[[Delivery], Any], **options: Any) -> None:
        self.agent.on(
            topic,
            consumer=CONSUMER,
            start="all",
            max_unacked=EVENTS_MAX,
            max_deliver=0,
            backoff=BACKOFF_SECONDS,
            ack_wait=ACK_WAIT_SECONDS,
            dedup=None,  # what comes twice is refused by the instance itself
            **options,
        )(handler)
        self._consuming.append((topic, CONSUMER))

    # What happens -----------------------------------------------------------------------------------------------

    async def _hear_answer(self, delivery: Delivery) -> None:
        kind: type[Finished | Broke] = Finished if delivery.type == topics.FINISHED else Broke
        try:
            id = delivery.headers.get(topics.INSTANCE)
            event = msgspec.convert(delivery.data, kind)
        except (msgspec.ValidationError, MessageDecodeError) as error:
            logger.warning("! %r is no answer to a task: %s", delivery, error)
            return
        if isinstance(id, str):
            await self._happen(id, msgspec.structs.replace(event, by=delivery.sender))

    async def _hear_message(self, delivery: Delivery) -> None:
        kind, (_, _, id) = delivery.type, delivery.topic.rpartition("/")
        if kind is None or kind == topics.CHANGE or kind not in await self._types_of(id):
            return
        try:
            value = delivery.data
        except MessageDecodeError:
            value = None
        if isinstance(value, bytes):
            value = None  # what is no JSON does not go into the record
        await self._happen(id, Heard(type=kind, by=delivery.sender, value=value, seq=delivery.seq))

    async def _types_of(self, id: str) -> frozenset[str]:
        """Which messages may move an instance, by the declaration that it goes by. All others are only talk."""
        known = self._types.get(id)
        now = self._clock()
        if known is None or known[0] < now:
            try:
                held = await self._book.load(id)
            except NoSuchInstance:
                return frozenset()  # and not remembered: it may be started any time
            if len(self._types) >= TYPES_MAX:
                self._types.clear()
            model = await self._book.model(held.instance.model)
            known = self._types[id] = now + TYPES_SECONDS, model.message_types
        return known[1]

    async def _happen(self, id: str, event: Event) -> None:
        try:
            outcome = await self.engine.happen(id, event)
        except NoSuchInstance as error:
            logger.info("! %s: %r is of no use", error, event)
            return
        due = getattr(outcome, "due", None)
        if due is not None:
            self._expect(due)

    # Time -------------------------------------------------------------------------------------------------------

    def _expect(self, due: float) -> None:
        """Look again at that time, if that is before the next look."""
        if due < self._next:
            self._next = due
            self._wake.set()

    async def _watch_dues(self) -> None:
        while True:
            try:
                due = await self._look()
            except HubbubError as error:
                logger.warning("! the due times of %s can't be read: %s", self._home, error)
                due = None
            except Exception:  # whatever it is, time goes on for all other instances
                logger.exception("! looking at the due times of %s failed", self._home)
                due = None
            # Coordinators that look at the same moment would all be at the same instances.
            rest = self._tick * self._random.uniform(0.8, 1.2)
            self._next = self._clock() + rest if due is None else min(self._clock() + rest, due)
            while (wait := self._next - self._clock()) > 0:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()

    async def _look(self) -> float | None:
        """Let happen what is due. When the next will be; None: nothing is expected."""
        async for page in self._book.dues():
            now = self._clock()
            due = [one for one in page if one.at <= now]
            self._random.shuffle(due)
            for one in due:
                await self._let_happen(one)
            if len(due) < len(page):
                return page[len(due)].at
        return None

    async def _let_happen(self, due: Due) -> None:
        try:
            held = await self._book.load(due.id)
            if held.record.due != due.key:  # somebody else was here since
                return
            if held.instance.ended:
                await self._book.forget(held)
            else:
                await self._happen(due.id, Elapsed(by=self.agent.name))
        except NoSuchInstance:
            await self._book.drop_due(due)
        except StateConflictError:
            pass  # it goes on by itself
        except HubbubError as error:
            logger.warning("! %s of %s was due, and that failed: %s", due.id, self._home, error)
