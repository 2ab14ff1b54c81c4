"""Hubbub for agents: publish and subscribe in durable conversations, whatever the connection does.

    from hubbub import Agent

    async with Agent("joe", group="research", url="ws://127.0.0.1:8091") as joe:
        conv = joe.topic("conv-42")
        receipt = await conv.publish({"text": "hello"})
        async for msg in conv.subscribe(start="all"):
            await msg.reply({"text": "hi"})

Read the package in this order: `errors`, `state`, `policy`, `backoff`, `transport`, `link`, `supervisor`; then what is
received: `message`, `cursor`, `mailbox`, `feed`, `channel`, `switchboard`, `subscription`; what is shared out and
settled: `lease`, `acks`, `delivery`, `consumer`, `seen`, `workers`, `consuming`; what is sent: `outbox`, `sender`,
`composer`, `outcomes`; large bodies: `blob`, `blob_content`, `blob_store`; what led to what: `causes`; what is shared:
`asks`, `shared_state`; the simple bus: `mail`, `mail_consumer`, `presence`, `will`, `participant`; under the control
plane: `activity`, `control`; and `options`, `life` and `agent`, which put them together.
"""

from hubbub_protocol import __version__
from hubbub_protocol.blobs import BlobRef
from hubbub_protocol.frames import Gap

from .agent import Agent
from .backoff import Backoff
from .blob import Blob
from .causes import Context
from .consuming import Consumption
from .control import CommandRefused, Order
from .delivery import Delivery
from .errors import (
    AlreadyDone,
    BadRequest,
    BlobCorrupt,
    BlobGone,
    BudgetExceeded,
    BufferFull,
    Closed,
    Conflict,
    ConnectionLimit,
    Disconnected,
    Expired,
    Forbidden,
    HubbubError,
    InvalidName,
    LeaseLost,
    LoopDetected,
    MessageDecodeError,
    NoResponder,
    NotAllowed,
    NotFound,
    NoVectorClock,
    Refused,
    Reject,
    Rejected,
    Replaced,
    RequestTimeout,
    Retry,
    SeenError,
    SpoolError,
    StateConflictError,
    TooLarge,
    Unauthorized,
    Undelivered,
    Unencodable,
    WrongProtocol,
)
from .mail import Mail
from .message import Message, Receipt
from .options import Token
from .outcomes import Outcome, Tracked
from .participant import InboxReader
from .presence import Presence, PresenceEvent
from .resilience import Bulkhead, BulkheadFull, CircuitBreaker, CircuitOpen, RetryPolicy
from .seen import MemorySeen, SeenStore
from .seen_file import SqliteSeen
from .sender import OnFull
from .shared_state import Lease, Publication, SharedState, StateEntry, StateValue, Transaction
from .state import State
from .stats import Stats
from .subscription import Subscription
from .topic import Topic
from .will import Will

__all__ = [
    "Agent",
    "AlreadyDone",
    "Backoff",
    "BadRequest",
    "Blob",
    "BlobCorrupt",
    "BlobGone",
    "BlobRef",
    "BudgetExceeded",
    "BufferFull",
    "Bulkhead",
    "BulkheadFull",
    "CircuitBreaker",
    "CircuitOpen",
    "Closed",
    "CommandRefused",
    "Conflict",
    "ConnectionLimit",
    "Consumption",
    "Context",
    "Delivery",
    "Disconnected",
    "Expired",
    "Forbidden",
    "Gap",
    "HubbubError",
    "InboxReader",
    "InvalidName",
    "Lease",
    "LeaseLost",
    "LoopDetected",
    "Mail",
    "MemorySeen",
    "Message",
    "MessageDecodeError",
    "NoResponder",
    "NoVectorClock",
    "NotAllowed",
    "NotFound",
    "OnFull",
    "Order",
    "Outcome",
    "Presence",
    "PresenceEvent",
    "Publication",
    "Receipt",
    "Refused",
    "Reject",
    "Rejected",
    "Replaced",
    "RequestTimeout",
    "Retry",
    "RetryPolicy",
    "SeenError",
    "SeenStore",
    "SharedState",
    "SpoolError",
    "SqliteSeen",
    "State",
    "StateConflictError",
    "StateEntry",
    "StateValue",
    "Stats",
    "Subscription",
    "Token",
    "TooLarge",
    "Topic",
    "Tracked",
    "Transaction",
    "Unauthorized",
    "Undelivered",
    "Unencodable",
    "Will",
    "WrongProtocol",
    "__version__",
]
