"""Rates of senders and groups: exact, bounded in memory, and a refused message counts nowhere."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from hubbub_broker.config import Settings
from hubbub_broker.guard import Denial, Guard, Rule, SlidingWindow
from hubbub_broker.metrics import Metrics
from hubbub_protocol.codec import encode_value
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Pub
from hubbub_protocol.names import MAIL_TO_ALL


class Door:
    """A guard at a time that the test sets."""

    def __init__(self, **settings: Any) -> None:
        self.now = 100.0
        self._count = 0
        self.metrics = Metrics()
        self.guard = Guard(Settings(**settings), self.metrics, lambda: self.now, lambda kind, data: None, lambda f: f())

    def broadcast(self, sender: str, **headers: int) -> Denial | None:
        self._count += 1
        data, stated = encode_value({"body": "b"}), encode_value(headers)
        pub = Pub(topic=MAIL_TO_ALL, id=str(self._count), data=Raw(data), headers=Raw(stated))
        found = self.guard.admit_broadcast(sender, pub, self.now)
        return found if isinstance(found, Denial) else None


def test_ten_broadcasts_a_minute_and_no_more() -> None:
    door = Door()
    assert [door.broadcast("joe") for _ in range(10)] == [None] * 10
    denial = door.broadcast("joe")
    assert denial is not None
    assert (denial.rule, denial.code) == (Rule.BROADCAST_RATE, ErrorCode.RATE_LIMITED)
    assert denial.retry_after == pytest.approx(60.0)
    assert door.broadcast("ann") is None
    door.now += 60
    assert door.broadcast("joe") is None
    assert door.metrics.guard_refusals == {"broadcast_rate": 1}


@given(st.lists(st.floats(0, 20), max_size=200), st.integers(1, 12))
def test_no_minute_ever_has_more(gaps: list[float], most: int) -> None:
    window = SlidingWindow(most, 60.0)
    now, taken = 1000.0, []
    for gap in gaps:
        now += gap
        wait = window.take(now)
        assert 0 <= wait <= 60 + 1e-6
        if not wait:
            taken.append(now)
    for first in taken:
        assert sum(first <= at < first + 60 - 1e-6 for at in taken) <= most


def test_a_rate_of_0_is_none() -> None:
    door = Door(broadcast_rate=0)
    assert not door.guard.limits_publishes
    assert all(door.broadcast("joe") is None for _ in range(1000))
    assert all(door.guard.admit_publish("joe", "g/c", 10**6) is None for _ in range(1000))


def first_refusal(door: Door, topic: str = "g/c", size: int = 10, most: int = 1000) -> tuple[int, Denial]:
    for number in range(most):
        denial = door.guard.admit_publish("joe", topic, size)
        if denial is not None:
            return number, denial
    raise AssertionError("nothing was refused")


@pytest.mark.parametrize(
    ("settings", "rule", "taken"),
    [
        ({"publish_rate": 5, "publish_burst": 7}, Rule.PUBLISH_RATE, 7),
        ({"publish_bytes_rate": 20, "burst_seconds": 5}, Rule.PUBLISH_BYTES_RATE, 10),
        ({"group_publish_rate": 2, "burst_seconds": 3}, Rule.GROUP_PUBLISH_RATE, 6),
        ({"group_bytes_rate": 10, "burst_seconds": 4}, Rule.GROUP_BYTES_RATE, 4),
    ],
)
def test_each_rate_has_its_burst_and_says_when_to_come_back(settings: Any, rule: Rule, taken: int) -> None:
    door = Door(**settings)
    number, denial = first_refusal(door)
    assert (number, denial.rule, denial.code) == (taken, rule, ErrorCode.RATE_LIMITED)
    assert rule in denial.message
    assert denial.retry_after is not None
    door.now += denial.retry_after - 0.001
    assert door.guard.admit_publish("joe", "g/c", 10) is not None
    door.now += 0.002
    assert door.guard.admit_publish("joe", "g/c", 10) is None


def test_a_group_s_rate_is_for_all_its_senders_together() -> None:
    door = Door(group_publish_rate=1, burst_seconds=4)
    assert [door.guard.admit_publish(name, "g/c", 1) is None for name in "abcdef"] == [True] * 4 + [False] * 2
    assert door.guard.admit_publish("a", "other/c", 1) is None


def test_a_message_larger_than_the_bucket_passes_and_is_paid_for() -> None:
    door = Door(publish_bytes_rate=100, burst_seconds=1)
    assert door.guard.admit_publish("joe", "g/c", 1000) is None
    denial = door.guard.admit_publish("joe", "g/c", 1)
    assert denial is not None
    assert denial.retry_after == pytest.approx(9.01)


def test_what_one_rate_refuses_uses_nothing_of_the_others() -> None:
    door = Door(publish_rate=100, publish_burst=100, group_publish_rate=1, burst_seconds=1)
    assert door.guard.admit_publish("joe", "g/c", 1) is None
    assert all(door.guard.admit_publish("joe", "g/c", 1) is not None for _ in range(500))
    assert all(door.guard.admit_publish("joe", f"g{number}/c", 1) is None for number in range(99))


@pytest.mark.parametrize("inbox", ["g/@ann", "_mail/@ann"])
def test_what_goes_into_an_inbox_is_a_send(inbox: str) -> None:
    door = Door(send_rate=1, burst_seconds=2)
    assert [door.guard.admit_publish("joe", inbox, 1) is None for _ in range(2)] == [True, True]
    denial = door.guard.admit_publish("joe", "other/@ann", 1)
    assert denial is not None
    assert denial.rule == Rule.SEND_RATE
    assert denial.retry_after == pytest.approx(1.0)
    assert "send_rate" in denial.message
    assert all(door.guard.admit_publish("joe", topic, 1) is None for topic in ("g/c", "g/c/@ann", "_hubbub/@ann"))
    assert door.broadcast("joe") is None


def test_topics_of_the_broker_s_own_count_for_no_group_and_for_their_sender() -> None:
    door = Door(publish_rate=1, publish_burst=10, group_publish_rate=1, group_bytes_rate=1, burst_seconds=1)
    assert [door.guard.admit_publish("joe", "_hubbub/reports", 100) for _ in range(10)] == [None] * 10
    denial = door.guard.admit_publish("joe", "_hubbub/reports", 100)
    assert denial is not None
    assert denial.rule == Rule.PUBLISH_RATE


def test_what_nothing_can_stop_is_paid_for_by_what_follows() -> None:
    door = Door(publish_rate=2, publish_burst=4)
    for _ in range(6):
        door.guard.count_publish("joe", 40)
    denial = door.guard.admit_publish("joe", "g/c", 1)
    assert denial is not None
    assert denial.retry_after == pytest.approx(1.5)
    assert door.guard.admit_publish("ann", "g/c", 1) is None


def test_buckets_are_bounded_in_number() -> None:
    door = Door(publish_rate=1, rate_entries=10, send_rate=1)
    for number in range(1000):
        door.guard.admit_publish(f"a{number}", "g/@joe", 1)
        door.broadcast(f"a{number}")
    rates = door.guard._rates
    assert len(rates._broadcasts) == 10
    ((_, sends, _),) = rates._of_sends
    assert sends is not None
    assert len(sends) == 10
