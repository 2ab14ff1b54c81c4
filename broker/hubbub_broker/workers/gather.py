"""Lists of what there is, put together from all workers: one answer as of one broker.

A list is whole or refused: while a worker is away there is no telling what it has. Metrics are the exception: what
there is of them is shown, and `hubbub_worker_up` says of whom.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import httpx
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hubbub_broker.consumers import State
from hubbub_broker.http import response_to

from .exposition import join
from .fellows import FORWARDED, Fellows, Lost

SESSIONS_PAGE = 10_000
CONSUMERS_PAGE = 1000
"""What one request is answered at most: see `http.catalogue` and `http.consumers`."""

Query = dict[str, str]
Body = dict[str, Any]


class Answer(NamedTuple):
    """What one worker answered."""

    worker: int
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Refused(Exception):
    """One of them refused: that is the answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


Ask = Callable[[Query], Awaitable[list[Body]]]
"""Asks all workers with such a query; their answers."""


class Gather:
    """Answers the requests that are about all workers."""

    def __init__(self, app: ASGIApp, fellows: Fellows) -> None:
        self._app = app
        self._fellows = fellows
        self._lists: dict[str, Callable[[Ask, Query], Awaitable[Body]]] = {
            "/v1/topics": _topics,
            "/v1/sessions": _sessions,
            "/v1/shards": _shards,
            "/v1/consumers": _consumers,
            "/v1/top": _top,
        }

    def takes(self, scope: Scope) -> bool:
        """Whether a request is about all workers."""
        path = scope["path"]
        if scope["method"] != "GET":
            return False
        return path in self._lists or path in ("/metrics", "/v1/ready") or path.startswith("/v1/receipts/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask everybody, and answer once."""
        try:
            if scope["path"] == "/metrics":
                response = await self._metrics(scope)
            elif scope["path"] == "/v1/ready":
                response = _plain((await self._all(scope, None))[0])
            else:
                response = await self._list(scope)
        except Refused as refused:
            response = _plain(refused.answer)
        except Lost as lost:
            response = response_to(lost.err)
        await response(scope, receive, send)

    async def _list(self, scope: Scope) -> Response:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        headers: list[tuple[bytes, bytes]] = []

        async def ask(asked: Query) -> list[Body]:
            answers = await self._all(scope, asked)
            headers[:] = answers[0].headers
            return [json.loads(answer.body) for answer in answers]

        body = await self._lists.get(scope["path"], _receipts)(ask, query)
        answer = Answer(self._fellows.own, 200, headers, json.dumps(body, separators=(",", ":")).encode())
        return _plain(answer)

    async def _metrics(self, scope: Scope) -> Response:
        own = await self._here(scope, None)
        if own.status != 200:
            return _plain(own)
        there = [worker for worker in self._fellows.others if self._fellows.is_here(worker)]
        found = await asyncio.gather(*(self._there(worker, scope, None) for worker in there), return_exceptions=True)
        texts = {own.worker: own.body.decode()}
        for answer in found:
            if isinstance(answer, Answer) and answer.status == 200:
                texts[answer.worker] = answer.body.decode()
        up = {worker: worker in texts for worker in sorted((own.worker, *self._fellows.others))}
        return _plain(own._replace(body=join(texts, up).encode()))

    # Asking ---------------------------------------------------------------------------------------------------------

    async def _all(self, scope: Scope, query: Query | None) -> list[Answer]:
        """Every worker's answer, this one's first.

        Raises:
            Refused: one of them refused.
            Lost: one of them is away.
        """
        own = await self._here(scope, query)
        if own.status != 200:
            raise Refused(own)
        answers = [own, *await asyncio.gather(*(self._there(each, scope, query) for each in self._fellows.others))]
        for answer in answers:
            if answer.status != 200:
                raise Refused(answer)
        return answers

    async def _here(self, scope: Scope, query: Query | None) -> Answer:
        status, headers, parts = 500, [], []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message["headers"])
            else:
                parts.append(message.get("body", b""))

        own = dict(scope)
        own["headers"] = [*_asking(scope), (FORWARDED.encode(), b"1")]
        own["state"] = dict(scope.get("state", {}))
        if query is not None:
            own["query_string"] = urlencode(query).encode()
        await self._app(own, receive, send)
        return Answer(self._fellows.own, status, headers, b"".join(parts))

    async def _there(self, worker: int, scope: Scope, query: Query | None) -> Answer:
        asked = dict(scope)
        asked["headers"] = _asking(scope)
        encoded = None if query is None else urlencode(query).encode()
        response = await self._fellows.send(worker, asked, None, 1, encoded)
        try:
            body = await response.aread()
        except httpx.HTTPError as error:
            raise Lost(worker, f"worker {worker} was lost while it answered: {error}") from None
        finally:
            await response.aclose()
        return Answer(worker, response.status_code, response.headers.raw, body)


