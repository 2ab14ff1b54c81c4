"""Runs scenarios: a broker for each run on a directory of its own, or one that is there already."""

from __future__ import annotations

import gc
import resource
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

from .drivers import closed_loop, idle, open_loop, opening, replay, team
from .measurement import Run
from .peers import Address, BrokerProcess, scrape
from .scenario import ClosedLoop, Idle, Opening, OpenLoop, Replay, Scenario, Team
from .usage import Meter

Tell = Callable[[str], None]

SPARE_FILES = 256
"""Open files beside the connections."""


class NotHere(Exception):
    """A scenario can't be run on this broker, or on this machine as it is set; the message says why."""


@dataclass(frozen=True)
class Runner:
    """Where scenarios are run: on `address` if there is one, else on brokers started for them under `folder`."""

    folder: Path
    address: Address | None = None
    pid: int | None = None
    """The process of the broker at `address`, if it is one of this machine."""

    async def runs(self, scenario: Scenario, tell: Tell) -> AsyncIterator[Run]:
        """The scenario's runs, one after the other. `tell` hears how far one is.

        Raises:
            DriverError: if a broker refuses or hangs up.
            PeerError: if a broker does not start or stop.
            NotHere: if it can't be run here.
        """
        self._check(scenario)
        match scenario:
            case Replay():
                with self._broker(scenario) as (address, meter):
                    async for run in replay.runs(scenario, address, meter):
                        yield run
            case Opening():
                with self._directory() as directory:
                    async for run in opening.runs(
                        scenario, lambda path: BrokerProcess(path, scenario.broker), directory
                    ):
                        yield run
            case _:
                for _ in range(scenario.runs):
                    with self._broker(scenario) as (address, meter):
                        before = scrape(address)
                        run = await self._run(scenario, address, meter, tell)
                        after = scrape(address) if before is not None else None
                        log = before.until(after) if before is not None and after is not None else None
                        yield replace(run, log=log)

    @staticmethod
    async def _run(scenario: ClosedLoop | OpenLoop | Team | Idle, address: Address, meter: Meter, tell: Tell) -> Run:
        if isinstance(scenario, Team):
            return await team.run(scenario, address, meter, tell)
        with _no_garbage_collection():
            match scenario:
                case ClosedLoop():
                    return await closed_loop.run(scenario, address, meter)
                case OpenLoop():
                    return await open_loop.run(scenario, address, meter)
                case Idle():
                    return await idle.run(scenario, address, meter)
                case _:
                    assert_never(scenario)

    def _check(self, scenario: Scenario) -> None:
        if self.address is not None:
            if isinstance(scenario, Opening):
                raise NotHere("needs a broker of its own, to start and stop")
            if isinstance(scenario, Idle) and self.pid is None:
                raise NotHere("needs the broker's memory: give its process with --pid")
            if scenario.broker:
                raise NotHere("needs settings that the running broker may not have")
        if isinstance(scenario, Idle | OpenLoop | ClosedLoop | Team):
            raise_file_limit(_connections(scenario) + SPARE_FILES)

    @contextmanager
    def _broker(self, scenario: Scenario) -> Iterator[tuple[Address, Meter]]:
        if self.address is not None:
            yield self.address, Meter(self.pid)
            return
        with self._directory() as directory, BrokerProcess(directory / "data", scenario.broker) as broker:
            yield broker.address, Meter(broker.pid)

    @contextmanager
    def _directory(self) -> Iterator[Path]:
        self.folder.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix="broker-", dir=self.folder))
        try:
            yield directory
        finally:
            shutil.rmtree(directory)


def raise_file_limit(files: int) -> None:
    """Let this process, and the brokers that it starts, have so many files open.

    Raises:
        NotHere: if the system does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= files:
        return
    if hard != resource.RLIM_INFINITY and hard < files:
        raise NotHere(f"needs {files} open files, and the hard limit is {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def _connections(scenario: ClosedLoop | OpenLoop | Team | Idle) -> int:
    match scenario:
        case ClosedLoop():
            return scenario.publishers + scenario.topics * scenario.subscribers
        case OpenLoop() | Team():
            return scenario.agents
        case Idle():
            return scenario.connections
        case _:
            assert_never(scenario)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A pause of this process would be measured as one of the broker."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
