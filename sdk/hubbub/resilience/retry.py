"""Trying again: how often, how long apart, for which errors, and when not.

The decision is pure (`RetryPolicy.decide`); around it are a decorator, `call`, and attempts to loop over.
"""

import asyncio
import functools
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from hubbub.backoff import Backoff

from .budget import RetryBudget
from .calls import in_event_loop, is_async
from .errors import CallRefused
from .matching import ErrorFilter, matches
from .retry_after import retry_after_of

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("hubbub")

DEFAULT_BACKOFF = Backoff(base=0.2, cap=20.0)
"""Remote services need longer between attempts than a broker next door."""


@dataclass(slots=True)
class RetryStats:
    """Counts since the policy was made."""

    calls: int = 0
    """First attempts."""
    retries: int = 0
    """Further attempts."""
    recovered: int = 0
    """Calls that succeeded after a retry."""
    gave_up: int = 0
    """Calls whose error was to be retried, and was not any more."""
    over_budget: int = 0
    """Those of them that the budget had no retry for."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do after an attempt that failed: wait `delay` seconds and try again, or (None) give up, with the reason.

    The reason is empty when the error was never to be retried.
    """

    delay: float | None
    reason: str = ""
    over_budget: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The settings of retries. Times are in seconds.

        retry = RetryPolicy(on=(httpx.TransportError, RateLimited), attempts=4, budget=RetryBudget(0.2))

        @retry
        async def complete(prompt): ...

    Retry only what may safely be done twice. The last error is raised as it was, with a note of what was tried.
    """

    on: ErrorFilter
    """Which errors are worth another attempt. There is no default: most errors are not."""

    never: ErrorFilter = CallRefused
    """Errors that are raised at once, although `on` includes them. By default what an open breaker or a full bulkhead
    refused: they are there to shed load, and a retry would bring it back.
    """

    attempts: int = 3
    """Calls in all, the first one included."""

    backoff: Backoff = DEFAULT_BACKOFF
    """The delays, with full jitter."""

    max_seconds: float | None = None
    """No retry is begun when this long has passed, or would have by the end of its delay."""

    retry_after_max: float = 60.0
    """An error that says when to come back (`Retry-After`) is obeyed up to here; beyond, giving up is better."""

    retry_after: Callable[[BaseException, float], float | None] = retry_after_of
    """How to read that: (error, time since the Unix epoch) -> seconds or None."""

    budget: RetryBudget | None = None
    """Shared with all calls to the same dependency."""

    source: random.Random = field(default_factory=random.Random)
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    stats: RetryStats = field(default_factory=RetryStats)
    """Its counts. Threads may add to them at the same time; then a count may be missed."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}: the first call is one")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise ValueError(f"max_seconds is {self.max_seconds}, and must be above 0")
        if self.retry_after_max < 0:
            raise ValueError(f"retry_after_max is {self.retry_after_max}, and must not be negative")

    def decide(self, error: BaseException, attempt: int, elapsed: float) -> Decision:
        """What to do after attempt number `attempt` (1 is the first) has failed, `elapsed` seconds after the start.

        Everything but the budget is asked first: a retry that is not made costs none.
        """
        if not isinstance(error, Exception) or not matches(self.on, error) or matches(self.never, error):
            return Decision(None)
        if attempt >= self.attempts:
            return Decision(None, f"after {attempt} attempt(s)")
        delay = self.backoff.delay(attempt - 1, self.source)
        told = self.retry_after(error, self.wall())
        if told is not None:
            if told > self.retry_after_max:
                return Decision(None, f"told to come back in {told:.1f} s, more than {self.retry_after_max:g} s")
            # Not before that, and not all who were told the same at the same moment.
            delay += told
        if self.max_seconds is not None and elapsed + delay > self.max_seconds:
            return Decision(None, f"after {elapsed:.1f} s and {attempt} attempt(s), of {self.max_seconds:g} s")
        if self.budget is not None and not self.budget.withdraw():
            return Decision(None, f"after {attempt} attempt(s), because the retry budget is spent", over_budget=True)
        return Decision(delay)

    def each_attempt(self) -> "Attempts":
        """Attempts to loop over, when what is tried is not one function.

        async for attempt in retry.each_attempt():
            with attempt:
                ...
        """
        return Attempts(self)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Retry a coroutine function or a plain one: `@retry`.

        Raises:
            TypeError: for generator functions.
        """
        if is_async(function):

            @functools.wraps(function)
            async def retried(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await self.call(cast("Callable[P, Awaitable[Any]]", function), *args, **kwargs)

            return cast("Callable[P, R]", retried)

        @functools.wraps(function)
        def retried_plainly(*args: P.args, **kwargs: P.kwargs) -> R:
            return self.call_plain(function, *args, **kwargs)

        return retried_plainly

    async def call(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a coroutine function until it succeeds or this policy gives up; then its last error is raised."""
        async for attempt in self.each_attempt():
            with attempt:
                return await function(*args, **kwargs)
        raise AssertionError("attempts end with a return or an error")

    def call_plain(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same for a plain function. Its thread sleeps between attempts.

        Raises:
            RuntimeError: when a delay would stop the event loop of this thread. Use a worker thread.
        """
        for attempt in self.each_attempt():
            with attempt:
                return function(*args, **kwargs)
        raise AssertionError("attempts end with a return or an error")


class Attempts:
    """The attempts of one call, for one loop: `for` (which sleeps) or `async for`."""

    __slots__ = ("_delay", "_number", "_policy", "_started")

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._number = 0
        self._started = policy.clock()
        self._delay: float | None = 0.0
        """Until the next attempt; None when there is none."""

    # Not generators: an async one that is left early would cost a task to close it.

    def __iter__(self) -> Iterator["Attempt"]:
        return self

    def __next__(self) -> "Attempt":
        if self._delay is None:
            raise StopIteration
        if self._delay > 0:
            if in_event_loop():
                raise RuntimeError("a retry of a plain function would stop the event loop: call it in a thread")
            time.sleep(self._delay)
        return self._next()

    def __aiter__(self) -> AsyncIterator["Attempt"]:
        return self

    async def __anext__(self) -> "Attempt":
        if self._delay is None:
            raise StopAsyncIteration
        if self._delay > 0:
            await asyncio.sleep(self._delay)
        return self._next()

    def _next(self) -> "Attempt":
        stats, budget = self._policy.stats, self._policy.budget
        self._number += 1
        self._delay = None  # a loop that leaves its attempt without an error is over
        if self._number == 1:
            stats.calls += 1
            if budget is not None:
                budget.deposit()
        else:
            stats.retries += 1
        return Attempt(self, self._number)

    def ended(self, error: BaseException | None) -> bool:
        """An attempt has ended. Whether another one follows."""
        stats = self._policy.stats
        if error is None:
            stats.recovered += self._number > 1
            return False
        elapsed = self._policy.clock() - self._started
        decision = self._policy.decide(error, self._number, elapsed)
        self._delay = decision.delay
        if decision.delay is not None:
            logger.debug("= attempt %d failed, the next in %.2f s: %r", self._number, decision.delay, error)
            return True
        if decision.reason:
            stats.gave_up += 1
            stats.over_budget += decision.over_budget
            error.add_note(f"given up {decision.reason}")
        return False


class Attempt:
    """One attempt: a `with` block that swallows the error when another attempt follows."""

    __slots__ = ("_attempts", "number")

    def __init__(self, attempts: Attempts, number: int) -> None:
        self._attempts = attempts
        self.number = number
        """1 is the first."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return self._attempts.ended(error)
