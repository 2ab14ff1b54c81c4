"""Consumers of the SDK with the real broker, in a process that can be killed."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.broker import BrokerProcess
from harness.until import until
from hubbub import Agent, Delivery, MemorySeen, NoResponder, NotFound, Reject, RequestTimeout, Retry, SqliteSeen

pytestmark = [pytest.mark.real_time, pytest.mark.slow]

WORKER = """
import asyncio, sys
from hubbub import Agent

async def main(url, group):
    async with Agent("victim", group=group, url=url, local=False) as agent:
        @agent.on("tasks", consumer="w", max_unacked=4)
        async def work(msg):
            print(msg.data, flush=True)
            await asyncio.sleep(1000)
        await asyncio.sleep(1000)

asyncio.run(main(*sys.argv[1:]))
"""
"""A worker that takes messages and never finishes one."""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One broker for all these tests: starting one takes longer than most of them."""
    broker = BrokerProcess(tmp_path_factory.mktemp("broker") / "data", heartbeat=5)
    yield broker
    broker.kill()


@pytest.fixture
async def real(process: BrokerProcess) -> BrokerProcess:
    if process._process is None:
        process.start()
    await process.wait_ready()
    return process


@pytest.fixture
def group(request: pytest.FixtureRequest) -> str:
    """A group of the test's own."""
    name: str = request.node.name
    return name.removeprefix("test_")


@pytest.fixture
def make(real: BrokerProcess, group: str) -> Any:
    def make(name: str, **options: Any) -> Agent:
        url = f"ws://127.0.0.1:{real.port}"
        return Agent(name, **{"group": group, "url": url, "local": False, **options})

    return make


async def in_time(waiting: Any) -> Any:
    async with asyncio.timeout(20):
        return await waiting


async def test_a_handler_that_works_ten_times_ack_wait_is_delivered_once(make: Any) -> None:
    begun: list[int] = []
    async with make("joe") as joe, make("ann") as ann:
        for agent in (joe, ann):

            @agent.on("tasks", consumer="w", ack_wait=0.4)
            async def work(msg: Delivery) -> None:
                begun.append(msg.attempt)
                await asyncio.sleep(2)

            await in_time(agent.consumption("tasks", "w").ready())
        tracked = await joe.publish_tracked("tasks", 1)
        assert (await tracked.done(timeout=20)).state == "done"
        await until(lambda: joe.stats.acked + ann.stats.acked == 1)
        assert begun == [1]
        assert joe.stats.leases_lost + ann.stats.leases_lost == 0
        assert joe.stats.extended + ann.stats.extended >= 10


async def test_the_work_of_a_killed_worker_is_anothers(real: BrokerProcess, make: Any, group: str) -> None:
    seen: list[tuple[int, int]] = []
    async with make("joe") as joe:
        other = joe.consume("tasks", "w", start="all", max_unacked=1)
        await in_time(other.ready())
        await other.close()
        command = [sys.executable, "-c", WORKER, f"ws://127.0.0.1:{real.port}", group]
        victim = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert victim.stdout is not None
        try:
            for number in range(4):
                await joe.publish("tasks", number)
            for _ in range(4):
                await in_time(victim.stdout.readline())
        finally:
            victim.kill()
            await victim.wait()

        @joe.on("tasks", consumer="w")
        async def work(msg: Delivery) -> None:
            seen.append((msg.data, msg.attempt))

        await until(lambda: joe.stats.acked == 4)
    assert sorted(seen) == [(number, 2) for number in range(4)]


@pytest.mark.parametrize("durably", [False, True], ids=["in memory", "in a file"])
@pytest.mark.parametrize("anew", ["reset", "removed"])
async def test_a_consumer_that_begins_anew_does_again_what_was_done(
    real: BrokerProcess, make: Any, tmp_path: Path, anew: str, durably: bool
) -> None:
    """Its worker stays, and so does the memory of what it has done: that was in another life of the consumer."""
    topic = f"anew/{anew}-{durably}"
    done: list[int] = []
    store = SqliteSeen(tmp_path / "seen") if durably else MemorySeen()
    http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{real.port}")
    async with http, make("joe", group="anew") as joe:

        @joe.on(topic, consumer="w", dedup=store, start="all")
        async def work(msg: Delivery) -> None:
            done.append(msg.data)

        await in_time(joe.consumption(topic, "w").ready())
        for number in range(3):
            await joe.publish(topic, number)
        await until(lambda: joe.stats.acked == 3)
        if anew == "reset":
            answer = await http.post(f"/v1/consumers/{topic}/reset?name=w", json={"from": "all"})
        else:
            await joe.consumption(topic, "w").drain(5)
            answer = await http.delete(f"/v1/consumers/{topic}?name=w")
            joe.on(topic, consumer="w", dedup=store, start="all")(work)
        assert answer.is_success, answer.text
        await until(lambda: joe.stats.acked == 6)
    if isinstance(store, SqliteSeen):
        store.close()
    assert (done, joe.stats.already_done) == ([0, 1, 2, 0, 1, 2], 0)


