"""The grammar of names: topics, groups, agents, inboxes, patterns.

    topic    = segment "/" segment *( "/" segment )        GROUP/CONVERSATION, at most 512 bytes
    segment  = 1*128( ALPHA / DIGIT / "." / "_" / "-" / "~" / "@" / ":" / "=" / "+" )
    inbox    = group "/@" agent
    key      = segment *( "/" segment )                    of a state, at most 512 bytes
    pattern  = a topic, or key, in which "*" stands for one whole segment and a last "**" for the rest (one or more)

Every function is pure. The checks are regular expressions that can't backtrack, so that no name is slow to refuse.
"""

import re
from collections.abc import Callable

from .errors import BadName
from .limits import AGENT_CHARS_MAX, KEY_BYTES_MAX, SEGMENT_CHARS_MAX, TOPIC_BYTES_MAX

_CHARS = r"[A-Za-z0-9._\-~@:=+]"
_SEGMENT = rf"{_CHARS}{{1,{SEGMENT_CHARS_MAX}}}"
_is_segment = re.compile(_SEGMENT).fullmatch
_is_agent = re.compile(rf"{_CHARS}{{1,{AGENT_CHARS_MAX}}}").fullmatch
_is_topic = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})+").fullmatch
_is_key = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*").fullmatch
_is_pattern = re.compile(rf"(?:(?:{_SEGMENT}|\*)/)*(?:{_SEGMENT}|\*|\*\*)").fullmatch

DEAD_LETTERS = "_dead"
"""The conversation of each group that holds its dead letters."""

MAIL_GROUP = "_mail"
"""Stands for whatever group an agent's inbox is in: `_mail/@NAME` is published to, and never read."""

READ_MARK = "inbox"
"""The consumer of an inbox whose position is its owner's read mark."""

MAIL = "mail"
"""The `type` of a mail."""

MAIL_TO_ALL = f"{MAIL_GROUP}/@ALL"
"""Stands for the inboxes of all agents."""

STATE = "_state"
"""The conversation of each group that tells of the changes of its state; below it, of its conversations' states."""

BREAKERS = "_breakers"
"""The conversation of each group that tells what becomes of its shared circuit breakers."""

CANCELS = "_cancel"
"""The conversation of each group on which questions are called off."""

CONTROL_GROUP = "_hubbub"
"""The group of the broker's own, with the topics by which agents and the control plane hear one another."""

CONTROL_AGENT = "_control"
"""The agent that is the control plane. It is in no register."""

REPORTS = f"{CONTROL_GROUP}/reports"
"""Where agents say how they are: ephemeral, and read by the control plane."""

AGENTS = f"{CONTROL_GROUP}/agents"
"""Where the broker says who came, who left, and whose registration has changed: ephemeral."""

ANSWERS = f"{CONTROL_GROUP}/answers"
"""Where agents say what became of a command."""

COMMANDS = f"{CONTROL_GROUP}/commands"
"""Where the control plane notes who commanded what."""

_TALK = frozenset({REPORTS, AGENTS, ANSWERS, COMMANDS})

POLICIES, SCHEMAS = f"{CONTROL_GROUP}/policies", f"{CONTROL_GROUP}/schemas"
"""Below these the control plane notes who changed which policy, and which schema."""

BLOBS = "_blobs"
"""The conversations of each group that hold large bodies: see `blobs`."""

_is_blob_topic = re.compile(rf"{_SEGMENT}/{BLOBS}/[0-9a-f]{{64}}").fullmatch

_ASIDE = frozenset({BLOBS, BREAKERS, STATE, CANCELS})

_ALPHABET = "A-Z a-z 0-9 . _ - ~ @ : = +"


def is_topic(name: str) -> bool:
    """Whether `name` is a topic: two segments or more, 512 bytes at most."""
    return len(name) <= TOPIC_BYTES_MAX and _is_topic(name) is not None


def is_pattern(name: str) -> bool:
    """Whether `name` has a wildcard, that is, whether it is a pattern and can't be a topic."""
    return "*" in name


