"""Coordinators, workers and flows together, over a broker in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from hubbub import Agent, HubbubError, Retry
from hubbub.testing import MemoryBroker
from hubbub.workflows import (
    AlreadyStarted,
    Assignment,
    Coordinator,
    Flow,
    IllegalTransition,
    NoSuchInstance,
    Outcome,
    State,
    Status,
    TaskFailed,
    Worker,
    Workflow,
    state_store,
)

pytestmark = pytest.mark.real_time  # due times are seconds since the epoch, for every coordinator alike

REPORT = Workflow(
    "report",
    {
        "research": State(handler="research", on={"done": "analysis"}, retries=2, backoff=(0.01,), timeout=60),
        "analysis": State(handler="analysis", each="research", on={"done": "review", "thin": "research"}),
        "review": State(messages={"approved": "published", "refused": "research"}),
        "published": State(end=True),
    },
)


class House:
    """A broker, and agents that all use it."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self.broker = MemoryBroker()
        self._stack = stack

    async def agent(self, name: str, **options: Any) -> Agent:
        agent = Agent(name, group="lab", transport=self.broker.transport(), local=False, **options)
        return await self._stack.enter_async_context(agent)

    async def coordinator(self, name: str, model: Workflow = REPORT, **options: Any) -> Coordinator:
        coordinator = Coordinator(await self.agent(name), model, tick=0.02, **options)
        return await self._stack.enter_async_context(coordinator)

    async def keys(self, home: str) -> set[str]:
        """What stands in the state of a workflow."""
        return set(await (await self.agent("looker")).topic(home).state.entries())


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with contextlib.AsyncExitStack() as stack:
        yield House(stack)


Handle = Callable[[Assignment], Awaitable[Any]]


async def crew(house: House, name: str, **handlers: Handle) -> Worker:
    worker = Worker(await house.agent(name))
    for handler, function in handlers.items():
        worker.handles(handler)(function)
    return worker


async def path(flow: Flow, id: str) -> list[str]:
    return [change.target async for change in flow.watch(id) if change.is_transition]


async def until(flow: Flow, id: str, state: str) -> None:
    async for change in flow.watch(id):
        if change.target == state:
            return


async def research(task: Assignment) -> Any:
    return [task.data["question"] + str(number) for number in range(3)]


async def analysis(task: Assignment) -> Any:
    return task.item.upper()


async def test_a_workflow_from_start_to_end(house: House) -> None:
    await crew(house, "ann", research=research, analysis=analysis)
    await house.coordinator("c1")
    flow = Flow(await house.agent("joe"), REPORT)
    await flow.start("r1", {"question": "q"})
    await until(flow, "r1", "review")
    joe = await house.agent("joe2")
    await joe.publish("lab/report/r1", {"text": "chatter"}, type="note")
    await joe.publish("lab/report/r1", {"by": "the boss"}, type="approved")
    assert await path(flow, "r1") == ["research", "analysis", "review", "published"]
    instance = await flow.get("r1")
    assert instance.status is Status.DONE
    assert instance.data == {
        "question": "q",
        "research": ["q0", "q1", "q2"],
        "analysis": ["Q0", "Q1", "Q2"],
        "approved": {"by": "the boss"},
    }
    history = await flow.history("r1")
    assert [change.n for change in history] == list(range(1, len(history) + 1))
    assert [change.by for change in history] == ["joe", "ann", "ann", "ann", "ann", "ann", "joe2"]
    assert "class s3 well" in await flow.diagram("r1")


async def test_errors_are_tried_again_and_end_in_failed_and_a_retry_goes_on(house: House) -> None:
    calls: list[int] = []

    async def broken(task: Assignment) -> Any:
        calls.append(task.attempt)
        if len(calls) <= 3:
            raise OSError("the service is away")
        return ["x"]

    await crew(house, "ann", research=broken, analysis=analysis)
    await house.coordinator("c1")
    flow = Flow(await house.agent("joe"), REPORT)
    await flow.start("r1", {"question": "q"})
    assert await path(flow, "r1") == ["research", "FAILED"]
    assert calls == [1, 2, 3]
    assert (await flow.get("r1")).why == "OSError: the service is away"
    await flow.retry("r1", "it is back")
    await until(flow, "r1", "review")
    assert (await flow.history("r1"))[4].why == "it is back"


