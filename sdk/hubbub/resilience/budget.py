"""How much retrying a client may add to a dependency's load.

Retries multiply: three layers that try three times each make 27 calls of one, just when the dependency can bear it
least. A budget, shared by all calls to it, keeps the sum in proportion: each first call pays in a share of a retry,
each retry takes out a whole one.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class BudgetStats:
    """Counts since the budget was made."""

    calls: int = 0
    """First calls."""
    retries: int = 0
    """Retries that were granted."""
    refused: int = 0
    """Retries that there was no budget for."""


class RetryBudget:
    """A token bucket of retries. Any number of policies, tasks and threads may share one.

    In any stretch of time the granted retries are at most `burst + share * calls + per_second * seconds`, `calls` being
    the first calls made in it.
    """

    def __init__(
        self,
        share: float = 0.2,
        *,
        per_second: float = 0.5,
        burst: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`share` of a retry comes with each call; `per_second` come by themselves, so that who calls seldom may retry
        too; `burst` is the most that can be saved up, and what there is at first.
        """
        if share < 0 or per_second < 0 or burst < 1:
            raise ValueError("share and per_second must not be negative, and burst must hold at least one retry")
        self.share = share
        self.per_second = per_second
        self.burst = burst
        self.stats = BudgetStats()
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = burst
        self._filled_at = clock()

    @property
    def left(self) -> float:
        """Retries that could be made now."""
        with self._lock:
            self._fill()
            return self._tokens

    def deposit(self) -> None:
        """A first call is made."""
        with self._lock:
            self._fill()
            self._tokens = min(self.burst, self._tokens + self.share)
            self.stats.calls += 1

    def withdraw(self) -> bool:
        """Ask for a retry. False if the budget is spent."""
        with self._lock:
            self._fill()
            if self._tokens < 1:
                self.stats.refused += 1
                return False
            self._tokens -= 1
            self.stats.retries += 1
            return True

    def _fill(self) -> None:
        now = self._clock()
        # Never backwards: two threads may have read the clock in one order and come here in the other.
        if now > self._filled_at:
            self._tokens = min(self.burst, self._tokens + (now - self._filled_at) * self.per_second)
            self._filled_at = now
