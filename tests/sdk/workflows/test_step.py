"""What becomes of an instance, case by case: the decision is pure, so nothing runs here."""

from typing import Any

from hubbub.workflows import Assignment, Change, Instance, Order, State, Status, Workflow
from hubbub.workflows.draft import FAN_OUT_MAX, Refusal, Step
from hubbub.workflows.instance import Broke, Elapsed, Event, Finished, Heard, Ordered
from hubbub.workflows.step import HEARD_MAX, begin, step

Z = State(end=True)


class Run:
    """An instance, and all that its steps gave."""

    def __init__(self, model: Workflow, data: dict[str, Any] | None = None) -> None:
        self.model = model
        self.now = 100.0
        self.changes: list[Change] = []
        self.tasks: list[Assignment] = []
        self.instance: Instance
        self._take(begin(model, "i1", data or {}, now=self.now, by="joe"))

    def _take(self, taken: Step) -> None:
        self.instance = taken.instance
        self.changes += taken.changes
        self.tasks += taken.tasks

    def try_(self, event: Event) -> Step | Refusal:
        decided = step(self.model, self.instance, event, self.now)
        if isinstance(decided, Step):
            self._take(decided)
        return decided

    def do(self, event: Event) -> None:
        decided = self.try_(event)
        assert isinstance(decided, Step), decided

    def refuse(self, event: Event) -> Refusal:
        decided = self.try_(event)
        assert isinstance(decided, Refusal), decided
        return decided

    def done(self, place: int = -1, value: Any = None, outcome: str = "done") -> None:
        self.do(Finished(task=self.tasks[place].task, by="w", value=value, outcome=outcome))

    def broke(self, place: int = -1, *, fatal: bool = False) -> None:
        self.do(Broke(task=self.tasks[place].task, by="w", error="no", fatal=fatal))

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.do(Elapsed(by="clock"))

    def order(self, order: Order) -> None:
        self.do(Ordered(order=order, by="boss", why="so it is"))

    @property
    def path(self) -> list[str]:
        return [change.target for change in self.changes if change.is_transition]

    @property
    def status(self) -> Status:
        return self.instance.status


def model(**states: State) -> Workflow:
    return Workflow("w", {**states, "z": Z})


def work(to: str = "z", **fields: Any) -> State:
    return State(handler=fields.pop("handler", "h"), on={"done": to, **fields.pop("on", {})}, **fields)


def test_from_start_to_end() -> None:
    run = Run(model(a=work("b"), b=work("z", handler="agent:ann")), {"question": 1})
    assert (run.path, run.instance.data) == (["a"], {"question": 1})
    assert (run.tasks[0].task, run.tasks[0].handler) == ("100000.1.0.1", "h")
    assert run.instance.wants("100000.1.0.1")
    run.done(value={"found": 2})
    assert (run.path, run.tasks[1].handler) == (["a", "b"], "agent:ann")
    assert run.instance.data == {"question": 1, "a": {"found": 2}}
    assert not run.instance.wants("100000.1.0.1")
    run.done(value=3)
    assert (run.path, run.status, run.instance.data["b"]) == (["a", "b", "z"], Status.DONE, 3)
    assert [(c.n, c.source, c.target, c.cause, c.by) for c in run.changes] == [
        (1, None, "a", "start", "joe"),
        (2, "a", "b", "done", "w"),
        (3, "b", "z", "done", "w"),
    ]


def test_an_answer_that_comes_twice_is_stale_the_second_time() -> None:
    run = Run(model(a=work("a2", on={"again": "a"}), a2=work()))
    first = run.tasks[0].task
    run.done(outcome="again")
    assert run.instance.state == "a"
    assert run.refuse(Finished(task=first, by="w")).stale  # of an earlier visit of the same state
    assert run.refuse(Broke(task=first, by="w")).stale
    assert len(run.changes) == 2


