"""Two months of a bus of polling agents, accelerated: every mail is read, and none is handled twice.

Workload: agents, a process each, that send mail to one another and to ALL over HTTP, with an `Idempotency-Key`, again
until it is answered; and poll their inbox without marking, handle what they get, note it in SQLite and mark it by id.
Fault: the broker and the agents are killed with SIGKILL at random moments and started again; a proxy between them loses
requests before the broker sees them, and answers after it has carried them out.
Checker: by count at the end, from the agents' own files: every mail was handled by each that it was for, exactly once,
nothing else was, and all inboxes are empty.

A failing run prints its seed: HUBBUB_TEST_SEED=N repeats its choices (not the operating system's).
"""

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest

from harness.broker import BrokerProcess, broker_process
from harness.http_proxy import LossyProxy, lossy_proxy
from harness.polling_agent import open_store

TO_ALL = 0.01
"""The share of mails that go to everybody."""

LOST_REQUESTS = 0.03
LOST_ANSWERS = 0.05

PATIENCE = 60.0
"""Seconds in which something must move."""


class Team:
    """Agents with work to do."""

    def __init__(self, folder: Path, names: list[str], port: int, source: random.Random) -> None:
        self.names = names
        self.starts: Counter[str] = Counter()
        self.mails = 0
        self.broadcasts = 0
        self._folder = folder
        self._port = port
        self._source = source
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._expected: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in names}

    def plan(self, mails: int) -> None:
        """Give each agent its share of so many mails to send."""
        for sender in self.names:
            store = open_store(self._file(sender))
            rows = []
            for number in range(mails // len(self.names)):
                id = f"{sender}-{number}"
                others = [name for name in self.names if name != sender]
                to_all = self._source.random() < TO_ALL
                recipients = others if to_all else [self._source.choice(others)]
                self.broadcasts += to_all
                for name in recipients:
                    self._expected[name][sender, id] += 1
                rows.append((id, "ALL" if to_all else recipients[0], f"{sender} asks {number}"))
            self.mails += len(rows)
            store.execute("begin")
            store.executemany("insert into outgoing (id, recipient, body) values (?, ?, ?)", rows)
            store.execute("commit")
            store.close()

    def start(self, name: str) -> None:
        """Let an agent live (again)."""
        self.starts[name] += 1
        command = [sys.executable, "-m", "harness.polling_agent", str(self._port), str(self._file(name)), name]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        with self._file(name).with_suffix(".log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*command, f"{name} {self._source.random()}"],
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def kill(self, name: str) -> None:
        """SIGKILL."""
        process = self._running.pop(name)
        died = process.poll()
        process.kill()
        process.wait(timeout=30)
        assert died is None, f"{name} ended by itself: {self._file(name).with_suffix('.log').read_text()[-2000:]}"

    def stop(self) -> None:
        """The end."""
        for name in list(self._running):
            self.kill(name)

    def end(self) -> None:
        """Leave no process behind, whatever has happened."""
        for process in self._running.values():
            process.kill()
            process.wait(timeout=30)

    def done(self) -> tuple[int, int]:
        """How many mails were handled so far, and how many were sent and answered."""
        handled = answered = 0
        for name in self.names:
            with self.store(name) as store:
                handled += store.execute("select count(*) from handled").fetchone()[0]
                answered += store.execute("select count(*) from outgoing where answered").fetchone()[0]
        return handled, answered

    @property
    def deliveries(self) -> int:
        """How many there are to be."""
        return sum(mails.total() for mails in self._expected.values())

    def check(self) -> None:
        """Every mail was handled by each that it was for, and nothing else was."""
        for name in self.names:
            with self.store(name) as store:
                handled = Counter(dict.fromkeys(store.execute("select sender, id from handled").fetchall(), 1))
                unanswered = store.execute("select count(*) from outgoing where not answered").fetchone()[0]
                violations = store.execute("select * from violations").fetchall()
            lost, more = self._expected[name] - handled, handled - self._expected[name]
            assert (lost, more, unanswered, violations) == (Counter(), Counter(), 0, []), name

    def counters(self) -> Counter[str]:
        """What the agents have counted."""
        found: Counter[str] = Counter()
        for name in self.names:
            with self.store(name) as store:
                found.update(dict(store.execute("select name, value from counters").fetchall()))
        return found

    @contextmanager
    def store(self, name: str) -> Iterator[sqlite3.Connection]:
        """An agent's file, for a look."""
        store = open_store(self._file(name))
        try:
            yield store
        finally:
            store.close()

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.sqlite"


@asynccontextmanager
async def at_work(folder: Path, agents: int, mails: int, source: random.Random) -> AsyncIterator["Site"]:
    """A broker, a bad network, and agents that have begun."""
    names = [f"agent-{number}" for number in range(agents)]
    async with (
        broker_process(folder / "data", segment_bytes="256KiB", dedup_entries=50_000) as broker,
        lossy_proxy(broker.port, source, requests=LOST_REQUESTS, answers=LOST_ANSWERS) as proxy,
    ):
        team = Team(folder, names, proxy.port, source)
        team.plan(mails)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{broker.port}") as client:
            for name in names:  # mail to a name that was never there would be refused
                assert (await client.post("/v1/agents", json={"agent": name})).status_code == 200
        for name in names:
            team.start(name)
        try:
            yield Site(broker, proxy, team, source)
        finally:
            team.end()


class Site:
    """All of it, and who disturbs it."""

    def __init__(self, broker: BrokerProcess, proxy: LossyProxy, team: Team, source: random.Random) -> None:
        self.broker = broker
        self.proxy = proxy
        self.team = team
        self.kills: Counter[str] = Counter()
        self._source = source

    async def disturb(self, brokers: int, agents: int) -> None:
        """Kill the broker and agents so many times, spread over the work, in an order that is drawn."""
        victims = ["broker"] * brokers + ["agent"] * agents
        self._source.shuffle(victims)
        for number, victim in enumerate(victims):
            await self._reach(self.team.deliveries * (number + 1) // (len(victims) + 1))
            self.kills[victim] += 1
            if victim == "broker":
                self.broker.kill()
                self.broker.start()
                await self.broker.wait_ready()
            else:
                name = self._source.choice(self.team.names)
                self.team.kill(name)
                self.team.start(name)

    async def finish(self) -> None:
        """Wait until all is sent, handled and marked, then let the agents end."""
        await self._reach(self.team.deliveries)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.broker.port}", timeout=30) as client:
            async with asyncio.timeout(PATIENCE):
                for name in self.team.names:
                    while (await client.get(f"/api/inbox/{name}")).json()["messages"]:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)  # the agent, in its own process, has yet to mark them
        self.team.stop()

    async def _reach(self, handled: int) -> None:
        stuck = time.monotonic() + PATIENCE
        before = -1
        while True:
            done, answered = self.team.done()
            if done >= handled and (handled < self.team.deliveries or answered >= self.team.mails):
                return
            if done + answered != before:
                before, stuck = done + answered, time.monotonic() + PATIENCE
            assert time.monotonic() < stuck, f"nothing moves: {done} of {self.team.deliveries} handled"
            await asyncio.sleep(0.05)  # their files tell nobody


async def run(folder: Path, *, agents: int, mails: int, brokers: int, victims: int) -> str:
    """One run; raises if anything was lost or came twice. What it was like, in a line."""
    seed = int(os.environ.get("HUBBUB_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"HUBBUB_TEST_SEED={seed}")
    began = time.monotonic()
    async with at_work(folder, agents, mails, random.Random(seed)) as site:
        await site.disturb(brokers, victims)
        await site.finish()
    team = site.team
    team.check()
    assert site.kills == Counter(broker=brokers, agent=victims)
    assert site.proxy.lost_answers > 0
    return (
        f"{team.mails} mails by {agents} agents, {team.broadcasts} of them to ALL: {team.deliveries} to be read, "
        f"{team.done()[0]} handled; {brokers} kills of the broker, {victims} of agents; "
        f"{site.proxy.lost_requests} requests and {site.proxy.lost_answers} answers lost; "
        f"{dict(team.counters())}; {time.monotonic() - began:.1f} s"
    )


async def test_every_mail_is_read_and_none_is_handled_twice(tmp_path: Path) -> None:
    print(await run(tmp_path, agents=8, mails=600, brokers=2, victims=2))


@pytest.mark.kill
@pytest.mark.soak  # minutes: not part of `make test`
@pytest.mark.timeout(900)
async def test_two_months(tmp_path: Path) -> None:
    print(await run(tmp_path, agents=25, mails=12_000, brokers=20, victims=20))
