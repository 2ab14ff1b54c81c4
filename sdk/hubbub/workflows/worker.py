"""Agents that do the work of workflows."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, Unpack

import msgspec

from hubbub.agent import Agent
from hubbub.consuming import HandlerOptions
from hubbub.delivery import Delivery, reason_of
from hubbub.errors import HubbubError, Reject, Retry, TooLarge, Unencodable
from hubbub.handlers import awaited

from . import topics
from .book import Book
from .errors import NoSuchInstance, TaskFailed
from .instance import Assignment, Broke, Finished
from .state_store import book_of
from .validation import is_handler

logger = logging.getLogger("hubbub")

DELIVERIES_MAX = 10
"""How often a task is begun by whoever it is given to, without an end of any kind, before that counts as a failure."""

BOOKS_MAX = 1_000
"""Workflows of which a worker remembers where they are."""

BACKOFF_SECONDS = (0.2, 1.0, 5.0)
"""When a task comes again whose worker was lost."""


class Outcome(NamedTuple):
    """What a handler returns that does not just say "done": where to go, by the name in the state's `on`."""

    name: str
    value: Any = None


TaskHandler = Callable[[Assignment], Any]
"""A function of a task. A coroutine function runs in the event loop, any other in a thread."""

H = TypeVar("H", bound=TaskHandler)


