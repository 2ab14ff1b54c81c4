"""Shared states on their real log and a faulty disk, tried against a model by random steps.

Promises (docs/state.md): a change is made whole or not at all, with its messages; once, however often it is asked for;
only on the versions that it expects; what anybody was told is never taken back by a crash; a read is one moment of the
state, and holds all that was told before; a watch hears every change once and in order; a key that goes by itself goes
neither early nor never.

`harness.state_steps` has the steps and the faults, `harness.state_model` the judgement.
"""

import os
import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from harness.state_steps import AGENTS, ENDS, FAULTS, KEYS, TTLS, WAYS_ON, StateSteps

SHIFTS = [0, 0, 0, 0, -1, 1]

which = st.integers(0, 1000)
keys = st.lists(st.sampled_from(KEYS), max_size=3, unique=True)
expects = (
    st.none()
    | st.sampled_from(SHIFTS)
    | st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(SHIFTS)), min_size=1, max_size=2)
)


class StateMachine(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.steps = StateSteps(seed)

    def teardown(self) -> None:
        if hasattr(self, "steps"):
            self.steps.finish()

    @rule(
        who=which,
        what=which,
        keys=keys,
        delete=keys,
        expect=expects,
        ttl=st.sampled_from(TTLS),
        publish=st.integers(0, 3),
    )
    def change(self, who: int, what: int, keys: list[str], delete: list[str], **more: Any) -> None:
        self.steps.change(who, what, keys, delete=delete, **more)

    @rule(who=which, what=which)
    def again(self, who: int, what: int) -> None:
        self.steps.again(who, what)

    @rule(who=which, what=which)
    def read(self, who: int, what: int) -> None:
        self.steps.read(who, what)

    @rule(who=which, what=which)
    def watch(self, who: int, what: int) -> None:
        self.steps.watch(who, what)

    @rule(who=which, what=which, shift=st.sampled_from(SHIFTS))
    def renew(self, who: int, what: int, shift: int) -> None:
        self.steps.renew(who, what, shift)

    @rule(how=st.sampled_from(WAYS_ON))
    def go_on(self, how: str | float) -> None:
        self.steps.go_on(how)

    @rule(agent=st.sampled_from(AGENTS))
    def come(self, agent: str) -> None:
        self.steps.come(agent)

    @rule(who=which)
    def go(self, who: int) -> None:
        self.steps.go(who)

    @rule(fault=st.sampled_from(FAULTS))
    def break_disk(self, fault: str) -> None:
        self.steps.break_disk(fault)

    @rule(how=st.sampled_from(ENDS), calls=st.integers(0, 12))
    def end(self, how: str, calls: int) -> None:
        self.steps.end(how, calls)

    @rule()
    def come_to_rest(self) -> None:
        self.steps.come_to_rest()


TestStateMachine = StateMachine.TestCase
TestStateMachine.settings = settings(max_examples=40, stateful_step_count=30)
TestStateMachine = pytest.mark.timeout(300)(TestStateMachine)


# Long walks from a seed: many changes, several segments --------------------------------------------------------------


def walk(seed: int, count: int) -> None:
    source = random.Random(seed)
    steps = StateSteps(seed)

    def number() -> int:
        return source.randrange(1000)

    def some(most: int) -> list[str]:
        return source.sample(KEYS, source.randint(0, most))

    def expected() -> Any:
        drawn = source.random()
        if drawn < 0.4:
            return None
        if drawn < 0.6:
            return source.choice(SHIFTS)
        return [(key, source.choice(SHIFTS)) for key in some(2)]

    def change() -> None:
        steps.change(
            number(),
            number(),
            some(3),
            delete=some(1),
            expect=expected(),
            ttl=source.choice(TTLS),
            publish=source.choice([0, 0, 0, 1, 3]),
        )

    choices = {
        change: 40,
        lambda: steps.again(number(), number()): 8,
        lambda: steps.read(number(), number()): 8,
        lambda: steps.watch(number(), number()): 3,
        lambda: steps.renew(number(), number(), source.choice(SHIFTS)): 5,
        lambda: steps.go_on(source.choice(WAYS_ON)): 40,
        lambda: steps.come(source.choice(AGENTS)): 3,
        lambda: steps.go(number()): 2,
        lambda: steps.break_disk(source.choice(FAULTS)): 1.5,
        lambda: steps.end(source.choice(ENDS), source.randrange(20)): 1.5,
        steps.come_to_rest: 0.5,
    }
    try:
        for step in source.choices(list(choices), list(choices.values()), k=count):
            step()
        steps.come_to_rest()
    finally:
        steps.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_short_walk(seed: int) -> None:
    walk(seed, 200)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_many_long_walks() -> None:
    for _ in range(100):
        seed = int(os.environ.get("HUBBUB_TEST_SEED") or random.SystemRandom().randrange(2**32))
        print(f"HUBBUB_TEST_SEED={seed}")
        walk(seed, 600)
