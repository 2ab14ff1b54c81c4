"""The simple bus through the SDK, against the real broker: what a socket and a poller share, outages, wills."""

import asyncio
import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.broker import BrokerProcess
from hubbub import Agent, Backoff, Mail, Will

pytestmark = [pytest.mark.real_time, pytest.mark.slow]

PATIENCE = 30.0


@pytest.fixture
def process(tmp_path: Path) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path / "data", heartbeat=5)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
async def broker(process: BrokerProcess) -> BrokerProcess:
    await process.wait_ready()
    return process


@pytest.fixture
def make(broker: BrokerProcess) -> Any:
    def make(name: str, **options: Any) -> Agent:
        url = f"ws://127.0.0.1:{broker.port}"
        return Agent(name, **{"url": url, "backoff": Backoff(base=0.02, cap=0.2), **options})

    return make


async def ask(broker: BrokerProcess, path: str, body: object | None = None) -> Any:
    """Over HTTP."""

    def do() -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{broker.port}{path}")
        if body is not None:
            request = urllib.request.Request(request.full_url, json.dumps(body).encode())
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read())

    return await asyncio.to_thread(do)


async def test_a_socket_and_a_poller_share_an_inbox_and_nothing_comes_twice(broker: BrokerProcess, make: Any) -> None:
    await ask(broker, "/v1/agents", {"agent": "jack", "group": "far"})
    seen: list[int] = []
    done = asyncio.Event()

    def got(body: Any) -> None:
        seen.append(body)
        if len(seen) >= 200:
            done.set()

    async with make("joe") as joe, make("jack", group="elsewhere") as jack:

        @jack.on_mail(max_unacked=4)
        async def read(mail: Mail) -> None:
            assert mail.topic == "far/@jack"  # where the register says, whatever the agent's group
            got(mail.body)

        async def poll() -> None:
            while True:
                page = await ask(broker, "/api/inbox/jack?mark_read=true&limit=5&wait=1")
                for mail in page["messages"]:
                    got(mail["body"])

        polling = asyncio.create_task(poll())
        async with asyncio.timeout(PATIENCE):
            for number in range(200):
                await joe.send("jack", "work", number)
            await done.wait()
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        assert sorted(seen) == list(range(200))


async def test_mail_over_crashes_of_the_broker_is_read_once_and_in_order(
    broker: BrokerProcess, make: Any, tmp_path: Path
) -> None:
    """One process, so what is sent while the broker is away is heard at once, and its copies are not handled again."""
    seen: list[tuple[Any, bool]] = []
    came = asyncio.Event()
    async with make("joe", spool=tmp_path / "spool") as joe, make("jack") as jack:

        @jack.on_mail(concurrency=1, dedup=None)
        async def read(mail: Mail) -> None:
            seen.append((mail.body, mail.local))
            came.set()

        async def until(done: Callable[[], bool]) -> None:
            async with asyncio.timeout(PATIENCE):
                while not done():
                    came.clear()
                    await came.wait()

        await joe.wait_for("online")
        await jack.wait_for("online")
        sending = []
        for number in range(300):
            if number in (100, 200):
                await until(lambda number=number: len(seen) == number)  # type: ignore[misc]
                broker.kill()
                async with asyncio.timeout(PATIENCE):
                    await asyncio.gather(joe.wait_for("degraded"), jack.wait_for("degraded"))
            if number in (150, 250):
                await until(lambda number=number: len(seen) == number)  # type: ignore[misc]  # all of it heard here
                broker.start()
                async with asyncio.timeout(PATIENCE):
                    await asyncio.gather(joe.wait_for("online"), jack.wait_for("online"))
            sending.append(asyncio.create_task(joe.send("jack", "n", number, id=f"m{number}")))
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            receipts = await asyncio.gather(*sending)
            assert [receipt.seq for receipt in receipts] == list(range(1, 301))
            while jack.stats.acked < 300:  # noqa: ASYNC110 - a counter tells nobody
                await asyncio.sleep(0.01)
        assert [body for body, _ in seen] == list(range(300))
        assert [local for _, local in seen] == [False] * 100 + [True] * 50 + [False] * 50 + [True] * 50 + [False] * 50
    page = await ask(broker, "/api/inbox/jack")
    assert (page["messages"], page["remaining"]) == ([], 0)


async def test_presence_and_a_will(broker: BrokerProcess, make: Any) -> None:
    will = Will("g/room", {"gone": "joe"}, delay=0.1)
    async with make("ann", group="g") as ann, asyncio.timeout(PATIENCE):
        room = ann.subscribe("room")
        await room.ready()
        async with ann.topic("room").presence() as here:
            assert await anext(here) == ("join", "ann")
            joe = make("joe", group="g", will=will, capabilities=["digging"], description="a mole")
            async with joe:
                assert await joe.topic("room").join() == {"ann", "joe"}
                assert await anext(here) == ("join", "joe")
                assert (await ask(broker, "/v1/topics/g/room/presence"))["agents"] == ["ann", "joe"]
                (found,) = (await ask(broker, "/v1/agents?capability=digging"))["agents"]
                assert (found["agent"], found["description"], found["online"]) == ("joe", "a mole", True)
            assert await anext(here) == ("leave", "joe")
            broker.kill()
            await ann.wait_for("degraded")
            broker.start()
            await broker.wait_ready()
            await ann.wait_for("online")
            async with make("eve", group="g", will=Will("g/room", "lost", delay=0.1)) as eve:
                await eve.topic("room").join()
                while await anext(here) != ("join", "eve"):
                    pass
                eve._board.main.supervisor.link._connection.abort()  # a drop; it is back at once
                await eve.wait_for("degraded")
                await eve.wait_for("online")
                while await anext(here) != ("join", "eve"):
                    pass
            await ann.publish("room", "end")
            said = []
            async for message in room:
                if message.type != "presence":
                    said.append(message.data)
                if message.data == "end":
                    break
            assert said == ["end"]  # joe closed, and eve was back in time
