"""Hubbub for agents: publish and subscribe in durable conversations, whatever the connection does.

    from hubbub import Agent

    async with Agent("joe", group="research", url="ws://127.0.0.1:8091") as joe:
        conv = joe.topic("conv-42")
        receipt = await conv.publish({"text": "hello"})
        async for msg in conv.subscribe(start="all"):
            await msg.reply({"text": "hi"})

Read the package in this order: `errors`, `state`, `policy`, `backoff`, `transport`, `link`, `supervisor`; then what is
received: `message`, `cursor`, `mailbox`, `feed`, `channel`, `switchboard`, `subscription`; then what is sent: `outbox`,
`sender`, `composer`; and `agent`, which puts them together.
"""

from hubbub_protocol import __version__
from hubbub_protocol.frames import Gap

from .agent import Agent, Token
from .backoff import Backoff
from .errors import (
    BadRequest,
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
    LoopDetected,
    MessageDecodeError,
    NotAllowed,
    NotFound,
    NoVectorClock,
    Refused,
    Rejected,
    Replaced,
    RequestTimeout,
    SpoolError,
    TooLarge,
    Unauthorized,
    Undelivered,
    Unencodable,
    WrongProtocol,
)
from .message import Message, Receipt
from .sender import OnFull
from .state import State
from .stats import Stats
from .subscription import Subscription
from .topic import Topic

__all__ = [
    "Agent",
    "Backoff",
    "BadRequest",
    "BudgetExceeded",
    "BufferFull",
    "Closed",
    "Conflict",
    "ConnectionLimit",
    "Disconnected",
    "Expired",
    "Forbidden",
    "Gap",
    "HubbubError",
    "InvalidName",
    "LoopDetected",
    "Message",
    "MessageDecodeError",
    "NoVectorClock",
    "NotAllowed",
    "NotFound",
    "OnFull",
    "Receipt",
    "Refused",
    "Rejected",
    "Replaced",
    "RequestTimeout",
    "SpoolError",
    "State",
    "Stats",
    "Subscription",
    "Token",
    "TooLarge",
    "Topic",
    "Unauthorized",
    "Undelivered",
    "Unencodable",
    "WrongProtocol",
    "__version__",
]
