"""Turns: each side of a piece of work once, then each again, so that what else the machine does hits all alike."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from . import driver as external
from .driver import DriverFailed, value
from .hubbub import Hubbub
from .mosquitto import Mosquitto
from .nats import Nats
from .redis import Redis
from .server import NotThere, Rival, ServerError
from .work import Figure, Side, Work

BUSY = 0.9
"""Cores of the driver from which on it may have been the limit."""


@dataclass
class Standing:
    """What a side has come to."""

    side: Side
    title: str = ""
    """The server's name and version."""
    runs: list[dict[str, Any]] = field(default_factory=list)
    skipped: str = ""
    failed: list[str] = field(default_factory=list)

    def figure(self, figure: Figure) -> float | None:
        """The median of its runs."""
        return median(self._values(figure)) if self.runs else None

    def spread(self, figure: Figure) -> tuple[float, float]:
        """The lowest and the highest."""
        values = self._values(figure)
        return min(values), max(values)

    def _values(self, figure: Figure) -> list[float]:
        key = self.side.instead.get(figure.key, figure.key)
        return [value(run, key) * figure.scale for run in self.runs]

    @property
    def driver_busy(self) -> bool:
        """Whether the driver may have been the limit."""
        return any(run.get("loadgen_cores", 0.0) >= BUSY for run in self.runs)


@dataclass
class Bout:
    """One piece of work, and how everybody did."""

    work: Work
    standings: list[Standing]

    def ratio(self, standing: Standing, figure: Figure) -> float | None:
        """Hubbub's figure divided by that side's."""
        ours, theirs = self.standings[0].figure(figure), standing.figure(figure)
        return ours / theirs if ours is not None and theirs else None


class Ring:
    """Where bouts take place."""

    def __init__(self, driver: Path | None, folder: Path, *, seconds: float, warmup: float, runs: int) -> None:
        self._driver = driver
        self._folder = folder.resolve()  # servers run in folders of their own
        self._times = ["--duration", f"{seconds:g}", "--warmup", f"{warmup:g}"]
        self._runs = runs
        self._rivals: dict[str, Rival] = {
            "hubbub": Hubbub(),
            "nats": Nats(),
            "mosquitto": Mosquitto(),
            "redis": Redis(),
        }

    def hold(self, work: Work, tell: Callable[[str], None]) -> Bout:
        """Let all sides of a piece of work take turns."""
        standings = [Standing(side) for side in work.sides]
        for number in range(min(self._runs, work.runs or self._runs)):
            for standing in standings[number % len(standings) :] + standings[: number % len(standings)]:
                if not standing.skipped:
                    self._turn(work, standing)
                    tell(f"{work.name:24} {number + 1}: {standing.side.label[:60]:60} {_last(work, standing)}")
        return Bout(work, standings)

    def _turn(self, work: Work, standing: Standing) -> None:
        side = standing.side
        rival = self._rivals[side.rival]
        folder = Path(tempfile.mkdtemp(prefix=f"{side.rival}-", dir=self._folder))
        try:
            standing.title = rival.title
            with rival.start(folder, side.options) as server:
                if work.kind == "sdk":
                    from . import clients  # noqa: PLC0415 - needs the peers' clients

                    report = clients.run(side.rival, server, side.flags.split())
                else:
                    report = external.run(
                        external.find(self._driver), server, [*self._flags(work), *shlex.split(side.flags)]
                    )
            standing.runs.append(report)
        except NotThere as reason:
            standing.skipped = str(reason)
        except (DriverFailed, ServerError) as error:
            standing.failed.append(str(error))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _flags(self, work: Work) -> list[str]:
        flags = shlex.split(work.flags)
        return flags if "--mode" in flags else [*flags, *self._times]


def _last(work: Work, standing: Standing) -> str:
    if standing.skipped or (standing.failed and not standing.runs):
        return f"not measured: {standing.skipped or standing.failed[-1]}"
    figure = work.figures[0]
    return f"{standing.figure(figure):,.4g} {figure.unit}"
