"""The grammar of names: what is a topic, a pattern, an agent; which topics a pattern matches."""

import string
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hubbub_protocol import names
from hubbub_protocol.errors import BadName
from hubbub_protocol.limits import AGENT_CHARS_MAX, SEGMENT_CHARS_MAX, TOPIC_BYTES_MAX
from hubbub_protocol.names import (
    cancels_of,
    check_agent,
    check_consumer,
    check_group,
    check_pattern,
    check_topic,
    dead_letters_of,
    group_of,
    inbox_of,
    is_dead_letters,
    is_hidden,
    is_pattern,
    is_reserved,
    is_topic,
    literal_prefix,
    matcher,
    overlap,
)

ALPHABET = string.ascii_letters + string.digits + "._-~@:=+"
Check = Callable[[str], str]

segments = st.text(ALPHABET, min_size=1, max_size=SEGMENT_CHARS_MAX)
topics = st.lists(segments, min_size=2, max_size=6).map("/".join).filter(lambda name: len(name) <= TOPIC_BYTES_MAX)
few = st.sampled_from(["a", "b", "a.b", "@a", "aa"])  # few enough that patterns and topics often meet
small_topics = st.lists(few, min_size=2, max_size=5).map("/".join)
small_patterns = st.builds(
    lambda parts, last: "/".join([*parts, last]),
    st.lists(few | st.just("*"), max_size=4),
    few | st.sampled_from(["*", "**"]),
).filter(lambda name: "/" in name or name == "**")


def is_segment(text: str) -> bool:
    """The grammar once more, as PROTOCOL says it, without regular expressions."""
    return 1 <= len(text) <= SEGMENT_CHARS_MAX and all(char in ALPHABET for char in text)


def matches(pattern: list[str], topic: list[str]) -> bool:
    """What a pattern matches, as PROTOCOL says it: segment by segment."""
    if pattern == ["**"]:
        return len(topic) >= 1
    if not pattern or not topic:
        return not pattern and not topic
    return pattern[0] in ("*", topic[0]) and matches(pattern[1:], topic[1:])


class TestTopic:
    @given(topics)
    def test_every_name_of_the_grammar_is_one(self, name: str) -> None:
        assert is_topic(name)
        assert check_topic(name) is name
        assert not is_pattern(name)

    @given(st.text(ALPHABET + "/*é\n ", max_size=40) | st.text(max_size=20) | topics)
    @example("a/b\n")
    @example("a//b")
    @example("/a/b")
    @example("a/b/")
    def test_is_exactly_what_the_grammar_says(self, name: str) -> None:
        parts = name.split("/")
        assert is_topic(name) == (len(parts) >= 2 and len(name) <= 512 and all(map(is_segment, parts)))

    @pytest.mark.parametrize("name", ["a/b", "research/conv-42", "a/b/c", "a/@joe", "_sys/x", "A0._-~@:=+/B", "./.."])
    def test_good(self, name: str) -> None:
        assert check_topic(name) == name

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "/",
            "a",
            "a/",
            "/a",
            "a//b",
            "a/b/",
            "a/b\n",
            "a/b\0",
            "a/b c",
            "a/ü",
            "a/\u0661",  # a digit, of another script
            "a/\uff21",  # a letter A, full width
            "a/\ud800",  # half a surrogate pair
            "a/b?",
            "a/b#c",
            "a/%41",
            "a\\b",
        ],
    )
    def test_bad(self, name: str) -> None:
        assert not is_topic(name)
        with pytest.raises(BadName, match="topic"):
            check_topic(name)

    def test_longest_segment_and_longest_topic(self) -> None:
        assert is_topic("g/" + "x" * 128)
        assert not is_topic("g/" + "x" * 129)
        longest = "/".join(["x" * 127] * 4)
        assert len(longest) == 511
        assert is_topic(longest + "x")
        assert not is_topic(longest + "/x")

    def test_a_pattern_is_refused_where_a_topic_is_wanted_and_called_one(self) -> None:
        with pytest.raises(BadName, match="pattern"):
            check_topic("a/*")

    @given(st.text(min_size=100, max_size=5000))
    def test_a_refusal_is_short_whatever_was_sent(self, name: str) -> None:
        with pytest.raises(BadName) as refusal:
            check_topic("\x00" + name)
        assert len(str(refusal.value)) < 1200

    def test_an_error_is_safe_to_print(self) -> None:
        with pytest.raises(BadName) as refusal:
            check_topic("a/\x1b[31m\n\ud800")
        assert str(refusal.value).isprintable()