def test_answers_to_what_was_never_asked_are_refused() -> None:
    run = Run(model(a=work()))
    for name in ("100000.1.1.1", "100000.1.0.2", "100000.1.0.0", "100000.1.0.-1", "x", "1.0.1", "9" * 50 + ".1.0.1"):
        assert not run.refuse(Finished(task=name)).stale, name
    assert run.refuse(Finished(task="100001.1.0.1")).stale  # of another life of the same id
    assert run.instance.state == "a"


def test_a_task_that_fails_is_tried_again_after_its_backoff() -> None:
    run = Run(model(a=work(retries=2, backoff=(1.0, 5.0))))
    run.broke()
    assert (run.instance.due, len(run.tasks)) == (101.0, 1)
    assert run.refuse(Elapsed()).stale
    run.later(1.0)
    assert (run.tasks[-1].task, run.tasks[-1].attempt) == ("100000.1.0.2", 2)
    assert run.refuse(Broke(task="100000.1.0.1", by="late")).stale
    run.broke()
    run.later(5.0)
    run.broke()
    assert (run.path, run.status, run.instance.why) == (["a", "FAILED"], Status.FAILED, "no")
    assert [c.cause for c in run.changes] == ["start", "task retry", "task retry", "failed"]


def test_a_late_success_of_an_earlier_attempt_counts() -> None:
    run = Run(model(a=work(retries=1, attempt_timeout=3.0)))
    run.later(3.0)
    run.later(1.0)
    assert [task.attempt for task in run.tasks] == [1, 2]
    run.done(0)
    assert run.status is Status.DONE


def test_a_fatal_failure_is_not_tried_again_and_goes_where_the_declaration_says() -> None:
    run = Run(model(a=work(retries=5, on={"failed": "b"}), b=work()))
    run.broke(fatal=True)
    assert run.path == ["a", "b"]


def test_an_undeclared_outcome_is_a_failure_that_names_it() -> None:
    run = Run(model(a=work(retries=5)))
    run.done(outcome="perfect")
    assert run.status is Status.FAILED
    assert "'perfect', which is not declared" in run.instance.why
    assert "what can happen in a: done" in run.instance.why


def test_reserved_outcomes_can_not_be_claimed_by_a_handler() -> None:
    run = Run(model(a=work(timeout=9, on={"timeout": "b"}), b=work()))
    run.done(outcome="timeout")
    assert run.status is Status.FAILED


def test_a_state_has_its_time() -> None:
    run = Run(model(a=work(timeout=10, on={"timeout": "b"}), b=work(timeout=10)))
    run.later(10)
    assert run.path == ["a", "b"]
    run.later(10)
    assert (run.path, run.status) == (["a", "b", "FAILED"], Status.FAILED)
    assert "longer than 10 s in b" in run.instance.why
    assert run.instance.due is None


def test_messages_move_what_waits_for_them_and_nothing_else() -> None:
    run = Run(model(a=State(messages={"go": "b"}), b=work()))
    assert "a message of type 'stop' means nothing here" in run.refuse(Heard(type="stop", by="ann")).why
    run.do(Heard(type="go", by="ann", value={"note": 1}))
    assert (run.path, run.changes[-1].by, run.instance.data["go"]) == (["a", "b"], "ann", {"note": 1})
    assert not run.refuse(Heard(type="go", by="ann")).stale


def test_a_message_moves_it_once_at_most() -> None:
    run = Run(model(a=State(messages={"go": "b"}), b=State(messages={"go": "a", "end": "z"})))
    run.do(Heard(type="go", seq=5))
    assert run.refuse(Heard(type="go", seq=5)).stale
    for seq in range(6, 6 + 2 * HEARD_MAX):
        run.do(Heard(type="go", seq=seq))
    assert len(run.instance.heard) == HEARD_MAX
    assert run.refuse(Heard(type="go", seq=5)).stale
    assert len(run.changes) == 2 + 2 * HEARD_MAX
    run.do(Heard(type="go"))


