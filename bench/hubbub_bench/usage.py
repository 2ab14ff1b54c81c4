"""Processor time and memory of the broker and of this process, from what the system keeps of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, process_time

import psutil


@dataclass(frozen=True)
class Sample:
    """What has been used up to a moment, in seconds of one core."""

    at: float
    driver: float
    machine: float
    """By everybody together."""
    broker: float | None
    """None when the broker is not a process of this machine."""
    broker_rss: int | None
    """Bytes of memory that the broker's processes hold now."""
    each: tuple[float, ...] = ()
    """By each of the load's processes, if it has several: their sum is `driver`."""


@dataclass(frozen=True)
class Usage:
    """What was used between two samples, in cores: seconds of processor time a second."""

    seconds: float
    driver_cores: float
    broker_cores: float | None
    other_cores: float
    """By everybody else on the machine, the kernel's own work for the two included where it is not charged to them."""
    broker_rss: int | None
    cores: int
    """How many the machine has."""
    busiest_cores: float = 0.0
    """By the busiest process of the load: each has one thread, so 1 is all that it can have."""

    @staticmethod
    def between(before: Sample, after: Sample) -> Usage:
        """From one to the other."""
        seconds = after.at - before.at
        driver = (after.driver - before.driver) / seconds
        broker = None
        if before.broker is not None and after.broker is not None:
            broker = (after.broker - before.broker) / seconds
        other = (after.machine - before.machine) / seconds - driver - (broker or 0.0)
        each = [(end - begin) / seconds for begin, end in zip(before.each, after.each, strict=True)]
        return Usage(
            seconds,
            driver,
            broker,
            max(0.0, other),
            after.broker_rss,
            psutil.cpu_count() or 1,
            max(each, default=driver),
        )


class Meter:
    """Reads samples. `pid` is the broker's first process; its children count with it."""

    def __init__(self, pid: int | None) -> None:
        self._broker = psutil.Process(pid) if pid is not None else None

    def read(self, load: Sequence[int] = ()) -> Sample:
        """A sample of now. `load` are the processes that make the load, if it is not this one."""
        cpu: float | None = None
        rss: int | None = None
        if self._broker is not None:
            cpu, rss = 0.0, 0
            for process in self._processes(self._broker):
                with suppress(psutil.NoSuchProcess):
                    cpu += _used(process)
                    rss += process.memory_info().rss
        each = tuple(_used(psutil.Process(pid)) for pid in load)
        return Sample(monotonic(), sum(each) if load else process_time(), _busy(), cpu, rss, each)

    @staticmethod
    def _processes(broker: psutil.Process) -> Iterator[psutil.Process]:
        yield broker
        yield from broker.children(recursive=True)


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _busy() -> float:
    times = psutil.cpu_times()._asdict()
    inside = ("idle", "iowait", "guest", "guest_nice")  # not busy, or counted in `user` already
    return float(sum(seconds for name, seconds in times.items() if name not in inside))