async def test_what_can_not_succeed_is_not_tried_again(house: House) -> None:
    async def hopeless(_: Assignment) -> Any:
        raise TaskFailed("no such question")

    await crew(house, "ann", research=hopeless)
    await house.coordinator("c1")
    flow = Flow(await house.agent("joe"), REPORT)
    await flow.start("r1")
    assert await path(flow, "r1") == ["research", "FAILED"]
    assert (await flow.get("r1")).why == "no such question"


async def test_an_outcome_chooses_the_way(house: House) -> None:
    rounds: list[str] = []

    async def thin_once(task: Assignment) -> Any:
        rounds.append(task.instance)
        return Outcome("thin", 0) if len(rounds) == 1 else 1

    async def one(_: Assignment) -> Any:
        return ["x"]

    await crew(house, "ann", research=one, analysis=thin_once)
    await house.coordinator("c1")
    flow = Flow(await house.agent("joe"), REPORT)
    await flow.start("r1")
    await until(flow, "r1", "review")
    history = await flow.history("r1")
    assert [change.target for change in history] == ["research", "analysis", "research", "analysis", "review"]


async def test_plain_functions_run_in_a_thread_and_results_that_are_no_json_fail(house: House) -> None:
    model = Workflow(
        "w",
        {
            "a": State(handler="plain", on={"done": "b"}),
            "b": State(handler="agent:ann", on={"done": "z", "failed": "z"}),
            "z": State(end=True),
        },
    )
    ann = Worker(await house.agent("ann"))

    @ann.handles("plain")
    def plain(task: Assignment) -> int:
        return task.data["x"] + 1

    @ann.handles("agent:ann")
    async def own(_: Assignment) -> Any:
        return {"what": object()}

    await house.coordinator("c1", model)
    flow = Flow(await house.agent("joe"), model)
    await flow.start("1", {"x": 1})
    assert await path(flow, "1") == ["a", "b", "z"]
    assert (await flow.get("1")).data["a"] == 2
    assert "its result can't be sent" in (await flow.history("1"))[-1].why


async def test_a_worker_can_not_take_what_is_another_agents(house: House) -> None:
    worker = Worker(await house.agent("ann"))
    with pytest.raises(ValueError, match="another agent's"):
        worker.handles("agent:bob")
    with pytest.raises(ValueError, match="no handler"):
        worker.handles("any thing")


async def test_only_who_says_that_it_can_do_something_is_given_it_to_do(house: House) -> None:
    model = Workflow("w", {"a": State(handler="capability:write", on={"done": "z"}), "z": State(end=True)})

    async def write(task: Assignment) -> str:
        return "written"

    for said in (None, ["cook"]):
        with pytest.raises(ValueError, match=r"does not say that it has the capability 'write'.*capabilities="):
            Worker(await house.agent("cook", capabilities=said)).handles("capability:write")
    Worker(await house.agent("ann", capabilities=["cook", "write"])).handles("capability:write")(write)
    await house.coordinator("c1", model)
    flow = Flow(await house.agent("joe"), model)
    await flow.start("1")
    assert await path(flow, "1") == ["a", "z"]


async def test_the_diagram_of_a_name_is_the_newest_declaration(house: House) -> None:
    first = Workflow("w", {"a": State(messages={"go": "z"}), "z": State(end=True)})
    second = Workflow("w", {"b": State(messages={"go": "z"}), "z": State(end=True)})
    agent = await house.agent("joe")
    with pytest.raises(NoSuchInstance, match="no declaration"):
        await Flow(agent, "w").diagram()
    for model in (first, second):
        await Flow(agent, model).start("1" if model is first else "2")
        assert await Flow(agent, "w").diagram() == await Flow(agent, model).diagram()


async def test_time_outs_are_kept_by_whoever_coordinates(house: House) -> None:
    model = Workflow(
        "w",
        {
            "a": State(messages={"go": "z"}, timeout=0.05, on={"timeout": "b"}),
            "b": State(handler="h", attempt_timeout=0.05, on={"done": "z"}),
            "z": State(end=True),
        },
    )
    flow = Flow(await house.agent("joe"), model)
    await flow.start("1")  # nobody coordinates yet
    await house.coordinator("c1", model)
    await house.coordinator("c2", model)
    assert await path(flow, "1") == ["a", "b", "FAILED"]
    assert [change.cause for change in await flow.history("1")] == ["start", "timeout", "failed"]


