"""The simple bus: who there is, mail to them, and who is present where. For agents with a socket and without.

    agents     the register of agents                 inbox      what is unread, read, marked
    mail       to one agent, or to ALL                presence   who is in a topic; last wills
    to_all     to ALL: everybody or nobody
    arrivals   who came and left, told                register   agents where there are several workers
    bus        all of it, put together                remote_mail   mail, likewise
    limits     what is asked before a message is taken

An inbox is a durable topic, and its read mark a consumer: nothing here stores a message of its own.
"""

from hubbub_protocol.names import MAIL

from .agents import AgentRecord, Agents, Card
from .bus import Bus
from .inbox import Inbox, Unread
from .mail import ALL, Mail, Sent
from .presence import PRESENCE_BYTES, Presence, Wills
from .register import RegisterCopy
from .remote_mail import RemoteMail

__all__ = [
    "ALL",
    "MAIL",
    "PRESENCE_BYTES",
    "AgentRecord",
    "Agents",
    "Bus",
    "Card",
    "Inbox",
    "Mail",
    "Presence",
    "RegisterCopy",
    "RemoteMail",
    "Sent",
    "Unread",
    "Wills",
]
