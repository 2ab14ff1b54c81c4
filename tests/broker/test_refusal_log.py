"""Refusals at limits in the broker's log: all of them are told of, in few lines."""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.log_capture import CapturedLog, captured_log
from hubbub_broker import refusal_log
from hubbub_broker.refusal_log import CLIENTS_MAX, INTERVAL, LINES_MAX, RefusalLog


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [1000.0]
    monkeypatch.setattr(refusal_log, "monotonic", lambda: time[0])
    return time


@pytest.fixture
def log() -> Iterator[CapturedLog]:
    with captured_log() as log:
        yield log


def told(log: CapturedLog) -> list[dict[str, Any]]:
    return [{name: line[name] for name in line if name not in ("ts", "logger")} for line in log.read()]


def test_the_first_is_told_at_once_and_the_rest_together(log: CapturedLog, now: list[float]) -> None:
    refusals = RefusalLog()
    for _ in range(500):
        refusals.note("joe", "max_inflight", "4096 wait", "g/c")
    first = {
        "level": "warning",
        "event": "refused",
        "client": "joe",
        "limit": "max_inflight",
        "topic": "g/c",
        "reason": "4096 wait",
        "times": 1,
    }
    assert told(log) == [first]
    refusals.sweep()
    assert told(log) == []
    now[0] += INTERVAL
    refusals.sweep()
    assert told(log) == [{**first, "times": 499}]
    now[0] += INTERVAL
    refusals.sweep()
    assert told(log) == []
    refusals.note("joe", "max_inflight", "4096 wait", "g/c")
    assert told(log) == [first]


def test_clients_and_limits_are_told_apart(log: CapturedLog, now: list[float]) -> None:
    refusals = RefusalLog()
    for client, limit in (("joe", "a"), ("ann", "a"), ("joe", "b"), ("joe", "a")):
        refusals.note(client, limit, "why")
    assert [(line["client"], line["limit"]) for line in told(log)] == [("joe", "a"), ("ann", "a"), ("joe", "b")]


def test_a_storm_of_many_clients_is_no_storm_of_lines_and_none_is_left_out(log: CapturedLog, now: list[float]) -> None:
    refusals = RefusalLog()
    lines: list[dict[str, Any]] = []
    for second in range(200):
        for number in range(3 * CLIENTS_MAX if second == 0 else 0):
            refusals.note(f"a{number}", "hold_bytes", "why")
        refusals.sweep()
        new = told(log)
        assert len(new) <= 2 * LINES_MAX + 1
        lines += new
        now[0] += 1
    assert sum(line["times"] for line in lines) == 3 * CLIENTS_MAX
    assert not refusals._told