async def test_illegal_orders_change_nothing(house: House) -> None:
    flow = Flow(await house.agent("joe"), REPORT)
    await flow.start("r1", {"question": "q"})
    before = await flow.get("r1")
    with pytest.raises(IllegalTransition, match="r1 is research: a message of type 'approved' means nothing here"):
        await flow.tell("r1", "approved")
    with pytest.raises(IllegalTransition, match="only what has failed"):
        await flow.retry("r1")
    with pytest.raises(NoSuchInstance):
        await flow.cancel("r2")
    assert await flow.get("r1") == before
    assert len(await flow.history("r1")) == 1


async def test_starting_twice_is_as_once_unless_it_is_another(house: House) -> None:
    flow = Flow(await house.agent("joe"), REPORT)
    first = await flow.start("r1", {"question": "q"})
    assert await flow.start("r1", {"question": "q"}) == first
    with pytest.raises(AlreadyStarted):
        await flow.start("r1", {"question": "p"})
    assert len(house.broker.stored("lab/_tasks/research")) == 1


async def test_a_cancelled_instance_gives_its_workers_nothing_more_to_do(house: House) -> None:
    flow = Flow(await house.agent("joe"), REPORT)
    await flow.start("r1", {"question": "q"})
    assert (await flow.cancel("r1", "not needed")).status is Status.CANCELLED
    done: list[str] = []

    async def note(task: Assignment) -> Any:
        done.append(task.instance)
        return []

    await crew(house, "ann", research=note)
    await house.coordinator("c1")
    await flow.start("r2", {"question": "q"})
    await until(flow, "r2", "review")
    assert done == ["r2"]


async def test_work_that_nobody_wants_any_more_is_interrupted_if_it_says_so(house: House) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    worker = Worker(await house.agent("ann"))

    @worker.handles("research", interrupt=True)
    async def forever(_: Assignment) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await house.coordinator("c1")
    flow = Flow(await house.agent("joe"), REPORT)
    await flow.start("r1")
    await begun.wait()
    await flow.pause("r1")
    await flow.resume("r1")
    assert not ended.is_set()
    await flow.cancel("r1")
    async with asyncio.timeout(10):
        await ended.wait()
    assert await path(flow, "r1") == ["research", "CANCELLED"]


async def test_work_that_may_be_interrupted_comes_to_its_end_as_any_other(house: House) -> None:
    worker = Worker(await house.agent("ann"))

    @worker.handles("research", interrupt=True)
    async def once_more(task: Assignment) -> Any:
        if task.attempt == 1:
            raise OSError("no")
        return ["x"]

    await crew(house, "bob", analysis=analysis)
    await house.coordinator("c1")
    flow = Flow(await house.agent("joe"), REPORT)
    await flow.start("r1")
    await until(flow, "r1", "review")


async def test_pause_and_resume(house: House) -> None:
    flow = Flow(await house.agent("joe"), REPORT)
    await flow.start("r1", {"question": "q"})
    assert (await flow.pause("r1")).status is Status.PAUSED
    await crew(house, "ann", research=research, analysis=analysis)
    await house.coordinator("c1")
    await until(flow, "r1", "analysis")
    assert house.broker.stored("lab/_tasks/analysis") == []
    await flow.resume("r1")
    await until(flow, "r1", "review")


