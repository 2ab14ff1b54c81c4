"""What can be asked for, and which right it takes: the table. `decision` says what each right means.

Nothing is allowed that does not stand here.
"""

from collections.abc import Mapping
from enum import StrEnum


class Operation(StrEnum):
    """What somebody asks a door for. What each needs as its target stands behind it."""

    SPEAK_AS = "speak_as"
    """Be this agent: connect, publish, register or ask under its name. Target: the name."""
    PUBLISH = "publish"
    """Publish a message. Target: the topic."""
    SEND = "send"
    """Put a message into an inbox. Target: the inbox, `GROUP/@NAME`."""
    SEND_TO_ALL = "send_to_all"
    """Put a message into every inbox. No target."""
    SUBSCRIBE = "subscribe"
    """Get messages as they come. Target: the topic or pattern."""
    HISTORY = "history"
    """Read what is stored. Target: the topic."""
    READ_INBOX = "read_inbox"
    """Read an inbox, whatever the way. Target: the inbox, `GROUP/@NAME`."""
    MARK_INBOX = "mark_inbox"
    """Mark what is in an inbox as read. Target: the name of the agent whose it is."""
    REGISTER = "register"
    """Register an agent, change what is said of it, or forget it. Target: its name."""
    READ_DEAD = "read_dead"
    """Read dead letters. Target: the topic that holds them, `GROUP/_dead`."""
    MEND_DEAD = "mend_dead"
    """Redrive or drop dead letters. Target: the topic that holds them, `GROUP/_dead`."""
    SETTLE = "settle"
    """Take a consumer's messages and settle them. Target: the consumer's topic or pattern."""
    MANAGE = "manage"
    """Reset, pause or remove a consumer. Target: the consumer's topic or pattern."""
    RECEIPTS = "receipts"
    """Ask what became of a message. Target: the name of the agent that published it."""
    READ_STATE = "read_state"
    """Read or watch a state. Target: the topic that tells of its changes, `GROUP/_state...`."""
    CHANGE_STATE = "change_state"
    """Change a state. Target: the same."""
    SEE_TOPIC = "see_topic"
    """Learn that a topic exists. Target: the topic."""
    SEE_AGENT = "see_agent"
    """Learn that an agent is there. Target: its inbox in a group that it works in, `GROUP/@NAME`."""
    ROUTE = "route"
    """Ask where a group lives. Target: the group."""
    METRICS = "metrics"
    """Read the metrics, the state of the shards, and who is busiest. No target."""
    CONTROL = "control"
    """Command agents. Target: the agent's name, or nothing for all."""
    ADMIN = "admin"
    """Everything else that is an operator's: to disconnect agents, policies, schemas, budgets. No target."""


class Right(StrEnum):
    """What an operation takes of an agent with a token of its own. What stands behind each is what the check means."""

    KNOWN = "known"
    """To be known at all."""
    NAME = "name"
    """That the name is the token's. No other right stands in for it, an operator's neither."""
    OWN = "own"
    """That the name is the token's, or `admin`."""
    WRITE = "write"
    """A `pub` pattern that covers the topic; for an inbox, to belong to its group is enough."""
    WRITE_TO_ALL = "write_to_all"
    """A `pub` pattern that is `_mail/@ALL`."""
    READ = "read"
    """A `subscribe` pattern that covers the topic or pattern; one's own inbox needs none. A conversation's state is
    read by whoever may read the conversation."""
    READ_AND_WRITE = "read_and_write"
    """Both of these."""
    READ_OR_WRITE = "read_or_write"
    """Either of these."""
    CHANGE = "change"
    """To be allowed to publish to the conversation whose state it is; for a group's, a `pub` pattern that covers
    `GROUP/_state`; for a state of the broker's own, `admin`."""
    MEND = "mend"
    """A `pub` pattern that names the dead letters: `GROUP/_dead`."""
    METRICS = "metrics"
    """`metrics` in the token."""
    ADMIN = "admin"
    """`admin` in the token."""


TABLE: Mapping[Operation, Right] = {
    Operation.SPEAK_AS: Right.NAME,
    Operation.PUBLISH: Right.WRITE,
    Operation.SEND: Right.WRITE,
    Operation.SEND_TO_ALL: Right.WRITE_TO_ALL,
    Operation.SUBSCRIBE: Right.READ,
    Operation.HISTORY: Right.READ,
    Operation.READ_INBOX: Right.READ,
    Operation.MARK_INBOX: Right.OWN,
    Operation.REGISTER: Right.OWN,
    Operation.READ_DEAD: Right.READ,
    Operation.MEND_DEAD: Right.MEND,
    Operation.SETTLE: Right.READ,
    Operation.MANAGE: Right.READ_AND_WRITE,
    Operation.RECEIPTS: Right.NAME,
    Operation.READ_STATE: Right.READ,
    Operation.CHANGE_STATE: Right.CHANGE,
    Operation.SEE_TOPIC: Right.READ_OR_WRITE,
    Operation.SEE_AGENT: Right.READ_OR_WRITE,
    Operation.ROUTE: Right.KNOWN,
    Operation.METRICS: Right.METRICS,
    Operation.CONTROL: Right.ADMIN,
    Operation.ADMIN: Right.ADMIN,
}
