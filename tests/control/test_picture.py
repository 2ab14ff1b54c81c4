"""What follows from what is known of agents: pure, with times that are handed in."""

from typing import Any

import pytest

from hubbub_control.registry.picture import PROCESSES_MAX, AgentState, Limits, Picture, Report, View

LIMITS = Limits(silent=45, deaf=10, slow=1, gone=15, unseen=600)


def report(at: float, running: int = 0, room: int = 1, **more: Any) -> Report:
    values = {"waiting": 0, "done": 0, "lag": 0.0, "paused": False, "tasks": (), **more}
    return Report(at=at, running=running, room=room, **values)


@pytest.fixture
def picture() -> Picture:
    picture = Picture(LIMITS)
    for name in ("ann", "joe", "tom"):
        picture.registered(name, "g", ["search"], "", seen=0)
        picture.came(name, 0)
        picture.reported(name, "s", report(0))
    return picture


def view_of(picture: Picture, name: str = "joe") -> View:
    view = picture.get(name)
    assert view is not None
    return view


def state(picture: Picture, now: float, name: str = "joe") -> AgentState:
    return picture.state(view_of(picture, name), now)


def test_work_is_what_makes_busy(picture: Picture) -> None:
    assert state(picture, 1) == "idle"
    task = {"topic": "g/t", "id": "1", "since": 2.0}
    picture.reported("joe", "s", report(3, running=1, waiting=1, room=4, tasks=(task,)))
    view = view_of(picture)
    assert (state(picture, 3), view.load, view.since, view.tasks) == ("busy", 0.5, 3, [task])
    picture.reported("joe", "s", report(5, running=2, room=4))
    assert view.since == 3
    picture.reported("joe", "s", report(7, room=4))
    assert (state(picture, 7), view.since) == ("idle", 7)


def test_an_agent_is_all_its_processes(picture: Picture) -> None:
    picture.reported("joe", "s", report(1, running=1, paused=True))
    picture.reported("joe", "t", report(1, running=0, room=3))
    view = view_of(picture)
    assert (view.load, view.paused) == (0.25, False)
    for number in range(PROCESSES_MAX + 5):
        picture.reported("joe", f"p{number}", report(2))
    assert len(view.reports) == PROCESSES_MAX


def test_who_is_away_for_a_moment_is_not_gone(picture: Picture) -> None:
    picture.reported("joe", "s", report(1, running=1))
    picture.left("joe", 100)
    assert state(picture, 114) == "idle"
    assert state(picture, 115) == "gone"
    picture.came("joe", 116)
    assert state(picture, 116) == "idle"


def test_who_has_no_socket_is_gone_when_it_was_not_seen_for_long() -> None:
    picture = Picture(LIMITS)
    picture.registered("joe", "g", [], "", seen=1000)
    assert state(picture, 1599) == "idle"
    assert state(picture, 1600) == "gone"


def test_who_is_silent_is_probed_and_who_does_not_answer_is_deaf(picture: Picture) -> None:
    picture.reported("ann", "s", report(20))
    assert picture.overdue(44, 10) == []
    assert picture.overdue(45, 1) == ["joe"]
    assert picture.overdue(45, 10) == ["tom"]
    assert picture.overdue(45, 10) == []
    picture.reported("tom", "s", report(45.5), probe=True)
    assert state(picture, 54) == "idle"
    assert state(picture, 55) == "deaf"
    assert state(picture, 55, "tom") == "idle"
    assert picture.probe_again(55, 10) == ["joe"]
    assert state(picture, 60) == "deaf"
    picture.reported("joe", "s", report(75), probe=True)
    assert state(picture, 75) == "slow"
    picture.reported("joe", "s", report(77))
    assert state(picture, 77) == "idle"


def test_who_never_reports_is_not_deaf() -> None:
    picture = Picture(LIMITS)
    picture.registered("raw", "g", [], "", seen=0)
    picture.came("raw", 0)
    assert picture.overdue(1000, 10) == []
    assert state(picture, 1000, "raw") == "idle"


def test_who_is_late_in_its_own_loop_is_slow(picture: Picture) -> None:
    picture.reported("joe", "s", report(1, lag=1.5))
    assert state(picture, 1) == "slow"


def test_the_least_loaded_is_picked_and_many_at_once_are_spread(picture: Picture) -> None:
    picture.reported("ann", "s", report(1, running=3, room=4))
    picked = []
    for _ in range(10):
        view = picture.least_loaded(picture.find("search", None), 2)
        assert view is not None
        picked.append(view.name)
    # one place each for joe and tom; ann has one of four left, and is no fuller than they are with each more
    assert picked == ["joe", "tom", "ann", "joe", "tom", "ann", "ann", "ann", "ann", "joe"]
    picture.reported("tom", "s", report(3))
    view = picture.least_loaded(picture.find("search", None), 3)
    assert view is view_of(picture, "tom")


def test_nobody_is_picked_who_would_not_do_it(picture: Picture) -> None:
    picture.left("ann", -20)
    picture.reported("joe", "s", report(0, paused=True))
    picture.reported("tom", "s", report(0, lag=5))
    assert picture.least_loaded(picture.find("search", "g"), 1) is view_of(picture, "tom")  # slow, but the only one
    assert picture.least_loaded(picture.find("search", "h"), 1) is None
    assert picture.least_loaded(picture.find("cook", None), 1) is None


def test_what_is_forgotten_leaves_nothing(picture: Picture) -> None:
    picture.overdue(100, 10)
    picture.only(["joe"])
    assert [view.name for view in picture.find("search", None)] == ["joe"]
    picture.registered("joe", "g", ["cook"], "", seen=0)
    assert list(picture.find("search", None)) == []
    picture.forgotten("joe")
    assert (len(picture), picture._by_capability, picture._speakers, picture._probed) == (0, {}, {}, {})
    picture.reported("joe", "s", report(1))
    assert len(picture) == 0
