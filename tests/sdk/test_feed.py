"""The life of a feed."""

import pytest

from hubbub.feed import TRANSITIONS, FeedEvent, FeedState


@pytest.mark.parametrize("state", list(FeedState))
def test_a_lost_connection_turns_every_feed_off(state: FeedState) -> None:
    assert TRANSITIONS[state][FeedEvent.LOST] is FeedState.OFF
