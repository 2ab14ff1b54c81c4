"""What a test has the broker say to a publish or a subscription, before it thinks for itself."""

from collections.abc import Callable
from typing import Any

from hubbub_protocol.frames import Err, Pub, Sub

Verdict = Callable[[Pub], Err | None]
"""An `Err` is answered (its id and topic are filled in); None lets the broker decide."""

SubscriptionVerdict = Callable[[Sub], Err | None]
"""Likewise; its rid is filled in."""


def any_of(*verdicts: Verdict) -> Verdict:
    """The first refusal that any of them gives."""

    def verdict(pub: Pub) -> Err | None:
        return next((refusal for one in verdicts if (refusal := one(pub)) is not None), None)

    return verdict


def refuse_times(times: int, code: str, message: str = "refused by the test", **fields: Any) -> Verdict:
    """A verdict that refuses the first `times` publishes it sees."""
    left = times

    def verdict(_pub: Pub) -> Err | None:
        nonlocal left
        if left <= 0:
            return None
        left -= 1
        return Err(code=code, message=message, **fields)

    return verdict
