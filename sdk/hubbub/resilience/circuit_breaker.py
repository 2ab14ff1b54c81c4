"""The circuit breaker of one process."""

import itertools
import threading
import time
from collections.abc import Callable

from .breaker import BreakerEvent, BreakerState, Circuit, ProbeEnd, Ticket, admit, conclude, happen
from .breaker_policy import BreakerPolicy, Verdict
from .guard import Guard
from .transition import Announcer, Listener, Transition
from .window import Counts

DEFAULT_POLICY = BreakerPolicy()


def end_of_probe(verdict: Verdict | None) -> ProbeEnd:
    """What a probe's verdict means to the circuit."""
    if verdict is None:
        return ProbeEnd.LOST
    return ProbeEnd.SUCCEEDED if verdict.good else ProbeEnd.FAILED


class CircuitBreaker(Guard):
    """Stops calls to a dependency that fails, and lets a few through later to see whether it is well again.

        breaker = CircuitBreaker("openai", BreakerPolicy(failure_rate=0.5, slow_call_seconds=20))

        @breaker
        async def complete(prompt): ...

    Asking costs a lock and no I/O. `on_transition` hears each transition, `publish` as well (it is there for a callable
    that sends the event somewhere); both are called in the thread that made the transition. What they return to await
    is awaited in a task of that thread's event loop.
    """

    def __init__(
        self,
        name: str,
        policy: BreakerPolicy = DEFAULT_POLICY,
        *,
        on_transition: Listener | None = None,
        publish: Listener | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name, policy, clock)
        self._wall = wall
        self._announcer = Announcer(self.stats, on_transition, publish)
        self._lock = threading.Lock()
        self._circuit = Circuit(since=clock())
        self._window = policy.window.make()
        self._slots = itertools.count(1)

    @property
    def state(self) -> BreakerState:
        """Where the circuit stands."""
        return self._circuit.state

    @property
    def counts(self) -> Counts:
        """What is in the window now."""
        with self._lock:
            return self._window.counts(self._clock())

    def trip(self, reason: str = "tripped by hand") -> None:
        """Open it now, for its usual wait."""
        self._force(BreakerEvent.TRIPPED, reason)

    def reset(self, reason: str = "reset by hand") -> None:
        """Close it now, and forget what was counted."""
        self._force(BreakerEvent.RESET, reason)

    def _force(self, event: BreakerEvent, reason: str) -> None:
        with self._lock:
            transition = self._become(happen(self._circuit, event, self._clock(), reason))
        self._announce(transition)

    def _admit(self) -> Ticket:
        with self._lock:
            slot = f"{next(self._slots)}" if self._circuit.state is not BreakerState.CLOSED else ""
            admission = admit(self._circuit, self.policy, self._clock(), slot)
            transition = self._become(admission.circuit)
            self._count_admission(admission.ticket)
        self._announce(transition)
        if admission.ticket is None:
            raise self._refusal(admission.circuit.state, admission.retry_after)
        return admission.ticket

    async def _admit_async(self) -> Ticket:
        return self._admit()

    def _settle(self, ticket: Ticket, verdict: Verdict | None) -> None:
        with self._lock:
            self._count_verdict(verdict)
            now = self._clock()
            if ticket.slot:
                transition = self._become(conclude(self._circuit, self.policy, ticket, end_of_probe(verdict), now))
            else:
                transition = self._count(ticket, verdict, now)
        self._announce(transition)

    def _count(self, ticket: Ticket, verdict: Verdict | None, now: float) -> Transition | None:
        # A call that began before a transition says nothing about what was decided since.
        if verdict is None or ticket.epoch != self._circuit.epoch or self._circuit.state is not BreakerState.CLOSED:
            return None
        self._window.record(now, failed=verdict.failed, slow=verdict.slow)
        reason = self.policy.reason_to_open(self._window.counts(now))
        return self._become(happen(self._circuit, BreakerEvent.TRIPPED, now, reason)) if reason else None

    def _become(self, after: Circuit) -> Transition | None:
        before, self._circuit = self._circuit, after
        if before.epoch == after.epoch:
            return None
        self._window.reset()
        return Transition(
            breaker=self.name,
            before=before.state,
            after=after.state,
            epoch=after.epoch,
            at=self._wall(),
            reason=after.reason,
            by=after.by,
            made_here=True,
        )

    def _announce(self, transition: Transition | None) -> None:
        # Outside the lock: a listener may use the breaker.
        if transition is not None:
            self._announcer.announce(transition)
