"""Places in topics and patterns, as pure bookkeeping."""

import pytest

from hubbub.cursor import PRUNE_IDLE_SECONDS, PRUNE_TOPICS_MIN, Cursor, PatternCursor, TopicCursor
from hubbub_protocol.frames import From, Gap, Msg, Ok


def msg(seq: int | None, topic: str = "g/c", ts: float = 0.0) -> Msg:
    return Msg(topic=topic, id="1", sender="joe", ts=ts, lc=1, seq=seq)


def ok(next: int | None, epoch: str = "e") -> Ok:
    return Ok(rid=1, topic="g/c", head=0, next=next, epoch=epoch)


def gap(first: int, last: int, reason: str = "retention", topic: str = "g/c", dropped: int = 0) -> Gap:
    return Gap(topic=topic, first=first, last=last, reason=reason, dropped=dropped)


class TestTopic:
    def test_it_asks_for_what_it_was_told_until_it_is_taken(self) -> None:
        cursor = TopicCursor("all")
        assert (cursor.start(), cursor.begun) == ("all", False)
        cursor.opened(ok(next=1), 0)
        assert (cursor.start(), cursor.begun) == (From(seq=1, epoch="e"), True)

    def test_new_resumes_from_where_it_began_even_if_nothing_came(self) -> None:
        cursor = TopicCursor("new")
        cursor.opened(ok(next=43), 0)
        assert cursor.start() == From(seq=43, epoch="e")

    def test_it_admits_each_seq_once_and_counts_what_is_missing(self) -> None:
        cursor = TopicCursor("all")
        cursor.opened(ok(next=1), 0)
        assert [cursor.admit(msg(seq)) for seq in (1, 2, 2, 1, 3, 7, 8)] == [0, 0, -1, -1, 0, 3, 0]
        assert cursor.start() == From(seq=9, epoch="e")

    def test_signals_pass_and_move_nothing(self) -> None:
        cursor = TopicCursor("all")
        cursor.opened(ok(next=5), 0)
        assert cursor.admit(msg(None)) == 0
        assert cursor.start() == From(seq=5, epoch="e")

    def test_a_gap_moves_it(self) -> None:
        cursor = TopicCursor("all")
        cursor.opened(ok(next=1), 0)
        cursor.gap(gap(1, 9))
        assert cursor.admit(msg(10)) == 0

    def test_dropped_signals_are_a_gap_that_moves_nothing(self) -> None:
        cursor = TopicCursor("all")
        cursor.opened(ok(next=10), 0)
        cursor.gap(gap(20, 20, "slow", dropped=3))
        assert cursor.admit(msg(10)) == 0

    def test_a_stale_gap_does_not_move_it_back(self) -> None:
        cursor = TopicCursor("all")
        cursor.opened(ok(next=10), 0)
        cursor.gap(gap(1, 4))
        assert cursor.admit(msg(9)) == -1

    def test_another_epoch_begins_again(self) -> None:
        cursor = TopicCursor("all")
        cursor.opened(ok(next=1), 0)
        for seq in range(1, 51):
            cursor.admit(msg(seq))
        cursor.opened(ok(next=1, epoch="f"), 0)
        cursor.gap(gap(51, 50, "reset"))
        assert [cursor.admit(msg(seq)) for seq in (1, 2)] == [0, 0]

    def test_a_broker_that_lost_its_tail_begins_where_it_says(self) -> None:
        """The epoch is the same, and the broker has less than this cursor has seen."""
        cursor = TopicCursor("all")
        cursor.opened(ok(next=10), 0)
        cursor.opened(ok(next=3), 0)
        cursor.gap(gap(3, 9, "reset"))
        assert cursor.admit(msg(3)) == 0

    def test_damage_in_the_middle_is_passed(self) -> None:
        cursor = TopicCursor("all")
        cursor.opened(ok(next=1), 0)
        cursor.admit(msg(1))
        cursor.gap(gap(2, 7, "reset"))
        assert cursor.admit(msg(8)) == 0

    @pytest.mark.parametrize(
        ("wanted", "next", "reached"), [("new", None, True), ("all", None, False), ("all", 6, True)]
    )
    def test_reached(self, wanted: str, next: int | None, reached: bool) -> None:
        cursor = TopicCursor(wanted)
        if next is not None:
            cursor.opened(ok(next=next), 0)
            assert not cursor.reached("g/c", 6)
        assert cursor.reached("g/c", 5) is reached

    def test_same_place(self) -> None:
        one, two = TopicCursor("all"), TopicCursor("new")
        assert not one.same_place(two)
        one.opened(ok(next=1), 0)
        two.opened(ok(next=3), 0)
        assert not one.same_place(two)
        one.admit(msg(1))
        one.admit(msg(2))
        assert one.same_place(two)
        assert not one.same_place(PatternCursor("all"))
        copy = one.copy()
        one.admit(msg(3))
        assert copy.same_place(two)


