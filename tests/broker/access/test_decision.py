"""The decision, against a second telling of the rules: by looking at topics, one at a time."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from hubbub_broker.access import OPEN, TABLE, Identity, KnownBy, Operation, Right, passes, why_not
from hubbub_protocol.names import covers, is_pattern, is_topic, matcher

REPOSITORY = Path(__file__).parents[3]

# Names that meet one another, those that are not for everyone among them
HASH = "0" * 64
SEGMENTS = ("a", "b", "@ann", "@joe", "_dead", "_cancel", "_hubbub", "_state", "_blobs", HASH)
segments = st.sampled_from(SEGMENTS)
topics = (
    (st.lists(segments, min_size=2, max_size=4) | st.builds(lambda group: [group, "_blobs", HASH], segments))
    .map("/".join)
    .filter(lambda name: "/_state/_state" not in name)  # a state has none of its own: `names.state_of` refuses it
)
patterns = st.builds(
    lambda parts, rest: "/".join([*parts, *rest]),
    st.lists(st.sampled_from((*SEGMENTS, "*", "*")), min_size=1, max_size=3),
    st.sampled_from(([], ["**"], ["*"])),
).filter(lambda name: is_topic(name) or is_pattern(name)) | st.just("**")
grants = st.lists(patterns, max_size=3).map(tuple)
identities = st.builds(
    lambda groups, publish, subscribe: Identity(
        KnownBy.TOKEN, "ann", tuple(groups), publish, subscribe, expires=1.0, key="k"
    ),
    st.sets(st.sampled_from(("a", "b", "_hubbub")), max_size=2),
    grants,
    grants,
)


def allowed(identity: Identity, operation: Operation, target: str) -> bool:
    return why_not(identity, operation, target) is None


# The second telling -------------------------------------------------------------------------------------------------


def granted(patterns: tuple[str, ...], topic: str) -> bool:
    """Whether one of the grants matches the topic, and names what its wildcards don't stand for."""
    group, conversation, *_ = topic.split("/")
    for grant in patterns:
        parts = [*grant.split("/"), "**", "**"]
        if grant == "**":
            parts = ["*", "**", "**"]
        named = parts[1] == conversation or not (conversation.startswith("@") or conversation in ("_dead", "_blobs"))
        if matcher(grant)(topic) and named and (parts[0] == group or not group.startswith("_")):
            return True
    return False


def works_in(identity: Identity, patterns: tuple[str, ...], group: str) -> bool:
    """Whether somebody belongs to the group, or one of the grants matches something that may be there."""
    asked = (pattern.split("/")[0] for pattern in patterns)
    return not group.startswith("_") and (group in identity.groups or any(each in (group, "*", "**") for each in asked))


def is_for_whoever_works_there(topic: str) -> bool:
    """A large body, or what is called off."""
    return topic.split("/")[1:] in (["_blobs", HASH], ["_cancel"])


def may_read(identity: Identity, topic: str) -> bool:
    group, conversation, *rest = topic.split("/")
    if is_for_whoever_works_there(topic) and works_in(identity, identity.subscribe, group):
        return True
    if conversation == "_state" and rest:
        return may_read(identity, "/".join([group, *rest]))
    return conversation == f"@{identity.name}" or granted(identity.subscribe, topic)


def may_write(identity: Identity, topic: str) -> bool:
    group, conversation, *_ = topic.split("/")
    if group.startswith("_") or topic.split("/")[1:] == ["_dead"] or conversation == "_state":
        return False
    if is_for_whoever_works_there(topic) and works_in(identity, identity.publish, group):
        return True
    return (conversation.startswith("@") and group in identity.groups) or any(
        matcher(grant)(topic) for grant in identity.publish
    )


def may_change(identity: Identity, topic: str) -> bool:
    group, conversation, *rest = topic.split("/")
    if conversation != "_state" or group.startswith("_"):
        return False
    if rest:
        return may_write(identity, "/".join([group, *rest]))
    return any(matcher(grant)(topic) for grant in identity.publish)


TOLD: dict[Right, Callable[[Identity, str], bool]] = {
    Right.READ: may_read,
    Right.WRITE: may_write,
    Right.CHANGE: may_change,
    Right.READ_AND_WRITE: lambda identity, topic: may_read(identity, topic) and may_write(identity, topic),
    Right.READ_OR_WRITE: lambda identity, topic: may_read(identity, topic) or may_write(identity, topic),
    Right.MEND: lambda identity, topic: topic.split("/")[1:] == ["_dead"] and granted(identity.publish, topic),
}
WORKER = Identity(KnownBy.TOKEN, "ann", (), ("b/tasks",), ("a/tasks",), expires=1.0)
OF_TOPICS = [operation for operation in Operation if TABLE[operation] in TOLD]


@given(identities, st.sampled_from(OF_TOPICS), topics)
@example(WORKER, Operation.SUBSCRIBE, "a/_cancel")
@example(WORKER, Operation.PUBLISH, "b/_cancel")
@example(WORKER, Operation.PUBLISH, "a/_cancel")
@example(WORKER, Operation.SUBSCRIBE, "b/_cancel")
def test_what_is_allowed_is_what_the_rules_say(identity: Identity, operation: Operation, topic: str) -> None:
    assert allowed(identity, operation, topic) == TOLD[TABLE[operation]](identity, topic)


