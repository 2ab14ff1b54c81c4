"""Publishing at times that were fixed beforehand, whoever is there at the moment taking turns."""

from __future__ import annotations

from random import Random
from time import monotonic_ns

from hubbub_bench.drivers.clock import Alarm
from hubbub_bench.drivers.schedule import due_times

from .outgoing import Outgoing
from .tally import Tally


class Pace:
    """Rings for each message when it is due."""

    def __init__(
        self, tally: Tally, outgoing: list[Outgoing], *, start: int, rate: float, arrivals: str, seed: int
    ) -> None:
        self._tally = tally
        self._outgoing = outgoing
        self._turn = 0
        self._times = due_times(start, rate, arrivals, Random(seed))
        self._due = next(self._times)
        self._alarm = Alarm(self._send)
        self._alarm.set(self._due)

    def stop(self) -> None:
        """Send what is due by now, and no more."""
        self._send()
        self._alarm.close()

    def _send(self) -> None:
        tally = self._tally
        if not tally.sending:
            return
        now = monotonic_ns()
        while self._due <= now:
            one = self._next()
            if one is not None:
                one.send(self._due)
                if tally.record_from <= self._due < tally.record_to:
                    tally.lateness.append(now - self._due)
            self._due = next(self._times)
            now = monotonic_ns()
        self._alarm.set(self._due)

    def _next(self) -> Outgoing | None:
        """The next one in turn whose member is there."""
        outgoing, size = self._outgoing, len(self._outgoing)
        for _ in range(size):
            one = outgoing[self._turn]
            self._turn = (self._turn + 1) % size
            if one.open:
                return one
        return None
