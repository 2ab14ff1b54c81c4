"""How an agent is doing: one small decision, case by case."""

import pytest

from hubbub_broker.consumers import Limits, Sight, State, state_of

LIMITS = Limits(slow_factor=5.0, deaf_seconds=10.0)


@pytest.mark.parametrize(
    ("sight", "state"),
    [
        (Sight(connected=False, outstanding=3), State.GONE),
        (Sight(connected=True), State.IDLE),
        (Sight(connected=True, outstanding=1, oldest=14.9, ack_wait=30), State.WORKING),
        (Sight(connected=True, outstanding=1, oldest=15.1, ack_wait=30), State.SLOW),
        (Sight(connected=True, outstanding=1, extended=True), State.BUSY),
        (Sight(connected=True, outstanding=2, extended=True, oldest=15.1, ack_wait=30), State.SLOW),
        (Sight(connected=True, p90=5.0, median=1.0), State.IDLE),
        (Sight(connected=True, p90=5.1, median=1.0), State.SLOW),
        (Sight(connected=True, outstanding=1, extended=True, p90=99, median=1.0), State.BUSY),
        (Sight(connected=True, p90=99), State.IDLE),
        (Sight(connected=True, blocked=10.0, outstanding=1), State.WORKING),
        (Sight(connected=True, blocked=10.1, outstanding=1, extended=True), State.DEAF),
        (Sight(connected=True, silent=10.1), State.DEAF),
    ],
)
def test_what_an_agent_is_doing(sight: Sight, state: State) -> None:
    assert state_of(sight, LIMITS) == state
