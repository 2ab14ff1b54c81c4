"""What caused a mail, over all inboxes together: each inbox is a topic of its own, and sees half of an exchange.

Agents that poll say little. So a mail counts as the answer to, whichever makes it the deeper:

    the mail that it names                  header in_reply_to (or cause); its sender knows
    the newest under its subject            if its own begins with `Re:`; from its recipient, else from anybody
    the newest that says the very same      from its recipient, else from anybody: it is passed on, or sent back

The header `hops` says more than all of these; `hops` 0 says that something new begins, and nothing else is looked at.

Of two mails between the same two agents of which neither says a cause the later one is the other's turn: that makes no
chain deeper, because work goes to and fro just so, and counts only for how fast it goes. A mail to ALL is in the inbox
of everybody but its sender.
"""

import re
from typing import Any, NamedTuple

from msgspec import Raw, Struct
from xxhash import xxh3_64_intdigest

from hubbub_broker.config import Settings
from hubbub_protocol.causal import BROADCASTS, CAUSE, HOPS, hops_of
from hubbub_protocol.codec import reader_of
from hubbub_protocol.errors import BadFrame
from hubbub_protocol.frames import Pub
from hubbub_protocol.headers import IN_REPLY_TO

from .chain import Link
from .pace import Came
from .recent import Recent

SAME_BYTES_LEAST = 32
"""Content shorter than this (`ok`, `{"status":"done"}`) is the same so often by itself that it says nothing."""

ALL = "ALL"
"""Whose inbox a mail to ALL is remembered in."""

_KEYS = 5
"""Under how many keys a mail is remembered at most."""

_answering = re.compile(r"(?:\s*re(?:\[\d{1,9}\])?:)+\s*", re.IGNORECASE).match


class _Stated(Struct):
    """The headers of a mail that say what caused it; whatever else is there is passed over."""

    hops: Any = None
    in_reply_to: Any = None
    cause: Any = None
    broadcasts: Any = None


class _Fields(Struct):
    """The parts of a mail that can be the same in another."""

    subject: Any = ""
    body: Raw = Raw()


assert set(_Stated.__struct_fields__) == {HOPS, IN_REPLY_TO, CAUSE, BROADCASTS}
_stated = reader_of(_Stated)
_fields = reader_of(_Fields)
_SAYS_NOTHING = _Stated()
_EMPTY = _Fields()


class Known(NamedTuple):
    """What is remembered of a mail."""

    link: Link
    broadcasts: int
    """Mails to ALL among those that led to it, itself included."""
    content: int
    """A hash of its body; 0 for one that says too little."""
    says: bool
    """Whether its sender said what caused it."""
    at: float


class Letter(NamedTuple):
    """A mail that is about to be taken, as far as the guard sees it."""

    sender: str
    recipient: str
    id: str
    subject: int
    """A hash of its subject, without any `Re:`; 0 if there is none."""
    content: int
    says: bool
    depth: int
    broadcasts: int
    """Mails to ALL among those that led to it."""
    parent: Link | None
    """What it answers, for the ping-pong of two."""


class Correspondence:
    """The newest mails of all inboxes. What is forgotten, and what another worker has taken, counts as never sent."""

    def __init__(self, settings: Settings) -> None:
        self._window = settings.mail_window
        self._known: Recent[tuple[str | int, ...], Known] = Recent(settings.mail_entries * _KEYS)
        self._to_all = False
        """Whether there was ever a mail to ALL: most mail need not be looked for in two places."""
        self.contents: Recent[int, Came] = Recent(settings.mail_entries)
        """How often which body came round."""

    def __len__(self) -> int:
        return len(self._known)

    def read(self, sender: str, recipient: str, pub: Pub, now: float) -> Letter:
        """What a mail says of its cause, and what can be seen of that. Remembers nothing."""
        stated = _read(_stated, pub.headers, _SAYS_NOTHING)
        fields = _read(_fields, pub.data, _EMPTY)
        about = fields.subject if isinstance(fields.subject, str) else ""
        prefix = _answering(about)
        about = about[prefix.end() :] if prefix else about
        subject = xxh3_64_intdigest(about.encode(errors="replace")) | 1 if about else 0
        content = xxh3_64_intdigest(fields.body) | 1 if len(fields.body) >= SAME_BYTES_LEAST else 0
        hops, broadcasts = hops_of(stated.hops), hops_of(stated.broadcasts)
        if type(stated.hops) is int and stated.hops == 0:
            return Letter(sender, recipient, pub.id, subject, content, True, 0, 0, None)
        names = _named(stated)
        parent, depth = None, hops if names is None else max(hops, 1)
        for known in (
            None if names is None else self._found(sender, names),
            self._under(sender, recipient, subject, now) if prefix and subject else None,
            self._same(sender, recipient, content, now) if content else None,
        ):
            if known is not None:
                parent = parent or known.link
                depth = max(depth, known.link[0] + 1)
                broadcasts = max(broadcasts, known.broadcasts)
        says = names is not None or hops > 0
        if parent is None and not says:
            turn = self._known.get((sender, recipient, 0))
            parent = turn.link if turn is not None and not turn.says else None
        return Letter(sender, recipient, pub.id, subject, content, says, depth, broadcasts, parent)

    def remember(self, letter: Letter, link: Link, now: float) -> None:
        """It was taken."""
        sender, recipient = letter.sender, letter.recipient
        broadcasts = letter.broadcasts
        if recipient == ALL:
            self._to_all = True
            broadcasts += 1
        known = Known(link, broadcasts, letter.content, letter.says, now)
        put = self._known.put
        put((recipient, letter.id), known)
        put((recipient, 0), known)
        put((recipient, sender, 0), known)
        if letter.subject:
            put((recipient, letter.subject), known)
            put((recipient, sender, letter.subject), known)

    def depth_after(self, agent: str, id: str) -> int | None:
        """How deep in its chain an answer to that mail in the agent's inbox stands; None: it is not remembered."""
        known = self._found(agent, id)
        return None if known is None else known.link[0] + 1

    def _found(self, agent: str, id: str) -> Known | None:
        return self._known.get((agent, id)) or self._known.get((ALL, id))

    def _under(self, agent: str, other: str, subject: int, now: float) -> Known | None:
        """The newest mail to `agent` under a subject: from `other`, and if there is none from anybody."""
        return self._newest(agent, other, subject, now) or self._newest(agent, None, subject, now)

    def _same(self, agent: str, other: str, content: int, now: float) -> Known | None:
        """The newest mail to `agent`, from `other` or else from anybody, if it says the same."""
        for who in (other, None):
            known = self._newest(agent, who, 0, now)
            if known is not None and known.content == content:
                return known
        return None

    def _newest(self, agent: str, sender: str | None, key: int, now: float) -> Known | None:
        found = None
        for inbox in (agent, ALL) if self._to_all else (agent,):
            known = self._known.get((inbox, key) if sender is None else (inbox, sender, key))
            if known is None or known.link[1] == agent or now - known.at > self._window:
                continue
            if found is None or known.at > found.at:
                found = known
        return found


def _read(decode: Any, raw: Raw, otherwise: Any) -> Any:
    """What is malformed says nothing: that is between the agents."""
    if not raw:
        return otherwise
    try:
        return decode(raw)
    except BadFrame:
        return otherwise


def _named(stated: _Stated) -> str | None:
    """The id of the mail that one says it answers, or was caused by."""
    if isinstance(stated.in_reply_to, str):
        return stated.in_reply_to
    id = stated.cause.get("id") if isinstance(stated.cause, dict) else None
    return id if isinstance(id, str) else None
