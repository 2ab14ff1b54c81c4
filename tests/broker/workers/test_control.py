"""Supervisor and worker: orders with their sockets, in whatever pieces they come."""

import os
import socket
from pathlib import Path

import pytest
from pydantic import SecretStr

from hubbub_broker.config import Settings
from hubbub_broker.topology import Topology
from hubbub_broker.workers.control import Drain, Join, Order, Orders, Report, Reports, Start, send_order, send_report

START = Start(Settings(workers=2, bus_token=SecretStr("a-shared-token")), Topology(0, 2, 16, (1, 2)), 3, "own")


def test_orders_arrive_whole_each_with_its_own_sockets(tmp_path: Path) -> None:
    ours, its = socket.socketpair()
    public, own, lock, link = (
        os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("public", "own", "lock", "link")
    )
    for fd, text in ((public, b"public"), (own, b"own"), (lock, b"lock"), (link, b"link")):
        os.write(fd, text)
    with ours, its:
        send_order(ours, START, (public, own, lock))
        send_order(ours, Join(1, 7), (link,))
        send_order(ours, Drain())
        orders = Orders(its)
        got: list[tuple[Order, list[int]]] = []
        while len(got) < 3:
            came = orders.read()
            assert came is not None
            got += came
        assert [order for order, _ in got] == [START, Join(1, 7), Drain()]
        assert got[0][0].settings.bus_token.get_secret_value() == "a-shared-token"  # type: ignore[union-attr]
        texts = [[os.pread(fd, 10, 0) for fd in descriptors] for _, descriptors in got]
        assert texts == [[b"public", b"own", b"lock"], [b"link"], []]
        ours.close()
        assert orders.read() is None
    for fd in (public, own, lock, link, *(fd for _, descriptors in got for fd in descriptors)):
        os.close(fd)


def test_an_order_in_pieces_is_not_one_before_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    from hubbub_broker.workers import control

    monkeypatch.setattr(control, "READ_BYTES", 10)
    ours, its = socket.socketpair()
    with ours, its:
        send_order(ours, Drain())
        orders = Orders(its)
        reads = [orders.read()]
        while not reads[-1]:
            reads.append(orders.read())
        assert len(reads) > 2
        assert reads[-1] == [(Drain(), [])]


def test_reports_arrive_whole() -> None:
    ours, its = socket.socketpair()
    with ours, its:
        for report in (Report("born", process=12), Report("serving"), Report("lost", 3, 9)):
            send_report(its, report)
        reports = Reports()
        got: list[Report] = []
        while len(got) < 3:
            got += reports.take(ours.recv(7))
        assert got == [Report("born", process=12), Report("serving"), Report("lost", 3, 9)]