class TestPattern:
    @pytest.mark.parametrize(
        ("wanted", "since"), [("new", 99.0), ("all", 0.0), (From(since=50.0), 50.0), (From(last=3), 99.0)]
    )
    def test_it_resumes_by_time_and_seqs(self, wanted: str | From, since: float) -> None:
        cursor = PatternCursor(wanted)
        assert cursor.start() == wanted
        cursor.opened(ok(next=None), 100.0)
        cursor.live(101.0)
        assert cursor.start() == From(since=since)
        cursor.admit(msg(4, "g/a"))
        cursor.admit(msg(1, "g/b"))
        assert cursor.start() == From(since=since, after={"g/a": 4, "g/b": 1})

    def test_an_interrupted_replay_of_the_last_ones_begins_in_the_other_topics_where_it_began(self) -> None:
        cursor = PatternCursor(From(last=3))
        assert cursor.start() == From(last=3)
        cursor.opened(ok(next=None), 100.0)
        cursor.admit(msg(4, "g/a"))
        assert cursor.start() == From(since=99.0, after={"g/a": 4})

    def test_each_topic_counts_for_itself(self) -> None:
        cursor = PatternCursor("all")
        steps = [("g/a", 1), ("g/b", 1), ("g/a", 2), ("g/a", 2), ("g/b", 4), ("g/c", 9)]
        assert [cursor.admit(msg(seq, topic)) for topic, seq in steps] == [0, 0, 0, -1, 2, 0]

    def test_gaps(self) -> None:
        cursor = PatternCursor("all")
        cursor.admit(msg(3, "g/a"))
        cursor.gap(gap(4, 9, topic="g/a"))
        assert cursor.admit(msg(10, "g/a")) == 0
        cursor.gap(gap(1, 0, "reset", topic="g/a"))
        assert cursor.admit(msg(1, "g/a")) == 0
        cursor.gap(gap(5, 5, "slow", topic="g/a", dropped=2))
        assert cursor.admit(msg(2, "g/a")) == 0

    def test_idle_topics_are_pruned_once_it_was_live_for_long(self) -> None:
        cursor = PatternCursor("all")
        cursor.opened(ok(next=None), 0.0)
        for number in range(PRUNE_TOPICS_MIN + 1):
            cursor.admit(msg(1, f"g/{number}", ts=10.0))
        cursor.admit(msg(1, "g/busy", ts=1000.0))
        cursor.prune(1000.0)
        assert len(cursor.seqs) == PRUNE_TOPICS_MIN + 2  # it has not been live
        cursor.live(900.0)
        cursor.prune(1000.0)
        assert len(cursor.seqs) == PRUNE_TOPICS_MIN + 2  # not for long enough
        cursor.prune(900.0 + PRUNE_IDLE_SECONDS)
        assert cursor.start() == From(since=900.0, after={"g/busy": 1})

    def test_a_small_one_is_left_alone(self) -> None:
        cursor = PatternCursor("all")
        cursor.opened(ok(next=None), 0.0)
        cursor.live(0.0)
        cursor.admit(msg(1, "g/a", ts=1.0))
        cursor.prune(1e9)
        assert cursor.start() == From(since=0.0, after={"g/a": 1})

    def test_a_copy_is_independent(self) -> None:
        cursor = PatternCursor("all")
        cursor.opened(ok(next=None), 0.0)
        copy: Cursor = cursor.copy()
        cursor.admit(msg(1, "g/a"))
        assert copy.start() == From(since=0.0)
        assert cursor.reached("g/a", 1)
        assert not copy.reached("g/a", 1)
