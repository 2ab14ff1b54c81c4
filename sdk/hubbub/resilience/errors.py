"""What this package raises on purpose.

    HubbubError
    ├── CallRefused            the call was not made, to spare the dependency or its callers
    │   ├── CircuitOpen        its circuit breaker is open, or all its probes are out
    │   └── BulkheadFull       as many calls as allowed are under way and waiting
    ├── CallTimeout            the call was made and did not end in time (also a TimeoutError)
    └── StateConflictError     a compare-and-set found another version than it expected

A refused call has done nothing: making it later is always safe. A call that timed out may have been carried out.
"""

from hubbub.errors import HubbubError, StateConflictError

__all__ = ["BulkheadFull", "CallRefused", "CallTimeout", "CircuitOpen", "StateConflictError"]


class CallRefused(HubbubError):
    """A call that was not made. `name` is what refused it; `retry_after` is in seconds, where it is known."""

    def __init__(self, message: str, name: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.retry_after = retry_after


class CircuitOpen(CallRefused):
    """The circuit breaker `name` lets no call through. In `retry_after` seconds at most it will take a probe."""


class BulkheadFull(CallRefused):
    """The bulkhead `name` has no room: `max_concurrent` calls are under way, and no more may wait, or not so long."""


class CallTimeout(HubbubError, TimeoutError):
    """A call did not end within its time and was cancelled. What it asked for may have been done."""
