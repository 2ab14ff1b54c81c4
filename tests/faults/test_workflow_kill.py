"""SIGKILL of the broker, of coordinators and of workers, again and again, while many workflows run.

Workload: instances of a workflow of five stages (see `harness.flow_process`) whose handlers fail, hang, send work back.
Fault: broker, coordinators and workers are processes, killed and started again at moments drawn from a seed.
Checker: every instance ended; its history is numbered without a hole, stands in its conversation once, and the table
allows each change of it; no task went out twice.

A failing run prints its seed: HUBBUB_TEST_SEED=N repeats its choices (not the operating system's).
"""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from harness import flow_process
from harness.broker import broker_process
from harness.flow_process import GROUP, MILL
from harness.reaper import Progress, Reaper
from hubbub import Agent, Backoff, Message
from hubbub.workflows import Change, Flow

INSTANCES = int(os.environ.get("HUBBUB_TEST_INSTANCES", "1000"))
KILLS = int(os.environ.get("HUBBUB_TEST_KILLS", "20"))
STUCK_SECONDS = 40.0


class Hand:
    """A process that is started again whenever it is killed."""

    def __init__(self, role: str, number: int, url: str, directory: Path, seed: str, moved: Progress) -> None:
        self.role = role
        self._arguments = (role, url, f"{role}-{number}", seed)
        self._moved = moved
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.log = directory / f"{role}-{number}.log"

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                flow_process.__file__,
                *self._arguments,
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self._reading = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for _ in process.stdout:
            self._moved.step()

    async def kill(self) -> None:
        """SIGKILL: no goodbye, no ack."""
        process, self._process = self._process, None
        if process is None or self._reading is None:
            return
        assert process.returncode is None, f"it ended by itself: {self.log.read_text()[-2000:]}"
        process.kill()
        await process.wait()
        await self._reading


async def reap(
    hands: list[Hand], source: random.Random, moved: Progress, kills: int, every: int, killed: Counter[str]
) -> None:
    """Kill one of them at a random moment, again and again, while there is progress."""
    for _ in range(kills):
        enough = moved.count + source.randrange(every // 2, every)
        await moved.reach(lambda enough=enough: moved.count >= enough, STUCK_SECONDS, lambda: moved.count)  # type: ignore[misc]
        await asyncio.sleep(source.uniform(0, 0.2))  # the moment itself is what is drawn
        hand = source.choice(hands)
        await hand.kill()
        killed[hand.role] += 1
        await hand.start()


class Reader:
    """Reads what the conversations of all instances hold."""

    def __init__(self) -> None:
        self.changes: dict[str, list[Change]] = {}
        self.ids: Counter[str] = Counter()
        self.ended: set[str] = set()
        self.moved = Progress()

    async def read(self, agent: Agent) -> None:
        async for message in agent.subscribe(f"{GROUP}/{MILL.name}/*", start="all"):
            self._take(message)

    def _take(self, message: Message) -> None:
        assert message.type == "workflow"
        change = msgspec.convert(message.data, Change)
        self.ids[message.id] += 1
        self.changes.setdefault(change.id, []).append(change)
        if change.ended:
            self.ended.add(change.id)
        self.moved.step()


def check(reader: Reader, instances: int) -> Counter[str]:
    """Hold every history against the table. How many ended where."""
    assert len(reader.changes) == instances
    assert {id for id, count in reader.ids.items() if count > 1} == set()
    ends: Counter[str] = Counter()
    for id, changes in reader.changes.items():
        at: str | None = None
        for number, change in enumerate(changes, start=1):
            assert (change.id, change.n, change.source) == (id, number, at), changes
            assert MILL.allows(change.source, change.cause, change.target), change
            assert change.ended == (number == len(changes)), changes
            at = change.target
        assert at is not None
        ends[at] += 1
    return ends


async def tasks_given(agent: Agent) -> int:
    """How many tasks went out; none twice."""
    seen: Counter[str] = Counter()
    async with agent.subscribe(f"{GROUP}/_tasks/*", start="all") as tasks:
        ending = asyncio.create_task(_close(tasks))
        async for task in tasks:
            seen[task.id] += 1
        await ending
    assert [id for id, count in seen.items() if count > 1] == []
    return len(seen)


async def _close(subscription: object) -> None:
    await subscription.caught_up()  # type: ignore[attr-defined]
    await subscription.close()  # type: ignore[attr-defined]


async def kill_under_flows(directory: Path, *, instances: int, kills: int, seed: int) -> str:
    source = random.Random(seed)
    moved = Progress()
    killed: Counter[str] = Counter()
    began = time.monotonic()
    async with broker_process(directory / "data", segment_bytes="1MiB", state_keys=1_000_000) as broker:
        hands = [
            Hand(role, number, broker.url, directory, f"{seed}-{role}-{number}", moved)
            for role in ("coordinator", "worker")
            for number in range(2)
        ]
        reader = Reader()
        agent = Agent("joe", group=GROUP, url=broker.url, backoff=Backoff(base=0.02, cap=0.2), local=False)
        try:
            for hand in hands:
                await hand.start()
            async with agent, asyncio.TaskGroup() as group:
                reading = group.create_task(reader.read(agent))
                flow = Flow(agent, MILL)
                per = max(10, instances * 10 // (kills + 1))
                reaping = [
                    group.create_task(reap(hands, source, moved, 2 * kills, per // 2, killed)),
                    group.create_task(Reaper(broker, random.Random(source.random()), moved).run(kills, answers=per)),
                ]
                for number in range(instances):
                    await flow.start(f"i{number}", {"number": number})
                while len(reader.ended) < instances:
                    count = reader.moved.count
                    await reader.moved.reach(
                        lambda count=count: reader.moved.count > count,  # type: ignore[misc]
                        STUCK_SECONDS,
                        lambda: f"{len(reader.ended)} of {instances} ended; stuck: {stuck(reader)[:3]}",
                    )
                for task in reaping:
                    task.cancel()
                ends = check(reader, instances)
                given = await tasks_given(agent)
                reading.cancel()
        finally:
            for hand in hands:
                await hand.kill()
        starts = broker.starts
    return (
        f"{instances} instances in {time.monotonic() - began:.0f} s, {starts - 1} kills of the broker, "
        f"{killed['coordinator']} of coordinators, {killed['worker']} of workers: "
        f"{sum(map(len, reader.changes.values()))} changes, {given} tasks, ended as {dict(ends)}"
    )


def stuck(reader: Reader) -> list[Change]:
    return [changes[-1] for id, changes in reader.changes.items() if id not in reader.ended]


def drawn_seed() -> int:
    return int(os.environ.get("HUBBUB_TEST_SEED") or random.SystemRandom().randrange(2**32))


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_workflows_end_whoever_is_killed(tmp_path: Path) -> None:
    seed = drawn_seed()
    print(f"seed {seed}")
    print(await kill_under_flows(tmp_path, instances=60, kills=2, seed=seed))


@pytest.mark.soak
@pytest.mark.kill
@pytest.mark.timeout(1800)
async def test_a_thousand_workflows_end_whoever_is_killed(tmp_path: Path) -> None:
    seed = drawn_seed()
    print(f"seed {seed}")
    print(await kill_under_flows(tmp_path, instances=INSTANCES, kills=KILLS, seed=seed))
