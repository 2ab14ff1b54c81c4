"""An instance of a workflow: what is stored of it, what happens to it, and what became of that.

Everything here is a value. An instance is one key of shared state; its next value is made by `step`, and nobody
changes one in place.
"""

from enum import StrEnum
from typing import Any, Literal, NamedTuple

import msgspec

from .declaration import CANCELLED, COMPENSATING, FAILED, stays


class Status(StrEnum):
    """How an instance is doing."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPENSATING = "compensating"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One piece of a state's work."""

    handler: str
    attempt: int = 1
    status: Literal["out", "waiting", "done", "failed"] = "out"
    """Whether somebody has it, it goes out later, it succeeded, or it failed for good."""
    due: float | None = None
    """When it goes out again (waiting), or counts as failed (out); None: never by itself."""
    outcome: str = "done"
    value: Any = None
    error: str = ""


class Instance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where one run of a workflow stands."""

    id: str
    workflow: str
    model: str
    """The digest of the declaration that it goes by, to its end."""
    run: int
    """Tells it from an earlier one of the same id, that is not kept any more: when it was started, in milliseconds."""
    n: int
    """How often it has changed: its changes are numbered 1, 2, 3 …"""
    state: str
    visit: int
    """The number of the change by which it came into its state: a state that is entered again is another visit."""
    started: float
    since: float
    """When it came into its state."""
    data: dict[str, Any]
    tasks: tuple[Task, ...] = ()
    deadline: float | None = None
    """When the time for its state is over."""
    paused: float | None = None
    """Since when it is paused."""
    undo: tuple[str, ...] = ()
    """States whose work can be undone and was not, the first one first."""
    partly: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """Of those whose tasks were not all done: their place in `undo`, and which tasks were."""
    undone: bool = False
    """Whether anything was undone: a retry begins at the beginning then."""
    goal: str | None = None
    """Where compensation leads."""
    left: str | None = None
    """The state in which it failed."""
    why: str = ""
    """Why it failed, or was cancelled."""
    heard: tuple[int, ...] = ()
    """Places in the conversation of the newest messages that moved it, in order."""
    ended: bool = False

    def wants(self, task: str) -> bool:
        """Whether the answer to a task still changes anything."""
        place = place_of(task)
        if place is None or self.ended or (place.run, place.visit) != (self.run, self.visit):
            return False
        if place.number >= len(self.tasks):
            return False
        return self.tasks[place.number].status in ("out", "waiting")

    @property
    def status(self) -> Status:
        """How it is doing."""
        if self.ended:
            return {FAILED: Status.FAILED, CANCELLED: Status.CANCELLED}.get(self.state, Status.DONE)
        if self.paused is not None:
            return Status.PAUSED
        return Status.COMPENSATING if self.state == COMPENSATING else Status.RUNNING

    @property
    def due(self) -> float | None:
        """When something happens to it by itself, next."""
        if self.ended or self.paused is not None:
            return None
        times = [task.due for task in self.tasks if task.due is not None and task.status in ("out", "waiting")]
        if self.deadline is not None:
            times.append(self.deadline)
        return min(times, default=None)


class Place(NamedTuple):
    """Which attempt a task's name means."""

    run: int
    visit: int
    number: int
    attempt: int


def place_of(task: str) -> Place | None:
    """Read the name of a task; None if it is none."""
    parts = task.split(".")
    if len(parts) != 4 or not all(part.isdecimal() and len(part) < 16 for part in parts):
        return None
    return Place(*map(int, parts))


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of an instance's history, as it is published in its conversation.

    `source` and `target` are the same where it stays in its state: a task was done, or is tried again, or somebody
    paused it.
    """

    id: str
    workflow: str
    run: int
    n: int
    source: str | None
    """None for the first."""
    target: str
    cause: str
    at: float
    by: str
    why: str = ""
    ended: bool = False
    """Whether it is at an end."""

    @property
    def is_transition(self) -> bool:
        """Whether it came into a state (the same one again, maybe)."""
        return not stays(self.cause)


class Assignment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task as it is given to a handler."""

    workflow: str
    instance: str
    state: str
    """The state that is worked on; with `undo`, the one whose work is undone."""
    task: str
    """Names the attempt: RUN.VISIT.INDEX.ATTEMPT."""
    handler: str
    attempt: int
    data: dict[str, Any] = {}
    """The instance's data: what it was started with, and the result of each state under its name. It does not travel
    with the task: whoever works on it reads it where the instance stands, and sees whether the work is still wanted."""
    index: int = 0
    item: Any = None
    """The item of `each` that it is about."""
    undo: bool = False
    done: tuple[int, ...] | None = None
    """With `undo`: the indices of the tasks that were done, where that is not all of them."""

    @property
    def id(self) -> str:
        """The id of the message: the same for whoever sends it."""
        return f"{self.workflow}.{self.instance}.{self.task}"


# What happens ------------------------------------------------------------------------------------------------------


class Finished(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A handler returned."""

    task: str
    by: str = ""
    outcome: str = "done"
    value: Any = None


class Broke(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A handler failed."""

    task: str
    by: str = ""
    error: str = ""
    fatal: bool = False
    """Whether trying again is of no use."""


class Heard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message was published in the conversation, or said to the instance itself."""

    type: str
    seq: int | None = None
    """Its place in the conversation: each moves the instance once at most."""
    by: str = ""
    value: Any = None


class Elapsed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Time went by."""

    by: str = ""


class Order(StrEnum):
    """What people may ask of an instance."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"


class Ordered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody ordered something."""

    order: Order
    by: str = ""
    why: str = ""


Event = Finished | Broke | Heard | Elapsed | Ordered
