"""How an agent is doing at a consumer's work: at it, late, or not there at all. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """What an agent is doing, as far as the broker can tell. In the order of what an operator looks at first."""

    DEAF = "deaf"
    """Connected, but takes nothing: its socket is full, or a ping stands unanswered."""
    SLOW = "slow"
    """Late with a message, or was and has settled none since, or much slower than the others of its consumer."""
    GONE = "gone"
    """Was a member in the last hour, and has no connection."""
    BUSY = "busy"
    """Has said of a message that it is still at work."""
    WORKING = "working"
    """Has messages, and is in time with them."""
    IDLE = "idle"
    """Has none."""


class Sight(NamedTuple):
    """What is seen of an agent at one consumer. Times are seconds."""

    connected: bool
    blocked: float = 0.0
    """How long its socket has taken nothing."""
    silent: float = 0.0
    """How long a ping has stood unanswered."""
    outstanding: int = 0
    extended: bool = False
    """Whether it has said of one of those that it is still at work."""
    oldest: float = 0.0
    """How long it has the oldest of those of which it has said nothing."""
    ack_wait: float = 0.0
    """How long it may."""
    overdue: bool = False
    """Whether it let its time for a message run out, and has settled none since."""
    p90: float = 0.0
    """Nine in ten of its newest messages took it so long at most; 0 if it has settled none."""
    median: float = 0.0
    """What a message takes at its consumer; 0 if there is nothing to compare with."""


class Limits(NamedTuple):
    """What counts as slow, and as deaf."""

    slow_factor: float
    deaf_seconds: float


def state_of(sight: Sight, limits: Limits) -> State:
    """What an agent is doing. Who is at work says so, and is not slow for it."""
    if not sight.connected:
        return State.GONE
    if max(sight.blocked, sight.silent) > limits.deaf_seconds:
        return State.DEAF
    if sight.overdue or (sight.ack_wait and sight.oldest > sight.ack_wait / 2):
        return State.SLOW
    if sight.extended:
        return State.BUSY
    if sight.median and sight.p90 > limits.slow_factor * sight.median:
        return State.SLOW
    return State.WORKING if sight.outstanding else State.IDLE
