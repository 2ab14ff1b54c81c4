"""One connected agent: the socket, the frames, the session that says what it may do. Start reading at `connection`."""

from hubbub_broker.refusal import Refusal

from .admission import check_publish
from .connection import WebSocketConnection
from .entrance import Gate
from .heartbeat import Heartbeat
from .intake import Intake
from .mailing import fields_of
from .session import Session
from .sessions import Sessions

__all__ = [
    "Gate",
    "Heartbeat",
    "Intake",
    "Refusal",
    "Session",
    "Sessions",
    "WebSocketConnection",
    "check_publish",
    "fields_of",
]