async def test_instances_are_listed_a_page_at_a_time_and_go_when_they_are_old(house: House) -> None:
    model = Workflow("w", {"a": State(messages={"go": "z"}), "z": State(end=True)})
    flow = Flow(await house.agent("joe"), model)
    for number in range(5):
        await flow.start(f"i{number}")
    found, more = await flow.instances(limit=2)
    assert ([one.id for one in found], more) == (["i0", "i1"], "i1")
    found, more = await flow.instances(after=more, limit=3)
    assert ([one.id for one in found], more) == (["i2", "i3", "i4"], None)
    await flow.tell("i3", "go")
    assert [one.id for one in (await flow.instances(Status.DONE))[0]] == ["i3"]
    old = Flow(await house.agent("old"), model, clock=lambda: 1000.0)
    await old.start("long-ago")
    await old.tell("long-ago", "go")
    await house.coordinator("c1", model)
    async for entry in (await house.agent("ann")).topic("lab/w").state.watch("instance/*"):
        if entry.key == "instance/long-ago" and entry.deleted:
            break
        if entry.key == "instance/i4" and "instance/long-ago" not in await house.keys("lab/w"):
            break  # it was gone before the watch began
    assert not [key for key in await house.keys("lab/w") if "long-ago" in key]
    assert [one.id for one in (await flow.instances())[0]] == ["i0", "i1", "i2", "i3", "i4"]
    assert len(await flow.history("long-ago")) == 2


async def test_what_only_looks_like_workflows_does_no_harm(house: House) -> None:
    flow = Flow(await house.agent("joe"), REPORT)
    await flow.start("r1", {"question": "q"})
    odd = await house.agent("odd")
    await odd.topic(flow.home).state.update(
        {"instance/r0": {"no": "record"}, "due/0/r0": 1, "due/x/y/z": 1, "due/5": 1}
    )
    for type in ("finished", "broke", "else"):
        await odd.publish("lab/_workflow/report", {"task": 7}, type=type, headers={"instance": "r1"})
        await odd.publish("lab/_workflow/report", {"task": "1.1.0.1"}, type=type)
    await odd.publish("lab/_workflow/report", {"task": "1.1.0.1"}, type="finished", headers={"instance": "none"})
    await odd.publish("lab/report/r1", {"n": 7}, type="workflow")
    await odd.publish("lab/report/none", None, type="approved")
    await odd.publish("lab/_tasks/research", "no task", type="task")
    forged = {"workflow": "no/such", "instance": "r1", "state": "a", "task": "1.1.0.1", "handler": "x", "attempt": 1}
    await odd.publish("lab/_tasks/research", forged, type="task")
    await crew(house, "ann", research=research, analysis=analysis)
    await house.coordinator("c1")
    await until(flow, "r1", "review")
    assert [change.n for change in await flow.history("r1")] == list(range(1, 7))
    with pytest.raises(HubbubError, match="is no instance"):
        await flow.get("r0")


async def test_a_worker_that_wants_more_time_gets_its_task_again(house: House) -> None:
    calls: list[int] = []

    async def busy(task: Assignment) -> Any:
        calls.append(task.attempt)
        if len(calls) == 1:
            raise Retry("busy", after=0.01)
        return ["x"]

    await crew(house, "ann", research=busy, analysis=analysis)
    await house.coordinator("c1")
    flow = Flow(await house.agent("joe"), REPORT)
    await flow.start("r1")
    await until(flow, "r1", "review")
    assert calls == [1, 1]  # no attempt was used up


async def test_a_task_that_nobody_comes_to_an_end_with_counts_as_failed(house: House) -> None:
    begun: list[int] = []

    async def never(task: Assignment) -> Any:
        begun.append(task.attempt)
        raise Retry("crashed", after=0.0)

    await crew(house, "ann", research=never)
    await house.coordinator("c1")
    flow = Flow(await house.agent("joe"), REPORT)
    await flow.start("r1")
    assert await path(flow, "r1") == ["research", "FAILED"]
    assert "given out 10 times" in (await flow.get("r1")).why
    assert begun == [1] * 10 + [2] * 10 + [3] * 10


async def test_a_result_that_is_too_large_fails_its_task_and_says_so(house: House) -> None:
    async def chatty(_: Assignment) -> Any:
        return "x" * house.broker.max_frame

    await crew(house, "ann", research=chatty)
    await house.coordinator("c1")
    flow = Flow(await house.agent("joe"), REPORT)
    await flow.start("r1")
    assert await path(flow, "r1") == ["research", "FAILED"]
    assert "its result can't be sent" in (await flow.get("r1")).why


