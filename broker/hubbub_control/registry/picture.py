"""What is known of every agent, and what follows from it. Pure: times are handed in.

What the broker's register has of an agent (group, capabilities, whether it is connected) comes from the broker; what it
is at work on comes from its own reports, one for each of its processes. From both follows its state:

    gone    it is not connected, and was not here for a while
    deaf    it is connected, and does not answer
    slow    it answers late, or is late in its own loop
    busy    it has work
    idle    it has none, or does not say
    unknown it is connected, and whoever keeps this has begun anew and not heard from it yet

Holds one entry for each registered agent, and nothing else grows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

PROCESSES_MAX = 16
"""Processes under one name whose reports are kept. The oldest goes."""

TASKS_MAX = 5
"""Tasks of a report that are kept."""


class AgentState(StrEnum):
    """How an agent is."""

    IDLE = "idle"
    BUSY = "busy"
    SLOW = "slow"
    DEAF = "deaf"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Limits:
    """When what counts as what, in seconds."""

    silent: float = 45.0
    """A connected agent that reports, and has not for so long, is probed."""
    deaf: float = 10.0
    """One that has not answered a probe within this is deaf."""
    slow: float = 1.0
    """One that answers, or runs its own timers, later than this is slow."""
    gone: float = 15.0
    """One that has been disconnected for so long is gone: reconnecting takes less."""
    unseen: float = 600.0
    """One that has no socket (it pulls its inbox) and was not seen for so long is gone."""


@dataclass(slots=True)
class Report:
    """What one process of an agent said last."""

    at: float
    running: int
    waiting: int
    room: int
    done: int
    lag: float
    paused: bool
    tasks: tuple[dict[str, Any], ...]
    since: float | None = None
    """Since when it has work, or none, by its own word."""


@dataclass(slots=True)
class View:
    """One agent."""

    name: str
    group: str = ""
    capabilities: tuple[str, ...] = ()
    """What it can be found by: what the register has, and what its card says."""
    own: tuple[str, ...] = ()
    """What the register has."""
    description: str = ""
    online: bool = False
    seen: float = 0.0
    """When it was last here."""
    had_socket: bool = False
    """Whether it was connected when it was last here."""
    unknown: bool = False
    """Whether it is connected, and has yet to say how it is."""
    since: float = 0.0
    """Since when it is idle, or has work."""
    was_busy: bool = False
    reports: dict[str, Report] = field(default_factory=dict)
    """By process."""
    heard: float = 0.0
    """When it last said anything."""
    probed: float | None = None
    """When it was probed, if it has not answered since."""
    answer_time: float = 0.0
    """How long it took to answer the last probe."""
    picked: int = 0
    """How often it was picked since its last report: work that it has, and has not reported."""
    pick: int = 0
    """Which pick of all its last one was."""

    running: int = 0
    """Messages at work, in all its processes."""
    waiting: int = 0
    """Messages that it was given and has not begun."""
    room: int = 0
    """Messages that it could be at work on at a time."""
    paused: bool = False
    """Whether all of it is paused."""
    load: float = 0.0
    """Work that it has, for each message that it could be at work on: 0 is none, 1 is full."""
    lag: float = 0.0
    """How late the latest of its processes is."""

    def sum_up(self) -> None:
        """Its reports are others: whoever looks for the least loaded does not add up a thousand agents."""
        reports = self.reports.values()
        self.running = sum(report.running for report in reports)
        self.waiting = sum(report.waiting for report in reports)
        self.room = sum(report.room for report in reports)
        self.paused = bool(reports) and all(report.paused for report in reports)
        self.load = (self.running + self.waiting) / max(1, self.room)
        self.lag = max((report.lag for report in reports), default=0.0)
        self._date(reports)

    def _date(self, reports: Collection[Report]) -> None:
        """Since when it has work: since the first of its processes has; or none: since the last has none."""
        busy = [report for report in reports if report.running or report.waiting]
        times = [report.since for report in busy or reports if report.since is not None]
        if times:
            self.since = min(times) if busy else max(times)
        elif reports and (self.since == 0.0 or self.was_busy != bool(busy)):
            self.since = max(report.at for report in reports)
        self.was_busy = bool(busy)

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """What it is at work on, oldest first; not all of it."""
        tasks = [task for report in self.reports.values() for task in report.tasks]
        return sorted(tasks, key=lambda task: task["since"])[:TASKS_MAX]


class Picture:
    """All agents."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._views: dict[str, View] = {}
        self._by_capability: dict[str, dict[str, None]] = {}
        self._speakers: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Processes of connected agents that report, the longest silent first: agent and session."""
        self._probed: dict[tuple[str, str], float] = {}
        """Those that were silent for too long, and when they were probed; with no session, whoever has yet to say
        anything. The first that was probed is the first.
        """
        self._picks = 0

    def __len__(self) -> int:
        return len(self._views)

    def __iter__(self) -> Iterator[View]:
        return iter(self._views.values())

    def get(self, name: str) -> View | None:
        """One agent, if it is known."""
        return self._views.get(name)

    # What the broker says -------------------------------------------------------------------------------------------

    def registered(
        self,
        name: str,
        group: str,
        capabilities: Sequence[str],
        description: str,
        *,
        seen: float,
        socket: bool | None = None,
        skills: Sequence[str] = (),
    ) -> View:
        """The register has this of an agent; `skills` are those of its card. `socket` says whether it was connected
        when it was last here, if that is known.
        """
        view = self._views.get(name)
        if view is None:
            view = self._views[name] = View(name)
        view.group, view.own, view.description = group, tuple(capabilities), description
        view.seen = max(view.seen, seen)
        if socket is not None:
            view.had_socket = socket or view.online
        self.carded(name, skills)
        return view

    def carded(self, name: str, skills: Sequence[str]) -> None:
        """Its card says that it can do this. One that the register does not have is passed over."""
        view = self._views.get(name)
        if view is None:
            return
        self._forget_capabilities(view)
        view.capabilities = tuple(dict.fromkeys((*view.own, *skills)))
        for capability in view.capabilities:
            self._by_capability.setdefault(capability, {})[name] = None

    def came(self, name: str, now: float) -> None:
        """It is connected."""
        view = self._views.get(name)
        if view is not None:
            view.online = view.had_socket = True
            view.unknown = False
            view.seen = view.heard = now

    def left(self, name: str, now: float) -> None:
        """It is not connected any more. What it reported is over."""
        view = self._views.get(name)
        if view is not None:
            self._quiet(view)
            view.online = view.unknown = False
            view.seen = now
            view.reports.clear()
            view.sum_up()
            view.picked = 0

    def forgotten(self, name: str) -> None:
        """It is in the register no more."""
        view = self._views.pop(name, None)
        if view is not None:
            self._forget_capabilities(view)
            self._quiet(view)

    def only(self, names: Iterable[str]) -> None:
        """These are all that the register has."""
        for name in set(self._views) - set(names):
            self.forgotten(name)

    # What agents say ------------------------------------------------------------------------------------------------

    def reported(self, name: str, session: str, report: Report, *, probe: bool = False) -> None:
        """A process of an agent says how it is. One that the register does not have is passed over."""
        view = self._views.get(name)
        if view is None:
            return
        self._hush(view, session)
        view.reports[session] = report
        if len(view.reports) > PROCESSES_MAX:
            self._hush(view, next(iter(view.reports)))
        view.sum_up()
        if probe and view.probed is not None:
            view.answer_time = report.at - view.probed
        elif not probe:
            view.answer_time = 0.0
        view.online = view.had_socket = True
        view.unknown = False
        view.seen = view.heard = report.at
        view.probed = None
        view.picked = 0
        self._probed.pop((name, ""), None)
        self._speakers[name, session] = None

    def overdue(self, now: float, most: int) -> list[str]:
        """Agents of which a process ought to have said something by now, at most so many: they count as probed from
        here on.
        """
        due: list[tuple[str, str]] = []
        found: dict[str, None] = {}
        for name, session in self._speakers:
            if now - self._views[name].reports[session].at < self.limits.silent or len(found) == most:
                break
            due.append((name, session))
            found[name] = None
        for process in due:
            del self._speakers[process]
            self._probed[process] = now
        for name in found:
            if self._views[name].probed is None:
                self._views[name].probed = now
        return list(found)

    def greeted(self) -> list[str]:
        """The broker was asked for all of them: those that are connected and have not said how they are are unknown
        from here on, until they do, or it turns out that they never will.
        """
        found = [view.name for view in self if view.online and not view.reports]
        for name in found:
            self._views[name].unknown = True
        return found

    def asked(self, name: str, now: float) -> None:
        """One that has yet to say something was probed, and got it."""
        view = self._views.get(name)
        if view is not None and view.unknown and view.probed is None:
            view.probed = now
            self._probed[name, ""] = now

    def says_nothing(self, name: str) -> None:
        """It was to be probed, and is not there to be: it takes no part in this."""
        view = self._views.get(name)
        if view is not None and not view.reports:
            view.unknown = False
            self._quiet(view)

    def forget_silent(self, now: float) -> None:
        """Processes that have not answered, while others of their agent have, are no more."""
        for process, probed in list(self._probed.items()):
            if now - probed < self.limits.deaf:
                break
            view = self._views[process[0]]
            if process[1] in view.reports and view.heard > probed:
                self._hush(view, process[1])
                view.sum_up()

    def probe_again(self, now: float, most: int) -> list[str]:
        """Agents that are deaf, the longest first: they may hear again."""
        due: dict[str, None] = {}
        for name, _ in self._probed:
            if len(due) == most:
                break
            view = self._views[name]
            if view.probed is not None and now - view.probed >= self.limits.deaf:
                due[name] = None
        return list(due)

    # What follows ---------------------------------------------------------------------------------------------------

    def state(self, view: View, now: float) -> AgentState:
        """How an agent is."""
        limits = self.limits
        if not view.online:
            absent = limits.gone if view.had_socket else limits.unseen
            if now - view.seen >= absent:
                return AgentState.GONE
        elif view.probed is not None and now - view.probed >= limits.deaf:
            return AgentState.DEAF
        elif view.unknown:
            return AgentState.UNKNOWN
        elif view.lag > limits.slow or view.answer_time > limits.slow:
            return AgentState.SLOW
        return AgentState.BUSY if view.running or view.waiting else AgentState.IDLE

    def find(self, capability: str | None, group: str | None) -> Iterator[View]:
        """The agents that can do something, or of a group."""
        names = self._views if capability is None else self._by_capability.get(capability, {})
        for name in names:
            view = self._views[name]
            if group in (None, view.group):
                yield view

    def least_loaded(self, candidates: Iterable[View], now: float) -> View | None:
        """Who of these has least to do, among those that hear: the connected before the others, the slow after these,
        and last who says that it has room for nothing at all.

        Who is picked counts as having that much more to do until it reports again, so that many who ask at once are
        not all sent to the same; among equals it is whoever was picked longest ago.
        """
        best: View | None = None
        least: tuple[object, ...] = ()
        for view in candidates:
            if view.paused:
                continue
            load = view.load + view.picked / (view.room or 1)
            away = view.had_socket and not view.online  # for a moment, or for good
            full = view.room == 0 and (away or bool(view.reports))
            if best is not None and view.online and (full, False, False, load, view.pick) >= least:
                continue  # whatever its state, it is not better: most are not
            state = self.state(view, now)
            if state in (AgentState.GONE, AgentState.DEAF, AgentState.UNKNOWN):
                continue
            key = (full, state is AgentState.SLOW, not view.online, load, view.pick)
            if best is None or key < least:
                best, least = view, key
        if best is not None:
            self._picks += 1
            best.picked += 1
            best.pick = self._picks
        return best

    def counts(self, now: float) -> dict[AgentState, int]:
        """How many are how."""
        counts = dict.fromkeys(AgentState, 0)
        for view in self._views.values():
            counts[self.state(view, now)] += 1
        return counts

    def _forget_capabilities(self, view: View) -> None:
        for capability in view.capabilities:
            named = self._by_capability.get(capability, {})
            named.pop(view.name, None)
            if not named:
                self._by_capability.pop(capability, None)

    def _quiet(self, view: View) -> None:
        view.probed = None
        for session in ("", *view.reports):
            self._speakers.pop((view.name, session), None)
            self._probed.pop((view.name, session), None)

    def _hush(self, view: View, session: str) -> None:
        """What a process said is over."""
        view.reports.pop(session, None)
        self._speakers.pop((view.name, session), None)
        self._probed.pop((view.name, session), None)
