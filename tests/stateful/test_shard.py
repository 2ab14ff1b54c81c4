"""A whole shard, on its real log and a faulty disk, tried against a model by random steps.

Promises: what was answered `ok` is there once, with its seq, whatever crashes; nobody is sent a durable message that a
power cut could still take back; every reader gets every message once, in one order that is the same for all, ephemeral
ones in their place, without a hole that no gap tells of; publishers' counts are kept; every publish gets one answer.

`harness.shard_steps` has the steps and the faults. `harness.shard_model` says what is promised, and objects at the
step at which a promise is broken.
"""

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from harness.shard_steps import AGENTS, ENDS, FAULTS, IDS, NAMES, TOPICS, WAYS_ON, ShardSteps

SIZES = [0, 0, 10, 300, 2000]
TTLS = [0.5, 5.0]
NUMBERINGS = ["none", "none", "next", "next", "next", "skip", "first"]
ROOMS = [None, 0, 0, 300, 3000]

which = st.integers(0, 1000)
starts = st.one_of(
    st.just("new"),
    st.just("all"),
    st.integers(1, 9).map(lambda seq: {"seq": seq}),
    st.just({"seq": 3, "epoch": "another"}),
    st.integers(0, 5).map(lambda last: {"last": last}),
    st.integers(0, 20).map(lambda seconds: {"since": 1_000_000.0 + seconds}),
)
drafts = st.lists(
    st.fixed_dictionaries(
        {
            "topic": st.sampled_from(TOPICS),
            "id": st.sampled_from(IDS),
            "n": st.sampled_from(NUMBERINGS),
            "size": st.sampled_from(SIZES),
            "binary": st.booleans(),
        },
        optional={
            "parent": st.sampled_from(IDS),
            "ephemeral": st.just(True),
            "ttl": st.sampled_from(TTLS),
            "lc": st.integers(0, 40),
        },
    ),
    min_size=1,
    max_size=5,
)


# Searched, and shrunk to the shortest course that shows it ------------------------------------------------------------


class ShardMachine(RuleBasedStateMachine):
    @initialize(
        seed=st.integers(0, 2**32),
        memory=st.sampled_from([1, 100_000]),
        first=st.lists(st.tuples(which, st.sampled_from(NAMES)), max_size=3),
    )
    def begin(self, seed: int, memory: int, first: list[tuple[int, str]]) -> None:
        self.steps = ShardSteps(seed, topics_in_memory=memory)
        for who, name in first:
            self.steps.subscribe(who, name, "new")

    def teardown(self) -> None:
        if hasattr(self, "steps"):
            self.steps.finish()

    @rule(who=which, batch=drafts)
    def publish(self, who: int, batch: list[dict[str, Any]]) -> None:
        self.steps.publish(who, batch)

    @rule(who=which, batch=drafts, how=st.sampled_from(["turn", "sync", "settle"]))
    def publish_and_go_on(self, who: int, batch: list[dict[str, Any]], how: str) -> None:
        self.steps.publish(who, batch)
        self.steps.go_on(how)

    @rule(who=which, what=which)
    def repeat(self, who: int, what: int) -> None:
        self.steps.repeat(who, what)

    @rule(who=which, name=st.sampled_from(NAMES), start=starts)
    def subscribe(self, who: int, name: str, start: Any) -> None:
        self.steps.subscribe(who, name, start)

    @rule(who=which, what=which)
    def unsubscribe(self, who: int, what: int) -> None:
        self.steps.unsubscribe(who, what)

    @rule(who=which, room=st.sampled_from(ROOMS))
    def read_or_not(self, who: int, room: int | None) -> None:
        self.steps.read_or_not(who, room)

    @rule(how=st.sampled_from(WAYS_ON))
    def go_on(self, how: str | float) -> None:
        self.steps.go_on(how)

    @rule(agent=st.sampled_from(AGENTS))
    def come(self, agent: tuple[str, str | None]) -> None:
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


TestShardMachine = ShardMachine.TestCase
TestShardMachine.settings = settings(max_examples=60, stateful_step_count=40)
TestShardMachine = pytest.mark.timeout(300)(TestShardMachine)


# Long walks from a seed: histories of several segments, which a search never gets to -------------------------------


def drawn_draft(source: random.Random) -> dict[str, Any]:
    draft: dict[str, Any] = {
        "topic": source.choice(TOPICS),
        "id": f"i{source.randrange(10_000)}" if source.random() < 0.7 else source.choice(IDS),
        "n": source.choice(NUMBERINGS),
        "size": source.choice(SIZES),
        "binary": source.random() < 0.2,
    }
    if source.random() < 0.15:
        draft["parent"] = source.choice(IDS)
    if source.random() < 0.25:
        draft["ephemeral"] = True
    if source.random() < 0.1:
        draft["ttl"] = source.choice(TTLS)
    if source.random() < 0.2:
        draft["lc"] = source.randrange(1000)
    return draft


def drawn_start(source: random.Random) -> Any:
    return source.choice(
        [
            "new",
            "all",
            {"seq": source.randint(1, 100)},
            {"seq": 3, "epoch": "another"},
            {"last": source.randrange(30)},
            {"since": 1_000_000.0 + source.randrange(500)},
        ]
    )


def walk(seed: int, count: int) -> None:
    source = random.Random(seed)
    steps = ShardSteps(seed, topics_in_memory=source.choice([1, 100_000]))

    def who() -> int:
        return source.randrange(1000)

    choices = {
        lambda: steps.publish(who(), [drawn_draft(source) for _ in range(source.randint(1, 6))]): 30,
        lambda: steps.go_on(source.choice(WAYS_ON)): 40,
        lambda: steps.repeat(who(), who()): 6,
        lambda: steps.subscribe(who(), source.choice(NAMES), drawn_start(source)): 8,
        lambda: steps.unsubscribe(who(), who()): 4,
        lambda: steps.read_or_not(who(), source.choice(ROOMS)): 12,
        lambda: steps.come(source.choice(AGENTS)): 3,
        lambda: steps.go(who()): 2,
        lambda: steps.break_disk(source.choice(FAULTS)): 0.7,
        lambda: steps.end(source.choice(ENDS), source.randrange(20)): 0.7,
        steps.come_to_rest: 1,
    }
    try:
        for step in source.choices(list(choices), list(choices.values()), k=count):
            step()
        steps.come_to_rest()
    finally:
        steps.close()


KNOWN_SEEDS = [1008, 1042, 1048, 1063, 1083, 1085, 1086, 1097, 1112, 20378, 100959, 101234, 300032, 300671]
"""Walks that once found something wrong, in the broker or in the model."""


@pytest.mark.parametrize("seed", [*KNOWN_SEEDS, *range(20)])
def test_a_walk_from_a_known_seed(seed: int) -> None:
    walk(seed, 300)


def new_seeds(count: int) -> Iterator[int]:
    """Seeds that nobody has tried, each printed before its walk; or HUBBUB_TEST_SEED alone, to repeat that walk."""
    given = os.environ.get("HUBBUB_TEST_SEED")
    for seed in [int(given)] if given else [random.SystemRandom().randrange(2**32) for _ in range(count)]:
        print(f"HUBBUB_TEST_SEED={seed}")
        yield seed


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_many_walks() -> None:
    for seed in new_seeds(1000):
        walk(seed, 300)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_many_long_walks() -> None:
    for seed in new_seeds(200):
        walk(seed, 1000)
