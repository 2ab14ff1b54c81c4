"""The ids of a segment in memory, against a plain list."""

from hypothesis import given
from hypothesis import strategies as st

from hubbub_broker.log.ids import SegmentIds

KEYS = [0, 1, 16, 17, 2**63, 2**64 - 1]
keys = st.sampled_from(KEYS)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("note"), keys),
        st.tuples(st.just("ask"), keys),
        st.tuples(st.sampled_from(("back", "gather"))),
    ),
    max_size=60,
)


@given(steps)
def test_it_has_what_was_noted_and_not_taken_back(steps: list[tuple[str] | tuple[str, int]]) -> None:
    ids, told = SegmentIds(), list[int]()
    for step in steps:
        match step:
            case ("note", int(key)):
                ids.keys.append(key)
                told.append(key)
            case ("ask", int(key)):
                assert ids.has(key) == (key in told)
            case ("back",) if told:
                ids.take_back()
                told.pop()
            case ("gather",):
                ids.gather()
    assert list(ids.keys) == told
    assert [ids.has(key) for key in KEYS] == [key in told for key in KEYS]


def test_nothing_is_looked_up_before_anybody_asks() -> None:
    ids = SegmentIds()
    ids.keys.extend(KEYS)
    assert not ids.asked
    assert ids.has(16)
    assert ids.asked
