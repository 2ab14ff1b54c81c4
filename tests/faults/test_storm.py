"""Storms of agents that answer one another end by themselves, and nobody else waits for it.

Workload: agents that answer whatever they hear, as fast as they hear it; a pair that measures how long a message takes.
Fault: that is the fault.
Checker: what was taken of each sender against its limit; the pair's latencies, and those at a broker without a storm.
"""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from harness.broker import broker_process
from harness.neighbours import Neighbours, neighbours
from harness.until import until
from harness.wire import WireClient, wire_client
from hubbub import Agent, LoopDetected, Mail, Message

AGENTS = 20
ALL = "_mail/@ALL"
LIMIT = 10
"""Broadcasts that one agent may send in any minute, by default."""


async def answer_all(client: WireClient, name: str, taken: list[tuple[str, float]]) -> None:
    """Answer each mail with a mail to all, at once, whatever became of those before."""
    number = 0
    while True:
        line = await client.next()
        if line["op"] == "msg":
            assert line["from"] != name
            number += 1
            await client.send("pub", topic=ALL, id=f"{name}.{number}", data={"body": f"{name} has heard {line['id']}"})
        elif line["op"] == "ok":
            taken.append((name, time.monotonic()))
        elif line["op"] == "err":
            assert line["code"] == "rate_limited", line
            assert 0 < line["retry_after"] <= 60


async def test_a_broadcast_loop_of_20_agents_ends(tmp_path: Path) -> None:
    """Each answers each mail with a mail to all, and comes back as long as it is told to. What the first one says is
    answered by each, and none of those answers is.
    """
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(broker_process(tmp_path / "d", broadcast_rate=100))
        pair = stack.enter_context(neighbours(broker))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{broker.port}"))
        heard: Counter[str] = Counter()
        said: list[str] = []
        stopped: Counter[str] = Counter()
        agents = []
        for number in range(AGENTS):
            agent = await stack.enter_async_context(Agent(f"a{number}", group="team", url=broker.url, local=False))
            await agent.wait_for("online")
            agents.append(agent)
        for agent in agents:

            @agent.on_mail()
            async def answer(mail: Mail, agent: Agent = agent) -> None:
                heard[mail.sender] += 1
                try:
                    await agent.send("ALL", body=f"{agent.name} has heard {mail.id}")
                    said.append(agent.name)
                except LoopDetected:
                    stopped[agent.name] += 1

        await agents[0].send("ALL", body="hello all")
        others = AGENTS - 1
        meanwhile = await pair.beside(until(lambda: stopped.total() == others * others))
        assert sorted(said) == sorted(agent.name for agent in agents[1:])
        assert heard == {"a0": others} | {agent.name: others for agent in agents[1:]}
        metrics = (await http.get("/metrics")).text
        assert f'hubbub_guard_refusals_total{{rule="broadcast_depth"}} {others * others}.0' in metrics
        assert (await agents[1].send("ALL", body="an announcement of my own")) is not None
        Neighbours.compare(meanwhile)


async def test_a_broadcast_loop_of_20_agents_that_say_nothing_of_causes_is_held_to_its_rate(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(broker_process(tmp_path / "d"))
        pair = stack.enter_context(neighbours(broker))
        taken: list[tuple[str, float]] = []
        tasks = []
        for number in range(AGENTS):
            name = f"a{number}"
            client = await stack.enter_async_context(wire_client(broker.url, name))
            await client.sub(f"agents/@{name}")
            tasks.append(asyncio.create_task(answer_all(client, name, taken)))

        async def storm() -> None:
            starter = await stack.enter_async_context(wire_client(broker.url, "starter"))
            assert (await starter.pub(ALL, {"body": "hello all"}))["op"] == "ok"
            while len(taken) < AGENTS * LIMIT:  # each has sent what it may
                assert not [task.exception() for task in tasks if task.done()]
                await starter.send("ping")
                await starter.until("pong")

        started = time.monotonic()
        meanwhile = await pair.beside(storm())
        meanwhile += await pair.measure(50)  # what is still on its way is refused
        elapsed = time.monotonic() - started
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert elapsed < 50, "too slow a machine to tell one minute from the next"
        assert Counter(name for name, _ in taken) == {f"a{number}": LIMIT for number in range(AGENTS)}
        Neighbours.compare(meanwhile)


async def test_a_ring_of_20_agents_ends_at_its_depth(tmp_path: Path) -> None:
    """Each passes on to the next one's inbox what comes into its own: no topic sees more than one sender."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(broker_process(tmp_path / "d"))
        pair = stack.enter_context(neighbours(broker))
        ends: asyncio.Queue[BaseException] = asyncio.Queue()
        heard = 0
        agents = []
        for number in range(AGENTS):
            agent = await stack.enter_async_context(Agent(f"a{number}", group="team", url=broker.url, local=False))
            agent.on_error = lambda error, message: ends.put_nowait(error)
            agents.append(agent)
        for number, agent in enumerate(agents):

            @agent.on(f"team/@a{number}", start="all")
            async def pass_on(message: Message, number: int = number, agent: Agent = agent) -> None:
                nonlocal heard
                heard += 1
                await agent.publish(f"team/@a{(number + 1) % AGENTS}", message.data)

        await agents[0].publish("team/@a0", "pass it on")
        async with asyncio.timeout(20):
            assert isinstance(await ends.get(), LoopDetected)
        assert heard == 65  # depth 0 to 64
        Neighbours.compare(await pair.measure(50))
