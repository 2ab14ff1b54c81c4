"""Who is how fast, and who is not there: consumers and their agents, as `hubbub top` and the metrics show them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from statistics import median_low
from typing import TYPE_CHECKING

from hubbub_broker.consumers import (
    Consumer,
    Lease,
    Limits,
    Member,
    Pace,
    Sight,
    Standing,
    State,
    Work,
    is_internal,
    outstanding,
    state_of,
    waiting,
)
from hubbub_broker.http import AgentRow, ConsumerRow, Spread, Top
from hubbub_broker.session import Session

if TYPE_CHECKING:
    from .broker import Broker

_SEVERITY = {state: place for place, state in enumerate(State)}

SAMPLE = 1000
"""Messages from which a consumer's present speed is told."""

Paces = dict[tuple[str, str], dict[str, Pace]]
"""By name and topic of the consumer: how fast each agent is."""


_NONE = Spread(0.0, 0.0, 0.0)


class Watch:
    """Looks at the consumers of a process. Costs only when somebody asks."""

    def __init__(self, broker: Broker, loop: asyncio.AbstractEventLoop) -> None:
        self._broker = broker
        self._loop = loop
        self._most = broker.settings.latency_series
        self._limits = Limits(broker.settings.slow_factor, broker.settings.deaf_seconds)

    async def top(self, limit: int) -> Top:
        """The consumers that are furthest behind, and the agents that need a look most, `limit` of each."""
        counting = self.refresh()
        if counting:
            await asyncio.wait(counting)
        consumers = sorted(self.consumers(), key=lambda row: (-(row.lag or 0), row.topic, row.name))
        agents = sorted(self.agents(), key=lambda row: (_SEVERITY[State(row.state)], -row.work.p90, row.agent))
        return Top(time.time(), len(consumers), consumers[:limit], len(agents), agents[:limit])

    def refresh(self) -> Sequence[asyncio.Task[None]]:
        """Let it be counted how far behind consumers are, where the last count is old. What is under way."""
        counting = [administration.census.refresh(self._most) for administration in self._broker.administrations]
        return [task for task in counting if task is not None]

    # Consumers ------------------------------------------------------------------------------------------------------

    def consumers(self, *, times: bool = True) -> list[ConsumerRow]:
        """The consumers, `latency_series` at most. Without `times` all of those are 0, and it costs less."""
        paces = self._paces() if times else {}
        found: list[ConsumerRow] = []
        for consumer, standing in self._all():
            if len(found) == self._most:
                break
            terms = consumer.terms
            own = paces.get((terms.name, terms.topic), {}).values()
            waits = self._broker.latency.waits_of(terms.name, terms.topic) if times else None
            found.append(
                ConsumerRow(
                    topic=terms.topic,
                    name=terms.name,
                    paused=terms.paused,
                    members=len(consumer.pool.members),
                    lag=None if standing is None else standing.lag,
                    oldest=None if standing is None else standing.oldest,
                    outstanding=outstanding(consumer),
                    waiting=waiting(consumer),
                    acked=consumer.acked,
                    redelivered=consumer.redelivered,
                    dead=consumer.dead,
                    wait=_spread(() if waits is None else waits.recent),
                    work=_spread(_newest([pace.recent for pace in own])),
                    total=_spread(_newest([pace.recent_total for pace in own])),
                )
            )
        return found

    def _all(self) -> Iterator[tuple[Consumer, Standing | None]]:
        for administration, consumers in zip(self._broker.administrations, self._broker.consumers, strict=True):
            standings = administration.census.standings
            for consumer in consumers:
                terms = consumer.terms
                if not is_internal(terms.name):
                    yield consumer, standings.get((terms.topic, terms.name))

    def _paces(self) -> Paces:
        found: Paces = {}
        for work, pace in self._broker.latency.paces():
            found.setdefault((work.consumer, work.topic), {})[work.agent] = pace
        return found

    # Agents ---------------------------------------------------------------------------------------------------------

    def states(self) -> dict[str, int]:
        """How many agents are in each state. One that serves several consumers counts where it needs a look most."""
        worst: dict[str, State] = {}
        for row in self.agents():
            state = State(row.state)
            if row.agent not in worst or _SEVERITY[state] < _SEVERITY[worst[row.agent]]:
                worst[row.agent] = state
        counts = {state.value: 0 for state in State}
        for state in worst.values():
            counts[state.value] += 1
        return counts

    def agents(self) -> list[AgentRow]:
        """Who serves consumers, and who did within the hour and is gone: `latency_series` of each at most."""
        found: list[AgentRow] = []
        paces = self._paces()
        speeds = {key: {agent: _spread(pace.recent) for agent, pace in own.items()} for key, own in paces.items()}
        medians = {key: _usual(own.values()) for key, own in speeds.items()}
        for consumer, _ in self._all():
            by_agent: dict[str, list[Member]] = {}
            for member in consumer.pool.members:
                by_agent.setdefault(member.agent, []).append(member)
            key = (consumer.terms.name, consumer.terms.topic)
            for agent, members in by_agent.items():
                if len(found) == self._most:
                    return found
                pace = paces.get(key, {}).get(agent)
                speed = speeds[key][agent] if pace is not None else _NONE
                acked = 0 if pace is None else pace.work.count
                found.append(self._row(consumer, agent, members, acked, speed, medians.get(key, 0.0)))
        return found + self._gone()

    def _row(
        self, consumer: Consumer, agent: str, members: Sequence[Member], acked: int, speed: Spread, usual: float
    ) -> AgentRow:
        now = time.time()
        leases = [lease for member in members for lease in member.leases.values()]
        extended = min((lease for lease in leases if lease.extended), key=_sent, default=None)
        oldest = min((lease for lease in leases if not lease.extended), key=_sent, default=None)
        sight = Sight(
            connected=True,
            blocked=max(self._blocked(member) for member in members),
            silent=max(self._silent(member) for member in members),
            outstanding=len(leases),
            extended=extended is not None,
            oldest=0.0 if oldest is None else now - oldest.sent,
            ack_wait=0.0 if oldest is None else oldest.member.ack_wait,
            overdue=any(member.overdue for member in members),
            p90=speed.p90,
            median=usual,
        )
        state = state_of(sight, self._limits)
        since, at = min(member.since for member in members), oldest
        match state:
            case State.DEAF:
                since, at = now - max(sight.blocked, sight.silent), None
            case State.BUSY:
                at = extended
        return AgentRow(
            agent=agent,
            topic=consumer.terms.topic,
            consumer=consumer.terms.name,
            state=state.value,
            since=since if at is None else at.sent,
            on=None if at is None else f"{at.place.topic.name}#{at.seq}",
            outstanding=len(leases),
            acked=acked,
            work=speed,
        )

    def _gone(self) -> list[AgentRow]:
        found: list[AgentRow] = []
        here = self._broker.is_here
        for consumers in self._broker.consumers:
            for departure, when in consumers.departures.since(time.time()):
                if len(found) == self._most:
                    return found
                if not here(departure.agent) and consumers.get(departure.topic, departure.consumer) is not None:
                    work = Work(departure.consumer, departure.topic, departure.agent)
                    pace = self._broker.latency.pace_of(work)
                    found.append(
                        AgentRow(
                            agent=departure.agent,
                            topic=departure.topic,
                            consumer=departure.consumer,
                            state=state_of(Sight(connected=False), self._limits).value,
                            since=when,
                            on=None,
                            outstanding=0,
                            acked=0 if pace is None else pace.work.count,
                            work=_spread(() if pace is None else pace.recent),
                        )
                    )
        return found

    def _blocked(self, member: Member) -> float:
        session = member.sink
        if not isinstance(session, Session) or session.writable:
            return 0.0
        return self._loop.time() - session.paused_since

    def _silent(self, member: Member) -> float:
        return self._broker.heartbeat.silence(member.sink) if isinstance(member.sink, Session) else 0.0


def _sent(lease: Lease) -> float:
    return lease.sent


def _usual(speeds: Iterable[Spread]) -> float:
    """What a message usually takes at a consumer: the median of its agents' medians, so that each has one vote.

    0.0 when there is only one, which can't be slower than the others.
    """
    medians = [speed.p50 for speed in speeds if speed.p99]
    return median_low(medians) if len(medians) > 1 else 0.0


def _newest(recents: Sequence[deque[float]]) -> Iterator[float]:
    """Of each agent the newest, `SAMPLE` in all: so many tell as much as all of a thousand agents' would."""
    each = max(1, SAMPLE // max(1, len(recents)))
    for recent in recents:
        yield from islice(reversed(recent), each)


def _spread(values: Iterable[float]) -> Spread:
    ordered = sorted(values)
    if not ordered:
        return _NONE
    last = len(ordered) - 1
    p50, p90, p99 = (ordered[min(last, int(part * len(ordered)))] for part in (0.5, 0.9, 0.99))
    return Spread(p50, p90, p99)
