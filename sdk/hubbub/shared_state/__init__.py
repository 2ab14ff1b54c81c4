"""Shared state with optimistic locking: versioned keys that all agents of a group see. See docs/state.md.

entry          what a key holds; a message that goes with a change
client         requests and answers
desk           what one agent's states have in common
transaction    read, decide, change
watch          a snapshot, then every change
lease          one holder at a time, with a fencing token
state          the face: `SharedState`
breaker_store  a state as the store of shared circuit breakers
"""

from .breaker_store import GroupStateStore
from .desk import StateDesk
from .entry import Publication, StateEntry, StateValue
from .lease import Lease
from .state import SharedState, SharedStates
from .transaction import Transaction

__all__ = [
    "GroupStateStore",
    "Lease",
    "Publication",
    "SharedState",
    "SharedStates",
    "StateDesk",
    "StateEntry",
    "StateValue",
    "Transaction",
]
