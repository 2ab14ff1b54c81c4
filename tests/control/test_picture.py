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


def test_after_beginning_anew_nobody_is_routed_to_before_it_is_heard_from() -> None:
    picture = Picture(LIMITS)
    for name in ("ann", "joe", "raw"):
        picture.registered(name, "g", ["search"], "", seen=0, socket=True)
        picture.came(name, 100)
    picture.registered("tom", "g", ["search"], "", seen=80, socket=True)  # connected when it was last here
    picture.registered("web", "g", ["cook"], "", seen=80, socket=False)  # pulls its inbox
    assert (state(picture, 100, "tom"), state(picture, 100, "web")) == ("gone", "idle")
    assert picture.greeted() == ["ann", "joe", "raw"]
    for name in ("ann", "joe"):
        picture.asked(name, 101)
    assert {state(picture, 102, name) for name in ("ann", "joe", "raw")} == {"unknown"}
    assert picture.least_loaded(picture.find("search", None), 102) is None
    picture.says_nothing("raw")  # there is nobody who would hear a probe
    assert state(picture, 200, "raw") == "idle"
    picture.reported("ann", "s", report(103), probe=True)
    assert (state(picture, 103, "ann"), state(picture, 111, "joe")) == ("slow", "deaf")
    picture.reported("ann", "s", report(104))
    assert picture.least_loaded(picture.find("search", None), 111) is view_of(picture, "ann")
    assert picture.probe_again(112, 10) == ["joe"]
    picture.reported("joe", "s", report(120))
    assert state(picture, 120) == "idle"


def test_a_process_is_silent_by_itself(picture: Picture) -> None:
    picture.reported("joe", "busy", report(1, running=1))
    for at in (20, 40):
        picture.reported("joe", "s", report(at))
    assert set(picture.overdue(46, 10)) == {"ann", "tom", "joe"}
    assert picture.overdue(47, 10) == []
    picture.reported("joe", "s", report(47), probe=True)
    picture.forget_silent(55)
    assert state(picture, 55) == "busy"
    picture.forget_silent(56)
    assert (state(picture, 56), list(view_of(picture).reports)) == ("idle", ["s"])
    assert (state(picture, 56, "ann"), len(view_of(picture, "ann").reports)) == ("deaf", 1)


def test_since_when_is_the_agents_own_word(picture: Picture) -> None:
    picture.reported("joe", "s", report(50, running=1, since=10.0))
    picture.reported("joe", "t", report(50, running=1, since=5.0))
    assert view_of(picture).since == 5.0
    picture.reported("joe", "t", report(51, since=30.0))
    assert view_of(picture).since == 10.0
    picture.reported("joe", "s", report(52, since=40.0))
    assert view_of(picture).since == 40.0


def test_who_has_no_room_at_all_is_named_only_if_nobody_has(picture: Picture) -> None:
    picture.reported("ann", "s", report(1, room=0))
    picture.reported("joe", "s", report(1, running=9, room=1))
    picture.reported("tom", "s", report(1, lag=5.0))
    for _ in range(20):
        assert picture.least_loaded(picture.find("search", None), 1) is not view_of(picture, "ann")
    only = picture.least_loaded([view_of(picture, "ann")], 1)
    assert only is view_of(picture, "ann")
    picture.left("tom", 1)  # it may be back in a moment, or have left
    assert picture.least_loaded([view_of(picture, "tom"), view_of(picture, "ann")], 2) is view_of(picture, "ann")


def test_what_a_card_says_comes_and_goes_beside_what_the_register_has(picture: Picture) -> None:
    picture.carded("joe", ["search", "cook"])
    assert view_of(picture).capabilities == ("search", "cook")
    picture.registered("joe", "g", ["search"], "", seen=0, skills=["search", "cook"])
    picture.carded("joe", [])
    assert view_of(picture).capabilities == ("search",)
    assert view_of(picture) in picture.find("search", None)
    assert list(picture.find("cook", None)) == []
