"""Redrive, reset and removal while publishers publish and members work: nothing is lost, and nothing comes of it twice
where it should not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from harness.broker import serving, url_of
from harness.consuming import member, settle
from harness.wire import WireClient, wire_client
from hubbub_broker.consumers import Which
from hubbub_broker.server import Server
from hubbub_broker.shard import Start

pytestmark = pytest.mark.slow

TASKS = 300
EVERY = Which()


class Worker:
    """Takes messages until it is told to stop, and fails those that `poison` says, as long as it says so."""

    def __init__(self, client: WireClient, poison: set[int]) -> None:
        self.client = client
        self.poison = poison
        self.done: list[int] = []
        self.moved = asyncio.Event()
        self.removed = asyncio.Event()
        self.task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while True:
            line = await self.client.next()
            if line["op"] == "err" and line["code"] == "not_found":
                self.removed.set()
            if line["op"] != "msg":
                continue
            where: dict[str, Any] = {"topic": line["topic"], "consumer": "w", "seq": line["seq"]}
            where["attempt"] = line.get("attempt", 1)
            if line["data"] in self.poison:
                await self.client.send("term", reason="poison", **where)
            else:
                await self.client.send("ack", **where)
                self.done.append(line["data"])
            self.moved.set()

    async def until(self, numbers: set[int]) -> None:
        async with asyncio.timeout(60):
            while not numbers <= set(self.done):
                self.moved.clear()
                await self.moved.wait()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def publish_all(client: WireClient, first: int, count: int, topics: int = 1) -> None:
    for number in range(first, first + count):
        assert (await client.pub(f"g/t{number % topics}", number))["op"] == "ok"


async def letters(server: Server, count: int) -> None:
    """Wait until that many dead letters are open."""
    async with wire_client(url_of(server), "ops") as ops:
        await ops.sub("g/_dead", from_="all")
        await ops.messages(count)


async def test_what_is_redriven_while_others_work_comes_once_and_over_a_restart(tmp_path: Path) -> None:
    poison = set(range(0, TASKS, 10))
    async with serving(tmp_path / "data") as server:
        url = url_of(server)
        async with wire_client(url, "joe") as joe, wire_client(url, "ann") as ann:
            await member(ann, "g/*", from_="all")
            worker = Worker(ann, set(poison))
            await publish_all(joe, 0, TASKS, 3)
            await worker.until(set(range(TASKS)) - poison)
            await letters(server, len(poison))
            more = asyncio.create_task(publish_all(joe, TASKS, TASKS, 3))
            worker.poison.clear()
            dead = server.broker.consumers_of("g").dead_letters
            half = tuple(range(1, len(poison) // 2 + 1))
            outcomes = await asyncio.gather(*(dead.redrive("g", Which(seqs=half)) for _ in range(3)))
            assert sum(outcome.done for outcome in outcomes) == len(half)
            await more
            redriven = len(half)
            await worker.until(set(range(TASKS)) - poison | set(range(TASKS, 2 * TASKS)))
            async with asyncio.timeout(60):
                while len(poison & set(worker.done)) < redriven:
                    worker.moved.clear()
                    await worker.moved.wait()
            await worker.stop()
            assert len(worker.done) == len(set(worker.done)), "each came of it once"
            first = set(worker.done)
    async with serving(tmp_path / "data") as server:
        async with wire_client(url_of(server), "ann") as ann:
            dead = server.broker.consumers_of("g").dead_letters
            assert (await dead.redrive("g", EVERY)).done == len(poison) - redriven
            await member(ann, "g/*")
            worker = Worker(ann, set())
            await worker.until(poison - first)
            await worker.stop()
            assert set(worker.done) == poison - first, "nothing else is left"


async def test_a_reset_under_load_loses_nothing_of_what_lies_behind_it(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as server:
        url = url_of(server)
        async with (
            wire_client(url, "joe") as joe,
            wire_client(url, "ann") as ann,
            wire_client(url, "bob") as bob,
        ):
            await member(ann, "g/*", from_="all", max_unacked=8)
            await member(bob, "g/*", max_unacked=8)
            workers = [Worker(ann, set()), Worker(bob, set())]
            publishing = asyncio.create_task(publish_all(joe, 0, TASKS, 3))
            administration = server.broker.administration_of("g")
            for _ in range(5):
                workers[0].moved.clear()
                await workers[0].moved.wait()
                await administration.reset("g/*", "w", Start(all=True))
            await publishing
            consumer = administration.find("g/*", "w")
            async with asyncio.timeout(30):
                while (await administration.report(consumer)).standing.lag:  # noqa: ASYNC110 - what is settled tells nobody
                    await asyncio.sleep(0.01)
            assert {number for worker in workers for number in worker.done} == set(range(TASKS))
            for worker in workers:
                await worker.stop()
    async with serving(tmp_path / "data") as server, wire_client(url_of(server), "ann") as ann:
        report = await server.broker.administration_of("g").report(
            server.broker.administration_of("g").find("g/*", "w")
        )
        assert report.standing.lag == 0


async def test_a_removal_under_load_ends_every_membership_and_the_next_one_begins_anew(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as server:
        url = url_of(server)
        async with wire_client(url, "joe") as joe, wire_client(url, "ann") as ann:
            await member(ann, "g/*", from_="all")
            worker = Worker(ann, set())
            publishing = asyncio.create_task(publish_all(joe, 0, TASKS, 3))
            await worker.until({5})
            await server.broker.administration_of("g").remove("g/*", "w")
            async with asyncio.timeout(10):
                await worker.removed.wait()
            await publishing
            await worker.stop()
            assert (await settle(ann, "ack", 1, "g/t0"))["code"] == "not_found"
        async with wire_client(url, "bob") as bob:
            await member(bob, "g/*", from_="all")
            fresh = Worker(bob, set())
            await fresh.until(set(range(TASKS)))
            await fresh.stop()
            assert sorted(fresh.done) == list(range(TASKS))
