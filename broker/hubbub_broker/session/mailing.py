"""Mail over the socket: a `pub` to `_mail/@NAME`, the inbox of that name wherever it is, or to `_mail/@ALL`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from hubbub_broker.access import Operation
from hubbub_broker.bus import ALL, MAIL, Bus, RemoteMail
from hubbub_broker.logs import get_logger
from hubbub_broker.peers import RemoteTopic
from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import Publisher, Sink, Topic, answers
from hubbub_protocol.codec import decode_value, encode
from hubbub_protocol.errors import BadFrame, ErrorCode, ProtocolError
from hubbub_protocol.frames import Ok, Pub
from hubbub_protocol.names import MAIL_GROUP, check_agent, group_of

if TYPE_CHECKING:
    from .session import Publish, Session
    from .sessions import Sessions

log = get_logger(__name__)

PREFIX = f"{MAIL_GROUP}/@"

LINES_KEPT = 4096
"""Senders to ALL whose count `n` is remembered while nothing of theirs is under way."""


class Line:
    """The mails to ALL of one life of an agent: one after the other, in the order of `n`."""

    __slots__ = ("next", "tail")

    def __init__(self) -> None:
        self.next: int | None = None
        """The `n` that comes next, once one was taken."""
        self.tail: asyncio.Task[None] | None = None
        """The last of those that are under way."""


Lines = dict[tuple[str, str | None], Line]
"""By agent and life."""


def is_mail(topic: str) -> bool:
    """Whether a topic stands for somebody's inbox."""
    return topic.startswith(PREFIX)


def open_mail(session: Session, sessions: Sessions, bus: Bus, agent: str, pub: Pub) -> tuple[Publisher, Publish]:
    """The way to the inbox that a `pub` names.

    `n` counts apart from what the same agent publishes to the inbox by its own name.

    Raises:
        Refusal: `not_found`: nobody is registered under that name, and no header `create` says to keep the mail;
            `forbidden`: the session may not send there.
        ProtocolError: the name is none.
    """
    name = pub.topic[len(PREFIX) :]
    life = session.life
    if name == ALL:
        session.require(Operation.SEND_TO_ALL)
        topic = sessions.shards[0].topic(f"{MAIL_GROUP}/{ALL}")  # of any shard: nothing is ever stored there
        line = _line_of(sessions.to_all, agent, life)
        return Publisher(agent, life, topic), lambda _, pub, payload, sink: _to_all(
            bus, line, agent, pub, payload, sink
        )
    check_agent(name)
    if isinstance(bus.mail, RemoteMail) and bus.agents.get(name) is None:
        return _by_home(session, bus.mail, agent, pub)
    session.require(Operation.SEND, bus.inbox_of(name))
    record = bus.mail.recipient(name, create=fields_of(pub.headers).get("create") is True)
    shard = sessions.way_to(group_of(record.inbox))

    def publish(publisher: Publisher, pub: Pub, payload: bytes | None, sink: Sink) -> None:
        shard.publish(publisher, replace(pub, topic=record.inbox, type=pub.type or MAIL), payload, sink)

    return Publisher(agent, f"{life or ''}~mail", shard.topic(record.inbox)), publish


def _by_home(session: Session, mail: RemoteMail, agent: str, pub: Pub) -> tuple[Publisher, Publish]:
    """The way to somebody whom the register's copy does not have: the home worker knows, or refuses."""
    identity = session.identity
    assert identity is not None  # an agent that is known has one

    def publish(publisher: Publisher, pub: Pub, payload: bytes | None, sink: Sink) -> None:
        mail.publish_by_home(identity, publisher, replace(pub, type=pub.type or MAIL), payload, sink)

    topic = cast("Topic", RemoteTopic(pub.topic))
    return Publisher(agent, f"{session.life or ''}~mail", topic), publish


def _line_of(lines: Lines, agent: str, life: str | None) -> Line:
    line = lines.get((agent, life))
    if line is None:
        if len(lines) >= LINES_KEPT:
            for key in [key for key, each in lines.items() if each.tail is None]:
                del lines[key]
        line = lines[agent, life] = Line()
    return line


def _to_all(bus: Bus, line: Line, agent: str, pub: Pub, payload: bytes | None, sink: Sink) -> None:
    before = line.tail

    async def send() -> None:
        if before is not None:
            await asyncio.wait((before,))
        sink.settle(1, [await _send(bus, line, agent, pub, payload)])

    task = line.tail = asyncio.get_running_loop().create_task(send(), name="mail to ALL")

    def done(_: asyncio.Task[None]) -> None:
        if line.tail is task:
            line.tail = None

    task.add_done_callback(done)


async def _send(bus: Bus, line: Line, agent: str, pub: Pub, payload: bytes | None) -> bytes:
    """Send one mail to ALL; the answer to it."""
    n, expect = pub.n, line.next
    if n is not None and expect is not None and n > expect:
        message = f"n is {n}, and {expect} comes next: one before it was not taken"
        return answers.refusal(pub, ErrorCode.ORDER, message, expect=expect)
    try:
        if payload is not None:
            raise Refusal(ErrorCode.BAD_REQUEST, "a mail to ALL has JSON `data`")
        sent = await bus.mail.send_to_all(agent, pub)
    except Refusal as refusal:
        return answers.refusal(pub, refusal.code, refusal.message, retry_after=refusal.retry_after)
    except ProtocolError as error:
        return answers.refusal(pub, ErrorCode.BAD_REQUEST, str(error))
    except Exception:  # whoever sent it waits for an answer, and has it in its window until there is one
        log.exception("mail to ALL not sent", agent=agent)
        message = "the broker made a mistake; its log has the particulars"
        return answers.refusal(pub, ErrorCode.INTERNAL, message, retry_after=1.0)
    if n is not None and not (sent.dup and expect is not None and n < expect):
        line.next = n + 1
    return encode(Ok(id=pub.id, rid=pub.rid, topic=pub.topic, dup=sent.dup))


def fields_of(headers: Any) -> dict[str, Any]:
    """The headers of a message; none if they can't be read."""
    raw = bytes(headers)
    try:
        found = decode_value(raw) if raw else {}
    except BadFrame:
        return {}
    return found if isinstance(found, dict) else {}
