"""What a breaker tells the world: its transitions, and its counts."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from .breaker import BreakerState

logger = logging.getLogger("hubbub")


@dataclass(frozen=True, slots=True)
class Transition:
    """A breaker went from one state to another."""

    breaker: str
    before: BreakerState
    after: BreakerState
    epoch: int
    at: float
    """When this process learned of it, in seconds since the Unix epoch."""
    reason: str
    by: str
    """Which agent made it; empty for a breaker that is not shared."""
    made_here: bool
    """Whether that was this breaker object. Of all that share a breaker, exactly one makes each transition."""

    def as_dict(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return {**asdict(self), "before": self.before.value, "after": self.after.value}


Listener = Callable[[Transition], object]
"""Is told of a transition, in the thread where it was noticed. It must not block; what it returns to await is awaited
in a task of the event loop there.
"""

PENDING_MAX = 100
"""Awaitables of one breaker's listeners that may be under way. Transitions are rare: more means that none ever ends."""


@dataclass(slots=True)
class BreakerStats:
    """Counts since the breaker was made."""

    calls: int = 0
    """Calls that were let through, probes included."""
    succeeded: int = 0
    """Calls that ended and count as good."""
    failed: int = 0
    """Calls that ended and count as failures."""
    slow: int = 0
    """Calls that were slow, failed or not."""
    ignored: int = 0
    """Calls that ended and say nothing."""
    refused: int = 0
    """Calls that were refused."""
    fallbacks: int = 0
    """Calls that a fallback answered."""
    probes: int = 0
    """Calls that were let through while half open."""
    opened: int = 0
    """Transitions to open, whoever made them."""
    half_opened: int = 0
    """Transitions to half open."""
    closed: int = 0
    """Transitions to closed."""
    listener_errors: int = 0
    """Exceptions that left a listener or a publication."""
    reports: int = 0
    """Shared: reports of this agent's counts that were written."""
    store_writes: int = 0
    """Shared: compare-and-sets of the circuit that were tried."""
    conflicts: int = 0
    """Shared: those of them that somebody else was ahead of."""
    store_errors: int = 0
    """Shared: times the store failed or did not answer in time."""
    degradations: int = 0
    """Shared: times it went on by its local view."""

    def as_dict(self) -> dict[str, int]:
        """All counts by name."""
        return asdict(self)


class Announcer:
    """Tells a breaker's transitions: counts, the log, a listener, and a publication of those that were made here."""

    def __init__(self, stats: BreakerStats, on_transition: Listener | None, publish: Listener | None) -> None:
        self._stats = stats
        self._listeners = (on_transition, publish)
        self._pending: set[asyncio.Task[None]] = set()

    def announce(self, transition: Transition) -> None:
        """Tell everyone concerned. A listener's error is logged, counted, and goes no further."""
        self._count(transition.after)
        log = logger.warning if transition.after is BreakerState.OPEN else logger.info
        by = f", by {transition.by}" if transition.by else ""
        log(
            "= breaker %s: %s -> %s: %s%s",
            transition.breaker,
            transition.before,
            transition.after,
            transition.reason,
            by,
        )
        on_transition, publish = self._listeners
        self._tell(on_transition, transition)
        if transition.made_here:
            self._tell(publish, transition)

    def _count(self, state: BreakerState) -> None:
        if state is BreakerState.OPEN:
            self._stats.opened += 1
        elif state is BreakerState.HALF_OPEN:
            self._stats.half_opened += 1
        else:
            self._stats.closed += 1

    def _tell(self, listener: Listener | None, transition: Transition) -> None:
        if listener is None:
            return
        try:
            answer = listener(transition)
            if inspect.isawaitable(answer):
                self._await(answer, transition)
        except Exception as error:  # noqa: BLE001 - it is the listener's, and goes no further
            self._failed(transition, error)

    def _await(self, answer: Awaitable[object], transition: Transition) -> None:
        async def wait() -> None:
            try:
                await answer
            except Exception as error:  # noqa: BLE001 - as above
                self._failed(transition, error)

        work = wait()
        try:
            if len(self._pending) >= PENDING_MAX:
                raise RuntimeError(f"{PENDING_MAX} calls of a listener have not ended: this one is not made")
            task = asyncio.get_running_loop().create_task(work, name=f"hubbub-breaker-{transition.breaker}-listener")
        except RuntimeError:
            work.close()
            if inspect.iscoroutine(answer):
                answer.close()
            raise
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    def _failed(self, transition: Transition, error: Exception) -> None:
        self._stats.listener_errors += 1
        logger.error("! a listener of breaker %s failed", transition.breaker, exc_info=error)

    async def close(self, seconds: float) -> None:
        """Wait so long at most for what listeners have begun, then cancel it."""
        if self._pending:
            await asyncio.wait(self._pending, timeout=seconds)
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)
