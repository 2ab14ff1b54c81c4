"""The control plane, put together with the broker: in its process, or in one of its own.

Here and nowhere else the two meet: the one knows nothing of the other's package.
"""

import asyncio
import signal
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from fastapi import APIRouter
from prometheus_client.registry import Collector

from hubbub.transport import WebSocketTransport
from hubbub_broker.access import Access
from hubbub_broker.config import Settings
from hubbub_broker.http import create_side_app
from hubbub_broker.logs import get_logger
from hubbub_broker.metrics import Exposition, Metrics
from hubbub_broker.server import listen
from hubbub_control import Breakers, Commands, ControlPlane, Limits, Registry, Workflows
from hubbub_control.rules import Rules
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err

from .exit_code import ExitCode, Failure

log = get_logger(__name__)


class Inside:
    """The control plane inside the broker's process: a `server.Companion`."""

    def __init__(self, settings: Settings) -> None:
        self.plane = control_plane(settings)

    def routers(self) -> Sequence[APIRouter]:
        """Its routes."""
        return self.plane.routers()

    def collector(self) -> Collector:
        """Its figures."""
        return self.plane

    def start(self, url: str, credential: str) -> None:
        """Begin. The certificate is not looked at: it is this process's own, on an address that it listens on, and
        names perhaps another.
        """
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.plane.start(url, credential, WebSocketTransport(tls=context))

    async def stop(self) -> None:
        """End."""
        await self.plane.stop()


def control_plane(settings: Settings) -> ControlPlane:
    """A control plane as the settings say."""
    limits = Limits(
        silent=settings.agent_silent,
        deaf=settings.agent_deaf,
        slow=settings.agent_slow,
        gone=settings.agent_gone,
        unseen=settings.agent_unseen,
    )
    registry = Registry(limits, secured=settings.authenticates)
    commands = Commands(registry, settings.commands_kept, settings.command_agents)
    return ControlPlane([registry, commands, Rules(), Workflows(), Breakers()])


class ControlDoor:
    """What serves the HTTP side of a control plane that runs by itself: an `http.StatusApi`."""

    def __init__(self, settings: Settings, plane: ControlPlane) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.access = Access(settings, self.metrics)
        self._plane = plane
        self._exposition = Exposition(self.metrics, plane)

    def ready(self) -> Err | None:
        """Whether it is connected to the broker."""
        if self._plane.online:
            return None
        return Err(
            code=ErrorCode.OVERLOADED, message="the control plane has no connection to its broker", retry_after=1
        )

    def render_metrics(self, accept: str) -> tuple[bytes, str]:
        """The metrics now."""
        return self._exposition.render(accept)


def run_control(settings: Settings) -> None:
    """Run the control plane alone until SIGTERM or SIGINT.

    Raises:
        Failure: no broker is named, or the settings can't be.
        OSError: if the address can't be had.
        BadKey: if a file of keys or tokens can't be used.
    """
    if not settings.broker_url:
        raise Failure("--role control needs --broker: the address of the broker that it is for", ExitCode.USAGE)
    asyncio.run(_serve(settings))


class _Server(uvicorn.Server):
    """Uvicorn, without its handlers for signals: they would end the process by the signal in the end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them to whoever runs it."""
        yield


async def _serve(settings: Settings) -> None:
    plane = control_plane(settings)
    door = ControlDoor(settings, plane)
    config = uvicorn.Config(
        create_side_app(door, plane.routers()),
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace)),
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    with listen(settings.host, settings.port) as listener:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _leave, server)
        plane.start(settings.broker_url, settings.broker_token.get_secret_value() or None)
        log.info("serving the control plane", host=settings.host, port=listener.getsockname()[1])
        try:
            await server.serve([listener])
        finally:
            await plane.stop()
    log.info("stopped")


def _leave(server: uvicorn.Server) -> None:
    server.should_exit = True
