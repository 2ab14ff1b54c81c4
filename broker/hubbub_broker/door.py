"""The broker as the HTTP routes see it: the same shards, the same checks, with futures in place of a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import time

from prometheus_client.registry import Collector

from hubbub_broker.consumers import ConsumerCollector
from hubbub_broker.guard import Sums
from hubbub_broker.http.api import (
    BudgetEntry,
    HistoryPage,
    PublishRequest,
    Route,
    SessionInfo,
    ShardInfo,
    StoredLine,
    TopicEntry,
)
from hubbub_broker.log import LogError, ShardLog, TopicLog
from hubbub_broker.metrics import Exposition
from hubbub_broker.peers import RemoteShard
from hubbub_broker.policy import TopicPolicy
from hubbub_broker.refusal import Refusal, unreadable
from hubbub_broker.shard import Answer, Lookup, Publisher, part_of
from hubbub_broker.state import StateCollector
from hubbub_protocol.errors import BadName, ErrorCode
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import Err, Ok
from hubbub_protocol.names import check_agent, check_topic, group_of

from .answering import answering
from .broker import Broker
from .watch_metrics import WatchCollector


def _budget(topic: str, used: Sums, policy: TopicPolicy) -> BudgetEntry:
    return BudgetEntry(
        topic,
        used.messages,
        used.bytes,
        used.cost,
        policy.budget_messages,
        policy.budget_bytes,
        policy.budget_cost,
    )


LOOKED_AT = 10_000
"""Messages that one page of a filtered history looks through."""


class Door:
    """Implements `http.api.BrokerApi`."""

    def __init__(self, broker: Broker, *collectors: Collector) -> None:
        """`collectors` have figures for the metrics beside the broker's."""
        self.settings = broker.settings
        self.metrics = broker.metrics
        self.access = broker.access
        self._broker = broker
        self._exposition = Exposition(
            broker,
            ConsumerCollector(broker.consumer_figures, broker.latency),
            WatchCollector(broker.watch),
            StateCollector(broker.state_figures),
            *collectors,
        )
        self._waiting = 0

    async def publish(self, agent: str, requests: Sequence[PublishRequest]) -> Sequence[Ok | Err]:
        """Publish in order, wait until each is durable or refused."""
        several = len(requests) > 1
        answers = [self._publish_one(agent, request, several=several) for request in requests]
        self._waiting += len(answers)
        try:
            return [answer if isinstance(answer, Err) else await answer.wait() for answer in answers]
        finally:
            self._waiting -= len(answers)

    async def history(
        self, topic: str, after: int, limit: int, max_bytes: int, filter: Filter | None = None
    ) -> HistoryPage:
        """A page of a topic's messages, expired ones passed over."""
        with answering():
            return await self._history(check_topic(topic), after, limit, max_bytes, filter)

    async def _history(self, topic: str, after: int, limit: int, max_bytes: int, filter: Filter | None) -> HistoryPage:
        shard = self._broker.shard_of(group_of(topic))
        found = shard.topic(topic)
        log, place = shard.log, found.log
        first = min(log.first_seq(place), found.delivered + 1)
        now = time()
        messages: list[StoredLine] = []
        next = max(after + 1, first)
        last = found.delivered if filter is None else min(found.delivered, next + LOOKED_AT - 1)
        size = 0
        while next <= last and len(messages) < limit and (size < max_bytes or not messages):
            upto = min(last, next + limit - len(messages) - 1)
            chunk = log.read_chunk(place, next, upto, max(1, max_bytes - size))
            if chunk is None:
                await self._warmed(shard.log, place, next, upto, max_bytes)
                continue
            special = chunk.special or {}
            for index, line in enumerate(chunk.lines):
                header_size, expires = special.get(index, (0, 0.0))
                part = part_of(filter, line, header_size) if not expires or expires > now else None
                if part is not None:
                    messages.append(StoredLine(*part))
                    size += len(part[0])
            next = chunk.next
            if filter is not None:
                await asyncio.sleep(0)
        upto = min(next - 1, found.delivered)
        return HistoryPage(shard.log.epoch, found.delivered, first, messages, upto, found.policy.max_age)

    async def find(self, topic: str, id: str, ancestors: int) -> tuple[Sequence[StoredLine], str | None]:
        """A message and its ancestors."""
        lookup = Lookup(self._broker.shard_of(group_of(topic)))
        with answering():
            found = await lookup.lineage(topic, id, None, ancestors, self.settings.max_frame // 2)
        return [StoredLine(one.line, one.header_size) for one in found.messages], found.missing

    async def topics(self, prefix: str, after: str, limit: int) -> Sequence[TopicEntry]:
        """Topics by name, from all shards."""
        found = [
            TopicEntry(info.name, info.head, info.first, info.last_ts, info.bytes)
            for shard in self._broker.shards
            for info in shard.log.topics(prefix, after, limit)
        ]
        return sorted(found, key=lambda entry: entry.topic)[:limit]

    def sessions(self) -> Sequence[SessionInfo]:
        """Who is connected."""
        return sorted(
            (
                SessionInfo(
                    session.agent, session.id, session.since, session.address, session.subscriptions, session.groups
                )
                for session in self._broker.sessions.open
                if session.agent is not None
            ),
            key=lambda info: (info.agent, info.session),
        )

    async def disconnect(self, agent: str) -> int:
        """End the connections of an agent."""
        with answering():
            return await self._broker.disconnect(check_agent(agent))

    def shards(self) -> Sequence[ShardInfo]:
        """The shards of this process."""
        return [
            ShardInfo(
                shard.number,
                shard.log.epoch,
                len(shard.topics),
                shard.log.pending_bytes,
                shard.log.size,
                shard.log.failed,
            )
            for shard in self._broker.shards
        ]

    def route(self, group: str, host: str) -> Route:
        """Where a group lives, for a client that reaches this process as `host`."""
        number = self._broker.number_of(group)
        peers = self._broker.peers
        if peers is None:
            return Route(number)
        secure = self.settings.tls_certificate is not None
        return Route(number, peers.topology.url(peers.topology.worker_of(group), host, secure=secure))

    def budget(self, topic: str) -> BudgetEntry:
        """What a conversation has used."""
        shard = self._broker.shard_of(group_of(topic))
        return _budget(topic, shard.guard.ledger.of(topic), self._broker.policies.of(topic))

    def reset_budget(self, topic: str) -> BudgetEntry:
        """Let it begin again at nothing."""
        shard = self._broker.shard_of(group_of(topic))
        return _budget(topic, shard.guard.ledger.reset(topic), self._broker.policies.of(topic))

    def ready(self) -> Err | None:
        """Whether publishes are taken."""
        if self._broker.sessions.draining:
            return Err(code=ErrorCode.SHUTTING_DOWN, message="the broker is stopping")
        failed = [shard for shard in self._broker.shards if shard.log.failed is not None]
        if failed:
            numbers = ", ".join(str(shard.number) for shard in failed)
            return Err(code=ErrorCode.READ_ONLY, message=f"shards {numbers} are read-only: {failed[0].log.failed}")
        return None

    def render_metrics(self, accept: str) -> tuple[bytes, str]:
        """The metrics now."""
        return self._exposition.render(accept)

    def _publish_one(self, agent: str, request: PublishRequest, *, several: bool) -> Err | Answer:
        """What is another worker's is published there; or, if that is the whole request, it is `Elsewhere`."""
        pub = request.pub
        try:
            check_agent(agent)
            if self._waiting >= self.settings.max_inflight:
                limit = self.settings.max_inflight
                raise Refusal(
                    ErrorCode.OVERLOADED,
                    f"{limit} publishes over HTTP wait, the limit (max_inflight)",
                    0.1,
                    limit="max_inflight",
                )
            way = self._broker.way_to(group_of(check_topic(pub.topic)))
            if several and isinstance(way, RemoteShard):
                answer = Answer(asyncio.get_running_loop())
                way.send("publish_for", Publisher(agent, None, way.topic(pub.topic)), pub, request.payload, answer)
                return answer
            shard, topic = self._broker.sessions.open_topic(pub.topic)
            self._broker.sessions.admit(agent, pub, request.payload)
        except BadName as error:
            refusal = Refusal(ErrorCode.BAD_REQUEST, str(error))
        except Refusal as raised:
            refusal = raised
        else:
            answer = Answer(asyncio.get_running_loop())
            try:
                shard.publish(Publisher(agent, None, topic), pub, request.payload, answer)
            except LogError as error:
                refusal = unreadable(error)
            else:
                return answer
        self.metrics.refuse_publish(refusal, agent, pub.topic)
        return Err(
            code=refusal.code,
            message=refusal.message,
            rid=pub.rid,
            id=pub.id,
            topic=pub.topic,
            retry_after=refusal.retry_after,
        )

    async def _warmed(self, log: ShardLog, place: TopicLog, next: int, upto: int, max_bytes: int) -> None:
        """Wait until what is read next is in memory: the disk must not hold up the loop."""
        warm = asyncio.Event()
        log.warm(place, next, upto, max_bytes, warm.set)
        await warm.wait()
