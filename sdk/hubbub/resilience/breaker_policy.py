"""What makes a circuit breaker open, how long it waits, and what it takes for a failure. Pure."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import CallRefused
from .matching import ErrorFilter, matches
from .window import Counts, SlidingWindow, TimeBased

logger = logging.getLogger("hubbub")

DEFAULT_WINDOW = TimeBased(30.0)
"""Long enough for a rate of a few calls a second, short enough to notice within one attention span."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a call that has ended says about its dependency."""

    failed: bool
    slow: bool

    @property
    def good(self) -> bool:
        """Whether a probe that ended so has succeeded."""
        return not self.failed and not self.slow


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """The settings of a circuit breaker. Rates are shares from above 0 to 1, times are in seconds."""

    window: SlidingWindow = DEFAULT_WINDOW
    """Over which calls rates and thresholds are taken."""

    minimum_calls: int = 10
    """Below that many calls in the window no rate means anything."""

    failure_rate: float | None = 0.5
    """It opens when this share of the calls in the window failed. None: no share opens it."""

    failure_threshold: int | None = None
    """It opens when this many calls in the window failed, whatever their share."""

    slow_call_seconds: float | None = None
    """A call that took longer is slow. None: none is."""

    slow_call_rate: float | None = None
    """It opens when this share of the calls in the window was slow. None: a slow call counts as a failed one."""

    wait_seconds: float = 30.0
    """How long it stays open before it lets probes through."""

    wait_factor: float = 1.0
    """By how much the wait grows each time that the probes fail."""

    wait_max: float = 300.0
    """The longest wait."""

    probes: int = 3
    """Calls permitted while half open. When as many have succeeded it closes; the first that fails opens it again."""

    probe_seconds: float = 60.0
    """A probe that has not ended after that is lost, and another call may take its place. As many lost probes as are
    permitted open it again: a half-open period sees fewer than twice `probes` calls, whatever becomes of them.
    """

    failures: ErrorFilter = Exception
    """Errors that count as failures. Others say that the dependency is well: it answered."""

    ignored: ErrorFilter = ()
    """Errors that say nothing either way."""

    failed_result: Callable[[Any], bool] | None = None
    """Tells a returned value that stands for a failure (a response with status 503). Not seen by `with` blocks."""

    def __post_init__(self) -> None:
        for name in ("failure_rate", "slow_call_rate"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate <= 1:
                raise ValueError(f"{name} is {rate}, and must be above 0 and at most 1")
        for name in ("wait_seconds", "wait_max", "probe_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, and must be above 0")
        for name in ("minimum_calls", "probes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, and must be at least 1")
        if self.failure_threshold is not None and self.failure_threshold < 1:
            raise ValueError(f"failure_threshold is {self.failure_threshold}, and must be at least 1")
        if self.wait_factor < 1:
            raise ValueError(f"wait_factor is {self.wait_factor}, and must be at least 1")
        if self.slow_call_rate is not None and self.slow_call_seconds is None:
            raise ValueError("slow_call_rate says how many may be slow: give slow_call_seconds too")
        if self.failure_rate is None and self.failure_threshold is None and self.slow_call_rate is None:
            raise ValueError("nothing would open it: give failure_rate, failure_threshold or slow_call_rate")

    def wait(self, trips: int) -> float:
        """Seconds to stay open, after that many openings in a row (1 is the first)."""
        # The exponent is bounded, because a float overflows after a thousand of them.
        return min(self.wait_max, self.wait_seconds * self.wait_factor ** min(max(0, trips - 1), 64))

    def reason_to_open(self, counts: Counts) -> str:
        """Why these counts call for opening, or nothing."""
        if self.failure_threshold is not None and counts.failures >= self.failure_threshold:
            return f"{counts.failures} of {counts.calls} calls failed (failure_threshold {self.failure_threshold})"
        if counts.calls < self.minimum_calls:
            return ""
        if self.failure_rate is not None and counts.failures >= self.failure_rate * counts.calls:
            return f"{counts.failures} of {counts.calls} calls failed (failure_rate {self.failure_rate:g})"
        if self.slow_call_rate is not None and counts.slow >= self.slow_call_rate * counts.calls:
            return f"{counts.slow} of {counts.calls} calls were slow (slow_call_rate {self.slow_call_rate:g})"
        return ""

    def judge(self, error: BaseException | None, result: Any, seconds: float) -> Verdict | None:
        """What a call that took `seconds` says. None: nothing."""
        slow = self.slow_call_seconds is not None and seconds > self.slow_call_seconds
        if error is None:
            failed = self._is_failed(result)
        elif isinstance(error, CallRefused):
            return None  # a layer further in refused it: the dependency was never asked
        elif not isinstance(error, Exception):
            # Called off from outside. By a caller who has waited too long: then it was slow. Else it says nothing.
            if not slow:
                return None
            failed = False
        elif matches(self.ignored, error):
            return None
        else:
            failed = matches(self.failures, error)
        return Verdict(failed=failed or (slow and self.slow_call_rate is None), slow=slow)

    def _is_failed(self, result: Any) -> bool:
        if self.failed_result is None:
            return False
        try:
            return bool(self.failed_result(result))
        except Exception:
            logger.exception("! failed_result failed at a result of type %s", type(result).__name__)
            return True