async def test_it_all_begins_before_the_broker_is_there(house: House) -> None:
    house.broker.crash()
    await crew(house, "ann", research=research, analysis=analysis)
    coordinating = asyncio.create_task(house.coordinator("c1"))
    flow = Flow(await house.agent("joe"), REPORT)
    starting = asyncio.create_task(flow.start("r1", {"question": "q"}))
    await asyncio.sleep(0)
    house.broker.start()
    await starting
    await coordinating
    await until(flow, "r1", "review")
    house.broker.crash()
    telling = asyncio.create_task(flow.tell("r1", "approved"))
    house.broker.start()
    assert (await telling).status is Status.DONE


async def test_a_second_life_of_an_id_is_not_mistaken_for_the_first(house: House) -> None:
    model = Workflow("w", {"a": State(handler="h", on={"done": "z"}), "z": State(end=True)})
    clock = iter(range(1000, 2000))
    flow = Flow(await house.agent("joe"), model, clock=lambda: float(next(clock)))
    await flow.start("1", {"life": 1})
    await flow.cancel("1")
    book = state_store.book_of(await house.agent("keeper"), flow.home)
    await book.forget(await book.load("1"))
    await flow.start("1", {"life": 2})
    lives: list[int] = []

    async def note(task: Assignment) -> Any:
        lives.append(task.data["life"])

    await crew(house, "ann", h=note)
    await house.coordinator("c1", model)
    assert await path(flow, "1") == ["a", "z"]
    assert lives == [2]
    assert [change.n for change in await flow.history("1")] == [1, 2]
    assert len(house.broker.stored("lab/w/1")) == 4


async def test_an_instance_takes_two_keys_from_its_start_to_its_end(house: House) -> None:
    model = Workflow(
        "w", {"a": State(messages={"go": "b"}), "b": State(messages={"go": "z"}, timeout=60), "z": State(end=True)}
    )
    flow = Flow(await house.agent("joe"), model)
    await flow.start("1")
    assert len(await house.keys(flow.home)) == 3  # and the declaration
    for _ in range(2):
        await flow.tell("1", "go")
        assert len(await house.keys(flow.home)) == 3


async def test_many_coordinators_and_one_that_goes_make_each_step_once(house: House) -> None:
    await crew(house, "ann", research=research, analysis=analysis)
    await crew(house, "bob", research=research, analysis=analysis)
    await house.coordinator("c1")
    async with Coordinator(await house.agent("c2"), REPORT, tick=0.02):
        flow = Flow(await house.agent("joe"), REPORT)
        for number in range(20):
            await flow.start(f"r{number}", {"question": "q"})
    await asyncio.gather(*(until(flow, f"r{number}", "review") for number in range(20)))
    for number in range(20):
        history = await flow.history(f"r{number}")
        assert [change.n for change in history] == list(range(1, 7))
        assert [change.target for change in history if change.is_transition] == ["research", "analysis", "review"]


async def test_an_instance_goes_by_the_declaration_that_it_was_started_with(house: House) -> None:
    first = Workflow("w", {"a": State(messages={"go": "z"}), "z": State(end=True)})
    second = Workflow("w", {"b": State(handler="h", on={"done": "y"}), "y": State(end=True)})
    assert not second.message_types, "the newer declaration waits for no message, and the instance does all the same"
    await Flow(await house.agent("joe"), first).start("1")
    await house.coordinator("c1", second)
    agent = await house.agent("ann")
    flow = Flow(agent, "w")
    await agent.publish("lab/w/1", None, type="go")
    assert await path(flow, "1") == ["a", "z"]
    with pytest.raises(ValueError, match="its workflow is needed"):
        await flow.start("2")


async def test_messages_that_come_at_once_move_an_instance_in_their_order(house: House) -> None:
    model = Workflow(
        "w", {"a": State(messages={"x": "b"}), "b": State(messages={"y": "z"}, timeout=60), "z": State(end=True)}
    )
    await house.coordinator("c1", model)
    await house.coordinator("c2", model)
    joe = await house.agent("joe")
    flow = Flow(joe, model)
    for number in range(10):
        await flow.start(f"i{number}")
        await asyncio.gather(*[await joe.submit(f"lab/w/i{number}", {}, type=type) for type in ("x", "y")])
    async with asyncio.timeout(30):
        for number in range(10):
            assert await path(flow, f"i{number}") == ["a", "b", "z"]
