"""What becomes of an instance by an event. Pure: no clock, no network, no randomness.

    begin(model, id, data, …)          -> Step
    step(model, instance, event, now)  -> Step, or Refusal

A `Step` is taken whole or not at all: the next instance, the lines of its history, and the tasks that go out. A
`Refusal` changes nothing, and says why. It is `stale` when there is nothing wrong with it but that it comes too late
(the answer to a task that somebody else has done): what is delivered twice is refused so the second time.
"""

from typing import Any

from msgspec.structs import replace

from .declaration import (
    BUILT_IN,
    CANCEL,
    CANCELLED,
    COMPENSATING,
    DONE,
    FAILED,
    FAILURE,
    MESSAGE,
    PAUSE,
    RESUME,
    RETRY,
    START,
    STUCK,
    TASK,
    TIMEOUT,
)
from .draft import WHY_CHARS_MAX, Draft, Refusal, Step, items_of
from .instance import (
    Broke,
    Elapsed,
    Event,
    Finished,
    Heard,
    Instance,
    Order,
    Ordered,
    Task,
    place_of,
)
from .model import Workflow

HEARD_MAX = 64
"""Messages that moved an instance, whose places it remembers; older ones can't move it any more."""


def begin(model: Workflow, id: str, data: dict[str, Any], *, now: float, by: str) -> Step:
    """The first step of a new instance."""
    instance = Instance(
        id=id,
        workflow=model.name,
        model=model.digest,
        run=round(now * 1000),
        n=0,
        state=model.initial,
        visit=0,
        started=now,
        since=now,
        data=data,
    )
    course = _Course(model, instance, now, by)
    course.enter(None, model.initial, START)
    return course.step()


def step(model: Workflow, instance: Instance, event: Event, now: float) -> Step | Refusal:
    """What an event does to an instance."""
    course = _Course(model, instance, now, event.by)
    return course.take(event) or course.step()


