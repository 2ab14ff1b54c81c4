"""The decision: may this identity do that? Pure, and the only place where it is made.

Some conversations are not for everyone in their group, so a wildcard in a token does not stand for them; only a grant
that names them does:

    GROUP/@NAME...     an inbox: its owner reads it, whoever belongs to the group may send to it
    GROUP/_dead        dead letters: anybody's messages, from any conversation
    GROUP/_blobs/HASH  a large body: whoever may read something in the group may fetch it by its name, which is the hash
                       of its content, and learnt from a message that refers to it; many at once only by such a grant
    _GROUP/...         the broker's own groups

What is called off in a group, `GROUP/_cancel`, is for whoever works there: it says which of the group's messages are,
and nothing of what they say. Whoever may read something in the group hears it; whoever may publish something there may
say so, and is believed of what it published itself.

A conversation's state belongs to it: `GROUP/_state/CONVERSATION` is for whom the conversation is.

So `subscribe: ["research/**"]` is every conversation of research, except the inboxes of others and the dead letters.
A subscription by a pattern that matches such topics passes them over (`passes`).
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from hubbub_protocol.errors import BadName
from hubbub_protocol.names import (
    BLOBS,
    DEAD_LETTERS,
    MAIL_TO_ALL,
    check_pattern,
    covers,
    is_blob_topic,
    is_cancels,
    is_dead_letters,
    is_heard_by_control,
    is_pattern,
    is_reserved,
    is_said_by_control,
    is_state,
    is_topic,
    matcher,
    overlap,
    owner_of_mark,
    owner_of_state,
)

from .identity import Identity
from .operation import TABLE, Operation, Right

GRANTS_KEPT = 4096
"""Grants whose test is kept: lists of topics are asked about one by one."""

_SHOWN_MAX = 80
"""Characters of a target that are repeated in a refusal."""


def why_not(identity: Identity, operation: Operation, target: str = "") -> str | None:
    """Why `identity` may not do `operation` on `target`, for the one who asks; None if it may.

    A target outside the grammar is nobody's: it is refused to whoever is not allowed everything.
    """
    return _CHECKS[TABLE[operation]](identity, operation, target)


def of_consumer(operation: Operation, topic: str, consumer: str) -> Iterator[tuple[Operation, str]]:
    """All that has to be allowed for `operation` on a consumer of a topic or pattern, each with its target.

    The consumer of an inbox that is its read mark is moved only by whom the mark is for, whoever may read the mail.
    """
    yield operation, topic
    owner = owner_of_mark(topic, consumer)
    if owner is not None:
        yield Operation.MARK_INBOX, owner


def passes(identity: Identity, pattern: str) -> Callable[[str], bool] | None:
    """Which of the topics that match `pattern` may be read, once subscribing to it is allowed; None: all of them."""
    if identity.trusted or identity.admin:
        return None
    conversations = owner_of_state(pattern) if is_state(pattern) else None
    group, _, rest = (conversations or pattern).partition("/")
    if not is_pattern(group) and rest and not is_pattern(rest.partition("/")[0]):
        return None  # no wildcard where it could stand for what is not for everyone
    return lambda topic: _read(identity, topic) is None


# Rights -------------------------------------------------------------------------------------------------------------


def _known(_identity: Identity, _operation: Operation, _target: str) -> str | None:
    return None


def _name(identity: Identity, _operation: Operation, target: str) -> str | None:
    if identity.name is None or identity.name == target:
        return None
    return f"your token is {identity.name}'s: with it nobody speaks or asks as {_shown(target)}"


def _own(identity: Identity, operation: Operation, target: str) -> str | None:
    return None if identity.admin else _name(identity, operation, target)


def _write(identity: Identity, _operation: Operation, topic: str) -> str | None:
    if is_state(topic) or is_reserved(topic) or is_dead_letters(topic):
        return _write_own(identity, topic)
    if identity.trusted or identity.admin:
        return None
    group = topic.partition("/")[0]
    if _owner(topic) is not None and group in identity.groups and _is_name(topic):
        return None
    granted = _is_name(topic) and any(_covers(grant, topic) for grant in identity.publish)
    if granted or ((is_blob_topic(topic) or is_cancels(topic)) and _works_in(identity, identity.publish, group)):
        return None
    return f"your token does not let you publish to {_shown(topic)}"


def _write_own(identity: Identity, topic: str) -> str | None:
    """`topic` is the broker's own."""
    if is_state(topic):
        return f"{_shown(topic)} tells of a state: change that, and the broker publishes there"
    if is_dead_letters(topic):
        return f"{_shown(topic)} holds dead letters: only the broker publishes there"
    if is_heard_by_control(topic):
        return None
    if not is_said_by_control(topic):
        return f"{_shown(topic)} is in a group of the broker's own: only it publishes there"
    return None if identity.admin else f"{_shown(topic)} is the control plane's: to speak there takes `admin`"


