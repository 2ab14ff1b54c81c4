"""Consumers on their real log and a faulty disk, tried against a model by random steps.

Promises (docs/consumers.md): every message is acked, dead-lettered or still to come, and none is stuck; one lease at a
time; never more than `max_unacked` out; what was acked comes again only after a crash, and what was confirmed never;
`attempt` goes up by one; a dead letter holds the original, once; messages of a key come one after the other.

`harness.consumer_steps` has the steps and the faults. `harness.consumer_model` says what is promised, and objects at
the step at which a promise is broken.
"""

import os
import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from harness.consumer_steps import AGENTS, CONSUMERS, ENDS, FAULTS, OPS, TOPICS, WAYS_ON, ConsumerSteps

KINDS = [None, None, None, None, "ephemeral", 0.5, 5.0]
KEYS = [None, "x", "x", "y", 1]
SIZES = [0, 10, 500]
ACK_WAITS = [0.5, 2.0, 30.0, 1000.0]
SHARES = [1, 2, 3, 50]
SHIFTS = [0, 0, 1, 1, 2, 3]
DELAYS = [None, None, 0.0, 1.0, 5.0]
ROOMS = [None, None, 0, 300, 3000]

which = st.integers(0, 1000)
drafts = st.lists(
    st.fixed_dictionaries(
        {
            "topic": st.sampled_from(TOPICS),
            "key": st.sampled_from(KEYS),
            "kind": st.sampled_from(KINDS),
            "size": st.sampled_from(SIZES),
            "binary": st.booleans(),
        }
    ),
    min_size=1,
    max_size=5,
)


# Searched, and shrunk to the shortest course that shows it ------------------------------------------------------------


class ConsumerMachine(RuleBasedStateMachine):
    @initialize(
        seed=st.integers(0, 2**32),
        memory=st.sampled_from([1, 100_000]),
        first=st.lists(st.tuples(which, which, st.sampled_from(SHARES)), max_size=4),
    )
    def begin(self, seed: int, memory: int, first: list[tuple[int, int, int]]) -> None:
        self.steps = ConsumerSteps(seed, topics_in_memory=memory)
        for who, what, share in first:
            self.steps.join(who, what, 30.0, share)
        self.steps.go_on("settle")

    def teardown(self) -> None:
        if hasattr(self, "steps"):
            self.steps.finish()

    @rule(who=which, batch=drafts, how=st.sampled_from(["turn", "sync", "settle", "settle"]))
    def publish(self, who: int, batch: list[dict[str, Any]], how: str) -> None:
        self.steps.publish(who, batch)
        self.steps.go_on(how)

    @rule(who=which, what=which, ack_wait=st.sampled_from(ACK_WAITS), share=st.sampled_from(SHARES))
    def join(self, who: int, what: int, ack_wait: float, share: int) -> None:
        self.steps.join(who, what, ack_wait, share)

    @rule(what=which, drain=st.booleans())
    def part(self, what: int, drain: bool) -> None:
        self.steps.part(what, drain=drain)

    @rule(
        what=which,
        op=st.sampled_from(OPS),
        shift=st.sampled_from(SHIFTS),
        confirmed=st.booleans(),
        delay=st.sampled_from(DELAYS),
    )
    def settle(self, what: int, op: str, shift: int, confirmed: bool, delay: float | None) -> None:
        self.steps.settle(what, op, shift, confirmed=confirmed, delay=delay)

    @rule(
        who=which,
        what=which,
        op=st.sampled_from(OPS),
        attempt=st.sampled_from([None, None, 1, 2]),
        confirmed=st.booleans(),
    )
    def settle_anything(self, who: int, what: int, op: str, attempt: int | None, confirmed: bool) -> None:
        self.steps.settle_anything(who, what, op, attempt, confirmed=confirmed)

    @rule(what=which, upto=st.booleans())
    def ack_several(self, what: int, upto: bool) -> None:
        self.steps.ack_several(what, upto=upto)

    @rule(who=which, room=st.sampled_from(ROOMS))
    def read_or_not(self, who: int, room: int | None) -> None:
        self.steps.read_or_not(who, room)

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

    @rule()
    def cool(self) -> None:
        self.steps.cool()

    @rule(count=st.integers(1, 10))
    def retain(self, count: int) -> None:
        self.steps.retain(count)

    @rule(how=st.sampled_from(ENDS), calls=st.integers(0, 12))
    def end(self, how: str, calls: int) -> None:
        self.steps.end(how, calls)

    @rule()
    def rest_a_while(self) -> None:
        self.steps.rest_a_while()

    @rule()
    def come_to_rest(self) -> None:
        self.steps.come_to_rest()


TestConsumerMachine = ConsumerMachine.TestCase
TestConsumerMachine.settings = settings(max_examples=100, stateful_step_count=40)
TestConsumerMachine = pytest.mark.timeout(300)(TestConsumerMachine)


# Long walks from a seed: many deliveries, several segments, retention ------------------------------------------------


def drawn_draft(source: random.Random) -> dict[str, Any]:
    return {
        "topic": source.choice(TOPICS),
        "key": source.choice(KEYS),
        "kind": source.choice(KINDS),
        "size": source.choice(SIZES),
        "binary": source.random() < 0.2,
    }


def walk(seed: int, count: int) -> None:
    source = random.Random(seed)
    steps = ConsumerSteps(seed, topics_in_memory=source.choice([1, 100_000]))

    def number() -> int:
        return source.randrange(1000)

    def yes(part: float = 0.5) -> bool:
        return source.random() < part

    choices = {
        lambda: steps.publish(number(), [drawn_draft(source) for _ in range(source.randint(1, 6))]): 20,
        lambda: steps.go_on(source.choice(WAYS_ON)): 40,
        lambda: steps.join(
            number(), source.randrange(len(CONSUMERS)), source.choice(ACK_WAITS), source.choice(SHARES)
        ): 8,
        lambda: steps.part(number(), drain=yes()): 3,
        lambda: steps.settle(
            number(), source.choice(OPS), source.choice(SHIFTS), confirmed=yes(), delay=source.choice(DELAYS)
        ): 30,
        lambda: steps.settle_anything(
            number(), number(), source.choice(OPS), source.choice([None, None, 1, 2]), confirmed=yes()
        ): 5,
        lambda: steps.ack_several(number(), upto=yes()): 8,
        lambda: steps.read_or_not(number(), source.choice(ROOMS)): 8,
        lambda: steps.come(source.choice(AGENTS)): 3,
        lambda: steps.go(number()): 2,
        lambda: steps.break_disk(source.choice(FAULTS)): 0.7,
        steps.cool: 3,
        lambda: steps.retain(source.randint(1, 20)): 1,
        lambda: steps.end(source.choice(ENDS), source.randrange(20)): 0.7,
        steps.rest_a_while: 2,
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
    walk(seed, 150)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(8))
def test_a_long_walk(number: int) -> None:
    seed = int(os.environ.get("HUBBUB_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"HUBBUB_TEST_SEED={seed}")
    walk(seed, 400)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_very_many_long_walks() -> None:
    for _ in range(100):
        seed = random.SystemRandom().randrange(2**32)
        print(f"HUBBUB_TEST_SEED={seed}")
        walk(seed, 1000)
