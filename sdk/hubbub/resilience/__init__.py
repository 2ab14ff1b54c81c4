"""Calls to what may fail: circuit breakers (of one process or shared by agents), retries, time-outs, bulkheads.

    from hubbub.resilience import Bulkhead, CircuitBreaker, RetryPolicy, Timeout

    @RetryPolicy(on=ConnectionError)            # outermost: each attempt passes what is below
    @CircuitBreaker("openai")                   # stops asking when asking is of no use
    @Bulkhead("openai", max_concurrent=8)       # bounds what one dependency takes up
    @Timeout(20)                                # innermost: each call ends
    async def complete(prompt): ...

Read the package in this order: `errors`, `window`, `breaker_policy`, `breaker` (the pure machine), `guard` (its shell),
`circuit_breaker`; then what is shared: `store`, `record`, `reports`, `replica`, `shared`; and, each by itself, `retry`
with `budget` and `retry_after`, `bulkhead`, `timeout`.
"""

from hubbub.shared_state.entry import StateEntry

from .breaker import BreakerState
from .breaker_policy import BreakerPolicy
from .budget import RetryBudget
from .bulkhead import Bulkhead
from .circuit_breaker import CircuitBreaker
from .errors import BulkheadFull, CallRefused, CallTimeout, CircuitOpen, StateConflictError
from .retry import RetryPolicy
from .retry_after import retry_after_of
from .shared import SharedCircuitBreaker
from .store import MemoryStateStore, StateStore
from .timeout import Timeout
from .transition import BreakerStats, Transition
from .window import CountBased, Counts, TimeBased

__all__ = [
    "BreakerPolicy",
    "BreakerState",
    "BreakerStats",
    "Bulkhead",
    "BulkheadFull",
    "CallRefused",
    "CallTimeout",
    "CircuitBreaker",
    "CircuitOpen",
    "CountBased",
    "Counts",
    "MemoryStateStore",
    "RetryBudget",
    "RetryPolicy",
    "SharedCircuitBreaker",
    "StateConflictError",
    "StateEntry",
    "StateStore",
    "TimeBased",
    "Timeout",
    "Transition",
    "retry_after_of",
]
