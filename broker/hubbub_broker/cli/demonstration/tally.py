"""What the agents of one process count together."""

from array import array
from asyncio import Future
from typing import TYPE_CHECKING

from .clock import now
from .latency import rank
from .progress import Progress

if TYPE_CHECKING:
    from hubbub import Receipt, State


class Tally:
    """Plain numbers, and the samples of latency: published and handled, two floats for each delivery."""

    def __init__(self) -> None:
        self.samples = array("d")
        self.online = 0
        self.online_at = 0.0
        """When an agent came online last."""
        self.published = 0
        self.confirmed = 0
        self.repeated = 0
        """Receipts that say the broker had the message already: sent again, and stored once."""
        self.sections = 0
        self._reported = 0

    def handled(self, published_at: float) -> None:
        """A handler has a message."""
        self.samples.append(published_at)
        self.samples.append(now())

    def sent(self, receipt: "Future[Receipt]") -> None:
        """A message was published."""
        self.published += 1
        receipt.add_done_callback(self._confirm)

    def changed_state(self, before: "State", after: "State") -> None:
        """An agent's connection came or went."""
        if after == "online":
            self.online += 1
            self.online_at = now()
        elif before == "online":
            self.online -= 1

    def progress(self, reconnects: int, odd: int) -> Progress:
        """The counts, with the latencies since the last call."""
        recent = self.samples[self._reported :]
        self._reported = len(self.samples)
        durations = sorted(handled - at for at, handled in zip(recent[::2], recent[1::2], strict=True))
        return Progress(
            online=self.online,
            published=self.published,
            confirmed=self.confirmed,
            handled=len(self.samples) // 2,
            sections=self.sections,
            reconnects=reconnects,
            odd=odd,
            p50=rank(durations, 0.5) if durations else 0.0,
            p99=rank(durations, 0.99) if durations else 0.0,
        )

    def _confirm(self, future: "Future[Receipt]") -> None:
        if not future.cancelled() and future.exception() is None:
            self.confirmed += 1
            self.repeated += future.result().dup
