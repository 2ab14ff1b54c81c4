"""Any workflow, any events, in any order: what must hold of every decision.

The checks know the table and the history, and nothing of how `step` works.
"""

from typing import Any

import msgspec
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from hubbub.workflows import (
    CANCELLED,
    COMPENSATING,
    FAILED,
    Assignment,
    Change,
    Instance,
    InvalidWorkflow,
    Order,
    State,
    Workflow,
)
from hubbub.workflows.draft import Refusal, Step
from hubbub.workflows.instance import Broke, Elapsed, Event, Finished, Heard, Ordered
from hubbub.workflows.step import begin, step

NAMES = ("a", "b", "c", "d")
TARGETS = (*NAMES, "z", FAILED, CANCELLED)
target = st.sampled_from(TARGETS)
seconds = st.sampled_from((1.0, 5.0, 60.0))


@st.composite
def states(draw: st.DrawFn) -> State:
    if draw(st.integers(0, 4)) == 0:
        timeout = draw(st.none() | seconds)
        return State(
            messages=draw(st.dictionaries(st.sampled_from(("go", "stop")), target, min_size=1)),
            timeout=timeout,
            on={} if timeout is None or draw(st.booleans()) else {"timeout": draw(target)},
        )
    kind = draw(st.integers(0, 2))
    timeout = draw(st.none() | seconds)
    outcomes = ("again", "failed") if timeout is None else ("again", "failed", "timeout")
    handlers: Any = "h" if kind < 2 else ("x", "y", "z")
    return State(
        handler=handlers,
        on={**draw(st.dictionaries(st.sampled_from(outcomes), target)), "done": draw(target)},
        messages=draw(st.dictionaries(st.just("go"), target)),
        each="items" if kind == 1 else None,
        join=draw(st.none() | st.integers(1, 3)) if kind else None,
        timeout=timeout,
        attempt_timeout=draw(st.none() | seconds),
        retries=draw(st.integers(0, 2)),
        backoff=(1.0, 2.0),
        compensate=draw(st.none() | st.just("undo")),
    )


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    declared = {name: draw(states()) for name in NAMES}
    declared["z"] = State(end=True)
    while True:  # what can't be reached is taken out, until the rest can be used
        try:
            return Workflow("w", declared)
        except InvalidWorkflow as error:
            lost = [text.split()[1] for text in error.problems if "can't be reached" in text]
            declared = {name: state for name, state in declared.items() if name not in lost}
            if not lost:
                return Workflow("w", {"a": State(handler="h", on={"done": "z"}), "z": State(end=True)})


class Checker:
    """Holds what happened against the table."""

    def __init__(self, model: Workflow) -> None:
        self.model = model
        self.history: list[Change] = []
        self.given: set[str] = set()
        self.undo: list[tuple[str, set[int]]] = []
        """What compensation would have to undo, and which tasks of it were done: from answers and history alone."""
        self.done: set[int] = set()
        """The tasks that were done in this visit."""

    def check(self, before: Instance | None, taken: Step, happened: Event | None = None) -> None:
        after = taken.instance
        if isinstance(happened, Finished) and before is not None and before.state in self.model.states:
            self._answered(before.state, happened)
        for change in taken.changes:
            self._change(change)
        assert after.n == len(self.history)
        assert self.history[-1].target == after.state
        for task in taken.tasks:
            self._task(task, after)
        assert msgspec.json.decode(msgspec.json.encode(after), type=Instance) == after
        assert after.ended == self.model.is_end(after.state)
        assert list(after.undo) == [state for state, _ in self.undo]
        if after.ended:
            assert (after.due, after.tasks) == (None, ())
        else:
            self._not_stuck(after)
        if before is not None and before.paused is not None and after.paused is not None:
            assert not taken.tasks

    def _change(self, change: Change) -> None:
        source = self.history[-1].target if self.history else None
        assert change.source == source
        assert change.n == len(self.history) + 1
        assert self.model.allows(change.source, change.cause, change.target), change
        self.history.append(change)
        if change.source == COMPENSATING and change.cause == "done":
            self.undo.pop()
        elif change.source in self.model.states and change.is_transition and self.done:
            assert change.source is not None
            if self.model.states[change.source].compensate is not None:
                self.undo.append((change.source, self.done))
        if change.is_transition:
            self.done = set()
        if change.target in (FAILED, CANCELLED) and change.cause == "done" and change.source == COMPENSATING:
            assert not self.undo

    def _answered(self, state: str, answer: Finished) -> None:
        if answer.outcome in ("done", "again") and self.model.target(state, answer.outcome) is not None:
            self.done.add(int(answer.task.split(".")[2]))

    def _task(self, task: Assignment, after: Instance) -> None:
        assert task.id not in self.given, "given out twice"
        self.given.add(task.id)
        assert task.undo == (after.state == COMPENSATING)
        if task.undo:
            state, done = self.undo[-1]
            assert task.state == state
            assert task.done is None or set(task.done) == done

    def _not_stuck(self, after: Instance) -> None:
        """Somebody has a task, or the clock moves it, or it waits for people."""
        waits = after.state in self.model.states and self.model.states[after.state].messages
        assert after.due is not None or after.paused is not None or waits or any(t.status == "out" for t in after.tasks)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(workflows(), st.integers(0, 3), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 59)), max_size=25))
