"""A task is called off with everything that grew from it, through every agent that it reached."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import hubbub.sync
from harness.commanding import command, known
from harness.tokens import token, write_key
from harness.until import until
from hubbub import Agent, Delivery, Forbidden, HubbubError, Mail, Message, Outcome
from hubbub.cancels import Cancelled
from hubbub_control import ControlPlane

MakeAgent = Callable[..., Agent]

WIDTH = 3
DEPTH = 3


class Tree:
    """Agents that hand tasks down, `WIDTH` from each, until the leaves, which never end by themselves."""

    def __init__(self, waits: bool) -> None:
        self.waits = waits
        """Whether a handler stays at work when it has handed down what follows, or ends."""
        self.begun: list[str] = []
        self.cancelled: list[str] = []

    def serve(self, agent: Agent, level: int, room: int = 100) -> None:
        @agent.on(f"level-{level}", consumer="workers", max_unacked=room)
        async def work(task: Delivery) -> None:
            path: str = task.data
            self.begun.append(path)
            try:
                if level < DEPTH:
                    for number in range(WIDTH):
                        await agent.publish(f"level-{level + 1}", f"{path}{number}")
                if level == DEPTH or self.waits:
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.append(path)
                raise

    def at(self, paths: list[str], level: int) -> list[str]:
        return sorted(path for path in paths if len(path) == level)


@asynccontextmanager
async def team(make_agent: MakeAgent, tree: Tree, each: int = 2) -> AsyncIterator[list[Agent]]:
    """Some agents at each level, in two processes' worth of names."""
    async with AsyncExitStack() as stack:
        agents = []
        for level in range(DEPTH + 1):
            for number in range(each):
                agent = await stack.enter_async_context(make_agent(f"w{level}-{number}"))
                tree.serve(agent, level)
                await agent.consumption(f"level-{level}", "workers").ready()
                agents.append(agent)
        yield agents


def leaves(tree: Tree) -> list[str]:
    return tree.at(tree.begun, DEPTH)


@pytest.mark.parametrize("waits", [True, False])
async def test_a_tree_of_3_by_3_by_3_is_cancelled_to_its_leaves(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent, waits: bool
) -> None:
    tree = Tree(waits)
    async with team(make_agent, tree) as agents, make_agent("ann") as ann:
        await known(http, "ann", *(agent.name for agent in agents))
        outcomes: list[Outcome] = []
        ann.on_outcome(outcomes.append)
        root = await ann.publish_tracked("level-0", "", id="root")
        other = await ann.publish("level-3", "xyz")
        await until(lambda: len(leaves(tree)) == WIDTH**DEPTH + 1)
        args = {"topic": "g/level-0", "id": root.id, "reason": "too dear"}
        given = await command(http, "cancel", wait=0, args=args)
        await until(lambda: len(tree.at(tree.cancelled, DEPTH)) == WIDTH**DEPTH)
        assert set(tree.cancelled) == set(tree.begun) - {"xyz"} - ({""} if not waits else set()) - (
            set() if waits else {path for path in tree.begun if len(path) < DEPTH}
        )
        if waits:  # what is cancelled is told so to whoever asked for receipts
            await until(lambda: any(one.state == "dead" for one in outcomes))
            dead = next(one for one in outcomes if one.state == "dead")
            assert (dead.id, dead.reason) == ("root", "cancelled: by operator: too dear")

        async def effects() -> list[dict[str, int]]:
            found = (await http.get(f"/v1/control/commands/{given['id']}")).json()
            return [answer["result"] for answer in found["answers"]]

        nodes = 1 + WIDTH + WIDTH**2
        async with asyncio.timeout(10):
            while sum(each["passed_on"] for each in await effects()) < nodes * WIDTH:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.02)
        assert sum(each["stopped"] for each in await effects()) == len(tree.cancelled)
        assert "xyz" not in tree.cancelled
        assert other.seq is not None


async def test_whoever_published_it_may_call_it_off_and_nobody_else(plane: ControlPlane, make_agent: MakeAgent) -> None:
    tree = Tree(waits=True)
    async with team(make_agent, tree, each=1), make_agent("ann") as ann, make_agent("eve") as eve:
        await ann.publish("level-0", "", id="root")
        await until(lambda: len(leaves(tree)) == WIDTH**DEPTH)
        await eve.cancel("level-0", "root")
        await eve.publish("level-0", "", id="eves")  # goes the same way: what was called off before would be by then
        await until(lambda: len(leaves(tree)) == 2 * WIDTH**DEPTH)
        assert tree.cancelled == []
        await ann.cancel("level-0", "root", reason="changed my mind")
        await until(lambda: len(tree.at(tree.cancelled, DEPTH)) == WIDTH**DEPTH)
        await eve.cancel("level-0", "eves")
        await until(lambda: len(tree.cancelled) == len(tree.begun))


