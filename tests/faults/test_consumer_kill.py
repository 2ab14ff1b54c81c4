"""SIGKILL of the broker and of its workers, again and again, while many tasks are being done.

Workload: one publisher, one consumer that worker processes share through the SDK, each task's effect and its mark
(`SqliteSeen`) in one transaction.
Fault: the broker process is killed and started again; so are the workers; both at moments drawn from a seed.
Checker: every task was done, and each effect is there exactly once; nothing went to the dead letters.

A failing run prints its seed: HUBBUB_TEST_SEED=N repeats its choices (not the operating system's).
"""

import asyncio
import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import pytest

from harness import worker_process
from harness.broker import BrokerProcess, broker_process
from harness.reaper import Progress, Reaper
from harness.wire import wire_client
from harness.worker_process import SCHEMA, TOPIC
from hubbub import Agent, Backoff, Receipt

TASKS = int(os.environ.get("HUBBUB_TEST_TASKS", "100000"))
KILLS = int(os.environ.get("HUBBUB_TEST_KILLS", "20"))
STUCK_SECONDS = 30.0
"""How long there may be no progress at all: longer than a lease, and than any wait for a restart."""
AHEAD = 500
BACKLOG = 2000
"""Tasks published and not known to be done: more than were at work in all the workers that are killed, since what those
did last they may not have told.
"""


def drawn_seed() -> int:
    return int(os.environ.get("HUBBUB_TEST_SEED") or random.SystemRandom().randrange(2**32))


class Worker:
    """A worker process that is started again whenever it is killed."""

    def __init__(self, number: int, url: str, path: Path, worked: Progress) -> None:
        self._arguments = (url, f"worker{number}", str(path))
        self._worked = worked
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.log = path.with_name(f"worker{number}.log")

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                worker_process.__file__,
                *self._arguments,
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self._reading = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for _ in process.stdout:
            self._worked.step()

    async def kill(self) -> None:
        """SIGKILL: no goodbye, no ack."""
        process, self._process = self._process, None
        if process is None or self._reading is None:
            return
        assert process.returncode is None, f"it ended by itself: {self.log.read_text()[-2000:]}"
        process.kill()
        await process.wait()
        await self._reading


class WorkerReaper:
    """Kills workers at random moments, while there is progress."""

    def __init__(self, workers: list[Worker], source: random.Random, worked: Progress) -> None:
        self._workers = workers
        self._source = source
        self._worked = worked
        self.kills = 0

    async def run(self, kills: int, every: int) -> None:
        while self.kills < kills:
            enough = self._worked.count + self._source.randrange(every)
            await self._worked.reach(
                lambda enough=enough: self._worked.count >= enough,  # type: ignore[misc]
                2 * STUCK_SECONDS,
                lambda: f"{self._worked.count} worked after {self.kills} kills of workers",
            )
            await asyncio.sleep(self._source.uniform(0, 0.2))  # the moment itself is what is drawn
            worker = self._source.choice(self._workers)
            await worker.kill()
            self.kills += 1
            await worker.start()


async def publish(agent: Agent, least: int, killing: list[asyncio.Task[None]], worked: Progress) -> int:
    """At least so many tasks, and more as long as there is something to be killed: some hundreds ahead of their
    receipts, and not too many ahead of the workers. Returns how many there are.
    """
    receipts: deque[asyncio.Future[Receipt]] = deque()
    tasks = 0
    while tasks < least or not all(task.done() for task in killing):
        receipts.append(await agent.submit(TOPIC, tasks, id=f"task-{tasks}"))
        tasks += 1
        if len(receipts) >= AHEAD:
            await receipts.popleft()
            enough = tasks - BACKLOG
            await worked.reach(
                lambda enough=enough: worked.count > enough,  # type: ignore[misc]
                2 * STUCK_SECONDS,
                lambda: f"{worked.count} done",
            )
    await asyncio.gather(*receipts)
    return tasks


def effects(path: Path) -> tuple[int, int]:
    """Rows, and tasks among them."""
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as database:
        rows, different = database.execute("SELECT count(*), count(DISTINCT task) FROM effects").fetchone()
    return rows, different


async def all_done(path: Path, tasks: int, worked: Progress) -> None:
    """Wait until every task is done, as long as there is progress."""
    while effects(path)[1] < tasks:
        count = worked.count
        try:
            await worked.reach(lambda count=count: worked.count > count, STUCK_SECONDS, str)  # type: ignore[misc]
        except AssertionError:
            assert effects(path)[1] == tasks, f"{effects(path)} of {tasks} done, and nothing happens any more"
        await asyncio.sleep(0.1)  # counting rows takes a moment: not for each of them


async def no_dead_letters(broker: BrokerProcess) -> None:
    """Nothing was given up."""
    async with wire_client(broker.url, "auditor") as client:
        assert (await client.sub("jobs/_dead"))["head"] == 0


async def kill_under_work(directory: Path, *, tasks: int, kills: int, workers: int, seed: int) -> str:
    source = random.Random(seed)
    path = directory / "effects.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(SCHEMA)
    began = time.monotonic()
    worked = Progress()
    async with broker_process(directory / "data", segment_bytes="1MiB") as broker:
        crew = [Worker(number, broker.url, path, worked) for number in range(workers)]
        try:
            for worker in crew:
                await worker.start()
            backoff = Backoff(base=0.02, cap=0.2)
            async with Agent("publisher", url=broker.url, backoff=backoff, source=random.Random(seed)) as agent:
                broker_reaper = Reaper(broker, random.Random(source.random()), worked)
                worker_reaper = WorkerReaper(crew, source, worked)
                every = tasks // (2 * kills + 2)
                async with asyncio.TaskGroup() as group:
                    killing = [
                        group.create_task(broker_reaper.run(kills, answers=every)),
                        group.create_task(worker_reaper.run(kills, 2 * every)),
                    ]
                    publishing = group.create_task(publish(agent, tasks, killing, worked))
                tasks = publishing.result()
                await all_done(path, tasks, worked)
        finally:
            for worker in crew:
                await worker.kill()
        assert effects(path) == (tasks, tasks)
        await no_dead_letters(broker)
    return (
        f"{tasks} tasks in {time.monotonic() - began:.0f} s, {broker_reaper.kills} kills of the broker and "
        f"{worker_reaper.kills} of {workers} workers: each effect once, {worked.count} times at work"
    )


@pytest.mark.timeout(120)
async def test_three_kills_of_the_broker_and_three_of_workers(tmp_path: Path) -> None:
    seed = drawn_seed()
    print(f"seed {seed}")
    print(await kill_under_work(tmp_path, tasks=1000, kills=3, workers=3, seed=seed))


@pytest.mark.soak
@pytest.mark.kill
@pytest.mark.timeout(1800)
async def test_a_hundred_thousand_tasks(tmp_path: Path) -> None:
    seed = drawn_seed()
    print(f"seed {seed}")
    print(await kill_under_work(tmp_path, tasks=TASKS, kills=KILLS, workers=6, seed=seed))
