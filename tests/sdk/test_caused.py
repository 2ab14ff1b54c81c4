"""Who caused what, as far as it is remembered: pure, with times that are handed in."""

from hubbub.caused import Cause, Caused, Known

ONE: Cause = ("g/t", "ann", "1")
TWO: Cause = ("g/t", "ann", "2")


def test_what_a_message_has_caused_is_known_for_a_time() -> None:
    caused = Caused(10, 100.0)
    caused.note(ONE, ("g/u", "a"), 0.0)
    caused.note(TWO, ("g/u", "b"), 10.0)
    caused.note(ONE, ("g/u", "c"), 90.0)
    assert caused.of(ONE) == Known([("g/u", "a"), ("g/u", "c")], 0)
    assert caused.of(("g/t", "eve", "1")) == Known([], 0)
    caused.note(ONE, ("g/u", "d"), 111.0)
    assert (caused.of(TWO), len(caused)) == (Known([], 0), 3)
    caused.note(("g/t", "ann", "3"), ("g/u", "e"), 300.0)
    assert (list(caused), len(caused)) == ([("g/t", "ann", "3")], 1)


def test_when_it_is_full_it_counts_what_it_has_lost() -> None:
    lost: list[Cause] = []
    caused = Caused(3, 100.0, lost.append)
    for number in range(5):
        caused.note(ONE, ("g/u", str(number)), 0.0)
    assert caused.of(ONE) == Known([("g/u", "2"), ("g/u", "3"), ("g/u", "4")], 2)
    for number in range(5, 8):
        caused.note(TWO, ("g/u", str(number)), 1.0)
    assert (caused.of(ONE), len(caused.of(TWO).children)) == (Known([], 5), 3)
    assert (lost, set(caused), len(caused)) == ([ONE] * 5, {ONE, TWO}, 3)
    caused.note(ONE, ("g/u", "8"), 2.0)
    assert caused.of(ONE) == Known([("g/u", "8")], 5)
    assert caused.of(TWO).lost == 1


def test_what_is_counted_as_lost_is_bounded_too() -> None:
    caused = Caused(2, 100.0)
    for number in range(100):
        caused.note(("g/t", "ann", str(number)), ("g/u", "x"), 0.0)
    assert len(list(caused)) == 4
