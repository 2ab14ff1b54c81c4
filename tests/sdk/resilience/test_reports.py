"""Merged counts, against adding all reports up anew."""

from hypothesis import given
from hypothesis import strategies as st

from hubbub.resilience import Counts, TimeBased
from hubbub.resilience.reports import Reports

SPEC = TimeBased(seconds=10.0, buckets=5)
reports = st.lists(st.tuples(st.integers(0, 15), st.integers(1, 9)), max_size=5)
"""(age in seconds, calls)"""
course = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from("abc"), st.sampled_from(["put", "drop", "read"]), reports), max_size=40
)


@given(course)
def test_the_sum_is_that_of_the_newest_reports_as_far_as_they_are_in_the_window(
    steps: list[tuple[int, str, str, list[tuple[int, int]]]],
) -> None:
    now = 0
    merged = Reports(SPEC)
    newest: dict[str, list[tuple[int, int]]] = {}
    for version, (seconds, member, what, rows) in enumerate(steps, 1):
        now += seconds
        if what == "put":
            merged.put(member, version, [(float(age), Counts(calls, 1, 0)) for age, calls in rows], float(now))
            newest[member] = [(now - age, calls) for age, calls in rows]
            assert merged.version_of(member) == version
        elif what == "drop":
            merged.drop(member)
            newest.pop(member, None)
        else:
            inside = [n for rows in newest.values() for at, n in rows if at // 2 > now // 2 - 5]
            assert merged.counts(float(now)) == Counts(sum(inside), len(inside), 0)
    assert len(merged) == len(newest)


def test_who_has_gone_is_found_by_age_and_a_new_epoch_forgets_counts_only() -> None:
    merged = Reports(SPEC)
    merged.put("a", 1, [(0.0, Counts(5, 5, 0))], 0.0)
    merged.put("b", 2, [(0.0, Counts(5, 5, 0))], 8.0)
    assert merged.fresh(9.0) == 2
    assert merged.fresh(12.0) == 1
    assert list(merged.older_than(50.0, 55.0)) == [("a", 1)]
    merged.forget_counts()
    assert merged.counts(9.0) == Counts()
    assert len(merged) == 2
    merged.put("b", 3, [(0.0, Counts(1, 0, 0))], 9.0)
    assert merged.counts(9.0) == Counts(1, 0, 0)