def test_fan_out_over_items_and_in() -> None:
    run = Run(model(a=work("b"), b=work(each="a.parts")))
    run.done(value={"parts": ["x", "y", "z"]})
    assert [(task.index, task.item, task.task) for task in run.tasks[1:]] == [
        (0, "x", "100000.2.0.1"),
        (1, "y", "100000.2.1.1"),
        (2, "z", "100000.2.2.1"),
    ]
    run.done(3, "Z")
    run.done(1, "X")
    assert run.refuse(Finished(task="100000.2.2.1")).stale
    assert run.instance.state == "b"
    run.done(2, "Y")
    assert (run.status, run.instance.data["b"]) == (Status.DONE, ["X", "Y", "Z"])


def test_several_handlers_work_at_once_and_a_join_needs_fewer() -> None:
    run = Run(model(a=work(handler=("x", "y", "z"), join=2, result="votes")))
    run.done(2, 3)
    run.broke(0, fatal=True)
    assert run.instance.state == "a"
    run.done(1, 2)
    assert (run.status, run.instance.data["votes"]) == (Status.DONE, {"z": 3, "y": 2})


def test_a_join_that_can_not_be_reached_fails() -> None:
    run = Run(model(a=work(handler=("x", "y", "z"), join=2)))
    run.broke(0, fatal=True)
    run.broke(1, fatal=True)
    assert run.status is Status.FAILED


def test_nothing_to_fan_out_over_goes_on_and_never_round() -> None:
    run = Run(model(a=work("z", each="none")), {"none": []})
    assert (run.path, run.status, run.tasks) == (["a", "z"], Status.DONE, [])
    round_ = Run(model(a=work("b", each="none"), b=work("a", each="none", on={"no": "z"})), {"none": []})
    assert round_.status is Status.FAILED
    assert "without anything to do" in round_.instance.why


def test_what_is_no_list_and_what_is_too_long_fails() -> None:
    for data, said in (({}, "there is no 'x'"), ({"x": 1}, "no list"), ({"x": [0] * (FAN_OUT_MAX + 1)}, "at most")):
        run = Run(model(a=work(each="x")), data)
        assert run.status is Status.FAILED
        assert said in run.instance.why


SAGA = model(
    a=work("b", compensate="undo-a"), b=work("c", compensate="agent:bob", retries=1), c=work(compensate="undo-c")
)


def test_compensation_runs_backward_over_what_was_done() -> None:
    run = Run(SAGA)
    run.done(value=1)
    run.done(value=2)
    run.broke()
    assert (run.instance.state, run.status) == ("COMPENSATING", Status.COMPENSATING)
    assert (run.tasks[-1].undo, run.tasks[-1].state, run.tasks[-1].handler) == (True, "b", "agent:bob")
    run.broke()  # as often as the state itself
    run.later(1)
    run.done()
    assert (run.tasks[-1].state, run.tasks[-1].handler) == ("a", "undo-a")
    run.done()
    assert (run.path, run.status) == (
        ["a", "b", "c", "COMPENSATING", "COMPENSATING", "FAILED"],
        Status.FAILED,
    )
    run.order(Order.RETRY)  # all was undone: from the beginning
    assert run.instance.state == "a"


SEATS = model(a=work("b", each="seats", compensate="give-back"), b=work())


def test_what_a_fan_out_has_done_is_undone_when_the_rest_of_it_fails() -> None:
    run = Run(SEATS, {"seats": ["x", "y", "z"]})
    run.done(0, "X")
    run.done(2, "Z")
    run.broke(1, fatal=True)
    undo = run.tasks[-1]
    assert (undo.handler, undo.state, undo.undo, undo.done) == ("give-back", "a", True, (0, 2))
    assert run.instance.data["a"] == ["X", None, "Z"]
    run.done()
    assert (run.path, run.status, run.instance.partly) == (["a", "COMPENSATING", "FAILED"], Status.FAILED, ())
    run.order(Order.RETRY)
    assert len([task for task in run.tasks if task.state == "a" and not task.undo]) == 6, "all was undone"


