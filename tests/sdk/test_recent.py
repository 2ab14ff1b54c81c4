"""The memory of ids."""

from hypothesis import given
from hypothesis import strategies as st

from hubbub.recent import Recent


def test_it_remembers_once() -> None:
    recent = Recent(100, 60)
    assert recent.add("a")
    assert not recent.add("a")
    assert "a" in recent
    assert "b" not in recent


@given(st.lists(st.integers(0, 50)), st.integers(2, 20))
def test_the_last_half_of_the_bound_is_always_remembered_and_no_more_than_the_bound(
    keys: list[int], bound: int
) -> None:
    recent = Recent(bound, 60)
    added: list[int] = []
    for key in keys:
        if recent.add(key):
            added.append(key)
        assert len(recent) <= bound
        for known in added[-(bound // 2) :]:
            assert known in recent


def test_age() -> None:
    recent = Recent(100, ttl=60)
    recent.age(0)
    recent.add("a")
    recent.age(59)
    assert "a" in recent
    recent.age(60)
    assert "a" in recent  # the older generation now
    recent.add("b")
    recent.age(119)
    assert "a" in recent
    recent.age(120)
    assert "a" not in recent
    assert "b" in recent
    recent.age(180)
    assert "b" not in recent
