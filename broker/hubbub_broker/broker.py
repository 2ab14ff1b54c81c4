"""The broker: a process's shards and sessions, put together. It listens to nothing itself (see `server`)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from typing import Any

from hubbub_broker.access import Access
from hubbub_broker.bus import Bus, RegisterCopy
from hubbub_broker.config import Settings
from hubbub_broker.consumers import Administration, ConsumerFigures, Consumers, Latency
from hubbub_broker.guard import EVENTS_TOPIC, Guard
from hubbub_broker.log import DataDirectory, LogError, LogSettings, Retention, ShardLog, Syncer
from hubbub_broker.logs import get_logger
from hubbub_broker.metrics import BrokerGauges, Metrics, ShardGauges
from hubbub_broker.peers import Peers, Way
from hubbub_broker.policy import Override
from hubbub_broker.schema import NO_SCHEMAS, Schemas
from hubbub_broker.session import Gate, Heartbeat, Sessions
from hubbub_broker.shard import CatchUp, Shard
from hubbub_broker.state import StateFigures, States
from hubbub_protocol.errors import CloseCode
from hubbub_protocol.names import group_of
from hubbub_protocol.routing import shard_of

from .patience import Patience
from .rules import KEPT_IN, Rules
from .ticker import Ticker
from .watch import Watch
from .workers.services import Services
from .workers.shared_rules import RulesFollower, RulesTeller

log = get_logger(__name__)

HOLD_TICK = 0.05
"""Seconds between looks at held-back messages: how much later than `hold_seconds` an orphan may go out."""
CONSUMER_TICK = 0.02
"""Seconds between looks at leases and waits that are over: how much later than their time that is noticed."""
EXPIRY_TICK = 0.05
"""Seconds between looks at keys that go by themselves: how much later than their time that may be."""
CROWD_TICK = 0.05
"""Seconds between looks at shards that hold far too many topics: 20,000 a second of each can go."""
LOOP_PROBE = 0.1
"""Seconds between measurements of the loop's delay."""