class TestPattern:
    @given(topics)
    def test_a_topic_is_one_that_matches_itself(self, name: str) -> None:
        assert check_pattern(name) == name
        assert matcher(name)(name)

    @pytest.mark.parametrize("name", ["**", "*/*", "a/*", "a/**", "*/b", "a/*/c", "a/*/**", "*/@joe", "a/*/c/**"])
    def test_good(self, name: str) -> None:
        assert is_pattern(name)
        assert check_pattern(name) == name

    @pytest.mark.parametrize(
        "name",
        ["", "***", "a/***", "a*/b", "a/b*", "a/*b", "**/a", "a/**/b", "a/**/", "/**", "a//*", "*/", "a/*\n", "*/ü"],
    )
    def test_bad(self, name: str) -> None:
        with pytest.raises(BadName):
            check_pattern(name)

    def test_one_that_no_topic_can_match_is_refused_with_the_one_that_is_meant(self) -> None:
        with pytest.raises(BadName, match=r"matches none; `\*\*` matches every topic"):
            check_pattern("*")

    def test_is_bounded_like_a_topic(self) -> None:
        assert check_pattern("*/" * 255 + "**")
        with pytest.raises(BadName, match="512"):
            check_pattern("*/" * 256 + "**")

    @pytest.mark.parametrize(
        ("pattern", "yes", "no"),
        [
            ("a/*", ["a/b", "a/@joe"], ["a/b/c", "b/a", "aa/b"]),
            ("a/**", ["a/b", "a/b/c/d"], ["b/a", "aa/b"]),
            ("**", ["a/b", "_sys/x/y"], []),
            ("*/@joe", ["a/@joe", "_x/@joe"], ["a/b/@joe", "a/@joey", "a/x@joe"]),
            ("a/*/c", ["a/b/c"], ["a/c", "a/b/b/c", "a/b/c/d"]),
            ("a/*/**", ["a/b/c", "a/b/c/d"], ["a/b", "b/b/c"]),
            ("a.c/*", ["a.c/b"], ["abc/b"]),  # a dot is a dot
            ("a+/b/*", ["a+/b/c"], ["aa/b/c"]),
        ],
    )
    def test_matches(self, pattern: str, yes: list[str], no: list[str]) -> None:
        found = matcher(check_pattern(pattern))
        assert [topic for topic in yes + no if found(topic)] == yes

    @given(small_patterns, small_topics)
    @example("a/**", "a/a")
    @example("*/**", "a/a")
    @example("**", "a/a")
    def test_matches_what_the_grammar_says(self, pattern: str, topic: str) -> None:
        assert matcher(check_pattern(pattern))(topic) == matches(pattern.split("/"), topic.split("/"))

    @given(small_patterns, small_topics)
    def test_all_it_matches_begins_with_its_literal_prefix(self, pattern: str, topic: str) -> None:
        if matcher(pattern)(topic):
            assert topic.startswith(literal_prefix(pattern))

    def test_literal_prefix(self) -> None:
        assert literal_prefix("a/b/*") == "a/b/"
        assert literal_prefix("a/*/b/**") == "a/"
        assert literal_prefix("**") == ""
        assert literal_prefix("a/b") == "a/b"

    @given(st.lists(few | st.sampled_from(["*", "**", "a*", ""]), min_size=1, max_size=5).map("/".join))
    def test_what_is_taken_never_has_a_wildcard_inside_a_segment_or_a_rest_before_the_end(self, name: str) -> None:
        try:
            check_pattern(name)
        except BadName:
            return
        *first, last = name.split("/")
        assert "**" not in first
        assert all("*" not in part or part == "*" for part in first)
        assert "*" not in last or last in ("*", "**")

    @pytest.mark.timeout(10)
    @pytest.mark.parametrize(
        "pattern", ["*/" * 255 + "**", "a/" * 255 + "*", "*/" * 254 + "b/**", "/".join(["*"] * 256)]
    )
    def test_no_pattern_is_slow_to_answer(self, pattern: str) -> None:
        found = matcher(check_pattern(pattern))
        for topic in ("a/" * 255 + "c", "a/" * 250 + "c", "a" * 128 + "/b"):
            for _ in range(1000):  # a matcher that backtracks would not end
                found(topic)


