"""A worker process: a `Server` whose sockets, links and end come from the supervisor.

Started by the supervisor, which gives it its end of their pair.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import structlog

from hubbub_broker.broker import Broker
from hubbub_broker.config import Settings
from hubbub_broker.logs import configure, get_logger
from hubbub_broker.peers import Peers
from hubbub_broker.server import Companion, Server, Site, running

from .control import Join, Order, Orders, Report, Start, send_report

log = get_logger(__name__)


class _Stopped(Exception):
    """It is over before it served."""


class Worker:
    """One worker, from its first order to its end."""

    def __init__(self, control: socket.socket, orders: Orders) -> None:
        self._control = control
        self._orders = orders
        self._early: list[tuple[Order, list[int]]] = []
        self._stop = asyncio.Event()
        self._pairs: dict[int, int] = {}
        self._peers: Peers
        self._joining: set[asyncio.Task[None]] = set()

    async def serve(
        self,
        start: Start,
        early: list[tuple[Order, list[int]]],
        listeners: list[socket.socket],
        companion: Companion | None,
    ) -> None:
        """Serve until the supervisor says so, or is gone, or SIGTERM comes. `early` orders came with the first one."""
        self._early = early
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._peers = Peers(start.topology, start.settings, loop, self._lost)
        self._control.setblocking(False)
        site = Site(self._peers, listeners, start.restarts, start.own_credential, self._join)
        with suppress(_Stopped):
            async with Server(start.settings, companion, site):
                self._report(Report("serving"))
                await self._stop.wait()
                log.info("stopping")
        loop.remove_reader(self._control.fileno())

    async def _join(self, broker: Broker) -> None:
        """Be joined to the others, and wait until the home worker has said by which rules to serve.

        Raises:
            _Stopped: it is to stop already.
        """
        asyncio.get_running_loop().add_reader(self._control.fileno(), self._ordered)
        self._carry_out(self._early)
        self._report(Report("open"))
        if broker.rules_follower is None:
            return
        waits = [asyncio.ensure_future(event.wait()) for event in (broker.rules_follower.told, self._stop)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._stop.is_set():
            raise _Stopped

    def _ordered(self) -> None:
        orders = self._orders.read()
        if orders is None:
            log.error("supervisor gone", then="this worker stops")
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._stop.set()
            return
        self._carry_out(orders)

    def _carry_out(self, orders: list[tuple[Order, list[int]]]) -> None:
        for order, descriptors in orders:
            if isinstance(order, Join):
                self._pairs[order.worker] = order.pair
                task = asyncio.create_task(self._peers.attach(order.worker, socket.socket(fileno=descriptors[0])))
                self._joining.add(task)
                task.add_done_callback(self._joining.discard)
            else:
                self._stop.set()

    def _lost(self, worker: int) -> None:
        self._report(Report("lost", worker, self._pairs[worker]))

    def _report(self, report: Report) -> None:
        try:
            send_report(self._control, report)
        except OSError:  # its end is told where orders are read
            log.warning("supervisor not told", what=report.what)


def main(descriptor: int, companion: Callable[[Settings], Companion]) -> None:
    """Be a worker. `companion` makes what runs beside the broker, at the home worker."""
    control = socket.socket(fileno=descriptor)
    send_report(control, Report("born", process=os.getpid()))
    orders = Orders(control)
    begun: list[tuple[Order, list[int]]] = []
    while not begun:
        came = orders.read()
        if came is None:
            return  # the supervisor was gone before it had said all
        begun = came
    (start, (public, own, lock)), *early = begun
    assert isinstance(start, Start)
    assert lock >= 0  # it is held for as long as this process lives
    configure(start.settings.log_format, start.settings.log_level)
    structlog.contextvars.bind_contextvars(worker=start.topology.own)
    listeners = [socket.socket(fileno=public), socket.socket(fileno=own)]
    beside = companion(start.settings) if start.topology.is_home and start.settings.role == "all" else None
    with running(start.settings) as runner:
        runner.run(Worker(control, orders).serve(start, early, listeners, beside))
