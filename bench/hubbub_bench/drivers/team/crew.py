"""A team's processes: started, let loose at the same moment, listened to, and their outcomes put together."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from secrets import token_hex
from time import monotonic, monotonic_ns
from types import TracebackType
from typing import Self

from hubbub_bench.drivers.connection import DriverError
from hubbub_bench.drivers.load import Verdict
from hubbub_bench.drivers.window import distribution, percentiles
from hubbub_bench.histogram import Latencies
from hubbub_bench.measurement import Reading, Run
from hubbub_bench.peers import Address
from hubbub_bench.scenario import Team
from hubbub_bench.usage import Meter, Usage

from .process import FAILED, READY, Message, Outcome, Progress, Times, main
from .roster import parts
from .tally import Sample

GATHER_SECONDS = 300.0
"""How long all agents may take to connect."""
FINISH_SECONDS = 300.0
"""How long all that is under way may take to arrive, once nothing is published any more."""
HEAD_START = 200_000_000
"""Nanoseconds between the word and the first message."""
TELL_SECONDS = 1.0
UNITS = {"left": "agents"}

Tell = Callable[[str], None]


class Crew:
    """Started when its block begins; whoever is left of it is ended with the block."""

    def __init__(self, team: Team, address: Address, tell: Tell) -> None:
        self._team = team
        self._tell = tell
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._progress: dict[int, Progress] = {}
        self._told = 0.0
        context = multiprocessing.get_context("spawn")
        label = f"{team.name}-{token_hex(3)}"
        for part in parts(team):
            ours, theirs = context.Pipe()
            process = context.Process(target=main, args=(team, part, label, address, theirs), daemon=True)
            self._pipes.append(ours)
            self._processes.append(process)
            process.start()
            theirs.close()
        self._at_work = {pipe: number for number, pipe in enumerate(self._pipes)}
        """Those that have not said yet what came of their part."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            if error is not None:
                process.terminate()
            process.join(FINISH_SECONDS)

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [process.pid for process in self._processes if process.pid is not None]

    def gather(self) -> None:
        """Wait until everybody is connected.

        Raises:
            DriverError: if somebody can't be.
        """
        ready, deadline = 0, monotonic() + GATHER_SECONDS
        while ready < len(self._pipes):
            ready += self._listen(deadline - monotonic()).count(READY)
            if monotonic() > deadline:
                raise DriverError(f"not all agents were connected in {GATHER_SECONDS:.0f} s")

    def go(self, times: Times) -> None:
        """Say when everything is to happen."""
        for pipe in self._pipes:
            pipe.send(times)

    def wait_until(self, at: int) -> None:
        """Listen until a moment on the monotonic clock, in ns.

        Raises:
            DriverError: as soon as a process fails.
        """
        while (left := at - monotonic_ns()) > 0:
            self._listen(left / 1e9)

    def finish(self) -> list[Outcome]:
        """What each process's part came to, when all is over.

        Raises:
            DriverError: if one fails.
        """
        outcomes: list[Outcome] = []
        deadline = monotonic() + FINISH_SECONDS
        while len(outcomes) < len(self._pipes):
            outcomes += [one for one in self._listen(deadline - monotonic()) if isinstance(one, Outcome)]
            if monotonic() > deadline:
                raise DriverError(f"what was under way was not there after {FINISH_SECONDS:.0f} s")
        return outcomes

    def _listen(self, seconds: float) -> list[Message]:
        """What the processes say within so long: the first of it, and what else there is."""
        heard: list[Message] = []
        for pipe in wait(list(self._at_work), max(0.0, seconds)):
            number = self._at_work[pipe]  # type: ignore[index]
            try:
                message: Message = self._pipes[number].recv()
            except EOFError:
                raise DriverError(f"a load process ended ({self._processes[number].exitcode})") from None
            if isinstance(message, Outcome):
                self._at_work.pop(self._pipes[number])
            if isinstance(message, Progress):
                self._progress[number] = message
                self._show()
            elif isinstance(message, str) and message.startswith(FAILED):
                raise DriverError(message.removeprefix(FAILED))
            heard.append(message)
        return heard

    def _show(self) -> None:
        if monotonic() - self._told < TELL_SECONDS:
            return
        self._told = monotonic()
        every = self._progress.values()
        self._tell(
            f"published {sum(one.published for one in every):,}, answered {sum(one.acked for one in every):,}, "
            f"delivered {sum(one.delivered for one in every):,}"
        )


