"""A workflow as its users hold it: start instances, see where they stand, and order what becomes of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from hubbub.agent import Agent
from hubbub.errors import MessageDecodeError
from hubbub.message import Message
from hubbub.stopping import cancel_and_wait
from hubbub.subscription import Subscription

from . import topics
from .book import PAGE, Book
from .diagram import mermaid
from .engine import Engine
from .errors import AlreadyStarted, NoSuchInstance
from .instance import Change, Heard, Instance, Order, Ordered, Status
from .model import Workflow
from .state_store import book_of
from .step import begin


class Flow:
    """The instances of one workflow.

        flow = Flow(agent, report)
        await flow.start("r-42", {"question": "what is it?"})
        async for change in flow.watch("r-42"):
            print(change.source, "->", change.target, change.why)

    With a name in the place of the workflow everything works but `start`. An order is a step like any other: it is made
    here, by compare-and-set, and needs no coordinator.
    """

    def __init__(
        self,
        agent: Agent,
        workflow: Workflow | str,
        *,
        group: str | None = None,
        by: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`group`: where its instances are. Default: the agent's own group. `by`: in whose name it starts and orders.
        Default: the agent's.
        """
        where = group or agent.group
        if where is None:
            raise ValueError("a flow needs a group: give one here, or to its agent")
        self._agent = agent
        self._model = workflow if isinstance(workflow, Workflow) else None
        self.name = workflow.name if isinstance(workflow, Workflow) else workflow
        self.home = topics.home_of(where, self.name)
        """The workflow's own conversation; each instance has one below it."""
        self._book: Book = book_of(agent, self.home)
        self._engine = Engine(self._book, clock=clock)
        self._clock = clock
        self._by = by or agent.name

    def __repr__(self) -> str:
        return f"<Flow {self.home}>"

    async def start(self, id: str, data: dict[str, Any] | None = None) -> Instance:
        """Start an instance. It is there, and its first tasks are out, when this returns.

        Again with the same id and the same data changes nothing, and returns where the instance stands.

        Raises:
            AlreadyStarted: there is another instance of that id.
            InvalidName: the id is no segment of a topic.
            HubbubError: what kept it from being written.
        """
        if self._model is None:
            raise ValueError("to start an instance its workflow is needed, not only the name")
        topics.conversation_of(self.home, id)
        given = msgspec.json.decode(msgspec.json.encode(data or {}))
        await self._book.declare(self._model)
        step = begin(self._model, id, given, now=self._clock(), by=self._by)
        try:
            await self._book.commit(self._model, step, None)
        except AlreadyStarted:
            there = (await self._book.load(id)).instance
            if there.model != self._model.digest or any(there.data.get(name) != value for name, value in given.items()):
                raise
            return there
        return step.instance

    async def get(self, id: str) -> Instance:
        """Where an instance stands.

        Raises:
            NoSuchInstance
        """
        return (await self._book.load(id)).instance

    async def instances(
        self, status: Status | None = None, *, state: str | None = None, after: str | None = None, limit: int = PAGE
    ) -> tuple[list[Instance], str | None]:
        """Instances in the order of their ids, and the id behind which to go on (None: that was all).

        A page is read at a time, so fewer than `limit` may come although there are more.
        """
        found, more = await self._book.instances(after=after, limit=limit)
        wanted = [one for one in found if (status is None or one.status is status) and state in (None, one.state)]
        return wanted, more

    async def tell(self, id: str, type: str, data: Any = None) -> Instance:
        """Say to an instance what a message of that type in its conversation would say, and hear what came of it.

        Raises:
            IllegalTransition: it means nothing in its state. Nothing was changed.
            NoSuchInstance
        """
        return await self._engine.demand(id, Heard(type=type, by=self._by, value=data))

    async def order(self, id: str, order: Order, why: str = "") -> Instance:
        """Pause, resume, cancel, or try again.

        Raises:
            IllegalTransition: it can't, where the instance stands. Nothing was changed.
            NoSuchInstance
        """
        return await self._engine.demand(id, Ordered(order=order, by=self._by, why=why))

    async def pause(self, id: str, why: str = "") -> Instance:
        """Give out nothing more until `resume`. What is at work goes on, and its result is taken. Raises as `order`."""
        return await self.order(id, Order.PAUSE, why)

    async def resume(self, id: str, why: str = "") -> Instance:
        """Go on; the time of the pause does not count for time-outs. Raises as `order`."""
        return await self.order(id, Order.RESUME, why)

    async def cancel(self, id: str, why: str = "") -> Instance:
        """End it; what was done is undone first, where the declaration says how. Raises as `order`."""
        return await self.order(id, Order.CANCEL, why)

    async def retry(self, id: str, why: str = "") -> Instance:
        """Go on from where it failed; from the beginning, if what it did was undone. Raises as `order`."""
        return await self.order(id, Order.RETRY, why)

    async def watch(self, id: str) -> AsyncIterator[Change]:
        """Every change of an instance, from its first on, until it is at an end."""
        run = await self._run(id)
        async with self._changes(id) as messages:
            async for message in messages:
                change = _change(message)
                if change is None or change.run < run:  # of an earlier instance of that id
                    continue
                yield change
                if change.ended and (await self._ended(change)):
                    return

    async def history(self, id: str) -> list[Change]:
        """Every change of an instance so far.

        Raises:
            NoSuchInstance: nothing is known of it.
        """
        async with self._changes(id) as messages:
            ending = asyncio.create_task(_close_when_caught_up(messages))
            try:
                found = [change async for one in messages if (change := _change(one)) is not None]
            finally:
                await cancel_and_wait(ending)
        if not found:
            raise NoSuchInstance(f"{self.home} has no instance {id[:80]!r}")
        return [change for change in found if change.run == found[-1].run]

    async def diagram(self, id: str | None = None) -> str:
        """The declared machine as a Mermaid diagram; with an instance, where it stands and which way it came.

        Where only the name of the workflow is known, and no instance is asked for, it is the declaration that was
        written down last.

        Raises:
            NoSuchInstance: there is no such instance, or no declaration.
        """
        if id is None:
            return mermaid(self._model or await self._book.newest_model())
        instance = await self.get(id)
        return mermaid(await self._book.model(instance.model), instance, await self.history(id))

    async def model_of(self, instance: Instance) -> Workflow:
        """The declaration that an instance goes by."""
        return await self._book.model(instance.model)

    def _changes(self, id: str) -> Subscription:
        # Whatever else is said in that conversation does not come here.
        topic = topics.conversation_of(self.home, id)
        return self._agent.subscribe(topic, start="all", where={"type": topics.CHANGE})

    async def _ended(self, change: Change) -> bool:
        """Whether that end was the last: it may have been tried again since."""
        try:
            now = await self.get(change.id)
        except NoSuchInstance:
            return True
        return (now.run, now.n) == (change.run, change.n)

    async def _run(self, id: str) -> int:
        """Which of the instances that had this id is the newest; 0 if none is kept."""
        try:
            return (await self.get(id)).run
        except NoSuchInstance:
            return 0


def _change(message: Message) -> Change | None:
    """What a message of that type tells; None if somebody else's message only looks like it."""
    try:
        return msgspec.convert(message.data, Change)
    except (msgspec.ValidationError, MessageDecodeError):
        return None


async def _close_when_caught_up(subscription: Subscription) -> None:
    await subscription.caught_up()
    await subscription.close()  # what was read ahead is still handed out
