"""How many files a process may have open, and how many of them may be connections."""

import resource

import pytest

from hubbub_broker import open_files
from hubbub_broker.open_files import OTHERS, RAISED, raise_limit, room_for

INFINITE = resource.RLIM_INFINITY


def limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> list[tuple[int, int]]:
    """Let the system have these limits; what is asked of it."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: asked.append(pair))
    return asked


@pytest.mark.parametrize(
    ("soft", "hard", "asked"),
    [
        (1024, 4096, [(4096, 4096)]),
        (4096, 4096, []),
        (1024, INFINITE, [(RAISED, INFINITE)]),
        (INFINITE, INFINITE, []),
    ],
)
def test_a_process_that_serves_asks_for_all_that_it_may_have(
    soft: int, hard: int, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = limits(monkeypatch, soft, hard)
    raise_limit()
    assert found == asked


def test_where_the_limit_can_not_be_raised_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    limits(monkeypatch, 1024, 4096)

    def refused(*_: object) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", refused)
    raise_limit()


@pytest.mark.parametrize(
    ("soft", "log_files", "sockets", "connections"),
    [
        (65_536, 500, 65_536 - 500 - OTHERS, 20_000),
        (1_000 + OTHERS, 500, 500, 450),
        (1_000, 5_000, 250, 225),
        (INFINITE, 500, open_files.UNLIMITED - 500 - OTHERS, 20_000),
    ],
)
def test_the_log_has_its_share_before_the_sockets(
    soft: int, log_files: int, sockets: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(monkeypatch, soft, INFINITE)
    room = room_for(20_000, log_files)
    assert (room.sockets, room.connections, room.fits) == (sockets, connections, connections == 20_000)
    assert ("max_connections" in room.why, "ulimit -n" in room.why) == (room.fits, not room.fits)
