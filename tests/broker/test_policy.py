import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_broker.policy import Override, Policies, TopicPolicy
from hubbub_protocol.errors import BadName
from hubbub_protocol.names import matcher


def test_the_first_match_wins() -> None:
    policies = Policies(
        [
            TopicPolicy(pattern="metrics/**", durable=False),
            TopicPolicy(pattern="*/audit", max_age=0),
            TopicPolicy(pattern="**", max_count=5),
        ]
    )
    assert policies.of("metrics/audit").durable is False
    assert policies.of("research/audit").max_age == 0
    assert policies.of("research/audit/more").max_count == 5


def test_a_topic_without_a_rule_gets_the_defaults() -> None:
    assert Policies([TopicPolicy(pattern="a/b", durable=False)]).of("a/c") == TopicPolicy()
    assert Policies().of("a/c").durable is True


def test_a_rule_for_one_topic_is_for_no_other() -> None:
    policies = Policies([TopicPolicy(pattern="a/b.c", durable=False)])
    assert policies.of("a/b.c").durable is False
    assert policies.of("a/bxc").durable is True


def test_a_bad_pattern_is_refused() -> None:
    with pytest.raises(BadName):
        Policies([TopicPolicy(pattern="a/**/b")])


def test_a_rule_that_would_hold_for_no_topic_is_refused() -> None:
    with pytest.raises(BadName, match="matches none"):
        Policies([TopicPolicy(pattern="*", durable=False)])


# At run time --------------------------------------------------------------------------------------------------------


def override(name: str, pattern: str, priority: int = 0, version: int = 1, **changes: Any) -> Override:
    return Override(name, pattern, priority, version, changes)


RULES = [TopicPolicy(pattern="a/*", max_age=5.0, max_count=7), TopicPolicy(pattern="**", max_age=9.0)]


def test_a_run_time_policy_says_what_it_says_and_the_rules_the_rest() -> None:
    policies = Policies(RULES, [override("o", "a/**", max_count=1)])
    found = policies.of("a/b")
    assert (found.max_count, found.max_age, found.pattern) == (1, 5.0, "a/**")
    assert (policies.of("a/b/c").max_count, policies.of("a/b/c").max_age) == (1, 9.0)
    assert policies.of("b/c") == RULES[1]


def test_the_highest_priority_wins_then_the_first_name() -> None:
    overrides = [
        override("low", "a/b", -1, max_count=1),
        override("zz", "a/**", 5, max_count=2),
        override("b", "*/b", 5, max_count=3),
        override("any", "**", 0, max_count=4),
    ]
    for order in itertools.permutations(overrides):
        policies = Policies(RULES, order)
        assert [policies.of(topic).max_count for topic in ("a/b", "a/c", "c/b", "c/d")] == [3, 2, 3, 4]


@pytest.mark.parametrize(
    ("size", "ttl", "everywhere"),
    [(100, None, True), (101, None, False), (100, 9.0, True), (100, 11.0, False), (51, 11.0, False), (50, 9.0, True)],
)
def test_what_every_topic_takes_is_told_without_a_look_at_any(size: int, ttl: float | None, everywhere: bool) -> None:
    rules = [TopicPolicy(pattern="a/*", max_ttl=10.0), TopicPolicy(max_message=100)]
    assert Policies(rules).take_everywhere(size, ttl) == everywhere
    smaller = Policies(rules, [Override("o", "b/*", 0, 1, {"max_message": 50, "max_ttl": 9.5})])
    assert smaller.take_everywhere(size, ttl) == (everywhere and size <= 50)
    assert Policies(rules, [Override("o", "b/*", 0, 1, {"max_age": 1.0})]).take_everywhere(size, ttl) == everywhere


def test_topics_with_the_same_rules_share_one_policy() -> None:
    policies = Policies(RULES, [override("o", "a/**", max_count=1)])
    assert policies.of("a/b") is policies.of("a/c")


def test_it_is_explained_which_policy_holds_and_over_what() -> None:
    policies = Policies(RULES, [override("o", "a/**", max_count=1)])
    verdict = policies.explain("a/b")
    assert verdict.policy.max_count == 1
    assert verdict.override is not None
    assert verdict.override.name == "o"
    assert verdict.rule == RULES[0]
    assert policies.explain("c/d") == (RULES[1], None, RULES[1])


SEGMENTS = st.sampled_from(["a", "b", "_x"])
PATTERNS = st.one_of(
    st.lists(st.one_of(SEGMENTS, st.just("*")), min_size=2, max_size=3).map("/".join),
    st.lists(st.one_of(SEGMENTS, st.just("*")), max_size=2).map(lambda parts: "/".join([*parts, "**"])),
)


@given(st.lists(PATTERNS, max_size=6), st.lists(SEGMENTS, min_size=2, max_size=3).map("/".join))
def test_looking_by_group_finds_what_looking_at_all_finds(patterns: list[str], topic: str) -> None:
    rules = [TopicPolicy(pattern=pattern, max_count=number) for number, pattern in enumerate(patterns, 1)]
    wanted = next((rule for rule in rules if matcher(rule.pattern)(topic)), TopicPolicy())
    assert Policies(rules).of(topic) == wanted
