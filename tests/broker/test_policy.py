import pytest

from hubbub_broker.policy import Policies, TopicPolicy
from hubbub_protocol.errors import BadName


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
