"""The circuit: a pure state machine. It knows no clock, no lock, no call; whoever keeps it decides where it lives.

                   tripped                       waited
    closed ----------------------> open ----------------------> half open
      ^                             ^  <------- relapsed ----------- |
      |                             |                                |
      +---------------------- recovered ----------------------------+
    any state --- reset ---> closed        any state --- tripped ---> open

A `Circuit` is a value. Asking it for leave to call gives a new one, and a ticket or a time to come back. So one machine
serves both the breaker of one process, which keeps the value in a variable, and the breaker that agents share, who
agree on the next value by compare-and-set.

What it promises: in one half-open period (one `epoch`) at most `probes` tickets are out at a time, `probes` successes
close it, one failure opens it, and fewer than `2 * probes` tickets are given in all.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from .breaker_policy import BreakerPolicy


class BreakerState(StrEnum):
    """Whether calls go through."""

    CLOSED = "closed"
    """They do, and are counted."""

    OPEN = "open"
    """They are refused."""

    HALF_OPEN = "half_open"
    """A few go through, as probes."""


class BreakerEvent(StrEnum):
    """What happens to a circuit."""

    TRIPPED = "tripped"
    WAITED = "waited"
    RECOVERED = "recovered"
    RELAPSED = "relapsed"
    RESET = "reset"


TRANSITIONS: dict[BreakerState, dict[BreakerEvent, BreakerState]] = {
    BreakerState.CLOSED: {
        BreakerEvent.TRIPPED: BreakerState.OPEN,
        BreakerEvent.RESET: BreakerState.CLOSED,
    },
    BreakerState.OPEN: {
        BreakerEvent.TRIPPED: BreakerState.OPEN,
        BreakerEvent.WAITED: BreakerState.HALF_OPEN,
        BreakerEvent.RESET: BreakerState.CLOSED,
    },
    BreakerState.HALF_OPEN: {
        BreakerEvent.TRIPPED: BreakerState.OPEN,
        BreakerEvent.RECOVERED: BreakerState.CLOSED,
        BreakerEvent.RELAPSED: BreakerState.OPEN,
        BreakerEvent.RESET: BreakerState.CLOSED,
    },
}


class ProbeEnd(StrEnum):
    """How a probe can end."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    """It ended without saying anything about the dependency."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A probe that is out: a lease, which ends by itself at its deadline."""

    id: str
    holder: str
    deadline: float


@dataclass(frozen=True, slots=True)
class Circuit:
    """Where a breaker stands."""

    state: BreakerState = BreakerState.CLOSED
    epoch: int = 0
    """Counts the transitions. What began in an earlier epoch has no say in this one."""
    since: float = 0.0
    """When this state began."""
    trips: int = 0
    """Openings since it was last closed."""
    slots: tuple[Slot, ...] = ()
    succeeded: int = 0
    lost: int = 0
    reason: str = ""
    """Why it is in this state."""
    by: str = ""
    """Who made the transition."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave to make one call. `slot` is empty for an ordinary one."""

    epoch: int
    slot: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer to who asks for leave: the circuit as it is then, and a ticket or the seconds to wait."""

    circuit: Circuit
    ticket: Ticket | None
    retry_after: float = 0.0


def happen(circuit: Circuit, event: BreakerEvent, now: float, reason: str, by: str = "") -> Circuit:
    """Move as the table says."""
    state = TRANSITIONS[circuit.state][event]
    trips = 0 if state is BreakerState.CLOSED else circuit.trips + (state is BreakerState.OPEN)
    return Circuit(state=state, epoch=circuit.epoch + 1, since=now, trips=trips, reason=reason, by=by)


def admit(circuit: Circuit, policy: BreakerPolicy, now: float, slot: str, by: str = "") -> Admission:
    """Ask for leave to call. The circuit in the answer is the same object when nothing changed.

    `slot` is a name that was never used before; a probe is known by it.
    """
    if circuit.state is BreakerState.CLOSED:
        return Admission(circuit, Ticket(circuit.epoch))
    if circuit.state is BreakerState.OPEN:
        left = circuit.since + policy.wait(circuit.trips) - now
        if left > 0:
            return Admission(circuit, None, left)
        circuit = happen(circuit, BreakerEvent.WAITED, now, "the wait is over", by)
    circuit = lapse(circuit, policy, now, by)
    if circuit.state is BreakerState.OPEN:
        return Admission(circuit, None, policy.wait(circuit.trips))
    if circuit.succeeded + len(circuit.slots) >= policy.probes:
        # Probes mostly end long before their deadline: who comes back then would stay away from what is well again.
        latest = min(one.deadline for one in circuit.slots) - now
        return Admission(circuit, None, max(0.0, min(latest, policy.wait(circuit.trips))))
    taken = Slot(slot, by, now + policy.probe_seconds)
    return Admission(replace(circuit, slots=(*circuit.slots, taken)), Ticket(circuit.epoch, slot))


def lapse(circuit: Circuit, policy: BreakerPolicy, now: float, by: str = "") -> Circuit:
    """Take back the probes whose deadline has passed."""
    for slot in circuit.slots:
        if slot.deadline <= now:
            circuit = conclude(circuit, policy, Ticket(circuit.epoch, slot.id), ProbeEnd.LOST, now, by)
    return circuit


def conclude(
    circuit: Circuit, policy: BreakerPolicy, ticket: Ticket, end: ProbeEnd, now: float, by: str = ""
) -> Circuit:
    """A probe has ended. The same object when that has no say any more: its epoch or its lease is over."""
    left = tuple(slot for slot in circuit.slots if slot.id != ticket.slot)
    if ticket.epoch != circuit.epoch or len(left) == len(circuit.slots):
        return circuit
    if end is ProbeEnd.FAILED:
        return happen(circuit, BreakerEvent.RELAPSED, now, "a probe failed", by)
    succeeded = circuit.succeeded + (end is ProbeEnd.SUCCEEDED)
    lost = circuit.lost + (end is ProbeEnd.LOST)
    if succeeded >= policy.probes:
        return happen(circuit, BreakerEvent.RECOVERED, now, f"{succeeded} probe(s) succeeded", by)
    if lost >= policy.probes:
        return happen(circuit, BreakerEvent.RELAPSED, now, f"{lost} probe(s) were lost", by)
    return replace(circuit, slots=left, succeeded=succeeded, lost=lost)