class _Course(Draft):
    """One decision while it is made."""

    def take(self, event: Event) -> Refusal | None:
        match event:
            case Finished():
                return self._finished(event)
            case Broke():
                return self._broke(event)
            case Heard():
                return self._heard(event)
            case Elapsed():
                return self._elapsed()
            case Ordered():
                return self._ordered(event)

    # Events -----------------------------------------------------------------------------------------------------

    def _finished(self, event: Finished) -> Refusal | None:
        found = self._task(event.task)
        if isinstance(found, Refusal):
            return found
        index, task, _ = found  # of an earlier attempt too: what is done is done
        self._put(index, replace(task, status="done", due=None, outcome=event.outcome, value=event.value, error=""))
        if len(self._instance.tasks) > 1:
            self._stay(TASK + DONE, self._label(index, event.outcome if event.outcome != DONE else ""))
        self._join()
        return None

    def _broke(self, event: Broke) -> Refusal | None:
        found = self._task(event.task)
        if isinstance(found, Refusal):
            return found
        index, task, attempt = found
        if attempt != task.attempt or task.status != "out":
            return Refusal(f"attempt {attempt} of task {index} was given up already", stale=True)
        self._failed(index, task, event.error or "it failed", fatal=event.fatal)
        self._join()
        return None

    def _heard(self, event: Heard) -> Refusal | None:
        heard = self._instance.heard
        if event.seq is not None and (event.seq in heard or (len(heard) >= HEARD_MAX and event.seq < heard[0])):
            return Refusal("it has heard that message already", stale=True)
        target = self._model.target(self._instance.state, MESSAGE + event.type)
        if self._instance.ended or target is None:
            return Refusal(f"a message of type {event.type!r} means nothing here; {self._causes()}")
        if event.value is not None:
            self._keep(event.type, event.value)
        if event.seq is not None:
            self._instance = replace(self._instance, heard=tuple(sorted((*heard, event.seq))[-HEARD_MAX:]))
        self.enter(self._instance.state, target, MESSAGE + event.type)
        return None

    def _elapsed(self) -> Refusal | None:
        before = self._instance
        due = before.due
        if due is None or due > self._now:
            return Refusal("its time has not come", stale=True)
        if before.deadline is not None and before.deadline <= self._now:
            target = self._model.target(before.state, TIMEOUT) or FAILED
            self._leave(target, TIMEOUT, f"longer than {self._spec.timeout:g} s in {before.state}")
            return None
        for index, task in enumerate(before.tasks):
            if task.due is None or task.due > self._now:
                continue
            if task.status == "waiting":
                self._send(index, task)
            elif task.status == "out":
                self._failed(index, task, f"no answer within {self._spec.attempt_timeout:g} s", fatal=False)
        self._join()
        return None

    def _ordered(self, event: Ordered) -> Refusal | None:
        match event.order:
            case Order.PAUSE:
                return self._pause(event.why)
            case Order.RESUME:
                return self._resume(event.why)
            case Order.CANCEL:
                return self._cancel(event.why)
            case Order.RETRY:
                return self._retry(event.why)

    # Orders -----------------------------------------------------------------------------------------------------

    def _pause(self, why: str) -> Refusal | None:
        if self._instance.ended or self._instance.paused is not None:
            return Refusal("only what is running can be paused")
        self._stay(PAUSE, why)
        self._instance = replace(self._instance, paused=self._now)
        return None

    def _resume(self, why: str) -> Refusal | None:
        paused = self._instance.paused
        if self._instance.ended or paused is None:
            return Refusal("it is not paused")
        before = self._instance
        # A state that it came into meanwhile has lost no more than the time since.
        pause = self._now - max(paused, before.since)
        deadline = None if before.deadline is None else before.deadline + pause
        tasks = tuple(
            replace(task, due=task.due + pause) if task.due is not None and task.status == "out" else task
            for task in before.tasks
        )
        self._instance = replace(before, paused=None, deadline=deadline, tasks=tasks)
        self._stay(RESUME, why)
        for index, task in enumerate(tasks):
            if task.status == "waiting" and task.due is not None and task.due <= self._now:
                self._send(index, task)
        return None

    def _cancel(self, why: str) -> Refusal | None:
        before = self._instance
        if before.ended:
            return Refusal("it has ended")
        if before.state == COMPENSATING:
            return Refusal("what it did is being undone already")
        self._instance = replace(before, paused=None)
        self._leave(CANCELLED, CANCEL, why)
        return None

    def _retry(self, why: str) -> Refusal | None:
        before = self._instance
        if not before.ended or before.state != FAILED:
            return Refusal("only what has failed can be tried again")
        self._instance = replace(before, ended=False, why="")
        if before.goal is not None:  # undoing failed, and goes on
            self._compensate(before.state, RETRY, why)
            return None
        again = self._model.initial if before.undone or before.left is None else before.left
        self._instance = replace(self._instance, undone=False, left=None)
        self.enter(before.state, again, RETRY, why)
        return None

    # States -----------------------------------------------------------------------------------------------------

    def enter(self, source: str | None, target: str, cause: str, why: str = "") -> None:
        """Come into a state, and begin what is to be done there."""
        self._entered += 1
        if self._entered > len(self._model.states) + 1:
            self._leave(FAILED, STUCK, f"it went round through {target} without anything to do")
            return
        if target in BUILT_IN:
            self._leave(target, cause, why)
            return
        self._note_done()
        state = self._model.states[target]
        self._change(source, target, cause, why)
        deadline = None if state.timeout is None else self._now + state.timeout
        self._instance = replace(
            self._instance,
            state=target,
            visit=self._instance.n,
            since=self._now,
            tasks=(),
            deadline=deadline,
            ended=state.end,
        )
        if not state.handlers:
            return
        if state.each is None:
            self._give_out([Task(handler=handler) for handler in state.handlers])
            return
        items = items_of(self._instance.data, state.each)
        if isinstance(items, str):
            self._fail(items)
            return
        self._give_out([Task(handler=state.handlers[0]) for _ in items])
        self._join()  # there may be nothing to wait for

    def _leave(self, target: str, cause: str, why: str) -> None:
        """Go where a cause leads; to a bad end by way of compensation, if something is there to be undone."""
        before = self._instance
        if target not in BUILT_IN:
            self.enter(before.state, target, cause, why)
            return
        self._note_done()
        self._instance = replace(self._instance, left=before.state, why=why[:WHY_CHARS_MAX])
        if self._instance.undo:
            self._instance = replace(self._instance, goal=target)
            self._compensate(before.state, cause, why)
        else:
            self._end(target, cause, why, before.state)

    def _note_done(self) -> None:
        """What was done in the state that is left has to be undone later, whether or not all of it was."""
        before = self._instance
        state = self._model.states.get(before.state)
        if state is None or state.compensate is None:
            return
        done = tuple(index for index, task in enumerate(before.tasks) if self._is_done(task))
        if not done:
            return
        if len(done) < len(before.tasks):
            self._keep(state.result or before.state, self._result())
            before = replace(self._instance, partly=(*before.partly, (len(before.undo), done)))
        self._instance = replace(before, undo=(*before.undo, before.state), tasks=())

    def _end(self, target: str, cause: str, why: str, source: str | None) -> None:
        self._change(source, target, cause, why)
        self._instance = replace(
            self._instance,
            state=target,
            visit=self._instance.n,
            since=self._now,
            tasks=(),
            deadline=None,
            paused=None,
            ended=True,
            why=why[:WHY_CHARS_MAX],
        )

    def _compensate(self, source: str, cause: str, why: str) -> None:
        """Undo the newest of what was done."""
        self._change(source, COMPENSATING, cause, why)
        before = self._instance
        self._instance = replace(
            before, state=COMPENSATING, visit=before.n, since=self._now, tasks=(), deadline=None, ended=False
        )
        handler = self._model.states[before.undo[-1]].compensate
        assert handler is not None, "only such states are put there"
        self._give_out([Task(handler=handler)])

    def _fail(self, why: str) -> None:
        """The work of this state can't be done."""
        before = self._instance
        if before.state == COMPENSATING:
            reason = f"what was done in {before.undo[-1]} could not be undone: {why}"
            self._end(FAILED, FAILURE, reason, COMPENSATING)
            return
        self._leave(self._model.target(before.state, FAILURE) or FAILED, FAILURE, why)

    # Tasks ------------------------------------------------------------------------------------------------------

    def _give_out(self, tasks: list[Task]) -> None:
        self._instance = replace(self._instance, tasks=tuple(tasks))
        for index, task in enumerate(tasks):
            self._send(index, task)

    def _failed(self, index: int, task: Task, error: str, *, fatal: bool) -> None:
        """An attempt failed: try again, or give the task up."""
        error = error[:WHY_CHARS_MAX]
        spec = self._spec
        if fatal or task.attempt > spec.retries:
            self._put(index, replace(task, status="failed", due=None, error=error))
            if len(self._instance.tasks) > 1:
                self._stay(TASK + FAILURE, self._label(index, error))
            return
        delay = spec.backoff[min(task.attempt, len(spec.backoff)) - 1]
        again = replace(task, status="waiting", attempt=task.attempt + 1, due=self._now + delay, error=error)
        self._put(index, again)
        self._stay(TASK + RETRY, self._label(index, f"attempt {again.attempt} in {delay:g} s: {error}"))

    def _join(self) -> None:
        """Go on, if enough tasks are done; give up, if that can't be any more."""
        tasks = self._instance.tasks
        if self._instance.ended or (not tasks and self._spec.each is None):
            return
        needed = len(tasks) if self._spec.join is None or self._undoing else min(self._spec.join, len(tasks))
        done = [task for task in tasks if task.status == "done"]
        failed = [task for task in tasks if task.status == "failed"]
        if len(done) >= needed:
            self._succeed(done)
        elif len(tasks) - len(failed) < needed:
            self._fail(failed[-1].error)

    def _succeed(self, done: list[Task]) -> None:
        before = self._instance
        if self._undoing:
            left = before.undo[:-1]
            partly = tuple(one for one in before.partly if one[0] < len(left))
            self._instance = replace(before, undo=left, partly=partly, undone=True)
            if self._instance.undo:
                self._compensate(COMPENSATING, DONE, f"{before.undo[-1]} is undone")
            else:
                assert before.goal is not None, "compensation leads somewhere"
                self._instance = replace(self._instance, goal=None)
                self._end(before.goal, DONE, before.why, COMPENSATING)
            return
        outcome = next((task.outcome for task in done if task.outcome != DONE), DONE)
        target = self._declared(outcome)
        if target is None:
            self._fail(f"its handler named the outcome {outcome!r}, which is not declared; {self._causes()}")
            return
        self._keep(self._spec.result or before.state, self._result())
        if target in BUILT_IN:
            self._leave(target, outcome, f"{before.state} ended with {outcome}")
        else:
            self.enter(before.state, target, outcome)

    def _declared(self, outcome: str) -> str | None:
        """Where an outcome leads that a handler names; None if it may not."""
        return None if outcome in (FAILURE, TIMEOUT, CANCEL) else self._model.target(self._instance.state, outcome)

    def _is_done(self, task: Task) -> bool:
        return task.status == "done" and self._declared(task.outcome) is not None

    def _result(self) -> Any:
        """What the tasks of the state gave. In a list, each in its place; nothing, for those that are not done."""
        tasks = self._instance.tasks
        if self._spec.each is not None:
            return [task.value for task in tasks]
        if isinstance(self._spec.handler, str):
            return tasks[0].value
        return {task.handler: task.value for task in tasks if task.status == "done"}

    def _task(self, name: str) -> tuple[int, Task, int] | Refusal:
        """The task that an answer is for: its index, itself, and the attempt that is answered."""
        instance = self._instance
        place = place_of(name)
        if place is None:
            return Refusal(f"{name[:80]!r} names no task")
        run, visit, index, attempt = place
        if instance.ended or (run, visit) != (instance.run, instance.visit):
            return Refusal(f"task {name} is of a state that it has left", stale=True)
        if index >= len(instance.tasks) or not 1 <= attempt <= instance.tasks[index].attempt:
            return Refusal(f"there is no task {name}")
        task = instance.tasks[index]
        if task.status in ("done", "failed"):
            return Refusal(f"task {name} is settled already", stale=True)
        return index, task, attempt