def test_every_decision_holds_to_the_table(model: Workflow, items: int, story: list[tuple[int, int]]) -> None:
    checker = Checker(model)
    now = 0.0
    first = begin(model, "i", {"items": list(range(items))}, now=now, by="joe")
    checker.check(None, first)
    instance, tasks = first.instance, list(first.tasks)
    answered: list[Event] = []
    for kind, choice in story:
        happened = event_of(kind, choice, tasks)
        if isinstance(happened, Elapsed):
            now += (1.0, 5.0, 60.0)[choice % 3]
        decided = step(model, instance, happened, now)
        if isinstance(decided, Refusal):
            continue
        assert decided.changes or isinstance(happened, Elapsed)
        checker.check(instance, decided, happened)
        instance, tasks = decided.instance, [*tasks, *decided.tasks]
        if isinstance(happened, Finished | Broke):
            answered.append(happened)
        for old in answered:  # whatever is delivered again changes nothing
            again = step(model, instance, old, now)
            assert isinstance(again, Refusal)
            assert again.stale
    event(f"ended: {instance.ended}")
    assert ends_when_cancelled(model, instance, tasks, now)


def event_of(kind: int, choice: int, tasks: list[Assignment]) -> Event:
    """One of the things that can happen. By hand: a strategy made anew for each is most of a test's time."""
    task = tasks[-1 - choice % min(len(tasks), 6)].task if tasks else "0.1.0.1"
    match kind:
        case 0 | 1:
            return Finished(task=task, outcome=("done", "done", "done", "again", "odd")[choice % 5])
        case 2:
            return Broke(task=task, error="no", fatal=choice % 3 == 0)
        case 3:
            return Heard(type=("go", "stop", "else")[choice % 3])
        case 4:
            return Elapsed()
        case _:
            return Ordered(order=list(Order)[choice % 4])


def ends_when_cancelled(model: Workflow, instance: Instance, tasks: list[Assignment], now: float) -> bool:
    """Whether it comes to its end when everyone does their work from here on."""
    cancelled = step(model, instance, Ordered(order=Order.RESUME), now)
    if isinstance(cancelled, Step):
        instance, tasks = cancelled.instance, [*tasks, *cancelled.tasks]
    cancelled = step(model, instance, Ordered(order=Order.CANCEL), now)
    if isinstance(cancelled, Step):
        instance, tasks = cancelled.instance, [*tasks, *cancelled.tasks]
    for _ in range(60):
        if instance.ended:
            return True
        now += 100.0
        all_done: list[Event] = [Elapsed(), *(Finished(task=task.task) for task in tasks[-4:])]
        for happened in all_done:
            decided = step(model, instance, happened, now)
            if isinstance(decided, Step):
                instance, tasks = decided.instance, [*tasks, *decided.tasks]
    return False
