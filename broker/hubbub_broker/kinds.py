"""What a keyed record of the log is about: the state kinds, in one place, so that no two features share a number.

A number is never used again for something else: logs outlive programs.
"""

from enum import IntEnum


class StateKind(IntEnum):
    """The `kind` of `ShardLog.append_state`."""

    CONSUMER = 1
    """What was agreed with a consumer. Key: name, NUL, topic or pattern."""
    POSITION = 2
    """Where a consumer stands in a topic. Key: name, NUL, topic."""
    RECEIPT = 3
    """What became of a tracked message. Key: publisher, NUL, id, NUL, topic, NUL, consumer."""
    AGENT = 4
    """A registered agent. Key: its name."""
    BROADCAST = 5
    """A mail to ALL, under way or done. Key: sender, NUL, id."""
    TAKEN_IDS = 6
    """Ids of messages that retention took. Written and read by the log itself. Key: segment, number."""
    FAILURES = 7
    """Some of the messages that failed at a position. Key: as of POSITION, NUL, number of the page."""
    LEASES = 8
    """How often the leases of a shard were numbered anew: once in each life of the broker that gave some out."""
    BUDGET = 16
    """What a conversation has used of its budget. Key: its topic."""
    STATE = 32
    """What a key of a state holds. Key: the state's topic, NUL, the key."""
    STATE_TOTALS = 33
    """How many keys a state has. Key: its topic."""
    STATE_TTL = 34
    """A key of a state that goes by itself. Key: as of STATE."""
