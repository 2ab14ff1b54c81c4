"""The broker's processor time for each message, at sizes ten times apart."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hubbub_bench.drivers import team as teams
from hubbub_bench.drivers.connection import DriverError
from hubbub_bench.drivers.filling import fill
from hubbub_bench.loops import event_loop
from hubbub_bench.peers import Address, BrokerProcess
from hubbub_bench.runner import SPARE_FILES, raise_file_limit
from hubbub_bench.scenario import Team
from hubbub_bench.usage import Meter

TOPICS = (100, 1_000, 10_000, 100_000)
CONNECTIONS = (10, 100, 1_000, 10_000)
HISTORY = (100_000, 1_000_000, 10_000_000)
SECONDS = 4.0
AGENTS = 100
"""Who share the topics: each reads a thousand where there are most, which is as many as a connection may."""
TOPICS_RATE = 5_000.0
CONNECTIONS_RATE = 2_000.0
MEMBERS = 5
HISTORY_TOPICS = 200
HISTORY_GROUPS = 16
HISTORY_PAYLOAD = 1_000
"""Bytes: ten million such messages are more than 10 GB."""
PROBE = 100_000
"""Messages that are published to see what one costs with history."""
_MANY = {"max_connections_per_address": "0"}
_MIB = 2**20

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Cost:
    """What a message costs at a size."""

    size: int
    microseconds: float
    """Processor time of the broker for each message published, its deliveries included."""
    latency_p50: float
    """Milliseconds, end to end."""
    latency_p99: float
    memory: float
    """MiB that the broker holds."""


@dataclass(frozen=True)
class Opened:
    """A directory with so much history."""

    size: int
    directory: float
    """GiB."""
    start_clean: float
    """Seconds from the start of the process until it is ready, after a clean stop, …"""
    start_killed: float
    """… and after SIGKILL."""
    memory: float
    """MiB that the broker holds when it is ready, after a clean stop."""
    microseconds: float
    """Processor time of the broker for each durable publish then."""


def by_topics(folder: Path, sizes: Sequence[int], tell: Tell) -> list[Cost]:
    """A hundred agents that publish to, and read, so many topics, each in turn."""
    costs = []
    for size in sizes:
        team = Team(
            title="",
            how="",
            name=f"topics-{size}",
            agents=min(AGENTS, size),
            conversations=size,
            members=1,
            rate=TOPICS_RATE,
            seconds=SECONDS,
            warmup=1.0 + 1.1 * size / TOPICS_RATE,  # so that every topic has spoken before it is measured
        )
        costs.append(_cost(folder, team, size, tell))
    return costs


def by_connections(folder: Path, sizes: Sequence[int], tell: Tell) -> list[Cost]:
    """The same number of messages, published and read by so many agents in conversations of five."""
    costs = []
    for size in sizes:
        team = Team(
            title="",
            how="",
            name=f"connections-{size}",
            agents=size,
            conversations=max(1, size // MEMBERS),
            members=MEMBERS,
            rate=CONNECTIONS_RATE,
            seconds=SECONDS,
        )
        costs.append(_cost(folder, team, size, tell))
    return costs


def by_history(folder: Path, sizes: Sequence[int], tell: Tell) -> list[Opened]:
    """One directory that fills up: at each size, what a start takes and what a publish costs."""
    found = []
    with _directory(folder) as directory:
        data, there = directory / "data", 0
        for size in sizes:
            with BrokerProcess(data, {}) as broker:
                _publish(broker.address, size - there)
            with BrokerProcess(data, {}) as clean:
                memory = (Meter(clean.pid).read().broker_rss or 0) / _MIB
                clean.kill()
            with BrokerProcess(data, {}) as killed:
                microseconds = _probe(killed)
            there = size + PROBE
            held = sum(path.stat().st_size for path in data.rglob("*") if path.is_file()) / 2**30
            opened = Opened(size, held, clean.start_seconds, killed.start_seconds, memory, microseconds)
            tell(f"history {size:,}: {microseconds:.2f} µs, start {clean.start_seconds:.2f} s, {memory:.0f} MiB")
            found.append(opened)
    return found


def _cost(folder: Path, team: Team, size: int, tell: Tell) -> Cost:
    raise_file_limit(team.agents + SPARE_FILES)
    with _directory(folder) as directory, BrokerProcess(directory / "data", _MANY) as broker:
        run = asyncio.run(teams.run(team, broker.address, Meter(broker.pid), lambda _: None))
    if not run.verdict.good:
        raise DriverError(f"{team.name}: {run.verdict}")
    usage = run.usage
    assert usage is not None
    assert usage.broker_cores is not None
    readings = {reading.name: reading.value for reading in run.readings}
    if not readings["publishes"]:
        raise DriverError(f"{team.name}: not a message was answered in the measured window: the machine is too busy")
    cost = Cost(
        size,
        usage.broker_cores / readings["publishes"] * 1e6,
        readings["end to end p50"],
        readings["end to end p99"],
        (usage.broker_rss or 0) / _MIB,
    )
    tell(f"{team.name}: {cost.microseconds:.1f} µs, p99 {cost.latency_p99:.2f} ms, {cost.memory:.0f} MiB")
    return cost


def _probe(broker: BrokerProcess) -> float:
    meter = Meter(broker.pid)
    before = meter.read().broker or 0.0
    _publish(broker.address, PROBE)
    return ((meter.read().broker or 0.0) - before) / PROBE * 1e6


def _publish(address: Address, messages: int) -> None:
    with asyncio.Runner(loop_factory=event_loop()[1]) as loop:
        loop.run(
            fill(
                address,
                "history",
                messages=messages,
                payload=HISTORY_PAYLOAD,
                topics=HISTORY_TOPICS,
                groups=HISTORY_GROUPS,
                again=True,
            )
        )


@contextmanager
def _directory(folder: Path) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="growth-", dir=folder))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