_BODILY = frozenset({b"accept-encoding", b"content-length", b"content-type", b"transfer-encoding"})
_RECOMPUTED = frozenset({b"content-length", b"date", b"connection", b"transfer-encoding", b"content-encoding"})


def _asking(scope: Scope) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in scope["headers"] if name not in _BODILY]


def _plain(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    own = [(name, value) for name, value in response.raw_headers if name == b"content-length"]
    response.raw_headers = [(n.lower(), v) for n, v in answer.headers if n.lower() not in _RECOMPUTED] + own
    return response


# Putting together ---------------------------------------------------------------------------------------------------


async def _topics(ask: Ask, query: Query) -> Body:
    """A page by name: up to where every worker has told all that it has."""
    pages = await ask(query)
    horizon = min((page["next"] for page in pages if page["next"] is not None), default=None)
    topics = sorted((topic for page in pages for topic in page["topics"]), key=lambda topic: topic["topic"])
    if horizon is not None:
        topics = [topic for topic in topics if topic["topic"] <= horizon]
    limit = int(query.get("limit") or 100)
    if len(topics) > limit:
        topics = topics[:limit]
        horizon = topics[-1]["topic"]
    return {"topics": topics, "next": horizon}


async def _sessions(ask: Ask, query: Query) -> Body:
    offset, limit = int(query.get("offset") or 0), int(query.get("limit") or 1000)
    found, total = await _first(ask, query, "sessions", offset + limit, SESSIONS_PAGE)
    found.sort(key=lambda session: (session["agent"], session["session"]))
    return {"sessions": found[offset : offset + limit], "total": total}


async def _consumers(ask: Ask, query: Query) -> Body:
    offset, limit = int(query.get("offset") or 0), int(query.get("limit") or 100)
    found, total = await _first(ask, query, "consumers", offset + limit, CONSUMERS_PAGE)
    found.sort(key=lambda consumer: (consumer["topic"], consumer["name"]))
    return {"consumers": found[offset : offset + limit], "total": total}


async def _first(ask: Ask, query: Query, what: str, wanted: int, page: int) -> tuple[list[Body], int]:
    """The first items of each worker, `wanted` of each, and how many there are in all."""
    found: list[Body] = []
    total = 0
    for begin in range(0, max(1, wanted), page):
        pages = await ask({**query, "offset": str(begin), "limit": str(max(1, min(page, wanted - begin)))})
        total = sum(each["total"] for each in pages)
        found += [item for each in pages for item in each[what]]
        if all(each["total"] <= begin + page for each in pages):
            break
    return found, total


async def _shards(ask: Ask, query: Query) -> Body:
    shards = [shard for page in await ask(query) for shard in page["shards"]]
    return {"shards": sorted(shards, key=lambda shard: shard["shard"])}


async def _receipts(ask: Ask, query: Query) -> Body:
    receipts = [receipt for page in await ask(query) for receipt in page["receipts"]]
    return {"receipts": sorted(receipts, key=lambda one: (one["publisher"], one["topic"], one["consumer"] or ""))}


_SEVERITY = {state.value: place for place, state in enumerate(State)}


async def _top(ask: Ask, query: Query) -> Body:
    pages = await ask(query)
    limit = int(query.get("limit") or 20)
    consumers = _flat(pages, "consumers")
    consumers.sort(key=lambda row: (-(row["lag"] or 0), row["topic"], row["name"]))
    agents = _flat(pages, "agents")
    agents.sort(key=lambda row: (_SEVERITY[row["state"]], -row["work"]["p90"], row["agent"]))
    return {
        **pages[0],
        "consumers": consumers[:limit],
        "consumers_total": sum(page["consumers_total"] for page in pages),
        "agents": agents[:limit],
        "agents_total": sum(page["agents_total"] for page in pages),
    }


def _flat(pages: Sequence[Body], what: str) -> list[Body]:
    return [row for page in pages for row in page[what]]
