"""The server: one port for HTTP and WebSocket, from the first byte to the last. uvicorn does the HTTP.

Stopping (SIGTERM, SIGINT) is this list, in this order:

    0  end the control plane that runs beside it
    1  stop listening
    2  drain: refuse what is new, tell every client when to come back, commit and answer what was accepted, close
    3  end HTTP
    4  close the shards' logs and let go of the directory

Clients that close in order (2) and HTTP requests under way (3) are waited for, `shutdown_grace` at most. A second
signal skips that, not the closing: what was accepted is committed all the same.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

import uvicorn
from fastapi import APIRouter
from prometheus_client.registry import Collector
from starlette.types import ASGIApp

from hubbub_broker.addresses import Addresses
from hubbub_broker.bus import RegisterCopy
from hubbub_broker.config import Settings
from hubbub_broker.http import HttpConnection, create_app, rules_routes, state_routes
from hubbub_broker.logs import get_logger
from hubbub_broker.peers import Peers
from hubbub_broker.session import WebSocketConnection
from hubbub_broker.tls import Certificate

from .broker import Broker
from .bus_door import BusDoor
from .door import Door
from .open_files import raise_limit
from .operator_door import OperatorDoor
from .patience import Patience
from .rules_door import RulesDoor
from .state_door import StateDoor
from .ticker import Ticker

if TYPE_CHECKING:
    from .workers.fellows import Fellows

log = get_logger(__name__)

BACKLOG = 4096
"""Connections that may wait to be accepted: a thousand agents come back at once after a restart."""

_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is listened on, not listening


_CUT_TURNS = 5
"""Turns of the loop in which what was accepted in the last one is told to us, and ended."""


class Companion(Protocol):
    """What runs beside the broker in its process, and is a client of it: the control plane."""

    def routers(self) -> Sequence[APIRouter]:
        """Its routes, to be mounted into the broker's HTTP API."""

    def collector(self) -> Collector:
        """Its figures, for the broker's metrics."""

    def start(self, url: str, credential: str) -> None:
        """The broker listens at `url`, and knows whoever shows `credential` as its control plane. Waits for nothing."""

    async def stop(self) -> None:
        """The broker is about to stop."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a worker has from its supervisor."""

    peers: Peers
    listeners: list[socket.socket]
    """The public one, then the worker's own: bound, and listening."""
    restarts: int
    """How often this worker was started again."""
    own_credential: str
    """What the broker's control plane shows at every worker."""
    joined: Callable[[Broker], Awaitable[None]]
    """Awaited when the data are open, before any connection is taken."""


