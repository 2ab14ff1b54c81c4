"""A worker process: a `Server` whose sockets, links and end come from the supervisor.

Started by the supervisor as `python -m hubbub_broker.workers.process FD`, FD being its end of their pair.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

import structlog

from hubbub_broker.logs import configure, get_logger
from hubbub_broker.peers import Peers
from hubbub_broker.server import Server, Site, running

from .control import Join, Orders, Report, Start, send_report

log = get_logger(__name__)


class Worker:
    """One worker, from its first order to its end."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._orders = Orders(control)
        self._stop = asyncio.Event()
        self._pairs: dict[int, int] = {}
        self._peers: Peers
        self._joining: set[asyncio.Task[None]] = set()

    async def serve(self, start: Start, listeners: list[socket.socket]) -> None:
        """Serve until the supervisor says so, or is gone, or SIGTERM comes."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._peers = Peers(start.topology, start.settings, loop, self._lost)
        self._control.setblocking(False)
        site = Site(self._peers, listeners, start.restarts)
        async with Server(start.settings, site):
            loop.add_reader(self._control.fileno(), self._ordered)
            self._report(Report("serving"))
            await self._stop.wait()
            log.info("stopping")
            loop.remove_reader(self._control.fileno())

    def _ordered(self) -> None:
        orders = self._orders.read()
        if orders is None:
            log.error("supervisor gone", then="this worker stops")
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._stop.set()
            return
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


def main(descriptor: int) -> None:
    """Be a worker."""
    control = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    orders = Orders(control).read()
    if not orders:
        return  # the supervisor was gone before it said anything
    start, (public, own, lock) = orders[0]
    assert isinstance(start, Start)
    os.set_inheritable(lock, False)
    configure(start.settings.log_format, start.settings.log_level)
    structlog.contextvars.bind_contextvars(worker=start.topology.own)
    listeners = [socket.socket(fileno=public), socket.socket(fileno=own)]
    with running(start.settings) as runner:
        runner.run(Worker(control).serve(start, listeners))


if __name__ == "__main__":
    main(int(sys.argv[1]))
