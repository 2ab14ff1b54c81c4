"""The control plane is killed under load, in a process of its own: nothing that agents do depends on it."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import httpx

from harness.broker import BrokerProcess, broker_process
from harness.commanding import answers, command, known
from harness.control_process import control_process
from harness.relay import Relay
from harness.until import until
from hubbub import Agent, Delivery

PUBLISHERS = 4
MESSAGES = 150
PAYLOAD = "x" * 2_000


class Load:
    """Publishers and workers, and what came of it."""

    def __init__(self, make: Callable[[str], Agent]) -> None:
        self.make = make
        self.done: Counter[str] = Counter()
        self.published = 0
        self.workers: list[Agent] = []
        self.stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        for number in range(3):
            agent = await self._stack.enter_async_context(self.make(f"worker-{number}"))
            agent.on("tasks", consumer="workers", max_unacked=8)(self._work)
            self.workers.append(agent)
        self.publishers = [
            await self._stack.enter_async_context(self.make(f"publisher-{number}")) for number in range(PUBLISHERS)
        ]
        self.running = [asyncio.create_task(self._speak(agent)) for agent in self.publishers]
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self.running)
        await self._stack.aclose()

    async def _work(self, task: Delivery) -> None:
        self.done[task.data["name"]] += 1

    async def _speak(self, agent: Agent) -> None:
        number = 0
        while not self.stop.is_set() or number < MESSAGES:
            await agent.publish("tasks", {"name": f"{agent.name}.{number}", "payload": PAYLOAD})
            self.published += 1
            number += 1
            await asyncio.sleep(0.005)

    async def goes_on(self) -> None:
        """Wait until more was published, delivered and acked than up to now."""
        published, done = self.published, len(self.done)
        acked = sum(agent.stats.acked for agent in self.workers)
        await until(lambda: self.published > published + 20 and len(self.done) > done + 20)
        await until(lambda: sum(agent.stats.acked for agent in self.workers) > acked + 20)


class Counting:
    """A proxy that counts, and keeps what it saw."""

    def __init__(self, broker: BrokerProcess) -> None:
        self.seen = bytearray()
        self._relay = Relay(broker.port, self._serve)

    @property
    def bytes(self) -> int:
        return len(self.seen)

    async def __aenter__(self) -> Self:
        await self._relay.__aenter__()
        self.url = f"ws://127.0.0.1:{self._relay.port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._relay.__aexit__(*error)

    async def _serve(self, relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await relay.beyond()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pass(reader, there_writer))
            both.create_task(self._pass(there_reader, writer))

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                self.seen += data
                target.write(data)
                await target.drain()
        except ConnectionError:
            pass
        finally:
            target.close()


def is_connected(sessions: dict[str, Any]) -> bool:
    return any(each["agent"] == "_control" for each in sessions["sessions"])


async def figure(http: httpx.AsyncClient, name: str) -> float:
    text = (await http.get("/metrics")).text
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


async def view(http: httpx.AsyncClient, name: str) -> dict[str, Any]:
    return dict((await http.get(f"/v1/control/agents/{name}")).json())


async def test_nothing_depends_on_the_control_plane(tmp_path: Path) -> None:
    async with (
        broker_process(tmp_path / "data", role="data") as broker,
        Counting(broker) as between,
        control_process(between.url, agent_gone=0.5) as control,
    ):
        base = broker.url.replace("ws", "http", 1).removesuffix("/v1/ws")

        def make(name: str) -> Agent:
            return Agent(name, group="g", url=broker.url, local=False)

        async with httpx.AsyncClient(base_url=base, timeout=30) as http, Load(make) as load:
            await known(control.http, *(agent.name for agent in load.workers))
            given = await command(control.http, "ping", to={"group": "g"})
            assert set(answers(given).values()) == {"obeyed"}
            async with make("leaver") as leaver:  # it has left before, and is in the register still
                await leaver.wait_for("online")
                await known(control.http, "leaver")
            await until(lambda: load.published * len(PAYLOAD) > 500_000)
            assert between.bytes < load.published * len(PAYLOAD) / 5  # no payload passes through it
            assert PAYLOAD[:100].encode() not in between.seen

            control.kill()
            await load.goes_on()
            assert not is_connected((await http.get("/v1/sessions")).json())
            for agent in (load.workers[0], load.publishers[0]):  # reconnects
                link = agent._board.main.supervisor.link
                assert link is not None
                link.drop("a fault of the network")
                await agent.wait_for("degraded")
                await agent.wait_for("online", timeout=20)
            assert (await http.get("/v1/route?group=g")).status_code == 200
            assert (await http.get("/v1/ready")).status_code == 200
            async with make("late") as late:  # who comes now finds its way, too
                await late.publish("tasks", {"name": "late", "payload": ""})
                await until(lambda: load.done["late"] == 1)
            await load.goes_on()

            control.start()
            await control.wait_ready()
            await known(control.http, *(agent.name for agent in load.workers))
            assert (await view(control.http, "leaver"))["state"] == "gone"
            found = (await control.http.get("/v1/control/commands")).json()["commands"]
            assert [(each["id"], answers(each)) for each in found] == [(given["id"], answers(given))]
            await load.goes_on()
            load.stop.set()

        names = {f"{agent.name}.{number}" for agent in load.publishers for number in range(MESSAGES)}
        assert names <= set(load.done)
        await control.http.aclose()
