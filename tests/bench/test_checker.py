"""The checker finds what is lost, duplicated and out of order, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from hubbub_bench.drivers.checker import Checker


def checked(*runs: tuple[int, int]) -> Checker:
    checker = Checker()
    for first, count in runs:
        checker.take(first, count)
    return checker


def verdict(checker: Checker, sent: int) -> tuple[int, int, int]:
    return checker.lost(sent), checker.duplicated, checker.out_of_order


def test_all_in_order_is_nothing_wrong() -> None:
    assert verdict(checked((1, 3), (4, 1), (5, 2)), 6) == (0, 0, 0)


def test_what_never_came_is_lost_in_the_middle_and_at_the_end() -> None:
    assert verdict(checked((1, 2), (4, 1)), 4) == (1, 0, 0)
    assert verdict(checked((1, 2)), 5) == (3, 0, 0)
    assert verdict(checked(), 5) == (5, 0, 0)


def test_what_came_twice_is_a_duplicate() -> None:
    assert verdict(checked((1, 3), (2, 1)), 3) == (0, 1, 0)
    assert verdict(checked((1, 3), (1, 5)), 5) == (0, 3, 0)


def test_what_came_after_a_later_one_is_out_of_order_and_not_lost() -> None:
    assert verdict(checked((2, 1), (1, 1)), 2) == (0, 0, 1)
    assert verdict(checked((1, 1), (5, 1), (3, 1)), 5) == (2, 0, 1)


def test_a_late_one_that_comes_again_is_both() -> None:
    assert verdict(checked((2, 1), (1, 1), (1, 1)), 2) == (0, 1, 1)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 8)), max_size=30))
def test_it_agrees_with_a_plain_model(runs: list[tuple[int, int]]) -> None:
    seen: list[int] = []
    duplicated = out_of_order = 0
    for first, count in runs:
        for number in range(first, first + count):
            duplicated += number in seen
            out_of_order += number not in seen and any(number < other for other in seen)
            seen.append(number)
    sent = 40
    assert verdict(checked(*runs), sent) == (sent - len(set(seen)), duplicated, out_of_order)
