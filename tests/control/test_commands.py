"""Commands: obeyed once, before their deadline or not at all, answered, and on the log."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from harness.broker import url_of
from harness.commanding import answers, command, known
from harness.until import until
from hubbub import Agent, Backoff, Closed, Delivery, consumer
from hubbub.control import CommandRefused, Order, reports
from hubbub_broker.cli.planes import Inside
from hubbub_broker.server import Server
from hubbub_control import Commands, ControlPlane

MakeAgent = Callable[..., Agent]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "EVERY_SECONDS", 0.05)


class Worker:
    """A member of the consumer `workers`, and what it was given."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.got: list[Any] = []

        @agent.on("tasks", consumer="workers", max_unacked=1)
        async def work(task: Delivery) -> None:
            self.got.append(task.data)


async def test_who_is_paused_leaves_the_work_to_others(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe") as joe, make_agent("tom") as tom:
        first, second = Worker(joe), Worker(tom)
        for each in (joe, tom):
            await each.consumption("tasks", "workers").ready()
        await known(http, "joe", "tom")
        done = await command(http, "pause", to={"agent": "joe"})
        assert (answers(done), done["open"], done["by"], done["to"]) == (
            {"joe": "obeyed"},
            False,
            "operator",
            {"agent": "joe"},
        )
        assert joe.paused
        for number in range(20):
            await tom.publish("tasks", number)
        await until(lambda: second.got == list(range(20)))
        assert first.got == []
        assert (await http.get("/v1/control/route", params={"group": "g"})).json()["agent"] == "tom"
        assert answers(await command(http, "resume", to={"agent": "joe"})) == {"joe": "obeyed"}
        await command(http, "pause", to={"agent": "tom"})
        for number in range(20, 40):
            await tom.publish("tasks", number)
        await until(lambda: first.got == list(range(20, 40)))


async def test_pause_and_resume_in_turn_lose_and_double_nothing(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe") as joe, make_agent("ann") as ann:
        worker = Worker(joe)
        seen: list[Any] = []

        @joe.on("news")
        async def read(message: Any) -> None:
            seen.append(message.data)

        await joe.consumption("tasks", "workers").ready()
        await known(http, "joe")

        async def speak() -> None:
            for number in range(60):
                await ann.publish("tasks", number)
                await ann.publish("news", number)

        speaking = asyncio.create_task(speak())
        for _ in range(5):
            joe.pause()
            await asyncio.sleep(0.01)
            joe.resume()
            await asyncio.sleep(0.01)
        await speaking
        await until(lambda: len(set(worker.got)) == 60 and len(seen) == 60)
        assert sorted(worker.got) == list(range(60))
        assert seen == list(range(60))


async def test_who_is_drained_finishes_and_leaves(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe") as joe, make_agent("ann") as ann:
        begun, goes_on = asyncio.Event(), asyncio.Event()
        finished: list[Any] = []

        @joe.on("tasks", consumer="workers", max_unacked=1)
        async def work(task: Delivery) -> None:
            begun.set()
            await goes_on.wait()
            finished.append(task.data)

        await joe.consumption("tasks", "workers").ready()
        await known(http, "joe")
        await ann.publish("tasks", 1)
        await ann.publish("tasks", 2)
        await begun.wait()
        draining = asyncio.create_task(command(http, "drain", to={"agent": "joe"}))
        await asyncio.sleep(0.1)
        assert joe.state == "online"
        goes_on.set()
        assert answers(await draining) == {"joe": "obeyed"}
        await joe.wait_for("closed", timeout=10)
        assert finished == [1]
        other = Worker(ann)
        await until(lambda: other.got == [2])


async def test_a_drain_ends_before_its_deadline_and_gives_back_what_is_not_finished(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe") as joe, make_agent("ann") as ann:
        begun: list[Any] = []
        done: list[Any] = []

        @joe.on("tasks", consumer="workers", max_unacked=1)
        async def work(task: Delivery) -> None:
            begun.append(task.data)
            await asyncio.Event().wait()

        @ann.on("tasks", consumer="others", max_unacked=1)
        async def ignore(_: Delivery) -> None: ...

        await joe.consumption("tasks", "workers").ready()
        await known(http, "joe", "ann")
        await ann.publish("tasks", 1)
        await until(lambda: begun == [1])
        given = await command(http, "drain", to={"agent": "joe"}, within=1.5, args={"seconds": 3600})
        assert [(each["state"], each["result"]) for each in given["answers"]] == [("obeyed", {"given_back": 1})]
        assert given["answers"][0]["at"] < given["deadline"]
        await joe.wait_for("closed", timeout=10)

        @ann.on("tasks", consumer="workers")
        async def take_over(task: Delivery) -> None:
            done.append(task.data)

        await until(lambda: done == [1])


async def test_an_agent_leaves_though_a_handler_of_it_does_not_want_to(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "CANCEL_SECONDS", 0.5)
    async with make_agent("joe") as joe, make_agent("ann") as ann:
        begun, goes_on = asyncio.Event(), asyncio.Event()

        @joe.on("tasks", consumer="workers", max_unacked=1)
        async def work(_: Delivery) -> None:
            begun.set()
            while not goes_on.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await goes_on.wait()

        await joe.consumption("tasks", "workers").ready()
        await known(http, "joe")
        await ann.publish("tasks", 1)
        await begun.wait()
        given = await command(http, "drain", to={"agent": "joe"}, within=1)
        assert [(each["state"], each["result"]) for each in given["answers"]] == [("obeyed", {"given_back": 1})]
        await joe.wait_for("closed", timeout=10)
        goes_on.set()


async def test_what_may_be_changed_is_and_all_or_nothing_of_it(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe") as joe:

        @joe.on("tasks", consumer="workers", max_unacked=8)
        async def work(_: Delivery) -> None: ...

        await known(http, "joe")
        done = await command(http, "configure", to={"agent": "joe"}, args={"concurrency": 2, "report_every": 0.1})
        assert done["answers"][0]["result"] == {"concurrency": 2, "report_every": 0.1}
        assert joe.room == 2
        refused = await command(http, "configure", to={"agent": "joe"}, args={"concurrency": 5, "name": "tom"})
        assert answers(refused) == {"joe": "refused"}
        assert "nothing else can be changed" in refused["answers"][0]["reason"]
        assert joe.room == 2
        for args in ({"concurrency": 0}, {"log_level": "loud"}, {"report_every": True}):
            assert answers(await command(http, "configure", to={"agent": "joe"}, args=args)) == {"joe": "refused"}


async def test_an_agents_own_commands(plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent) -> None:
    joe = make_agent("joe", capabilities=["search"])
    orders: list[Order] = []

    @joe.on_command("reload")
    async def reload(order: Order) -> dict[str, int]:
        orders.append(order)
        return {"loaded": 3}

    @joe.on_command("count")
    def count(order: Order) -> int:
        return int(order.args["to"])

    @joe.on_command("fail")
    async def fail(_: Order) -> None:
        raise ZeroDivisionError("it can't be")

    @joe.on_command("decline")
    async def decline(_: Order) -> None:
        raise CommandRefused("not today")

    @joe.on_command("odd")
    async def odd(_: Order) -> object:
        return object()

    for taken in ("reload", "pause"):
        with pytest.raises(ValueError, match="already"):
            joe.on_command(taken)(reload)
    async with joe, make_agent("tom") as tom:
        with pytest.raises(Closed):
            tom.on_command("late")(reload)
        await known(http, "joe", "tom")
        done = await command(http, "reload", to={"capability": "search"}, args={"from": "disk"})
        assert [(each["agent"], each["state"], each["result"]) for each in done["answers"]] == [
            ("joe", "obeyed", {"loaded": 3})
        ]
        assert [(order.do, order.args, order.by) for order in orders] == [("reload", {"from": "disk"}, "operator")]
        assert (await command(http, "count", to={"agent": "joe"}, args={"to": 7}))["answers"][0]["result"] == 7
        to_all = await command(http, "fail", to={"group": "g"})
        assert answers(to_all) == {"joe": "failed", "tom": "refused"}
        reasons = {answer["agent"]: answer["reason"] for answer in to_all["answers"]}
        assert reasons["joe"] == "ZeroDivisionError: it can't be"
        assert "nobody here knows 'fail'" in reasons["tom"]
        declined = await command(http, "decline", to={"agent": "joe"})
        assert (answers(declined), declined["answers"][0]["reason"]) == ({"joe": "refused"}, "not today")
        told = await command(http, "odd", to={"agent": "joe"})
        assert answers(told) == {"joe": "obeyed"}
        assert "can't be told" in told["answers"][0]["reason"]


async def test_nobody_is_meant(plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent) -> None:
    async with make_agent("joe"):
        await known(http, "joe")
        for to in ({"agent": "nobody"}, {"group": "empty"}, {"capability": "cook"}):
            assert (await command(http, "pause", status=404, to=to))["code"] == "not_found"
        odd: list[Any] = [None, {}, {"agent": "joe", "group": "g"}]
        for to in odd:
            assert (await command(http, "pause", status=400, to=to))["code"] == "bad_request"
        assert (await http.get("/v1/control/commands/nothing")).status_code == 404


async def test_who_was_away_obeys_once_when_it_is_back(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    joe = make_agent("joe", backoff=Backoff(base=1.0, cap=1.0))
    obeyed: list[str] = []

    @joe.on_command("note")
    async def note(order: Order) -> None:
        obeyed.append(order.args["what"])

    async with joe:
        await known(http, "joe")
        link = joe._board.main.supervisor.link
        assert link is not None
        link.drop("the cable")
        await until(lambda: joe.state == "degraded")
        given = await command(http, "note", wait=0, to={"agent": "joe"}, args={"what": "first"})
        assert answers(given) == {"joe": "pending"}
        await until(lambda: obeyed == ["first"])
        await command(http, "note", to={"agent": "joe"}, args={"what": "second"})
        assert obeyed == ["first", "second"]
        found = (await http.get(f"/v1/control/commands/{given['id']}")).json()
        assert answers(found) == {"joe": "obeyed"}


async def test_a_process_that_begins_anew_obeys_what_is_still_open_and_nothing_else(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    obeyed: list[str] = []

    def make() -> Agent:
        agent = make_agent("joe")

        @agent.on_command("note")
        async def note(order: Order) -> None:
            obeyed.append(order.args["what"])

        return agent

    async with make():
        await known(http, "joe")
        await command(http, "note", to={"agent": "joe"}, args={"what": "done"})
    await command(http, "note", wait=0, to={"agent": "joe"}, args={"what": "open"})
    late = await command(http, "note", wait=0, to={"agent": "joe"}, args={"what": "late"}, within=0.05)
    await until(lambda: not commands_of(plane).trail.newest()[0].is_open(commands_of(plane).clock()))
    async with make():
        await until(lambda: obeyed == ["done", "open"])
        await command(http, "ping", to={"agent": "joe"})
    assert obeyed == ["done", "open"]
    found = (await http.get(f"/v1/control/commands/{late['id']}")).json()
    assert (answers(found), found["open"]) == ({"joe": "late"}, False)


def commands_of(plane: ControlPlane) -> Commands:
    return next(part for part in plane.parts if isinstance(part, Commands))


async def test_what_takes_too_long_is_late(plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent) -> None:
    joe = make_agent("joe")
    ended: list[str] = []

    @joe.on_command("hang")
    async def hang(_: Order) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("hang")

    async with joe:
        await known(http, "joe")
        found = await command(http, "hang", to={"agent": "joe"}, within=0.3, wait=0)
        await until(lambda: ended == ["hang"])
        async with asyncio.timeout(10):
            while answers(found)["joe"] != "late" or not found["answers"][0]["reason"]:
                found = (await http.get(f"/v1/control/commands/{found['id']}")).json()
        assert found["answers"][0]["reason"] == "it was not done before its deadline"


async def test_a_time_out_of_what_is_obeyed_is_a_failure_and_not_the_deadline(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    joe = make_agent("joe")

    @joe.on_command("ask")
    async def ask(_: Order) -> None:
        raise TimeoutError("the database did not answer")

    async with joe:
        await known(http, "joe")
        found = await command(http, "ask", to={"agent": "joe"})
        assert [(each["state"], each["reason"]) for each in found["answers"]] == [
            ("failed", "TimeoutError: the database did not answer")
        ]


async def test_a_plain_function_is_begun_before_the_deadline_or_not_at_all(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    joe = make_agent("joe")
    goes_on = threading.Event()
    begun: list[str] = []

    @joe.on_command("work")
    def work(order: Order) -> str:
        begun.append(order.args["what"])
        assert goes_on.wait(20)
        return "done"

    async with joe:
        await known(http, "joe")
        with ThreadPoolExecutor(1) as one_thread:
            asyncio.get_running_loop().set_default_executor(one_thread)
            first = await command(http, "work", to={"agent": "joe"}, args={"what": "first"}, within=0.5, wait=0)
            await until(lambda: begun == ["first"])
            second = await command(http, "work", to={"agent": "joe"}, args={"what": "second"}, within=0.5, wait=0)
            await asyncio.sleep(second["deadline"] - time.time() + 0.1)
            goes_on.set()

            async def answer(given: dict[str, Any]) -> dict[str, Any]:
                async with asyncio.timeout(10):
                    while True:
                        found = (await http.get(f"/v1/control/commands/{given['id']}")).json()["answers"][0]
                        if found["reason"]:
                            return dict(found)
                        await asyncio.sleep(0.02)

            one, other = await answer(first), await answer(second)
            assert (one["state"], one["result"], begun) == ("obeyed", "done", ["first"])
            assert "begun before its deadline" in one["reason"]
            assert (other["state"], other["reason"]) == ("late", "it was not done before its deadline")


@pytest.mark.parametrize("options", [{"commands_kept": 2}])
async def test_one_that_begins_with_nothing_knows_every_answer_however_many(
    server: Server, plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    names = [f"a{number}" for number in range(12)]
    async with AsyncExitStack() as stack:
        for name in names:
            await stack.enter_async_context(make_agent(name))
        await known(http, *names)
        given = [await command(http, "ping", to={"group": "g"}) for _ in range(3)]
        fresh = Inside(server.settings).plane
        fresh.start(url_of(server))
        try:
            commands = next(part for part in fresh.parts if isinstance(part, Commands))
            await until(lambda: commands._known)
            assert commands.trail.get(given[0]["id"]) is None
            for one in given[1:]:
                found = commands.trail.get(one["id"])
                assert found is not None
                assert {each.agent: each.state for each in found.outcomes(time.time())} == dict.fromkeys(
                    names, "obeyed"
                )
        finally:
            await fresh.stop()


async def test_the_trail_is_on_the_log(
    server: Server, plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe"), make_agent("tom"):
        await known(http, "joe", "tom")
        for do in ("ping", "dance"):
            await command(http, do, to={"group": "g"})
        await http.post("/v1/control/commands?by=ops", json={"do": "ping", "to": {"agent": "joe"}, "wait": 10})
    before = (await http.get("/v1/control/commands")).json()
    assert [(each["do"], each["by"], answers(each)) for each in before["commands"]] == [
        ("ping", "ops", {"joe": "obeyed"}),
        ("dance", "operator", {"joe": "refused", "tom": "refused"}),
        ("ping", "operator", {"joe": "obeyed", "tom": "obeyed"}),
    ]
    assert (await http.get("/v1/control/commands?agent=tom")).json()["total"] == 2
    fresh = Inside(server.settings).plane
    fresh.start(url_of(server))
    try:
        await until(lambda: commands_of(fresh)._known)
        again = [
            (each.id, each.do, each.by, {one.agent: str(one.state) for one in each.outcomes(1e12)})
            for each in commands_of(fresh).trail.newest()
        ]
    finally:
        await fresh.stop()
    assert again == [(each["id"], each["do"], each["by"], answers(each)) for each in before["commands"]]