async def run(team: Team, address: Address, meter: Meter, tell: Tell) -> Run:
    """One run. Blocks the loop, which has nothing else to do.

    Raises:
        DriverError: if the broker refuses, or a process fails.
    """
    with Crew(team, address, tell) as crew:
        crew.gather()
        start = monotonic_ns() + HEAD_START
        times = Times(start, start + int(team.warmup * 1e9), start + int((team.warmup + team.seconds) * 1e9))
        crew.go(times)
        crew.wait_until(times.record_from)
        before = meter.read(crew.pids)
        crew.wait_until(times.record_to)
        usage = Usage.between(before, meter.read(crew.pids))
        outcomes = crew.finish()
    return summary(team, times, usage, outcomes)


def summary(team: Team, times: Times, usage: Usage, outcomes: list[Outcome]) -> Run:
    """All parts together."""
    latencies, acks, lateness = Latencies(), Latencies(), Latencies()
    counts: Counter[str] = Counter()
    hung_up: Counter[int] = Counter()
    for one in outcomes:
        latencies.merge(one.latencies)
        acks.merge(one.ack_latencies)
        lateness.merge(one.lateness)
        counts.update(one.counts)
        hung_up.update(one.hung_up)
    timeline = rates([one.timeline for one in outcomes], times.start / 1e9)
    delivered = sum(_rate(one.window, "delivered") for one in outcomes)
    acked = sum(_rate(one.window, "acked") for one in outcomes)
    readings = [
        Reading("deliveries", delivered, "deliveries/s"),
        Reading("publishes", acked, "publishes/s"),
        *(
            [Reading("deliveries per broker CPU second", delivered / usage.broker_cores, "deliveries/s")]
            if usage.broker_cores
            else []
        ),
        *percentiles("end to end", latencies),
        *percentiles("ack", acks),
        *(percentiles("driver late", lateness, shown=False) if team.rate else []),
        *(Reading(name, count, UNITS.get(name, "messages"), shown=False) for name, count in counts.items()),
        *(Reading(f"hung up with {code}", count, "connections") for code, count in sorted(hung_up.items())),
    ]
    verdict = Verdict()
    for one in outcomes:
        verdict += one.verdict
    return Run(
        readings,
        verdict,
        usage,
        paced=bool(team.rate),
        distributions={"end to end": distribution(latencies), "ack": distribution(acks)},
        timeline=[(at, rate) for at, rate, _ in timeline],
        conversations=[each for one in outcomes for each in one.conversations],
    )


def _rate(window: tuple[Sample, Sample], what: str) -> float:
    before, after = window
    return float(getattr(after, what) - getattr(before, what)) / (after.at - before.at)


def rates(timelines: Sequence[Sequence[Sample]], start: float) -> list[tuple[float, float, float]]:
    """Processes' samples as seconds since `start`, with deliveries and answers a second in the step before."""
    steps = []
    for samples in zip(*timelines, strict=False):
        at = sum(one.at for one in samples) / len(samples) - start
        steps.append((at, sum(one.delivered for one in samples), sum(one.acked for one in samples)))
    return [
        (at, (delivered - delivered_before) / (at - before), (acked - acked_before) / (at - before))
        for (before, delivered_before, acked_before), (at, delivered, acked) in pairwise(steps)
        if at > before >= 0
    ]