def check_topic(name: str) -> str:
    """Return `name` if it is a topic.

    Raises:
        BadName: saying what is wrong with it.
    """
    if is_topic(name):
        return name
    raise BadName(_why_not_topic(name))


def check_pattern(name: str) -> str:
    """Return `name` if it is a topic or a pattern. `**` alone matches every topic.

    Raises:
        BadName: saying what is wrong with it.
    """
    if not is_pattern(name):
        return check_topic(name)
    if len(name) > TOPIC_BYTES_MAX:
        raise BadName(f"pattern is longer than {TOPIC_BYTES_MAX} bytes")
    if name == "*":
        raise BadName("bad pattern '*': a topic has two segments or more, so it matches none; `**` matches every topic")
    if _is_pattern(name) is None:
        raise BadName(
            f"bad pattern {name[:80]!r}: `*` stands for one whole segment, `**` only as the last one; "
            f"other segments are 1 to {SEGMENT_CHARS_MAX} of {_ALPHABET}"
        )
    return name


def check_key(key: str) -> str:
    """Return `key` if it can be a key of a state.

    Raises:
        BadName: saying what is wrong with it.
    """
    if len(key) <= KEY_BYTES_MAX and _is_key(key) is not None:
        return key
    raise BadName(
        f"bad key {key[:80]!r}: segments of 1 to {SEGMENT_CHARS_MAX} of {_ALPHABET} with `/` between, "
        f"{KEY_BYTES_MAX} bytes at most"
    )


def check_key_pattern(pattern: str) -> str:
    """Return `pattern` if it is a key, or a pattern of keys. `**` matches every key, `*` those of one segment.

    Raises:
        BadName: saying what is wrong with it.
    """
    if not is_pattern(pattern):
        return check_key(pattern)
    if len(pattern) > KEY_BYTES_MAX or _is_pattern(pattern) is None:
        raise BadName(
            f"bad pattern {pattern[:80]!r} of keys: `*` stands for one whole segment, a last `**` for the rest"
        )
    return pattern


def check_agent(name: str) -> str:
    """Return `name` if it can be an agent's.

    Raises:
        BadName: saying what is wrong with it.
    """
    if _is_agent(name) is None:
        raise BadName(f"bad agent name {name[:80]!r}: 1 to {AGENT_CHARS_MAX} of {_ALPHABET}")
    return name


def check_consumer(name: str) -> str:
    """Return `name` if it can be a consumer's.

    Raises:
        BadName: saying what is wrong with it.
    """
    if _is_segment(name) is None:
        raise BadName(f"bad consumer name {name[:80]!r}: 1 to {SEGMENT_CHARS_MAX} of {_ALPHABET}")
    return name


def check_segment(name: str, what: str) -> str:
    """Return `name` if it can be one segment of a topic; `what` says what it is the name of.

    Raises:
        BadName: saying what is wrong with it.
    """
    if _is_segment(name) is None:
        raise BadName(f"bad {what} {name[:80]!r}: 1 to {SEGMENT_CHARS_MAX} of {_ALPHABET}")
    return name


def check_group(name: str) -> str:
    """Return `name` if it can be a group, that is, a topic's first segment.

    Raises:
        BadName: saying what is wrong with it.
    """
    if _is_segment(name) is None:
        raise BadName(f"bad group {name[:80]!r}: 1 to {SEGMENT_CHARS_MAX} of {_ALPHABET}")
    return name


def group_of(topic: str) -> str:
    """The first segment: what decides the shard."""
    return topic.partition("/")[0]


def inbox_of(group: str, agent: str) -> str:
    """The topic that is `agent`'s inbox in `group`."""
    return f"{group}/@{agent}"


def owner_of_mark(topic: str, consumer: str) -> str | None:
    """Whose read mark a consumer of a topic is; None if it is nobody's. A pattern's is none: it passes inboxes over."""
    rest = topic.partition("/")[2]
    return rest[1:] if consumer == READ_MARK and rest.startswith("@") and "/" not in rest else None


