"""What came of it: the figures, as a table for people and as JSON for programs."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .audit import Anomalies
from .latency import Percentiles

STRETCHES = {
    "whole": "the whole run",
    "before": "before the crash",
    "crash": "across the crash",
    "after": "after it",
}


@dataclass(frozen=True, slots=True)
class Crash:
    """When the broker was killed and what followed, in seconds since the conversations began."""

    killed: float
    listening: float
    """When the broker listened again."""
    recovered: float
    """When the last agent was online again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures of one run. Times are in seconds."""

    agents: int
    conversations: int
    files: int
    text_bytes: int
    pieces: int
    planned: int
    """Messages that there had to be, by the rules of the conversation."""
    messages: int
    """Messages published."""
    deliveries: int
    """Messages handed to a handler, those of the editor included."""
    replayed: int
    work: float
    """From the first message to the last delivery."""
    total: float
    """The whole command."""
    latency: Mapping[str, Percentiles]
    crash: Crash | None
    reconnects: int
    resent: int
    """Publishes sent more than once, because the connection was lost before their receipt came."""
    suppressed: int
    """Those of them that the broker had already, and stored no second time."""
    dropped_copies: int
    """Messages that came to an agent twice and went no further than its SDK."""
    anomalies: Anomalies
    transitions: int
    """Changes of the conversations' workflows, by their histories on the log."""
    astray: int
    """Workflows that did not go through every stage once, by transitions that their table allows."""
    unfinished: int
    """Conversations that did not come to their end."""
    report: str

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.anomalies or self.astray or self.unfinished) and self.messages == self.planned

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**asdict(self), "ok": self.good}


def rows(outcome: Outcome) -> Iterator[tuple[str, str, str]]:
    """Name, figure and remark of each line of the table, latencies and anomalies left out."""
    yield "agents", f"{outcome.agents:,}", f"in {outcome.conversations:,} conversations, and an editor who hears all"
    yield "text", size_of(outcome.text_bytes), f"{outcome.pieces:,} pieces of {outcome.files:,} files"
    rate = f"{outcome.messages / outcome.work:,.0f} a second" if outcome.work else ""
    yield "messages", f"{outcome.messages:,}", f"published, {outcome.planned:,} planned; {rate}"
    rate = f"{outcome.deliveries / outcome.work:,.0f} a second" if outcome.work else ""
    yield "deliveries", f"{outcome.deliveries:,}", f"to handlers; {rate}"
    yield "replayed", f"{outcome.replayed:,}", "read again over HTTP, from the first"
    yield "transitions", f"{outcome.transitions:,}", "of the conversations' workflows: research, analysis, synthesis"
    if outcome.crash is not None:
        yield from _crash_rows(outcome.crash)
    yield "reconnects", f"{outcome.reconnects:,}", ""
    yield "sent again", f"{outcome.resent:,}", "without a receipt when the connection was lost"
    yield "suppressed", f"{outcome.suppressed:,}", "of those, which the broker had already"
    yield "copies dropped", f"{outcome.dropped_copies:,}", "that reached an agent, not its handler"
    yield "time", f"{outcome.total:.1f} s", f"{outcome.work:.1f} s of it conversation"


def anomaly_rows(outcome: Outcome) -> Iterator[tuple[str, int]]:
    """What must be 0. The last three are shown only where they are not: the first three are the promise."""
    anomalies = outcome.anomalies
    yield "lost", anomalies.lost
    yield "duplicated", anomalies.duplicated
    yield "out of order", anomalies.out_of_order
    if anomalies.conflicting:
        yield "conflicting", anomalies.conflicting
    if outcome.astray:
        yield "astray", outcome.astray
    if outcome.unfinished:
        yield "unfinished", outcome.unfinished


def latency_rows(outcome: Outcome) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Stretch, deliveries, p50, p90, p99 and the largest."""
    for name, figures in outcome.latency.items():
        times = (figures.p50, figures.p90, figures.p99, figures.largest)
        p50, p90, p99, largest = map(milliseconds, times)
        yield STRETCHES[name], f"{figures.count:,}", p50, p90, p99, largest


def milliseconds(seconds: float) -> str:
    """A duration for people."""
    return f"{seconds * 1000:,.1f} ms" if seconds < 0.1 else f"{seconds * 1000:,.0f} ms"


def size_of(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _crash_rows(crash: Crash) -> Iterator[tuple[str, str, str]]:
    yield "broker killed", f"at {crash.killed:.1f} s", "SIGKILL, and started again on the same directory"
    yield "listening", f"{crash.listening - crash.killed:.2f} s later", "with what was on its disk"
    yield "recovered", f"{crash.recovered - crash.killed:.2f} s later", "the last agent was online again"
