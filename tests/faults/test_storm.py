"""Storms of agents that answer one another end by themselves, and nobody else waits for it.

Workload: agents that answer whatever they hear, as fast as they hear it; a pair that measures how long a message takes.
Fault: that is the fault.
Checker: what was taken of each sender against its limit; the pair's median latency before and meanwhile.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

from harness.broker import broker_process
from harness.neighbours import Neighbours, neighbours
from harness.wire import WireClient, wire_client
from hubbub import Agent, LoopDetected, Message

AGENTS = 20
ALL_HANDS = "team/all-hands"
RATE, BURST = 10 / 60, 10


async def answer_everything(client: WireClient, name: str, taken: list[str]) -> None:
    """Answer each message of another's at once, whatever became of the answers before."""
    number = 0
    while True:
        line = await client.next()
        if line["op"] == "msg" and line["from"] != name:
            number += 1
            await client.send("pub", topic=ALL_HANDS, id=f"{name}.{number}", data=f"{name} has heard {line['id']}")
        elif line["op"] == "ok":
            taken.append(name)
        elif line["op"] == "err":
            assert line["code"] == "rate_limited", line
            assert 0 < line["retry_after"] <= 60


async def test_a_broadcast_loop_of_20_agents_ends_within_the_limit(tmp_path: Path) -> None:
    rule = f'[{{"pattern":"*/all-hands","sender_rate":{RATE},"sender_burst":{BURST}}}]'
    async with AsyncExitStack() as house:
        broker = await house.enter_async_context(broker_process(tmp_path / "d", policy=rule))
        pair = house.enter_context(neighbours(broker))
        before = await pair.measure(100)
        taken: list[str] = []
        async with AsyncExitStack() as stack:
            tasks = []
            for number in range(AGENTS):
                client = await stack.enter_async_context(wire_client(broker.url, f"a{number}"))
                await client.sub(ALL_HANDS)
                tasks.append(asyncio.create_task(answer_everything(client, f"a{number}", taken)))
            starter = await stack.enter_async_context(wire_client(broker.url, "starter"))
            started = time.monotonic()
            assert (await starter.pub(ALL_HANDS, "hello all"))["op"] == "ok"
            meanwhile = await pair.measure(100)
            while len(taken) < AGENTS * BURST:  # each has used what it may use at once
                assert not [task.exception() for task in tasks if task.done()]
                await pair.measure(5)
            after = await pair.measure(20)
            elapsed = time.monotonic() - started
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        most = BURST + elapsed * RATE + 1
        assert all(taken.count(name) <= most for name in set(taken)), taken
        Neighbours.compare(before, meanwhile + after)


async def test_a_ring_of_20_agents_ends_at_its_depth(tmp_path: Path) -> None:
    """Each passes on to the next one's inbox what comes into its own: no topic sees more than one sender."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(broker_process(tmp_path / "d"))
        pair = stack.enter_context(neighbours(broker))
        before = await pair.measure(50)
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
        Neighbours.compare(before, await pair.measure(50))
