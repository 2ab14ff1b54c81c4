"""The table of states, without any connection."""

import asyncio

import pytest

from hubbub.errors import Closed, Unauthorized
from hubbub.state import TRANSITIONS, Event, State, StateMachine


def test_every_state_is_in_the_table_and_can_be_closed() -> None:
    assert set(TRANSITIONS) == set(State)
    for state in State:
        assert TRANSITIONS[state][Event.CLOSED] is State.CLOSED


def test_nothing_leads_out_of_closed() -> None:
    assert set(TRANSITIONS[State.CLOSED].values()) == {State.CLOSED}


def test_every_state_can_be_reached() -> None:
    reached, news = set[State](), {State.CONNECTING}
    while news:
        reached |= news
        news = {after for state in reached for after in TRANSITIONS[state].values()} - reached
    assert reached == set(State)


@pytest.mark.parametrize(
    ("events", "event"),
    [
        ([], Event.LOST),
        ([Event.CONNECTED], Event.CONNECTED),
        ([Event.CONNECTED], Event.FAILED),
        ([Event.CLOSED], Event.CONNECTED),
    ],
)
def test_what_the_table_does_not_have_is_refused(events: list[Event], event: Event) -> None:
    machine = StateMachine()
    for before in events:
        machine.happen(before)
    with pytest.raises(RuntimeError, match="can't happen"):
        machine.happen(event)


async def test_waiting() -> None:
    machine = StateMachine()
    online = asyncio.create_task(machine.wait_for(State.ONLINE))
    either = asyncio.create_task(machine.wait_for(State.DEGRADED, State.CLOSED))
    cancelled = asyncio.create_task(machine.wait_for(State.ONLINE))
    await asyncio.sleep(0)
    cancelled.cancel()
    machine.happen(Event.FAILED)
    assert await either is State.DEGRADED
    assert not online.done()
    machine.happen(Event.CONNECTED)
    assert await online is State.ONLINE
    assert await machine.wait_for(State.ONLINE) is State.ONLINE


async def test_what_cannot_come_any_more_raises_why() -> None:
    machine = StateMachine()
    waiting = asyncio.create_task(machine.wait_for(State.ONLINE))
    await asyncio.sleep(0)
    machine.reason = Unauthorized("no")
    machine.happen(Event.CLOSED)
    with pytest.raises(Unauthorized):
        await waiting
    with pytest.raises(Unauthorized):
        await machine.wait_for(State.ONLINE)
    assert await machine.wait_for(State.CLOSED) is State.CLOSED
    other = StateMachine()
    other.happen(Event.CLOSED)
    with pytest.raises(Closed):
        await other.wait_for(State.ONLINE)


def test_listeners_are_told_of_changes_only_and_may_fail() -> None:
    machine = StateMachine()
    seen: list[str] = []

    def failing(before: State, after: State) -> None:
        raise ValueError

    machine.listen(failing)
    machine.listen(lambda before, after: seen.append(f"{before}>{after}"))
    for event in (Event.FAILED, Event.FAILED, Event.CONNECTED, Event.LOST, Event.CLOSED, Event.CLOSED):
        machine.happen(event)
    assert seen == ["connecting>degraded", "degraded>online", "online>degraded", "degraded>closed"]
