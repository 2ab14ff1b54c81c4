"""The record of a workflow's instances, on shared state.

Each step of an instance is one change of the state: its record, the key under which its next due time stands, the lines
of its history, and the tasks that go out. All or nothing, and only if the record is what the step was decided on. So
nothing here is ever to be repaired, whoever dies when.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec

from hubbub.errors import HubbubError, StateConflictError

from . import topics
from .draft import Step
from .errors import AlreadyStarted, NoSuchInstance
from .instance import Assignment, Change, Instance
from .model import Workflow
from .store import Post, Store

PAGE = 100
"""Instances that are read at a time."""

MODELS_MAX = 64
"""Declarations of one workflow that are remembered here; others are read again."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands under an instance's key."""

    instance: Instance
    due: str
    """The key of its next due time. There is always one, so that only a start can meet the limit of a state's keys."""


class Held(NamedTuple):
    """An instance as it was read."""

    record: Record
    version: int

    @property
    def instance(self) -> Instance:
        """Where it stands."""
        return self.record.instance


class Due(NamedTuple):
    """Something that happens by itself."""

    key: str
    at: float
    id: str


class Book:
    """The instances of one workflow."""

    def __init__(self, store: Store, home: str) -> None:
        self.home = home
        self._store = store
        self._models: dict[str, Workflow] = {}
        self._declared: set[str] = set()

    # Declarations -----------------------------------------------------------------------------------------------

    async def declare(self, model: Workflow) -> None:
        """Write a declaration down, so that whoever sees an instance of it knows what it goes by."""
        self._models[model.digest] = model
        if model.digest in self._declared:
            return
        key = topics.model_key(model.digest)
        with contextlib.suppress(StateConflictError):  # it stands there already: the key says what it is
            await self._store.change({key: model.as_dict()}, expected={key: 0}, delete=(), posts=())
        self._declared.add(model.digest)

    async def model(self, digest: str) -> Workflow:
        """A declaration that somebody has written down.

        Raises:
            NoSuchInstance: nobody has.
        """
        model = self._models.get(digest)
        if model is None:
            fields, _ = await self._store.get(topics.model_key(digest))
            if fields is None:
                raise NoSuchInstance(f"{self.home} has no declaration {digest}: its instances can't be read")
            model = Workflow.from_dict(fields)
            if len(self._models) >= MODELS_MAX:
                self._models.pop(next(iter(self._models)))
            self._models[digest] = model
        return model

    async def newest_model(self) -> Workflow:
        """The declaration that was written down last.

        Raises:
            NoSuchInstance: there is none.
        """
        newest: tuple[int, Any] = (0, None)
        after: str | None = None
        while True:
            page = await self._store.page(f"{topics.MODELS}/*", after=after, limit=PAGE)
            newest = max([newest, *((version, fields) for _, fields, version in page.entries)], key=lambda one: one[0])
            after = page.more
            if after is None:
                break
        if not newest[0]:
            raise NoSuchInstance(f"{self.home} has no declaration: nothing was started or coordinated there")
        return Workflow.from_dict(newest[1])

    # Instances --------------------------------------------------------------------------------------------------

    async def load(self, id: str) -> Held:
        """Where an instance stands.

        Raises:
            NoSuchInstance
            HubbubError: what stands there can't be read.
        """
        fields, version = await self._store.get(topics.instance_key(id))
        if fields is None:
            raise NoSuchInstance(f"{self.home} has no instance {id[:80]!r}")
        return Held(_record(topics.instance_key(id), fields), version)

    async def commit(self, model: Workflow, step: Step, held: Held | None) -> None:
        """Take a step of a workflow, decided on what was read (None: there is nothing yet).

        Raises:
            StateConflictError: somebody else took one meanwhile. Nothing was changed.
            AlreadyStarted: it is there already.
        """
        instance = step.instance
        at = instance.since + model.keep if instance.ended else instance.due
        due = topics.due_key(at, instance.id)
        key = topics.instance_key(instance.id)
        put: dict[str, Any] = {key: msgspec.to_builtins(Record(instance, due))}
        delete: list[str] = []
        before = None if held is None else held.record.due
        if due != before:
            put[due] = instance.n
            if before is not None:
                delete.append(before)
        posts = [self._told(change) for change in step.changes] + [self._task(task) for task in step.tasks]
        expected = {key: 0 if held is None else held.version}
        try:
            await self._store.change(put, expected=expected, delete=delete, posts=posts)
        except StateConflictError:
            if held is None:
                raise AlreadyStarted(f"{self.home} has an instance {instance.id!r} already") from None
            raise

    async def forget(self, held: Held) -> None:
        """Remove the record of an instance that has ended.

        Raises:
            StateConflictError: it goes on.
        """
        key = topics.instance_key(held.instance.id)
        await self._store.change({}, expected={key: held.version}, delete=[key, held.record.due], posts=())

    async def drop_due(self, due: Due) -> None:
        """Remove a due time that belongs to no instance."""
        await self._store.change({}, expected={}, delete=[due.key], posts=())

    async def instances(self, *, after: str | None = None, limit: int = PAGE) -> tuple[list[Instance], str | None]:
        """A page of instances, in the order of their ids, and behind which id to go on."""
        behind = None if after is None else topics.instance_key(after)
        page = await self._store.page(f"{topics.INSTANCES}/*", after=behind, limit=limit)
        found = [_record(key, value).instance for key, value, _ in page.entries]
        return found, None if page.more is None else page.more.partition("/")[2]

    async def dues(self) -> AsyncIterator[list[Due]]:
        """All due times, the earliest first, a page at a time."""
        after: str | None = None
        while True:
            page = await self._store.page(f"{topics.DUES}/**", after=after, limit=PAGE)
            yield [Due(key, *at) for key, _, _ in page.entries if (at := topics.due_of(key)) is not None]
            after = page.more
            if after is None:
                return
            await asyncio.sleep(0)

    # ------------------------------------------------------------------------------------------------------------

    def _told(self, change: Change) -> Post:
        return Post(
            topic=topics.conversation_of(self.home, change.id),
            id=f"{change.workflow}.{change.id}.{change.run}.{change.n}",
            type=topics.CHANGE,
            data=msgspec.to_builtins(change),
            headers=BEGINS,
        )

    def _task(self, task: Assignment) -> Post:
        return Post(
            topic=topics.tasks_of(self.home.partition("/")[0], task.handler),
            id=task.id,
            type=topics.TASK,
            data=msgspec.to_builtins(task),
            headers={**BEGINS, topics.INSTANCE: task.instance},
        )


def _record(key: str, fields: Any) -> Record:
    """What stands under an instance's key.

    Raises:
        HubbubError: it is no record.
    """
    try:
        return msgspec.convert(fields, Record)
    except msgspec.ValidationError as error:
        raise HubbubError(f"what stands under {key} is no instance: {error}") from error


BEGINS = {"hops": 0}
"""A workflow may go round as often as its declaration says: its table ends it, not the guard against long chains."""
