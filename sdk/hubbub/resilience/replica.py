"""One agent's view of a circuit in a store, and the way to change it together with the others.

Steps are pure functions from one circuit to the next. `decide` takes a step by compare-and-set: it comes to pass for
all agents, or the step is asked again about what somebody else made of the circuit. When the store fails, steps are
taken on the local view alone ("degraded"), until the circuit has been read from the store again.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from hubbub.shared_state.entry import StateEntry

from .breaker import Circuit
from .breaker_policy import BreakerPolicy
from .errors import StateConflictError
from .record import Moment, decode_circuit, encode_circuit
from .store import StateStore
from .transition import BreakerStats

logger = logging.getLogger("hubbub")

T = TypeVar("T")

Step = Callable[[Circuit], tuple[Circuit, T]]
"""The next circuit (the same object if nothing is to change), and an answer. May be asked several times."""


class Observer(Protocol):
    """Who wants to know what becomes of the circuit."""

    def circuit_changed(self, before: Circuit, after: Circuit, *, made_here: bool) -> None:
        """It is in another state, or another epoch of it."""

    def degraded(self, now: bool) -> None:
        """The store was lost, or is back."""


class Replica:
    """The circuit as this agent knows it. Degraded until it was first loaded."""

    def __init__(
        self,
        store: StateStore,
        key: str,
        policy: BreakerPolicy,
        observer: Observer,
        stats: BreakerStats,
        *,
        now: Callable[[], Moment],
        store_seconds: float,
    ) -> None:
        self.view = Circuit(since=now().steady)
        self.is_degraded = True
        self.failed = asyncio.Event()
        """Set when the store failed, until the next load."""
        self._store = store
        self._key = key
        self._policy = policy
        self._observer = observer
        self._stats = stats
        self._now = now
        self._store_seconds = store_seconds
        self._version = 0
        self._in_flight: Circuit | None = None
        """What is being written now."""
        self._view_lock = threading.Lock()
        self._writing = asyncio.Lock()

    @property
    def is_busy(self) -> bool:
        """Whether a step is on its way to the store."""
        return self._writing.locked()

    def apply(self, step: Step[T]) -> tuple[bool, T]:
        """Take a step if that needs no store: because it changes nothing, or there is no store to ask.

        Returns whether it was taken, and its answer, which counts only then. For any thread.
        """
        with self._view_lock:
            before = self.view
            after, answer = step(before)
            taken = after is before or self.is_degraded
            if taken:
                self.view = after
        if taken:
            self._tell(before, after, made_here=True)
        return taken, answer

    async def decide(self, step: Step[T]) -> T | None:
        """Take a step together with all agents. None if others were ahead again and again: then nothing was changed."""
        async with self._writing:
            # Everyone who is ahead of us took or ended a probe, or made a transition: that is bounded for an epoch.
            for _ in range(4 * self._policy.probes + 4):
                taken, answer = self.apply(step)
                if taken:
                    return answer
                after, answer = step(self.view)
                if await self._write(after):
                    return answer
        return None

    async def load(self) -> None:
        """Read the circuit from the store.

        Raises:
            Exception: whatever the store raised, TimeoutError, BadRecordError.
        """
        value, version = await self.bounded(self._store.get(self._key))
        # The watch may have told of a later one meanwhile. A store that was lost has the last word, whatever it says.
        if self.is_degraded or version > self._version or value is None:
            self._adopt(value, version)
        if self.is_degraded:
            self.is_degraded = False
            self.failed.clear()
            self._observer.degraded(False)

    def see(self, entry: StateEntry) -> None:
        """A watch has told of the circuit.

        Raises:
            BadRecordError: if it is none.
        """
        if entry.version > self._version:
            self._adopt(entry.value, entry.version)

    def degrade(self, error: BaseException) -> None:
        """The store failed."""
        self._stats.store_errors += 1
        self.failed.set()
        if not self.is_degraded:
            logger.warning("! %s: the store failed, going on by the local view: %r", self._key, error)
            self.leave_store()
            self._stats.degradations += 1
            self._observer.degraded(True)

    def leave_store(self) -> None:
        """From here on decide alone."""
        with self._view_lock:
            self.is_degraded = True

    async def bounded(self, work: Awaitable[T]) -> T:
        """Wait for the store, not longer than it may take."""
        async with asyncio.timeout(self._store_seconds):
            return await work

    async def _write(self, after: Circuit) -> bool:
        record, expected = encode_circuit(after, self._now()), self._version
        self._stats.store_writes += 1
        self._in_flight = after
        try:
            version = await self.bounded(self._store.put(self._key, record, expected))
        except StateConflictError:
            self._stats.conflicts += 1
            try:
                await self.load()
            except Exception as error:  # noqa: BLE001 - a store may fail in any way
                self.degrade(error)
            return False
        except Exception as error:  # noqa: BLE001 - as above
            self.degrade(error)
            return False
        else:
            # The watch may have told of this write already, and of later ones too.
            if version > self._version:
                self._become(after, version)
            return True
        finally:
            self._in_flight = None

    def _adopt(self, value: Any, version: int) -> None:
        if value is None:
            # Nobody has written it yet, or somebody removed it. To keep what is known here would be to disagree with
            # the others for as long as nothing happens: all begin anew.
            fresh = Circuit(since=self._now().steady, reason="not in the store")
            self._become(self.view if self.view.epoch == 0 else fresh, 0)
            return
        seen = None if self.is_degraded else self.view
        self._become(decode_circuit(value, self._now(), self._policy, seen), version)

    def _become(self, after: Circuit, version: int) -> None:
        with self._view_lock:
            before, self.view = self.view, after
            self._version = version
        own = self._in_flight
        self._tell(before, after, made_here=own is not None and (own.epoch, own.by) == (after.epoch, after.by))

    def _tell(self, before: Circuit, after: Circuit, *, made_here: bool) -> None:
        if (before.epoch, before.state) != (after.epoch, after.state):
            self._observer.circuit_changed(before, after, made_here=made_here)