async def test_a_drain_finishes_what_runs_and_returns_the_rest(make: Any) -> None:
    done: list[int] = []
    go = asyncio.Event()
    async with make("joe") as joe, make("ann") as ann:

        @joe.on("tasks", consumer="w", max_unacked=6, concurrency=2)
        async def work(msg: Delivery) -> None:
            await go.wait()
            done.append(msg.data)

        consumption = joe.consumption("tasks", "w")
        await in_time(consumption.ready())
        for number in range(6):
            await ann.publish("tasks", number)
        await until(lambda: consumption.unsettled == 6)
        draining = asyncio.create_task(consumption.drain(20))
        other = ann.consume("tasks", "w")
        taken = [await in_time(anext(other)) for _ in range(4)]
        assert [(msg.data, msg.attempt) for msg in taken] == [(number, 1) for number in (2, 3, 4, 5)]
        assert not draining.done()
        go.set()
        await in_time(draining)
        assert (sorted(done), joe.stats.acked, joe.stats.returned) == ([0, 1], 2, 4)
        for msg in taken:
            await in_time(msg.ack())


async def test_leaving_the_agent_gives_back_what_it_had(make: Any) -> None:
    async with make("ann") as ann:
        other = ann.consume("tasks", "w")
        await in_time(other.ready())
        await other.close()
        async with make("joe", drain=0.2) as joe:

            @joe.on("tasks", consumer="w", max_unacked=3, concurrency=1)
            async def work(msg: Delivery) -> None:
                await asyncio.sleep(1000)

            for number in range(3):
                await ann.publish("tasks", number)
            await until(lambda: joe.consumption("tasks", "w").unsettled == 3)
        again = ann.consume("tasks", "w")
        taken = sorted([(msg.data, msg.attempt) for msg in [await in_time(anext(again)) for _ in range(3)]])
        assert taken == [(0, 2), (1, 1), (2, 1)]


async def test_retries_rejections_and_dead_letters(make: Any, group: str) -> None:
    attempts: list[tuple[str, int]] = []
    async with make("joe") as joe:
        dead = joe.subscribe("_dead")
        await in_time(dead.ready())

        @joe.on("tasks", consumer="w", max_deliver=3, backoff=[0.01])
        async def work(msg: Delivery) -> None:
            attempts.append((msg.data, msg.attempt))
            if msg.data == "reject":
                raise Reject("no")
            if msg.data == "retry" and msg.attempt == 1:
                raise Retry(after=0.05)
            if msg.data == "poison":
                raise ValueError("bad")

        await in_time(joe.consumption("tasks", "w").ready())
        for data in ("reject", "retry", "poison"):
            await joe.publish("tasks", data)
        letters = [await in_time(anext(dead)) for _ in range(2)]
        assert {(msg.data, msg.headers["dead"]["reason"]) for msg in letters} == {
            ("reject", "no"),
            ("poison", "ValueError: bad"),
        }
        await until(lambda: joe.stats.acked == 1)
        assert sorted(attempts) == [*(("poison", n) for n in (1, 2, 3)), ("reject", 1), ("retry", 1), ("retry", 2)]


async def test_the_broker_is_killed_while_handlers_work(real: BrokerProcess, make: Any, tmp_path: Path) -> None:
    begun: list[int] = []
    async with make("joe") as joe, SqliteSeen(tmp_path / "seen") as seen:

        @joe.on("tasks", consumer="w", max_unacked=5, dedup=seen, start="all", backoff=[0.1], max_deliver=0)
        async def work(msg: Delivery) -> None:
            begun.append(msg.data)
            await asyncio.sleep(0.05)

        futures = [await joe.submit("tasks", number) for number in range(60)]
        for mark in (15, 40):
            await until(lambda mark=mark: len(begun) >= mark)  # type: ignore[misc]
            real.kill()
            real.start()
            await real.wait_ready()
        await in_time(asyncio.gather(*futures))
        await until(lambda: len(set(begun)) == 60 and joe.consumption("tasks", "w").unsettled == 0, seconds=40)
    assert sorted(begun) == list(range(60)), "each was begun once"


