"""HTTP requests that are another worker's: sent on to it as they came, and its answer streamed back.

A request is tried here. Where a route finds that what it is about belongs to another worker (`Elsewhere`), nothing was
done yet, and the whole request goes there, with the caller's own credential: the owner decides who may do what, as if
the caller had come there by itself. What needs the register goes to the home worker at once; lists are put together
from all workers (`gather`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hubbub_broker.access import Access, Denied
from hubbub_broker.bus import RegisterCopy
from hubbub_broker.http import ELSEWHERE_HEADER, OPEN_PATHS, introduce, response_to
from hubbub_broker.logs import get_logger
from hubbub_broker.refusal import Refusal
from hubbub_protocol.errors import BadName, ErrorCode
from hubbub_protocol.frames import Err
from hubbub_protocol.names import check_agent

from .fellows import FORWARDED, Fellows, Lost
from .gather import Gather

LARGE = "/v1/blobs/"
"""Below this are bodies that are larger than should be held."""

HOPS_MAX = 2
"""A request may go home first, and from there to its owner; more would be going round."""

INBOX = "/api/inbox/"

AT_HOME = frozenset({"/.well-known/agent-card.json", "/api/send", "/docs", "/openapi.json", "/v1/agents"})
BELOW_HOME = ("/v1/agents/", "/v1/control/")
"""What is asked of the home worker at once: it has the register and the control plane, and so all of the reference."""

log = get_logger(__name__)


class Forward:
    """ASGI middleware around everything that a worker serves.

    Args:
        app: what serves what is here.
        access: who may do what.
        fellows: the other workers, over HTTP.
        register: the copy of the register; None at the home worker.
        counted: called for each request that is sent on.
    """

    def __init__(
        self, app: ASGIApp, access: Access, fellows: Fellows, register: RegisterCopy | None, counted: Callable[[], None]
    ) -> None:
        self._app = app
        self._access = access
        self._fellows = fellows
        self._register = register
        self._counted = counted
        self._gather = Gather(app, fellows)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve here, or have it served."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._is_known(scope):
            await self._app(scope, receive, send)
            return
        hops = Headers(scope=scope).get(FORWARDED, "0")
        if hops == "0" and self._gather.takes(scope):
            await self._gather(scope, receive, send)
            return
        try:
            worker = await self._before(scope)
        except Refusal as refusal:
            err = Err(code=refusal.code, message=refusal.message, retry_after=refusal.retry_after)
            await response_to(err)(scope, receive, send)
            return
        sent = dict(scope)  # the app takes the credential out of the query
        body = _Body(receive, keep=not scope["path"].startswith(LARGE))
        if worker is None:
            worker = await self._try_here(scope, body, send)
        if worker is not None:
            await self._send_on(worker, int(hops) if hops.isdecimal() else HOPS_MAX, sent, body, send)

    def _is_known(self, scope: Scope) -> bool:
        """Whether anything is to be asked of others for a request: not for whom the app turns away."""
        if scope["path"] in OPEN_PATHS:
            return True
        try:
            introduce(scope, self._access, scope["query_string"].decode("latin-1"), counted=False)
        except Denied:
            return False
        return True

    async def _before(self, scope: Scope) -> int | None:
        """Who has to be asked, of what can't be tried here at all."""
        if self._register is None:
            return None
        path = scope["path"]
        if path in AT_HOME or path.startswith(BELOW_HOME):
            return self._fellows.home
        if path.startswith(INBOX):
            name = path[len(INBOX) :].partition("/")[0]
            try:
                known = await self._register.look_up(check_agent(name))
            except BadName:
                return None  # it is refused here as well as there
            return None if known is not None else self._fellows.home
        return None

    async def _try_here(self, scope: Scope, body: _Body, send: Send) -> int | None:
        """Serve it here. The worker that it belongs to, if it is none of this one's: then nothing was sent."""
        elsewhere: int | None = None

        async def watched(message: Message) -> None:
            nonlocal elsewhere
            if message["type"] == "http.response.start":
                for name, value in message["headers"]:
                    if name == ELSEWHERE_HEADER and value:
                        elsewhere = int(value)
            if elsewhere is None:
                await send(message)

        await self._app(scope, body.receive, watched)
        return elsewhere

    async def _send_on(self, worker: int, hops: int, scope: Scope, body: _Body, send: Send) -> None:
        if hops >= HOPS_MAX:
            err = Err(code=ErrorCode.OVERLOADED, message="the workers don't agree on whose this is", retry_after=1.0)
            await response_to(err)(scope, body.receive, send)
            return
        self._counted()
        if scope["path"] in OPEN_PATHS:  # whoever asks may be anybody, and nobody waits for what they still send
            scope = {**scope, "headers": [each for each in scope["headers"] if each[0] not in _BODY_HEADERS]}
        try:
            answer = await self._fellows.send(worker, scope, body.whole() if _has_body(scope) else None, hops + 1)
        except Lost as lost:
            await response_to(lost.err)(scope, body.receive, send)
            return
        try:
            await send({"type": "http.response.start", "status": answer.status_code, "headers": _kept(answer)})
            await _until_gone(_stream(answer, send), body)
        finally:
            await answer.aclose()


class _Body:
    """A request's body, which the app may have read before it is sent on.

    `keep`: it may. What is large is not kept, since its routes say whose it is before they read anything.
    """

    def __init__(self, receive: Receive, *, keep: bool) -> None:
        self._receive = receive
        self._keep = keep
        self._read: list[bytes] = []
        self._more = True
        self.gone = False
        """Whether the client has left."""

    async def receive(self) -> Message:
        """What the app reads."""
        message = await self._next()
        if self._keep and message["type"] == "http.request":
            self._read.append(message.get("body", b""))
        return message

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._more = message.get("more_body", False)
        else:
            self._more = False
            self.gone = True
        return message

    async def whole(self) -> AsyncIterator[bytes]:
        """All of it: what was read, then what is left."""
        for part in self._read:
            yield part
        self._read.clear()
        while self._more:
            message = await self._next()
            if message["type"] != "http.request":
                return
            yield message.get("body", b"")

    async def left(self) -> None:
        """Wait until the client has left."""
        while not self.gone:
            await self._next()


async def _until_gone(streaming: AsyncIterator[None], body: _Body) -> None:
    """Stream for as long as the client is there."""

    async def run() -> None:
        async for _ in streaming:
            pass

    tasks = [asyncio.ensure_future(run()), asyncio.ensure_future(body.left())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _stream(answer: httpx.Response, send: Send) -> AsyncIterator[None]:
    try:
        async for part in answer.aiter_raw():
            await send({"type": "http.response.body", "body": part, "more_body": True})
            yield
    except httpx.HTTPError as error:
        log.warning("answer of another worker cut off", reason=str(error) or type(error).__name__)
        if "content-length" in answer.headers:
            raise  # half of it must not look like all: the connection is cut
    await send({"type": "http.response.body", "body": b""})


_BODY_HEADERS = frozenset({b"content-length", b"content-type", b"transfer-encoding"})


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


_HOP_BY_HOP = frozenset({b"connection", b"date", b"keep-alive", b"transfer-encoding"})


def _kept(answer: httpx.Response) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _HOP_BY_HOP]
