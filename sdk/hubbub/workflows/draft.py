"""A decision while it is made: the instance so far, the lines of its history, and the tasks that go out with it.

What events mean is in `step`; here is how an instance is changed, whatever the reason.
"""

from typing import Any, NamedTuple

from msgspec.structs import replace

from .declaration import COMPENSATING, State
from .instance import Assignment, Change, Instance, Task
from .model import Workflow

FAN_OUT_MAX = 200
"""Tasks of one state: all of them stand in the instance's record, and go out in one step."""

WHY_CHARS_MAX = 500
"""Characters of a reason that are kept."""


class Step(NamedTuple):
    """What is done, all of it together."""

    instance: Instance
    changes: tuple[Change, ...]
    tasks: tuple[Assignment, ...]


class Refusal(NamedTuple):
    """Nothing is done."""

    why: str
    stale: bool = False


class Draft:
    """An instance on its way to the next. Used for one decision."""

    def __init__(self, model: Workflow, instance: Instance, now: float, by: str) -> None:
        self._model = model
        self._now = now
        self._by = by
        self._entered = 0
        """States that this decision came into, one after the other."""
        self._instance = instance
        self._changes: list[Change] = []
        self._tasks: list[Assignment] = []

    def step(self) -> Step:
        """All of it."""
        return Step(self._instance, tuple(self._changes), tuple(self._tasks))

    @property
    def _undoing(self) -> bool:
        return self._instance.state == COMPENSATING

    @property
    def _spec(self) -> State:
        """The declaration of the state; while something is undone, of the state that did it."""
        instance = self._instance
        return self._model.states[instance.undo[-1] if instance.state == COMPENSATING else instance.state]

    def _causes(self) -> str:
        causes = ", ".join(self._model.causes(self._instance.state)) or "nothing"
        return f"what can happen in {self._instance.state}: {causes}"

    def _label(self, index: int, text: str) -> str:
        tasks = self._instance.tasks
        which = f"{tasks[index].handler} {index + 1} of {len(tasks)}" if len(tasks) > 1 else tasks[index].handler
        return f"{which}: {text}" if text else which

    def _put(self, index: int, task: Task) -> None:
        tasks = self._instance.tasks
        self._instance = replace(self._instance, tasks=(*tasks[:index], task, *tasks[index + 1 :]))

    def _keep(self, name: str, value: Any) -> None:
        self._instance = replace(self._instance, data={**self._instance.data, name: value})

    def _stay(self, cause: str, why: str) -> None:
        self._change(self._instance.state, self._instance.state, cause, why)

    def _send(self, index: int, task: Task) -> None:
        if self._instance.paused is not None:
            self._put(index, replace(task, status="waiting", due=self._now))
            return
        limit = self._spec.attempt_timeout
        task = replace(task, status="out", due=None if limit is None else self._now + limit)
        self._put(index, task)
        instance, undoing = self._instance, self._instance.state == COMPENSATING
        each = None if undoing else self._spec.each
        item = None
        if each is not None:
            items = items_of(instance.data, each)
            assert isinstance(items, list), "it was a list when the state was entered"
            item = items[index]
        self._tasks.append(
            Assignment(
                workflow=instance.workflow,
                instance=instance.id,
                state=instance.undo[-1] if undoing else instance.state,
                task=f"{instance.run}.{instance.visit}.{index}.{task.attempt}",
                handler=task.handler,
                attempt=task.attempt,
                index=index,
                item=item,
                undo=undoing,
                done=dict(instance.partly).get(len(instance.undo) - 1) if undoing else None,
            )
        )

    def _change(self, source: str | None, target: str, cause: str, why: str = "") -> None:
        n = self._instance.n + 1
        self._instance = replace(self._instance, n=n)
        self._changes.append(
            Change(
                id=self._instance.id,
                workflow=self._instance.workflow,
                run=self._instance.run,
                n=n,
                source=source,
                target=target,
                cause=cause,
                at=self._now,
                by=self._by,
                why=why[:WHY_CHARS_MAX],
                ended=self._model.is_end(target),
            )
        )


def items_of(data: dict[str, Any], path: str) -> list[Any] | str:
    """The list at a place in the data, or why there is none."""
    found: Any = data
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            return f"there is no {path!r} in its data to make tasks of"
        found = found[name]
    if not isinstance(found, list):
        return f"{path!r} in its data is no list to make tasks of"
    if len(found) > FAN_OUT_MAX:
        return f"{path!r} in its data has {len(found)} items: {FAN_OUT_MAX} at most become tasks"
    return found