class Server:
    """A broker that listens. `async with Server(settings) as server:` serves until the block ends.

    Raises:
        OSError: from entering, if the address can't be had.
        LogError: from entering, if the data directory can't.
        BadKey, BadCertificate: from entering, if a file of keys, tokens or for TLS can't be used.
    """

    def __init__(self, settings: Settings, companion: Companion | None = None, site: Site | None = None) -> None:
        """`companion` runs beside it; `site` makes it one worker of several."""
        self.settings = settings
        self.site = site
        self._companion = companion
        self.broker: Broker
        self.port = settings.port
        self._http: uvicorn.Server
        self._clock: Ticker
        self._certificate: Certificate | None = None
        self._fellows: Fellows | None = None
        self._patience = Patience(max(0.1, settings.shutdown_grace))

    def hurry(self) -> None:
        """Let a stop, under way or to come, wait for no client."""
        self._patience.lose()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        site = self.site
        listeners = [listen(self.settings.host, self.settings.port)] if site is None else site.listeners
        try:
            self.port = listeners[0].getsockname()[1]
            if site is None:
                self.broker = Broker(self.settings, loop)
            else:
                self.broker = Broker(self.settings, loop, site.peers, site.own_credential)
        except BaseException:
            _close(listeners)
            raise
        try:
            if site is not None:
                await site.joined(self.broker)
            await self._start_http(loop, listeners)
        except BaseException:
            _close(listeners)
            await self.broker.close()
            raise
        self._tell_room()
        self._clock = Ticker(loop, 1.0, self._each_second)
        self.broker.start()
        log.info(
            "serving",
            host=self.settings.host,
            port=self.port,
            data_dir=str(self.settings.data_dir),
            tls=self._certificate is not None,
            authentication=self.settings.authenticates,
            connections=self.broker.sessions.room.connections,
        )
        if self._companion is not None:
            self._companion.start(self._own_address(), self.broker.access.own)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop in order. Nothing that was accepted is lost. Idempotent."""
        if self._companion is not None:
            await self._companion.stop()
        for listening in self._http.servers:
            listening.close()
        await self.broker.drain(self._patience)
        await self._stop_http()
        await self.broker.close()
        log.info("stopped")

    async def _start_http(self, loop: asyncio.AbstractEventLoop, listeners: list[socket.socket]) -> None:
        """Uvicorn's start without its loop, which would wake up ten times a second to look whether it is to stop."""
        settings = self.settings
        if settings.tls_certificate is not None and settings.tls_key is not None:
            self._certificate = Certificate(settings.tls_certificate, settings.tls_key)
        config = uvicorn.Config(
            self._app(),
            http=HttpConnection,
            ws=cast(Any, functools.partial(_connection, self.broker)),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
        )
        config.load()
        self._http = uvicorn.Server(config)
        self._http.lifespan = config.lifespan_class(config)
        self._set_date()
        protocol = functools.partial(
            HttpConnection,
            settings,
            self.broker.metrics,
            Addresses(settings.max_connections_per_address, self.broker.sessions.room),
            config=config,
            server_state=self._http.server_state,
            app_state=self._http.lifespan.state,
        )
        self._http.servers = [
            await loop.create_server(
                protocol,
                sock=listener,
                backlog=BACKLOG,
                ssl=self._certificate.context if self._certificate is not None else None,
                ssl_handshake_timeout=settings.handshake_seconds if self._certificate is not None else None,
            )
            for listener in listeners
        ]

    def _app(self) -> ASGIApp:
        site = self.site
        broker = self.broker
        companion = self._companion
        collectors = [] if companion is None else [companion.collector()]
        states, rules = StateDoor(broker), RulesDoor(broker)
        more = [state_routes(states), rules_routes(rules), *(() if companion is None else companion.routers())]
        if site is None:
            return create_app(Door(broker, *collectors), BusDoor(broker), OperatorDoor(broker), more)
        from .workers.fellows import Fellows  # noqa: PLC0415 - an HTTP client, which one process has no use for
        from .workers.figures import WorkerFigures  # noqa: PLC0415
        from .workers.forward import Forward  # noqa: PLC0415

        figures = WorkerFigures(site.peers, site.restarts)
        app = create_app(Door(broker, figures, *collectors), BusDoor(broker), OperatorDoor(broker), more)
        self._fellows = Fellows(self.settings, site.peers)
        copy = broker.bus.agents if isinstance(broker.bus.agents, RegisterCopy) else None
        return Forward(app, broker.access, self._fellows, copy, figures.count_forwarded)

    def _own_address(self) -> str:
        """Where this process reaches itself."""
        host = _ANYWHERE.get(self.settings.host, self.settings.host)
        scheme = "ws" if self._certificate is None else "wss"
        port = self.port if self.site is None else self.site.listeners[1].getsockname()[1]
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    async def _stop_http(self) -> None:
        self._clock.stop()
        state = self._http.server_state
        for connection in list(state.connections):
            connection.shutdown()
        if state.tasks:
            tasks = list(state.tasks)
            await self._patience.wait(tasks)
            for task in tasks:
                task.cancel()
        for _ in range(_CUT_TURNS):
            for connection in list(state.connections):  # at the beginning of a request, or not reading their answers
                connection.transport.abort()
            for latecomer in list(self.broker.sessions.sockets):  # who came in while the others were leaving
                latecomer.cut()
            await asyncio.sleep(0)  # the loop lets go of what was cut off, and tells of what it had accepted before
        if self._fellows is not None:
            await self._fellows.close()

    def _tell_room(self) -> None:
        room = self.broker.sessions.room
        if not room.fits:
            log.warning(
                "max_connections does not fit",
                max_connections=self.settings.max_connections,
                connections=room.connections,
                open_files=room.files,
                then="further connections are refused; raise the hard limit (ulimit -Hn), or lower max_connections",
            )

    def _each_second(self) -> None:
        self._set_date()
        if self._certificate is not None:
            self._certificate.refresh()

    def _set_date(self) -> None:
        """The `Date` that every response carries (RFC 9110, section 6.6.1), made once a second."""
        date = (b"date", formatdate(usegmt=True).encode())
        self._http.server_state.default_headers = [date, *self._http.config.encoded_headers]


def _close(listeners: list[socket.socket]) -> None:
    for listener in listeners:
        listener.close()


def _connection(broker: Broker, **_: object) -> WebSocketConnection:
    return WebSocketConnection(broker.sessions)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, bound at once so that an address in use is reported before anything else is done."""
    info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(*info[:3])  # asyncio sets TCP_NODELAY only on what says that it is TCP
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(info[4])
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def run(settings: Settings, ready: Callable[[Server], None] | None = None, companion: Companion | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then stop in order.

    Args:
        settings: the broker's.
        ready: called once, when it listens.
        companion: what runs beside it.

    Raises:
        OSError: if the address can't be had.
        LogError: if the data directory can't.
        BadKey, BadCertificate: if a file of keys, tokens or for TLS can't be used.
    """
    with running(settings) as runner:
        runner.run(_serve(settings, ready, companion))


def running(settings: Settings) -> asyncio.Runner:
    """The event loop of a process that serves, with room for as many sockets as the system allows."""
    raise_limit()
    if settings.switch_interval:
        sys.setswitchinterval(settings.switch_interval)
    gc.set_threshold(50_000, 20, 50)  # messages make no cycles; fewer passes over what lives long
    return asyncio.Runner(loop_factory=_loop_factory(settings))


async def _serve(
    settings: Settings, ready: Callable[[Server], None] | None, companion: Companion | None = None
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    serving = Server(settings, companion)

    def signalled() -> None:
        if stop.is_set():
            log.info("hurrying")
            serving.hurry()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    async with serving as server:
        if ready is not None:
            ready(server)
        await stop.wait()
        log.info("stopping")


def _loop_factory(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if settings.uvloop == "off":
        return None
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        if settings.uvloop == "on":
            raise
        return None
    return cast(Callable[[], asyncio.AbstractEventLoop], uvloop.new_event_loop)
