"""The other workers over HTTP: a request of a client, asked again at one of them with the client's own credential."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import httpx
from starlette.types import Scope

from hubbub_broker.config import Settings
from hubbub_broker.peers import Peers
from hubbub_broker.refusal import Refusal
from hubbub_broker.topology import bare_host
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err

FORWARDED = "x-hubbub-forwarded"
"""The header that says how often a request was sent on. One that was is answered from what is here alone."""

RETRY_SECONDS = 0.5

PATIENCE_SECONDS = 30.0
"""How long a worker may be silent in the middle of an answer, beyond `max_wait`."""

_NOT_SENT = frozenset({b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"expect", FORWARDED.encode()})


class Lost(Exception):
    """A worker could not be asked, or did not answer. `err` is what the client gets."""

    def __init__(self, worker: int, message: str) -> None:
        super().__init__(message)
        self.worker = worker
        self.err = Err(code=ErrorCode.OVERLOADED, message=message, retry_after=RETRY_SECONDS)


class Fellows:
    """The other workers, at their own ports on this machine.

    Those sockets were opened by the supervisor and are inherited, so whoever answers there is one of us: with TLS the
    certificate, which names the broker to its clients, need not name this address too.
    """

    def __init__(self, settings: Settings, peers: Peers) -> None:
        self._peers = peers
        self._waiting: dict[int, set[asyncio.Future[None]]] = {}
        """Who waits for an answer of a worker."""
        peers.on_lost.append(self._lost)
        host = settings.host if settings.host not in ("0.0.0.0", "", "::", "[::]") else _loopback(settings.host)  # noqa: S104
        secure = settings.tls_certificate is not None
        scheme = "https" if secure else "http"
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        self._bases = [f"{scheme}://{bare_host(host)}:{port}" for port in peers.topology.ports]
        self._client = httpx.AsyncClient(
            verify=_unnamed() if secure else False,
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            timeout=httpx.Timeout(
                connect=settings.link_timeout,
                read=settings.max_wait + PATIENCE_SECONDS,
                write=PATIENCE_SECONDS,
                pool=settings.link_timeout,
            ),
        )

    @property
    def home(self) -> int:
        """The home worker."""
        return self._peers.topology.home

    @property
    def own(self) -> int:
        """This worker."""
        return self._peers.topology.own

    @property
    def others(self) -> tuple[int, ...]:
        """The workers besides this one."""
        return self._peers.topology.others

    def is_here(self, worker: int) -> bool:
        """Whether a worker can be reached."""
        return self._peers.is_here(worker)

    async def send(
        self, worker: int, scope: Scope, body: AsyncIterator[bytes] | None, hops: int, query: bytes | None = None
    ) -> httpx.Response:
        """Ask a worker what a client asked here. The answer's body is to be read, and closed, by the caller.

        A worker that is away is waited for, `link_timeout` at most: it is back within a second or two.

        Raises:
            Lost: it is away, or was lost before it answered.
        """
        try:
            await self._peers.reach(worker)
        except Refusal as refusal:
            raise Lost(worker, refusal.message) from None
        raw = scope.get("raw_path") or scope["path"].encode()
        asked = scope["query_string"] if query is None else query
        url = httpx.URL(self._bases[worker], raw_path=raw + (b"?" + asked if asked else b""))
        headers = [(name, value) for name, value in scope["headers"] if name not in _NOT_SENT]
        headers.append((FORWARDED.encode(), b"%d" % hops))
        request = self._client.build_request(scope["method"], url, headers=headers, content=body)
        try:
            return await self._unless_lost(worker, self._client.send(request, stream=True))
        except (httpx.HTTPError, ConnectionError) as error:
            why = str(error) or type(error).__name__
            message = f"worker {worker} was lost before it answered ({why}): whether it did it is not known"
            raise Lost(worker, message) from None

    async def _unless_lost(self, worker: int, sending: Coroutine[Any, Any, httpx.Response]) -> httpx.Response:
        """What is sent, unless the worker is lost first.

        Raises:
            ConnectionError: it was.
        """
        task = asyncio.ensure_future(sending)
        lost = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(worker, set())
        waiting.add(lost)
        try:
            await asyncio.wait((task, lost), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ConnectionError("it hangs, or is gone")
            return task.result()
        finally:
            waiting.discard(lost)
            lost.cancel()
            if not task.done():
                task.cancel()

    def _lost(self, worker: int) -> None:
        for lost in self._waiting.get(worker, ()):
            if not lost.done():
                lost.set_result(None)

    async def close(self) -> None:
        """End all connections."""
        await self._client.aclose()


def _loopback(host: str) -> str:
    return "::1" if ":" in host else "127.0.0.1"


def _unnamed() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