def test_what_a_fan_out_has_done_is_undone_when_it_is_cancelled_or_left() -> None:
    run = Run(SEATS, {"seats": ["x", "y"]})
    run.done(0)
    run.order(Order.CANCEL)
    assert run.tasks[-1].done == (0,)
    run.done()
    assert run.status is Status.CANCELLED
    way = model(
        a=work("b", handler=("x", "y"), compensate="undo", messages={"go": "b"}, timeout=5, on={"timeout": "b"}),
        b=work("c", compensate="undo"),
        c=work(),
    )
    for leave in (lambda run: run.do(Heard(type="go")), lambda run: run.later(5)):
        run = Run(way)
        run.done(1, 7)
        leave(run)
        assert (run.path, run.instance.data["a"]) == (["a", "b"], {"y": 7})
        run.done()
        run.broke(fatal=True)
        assert (run.tasks[-1].state, run.tasks[-1].done) == ("b", None)
        run.done()
        assert (run.tasks[-1].state, run.tasks[-1].done) == ("a", (1,))


def test_nothing_is_undone_where_nothing_was_done() -> None:
    run = Run(SEATS, {"seats": ["x", "y"]})
    run.broke(0, fatal=True)
    assert (run.path, run.tasks[2:]) == (["a", "FAILED"], [])


def test_what_can_not_be_undone_is_told_and_tried_again_when_somebody_says_so() -> None:
    run = Run(SAGA)
    run.done()
    run.order(Order.CANCEL)
    run.broke()
    assert run.status is Status.FAILED
    assert "what was done in a could not be undone: no" in run.instance.why
    run.order(Order.RETRY)
    assert run.instance.state == "COMPENSATING"
    run.done()
    assert run.path[-1] == "CANCELLED"


def test_a_retry_begins_where_it_failed() -> None:
    run = Run(model(a=work("b"), b=work(retries=1)))
    run.done()
    run.broke(fatal=True)
    run.order(Order.RETRY)
    assert (run.path, run.tasks[-1].attempt) == (["a", "b", "FAILED", "b"], 1)
    run.done()
    assert run.status is Status.DONE


def test_what_is_paused_takes_answers_and_gives_nothing_out() -> None:
    run = Run(model(a=work("b", timeout=50), b=work("z", timeout=10)))
    run.order(Order.PAUSE)
    assert (run.status, run.instance.due) == (Status.PAUSED, None)
    run.done()
    assert (run.path, len(run.tasks)) == (["a", "b"], 1)
    run.now += 1000
    assert run.refuse(Elapsed()).stale
    run.order(Order.RESUME)
    assert (len(run.tasks), run.instance.state) == (2, "b")
    assert run.instance.deadline == 1110.0  # its time stood still
    run.done()
    assert run.status is Status.DONE


def test_only_the_rest_of_a_pause_counts_for_a_state_that_it_came_into_meanwhile() -> None:
    run = Run(model(a=State(messages={"go": "b"}, timeout=100), b=State(messages={"go": "z"}, timeout=100)))
    run.now = 110
    run.order(Order.PAUSE)
    run.now = 1100
    run.do(Heard(type="go"))
    run.now = 1101
    run.order(Order.RESUME)
    assert run.instance.deadline == 1201


def test_orders_that_make_no_sense_are_refused() -> None:
    run = Run(model(a=work()))
    assert "not paused" in run.refuse(Ordered(order=Order.RESUME)).why
    assert "only what has failed" in run.refuse(Ordered(order=Order.RETRY)).why
    run.order(Order.CANCEL)
    assert (run.path, run.status, run.instance.why) == (["a", "CANCELLED"], Status.CANCELLED, "so it is")
    for order in Order:
        assert not run.refuse(Ordered(order=order)).stale
    assert run.refuse(Finished(task="100000.1.0.1")).stale