def inbox_owner(topic: str) -> str | None:
    """Whose inbox a topic is; None if it is none."""
    group, _, conversation = topic.partition("/")
    if group[:1] == "_" or conversation[:1] != "@" or "/" in conversation:
        return None
    return conversation[1:]


def is_to_inbox(topic: str) -> bool:
    """Whether what is published to the topic goes into an inbox: by its own name, or by that of `MAIL_GROUP`."""
    return topic.startswith(f"{MAIL_GROUP}/@") or inbox_owner(topic) is not None


def dead_letters_of(group: str) -> str:
    """The topic that holds what no consumer of `group` could deal with."""
    return f"{group}/{DEAD_LETTERS}"


def cancels_of(group: str) -> str:
    """The topic on which a question of `group` is called off by whoever asked it."""
    return f"{group}/{CANCELS}"


def is_cancels(topic: str) -> bool:
    """Whether the topic is the one on which a group's messages are called off."""
    return topic.partition("/")[2] == CANCELS and is_topic(topic)


def is_mail(topic: str) -> bool:
    """Whether the topic stands for the inbox of an agent, whatever group that is in, or for everybody's."""
    return topic.startswith(f"{MAIL_GROUP}/@")


def line_of(agent: str) -> str:
    """The topic on which an agent hears the control plane. Its owner may read it, as an inbox."""
    return inbox_of(CONTROL_GROUP, agent)


def is_heard_by_control(topic: str) -> bool:
    """Whether it is a topic of the broker's own on which every agent may speak to the control plane."""
    return topic in (REPORTS, ANSWERS)


def is_said_by_control(topic: str) -> bool:
    """Whether it is a topic of the broker's own on which the control plane speaks, and no agent may."""
    return topic == COMMANDS or topic.startswith((f"{CONTROL_GROUP}/@", f"{POLICIES}/", f"{SCHEMAS}/"))


def is_dead_letters(topic: str) -> bool:
    """Whether the topic holds dead letters: readable, not for clients to publish to."""
    return topic.partition("/")[2] == DEAD_LETTERS


def state_of(name: str) -> str:
    """The topic that tells of the changes of a state: a conversation's, or (`name` has no `/`) a group's.

    Raises:
        BadName: there is no such state: `name` is neither, or too long for it, or a state's own topic.
    """
    group, _, conversation = name.partition("/")
    if not conversation:
        return f"{check_group(name)}/{STATE}"
    check_topic(name)
    if is_state(name):
        raise BadName(f"{name[:80]!r} tells of a state: name the conversation, or the group, whose state it is")
    topic = f"{group}/{STATE}/{conversation}"
    if len(topic) > TOPIC_BYTES_MAX:
        raise BadName(f"a conversation with a state has at most {TOPIC_BYTES_MAX - len(STATE) - 1} bytes")
    return topic


def is_state(topic: str) -> bool:
    """Whether the topic tells of a state's changes: readable, not for clients to publish to. It may be a pattern."""
    return topic.partition("/")[2].partition("/")[0] == STATE


def owner_of_state(topic: str) -> str | None:
    """The conversation (or pattern of them) whose state a topic tells of; None for a group's."""
    group, _, rest = topic.partition("/")
    conversation = rest.partition("/")[2]
    return f"{group}/{conversation}" if conversation else None


def is_blob(topic: str) -> bool:
    """Whether the topic (or pattern) is named as one that holds a large body."""
    return topic.partition("/")[2].partition("/")[0] == BLOBS


def is_blob_topic(topic: str) -> bool:
    """Whether the topic is one that holds a large body: its name ends with the hash of that."""
    return len(topic) <= TOPIC_BYTES_MAX and _is_blob_topic(topic) is not None


def is_hidden(topic: str) -> bool:
    """Whether a consumer's pattern passes the topic over: an inbox, a conversation whose name begins with `_`, or what
    agents and the control plane say to one another.
    """
    return topic.partition("/")[2].startswith(("_", "@")) or topic in _TALK


