"""The supervisor: starts the workers, starts one that dies again, joins them. It moves no message.

It holds what must outlive a worker: the lock of the data directory, and every listening socket. All of it is handed to
the workers, so a worker's death closes nothing, and the supervisor's death lets go of nothing that a worker uses. The
workers are forked by a process of its own, the template (see there); that a worker is dead is seen by the end of the
socket that it had: the kernel closes that when the process can do nothing any more.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

from hubbub_broker.access import Access
from hubbub_broker.config import Settings
from hubbub_broker.log import DataDirectory
from hubbub_broker.logs import get_logger
from hubbub_broker.metrics import Metrics
from hubbub_broker.server import BACKLOG, listen
from hubbub_broker.tls import Certificate
from hubbub_broker.topology import Topology

from .control import Drain, Join, Reports, Start, send_order

WORKER = "hubbub_broker.cli.worker"
"""The module that is a worker's program: above this one, as is whatever puts a process together."""

SETTLED_SECONDS = 5.0
"""A worker that has served for so long is no failed start: what came before is forgiven."""

DELAY_MAX = 5.0
"""Seconds before a worker is started again, at most. The first time is at once; then it is 0.1, doubled each time."""

KILL_SECONDS = 10.0
"""How long a draining worker may take beyond `shutdown_grace` before it is killed."""

REJOIN_SECONDS = 0.2
"""How long two workers stay apart whose link was lost although both are there."""

TEMPLATE_SECONDS = 0.5
"""How long after its end the template is started again."""

log = get_logger(__name__)


class GaveUp(Exception):
    """A worker died again and again, soon after each start."""


@dataclass
class Place:
    """One worker's place: its process, or that which comes after it."""

    number: int
    own: socket.socket
    process: int = 0
    """Its process, once it is there; 0 while there is none."""
    control: socket.socket | None = None
    reports: Reports = field(default_factory=Reports)
    open: bool = False
    """Whether it can be joined to others."""
    serving: bool = False
    since: float = 0.0
    """When it began to serve (loop time)."""
    deaths: int = 0
    """In a row, without a settled life in between."""
    restarts: int = 0
    pairs: dict[int, int] = field(default_factory=dict)
    """The number of the newest link to each other worker."""

    def kill(self) -> None:
        """End it at once, if it is there."""
        if self.process:
            with suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)

    def order(self, order: Start | Join | Drain, sockets: tuple[int, ...] = ()) -> None:
        """Tell it. One that is gone is not told."""
        if self.control is not None:
            with suppress(OSError):
                send_order(self.control, order, sockets)


class Template:
    """The process that forks workers. One that has died is replaced."""

    def __init__(self) -> None:
        self._requests: socket.socket
        self._process: Process
        self._keeping: asyncio.Task[None]

    async def start(self) -> None:
        """Start it. It need not be ready to be asked."""
        await self._launch()
        self._keeping = asyncio.create_task(self._keep(), name="template")

    def fork(self, end: socket.socket) -> None:
        """Have a worker forked, which gets this end. If that fails, the end is closed."""
        with suppress(OSError):
            socket.send_fds(self._requests, [b"w"], [end.fileno()])

    async def stop(self) -> None:
        """End it."""
        self._keeping.cancel()
        self._requests.close()
        await self._process.wait()

    async def _launch(self) -> None:
        self._requests, its = socket.socketpair()
        with its:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", WORKER, str(its.fileno())),
                pass_fds=[its.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )

    async def _keep(self) -> None:
        while True:
            code = await self._process.wait()
            log.error("template ended", code=code)
            self._requests.close()
            await asyncio.sleep(TEMPLATE_SECONDS)
            await self._launch()


