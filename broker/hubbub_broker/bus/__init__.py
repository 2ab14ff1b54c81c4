"""The simple bus: who there is, mail to them, and who is present where. For agents with a socket and without.

    agents     the register of agents                 inbox      what is unread, read, marked
    mail       to one agent, or to ALL                presence   who is in a topic; last wills
    arrivals   who came and left, told                bus        all of it, put together

An inbox is a durable topic, and its read mark a consumer: nothing here stores a message of its own.
"""

from .agents import AgentRecord, Agents, Card
from .bus import Bus
from .inbox import INBOX, Inbox, Unread
from .mail import ALL, MAIL, Mail, Sent
from .presence import Presence, Wills

__all__ = [
    "ALL",
    "INBOX",
    "MAIL",
    "AgentRecord",
    "Agents",
    "Bus",
    "Card",
    "Inbox",
    "Mail",
    "Presence",
    "Sent",
    "Unread",
    "Wills",
]
