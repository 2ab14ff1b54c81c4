"""The judges are judged first: a sound history passes, and each anomaly is found and called by its name."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.checkers import check, explain
from harness.history import Answer, History, Hole, Message

TOPIC = "g/c"
COUNT = 6


def message(seq: int, sender: str = "joe", id: str | None = None, content: str | None = None) -> Message:
    return Message(TOPIC, seq, id or f"m{seq}", sender, content or f"c{seq}")


def sound(count: int = COUNT) -> History:
    history = History()
    reading = history.reading("ann", TOPIC)
    for seq in range(1, count + 1):
        history.publishing("joe", TOPIC, f"m{seq}", f"c{seq}")
        history.answered.append(Answer("joe", TOPIC, f"m{seq}", seq))
        history.replay[TOPIC].append(message(seq))
        reading.saw(message(seq))
    return history


def kinds(history: History) -> set[str]:
    return {anomaly.kind for anomaly in check(history)}


def test_a_sound_history_has_no_anomaly() -> None:
    assert check(sound()) == []


def lose_the_last(history: History) -> None:
    history.replay[TOPIC].pop()
    history.readings[0].entries[TOPIC].pop()


def end_too_early(history: History) -> None:
    history.readings[0].entries[TOPIC].pop()


def never_begin(history: History) -> None:
    history.readings[0].entries.clear()


def see_twice(history: History) -> None:
    history.readings[0].saw(message(COUNT))


def store_twice(history: History) -> None:
    history.replay[TOPIC].append(message(COUNT + 1, id="m1", content="c1"))
    history.readings[0].saw(message(COUNT + 1, id="m1", content="c1"))


def swap(history: History) -> None:
    page = history.readings[0].entries[TOPIC]
    page[1], page[3] = page[3], page[1]


def leave_out(history: History) -> None:
    del history.readings[0].entries[TOPIC][2]


def leave_out_of_the_log(history: History) -> None:
    del history.replay[TOPIC][2]


def tell_two_stories(history: History) -> None:
    history.publishing("eve", TOPIC, "other", "else")
    history.readings[0].entries[TOPIC][2] = message(3, sender="eve", id="other", content="else")


def answer_with_another_s_seq(history: History) -> None:
    history.answered[2] = Answer("joe", TOPIC, "m3", 4)


def answer_twice_differently(history: History) -> None:
    history.answered.append(Answer("joe", TOPIC, "m3", 99, dup=True))


def forge(history: History) -> None:
    history.replay[TOPIC].append(message(COUNT + 1))
    history.readings[0].saw(message(COUNT + 1))


def change(history: History) -> None:
    history.replay[TOPIC][2] = message(3, content="changed")
    history.readings[0].entries[TOPIC][2] = message(3, content="changed")


def overtake(history: History) -> None:
    sent = history.sent["joe", TOPIC]
    moved = sent.pop("m2")
    sent["m2"] = moved


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lose_the_last, "lost"),
        (end_too_early, "lost"),
        (never_begin, "lost"),
        (see_twice, "duplicate"),
        (store_twice, "duplicate"),
        (swap, "nonmonotonic"),
        (leave_out, "skip"),
        (leave_out_of_the_log, "skip"),
        (tell_two_stories, "fork"),
        (answer_with_another_s_seq, "fork"),
        (answer_twice_differently, "fork"),
        (forge, "phantom"),
        (change, "phantom"),
        (overtake, "overtaken"),
    ],
)
def test_each_anomaly_is_called_by_its_name(spoil: Callable[[History], None], kind: str) -> None:
    history = sound()
    spoil(history)
    assert kind in kinds(history)
    assert kind in explain(check(history), seed=7)


def test_a_hole_that_was_told_is_no_anomaly() -> None:
    history = sound()
    page = history.readings[0].entries[TOPIC]
    page[1:4] = [Hole(TOPIC, 2, 4, "retention")]
    assert check(history) == []


def test_a_hole_that_was_told_too_small_is_a_skip() -> None:
    history = sound()
    page = history.readings[0].entries[TOPIC]
    page[1:4] = [Hole(TOPIC, 2, 3, "retention")]
    assert kinds(history) == {"skip"}


def test_a_reader_that_began_later_is_judged_from_there() -> None:
    history = sound()
    late = history.reading("late", TOPIC, start=None)
    for seq in range(4, COUNT + 1):
        late.saw(message(seq))
    assert check(history) == []
    late.entries[TOPIC].pop(1)
    assert kinds(history) == {"skip"}


@given(st.permutations(range(1, COUNT + 1)), st.integers(0, COUNT))
def test_any_other_order_or_any_less_is_found(order: list[int], count: int) -> None:
    history = sound()
    history.readings[0].entries[TOPIC] = [message(seq) for seq in order[:count]]
    assert bool(check(history)) == (order[:count] != list(range(1, COUNT + 1)))


def test_one_that_hears_its_own_process_is_judged_by_ids() -> None:
    history = sound()
    near = history.reading("near", TOPIC, local=True)
    for seq in (2, 1, 3, 4, 5, 6):
        near.saw(Message(TOPIC, None if seq == 2 else seq, f"m{seq}", "joe", f"c{seq}"))
    assert kinds(history) == {"overtaken"}
    near.entries[TOPIC].sort(key=lambda entry: entry.id)  # type: ignore[union-attr]
    assert check(history) == []
    near.saw(message(2))
    assert kinds(history) == {"duplicate", "overtaken"}
    del near.entries[TOPIC][-1]
    del near.entries[TOPIC][3]
    assert kinds(history) == {"lost"}


def test_of_a_publisher_that_was_heard_locally_what_it_said_before_is_not_the_readers() -> None:
    """It waited for the broker, and got its seqs after the reader had begun; a hole behind is one, as ever."""
    history = History()
    late = history.reading("late", TOPIC, start=None, local=True)
    senders = ["joe", "ann", "ann", "ann", "ann"]
    for seq, sender in enumerate(senders, 1):
        history.replay[TOPIC].append(message(seq, sender))
    late.saw(Message(TOPIC, None, "m3", "ann", "c3"))  # its own process's: no seq
    late.saw(message(1))
    late.saw(message(5, "ann"))
    assert [(one.kind, one.seq) for one in check(history) if one.kind == "lost"] == [("lost", 4)]