class Supervisor:
    """Runs a broker's workers until it is told to stop.

    Raises:
        OSError: from `run`, if an address can't be had.
        LogError: likewise, if the data directory can't.
        GaveUp: likewise, if a worker can't be kept up.
    """

    def __init__(self, settings: Settings, ready: Callable[[Supervisor], None] | None = None) -> None:
        """`ready` is called when all workers serve for the first time."""
        self.settings = settings
        self.port = settings.port
        self.topology: Topology
        self.places: list[Place] = []
        self._ready = ready
        self._directory: DataDirectory
        self._public: socket.socket
        self._credential = secrets.token_urlsafe(32)
        self._template = Template()
        self._numbers = count(1)
        self._stopping = False
        self._stop = asyncio.Event()
        self._gave_up: GaveUp | None = None
        self._keepers: list[asyncio.Task[None]] = []
        self._rejoining: set[asyncio.TimerHandle] = set()

    async def run(self) -> None:
        """Start, keep, stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        sockets = self._listen()
        try:
            self._directory = DataDirectory.open(self.settings.data_dir, shards=self.settings.shards)
            try:
                await self._keep_all(loop)
            finally:
                self._directory.close()
        finally:
            for each in sockets:
                each.close()
        if self._gave_up is not None:
            raise self._gave_up

    def stop(self) -> None:
        """Drain all workers, and end. A second call skips the waiting."""
        if self._stopping:
            for place in self.places:
                place.kill()
        self._stop.set()

    def pid_of(self, worker: int) -> int | None:
        """The process of a worker, if it serves now."""
        place = self.places[worker]
        return place.process if place.serving else None

    # ----------------------------------------------------------------------------------------------------------------

    def _listen(self) -> list[socket.socket]:
        """Every socket, before anything else is done: an address that is in use is reported at once."""
        settings = self.settings
        sockets: list[socket.socket] = []
        try:
            self._public = listen(settings.host, settings.port)
            sockets.append(self._public)
            self.port = self._public.getsockname()[1]
            first = settings.worker_port or (settings.port + 1 if settings.port else 0)
            for number in range(settings.workers):
                own = self._listen_for_one(first + number if first else 0)
                sockets.append(own)
                self.places.append(Place(number, own))
            for each in sockets:
                each.listen(BACKLOG)  # whoever comes before the workers do waits in the queue
        except BaseException:
            for each in sockets:
                each.close()
            raise
        ports = tuple(place.own.getsockname()[1] for place in self.places)
        self.topology = Topology(0, settings.workers, settings.shards, ports, settings.worker_urls)
        return sockets

    def _listen_for_one(self, port: int) -> socket.socket:
        try:
            return listen(self.settings.host, port)
        except OSError as error:
            message = f"{error.strerror or error}; that is port {port}, a worker's own: see worker_port"
            raise OSError(error.errno, message) from None

    async def _keep_all(self, loop: asyncio.AbstractEventLoop) -> None:
        await self._template.start()
        log.info("supervising", workers=self.settings.workers, host=self.settings.host, port=self.port)
        self._keepers = [loop.create_task(self._keep(place), name=f"worker {place.number}") for place in self.places]
        await self._stop.wait()
        self._stopping = True
        self._public.close()
        for place in self.places:
            place.own.close()
            place.order(Drain())
        _, late = await asyncio.wait(self._keepers, timeout=self.settings.shutdown_grace + KILL_SECONDS)
        for place in self.places if late else ():
            if place.process:
                log.error("worker killed", worker=place.number, reason="it did not stop in time")
                place.kill()
        await asyncio.gather(*self._keepers)
        await self._template.stop()
        for timer in self._rejoining:
            timer.cancel()
        log.info("stopped")

    async def _keep(self, place: Place) -> None:
        """Have a worker run, one process after the other."""
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            await self._live(place)
            if self._stop.is_set():
                return
            settled = place.since and loop.time() - place.since >= SETTLED_SECONDS
            place.deaths = 1 if settled else place.deaths + 1
            place.restarts += 1
            if place.deaths > self.settings.worker_restarts:
                self._gave_up = GaveUp(
                    f"worker {place.number} died {place.deaths} times in a row, the limit (worker_restarts) is "
                    f"{self.settings.worker_restarts}: its log lines say why"
                )
                self.stop()
                return
            delay = min(DELAY_MAX, 0.1 * 2 ** (place.deaths - 2)) if place.deaths > 1 else 0.0
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), delay)

    async def _live(self, place: Place) -> None:
        """One life of a worker, from its start to the end of its process."""
        ours, its = socket.socketpair()
        place.since, place.open, place.serving = 0.0, False, False
        place.control, place.reports = ours, Reports()
        try:
            with its:
                self._template.fork(its)
            topology = self.topology
            mine = Topology(place.number, topology.workers, topology.shards, topology.ports, topology.urls)
            start = Start(self.settings, mine, place.restarts, self._credential)
            place.order(start, (self._public.fileno(), place.own.fileno(), self._directory.lock_fd))
            ours.setblocking(False)
            await self._listen_to(place, ours)
        finally:
            ours.close()
            process, place.process = place.process, 0
            place.control, place.open, place.serving = None, False, False
        if not self._stopping:
            log.warning("worker ended", worker=place.number, process=process)

    async def _listen_to(self, place: Place, control: socket.socket) -> None:
        """Hear what a worker reports, until it is gone."""
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while data := await loop.sock_recv(control, 64 << 10):
                for report in place.reports.take(data):
                    if report.what == "born":
                        place.process = report.process
                    elif report.what == "open":
                        self._opened(place)
                    elif report.what == "serving":
                        self._serves(place)
                    else:
                        self._apart(place, report.worker, report.pair)

    def _opened(self, place: Place) -> None:
        """It has everything open: join it to those who have, too."""
        place.open = True
        for other in self.places:
            if other is not place and other.open:
                self._join(place, other)

    def _serves(self, place: Place) -> None:
        place.serving, place.since = True, asyncio.get_running_loop().time()
        log.info("worker serves", worker=place.number, process=place.process)
        if self._ready is not None and all(each.serving for each in self.places):
            ready, self._ready = self._ready, None
            ready(self)

    def _join(self, one: Place, other: Place) -> None:
        pair = next(self._numbers)
        one.pairs[other.number] = other.pairs[one.number] = pair
        ends = socket.socketpair()
        with ends[0], ends[1]:
            one.order(Join(other.number, pair), (ends[0].fileno(),))
            other.order(Join(one.number, pair), (ends[1].fileno(),))

    def _apart(self, place: Place, number: int, pair: int) -> None:
        """Two workers have lost their link. If both are there in a moment, they get a new one."""

        def again() -> None:
            self._rejoining.discard(timer)
            other = self.places[number]
            if place.open and other.open and place.pairs.get(number) == pair and not self._stopping:
                self._join(place, other)

        timer = asyncio.get_running_loop().call_later(REJOIN_SECONDS, again)
        self._rejoining.add(timer)


def supervise(settings: Settings, ready: Callable[[Supervisor], None] | None = None) -> None:
    """Supervise until SIGTERM or SIGINT, then stop in order.

    Raises:
        OSError, LogError, GaveUp: as `Supervisor`.
        BadKey, BadCertificate: if a file of keys, tokens or for TLS can't be used: no worker could.
    """
    Access(settings, Metrics())
    if settings.tls_certificate is not None and settings.tls_key is not None:
        Certificate(settings.tls_certificate, settings.tls_key)
    asyncio.run(Supervisor(settings, ready).run())