class TestAgentAndGroup:
    @given(st.text(ALPHABET, min_size=1, max_size=AGENT_CHARS_MAX), segments)
    def test_every_agent_has_an_inbox_in_every_group(self, agent: str, group: str) -> None:
        inbox = inbox_of(check_group(group), check_agent(agent))
        assert check_topic(inbox) == f"{group}/@{agent}"
        assert group_of(inbox) == group

    @pytest.mark.parametrize("check", [check_agent, check_group])
    @pytest.mark.parametrize("name", ["", "a/b", "*", "a b", "joe\n", "josé", "x" * 129, "\0"])
    def test_bad(self, check: Check, name: str) -> None:
        with pytest.raises(BadName, match="bad"):
            check(name)

    def test_an_agent_leaves_room_for_the_at_sign(self) -> None:
        assert check_agent("x" * 127)
        with pytest.raises(BadName, match="127"):
            check_agent("x" * 128)
        assert check_group("x" * 128)

    @given(topics)
    def test_a_group_is_the_first_segment(self, topic: str) -> None:
        assert group_of(topic) == topic[: topic.index("/")]
        assert check_group(group_of(topic))
        assert is_reserved(topic) == topic.startswith("_")


SEGMENTS = ["a", "b", "*"]
PATTERNS = ["/".join(parts) for n in (1, 2, 3) for parts in product(SEGMENTS, repeat=n)]
PATTERNS += [f"{pattern}/**" for pattern in PATTERNS if pattern.count("/") < 2] + ["**"]
TOPICS = ["/".join(parts) for n in (1, 2, 3, 4) for parts in product("abc", repeat=n)]
MATCHED = {
    pattern: {topic for topic in TOPICS if (matcher(pattern)(topic) if "*" in pattern else topic == pattern)}
    for pattern in PATTERNS
}


@given(st.sampled_from(PATTERNS), st.sampled_from(PATTERNS))
def test_overlap_is_having_a_topic_in_common(one: str, other: str) -> None:
    assert overlap(one, other) is bool(MATCHED[one] & MATCHED[other])
    assert overlap(other, one) is overlap(one, other)


class TestNamesOfTheGroupsOwn:
    def test_dead_letters_and_cancels_are_conversations_of_their_group(self) -> None:
        assert (dead_letters_of("g"), cancels_of("g")) == ("g/_dead", "g/_cancel")
        assert is_topic(dead_letters_of("g"))
        assert is_topic(cancels_of("g"))

    @pytest.mark.parametrize(
        ("topic", "dead", "hidden"),
        [
            ("g/_dead", True, True),
            ("g/_cancel", False, True),
            ("g/_dead/x", False, True),
            ("g/a/_dead", False, False),
            ("g/@a", False, True),
            ("_g/a", False, False),
        ],
    )
    def test_which_topics_are_dead_letters_or_hidden(self, topic: str, dead: bool, hidden: bool) -> None:
        assert (is_dead_letters(topic), is_hidden(topic)) == (dead, hidden)

    @pytest.mark.parametrize(
        ("topic", "consumer", "owner"),
        [
            ("g/@a", "inbox", "a"),
            ("g/@a", "w", None),
            ("g/a", "inbox", None),
            ("g/@a/b", "inbox", None),
            ("g/*", "inbox", None),
        ],
    )
    def test_whose_read_mark_a_consumer_is(self, topic: str, consumer: str, owner: str | None) -> None:
        assert names.owner_of_mark(topic, consumer) == owner


