"""What an agent is made with, checked once."""

import os
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .backoff import Backoff
from .spool import Synchronous
from .transport import Transport
from .will import Will

Token = str | Callable[[], str | Awaitable[str]] | None
"""A token, or what gives one: a function, or coroutine function, that is asked anew before each connection."""

DRAIN_SECONDS = 10.0
"""How long close() tries to deliver what was accepted, unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `Agent`, which says what they mean.

    Raises:
        ValueError: if a number is out of range.
    """

    token: Token
    meta: Any
    capabilities: Sequence[str] | None
    description: str | None
    will: Will | None
    on_full: Literal["wait", "raise", "drop"]
    buffer_messages: int
    buffer_bytes: int
    window: int
    receive_messages: int
    receive_bytes: int
    spool: str | os.PathLike[str] | None
    spool_sync: Synchronous
    local: bool
    control: bool
    caused_max: int
    dedup_max: int
    dedup_ttl: float
    vector_clocks: bool
    drain: float
    connect_timeout: float
    backoff: Backoff | None
    transport: Transport | None
    source: random.Random | None

    def __post_init__(self) -> None:
        for option in (
            "buffer_messages",
            "buffer_bytes",
            "window",
            "receive_messages",
            "receive_bytes",
            "caused_max",
            "dedup_max",
            "dedup_ttl",
            "connect_timeout",
        ):
            value = getattr(self, option)
            if not value > 0:
                raise ValueError(f"{option} is {value}: more than 0 is allowed")
