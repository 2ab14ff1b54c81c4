"""Every frame of the protocol, one frozen class each.

The classes are the schema: `codec` reads them off the wire and refuses what does not fit, naming the field. User data
(`data`, `headers`, `meta`) stays undecoded JSON text (`Raw`), so that the broker passes on exactly the bytes that it
was given and never pays for reading them.

Fields that are not in the one-page contract are marked "extension": a client may leave them out, and a client that
does not know them loses nothing.
"""

from typing import Any

from msgspec import Raw, Struct

Rid = str | int
"""What a request may carry and its answer repeats."""

BY_TOPIC = "*"
"""What a consumer is `ordered` by in place of a header, when what is in one topic is to come one after the other."""

NO_DATA = Raw()
"""Stands for `data` that was not given. An empty text is not JSON, so it can't be confused with a value."""


class Frame(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="op"):
    """One JSON object on the wire, with its `op`. Subclasses repeat `frozen`, which type checkers don't inherit."""


# Client to broker ---------------------------------------------------------------------------------------------------


class Will(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is to be said for an agent whose connection is lost (extension)."""

    topic: str
    data: Raw = NO_DATA
    type: str | None = None
    """Default: `will`."""
    ephemeral: bool = False
    delay: float = 10.0
    """Seconds that it has to come back."""


class Hello(Frame, frozen=True, tag="hello"):
    agent: str
    token: str | None = None
    groups: list[str] | None = None
    meta: Raw = NO_DATA
    session: str | None = None
    """Extension: names this life of the agent across its connections. A newer connection of the same session replaces
    an older one (4509), and `n` counts per session, so that two processes of one name don't disturb each other."""
    will: Will | None = None
    """Extension: said when this connection is lost, unless the agent closed it (1000, 1001) or is back in time."""
    capabilities: list[str] | None = None
    """Extension: what it can do, for whoever looks for somebody. Left out, the register keeps what it has."""
    description: str | None = None
    """Extension: who it is, in words; likewise."""
    rid: Rid | None = None


class Pub(Frame, frozen=True, tag="pub"):
    topic: str
    id: str
    data: Raw = NO_DATA
    parent: str | None = None
    type: str | None = None
    lc: int = 0
    headers: Raw = NO_DATA
    ephemeral: bool = False
    ttl: float | None = None
    reply_to: str | None = None
    n: int | None = None
    track: bool = False
    mandatory: bool = False
    """Extension: refuse the message (`not_found`) when nobody is subscribed to its topic now."""
    rid: Rid | None = None


class From(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where a subscription starts, in its object forms: exactly one of `seq`, `last`, `since`.

    `epoch` and `after` are extensions for clients that resume.
    """

    seq: int | None = None
    last: int | None = None
    since: float | None = None
    epoch: str | None = None
    """With `seq`: the epoch that the seq belongs to. If the topic has another, everything is new to this client."""
    after: dict[str, int] | None = None
    """With `since`, for a pattern: topics of which the client already has everything up to that seq."""


class Sub(Frame, frozen=True, tag="sub", rename={"start": "from"}):
    topic: str
    start: str | From = "new"
    consumer: str | None = None
    ack_wait: float | None = None
    max_unacked: int | None = None
    max_deliver: int | None = None
    backoff: list[float] | None = None
    exclusive: bool = False
    """Extension, with `consumer`: one member at a time gets everything, the others stand by."""
    here: bool = False
    """Extension, for a pattern of all groups: only what the worker that is asked has, where there are several."""
    ordered: str | None = None
    """Extension, with `consumer`: the header whose value is a message's key, or `*`: its topic is. Messages of one key
    come one after the other, each when the one before it is settled."""
    where: dict[str, Any] | None = None
    """Extension: only messages of which this holds: see `filters`."""
    select: list[str] | None = None
    """Extension: only these parts of `data` and `headers`: see `filters`."""
    rid: Rid | None = None


class Unsub(Frame, frozen=True, tag="unsub"):
    topic: str
    consumer: str | None = None
    drain: bool = False
    """Extension, with `consumer`: nothing more is to come, and what is out stays this member's until it settles it."""
    rid: Rid | None = None


class Join(Frame, frozen=True, tag="join"):
    """Be present in a topic until `leave` or the connection's end; those who read it are told (extension)."""

    topic: str
    rid: Rid | None = None


class Leave(Frame, frozen=True, tag="leave"):
    """Be present there no longer (extension)."""

    topic: str
    rid: Rid | None = None


class Ack(Frame, frozen=True, tag="ack"):
    topic: str
    consumer: str
    seq: int | None = None
    seqs: list[int] | None = None
    upto: int | None = None
    attempt: int | None = None
    """Extension: which delivery this is about. One that was superseded is refused with `conflict`."""
    lease: int | None = None
    """Extension: the same, by its number."""
    rid: Rid | None = None


NACK_DELAY_MAX = 30 * 86_400.0
"""Seconds that a message may be put off by."""


class Nack(Frame, frozen=True, tag="nack"):
    topic: str
    consumer: str
    seq: int
    delay: float | None = None
    reason: str | None = None
    attempt: int | None = None
    """Extension: which delivery this is about. One that was superseded is refused with `conflict`."""
    lease: int | None = None
    """Extension: the same, by its number."""
    returned: bool = False
    """Extension: it was not begun, so this delivery does not count, and another member may have it at once."""
    rid: Rid | None = None


class Extend(Frame, frozen=True, tag="extend"):
    topic: str
    consumer: str
    seq: int
    attempt: int | None = None
    """Extension: which delivery this is about. One that was superseded is refused with `conflict`."""
    lease: int | None = None
    """Extension: the same, by its number."""
    rid: Rid | None = None


class Term(Frame, frozen=True, tag="term"):
    topic: str
    consumer: str
    seq: int
    reason: str | None = None
    attempt: int | None = None
    """Extension: which delivery this is about. One that was superseded is refused with `conflict`."""
    lease: int | None = None
    """Extension: the same, by its number."""
    rid: Rid | None = None


class State(Frame, frozen=True, tag="state"):
    """Read a state (extension): some keys, or those that match a pattern, a page at a time."""

    topic: str
    """The conversation, or the group, whose state it is."""
    keys: list[str] | None = None
    match: str | None = None
    """A pattern of keys; all of them when neither is given."""
    after: str | None = None
    """Go on behind this key."""
    limit: int | None = None
    rid: Rid | None = None


class With(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A message that is published in the same step as a change."""

    topic: str
    id: str
    data: Raw = NO_DATA
    parent: str | None = None
    type: str | None = None
    headers: Raw = NO_DATA
    ttl: float | None = None
    reply_to: str | None = None
    track: bool = False


class Change(Frame, frozen=True, tag="change"):
    """Change a state (extension): all of it in one step, if it is what the sender expects, or nothing."""

    topic: str
    """The conversation, or the group, whose state it is."""
    id: str
    """The sender's own: a second one with the same id gets the first one's answer."""
    set: dict[str, Raw] = {}
    delete: list[str] = []
    expect: int | dict[str, int] | None = None
    """The version of the whole state, or of some keys; 0 where there is nothing yet."""
    ttl: dict[str, float] = {}
    """Of keys in `set`: seconds after which they go by themselves, unless they are renewed."""
    keep: list[str] = []
    """Of keys in `set`: those that go when they would have gone without this change, if they go by themselves."""
    publish: list[With] = []
    """To topics of the same group."""
    lc: int = 0
    rid: Rid | None = None


class Renew(Frame, frozen=True, tag="renew"):
    """Let keys that go by themselves live their whole time again from now on (extension)."""

    topic: str
    keys: dict[str, int]
    """Each with the version that it is thought to have."""
    rid: Rid | None = None


class Get(Frame, frozen=True, tag="get"):
    """One stored message, by its id or seq, and some of those that led to it within its topic (extension)."""

    topic: str
    id: str | None = None
    seq: int | None = None
    ancestors: int = 0
    """How many: its parent, the parent of that, and so on."""
    rid: Rid | None = None


class Ping(Frame, frozen=True, tag="ping"):
    rid: Rid | None = None


ClientFrame = (
    Hello | Pub | Sub | Unsub | Join | Leave | Ack | Nack | Extend | Term | State | Change | Renew | Get | Ping
)


# Broker to client ---------------------------------------------------------------------------------------------------


class Welcome(Frame, frozen=True, tag="welcome"):
    agent: str
    session: str
    server: str
    heartbeat: float
    limits: dict[str, Any]
    rid: Rid | None = None
    ts: float = 0.0
    """Extension: the broker's clock, in seconds since the Unix epoch."""
    inbox: str | None = None
    """Extension: the topic that is this agent's inbox."""
    expires: float | None = None
    """Extension: when the token ends, and the connection with it unless a `hello` brings a fresh one."""
    workers: list[str] | None = None
    """Extension, where there are several: the address of each. A group is at place `routing.worker_of`."""
    shards: int | None = None
    """Extension, with `workers`: what that needs to know."""
    worker: int | None = None
    """Extension, with `workers`: which of them this connection is to."""


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a key of a state holds."""

    key: str
    value: Raw
    version: int
    left: float | None = None
    """Seconds until it goes by itself, unless it is renewed."""


class Published(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The place of a message that was published with a change."""

    topic: str
    id: str
    seq: int
    lc: int | None = None
    """None for a repeat of a message that retention took."""
    dup: bool = False


class Ok(Frame, frozen=True, tag="ok"):
    rid: Rid | None = None
    id: str | None = None
    topic: str | None = None
    seq: int | None = None
    lc: int | None = None
    dup: bool = False
    head: int | None = None
    next: int | None = None
    epoch: str | None = None
    present: list[str] | None = None
    """Extension, to `join`: who is in the topic now, by name."""
    entries: list[Entry] | None = None
    """Extension, to `state`: what there is."""
    more: str | None = None
    """Extension, to `state`: there may be more, behind this key."""
    published: list[Published] | None = None
    """Extension, to `change`: the places of its messages."""

    messages: list[Raw] | None = None
    """Extension, to `get`: the message, then its ancestors, nearest first. A payload of bytes as `data_base64`."""
    missing: str | None = None
    """Extension, to `get`: the id of the parent that is not there, where the line of ancestors breaks off."""
    max_age: float | None = None
    """Extension, to `get`: the seconds that messages of this topic are kept for; None: for ever."""
    left: float | None = None
    """Extension, to `get`, with `max_age`: the seconds for which this one is there still, at least."""


class Err(Frame, frozen=True, tag="err"):
    code: str
    message: str
    rid: Rid | None = None
    id: str | None = None
    topic: str | None = None
    retry_after: float | None = None
    url: str | None = None
    expect: int | None = None
    """Extension, with `order`: the `n` that the broker will accept next from this publisher on this topic."""
    consumer: str | None = None
    """Extension, with `conflict` about a lease: whose; `topic` and `seq` say of which message."""
    seq: int | None = None
    key: str | None = None
    """Extension, with `conflict` about a state: which key has another version than expected; None: the whole state."""
    expected: int | None = None
    current: int | None = None


class Msg(Frame, frozen=True, tag="msg", rename={"sender": "from"}):
    topic: str
    id: str
    sender: str
    ts: float
    lc: int
    data: Raw = NO_DATA
    seq: int | None = None
    parent: str | None = None
    type: str | None = None
    headers: Raw = NO_DATA
    reply_to: str | None = None
    ephemeral: bool = False
    orphan: bool = False
    attempt: int | None = None
    lease: int | None = None
    """Extension: the number of this delivery, larger than that of any before it: what is written under it can be fenced
    by it."""
    consumer: str | None = None
    """Extension: the consumer that this delivery belongs to, and that it is to be settled with. None: a plain
    subscription's."""
    made: float = 0.0
    """Extension: when that consumer was made, or last reset. What was done before is to be done again."""
    track: bool = False
    """Extension: its publisher asked for receipts."""


class Receipt(Frame, frozen=True, tag="receipt"):
    id: str
    topic: str
    state: str
    seq: int | None = None
    consumer: str | None = None
    by: str | None = None
    reason: str | None = None
    ts: float | None = None


class Live(Frame, frozen=True, tag="live"):
    topic: str
    seq: int
    consumer: str | None = None
    """Extension: the consumer that it is about. None: a plain subscription."""


class Gap(Frame, frozen=True, tag="gap"):
    topic: str
    first: int
    last: int
    reason: str
    dropped: int = 0
    """Extension, with `slow`: how many ephemeral messages this reader missed. They have no seq, so `first` and `last`
    are both the seq of the last durable message before the gap."""
    consumer: str | None = None
    """Extension: the consumer that it is about. None: a plain subscription."""


class Skip(Frame, frozen=True, tag="skip"):
    """Extension, to a subscription with `where`: of what comes up to `seq`, it has been sent all that it wants."""

    topic: str
    seq: int


class Goaway(Frame, frozen=True, tag="goaway"):
    reason: str
    reconnect_after: float


class Pong(Frame, frozen=True, tag="pong"):
    rid: Rid | None = None


BrokerFrame = Welcome | Ok | Err | Msg | Receipt | Live | Gap | Skip | Goaway | Pong
