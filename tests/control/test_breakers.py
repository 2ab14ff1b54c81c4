"""What becomes of shared breakers is told on a topic of their group, and counted for operators."""

from collections.abc import Callable

import httpx

from harness.until import until
from hubbub import Agent
from hubbub_control import ControlPlane
from hubbub_control.breakers import BREAKERS_MAX, Breakers

MakeAgent = Callable[..., Agent]


async def test_a_transition_is_an_event_of_the_group_and_a_figure(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe") as joe, make_agent("ann") as ann:
        events = ann.subscribe("_breakers", start="all")
        async with joe.breaker("openai").running() as ours, ann.breaker("openai").running() as theirs:
            await ours.trip("it is away")
            await until(lambda: theirs.state == "open")
            await theirs.reset("it is back")
            opened, closed = [await anext(events) for _ in range(2)]
        assert (opened.type, opened.sender, closed.sender) == ("breaker", "joe", "ann"), "each by who made it, once"
        assert {name: opened.data[name] for name in ("breaker", "before", "after", "reason")} == {
            "breaker": "openai",
            "before": "closed",
            "after": "open",
            "reason": "it is away",
        }
        assert (closed.data["before"], closed.data["after"], closed.data["epoch"]) == ("open", "closed", 2)

        async def figures() -> str:
            return (await http.get("/metrics")).text

        labels = 'breaker="openai",group="g"'
        while f'hubbub_control_breaker_transitions_total{{{labels},to="closed"}} 1.0' not in await figures():
            assert plane.online
        assert f'hubbub_control_breaker_transitions_total{{{labels},to="open"}} 1.0' in await figures()
        assert f"hubbub_control_breaker_state{{{labels}}} 0.0" in await figures()


async def test_a_breaker_may_tell_nothing(plane: ControlPlane, make_agent: MakeAgent) -> None:
    async with make_agent("joe") as joe:
        async with joe.breaker("quiet", events=False).running() as quiet, joe.breaker("loud").running() as loud:
            await quiet.trip()
            await loud.trip()
            event = await anext(joe.subscribe("_breakers", start="all"))
        assert event.data["breaker"] == "loud"


async def test_breakers_beyond_a_bound_are_counted_together_and_what_is_none_not_at_all(
    plane: ControlPlane, make_agent: MakeAgent
) -> None:
    (part,) = [part for part in plane.parts if isinstance(part, Breakers)]
    async with make_agent("joe") as joe:
        for data in (1, {}, {"breaker": "a b", "after": "open"}, {"breaker": "x", "after": "odd"}, {"breaker": 1}):
            await joe.publish("_breakers", data)
        for number in range(BREAKERS_MAX + 2):
            await joe.submit("_breakers", {"breaker": f"b{number}", "after": "open"}, type="breaker")
        await until(lambda: part._transitions.get(("(others)", "(others)", "open")) == 2)
    assert len(part._states) == BREAKERS_MAX
    assert len(part._transitions) == BREAKERS_MAX + 1