async def test_a_question_is_called_off(make: Any) -> None:
    cancelled: list[Any] = []
    begun: list[Any] = []
    async with make("joe") as joe, make("ann") as ann:
        with pytest.raises(NoResponder):
            await in_time(ann.request("q", 0, timeout=20, mandatory=True))

        @joe.on("q", consumer="w")
        async def answer(msg: Delivery) -> None:
            begun.append(msg.data)
            if msg.data == "quick":
                await msg.reply("yes")
                return
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                cancelled.append(msg.data)
                raise

        await in_time(joe.consumption("q", "w").ready())
        answer_ = await in_time(ann.request("q", "quick", timeout=10, mandatory=True))
        assert answer_.data == "yes"
        await in_time(joe._cancels._lines[joe.group][0].ready())
        with pytest.raises(RequestTimeout):
            await ann.request("q", "by time", timeout=0.3)
        asking = asyncio.create_task(ann.request("q", "by hand", timeout=20))
        await until(lambda: "by hand" in begun)
        asking.cancel()
        await until(lambda: sorted(cancelled) == ["by hand", "by time"])
        await until(lambda: joe.stats.acked == 3)
        assert joe.stats.called_off == 2


async def test_receipts(make: Any) -> None:
    async with make("joe") as joe:
        tasks = joe.consume("tasks", "w", ack_wait=0.3)
        await in_time(tasks.ready())
        async with make("ann") as ann:
            tracked = await in_time(ann.publish_tracked("tasks", 1))
            message = await in_time(anext(tasks))
            seen = [await in_time(anext(tracked)) for _ in range(2)]
            assert [(outcome.state, outcome.by) for outcome in seen] == [("delivered", "joe"), ("working", "joe")]
            await message.ack()
            assert (await tracked.done(timeout=20)).state == "done"
            await in_time(ann.publish_tracked("tasks", 2, id="missed"))
        message = await in_time(anext(tasks))
        await message.term("no good")
        heard: list[Any] = []
        ann = make("ann")
        ann.on_outcome(heard.append)
        async with ann:
            await until(lambda: any(outcome.state == "dead" for outcome in heard))
        assert [(outcome.id, outcome.reason) for outcome in heard if outcome.state == "dead"] == [("missed", "no good")]


async def test_a_receipt_comes_though_the_broker_was_killed_while_the_handler_was_at_work(
    make: Any, real: BrokerProcess
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    async with make("joe") as joe, make("ann") as ann:

        @joe.on("tasks", consumer="w", start="all")
        async def work(_: Delivery) -> None:
            begun.set()
            await go_on.wait()

        tracked = await in_time(ann.publish_tracked("tasks", 1))
        await in_time(begun.wait())
        real.kill()
        go_on.set()
        real.start()
        assert (await tracked.done(timeout=30)).state == "done"


async def test_a_consumer_and_a_plain_subscription_side_by_side(make: Any) -> None:
    async with make("joe") as joe:
        for number in range(500):
            await joe.submit("tasks", number)
        await joe.flush()
        tasks = joe.consume("tasks", "w")
        plain = joe.subscribe("tasks", start="all")
        await in_time(tasks.caught_up())
        for number in range(500, 510):
            await joe.publish("tasks", number)
        assert [(await in_time(anext(plain))).seq for _ in range(510)] == list(range(1, 511))
        assert [(await in_time(anext(tasks))).seq for _ in range(10)] == list(range(501, 511))
        assert plain.gaps == 0


async def test_who_is_in_a_consumer_that_an_operator_removes_is_told(
    real: BrokerProcess, make: Any, group: str
) -> None:
    async with make("joe") as joe:
        tasks = joe.consume("tasks", "w")
        await in_time(tasks.ready())
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{real.port}") as http:
            answer = await http.delete(f"/v1/consumers/{group}/tasks", params={"name": "w"})
            assert answer.status_code == 200, answer.text
        with pytest.raises(NotFound, match="removed by an operator"):
            await in_time(anext(tasks))
