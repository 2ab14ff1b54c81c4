"""Shared state: versioned keys of conversations and groups, changed in one step, with messages, or not at all.

record      what the log keeps of a state
contents    what a state holds, read from the log
leases      keys that go by themselves unless they are renewed
request     what may be asked, checked
permission  what a change takes of whoever asks for it
telling     the messages that tell of changes
states      the states of one shard: reads, changes, renewals
watchers    who in the broker itself hears of changes
figures     counts, and their form on /metrics
"""

from .figures import StateCollector, StateFigures
from .permission import permit_change
from .states import States, StatesOf
from .telling import TYPE
from .watchers import OnChange, StateChange, Watcher

__all__ = [
    "TYPE",
    "OnChange",
    "StateChange",
    "StateCollector",
    "StateFigures",
    "States",
    "StatesOf",
    "Watcher",
    "permit_change",
]
