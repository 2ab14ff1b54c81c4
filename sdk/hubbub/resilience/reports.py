"""The counts of all agents that share a breaker, merged. Pure: the time is told.

Each agent reports the buckets of its own time window, each with its age, so that no two clocks have to agree. Here they
are put into buckets of this agent's clock. Taking one report in costs as much as it has buckets, and reading the sum
as many as the window has: neither depends on the number of agents.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .window import Counts, TimeBased

Ages = Iterable[tuple[float, Counts]]
"""Buckets: seconds since each began, and what is in it."""


@dataclass(slots=True)
class _Report:
    version: int
    received_at: float
    cells: list[tuple[int, Counts]]


class Reports:
    """The newest report of each other agent, and their sum."""

    __slots__ = ("_members", "_spec", "_totals")

    def __init__(self, spec: TimeBased) -> None:
        self._spec = spec
        self._members: dict[str, _Report] = {}
        self._totals: dict[int, Counts] = {}

    def __len__(self) -> int:
        return len(self._members)

    def version_of(self, member: str) -> int:
        """The version of its report; 0 if there is none."""
        report = self._members.get(member)
        return 0 if report is None else report.version

    def put(self, member: str, version: int, ages: Ages, now: float) -> None:
        """Take in a report in place of the member's last one."""
        self.drop(member)
        oldest = self._oldest(now)
        cells = [(int((now - age) // self._spec.width), counts) for age, counts in ages]
        # One that `counts` has let go already must not come back: it would be taken out of the sum a second time.
        cells = [(number, counts) for number, counts in cells if number >= oldest]
        self._members[member] = _Report(version, now, cells)
        for number, counts in cells:
            self._totals[number] = self._totals.get(number, Counts()) + counts

    def drop(self, member: str) -> None:
        """Forget a member."""
        report = self._members.pop(member, None)
        if report is not None:
            self._take_out(report)

    def counts(self, now: float) -> Counts:
        """What all reports together say of the window."""
        oldest = self._oldest(now)
        for number in [number for number in self._totals if number < oldest]:
            del self._totals[number]
        return sum(self._totals.values(), Counts())

    def fresh(self, now: float) -> int:
        """Members that reported within a window."""
        return sum(now - report.received_at < self._spec.seconds for report in self._members.values())

    def older_than(self, seconds: float, now: float) -> Iterator[tuple[str, int]]:
        """Members that have not reported for so long, each with the version of its report."""
        for member, report in self._members.items():
            if now - report.received_at > seconds:
                yield member, report.version

    def forget_counts(self) -> None:
        """A new epoch: what was counted before says nothing any more."""
        self._totals.clear()
        for report in self._members.values():
            report.cells = []

    def _oldest(self, now: float) -> int:
        return int(now // self._spec.width) - self._spec.buckets + 1

    def _take_out(self, report: _Report) -> None:
        for number, counts in report.cells:
            if number in self._totals:
                self._totals[number] -= counts