def readers_overlap(one: str, other: str) -> bool:
    """Whether subscriptions to both (each may be a topic or a pattern) could deliver some message twice."""
    return _aside(one) == _aside(other) and overlap(one, other)


def _aside(topic: str) -> str | None:
    """What a topic holds that is no conversation, where that is so: large bodies, the changes of states, those of
    breakers, what is called off; or what agents, the broker and the control plane say to one another.
    """
    group, _, rest = topic.partition("/")
    conversation = rest.partition("/")[0]
    if conversation in _ASIDE:
        return conversation
    return group if group == CONTROL_GROUP else None


def overlap(one: str, other: str) -> bool:
    """Whether some topic could match both (each may be a topic or a pattern)."""
    ours, theirs = one.split("/"), other.split("/")
    for mine, its in zip(ours, theirs, strict=False):
        if mine == "**" or its == "**":
            return True
        if mine != its and "*" not in (mine, its):
            return False
    return len(ours) == len(theirs)


def covers(outer: str, inner: str) -> bool:
    """Whether every topic that matches `inner` matches `outer` (each may be a topic or a pattern)."""
    wide, narrow = _at_least_two(outer.split("/")), _at_least_two(inner.split("/"))
    for ours, theirs in zip(wide, narrow, strict=False):
        if ours == "**":
            return True
        if theirs == "**" or ours not in ("*", theirs):
            return False
    return len(wide) == len(narrow)


def _at_least_two(segments: list[str]) -> list[str]:
    """`**` alone as what it means: topics have two segments or more."""
    return ["*", "**"] if segments == ["**"] else segments


def is_reserved(topic: str) -> bool:
    """Whether the topic is in a group of the broker's own (`_...`): readable, not for clients to publish to."""
    return topic.startswith("_")


def literal_prefix(pattern: str) -> str:
    """The part before the first wildcard segment, with its trailing slash: `a/b/*` gives `a/b/`."""
    if not is_pattern(pattern):
        return pattern
    return pattern[: pattern.index("*")]


def matcher(pattern: str) -> Callable[[str], bool]:
    """A predicate over topics. Costs time proportional to the topic's length, whatever the pattern.

    `*` matches one segment; a last `**` matches one segment or more.
    """
    parts = pattern.split("/")
    rest = parts[-1] == "**"
    if rest:
        parts.pop()
    if rest and all(part != "*" for part in parts):  # the common case: everything under a prefix
        prefix = "".join(part + "/" for part in parts)
        return lambda topic: topic.startswith(prefix) and len(topic) > len(prefix)
    # By hand and not as a regular expression: a long one takes milliseconds to compile, and anyone may subscribe.
    slashes = len(parts) - 1
    fixed = [(place, part) for place, part in enumerate(parts) if part != "*"]

    def matches(topic: str) -> bool:
        found = topic.count("/")
        if found <= slashes if rest else found != slashes:
            return False
        if not fixed:
            return True
        segments = topic.split("/")
        return all(segments[place] == part for place, part in fixed)

    return matches


def reader_of(pattern: str) -> Callable[[str], bool]:
    """A predicate over topics: those that a subscription by that pattern delivers.

    Its wildcards don't stand for large bodies, nor for what tells of states or breakers or calls something off, nor for
    the group `_hubbub`: whoever reads `research/**` wants conversations, and not the pieces of what they refer to, nor
    what their agents keep; and whoever reads `**` not what all agents say of themselves.
    """
    matches = matcher(pattern)
    own = _aside(pattern)
    return lambda topic: matches(topic) and _aside(topic) == own


def _why_not_topic(name: str) -> str:
    if is_pattern(name):
        return f"{name[:80]!r} is a pattern; a topic is wanted here"
    if len(name) > TOPIC_BYTES_MAX:
        return f"topic is longer than {TOPIC_BYTES_MAX} bytes"
    if "/" not in name:
        return f"bad topic {name[:80]!r}: a topic is GROUP/CONVERSATION, such as research/conv-42"
    return f"bad topic {name[:80]!r}: segments are 1 to {SEGMENT_CHARS_MAX} of {_ALPHABET}"
