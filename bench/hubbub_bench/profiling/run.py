"""A scenario with a profiler on its broker."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from hubbub_bench.drivers import closed_loop, open_loop
from hubbub_bench.loops import event_loop
from hubbub_bench.measurement import Run
from hubbub_bench.peers import BrokerProcess
from hubbub_bench.runner import SPARE_FILES, raise_file_limit
from hubbub_bench.scenario import ClosedLoop, OpenLoop
from hubbub_bench.usage import Meter, Sample

from .samples import Profile, parse

RATE = 400
"""Samples a second."""
STOP_SECONDS = 30.0


class NoProfiler(Exception):
    """There is none, or it may not look; the message says what to do."""


@dataclass(frozen=True)
class Profiled:
    """What a profile was taken of."""

    scenario: ClosedLoop | OpenLoop
    run: Run
    profile: Profile
    unit: str
    """What the broker's time is divided by: `publish` or `delivery`."""
    microseconds: float
    """Processor time of the broker's event loop for each of these."""
    in_threads: float
    """And of its other threads, which write and sync."""


class Watch(Meter):
    """Reads samples of use, and starts the profiler with the first: when the measured window begins."""

    def __init__(self, pid: int, profiler: str, seconds: float, output: Path) -> None:
        super().__init__(pid)
        self._command = [profiler, "record", "--pid", str(pid), "--format", "raw", "--rate", str(RATE), "--function"]
        self._command += ["--threads", "--duration", str(max(1, round(seconds))), "--output", str(output)]
        self._process: subprocess.Popen[bytes] | None = None
        self._broker_process = psutil.Process(pid)
        self.threads: list[tuple[float, float]] = []
        """At each sample: seconds of processor time of the first thread, and of all others."""

    def read(self, load: Sequence[int] = ()) -> Sample:
        """A sample of now."""
        sample = super().read(load)
        used = {one.id: one.user_time + one.system_time for one in self._broker_process.threads()}
        first = used.pop(self._broker_process.pid)
        self.threads.append((first, sum(used.values())))
        if self._process is None:
            self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return sample

    def finish(self) -> None:
        """Wait for the profiler.

        Raises:
            NoProfiler: if it could not do its work.
        """
        assert self._process is not None
        _, said = self._process.communicate(timeout=STOP_SECONDS)
        if self._process.returncode:
            raise NoProfiler(f"the profiler failed: {said.decode(errors='replace').strip()[-300:]}")


def find() -> str:
    """The profiler's path.

    Raises:
        NoProfiler: if it is not installed.
    """
    beside = Path(sysconfig.get_path("scripts")) / "py-spy"
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise NoProfiler(f"py-spy is not installed: {sys.executable} -m pip install 'hubbub[peers]'")
    return found


def profile(scenario: ClosedLoop | OpenLoop, folder: Path) -> Profiled:
    """Run the scenario once, on a broker of its own.

    Raises:
        NoProfiler: if there is none, or it may not look.
        DriverError: if the broker refuses or hangs up.
    """
    profiler = find()
    connections = scenario.agents if isinstance(scenario, OpenLoop) else scenario.publishers
    connections += 0 if isinstance(scenario, OpenLoop) else scenario.topics * scenario.subscribers
    raise_file_limit(connections + SPARE_FILES)
    directory = Path(tempfile.mkdtemp(prefix="profile-", dir=folder))
    try:
        with BrokerProcess(directory / "data", scenario.broker) as broker:
            watch = Watch(broker.pid, profiler, scenario.seconds, directory / "samples")
            with asyncio.Runner(loop_factory=event_loop()[1]) as loop:
                if isinstance(scenario, ClosedLoop):
                    run = loop.run(closed_loop.run(scenario, broker.address, watch))
                else:
                    run = loop.run(open_loop.run(scenario, broker.address, watch))
            watch.finish()
        samples = parse((directory / "samples").read_text(encoding="utf-8"))
    finally:
        shutil.rmtree(directory)
    delivered = isinstance(scenario, OpenLoop) or scenario.subscribers > 0
    rate = next(one.value for one in run.readings if one.name == ("deliveries" if delivered else "publishes"))
    assert run.usage is not None
    (first, others), (first_then, others_then) = watch.threads
    share = 1e6 / (rate * run.usage.seconds)
    unit = "delivery" if delivered else "publish"
    return Profiled(scenario, run, samples, unit, (first_then - first) * share, (others_then - others) * share)
