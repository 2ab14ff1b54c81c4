"""The shell of every circuit breaker: decorator, `with`, `async with` and `call`, around asking, calling and settling.

It holds no state of the circuit. A breaker's kind says how leave is asked for (`_admit`, `_admit_async`) and what
becomes of a verdict (`_settle`).
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from .breaker import BreakerState, Ticket
from .breaker_policy import BreakerPolicy, Verdict
from .calls import is_async
from .errors import CircuitOpen
from .matching import ErrorFilter, matches
from .transition import BreakerStats

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Entry:
    """A call that is under way."""

    guard: "Guard"
    ticket: Ticket
    started: float


_entered: ContextVar[tuple[Entry, ...]] = ContextVar("hubbub-breakers-entered", default=())
"""The `with` blocks around this place: many tasks and threads may be inside blocks of one breaker at once."""


class Guard(ABC):
    """A named circuit breaker, ready to be put around calls. Any number of tasks and threads may use one object."""

    def __init__(self, name: str, policy: BreakerPolicy, clock: Callable[[], float]) -> None:
        self.name = name
        self.policy = policy
        self.stats = BreakerStats()
        self._clock = clock

    @property
    @abstractmethod
    def state(self) -> BreakerState:
        """Where the circuit stands. An open one stays so until the first call after its wait, which is its probe."""

    @abstractmethod
    def _admit(self) -> Ticket:
        """Leave for a call of a plain function, or CircuitOpen."""

    @abstractmethod
    async def _admit_async(self) -> Ticket:
        """Leave for a call of a coroutine function, or CircuitOpen."""

    @abstractmethod
    def _settle(self, ticket: Ticket, verdict: Verdict | None) -> None:
        """A call has ended."""

    # As a decorator -------------------------------------------------------------------------------------------------

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Guard a coroutine function or a plain one: `@breaker`."""
        return self.guard()(function)

    def guard(
        self, *, fallback: Callable[..., Any] | None = None, fallback_on: ErrorFilter = CircuitOpen
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Guard a function, with something to answer in its place: `@breaker.guard(fallback=from_cache)`.

        `fallback` is called with the call's own arguments when the call ends with an error of `fallback_on`, by default
        when it was refused. For a coroutine function it may be one too. Its own errors reach the caller.

        Raises:
            TypeError: for generator functions, and for a plain function whose fallback is a coroutine function.
        """

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            if is_async(function):
                return self._guard_async(function, fallback, fallback_on)
            if fallback is not None and is_async(fallback):
                raise TypeError("a plain function has nobody to await its fallback: give a plain one")
            return self._guard_plain(function, fallback, fallback_on)

        return decorate

    def _guard_async(
        self, function: Callable[P, R], fallback: Callable[..., Any] | None, fallback_on: ErrorFilter
    ) -> Callable[P, R]:
        @functools.wraps(function)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return await self.call(cast("Callable[P, Awaitable[Any]]", function), *args, **kwargs)
            except Exception as error:
                if fallback is None or not matches(fallback_on, error):
                    raise
                self.stats.fallbacks += 1
                answer = fallback(*args, **kwargs)
                return await answer if is_async(fallback) else answer

        return cast("Callable[P, R]", guarded)

    def _guard_plain(
        self, function: Callable[P, R], fallback: Callable[..., Any] | None, fallback_on: ErrorFilter
    ) -> Callable[P, R]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return self.call_plain(function, *args, **kwargs)
            except Exception as error:
                if fallback is None or not matches(fallback_on, error):
                    raise
                self.stats.fallbacks += 1
                return cast("R", fallback(*args, **kwargs))

        return guarded

    # As a function --------------------------------------------------------------------------------------------------

    async def call(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a coroutine function.

        Raises:
            CircuitOpen: if the breaker lets no call through now. The function was not called.
        """
        entry = Entry(self, await self._admit_async(), self._clock())
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            self._end(entry, error)
            raise
        self._end(entry, None, result)
        return result

    def call_plain(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a plain function, in whatever thread this is.

        Raises:
            CircuitOpen: if the breaker lets no call through now. The function was not called.
        """
        entry = Entry(self, self._admit(), self._clock())
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self._end(entry, error)
            raise
        self._end(entry, None, result)
        return result

    # As a context manager -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> None:
        self._enter(Entry(self, await self._admit_async(), self._clock()))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)

    def __enter__(self) -> None:
        self._enter(Entry(self, self._admit(), self._clock()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)

    def _enter(self, entry: Entry) -> None:
        _entered.set((*_entered.get(), entry))

    def _leave(self, error: BaseException | None) -> None:
        stack = _entered.get()
        entry = next(one for one in reversed(stack) if one.guard is self)
        _entered.set(tuple(one for one in stack if one is not entry))
        self._end(entry, error)

    # ----------------------------------------------------------------------------------------------------------------

    def _end(self, entry: Entry, error: BaseException | None, result: Any = None) -> None:
        self._settle(entry.ticket, self.policy.judge(error, result, self._clock() - entry.started))

    def _count_admission(self, ticket: Ticket | None) -> None:
        if ticket is None:
            self.stats.refused += 1
            return
        self.stats.calls += 1
        if ticket.slot:
            self.stats.probes += 1

    def _count_verdict(self, verdict: Verdict | None) -> None:
        if verdict is None:
            self.stats.ignored += 1
            return
        self.stats.slow += verdict.slow
        if verdict.failed:
            self.stats.failed += 1
        else:
            self.stats.succeeded += 1

    def _refusal(self, state: BreakerState, retry_after: float) -> CircuitOpen:
        what = "is open" if state is BreakerState.OPEN else "is half open and all its probes are out"
        return CircuitOpen(
            f"breaker {self.name} {what}; the call was not made: try again in {retry_after:.1f} s",
            self.name,
            retry_after,
        )
