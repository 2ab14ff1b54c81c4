"""The guard against storms: loops, echoes, floods, and conversations that use more than they should. See docs/guard.md.

guard         rates for senders and groups, asked at every door; what operators are told
conversation  the rules of each conversation, asked by the shard that sequences it
chain pace    pure: how far a chain has got; slow down, then stop
budget        what conversations have used, kept in the log
"""

from .bucket import SlidingWindow, TokenBucket
from .budget import Ledger, Sums
from .conversation import ConversationGuard, Memory
from .denial import Denial, Rule
from .events import TOPIC as EVENTS_TOPIC
from .events import Events
from .guard import Guard

__all__ = [
    "EVENTS_TOPIC",
    "ConversationGuard",
    "Denial",
    "Events",
    "Guard",
    "Ledger",
    "Memory",
    "Rule",
    "SlidingWindow",
    "Sums",
    "TokenBucket",
]
