"""What operators are told: each trouble soon, and none of them too often."""

from collections.abc import Callable
from typing import Any

from hubbub_broker.config import Settings
from hubbub_broker.guard import Denial, Events, Rule
from hubbub_broker.metrics import Metrics
from hubbub_protocol.errors import ErrorCode

DENIAL = Denial(Rule.DEPTH, ErrorCode.LOOP, "too deep", None)


class Desk:
    def __init__(self, **settings: Any) -> None:
        self.now = 10.0
        self.metrics = Metrics()
        self.told: list[dict[str, Any]] = []
        self.soon: list[Callable[[], None]] = []
        self.events = Events(
            Settings(**settings), self.metrics, lambda kind, data: self.told.append(data), self.soon.append, self.clock
        )

    def clock(self) -> float:
        return self.now

    def run(self) -> list[dict[str, Any]]:
        while self.soon:
            self.soon.pop(0)()
        told, self.told = self.told, []
        return told


def test_an_event_says_what_where_and_who_once_the_work_at_hand_is_done() -> None:
    desk = Desk()
    desk.events.report(DENIAL, "g/c", "joe")
    assert desk.told == []
    wanted = {"rule": "max_depth", "topic": "g/c", "sender": "joe", "code": "loop", "message": "too deep"}
    assert desk.run() == [wanted]


def test_the_same_trouble_is_told_once_in_an_interval_with_what_was_left_out() -> None:
    desk = Desk(event_interval=60)
    for _ in range(1000):
        desk.events.report(DENIAL, "g/c", "joe")
    desk.events.report(DENIAL, "g/c", "ann")
    assert [(event["sender"], event.get("left_out")) for event in desk.run()] == [("joe", None), ("ann", None)]
    desk.now += 60
    desk.events.report(DENIAL, "g/c", "joe")
    assert [event["left_out"] for event in desk.run()] == [999]
    assert (desk.metrics.guard_events, desk.metrics.guard_events_left_out) == (3, 999)


def test_a_storm_of_troubles_is_no_storm_of_events() -> None:
    desk = Desk(event_rate=60)
    for number in range(5000):
        desk.events.report(DENIAL, f"g/{number}", "joe")
    assert len(desk.run()) == 60
    assert len(desk.events._told) <= 1000
    desk.now += 1
    desk.events.report(DENIAL, "g/4999", "joe")
    assert [event["left_out"] for event in desk.run()] == [1]


def test_events_can_be_turned_off() -> None:
    desk = Desk(event_rate=0)
    desk.events.report(DENIAL, "g/c", "joe")
    assert desk.run() == []
