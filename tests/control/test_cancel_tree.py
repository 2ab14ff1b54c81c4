"""A task is called off with everything that grew from it, through every agent that it reached."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from harness.commanding import command, known
from harness.until import until
from hubbub import Agent, Delivery, Message, Outcome
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
