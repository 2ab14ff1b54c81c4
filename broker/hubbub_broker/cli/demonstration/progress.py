"""How far the agents are: what each worker process tells now and then, and the sum of it."""

from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts since the start. They add up over workers, the latencies excepted: there the worst worker counts."""

    online: int = 0
    """Agents that are connected now."""
    published: int = 0
    confirmed: int = 0
    """Publishes with a receipt."""
    handled: int = 0
    """Messages that came to a handler."""
    sections: int = 0
    """Conversations whose result the editor has."""
    reconnects: int = 0
    odd: int = 0
    """Messages that were not the next in line."""
    p50: float = 0.0
    p99: float = 0.0
    """Latencies of the deliveries since the last time, in seconds."""


_WORST = ("p50", "p99")


def total(parts: Iterable[Progress]) -> Progress:
    """The progress of all workers together."""
    known = list(parts)
    if not known:
        return Progress()
    sums = {
        field.name: (max if field.name in _WORST else sum)(getattr(part, field.name) for part in known)
        for field in fields(Progress)
    }
    return Progress(**sums)
