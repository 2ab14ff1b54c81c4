"""A bound on how much of this process one dependency can take up.

When a dependency turns slow, its callers pile up, and with them tasks, connections and memory that others need. Behind
a bulkhead so many are under way at most, so many wait, so long; whoever comes after that is told at once.
"""

import asyncio
import contextlib
import functools
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from .calls import in_event_loop, is_async
from .errors import BulkheadFull

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class BulkheadStats:
    """Counts since the bulkhead was made."""

    entered: int = 0
    """Calls that were let in."""
    waited: int = 0
    """Those of them that had to wait."""
    refused: int = 0
    """Calls that found no room, and none to wait in."""
    timed_out: int = 0
    """Calls that had waited `max_wait` seconds."""


class Waiter:
    """Somebody in the queue: a task or a thread."""

    __slots__ = ("admitted", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake = wake
        self.admitted = False


class Bulkhead:
    """Lets `max_concurrent` calls in at a time, in the order in which they came.

        models = Bulkhead("openai", max_concurrent=8, max_waiting=100, max_wait=30)

        async with models: ...

    Coroutines and plain functions, tasks and threads, of any number of event loops, share its room. A plain function on
    an event loop's own thread never waits, because nothing else would go on there.
    """

    def __init__(
        self, name: str, max_concurrent: int = 10, *, max_waiting: int = 100, max_wait: float | None = 30.0
    ) -> None:
        """`max_wait` is in seconds; None waits without end. With `max_waiting=0` nobody waits."""
        if max_concurrent < 1 or max_waiting < 0 or (max_wait is not None and max_wait < 0):
            raise ValueError("max_concurrent must be at least 1, max_waiting and max_wait not negative")
        self.name = name
        self.max_concurrent = max_concurrent
        self.max_waiting = max_waiting
        self.max_wait = max_wait
        self.stats = BulkheadStats()
        self._lock = threading.Lock()
        self._running = 0
        self._queue: deque[Waiter] = deque()

    @property
    def running(self) -> int:
        """Calls under way."""
        return self._running

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._queue)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Bound a coroutine function or a plain one: `@bulkhead`.

        Raises:
            TypeError: for generator functions.
        """
        if is_async(function):

            @functools.wraps(function)
            async def bounded(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await self.call(cast("Callable[P, Awaitable[Any]]", function), *args, **kwargs)

            return cast("Callable[P, R]", bounded)

        @functools.wraps(function)
        def bounded_plainly(*args: P.args, **kwargs: P.kwargs) -> R:
            return self.call_plain(function, *args, **kwargs)

        return bounded_plainly

    async def call(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a coroutine function when there is room.

        Raises:
            BulkheadFull: if there was none. The function was not called.
        """
        async with self:
            return await function(*args, **kwargs)

    def call_plain(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same for a plain function."""
        with self:
            return function(*args, **kwargs)

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        turn = loop.create_future()

        def wake() -> None:
            if not turn.done():
                turn.set_result(None)

        waiter = self._enter(lambda: loop.call_soon_threadsafe(wake))
        if waiter is None:
            return
        try:
            async with asyncio.timeout(self.max_wait):
                await turn
        except TimeoutError:
            if not self._withdraw(waiter):
                raise self._waited_too_long() from None
        except BaseException:
            if self._withdraw(waiter):
                self._exit()  # the turn came together with the cancellation: it goes to the next one
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit()

    def __enter__(self) -> None:
        turn = threading.Event()
        waiter = self._enter(turn.set, may_wait=not in_event_loop())
        if waiter is None:
            return
        try:
            turn.wait(self.max_wait)
        except BaseException:  # Ctrl-C in the main thread
            if self._withdraw(waiter):
                self._exit()
            raise
        if not self._withdraw(waiter):
            raise self._waited_too_long()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit()

    # ----------------------------------------------------------------------------------------------------------------

    def _enter(self, wake: Callable[[], object], *, may_wait: bool = True) -> Waiter | None:
        """Go in (None), or queue up."""
        with self._lock:
            if self._running < self.max_concurrent:
                self._running += 1
                self.stats.entered += 1
                return None
            if not may_wait or self.max_wait == 0 or len(self._queue) >= self.max_waiting:
                self.stats.refused += 1
                raise BulkheadFull(
                    f"bulkhead {self.name} is full: {self._running} calls are under way (max_concurrent) and "
                    f"{len(self._queue)} wait (max_waiting {self.max_waiting}); the call was not made",
                    self.name,
                )
            waiter = Waiter(wake)
            self._queue.append(waiter)
            return waiter

    def _withdraw(self, waiter: Waiter) -> bool:
        """Wait no more. Whether the turn had come: then the room is the waiter's."""
        with self._lock:
            if waiter.admitted:
                return True
            with contextlib.suppress(ValueError):  # not there any more if it was passed over
                self._queue.remove(waiter)
            return False

    def _exit(self) -> None:
        with self._lock:
            while self._queue:
                # The room passes from hand to hand: nobody who comes now can overtake those who wait.
                waiter = self._queue.popleft()
                try:
                    waiter.wake()
                except RuntimeError:
                    continue  # its event loop was closed while it waited
                waiter.admitted = True
                self.stats.entered += 1
                self.stats.waited += 1
                return
            self._running -= 1

    def _waited_too_long(self) -> BulkheadFull:
        with self._lock:
            self.stats.timed_out += 1
        return BulkheadFull(
            f"bulkhead {self.name} had no room within {self.max_wait:g} s (max_wait); the call was not made",
            self.name,
        )