async def test_what_was_not_begun_is_dropped_when_it_comes(plane: ControlPlane, make_agent: MakeAgent) -> None:
    tree = Tree(waits=False)
    async with AsyncExitStack() as stack:
        ann = await stack.enter_async_context(make_agent("ann"))
        for level in range(DEPTH):
            agent = await stack.enter_async_context(make_agent(f"w{level}"))
            tree.serve(agent, level)
        slow = await stack.enter_async_context(make_agent("slow"))
        tree.serve(slow, DEPTH, room=2)
        await slow.consumption(f"level-{DEPTH}", "workers").ready()
        await ann.publish("level-0", "", id="root")
        await until(lambda: len(leaves(tree)) == 2)
        watch = ann.subscribe("level-3", start="all")
        for _ in range(WIDTH**DEPTH):
            await anext(watch)
        await ann.cancel("level-0", "root")
        await until(lambda: slow.stats.terminated == WIDTH**DEPTH)
        assert len(leaves(tree)) < WIDTH**DEPTH / 2  # those that came before the word did, and no others
        assert tree.at(tree.cancelled, DEPTH) == leaves(tree)


async def test_who_comes_later_hears_what_was_called_off_before(plane: ControlPlane, make_agent: MakeAgent) -> None:
    async with make_agent("ann") as ann, make_agent("first") as first:

        @first.on("tasks", consumer="workers")
        async def hand_down(_: Delivery) -> None:
            await first.publish("more", "off")

        await first.consumption("tasks", "workers").ready()
        await first.topic("more").publish("on")
        watch = ann.subscribe("more", start="all")
        await anext(watch)
        await ann.publish("tasks", 1, id="root")
        await anext(watch)
        await ann.cancel("tasks", "root")
        heard = ann.subscribe("_cancel", start="all")
        assert [(await anext(heard)).data["topic"] for _ in range(2)] == ["g/tasks", "g/more"]
        async with make_agent("later") as later:
            got: list[Any] = []

            @later.on("more", consumer="workers", start="all")
            async def work(task: Delivery) -> None:
                got.append(task.data)

            await until(lambda: later.stats.terminated == 1 and later.stats.acked == 1)
            assert got == ["on"]


async def test_handlers_without_a_consumer_are_cancelled_and_go_on_with_others(
    plane: ControlPlane, make_agent: MakeAgent
) -> None:
    async with make_agent("joe") as joe, make_agent("ann") as ann:
        begun: list[Any] = []
        ended: list[Any] = []

        @joe.on("news")
        async def read(message: Message) -> None:
            begun.append(message.data)
            if message.data != "quick":
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.append(message.data)
            else:
                async with asyncio.timeout(5):  # nothing is left of the cancelling before
                    await asyncio.sleep(0.01)
                ended.append("quick")

        ready = joe.subscribe("news")
        await ready.ready()
        for number in range(3):
            await ann.publish("news", number, id=f"n{number}")
        await ann.publish("news", "quick")
        await until(lambda: begun == [0])
        await ann.cancel("news", "n1")
        await ann.cancel("news", "n0")
        await until(lambda: begun == [0, 2])
        assert ended == [0]
        await ann.cancel("news", "n2")
        await until(lambda: ended == [0, 2, "quick"])
        assert joe.stats.called_off == 3
        assert joe.stats.handler_errors == 0


async def test_what_begins_something_new_is_no_part_of_the_tree(plane: ControlPlane, make_agent: MakeAgent) -> None:
    async with make_agent("joe") as joe, make_agent("ann") as ann:
        at_work: list[Any] = []

        @joe.on("tasks", consumer="workers")
        async def work(task: Delivery) -> None:
            at_work.append(task.data)
            try:
                if task.data == "root":
                    await joe.publish("tasks", "part")
                    await joe.publish("tasks", "new", headers={"hops": 0})
                await asyncio.Event().wait()
            finally:
                at_work.remove(task.data)

        await joe.consumption("tasks", "workers").ready()
        await ann.publish("tasks", "root", id="root")
        await until(lambda: sorted(at_work) == ["new", "part", "root"])
        await ann.cancel("tasks", "root")
        await until(lambda: at_work == ["new"])


async def test_what_a_thread_goes_on_to_publish_is_called_off_too(plane: ControlPlane, make_agent: MakeAgent) -> None:
    async with make_agent("joe") as joe, make_agent("ann") as ann:
        loop = asyncio.get_running_loop()
        began = asyncio.Event()
        dropped = ann.subscribe("_cancel")
        await dropped.ready()

        @joe.on("tasks", consumer="workers")
        def work(task: Delivery) -> None:
            loop.call_soon_threadsafe(began.set)
            assert task.lost.wait(20)
            asyncio.run_coroutine_threadsafe(joe.publish("more", 1, id="child"), loop).result(20)

        await joe.consumption("tasks", "workers").ready()
        await ann.publish("tasks", 1, id="root")
        await began.wait()
        await ann.cancel("tasks", "root")
        assert [(await anext(dropped)).data["id"] for _ in range(2)] == ["root", "child"]


