"""A broker as the HTTP routes see it, in memory: enough to hold them to what they promise."""

import json
from collections.abc import Sequence
from pathlib import Path

from hubbub_broker.access import Access
from hubbub_broker.config import Settings
from hubbub_broker.http import (
    BudgetEntry,
    HistoryPage,
    PublishRequest,
    Refused,
    Route,
    SessionInfo,
    ShardInfo,
    StoredLine,
    TopicEntry,
)
from hubbub_broker.metrics import Metrics
from hubbub_protocol.codec import encode
from hubbub_protocol.errors import BadName, ErrorCode
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import NO_DATA, Err, Msg, Ok
from hubbub_protocol.names import check_topic


class HttpBroker:
    """Keeps what is published, and refuses what it is told to (`refusals`: topic -> err)."""

    def __init__(self, **settings: object) -> None:
        self.settings = Settings.model_validate({"data_dir": Path("unused"), **settings})
        self.metrics = Metrics()
        self.access = Access(self.settings, self.metrics)
        self.published: list[tuple[str, PublishRequest]] = []
        self.lines: dict[str, list[StoredLine]] = {}
        self.refusals: dict[str, Err] = {}
        self.connected: list[SessionInfo] = []
        self.not_ready: Err | None = None
        self.history_asked: list[tuple[str, int, int, int]] = []
        self.topics_asked: list[tuple[str, str, int]] = []
        self.filters_asked: list[Filter | None] = []
        self.fault: Exception | None = None

    async def publish(self, agent: str, requests: Sequence[PublishRequest]) -> list[Ok | Err]:
        return [self._publish(agent, request) for request in requests]

    def _publish(self, agent: str, request: PublishRequest) -> Ok | Err:
        pub = request.pub
        if self.fault is not None:
            raise self.fault
        if pub.topic in self.refusals:
            return self.refusals[pub.topic]
        try:
            check_topic(pub.topic)
        except BadName as error:
            return Err(code=ErrorCode.BAD_REQUEST, message=str(error), id=pub.id)
        self.published.append((agent, request))
        stored = self.lines.setdefault(pub.topic, [])
        seq = len(stored) + 1
        binary = request.payload is not None
        msg = Msg(
            topic=pub.topic,
            id=pub.id,
            sender=agent,
            ts=1.5,
            lc=seq,
            seq=seq,
            data=NO_DATA if binary else pub.data,
            parent=pub.parent,
            headers=pub.headers,
        )
        line = encode(msg)
        stored.append(StoredLine(line + (request.payload or b""), len(line) if binary else 0))
        return Ok(id=pub.id, topic=pub.topic, seq=seq, lc=seq)

    async def history(
        self, topic: str, after: int, limit: int, max_bytes: int, filter: Filter | None = None
    ) -> HistoryPage:
        self.history_asked.append((topic, after, limit, max_bytes))
        if topic in self.refusals:
            raise Refused(self.refusals[topic])
        stored = self.lines.get(topic, [])
        self.filters_asked.append(filter)
        page = stored[after : after + limit]
        return HistoryPage("e1", len(stored), 1, page, after + len(page))

    async def find(self, topic: str, id: str, ancestors: int) -> tuple[Sequence[StoredLine], str | None]:
        by_id = {str(one["id"]): place for place, one in enumerate(self.messages(topic)) if isinstance(one, dict)}
        found: list[StoredLine] = []
        wanted: str | None = id
        while wanted is not None and len(found) <= ancestors:
            if wanted not in by_id:
                return found, wanted if found else None
            place = by_id[wanted]
            found.append(self.lines[topic][place])
            one = self.messages(topic)[place]
            wanted = one.get("parent") if isinstance(one, dict) else None
        return found, None

    async def topics(self, prefix: str, after: str, limit: int) -> list[TopicEntry]:
        self.topics_asked.append((prefix, after, limit))
        names = sorted(name for name in self.lines if name.startswith(prefix) and name > after)
        return [TopicEntry(name, len(self.lines[name]), 1, 1.5, 100) for name in names[:limit]]

    def sessions(self) -> list[SessionInfo]:
        return self.connected

    def shards(self) -> list[ShardInfo]:
        return [ShardInfo(0, "e1", 2, 0, 4096, None), ShardInfo(1, "e2", 0, 9, 10, "the disk is full")]

    def route(self, group: str, host: str) -> Route:
        return Route(7, "ws://elsewhere:1/v1/ws") if group == "far" else Route(3)

    def budget(self, topic: str) -> BudgetEntry:
        return BudgetEntry(topic, len(self.lines.get(topic, ())), 0, 0.0, 10, 0, 0.0)

    async def disconnect(self, agent: str) -> int:
        return sum(one.agent == agent for one in self.sessions())

    def reset_budget(self, topic: str) -> BudgetEntry:
        return self.budget(topic)

    def ready(self) -> Err | None:
        return self.not_ready

    def render_metrics(self, accept: str) -> tuple[bytes, str]:
        return b"# accept " + accept.encode(), "text/plain; version=9"

    def messages(self, topic: str) -> list[object]:
        """What was stored in `topic`, decoded; binary ones only their header."""
        return [
            json.loads(stored.line[: stored.header_size] if stored.header_size else stored.line)
            for stored in self.lines.get(topic, [])
        ]
