"""The index of patterns finds what asking each pattern would find, in the same order."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from hubbub_broker.pattern_index import PatternIndex, PatternSet
from hubbub_protocol.names import matcher

SEGMENTS = st.sampled_from(["a", "b", "c"])
TOPICS = st.lists(SEGMENTS, min_size=2, max_size=6).map("/".join)
STEPS = st.one_of(SEGMENTS, st.just("*"))
PATTERNS = st.one_of(
    st.lists(STEPS, min_size=2, max_size=6).map("/".join),
    st.lists(STEPS, max_size=5).map(lambda parts: "/".join([*parts, "**"])),
)


@settings(max_examples=300)
@given(st.lists(st.tuples(PATTERNS, st.booleans()), max_size=20), TOPICS)
def test_it_finds_what_asking_each_finds_in_the_order_of_coming(steps: list[tuple[str, bool]], topic: str) -> None:
    patterns, model = PatternSet(), dict[str, None]()
    for pattern, stays in steps:
        patterns.add(pattern)
        model[pattern] = None
        if not stays:
            patterns.discard(pattern)
            patterns.discard(pattern)
            del model[pattern]
    assert list(patterns.matching(topic)) == [pattern for pattern in model if matcher(pattern)(topic)]
    assert len(patterns._index) == len(model)


@given(st.lists(PATTERNS, max_size=10))
def test_what_was_taken_out_leaves_nothing(patterns: list[str]) -> None:
    index: PatternIndex[int] = PatternIndex()
    for value, pattern in enumerate(patterns):
        index.add(pattern, value)
    for value, pattern in enumerate(patterns):
        index.discard(pattern, value)
    assert len(index) == 0
    assert not index._top.below
    assert not index._top.here


def test_several_values_share_a_pattern() -> None:
    index: PatternIndex[str] = PatternIndex()
    for value in ("x", "y", "z"):
        index.add("a/**", value)
    index.discard("a/**", "y")
    assert list(index.candidates("a/b/c/d")) == ["x", "z"]
    assert list(index.candidates("b/a")) == []


def test_the_time_of_a_look_does_not_grow_with_patterns_of_other_conversations() -> None:
    def look(count: int) -> float:
        index: PatternIndex[int] = PatternIndex()
        for number in range(count):
            index.add(f"g/agent-{number}/**", number)
        best = float("inf")
        for _ in range(5):
            start = time.process_time()
            for _ in range(300):
                index.candidates("g/agent-7/log")
            best = min(best, time.process_time() - start)
        return best

    assert look(20_000) < 10 * look(10)