@given(identities, patterns, topics)
@example(Identity(KnownBy.TOKEN, "ann", ("a",), (), ("a/**",)), "a/**", "a/@joe")
def test_a_pattern_delivers_nothing_that_may_not_be_read(identity: Identity, pattern: str, topic: str) -> None:
    assume(matcher(pattern)(topic) if is_pattern(pattern) else pattern == topic)
    if not allowed(identity, Operation.SUBSCRIBE, pattern):
        return
    readable = passes(identity, pattern)
    delivered = readable is None or readable(topic)
    assert delivered == may_read(identity, topic)


@given(identities, patterns)
def test_a_pattern_is_allowed_only_where_every_ordinary_topic_of_it_is(identity: Identity, pattern: str) -> None:
    if allowed(identity, Operation.SUBSCRIBE, pattern):
        for rest in ("new", "new/more", "new/more/still"):
            topic = fill(pattern, rest)
            assert not is_topic(topic) or may_read(identity, topic), topic


def fill(pattern: str, rest: str) -> str:
    """A topic that matches the pattern, of segments that stand nowhere else."""
    parts = pattern.split("/")
    if pattern == "**":
        parts = ["*", "**"]
    return "/".join(rest if part == "**" else "other" if part == "*" else part for part in parts)


@given(patterns, patterns)
@example("**", "*/**")
@example("*/**", "**")
@example("a/*", "a/**")
def test_covering_is_containment(outer: str, inner: str) -> None:
    witnesses = [topic for rest in ("new", "new/more") if is_topic(topic := fill(inner, rest))]
    assume(witnesses)
    assert covers(outer, inner) == all(matcher(outer)(topic) for topic in witnesses)


# The other columns --------------------------------------------------------------------------------------------------

BUS = Identity(KnownBy.BUS_TOKEN, metrics=True)
NOBODY = Identity(KnownBy.TOKEN, "ann", expires=1.0)
OPERATOR = Identity(KnownBy.TOKEN, "ann", admin=True, expires=1.0)
SCRAPER = Identity(KnownBy.TOKEN, "ann", metrics=True, expires=1.0)
TARGETS = {
    Right.NAME: "joe",
    Right.OWN: "joe",
    Right.MEND: "a/_dead",
    Right.CHANGE: "a/_state/b",
    Right.WRITE: "a/@joe",
    Right.READ: "a/@joe",
    Right.READ_AND_WRITE: "a/b",
    Right.READ_OR_WRITE: "a/b",
}


@pytest.mark.parametrize("operation", Operation)
def test_the_table_by_kind_of_identity(operation: Operation) -> None:
    right = TABLE[operation]
    target = TARGETS.get(right, "")
    assert allowed(OPEN, operation, target)
    assert allowed(BUS, operation, target) == (right is not Right.ADMIN)
    assert allowed(OPERATOR, operation, target) == (right is not Right.NAME)
    assert allowed(SCRAPER, operation, target) == (right in (Right.METRICS, Right.KNOWN))
    assert allowed(NOBODY, operation, target) == (right is Right.KNOWN)


@pytest.mark.parametrize("identity", [OPEN, BUS, OPERATOR, NOBODY])
@pytest.mark.parametrize("topic", ["_hubbub/events", "a/_dead", "a/_state", "a/_state/b"])
def test_nobody_publishes_where_only_the_broker_does(identity: Identity, topic: str) -> None:
    assert "publishes there" in (why_not(identity, Operation.PUBLISH, topic) or "")


@pytest.mark.parametrize("identity", [BUS, NOBODY, Identity(KnownBy.TOKEN, "ann", publish=("_hubbub/**",))])
def test_a_state_of_the_broker_s_own_is_changed_by_operators_only(identity: Identity) -> None:
    assert "admin" in (why_not(identity, Operation.CHANGE_STATE, "_hubbub/_state") or "")
    assert why_not(OPERATOR, Operation.CHANGE_STATE, "_hubbub/_state") is None


def test_nobody_speaks_as_another() -> None:
    assert why_not(OPERATOR, Operation.SPEAK_AS, "ann") is None
    assert "ann" in (why_not(OPERATOR, Operation.SPEAK_AS, "joe") or "")


@given(identities, st.text(max_size=600))
def test_what_is_no_name_is_refused_and_hurts_nobody(identity: Identity, target: str) -> None:
    assume(not is_topic(target) and not is_pattern(target))
    for operation in OF_TOPICS:
        why = why_not(identity, operation, target)
        assert why is not None
        assert len(why) < 500


def test_every_operation_stands_in_the_table_and_on_the_page() -> None:
    assert set(TABLE) == set(Operation)
    page = (REPOSITORY / "docs" / "access.md").read_text(encoding="utf-8").partition("## The table")[2]
    for operation, right in TABLE.items():
        assert f"| `{operation}` |" in page
        row = next(line for line in page.splitlines() if line.startswith(f"| `{operation}` |"))
        assert f"`{right}`" in row, row
