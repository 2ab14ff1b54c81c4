"""Heartbeats, with a clock of the test's own."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hubbub_broker.refusal_log import RefusalLog
from hubbub_broker.session import Heartbeat, Sessions
from hubbub_broker.session.heartbeat import PING

VISITS = 20


@dataclass(eq=False)
class FakeSession:
    heard: bool = True
    writable: bool = True
    closed: bool = False
    paused_since: float = 0.0
    sent: list[bytes] = field(default_factory=list)
    client: str = "joe"
    code: int | None = None

    def write(self, blob: bytes) -> None:
        self.sent.append(blob)

    def close(self, code: int, reason: str) -> None:
        assert reason
        self.code = code
        self.closed = True


def heartbeat(sessions: list[FakeSession], now: list[float], **settings: Any) -> Heartbeat:
    values = {"heartbeat": 10.0, "heartbeat_misses": 3, "slow_timeout": 60.0, **settings}
    register = SimpleNamespace(
        settings=SimpleNamespace(**values),
        open=dict.fromkeys(sessions),
        metrics=SimpleNamespace(refusal_log=RefusalLog()),
    )
    return Heartbeat(cast(Sessions, register), lambda: now[0])


def interval(beat: Heartbeat) -> None:
    for _ in range(VISITS):
        beat.visit()


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 137])
def test_each_is_seen_once_an_interval(count: int) -> None:
    sessions = [FakeSession(heard=False) for _ in range(count)]
    beat = heartbeat(sessions, [0.0])
    interval(beat)
    assert all(session.sent == [PING] for session in sessions)
    interval(beat)
    assert all(session.sent == [PING, PING] for session in sessions)


def test_no_visit_sees_much_more_than_its_share() -> None:
    sessions = [FakeSession(heard=False) for _ in range(200)]
    beat = heartbeat(sessions, [0.0])
    before = 0
    for _ in range(VISITS):
        beat.visit()
        seen = sum(len(session.sent) for session in sessions)
        assert seen - before == 10
        before = seen


def test_the_silent_are_closed_after_the_misses_and_the_heard_are_not_even_pinged() -> None:
    silent, talker = FakeSession(heard=False), FakeSession()
    beat = heartbeat([silent, talker], [0.0])
    for _ in range(3):
        interval(beat)
        talker.heard = True
    assert (silent.code, silent.sent) == (None, [PING] * 3)
    interval(beat)
    assert silent.code == 4012
    assert (talker.code, talker.sent) == (None, [])


def test_a_sign_of_life_counts_afresh() -> None:
    session = FakeSession(heard=False)
    beat = heartbeat([session], [0.0])
    for _ in range(10):
        interval(beat)
        interval(beat)
        session.heard = True
        interval(beat)
    assert session.code is None


def test_a_full_socket_owes_no_pong_but_may_not_stay_full_for_ever() -> None:
    now = [100.0]
    session = FakeSession(heard=False, writable=False, paused_since=100.0)
    beat = heartbeat([session], now)
    for _ in range(6):
        interval(beat)
        now[0] += 10
    assert not session.closed
    now[0] += 10
    interval(beat)
    assert (session.code, session.sent) == (4008, [])


def test_both_can_be_off() -> None:
    silent = FakeSession(heard=False)
    full = FakeSession(writable=False)
    beat = heartbeat([silent, full], [1e9], heartbeat=0.0, slow_timeout=0.0)
    for _ in range(50):
        interval(beat)
    assert (silent.code, full.code, silent.sent) == (None, None, [])
