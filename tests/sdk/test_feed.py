"""Which subscriptions may share a connection."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.feed import TRANSITIONS, FeedEvent, FeedState, overlap
from hubbub_protocol import names

SEGMENTS = ["a", "b", "*"]
PATTERNS = ["/".join(parts) for n in (1, 2, 3) for parts in product(SEGMENTS, repeat=n)]
PATTERNS += [f"{pattern}/**" for pattern in PATTERNS if pattern.count("/") < 2] + ["**"]
TOPICS = ["/".join(parts) for n in (1, 2, 3, 4) for parts in product("abc", repeat=n)]
MATCHED = {
    pattern: {topic for topic in TOPICS if (names.matcher(pattern)(topic) if "*" in pattern else topic == pattern)}
    for pattern in PATTERNS
}


@given(st.sampled_from(PATTERNS), st.sampled_from(PATTERNS))
def test_overlap_is_having_a_topic_in_common(one: str, other: str) -> None:
    assert overlap(one, other) is bool(MATCHED[one] & MATCHED[other])
    assert overlap(other, one) is overlap(one, other)


@pytest.mark.parametrize("state", list(FeedState))
def test_a_lost_connection_turns_every_feed_off(state: FeedState) -> None:
    assert TRANSITIONS[state][FeedEvent.LOST] is FeedState.OFF
