"""What agents write to the store: the circuit, and their reports. Clocks are translated here.

Times of a circuit are kept on each agent's own steady clock, and written as seconds since the Unix epoch. An agent that
sees a transition happen starts the wait by its own clock at that moment, so that a wrong clock elsewhere moves nothing.
Only one that comes in later has to believe the written time; it is held to within one wait (or one lease) of now.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .breaker import BreakerState, Circuit, Slot
from .breaker_policy import BreakerPolicy
from .reports import Ages
from .window import Counts


class BadRecordError(ValueError):
    """A value in the store that no breaker of this version wrote."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by an agent's steady clock and by its wall clock."""

    steady: float
    wall: float

    def to_wall(self, steady: float) -> float:
        """A time of the steady clock, as seconds since the Unix epoch."""
        return self.wall + steady - self.steady

    def to_steady(self, wall: float) -> float:
        """The reverse."""
        return self.steady + wall - self.wall


def encode_circuit(circuit: Circuit, now: Moment) -> dict[str, Any]:
    """The circuit as JSON."""
    return {
        "state": circuit.state.value,
        "epoch": circuit.epoch,
        "since": now.to_wall(circuit.since),
        "trips": circuit.trips,
        "slots": [[slot.id, slot.holder, now.to_wall(slot.deadline)] for slot in circuit.slots],
        "succeeded": circuit.succeeded,
        "lost": circuit.lost,
        "reason": circuit.reason,
        "by": circuit.by,
    }


def decode_circuit(value: Any, now: Moment, policy: BreakerPolicy, seen: Circuit | None) -> Circuit:
    """The circuit that was read. `seen` is what this agent held until now, if it has been watching, else None.

    Raises:
        BadRecordError: if it is none.
    """
    try:
        state, epoch = BreakerState(value["state"]), int(value["epoch"])
        since = min(now.steady, now.to_steady(float(value["since"])))
        known = {slot.id: slot.deadline for slot in seen.slots} if seen is not None else {}
        if seen is not None:
            since = seen.since if seen.epoch == epoch else now.steady
        latest = now.steady + policy.probe_seconds
        slots = []
        for id, holder, deadline in value["slots"]:
            written = latest if seen is not None else min(latest, now.to_steady(float(deadline)))
            slots.append(Slot(str(id), str(holder), known.get(str(id), written)))
        return Circuit(
            state=state,
            epoch=epoch,
            since=since,
            trips=int(value["trips"]),
            slots=tuple(slots),
            succeeded=int(value["succeeded"]),
            lost=int(value["lost"]),
            reason=str(value["reason"]),
            by=str(value["by"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadRecordError(f"the store holds a circuit that can't be read: {error!r}") from error


def encode_report(epoch: int, ages: Ages, now: Moment) -> dict[str, Any]:
    """An agent's report as JSON."""
    buckets = [[round(age, 3), counts.calls, counts.failures, counts.slow] for age, counts in ages]
    return {"epoch": epoch, "at": now.wall, "buckets": buckets}


def decode_report(value: Any, now: Moment, *, live: bool) -> tuple[int, list[tuple[float, Counts]]]:
    """A report's epoch, and its buckets by age. `live`: it was written just now, whatever its writer's clock says.

    Raises:
        BadRecordError: if it is none.
    """
    try:
        elapsed = 0.0 if live else max(0.0, now.wall - float(value["at"]))
        return int(value["epoch"]), list(_buckets(value["buckets"], elapsed))
    except (KeyError, TypeError, ValueError) as error:
        raise BadRecordError(f"the store holds a report that can't be read: {error!r}") from error


def _buckets(rows: Any, elapsed: float) -> Iterator[tuple[float, Counts]]:
    for age, calls, failures, slow in rows:
        yield max(0.0, float(age)) + elapsed, Counts(int(calls), int(failures), int(slow))
