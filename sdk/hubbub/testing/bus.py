"""The simple bus in memory: inboxes, mail to them, presence."""

import secrets
from typing import TYPE_CHECKING

from msgspec import Raw
from msgspec.structs import replace

from hubbub_protocol import codec, names
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err, Hello, Join, Leave, Ok, Pub

from .topic_log import Arrival

if TYPE_CHECKING:
    from .broker import MemoryBroker
    from .connection import Session

PREFIX = f"{names.MAIL_GROUP}/@"


class MemoryBus:
    """Who there is, and who is where."""

    def __init__(self, broker: "MemoryBroker") -> None:
        self._broker = broker
        self._inboxes: dict[str, str] = {}
        self._present: dict[str, list[Session]] = {}

    def register(self, hello: Hello) -> str:
        """An agent is here; its inbox."""
        group = hello.groups[0] if hello.groups else "agents"
        return self._inboxes.setdefault(hello.agent, names.inbox_of(group, hello.agent))

    def addressed(self, pub: Pub) -> Pub | Err | None:
        """A mail as what is published to the inbox; None for what is no mail, or is to all."""
        if not pub.topic.startswith(PREFIX) or pub.topic == names.MAIL_TO_ALL:
            return None
        name = pub.topic.removeprefix(PREFIX)
        inbox = self._inboxes.get(name)
        if inbox is None:
            if b'"create":true' not in bytes(pub.headers):
                return Err(id=pub.id, code=ErrorCode.NOT_FOUND, message=f"no agent {name!r} is registered")
            inbox = self._inboxes[name] = names.inbox_of("agents", name)
        return replace(pub, topic=inbox, type=pub.type or "mail")

    def stored(self, arrival: Arrival) -> None:
        """A mail to all is stored: everybody gets a copy."""
        if arrival.pub.topic == names.MAIL_TO_ALL:
            for name, inbox in self._inboxes.items():
                if name != arrival.sender:
                    self._broker.bury(replace(arrival.pub, topic=inbox, n=None), None, arrival.sender)

    def attend(self, session: "Session", frame: Join | Leave) -> None:
        """A client comes to a topic, or goes."""
        here = self._present.setdefault(frame.topic, [])
        if isinstance(frame, Join):
            if session not in here:
                here.append(session)
                self._tell(frame.topic, session, "join")
            session.send(Ok(rid=frame.rid, topic=frame.topic, present=sorted({each.agent for each in here})))
            return
        self._leave(frame.topic, session)
        session.send(Ok(rid=frame.rid, topic=frame.topic))

    def gone(self, session: "Session") -> None:
        """A connection has ended."""
        for topic in self._present:
            self._leave(topic, session)

    def _leave(self, topic: str, session: "Session") -> None:
        here = self._present.get(topic, [])
        if session in here:
            here.remove(session)
            self._tell(topic, session, "leave")

    def _tell(self, topic: str, session: "Session", event: str) -> None:
        here = self._present.get(topic, [])
        if sum(each.agent == session.agent for each in here) == (1 if event == "join" else 0):
            data = Raw(codec.encode_value({"event": event, "agent": session.agent}))
            pub = Pub(topic=topic, id=secrets.token_hex(8), type="presence", data=data, ephemeral=True)
            self._broker.signal(topic, session.agent, pub)
