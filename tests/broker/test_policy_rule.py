"""A run-time policy's document: what is read, and what is said about a mistake."""

from typing import Any

import pytest

from hubbub_broker.policy_rule import BadPolicy, PolicyLimits, read_policy

LIMITS = PolicyLimits(max_frame=2**20, dedup_window=86_400.0)


def test_units_are_read_as_in_the_file() -> None:
    document = {"pattern": "a/**", "priority": 3, "max_age": "30d", "max_bytes": "1GiB", "durable": False}
    policy = read_policy("mine", document, 7, LIMITS)
    assert (policy.name, policy.pattern, policy.priority, policy.version) == ("mine", "a/**", 3, 7)
    assert policy.changes == {"max_age": 2_592_000.0, "max_bytes": 2**30, "durable": False}


def test_what_is_left_out_or_null_changes_nothing() -> None:
    assert read_policy("mine", {"pattern": "a/b", "max_count": 5, "max_age": None}, 1, LIMITS).changes == {
        "max_count": 5
    }


def test_no_limit_of_its_own_is_the_frame_s() -> None:
    assert read_policy("mine", {"pattern": "a/b", "max_message": 0}, 1, LIMITS).changes == {"max_message": 2**20}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (3, "a policy is an object such as"),
        ({"max_age": 5}, "pattern: is missing"),
        ({"pattern": "a/b*", "max_age": 5}, "pattern = \"a/b*\": bad pattern 'a/b*'"),
        ({"pattern": "a/b"}, "it says nothing"),
        ({"pattern": "a/b", "priority": 4}, "it says nothing"),
        ({"pattern": "a/b", "max_age": "soon"}, 'max_age = "soon": must be 0 (for ever), or 1s to 3650d'),
        ({"pattern": "a/b", "max_age": -1}, "max_age = -1: must be 0 (for ever)"),
        ({"pattern": "a/b", "max_age": True}, "max_age = true: must be"),
        ({"pattern": "a/b", "durable": "maybe"}, 'durable = "maybe": must be true or false'),
        ({"pattern": "a/b", "schemas": "warn"}, 'schemas = "warn": must be refuse, count or off'),
        ({"pattern": "a/b", "max_agee": 5}, "max_agee = 5: there is no such setting; did you mean max_age"),
        ({"pattern": "a/b", "priority": 1001}, "priority = 1001: must be a whole number, -1000 to 1000"),
        ({"pattern": "a/b", "max_message": "2MiB"}, "must be at most max_frame, which is 1MiB"),
        ({"pattern": "a/b", "dedup_window": "2d"}, "must be at most dedup_window, which is 24h"),
        ({"pattern": "a/b", "max_age": -1, "max_count": "x"}, "; max_count = "),
    ],
)
def test_a_mistake_is_told_by_field_with_what_is_allowed(document: Any, said: str) -> None:
    with pytest.raises(BadPolicy) as caught:
        read_policy("mine", document, 1, LIMITS)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "x" * 129])
def test_a_name_is_one_segment(name: str) -> None:
    with pytest.raises(BadPolicy, match="bad policy name"):
        read_policy(name, {"pattern": "a/b", "max_age": 5}, 1, LIMITS)


def test_what_was_set_under_wider_limits_is_held_to_the_narrower_ones() -> None:
    document = {"pattern": "a/b", "max_message": "4MiB", "dedup_window": "2d"}
    changes = read_policy("mine", document, 1, LIMITS, strict=False).changes
    assert changes == {"max_message": LIMITS.max_frame, "dedup_window": LIMITS.dedup_window}


def test_what_no_program_understands_is_refused_however_old() -> None:
    with pytest.raises(BadPolicy, match="from_the_future"):
        read_policy("mine", {"pattern": "a/b", "from_the_future": 1}, 1, LIMITS, strict=False)