class Worker:
    """Handles tasks, shared with whoever else handles the same.

        worker = Worker(agent)

        @worker.handles("research")
        async def research(task):
            return {"findings": await search(task.data["question"])}

    What the handler returns (any JSON value, or an `Outcome`) ends the task. If it raises, the attempt has failed, and
    the declaration says what follows; `TaskFailed` says that trying again is of no use. A task is never lost: while its
    worker is gone, or the broker away, another gets it. So it may be worked on twice; its answer counts once.
    """

    def __init__(self, agent: Agent, *, group: str | None = None) -> None:
        """`group`: whose tasks. Default: the agent's own group."""
        self.agent = agent
        self.group = group or agent.group
        if self.group is None:
            raise ValueError("a worker needs a group: give one here, or to its agent")
        self._books: dict[str, Book] = {}

    def handles(self, handler: str, *, interrupt: bool = False, **options: Unpack[HandlerOptions]) -> Callable[[H], H]:
        """Decorate the function that handles the tasks of `NAME`, `agent:NAME` or `capability:NAME`.

        With `interrupt` a coroutine is cancelled when nobody wants its answer any more, because the instance was
        cancelled, or went on without it: for long work, since it costs a subscription for each task. The other
        `options` are those of a consumer (`max_unacked`: tasks at a time, `ack_wait`: how long a dead worker goes
        unnoticed; `max_deliver` is not for the caller to choose: tasks end in their own way).

        Raises:
            ValueError: it names no handler, another agent, or a capability that this agent does not say it has.
        """
        if not is_handler(handler):
            raise ValueError(f"{handler[:80]!r} is no handler: NAME, agent:NAME or capability:NAME")
        kind, _, name = handler.rpartition(":")
        if kind == "agent" and name != self.agent.name:
            raise ValueError(f"{handler!r} is another agent's: this one is {self.agent.name}")
        if kind == "capability" and name not in self.agent.capabilities:
            said = ", ".join(self.agent.capabilities) or "none"
            problem = f"{self.agent.name} does not say that it has the capability {name!r} (it says: {said})"
            raise ValueError(f"{problem}: Agent(…, capabilities=[…, {name!r}])")
        assert self.group is not None, "checked above"
        topic = topics.tasks_of(self.group, handler)
        options.setdefault("backoff", BACKOFF_SECONDS)
        options["max_deliver"] = 0

        def register(function: H) -> H:
            async def take(delivery: Delivery) -> None:
                await self._take(function, delivery, interrupt=interrupt and inspect.iscoroutinefunction(function))

            self.agent.on(topic, consumer=handler, start="all", **options)(take)
            return function

        return register

    async def _take(self, function: TaskHandler, delivery: Delivery, *, interrupt: bool) -> None:
        group, _, _ = delivery.topic.partition("/")
        try:
            task = msgspec.convert(delivery.data, Assignment)
            home = topics.home_of(group, task.workflow)
            topics.conversation_of(home, task.instance)
        except (msgspec.ValidationError, HubbubError) as error:
            raise Reject(f"this is no task: {error}") from error
        try:
            held = await self._book(home).load(task.instance)
        except NoSuchInstance:
            return
        if not held.instance.wants(task.task):
            return
        task = msgspec.structs.replace(task, data=held.instance.data)
        if delivery.attempt > DELIVERIES_MAX:
            reason = f"given out {delivery.attempt - 1} times, and nobody came to an end with it"
            answer: Finished | Broke | None = Broke(task=task.task, by=self.agent.name, error=reason)
        elif interrupt:
            answer = await self._work_while_wanted(function, home, task)
        else:
            answer = await self._work(function, task)
        if answer is not None:
            await self._answer(home, task, answer)

    async def _work_while_wanted(self, function: TaskHandler, home: str, task: Assignment) -> Finished | Broke | None:
        """The answer; None if it was not wanted any more before it was there."""
        working = asyncio.create_task(self._work(function, task), name=f"hubbub-task-{task.id}")
        watching = asyncio.create_task(self._until_unwanted(home, task), name=f"hubbub-wanted-{task.id}")
        try:
            await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
            if watching.done() and not watching.cancelled() and watching.exception() is None and not working.done():
                logger.info("= task %s is not wanted any more", task.id)
                return None
            return await working
        finally:
            for each in (working, watching):
                each.cancel()
            await asyncio.wait((working, watching))

    async def _until_unwanted(self, home: str, task: Assignment) -> None:
        topic = topics.conversation_of(home, task.instance)
        async with self.agent.subscribe(topic, where={"type": topics.CHANGE}) as changes:
            await changes.ready()
            while True:
                try:
                    held = await self._book(home).load(task.instance)
                except NoSuchInstance:
                    return
                if not held.instance.wants(task.task):
                    return
                await anext(changes)

    async def _work(self, function: TaskHandler, task: Assignment) -> Finished | Broke:
        try:
            result = await _call(function, task)
        except Retry:
            raise  # it comes again, as another delivery of the same attempt
        except (TaskFailed, Reject) as error:
            return Broke(task=task.task, by=self.agent.name, error=str(error) or type(error).__name__, fatal=True)
        except Exception as error:
            # One line: it is in the history, and may be tried again. Where it comes from is for who looks for it.
            logger.warning("! task %s failed: %s", task.id, reason_of(error))
            logger.debug("! task %s failed", task.id, exc_info=error)
            return Broke(task=task.task, by=self.agent.name, error=reason_of(error))
        outcome = result if isinstance(result, Outcome) else Outcome("done", result)
        return Finished(task=task.task, by=self.agent.name, outcome=outcome.name, value=outcome.value)

    async def _answer(self, home: str, task: Assignment, answer: Finished | Broke) -> None:
        try:
            await self._publish(home, task, answer)
        except (Unencodable, TooLarge) as error:
            reason = f"its result can't be sent: {error}"
            await self._publish(home, task, Broke(task=task.task, by=self.agent.name, error=reason, fatal=True))

    async def _publish(self, home: str, task: Assignment, answer: Finished | Broke) -> None:
        kind = topics.FINISHED if isinstance(answer, Finished) else topics.BROKE
        data = {name: getattr(answer, name) for name in answer.__struct_fields__}
        await self.agent.publish(
            topics.answers_of(home), data, id=f"{task.id}.{kind}", type=kind, headers={topics.INSTANCE: task.instance}
        )

    def _book(self, home: str) -> Book:
        book = self._books.get(home)
        if book is None:
            if len(self._books) >= BOOKS_MAX:
                self._books.clear()
            book = self._books[home] = book_of(self.agent, home)
        return book


async def _call(function: TaskHandler, task: Assignment) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(task)
    result = await asyncio.to_thread(function, task)
    return await awaited(result) if inspect.isawaitable(result) else result