class AtWork:
    """A consumer's handler that never ends by itself, and what it was called with."""

    def __init__(self, agent: Agent, topic: str = "tasks") -> None:
        self.agent = agent
        self.topic = topic
        self.begun: list[Any] = []
        self.cancelled: list[Any] = []
        agent.on(topic, consumer="workers", max_unacked=100)(self.work)

    async def work(self, task: Delivery) -> None:
        self.begun.append(task.data)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(task.data)
            raise

    async def ready(self) -> None:
        await self.agent.consumption(self.topic, "workers").ready()


async def effects(http: httpx.AsyncClient, given: dict[str, Any], most: int = 1) -> list[dict[str, Any]]:
    """The answers to a cancel, once there are so many."""
    async with asyncio.timeout(10):
        while True:
            found = (await http.get(f"/v1/control/commands/{given['id']}")).json()
            if len(found["answers"]) >= most:
                answers: list[dict[str, Any]] = found["answers"]
                return answers
            await asyncio.sleep(0.02)


async def test_whatever_way_a_message_went_out_it_is_part_of_the_tree(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("ann") as ann, make_agent("lead") as lead, make_agent("joe") as joe:
        tasks = AtWork(joe)
        mails: list[str] = []

        @joe.on_mail(max_unacked=10)
        async def read(mail: Mail) -> None:
            mails.append(mail.subject)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                mails.remove(mail.subject)
                raise

        def by_script() -> None:
            with hubbub.sync.Agent("script", group="g", url=lead.url, local=False) as script:
                script.publish("tasks", "by a script's agent")
                scripts.append(threading.Event())
                loop.call_soon_threadsafe(grown.set)
                scripts[0].wait(20)

        grown = asyncio.Event()
        scripts: list[threading.Event] = []
        loop = asyncio.get_running_loop()

        @lead.on("jobs", consumer="leads")
        async def grow(job: Delivery) -> None:
            if job.data != "root":  # its own reply
                return
            await lead.publish("tasks", "by publish")
            await (await lead.submit("tasks", "by submit"))
            await lead.publish_tracked("tasks", "by publish_tracked")
            await job.reply("by reply", type="task")
            state = lead.topic("jobs").state
            await state.update({"k": 1}, publish=[("tasks", "by update")])
            async with state.transaction() as change:
                change.put("k", 2)
                change.publish("tasks", "by transaction")
            await lead.send("joe", "by mail")
            await asyncio.to_thread(by_script)

        replies = AtWork(joe, "jobs")  # another consumer of the topic: it gets the reply, and the job
        await tasks.ready()
        await replies.ready()
        await lead.consumption("jobs", "leads").ready()
        await until(lambda: joe.state == "online")
        await ann.publish("jobs", "root", id="root")
        try:
            await grown.wait()
            ways = {
                "by publish",
                "by submit",
                "by publish_tracked",
                "by update",
                "by transaction",
                "by a script's agent",
            }
            await until(lambda: set(tasks.begun) == ways and mails == ["by mail"] and "by reply" in replies.begun)
            await ann.cancel("jobs", "root")
            await until(lambda: set(tasks.cancelled) == ways)
            await until(lambda: mails == [] and set(replies.cancelled) == {"root", "by reply"})
        finally:
            for each in scripts:
                each.set()


async def test_the_answer_to_a_mail_and_a_mail_that_begins_something_new_are_no_part_of_it(
    plane: ControlPlane, make_agent: MakeAgent
) -> None:
    async with make_agent("ann") as ann, make_agent("joe") as joe:
        got: list[str] = []

        @ann.on_mail()
        async def read(mail: Mail) -> None:
            got.append(mail.subject)

        @joe.on_mail()
        async def work(mail: Mail) -> None:
            await mail.reply("at work")
            await joe.send("ann", "other", headers={"hops": 0})
            await asyncio.Event().wait()

        await ann.wait_for("online")
        await joe.wait_for("online")
        sent = await ann.send("joe", "root", create=True, id="root")
        assert sent.topic == "g/@joe"
        await until(lambda: sorted(got) == ["Re: root", "other"])
        assert joe._cancels._caused.of(("g/@joe", "ann", "root")).children == []
        await ann.cancel(sent.topic, "root")
        await until(lambda: joe.stats.terminated == 1)


async def test_what_is_not_remembered_is_told_in_the_trail(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_agent("ann") as ann, make_agent("lead", caused_max=3) as lead, make_agent("joe") as joe:
        tasks = AtWork(joe)

        @lead.on("jobs", consumer="leads")
        async def grow(_: Delivery) -> None:
            for number in range(5):
                await lead.publish("tasks", number)

        await tasks.ready()
        await lead.consumption("jobs", "leads").ready()
        await known(http, "ann", "lead", "joe")
        await ann.publish("jobs", 1, id="root")
        await until(lambda: len(tasks.begun) == 5)
        assert "caused_max) is 3" in caplog.text
        given = await command(http, "cancel", wait=0, args={"topic": "g/jobs", "id": "root"})
        await until(lambda: sorted(tasks.cancelled) == [2, 3, 4])
        told = next(each for each in await effects(http, given, 4) if each["agent"] == "lead")
        assert told["result"] == {"stopped": 0, "passed_on": 3, "unreached": 2}
        assert told["reason"] == "2 children of root are not known: the limit (caused_max) is 3"


async def test_cancelling_again_reaches_what_the_first_time_could_not_be_passed_on_to(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_agent("ann") as ann, make_agent("lead") as lead, make_agent("joe") as joe:
        tasks = AtWork(joe)

        @lead.on("jobs", consumer="leads")
        async def grow(_: Delivery) -> None:
            await lead.publish("tasks", 1, id="one")
            await lead.publish("tasks", 2, id="two")

        await tasks.ready()
        await lead.consumption("jobs", "leads").ready()
        await known(http, "ann", "lead", "joe")
        await ann.publish("jobs", 1, id="root")
        await until(lambda: sorted(tasks.begun) == [1, 2])
        publish = lead._cancels._publish

        async def broken(topic: str, id: str, why: Cancelled) -> None:
            if id == "two":
                raise HubbubError("the disk is full")
            await publish(topic, id, why)

        monkeypatch.setattr(lead._cancels, "_publish", broken)
        args = {"topic": "g/jobs", "id": "root"}
        given = await command(http, "cancel", wait=0, args=args)
        told = next(each for each in await effects(http, given, 2) if each["agent"] == "lead")
        assert told["result"] == {"stopped": 0, "passed_on": 1, "unreached": 1}
        assert "the disk is full" in told["reason"]
        assert tasks.cancelled == [1]
        monkeypatch.undo()
        again = await command(http, "cancel", wait=0, args=args)
        await until(lambda: sorted(tasks.cancelled) == [1, 2])
        told = next(each for each in await effects(http, again, 2) if each["agent"] == "lead")
        assert told["result"] == {"stopped": 0, "passed_on": 2, "unreached": 0}


async def test_a_message_that_caused_itself_is_called_off_once(plane: ControlPlane, make_agent: MakeAgent) -> None:
    async with make_agent("joe") as joe:

        @joe.on("tasks", consumer="workers")
        async def work(_: Delivery) -> None:
            await joe.publish("tasks", 1, id="root")  # the same again: stored once
            await asyncio.Event().wait()

        await joe.consumption("tasks", "workers").ready()
        said = joe.subscribe("_cancel")
        await said.ready()
        await joe.publish("tasks", 1, id="root")
        await until(lambda: len(joe._cancels._caused) == 1)
        await joe.cancel("tasks", "root")
        assert [(await anext(said)).data["id"] for _ in range(2)] == ["root", "root"]
        await joe.cancel("tasks", "other")
        assert (await anext(said)).data["id"] == "other"


@pytest.fixture
def options(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where a test asks for it, a broker that wants signed tokens."""
    return {"token_keys": write_key(tmp_path / "keys")} if getattr(request, "param", "") == "signed" else {}


@pytest.mark.parametrize("options", ["signed"], indirect=True)
async def test_who_may_work_on_a_topic_hears_what_of_it_is_called_off(
    plane: ControlPlane, make_agent: MakeAgent
) -> None:
    """Grants that name the topics, and no more: none of them names `g/_cancel`."""

    def with_token(name: str, **grants: Any) -> Agent:
        return make_agent(name, group=None, token=token(name, **grants))

    async with (
        with_token("ann", pub=["g/jobs"]) as ann,
        with_token("lead", pub=["h/tasks"], subscribe=["g/jobs"]) as lead,
        with_token("joe", subscribe=["h/tasks"]) as joe,
        with_token("eve", pub=["i/else"], subscribe=["i/else"]) as eve,
    ):
        tasks = AtWork(joe, "h/tasks")

        @lead.on("g/jobs", consumer="leads")
        async def grow(_: Delivery) -> None:
            await lead.publish("h/tasks", 1)

        await tasks.ready()
        await lead.consumption("g/jobs", "leads").ready()
        await ann.publish("g/jobs", 1, id="root")
        await until(lambda: tasks.begun == [1])
        with pytest.raises(Forbidden):  # who may do nothing in a group says and hears nothing there
            await eve.cancel("g/jobs", "root")
        await ann.cancel("g/jobs", "root")
        await until(lambda: tasks.cancelled == [1])
