"""The dedup window: at least so many, at least so long, and never more than two generations."""

from hubbub_broker.log.dedup import Dedup
from hubbub_broker.log.ids import STRIPE_MASK


def put(dedup, key, seq):
    dedup.young[key & STRIPE_MASK][key] = seq


def test_the_newest_are_remembered_and_the_oldest_are_not():
    dedup = Dedup(100, 60.0, 0.0)
    for number in range(1, 1000):
        put(dedup, number, number)
        dedup.turn(0.0)
        assert len(dedup) <= 200
    assert all(dedup.find(number) == number for number in range(900, 1000))
    assert dedup.find(5) == 0


def test_the_window_ends_generations():
    dedup = Dedup(100, 60.0, 0.0)
    put(dedup, 1, 1)
    dedup.turn(60.0)
    assert dedup.find(1) == 1
    dedup.turn(120.0)
    assert dedup.find(1) == 0


def test_what_is_taken_back_is_forgotten():
    dedup = Dedup(100, 60.0, 0.0)
    put(dedup, 1, 1)
    dedup.discard(1)
    dedup.discard(2)
    assert dedup.find(1) == 0


def test_what_is_loaded_is_one_generation_like_any_other():
    dedup = Dedup(100, 60.0, 0.0)
    dedup.load([([1, 17], [5, 6]), ([2, 1], [7, 8])])
    assert [dedup.find(key) for key in (1, 17, 2, 3)] == [8, 6, 7, 0], "the newest counts"
    dedup.discard(17)
    assert dedup.find(17) == 0
    put(dedup, 33, 9)
    dedup.turn(60.0)
    assert [dedup.find(key) for key in (1, 33)] == [0, 9]
    assert len(dedup) == 1