def test_a_consumer_is_named_like_a_segment() -> None:
    assert check_consumer("workers") == "workers"
    for bad in ("", "a/b", "*", "a b", "x" * (SEGMENT_CHARS_MAX + 1)):
        with pytest.raises(BadName, match="consumer"):
            check_consumer(bad)


# States -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "topic"),
    [("g", "g/_state"), ("g/c", "g/_state/c"), ("g/c/d", "g/_state/c/d"), ("g/@joe", "g/_state/@joe")],
)
def test_each_group_and_conversation_has_a_state_and_a_topic_that_tells_of_it(name: str, topic: str) -> None:
    assert names.state_of(name) == topic
    assert names.is_state(topic)
    assert names.owner_of_state(topic) == (name if "/" in name else None)


@pytest.mark.parametrize(
    "name", ["", "a b", "g/", "g/*", "*", "g/_state", "g/_state/c", f"g/{'/'.join(['c' * 100] * 5)}"]
)
def test_what_has_no_state(name: str) -> None:
    with pytest.raises(BadName):
        names.state_of(name)


@pytest.mark.parametrize("key", ["a", "a/b", "a.b:c=d+e~f@g-h_i", "k" * 128, "/".join(["k" * 100] * 5)])
def test_keys(key: str) -> None:
    assert names.check_key(key) == key
    assert names.check_key_pattern(key) == key


@pytest.mark.parametrize("key", ["", "/", "a/", "/a", "a//b", "a b", "é", "k" * 129, "/".join(["k" * 100] * 6), "a\0b"])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(BadName):
        names.check_key(key)


@pytest.mark.parametrize(
    ("pattern", "good"), [("*", True), ("**", True), ("a/*/b", True), ("a/**/b", False), ("a*", False)]
)
def test_patterns_of_keys(pattern: str, good: bool) -> None:
    with pytest.raises(BadName):
        names.check_key(pattern)
    if good:
        assert names.check_key_pattern(pattern) == pattern
    else:
        with pytest.raises(BadName):
            names.check_key_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "topic", "delivered"),
    [
        ("g/**", "g/c", True),
        ("g/**", "g/_state", False),
        ("g/*", "g/_state", False),
        ("**", "g/_state/c", False),
        ("*/*/c", "g/_state/c", False),
        ("g/_state/**", "g/_state/c", True),
        ("*/_state/*", "g/_state/c", True),
        ("g/_state/*", "g/c/d", False),
        ("g/*", "g/_cancel", False),
        ("*/_cancel", "g/_cancel", True),
        ("g/**", "g/_breakers", False),
        ("*/_breakers", "g/_breakers", True),
        ("**", "_hubbub/reports", False),
        ("*/*", "_hubbub/@joe", False),
        ("*/reports", "_hubbub/reports", False),
        ("_hubbub/*", "_hubbub/reports", True),
        ("_hubbub/**", "_hubbub/@joe", True),
        ("_hubbub/**", "_hubbub/_state/x", False),
    ],
)
def test_wildcards_stand_for_conversations_and_nothing_else(pattern: str, topic: str, delivered: bool) -> None:
    assert names.reader_of(pattern)(topic) is delivered
    assert names.readers_overlap(pattern, topic) is delivered


def test_a_consumers_pattern_passes_over_what_agents_say_of_themselves() -> None:
    assert names.is_hidden(names.REPORTS)
    assert names.is_hidden(names.line_of("joe"))
    assert not names.is_hidden("_hubbub/events")
    assert not names.is_hidden("g/reports")
