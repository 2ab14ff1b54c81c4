"""What the user sees: a panel that changes on a terminal, lines elsewhere; and the table at the end."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hubbub_broker.cli.output import colourful

from .clock import now
from .outcome import Outcome, anomaly_rows, latency_rows, milliseconds, rows
from .progress import Progress

LINE_SECONDS = 5.0
"""How often progress is a line, where there is no terminal."""

TABLE_COLUMNS = 96


class Display(Protocol):
    """Whom the job tells."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        ...

    def tell(self, text: str) -> None:
        """Something happened."""
        ...

    def show(self, progress: Progress, planned: int) -> None:
        """How far the agents are; `planned` messages there will be."""
        ...


def display_on(stream: TextIO, agents: int, clock: Callable[[], float] = now) -> Display:
    """The display that suits a stream."""
    return Panel(stream, agents, clock) if colourful(stream) else Lines(stream, agents, clock)


class Lines:
    """Plain lines: one for each thing that happens, and one now and then about the progress."""

    def __init__(self, stream: TextIO, agents: int, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._agents = agents
        self._clock = clock
        self._began = clock()
        self._shown = -LINE_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.flush()

    def tell(self, text: str) -> None:
        self._stream.write(f"{self._clock() - self._began:6.1f} s  {text}\n")
        self._stream.flush()

    def show(self, progress: Progress, planned: int) -> None:
        if self._clock() - self._shown >= LINE_SECONDS:
            self._shown = self._clock()
            self.tell(line_of(progress, planned, self._agents))


class Panel:
    """A live panel: what happened above it, and the figures of this moment in it."""

    def __init__(self, stream: TextIO, agents: int, clock: Callable[[], float]) -> None:
        self._agents = agents
        self._clock = clock
        self._began = clock()
        self._rates = Rates(clock)
        self._console = Console(file=stream, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def tell(self, text: str) -> None:
        self._console.print(Text(f"{self._clock() - self._began:6.1f} s  ", style="dim") + Text(text))

    def show(self, progress: Progress, planned: int) -> None:
        self._live.update(self._render(progress, planned))

    def _render(self, progress: Progress, planned: int) -> Group:
        published, handled = self._rates.of(progress)
        grid = Table.grid(padding=(0, 2))
        online = Text(f"{progress.online:,} of {self._agents:,}")
        if progress.online < self._agents:
            online.stylize("bold red")
        grid.add_row("online", online, "reconnects", f"{progress.reconnects:,}")
        grid.add_row("messages", f"{progress.published:,}", "a second", f"{published:,.0f}")
        grid.add_row("deliveries", f"{progress.handled:,}", "a second", f"{handled:,.0f}")
        grid.add_row("latency p50", milliseconds(progress.p50), "p99", milliseconds(progress.p99))
        odd = Text(f"{progress.odd:,}", style="bold red" if progress.odd else "green")
        grid.add_row("sections", f"{progress.sections:,}", "out of line", odd)
        return Group(ProgressBar(total=max(planned, 1), completed=progress.confirmed, width=60), grid)


class Rates:
    """Messages and deliveries a second, over the last seconds."""

    WINDOW_SECONDS = 2.0

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._past: list[tuple[float, int, int]] = []

    def of(self, progress: Progress) -> tuple[float, float]:
        """The rates, now that this is the progress."""
        at = self._clock()
        self._past = [one for one in self._past if at - one[0] <= self.WINDOW_SECONDS]
        self._past.append((at, progress.published, progress.handled))
        first = self._past[0]
        elapsed = at - first[0]
        if elapsed <= 0:
            return 0.0, 0.0
        return (progress.published - first[1]) / elapsed, (progress.handled - first[2]) / elapsed


def line_of(progress: Progress, planned: int, agents: int) -> str:
    """The progress on one line."""
    return (
        f"{progress.confirmed:,} of {planned:,} messages, {progress.handled:,} deliveries, "
        f"{progress.online:,} of {agents:,} online, p50 {milliseconds(progress.p50)}, "
        f"p99 {milliseconds(progress.p99)}, {progress.odd} out of line"
    )


def print_outcome(outcome: Outcome, evidence: Sequence[str], stream: TextIO) -> None:
    """The table at the end."""
    colour = colourful(stream)
    console = Console(
        file=stream, highlight=False, no_color=not colour, width=None if colour else TABLE_COLUMNS, emoji=False
    )
    console.print(_figures(outcome))
    console.print(_latencies(outcome))
    console.print(_anomalies(outcome))
    for case in evidence:
        console.print(Text(f"  {case}", style="red"))
    console.print(f"\nThe report: {outcome.report}", markup=False, soft_wrap=True)


def _figures(outcome: Outcome) -> Table:
    grid = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    grid.add_column()
    grid.add_column(justify="right")
    grid.add_column(style="dim")
    for row in rows(outcome):
        grid.add_row(*row)
    return grid


def _latencies(outcome: Outcome) -> Table:
    grid = Table("end to end", box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for head in ("deliveries", "p50", "p90", "p99", "largest"):
        grid.add_column(head, justify="right")
    for row in latency_rows(outcome):
        grid.add_row(*row)
    return grid


def _anomalies(outcome: Outcome) -> Table:
    grid = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    grid.add_column()
    grid.add_column(justify="right")
    for name, count in anomaly_rows(outcome):
        grid.add_row(name, Text(f"{count:,}", style="bold red" if count else "bold green"))
    return grid
