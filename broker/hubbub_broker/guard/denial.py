"""What the guard answers when it stops something."""

from enum import StrEnum
from typing import NamedTuple

from hubbub_protocol.errors import ErrorCode


class Rule(StrEnum):
    """Which rule it was: the label of its metric, and what an event names."""

    BROADCAST_RATE = "broadcast_rate"
    BROADCAST_DEPTH = "broadcast_depth"
    SEND_RATE = "send_rate"
    PUBLISH_RATE = "publish_rate"
    PUBLISH_BYTES_RATE = "publish_bytes_rate"
    GROUP_PUBLISH_RATE = "group_publish_rate"
    GROUP_BYTES_RATE = "group_bytes_rate"
    SENDER_RATE = "sender_rate"
    DEPTH = "max_depth"
    PINGPONG = "pingpong"
    ECHO = "echo"
    REPEAT = "repeat"
    BUDGET_MESSAGES = "budget_messages"
    BUDGET_BYTES = "budget_bytes"
    BUDGET_COST = "budget_cost"


class Denial(NamedTuple):
    """A message, or a request, is not taken."""

    rule: Rule
    code: ErrorCode
    message: str
    """Names the limit and says what to do."""
    retry_after: float | None
    """Seconds after which the same may be taken; None where waiting alone does not help."""