def _change(identity: Identity, operation: Operation, topic: str) -> str | None:
    """`topic` tells of the state."""
    if not is_state(topic) or not _is_name(topic):
        return f"{_shown(topic)} tells of no state"
    if identity.admin:
        return None
    if is_reserved(topic):
        return f"{_shown(topic)} is a state of the broker's own: changing it takes a token with `admin`"
    conversation = owner_of_state(topic)
    if conversation is not None:
        return _write(identity, operation, conversation)
    if identity.trusted or any(_covers(grant, topic) for grant in identity.publish):
        return None
    return f"your token does not let you change {_shown(topic)}"


def _write_to_all(identity: Identity, _operation: Operation, _target: str) -> str | None:
    if identity.trusted or identity.admin or MAIL_TO_ALL in identity.publish:
        return None
    return f"your token does not let you send to ALL: that takes a `pub` pattern {MAIL_TO_ALL}"


def _read_right(identity: Identity, _operation: Operation, topic: str) -> str | None:
    return None if identity.trusted or identity.admin else _read(identity, topic)


def _read(identity: Identity, topic: str) -> str | None:
    """The check of an identity with rights of its own. `topic` may be a pattern."""
    if not _is_name(topic):
        return f"{_shown(topic)} is neither a topic nor a pattern"
    return _read_conversation(identity, (owner_of_state(topic) if is_state(topic) else None) or topic)


def _read_conversation(identity: Identity, topic: str) -> str | None:
    group, _, rest = topic.partition("/")
    conversation = rest.partition("/")[0]
    owner = _owner(topic)
    works_here = (is_blob_topic(topic) or is_cancels(topic)) and _works_in(identity, identity.subscribe, group)
    if works_here or (owner is not None and owner == identity.name):
        return None
    for grant in identity.subscribe:
        if _covers(grant, topic) and _names_what_is_not_for_everyone(grant, group, conversation):
            return None
    if owner is not None:
        return f"{_shown(topic)} is {_shown(owner)}'s inbox"
    if is_pattern(topic):
        return f"your token does not let you read everything that {_shown(topic)} matches: ask for less"
    return f"your token does not let you read {_shown(topic)}"


def _read_and_write(identity: Identity, operation: Operation, topic: str) -> str | None:
    return _read_right(identity, operation, topic) or _write(identity, operation, topic)


def _read_or_write(identity: Identity, operation: Operation, topic: str) -> str | None:
    return _read_right(identity, operation, topic) and _write(identity, operation, topic)


def _mend(identity: Identity, _operation: Operation, topic: str) -> str | None:
    if not is_dead_letters(topic) or not _is_name(topic):
        return f"{_shown(topic)} holds no dead letters"
    if identity.trusted or identity.admin:
        return None
    group, _, conversation = topic.partition("/")
    for grant in identity.publish:
        if _covers(grant, topic) and _names_what_is_not_for_everyone(grant, group, conversation):
            return None
    return f"your token does not let you redrive or drop what is in {_shown(topic)}"


def _metrics(identity: Identity, _operation: Operation, _target: str) -> str | None:
    if identity.trusted or identity.metrics or identity.admin:
        return None
    return "your token does not let you read the metrics"


def _admin(identity: Identity, operation: Operation, _target: str) -> str | None:
    return None if identity.admin else f"{operation} is for operators: it takes a token with `admin`"


_CHECKS: dict[Right, Callable[[Identity, Operation, str], str | None]] = {
    Right.KNOWN: _known,
    Right.NAME: _name,
    Right.OWN: _own,
    Right.WRITE: _write,
    Right.WRITE_TO_ALL: _write_to_all,
    Right.CHANGE: _change,
    Right.READ: _read_right,
    Right.READ_AND_WRITE: _read_and_write,
    Right.READ_OR_WRITE: _read_or_write,
    Right.MEND: _mend,
    Right.METRICS: _metrics,
    Right.ADMIN: _admin,
}


# Conversations that are not for everyone ----------------------------------------------------------------------------


def _owner(topic: str) -> str | None:
    """Whose inbox a topic or pattern is about, if it names one."""
    conversation = topic.partition("/")[2].partition("/")[0]
    return conversation[1:] if conversation.startswith("@") else None


def _names_what_is_not_for_everyone(grant: str, group: str, conversation: str) -> bool:
    """Whether a grant that covers a topic names those of its segments that a grant's wildcards don't stand for."""
    granted_group, _, rest = grant.partition("/")
    if group.startswith("_") and granted_group != group:
        return False
    if conversation in (DEAD_LETTERS, BLOBS) or conversation.startswith("@"):
        return rest.partition("/")[0] == conversation
    return True


def _works_in(identity: Identity, grants: Iterable[str], group: str) -> bool:
    """Whether an identity belongs to a group, or was granted something there."""
    if group.startswith("_"):
        return False
    return group in identity.groups or any(overlap(grant, f"{group}/**") for grant in grants)


def _covers(grant: str, target: str) -> bool:
    return covers(grant, target) if is_pattern(target) else _matcher(grant)(target)


_matcher = lru_cache(GRANTS_KEPT)(matcher)


def _is_name(target: str) -> bool:
    if is_topic(target):
        return True
    try:
        check_pattern(target)
    except BadName:
        return False
    return True


def _shown(target: str) -> str:
    text = target if len(target) <= _SHOWN_MAX else target[: _SHOWN_MAX - 3] + "..."
    return text if text.isprintable() else repr(text)