class Broker:
    """Opens a data directory and serves its topics until it is closed.

    Raises:
        LogError: from `Broker(...)`, if the directory is in use, can't be read, or belongs to another configuration.
        BadKey: from `Broker(...)`, if a file of keys or tokens can't be used.
    """

    def __init__(
        self,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        peers: Peers | None = None,
        own_credential: str | None = None,
    ) -> None:
        """`peers` are the other workers that share the data directory, if there are any; `own_credential` is what the
        broker's own control plane shows at each of them.
        """
        self.settings = settings
        self.peers = peers
        self.metrics = Metrics()
        self.started = time.time()
        self._loop = loop
        self.access = Access(settings, self.metrics, own=own_credential)
        if peers is None:
            self._directory = DataDirectory.open(settings.data_dir, shards=settings.shards)
        else:  # the supervisor has locked it for all workers
            self._directory = DataDirectory.join(settings.data_dir)
        self._syncer = Syncer(settings.sync_threads)
        self.catch_up = CatchUp(loop, self.metrics)
        policies = settings.policies()
        self.policies = policies
        self.schemas = NO_SCHEMAS
        """In force, as `policies` are: what is set at run time changes both."""
        self._by_number = self._open_shards()
        self.shards = [shard for shard in self._by_number if shard is not None]
        self.guard = Guard(settings, self.metrics, loop.time, self._announce, loop.call_soon)
        for shard in self.shards:
            shard.guard.report = self.guard.events.report
            shard.guard.mail = self.guard.mail
        self.latency = Latency(settings.latency_series)
        self.consumer_figures = ConsumerFigures()
        self.sessions = Sessions(
            settings,
            self.metrics,
            self.shards,
            self.shard_of,
            self.catch_up,
            self.guard,
            self.consumers_of,
            self.access,
        )
        self.services = None if peers is None else Services(self, peers)
        tell = self.sessions.tell if self.services is None else self.services.tell
        self.consumers = [
            Consumers(shard, settings, self.metrics, self.consumer_figures, self.latency, tell, loop)
            for shard in self.shards
        ]
        self.administrations = [Administration(consumers, loop) for consumers in self.consumers]
        self._places = {shard.number: place for place, shard in enumerate(self.shards)}
        self.sessions.on_agent = self._agent_came
        self.sessions.way_to = self.way_to
        self.bus = self.sessions.bus = Bus(
            settings,
            self.shard_of,
            self.consumers_of,
            self.sessions,
            self.is_here,
            loop,
            peers=peers,
            way_to=self.way_to,
            greeted=self.sessions.agents,
        )
        if peers is not None and self.services is not None:
            copy = self.bus.agents if isinstance(self.bus.agents, RegisterCopy) else None
            self.sessions.gate = Gate(peers, self.access, copy, secure=settings.tls_certificate is not None)
            self.sessions.on_gone = self.services.left
        self.state_figures = StateFigures()
        self.states = [States(shard, settings, self.state_figures, loop) for shard in self.shards]
        self.sessions.states_of = self.states_of
        self.rules = Rules(settings, policies, self._follow)
        self.rules_follower = self._serve_rules()
        self.heartbeat = Heartbeat(self.sessions, loop.time)
        self.watch = Watch(self, loop)
        self._tickers: list[Ticker] = []
        self._commits: set[asyncio.Task[None]] = set()
        self._retention: asyncio.Task[None] | None = None
        self._probe_due = 0.0
        self._closed = False

    def _open_shards(self) -> list[Shard | None]:
        """The shards by number; None stands for another worker's."""
        settings, policies = self.settings, self.policies
        log_settings = LogSettings(
            segment_bytes=settings.segment_bytes,
            segment_topics=settings.segment_topics,
            unsealed_segments=settings.unsealed_segments,
            dedup_entries=settings.dedup_entries,
            dedup_window=max([settings.dedup_window, *(rule.dedup_window for rule in policies.rules)]),
            min_free_bytes=settings.min_free_bytes,
            retention_bytes=settings.retention_bytes,
        )
        return [
            Shard(
                number,
                ShardLog.open(self._directory.shard(number), log_settings, self._syncer),
                settings,
                policies,
                self.metrics,
                self.catch_up,
                self._loop,
            )
            if self.peers is None or self.peers.topology.owns(number)
            else None
            for number in range(self._directory.shards)
        ]

    def _serve_rules(self) -> RulesFollower | None:
        """Go by what is set at run time: by the state that is here, or by what the home worker tells of it."""
        peers = self.peers
        if peers is not None and not peers.topology.is_home:
            return RulesFollower(self.rules, peers)
        states = self.states_of(KEPT_IN)
        self.rules.serve(states)
        if peers is not None:
            self.sessions.answer_change = RulesTeller(states, peers, self._loop).answer_later
        return None

    def shard_of(self, group: str) -> Shard:
        """The shard that owns a group's topics.

        Raises:
            Elsewhere: it is another worker's.
        """
        shard = self._by_number[shard_of(group, len(self._by_number))]
        if shard is None:
            assert self.peers is not None
            raise self.peers.elsewhere(group)
        return shard

    def number_of(self, group: str) -> int:
        """The number of the shard that owns a group's topics, whoever has it."""
        return shard_of(group, len(self._by_number))

    def way_to(self, group: str) -> Way:
        """How to publish to a group's topics, wherever they are."""
        number = self.number_of(group)
        shard = self._by_number[number]
        if shard is None:
            assert self.peers is not None
            return self.peers.way_to(number % self.peers.topology.workers)
        return shard

    def consumers_of(self, group: str) -> Consumers:
        """The consumers of a group's topics. Raises as `shard_of`."""
        return self.consumers[self._places[self.shard_of(group).number]]

    def states_of(self, group: str) -> States:
        """The states of a group, and of its conversations."""
        return self.states[self._places[self.shard_of(group).number]]

    def administration_of(self, group: str) -> Administration:
        """What operators ask of the consumers of a group's topics. Raises as `shard_of`."""
        return self.administrations[self._places[self.shard_of(group).number]]

    def _follow(self, overrides: Iterable[Override], schemas: Schemas) -> None:
        """Let these run-time policies and schemas hold, and no others, from the next message on."""
        self.policies = self.policies.with_overrides(overrides)
        self.schemas = schemas
        for shard in self.shards:
            shard.follow(self.policies, schemas)
        for session in self.sessions.open:
            session.forget_publishers()

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    # Life -----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the work that recurs: heartbeats, hold-back, retention, probes."""
        self._probe_due = self._loop.time() + LOOP_PROBE
        self._tickers = [
            Ticker(self._loop, self.heartbeat.period, self.heartbeat.visit),
            Ticker(self._loop, HOLD_TICK, self._release_overdue),
            Ticker(self._loop, CONSUMER_TICK, self._tick_consumers),
            Ticker(self._loop, EXPIRY_TICK, self._expire_states),
            Ticker(self._loop, CROWD_TICK, self._let_go_of_crowds),
            Ticker(self._loop, 1.0, self._look_after_shards),
            Ticker(self._loop, LOOP_PROBE, self._probe_loop),
            Ticker(self._loop, 1.0, self._refresh_keys),
            Ticker(self._loop, 1.0, self.metrics.refusal_log.sweep),
            Ticker(self._loop, self.settings.budget_interval, self._keep_budgets),
        ]
        for states in self.states:
            states.begin()
        self.bus.mail.resume()
        if self.settings.retention_interval:
            self._retention = self._loop.create_task(self._enforce_retention(), name="retention")

    async def drain(self, patience: Patience) -> None:
        """Leave without losing anything: what was accepted is made durable and answered, and every client is told.

        1. New publishes are refused (`shutting_down`); new connections are turned away (1013).
        2. Every client gets a `goaway` with a time to come back of its own, so that they don't all come at once.
        3. What is pending is committed, delivered and answered. Consumers give nothing more out.
        4. Every socket is closed (4001) and, for as long as there is patience, waited for.
        5. What was acked meanwhile is written, too.

        Whose socket is open then has had its time: the server cuts it off.
        """
        self.sessions.draining = True
        for consumers in self.consumers:
            consumers.stop()
        spread = self.settings.reconnect_spread
        for session in list(self.sessions.open):
            session.go_away("shutdown", round(random.uniform(0, spread), 3))
        for shard in self.shards:
            shard.sequencer.release_all()
        await asyncio.gather(*(consumers.flush() for consumers in self.consumers))
        await asyncio.gather(*(shard.batch.settle() for shard in self.shards))
        self._keep_budgets()
        await asyncio.gather(*self._commits)
        for session in list(self.sessions.open):
            session.close(CloseCode.SHUTDOWN, "the broker is stopping")
        await patience.wait_for(self.sessions.all_gone())
        await asyncio.gather(*(consumers.flush() for consumers in self.consumers))

    async def close(self) -> None:
        """Stop everything and let go of the directory. Idempotent. `drain` comes before it, unless in a hurry."""
        if self._closed:
            return
        self._closed = True
        for ticker in self._tickers:
            ticker.stop()
        if self._retention is not None:
            self._retention.cancel()
            await asyncio.wait([self._retention])
        for administration in self.administrations:
            administration.close()

        await self.bus.close()
        if self.peers is not None:
            await self.peers.close()
        for consumers in self.consumers:
            consumers.close()
        await asyncio.gather(*self._commits)
        for shard in self.shards:
            shard.log.close()
        self._syncer.close()
        self._directory.close()

    # Recurring work -------------------------------------------------------------------------------------------------

    def _release_overdue(self) -> None:
        for shard in self.shards:
            if shard.sequencer.holding:
                shard.sequencer.release_overdue()

    def _expire_states(self) -> None:
        for states in self.states:
            states.expire()

    def _tick_consumers(self) -> None:
        for consumers in self.consumers:
            consumers.tick()

    def is_here(self, agent: str) -> bool:
        """Whether an agent is connected now, to whichever worker."""
        return bool(self.sessions.of(agent)) if self.services is None else self.services.is_online(agent)

    async def disconnect(self, agent: str) -> int:
        """End the connections of an agent, to whichever worker: an operator wants that. How many there were.

        Raises:
            Refusal: a worker does not answer.
        """
        count = self.sessions.disconnect(agent)
        if self.services is not None:
            count += await self.services.disconnect(agent)
        log.info("agent disconnected", agent=agent, connections=count)
        return count

    def _agent_came(self, agent: str) -> None:
        self.tell_receipts(agent)
        if self.services is not None:
            self.services.came(agent)

    def tell_receipts(self, agent: str) -> None:
        """An agent is there, here or at another worker: it is told what it missed."""
        for consumers in self.consumers:
            consumers.receipts.greeted(agent)

    def _let_go_of_crowds(self) -> None:
        for shard in self.shards:
            if shard.crowded:
                shard.let_go(time.time())

    def _look_after_shards(self) -> None:
        now = time.time()
        for consumers in self.consumers:
            consumers.receipts.age(now)
        self.bus.mail.age(now)
        for shard in self.shards:
            shard.let_go(now)
            if shard.log.failed is not None and shard.log.recheck():
                log.info("shard writes again", shard=shard.number)

    def _refresh_keys(self) -> None:
        """Keys may have been changed: what was known by one that is gone ends."""
        if not self.access.refresh():
            return
        for session in list(self.sessions.open):
            if session.identity is not None and not self.access.in_force(session.identity):
                session.close(CloseCode.TOKEN_EXPIRED, "the key of the token is not in force any more")

    def _keep_budgets(self) -> None:
        for shard in self.shards:
            if shard.keep_budgets():
                task = self._loop.create_task(self._commit(shard), name="budgets")
                self._commits.add(task)
                task.add_done_callback(self._commits.discard)

    async def _commit(self, shard: Shard) -> None:
        try:
            await shard.log.flush()
        except LogError as error:
            log.warning("budgets not kept", shard=shard.number, reason=str(error))
            shard.guard.ledger.write_again()

    def _announce(self, type: str, data: dict[str, Any]) -> None:
        """Tell operators, on the topic that is theirs."""
        self.announce(EVENTS_TOPIC, type, data)

    def announce(self, topic: str, type: str, data: dict[str, Any]) -> None:
        """Publish a message of the broker's own, wherever its topic is. What can't be taken now is lost, and logged."""
        try:
            self.way_to(group_of(topic)).announce(topic, type, data)
        except LogError as error:
            log.warning("event lost", reason=str(error), rule=data.get("rule"), sender=data.get("sender"))

    def _probe_loop(self) -> None:
        now = self._loop.time()
        self.metrics.loop_delay.observe(max(0.0, now - self._probe_due))
        self._probe_due = now + LOOP_PROBE

    async def _enforce_retention(self) -> None:
        while True:
            await asyncio.sleep(self.settings.retention_interval)
            for shard in self.shards:
                try:
                    dropped = await shard.log.enforce_retention(self._retention_of, time.time())
                except (LogError, OSError):
                    log.exception("retention failed", shard=shard.number)
                    continue
                if dropped:
                    log.info("retention dropped segments", shard=shard.number, segments=len(dropped))

    def _retention_of(self, topic: str) -> Retention:
        policy = self.policies.of(topic)
        return Retention(policy.max_age, policy.max_bytes, policy.max_count)

    # For the metrics (MetricsSource) --------------------------------------------------------------------------------

    def gauges(self) -> BrokerGauges:
        """The state of the process now."""
        return BrokerGauges(
            connections=len(self.sessions.open),
            subscriptions=sum(session.subscriptions for session in self.sessions.open),
            held=sum(shard.sequencer.held for shard in self.shards),
            lagging=self.catch_up.behind,
            largest_lag=self.catch_up.largest_lag,
            policies=len(self.policies.overrides),
            schemas=len(self.schemas),
            rules_skipped=len(self.rules.skipped),
        )

    def shard_gauges(self) -> Iterable[ShardGauges]:
        """The state of each shard now."""
        for shard in self.shards:
            yield ShardGauges(
                number=shard.number,
                topics=len(shard.topics),
                pending_bytes=shard.log.pending_bytes,
                log_bytes=shard.log.size,
                failed=shard.log.failed,
                log=shard.log.stats,
                held_bytes=shard.sequencer.held_bytes,
            )
