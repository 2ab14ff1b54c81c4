"""A session: one connected agent. Checks what it asks for, and passes it to the shards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from hubbub_broker.access import OPEN, Denied, Identity, Operation
from hubbub_broker.bus import Card
from hubbub_broker.log import LogError
from hubbub_broker.logs import get_logger
from hubbub_broker.peers import RemoteTopic
from hubbub_broker.refusal import Elsewhere, Refusal, unreadable
from hubbub_broker.shard import Cursor, PatternSubscription, Publisher, Shard, Sink, Start, answers
from hubbub_broker.wire import text_frame
from hubbub_protocol.codec import decode_client, encode, reference_of, split_binary
from hubbub_protocol.errors import BadFrame, CloseCode, ErrorCode, ProtocolError
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import (
    Ack,
    Change,
    ClientFrame,
    Err,
    Extend,
    Frame,
    Get,
    Goaway,
    Hello,
    Join,
    Leave,
    Nack,
    Ok,
    Ping,
    Pong,
    Pub,
    Renew,
    Rid,
    State,
    Sub,
    Term,
    Unsub,
    Will,
)
from hubbub_protocol.limits import GROUPS_MAX, ID_BYTES_MAX
from hubbub_protocol.names import check_agent, check_group, check_pattern, check_topic, group_of, is_pattern

from .attendance import Attendance, check_join, check_will
from .consuming import Consuming
from .entrance import Entrance
from .filtering import check_apart, parse_filter
from .finding import answer_get, check_get
from .mailing import is_mail, open_mail
from .sharing import share
from .socket import Connection
from .welcome import welcome

if TYPE_CHECKING:
    from .sessions import Sessions

EXPIRY_NAP = 3600.0
"""Seconds after which the end of a token is looked at again if it is further off: clocks are set, timers are not."""

log = get_logger(__name__)

REASON_CHARS_MAX = 100
"""Characters of the reason in a closing frame, which holds 123 bytes."""

PUBLISHERS_KEPT = 4096
"""Topics for which a connection keeps what its publishes have in common. Beyond that it is worked out anew."""


Publish = Callable[[Publisher, Pub, bytes | None, Sink], None]
"""A shard's way in: what `Sequencer.publish` is."""


class Session:
    """One agent on one connection. A `Sink` for the shards."""

    __slots__ = (
        "_attendance",
        "_connection",
        "_consuming",
        "_expiry",
        "_in_flight_max",
        "_lookups",
        "_owed",
        "_owing",
        "_publishers",
        "_replays",
        "_sessions",
        "_stopped_by",
        "address",
        "agent",
        "closed",
        "cursors",
        "entrance",
        "filtering",
        "groups",
        "heard",
        "id",
        "identity",
        "in_flight",
        "life",
        "meta",
        "patterns",
        "paused_since",
        "since",
        "subscribed",
        "surplus",
        "will",
        "writable",
        "write",
    )

    def __init__(self, sessions: Sessions, connection: Connection, address: str) -> None:
        self._sessions = sessions
        self._connection = connection
        self.write: Callable[[bytes], None] = connection.write
        self.writable = True
        self.cursors: dict[str, Cursor] = {}
        self.address = address
        """Where the client is, for operators."""
        self.entrance: Entrance | None = None
        """How it came in, where there are several workers."""
        self.identity: Identity | None = None if sessions.access.enabled else OPEN
        """What it may do, once it has shown who it is."""
        self._expiry: asyncio.TimerHandle | None = None
        self.groups: tuple[str, ...] = ()
        """The groups that it works in."""
        self.agent: str | None = None
        """Who it is, once known."""
        self.id = sessions.next_id()
        self.life: str | None = None
        """The client's own name for this life of the agent, across connections."""
        self.meta = b""
        self.since = time()
        self.heard = True
        """Whether anything has come from the client since the last heartbeat."""
        self.paused_since = 0.0
        """Since when (loop time) the socket is full; 0.0 while it is not."""
        self.in_flight = 0
        self._in_flight_max = sessions.settings.max_inflight
        self.patterns: dict[str, list[tuple[Shard, PatternSubscription]]] = {}
        self.subscribed: set[str] = set()
        """Topics that it asked for by name."""
        self.filtering = False
        """Whether it ever asked for only a part of what a topic has."""
        self._publishers: dict[str, tuple[Publisher, Publish]] = {}
        self._replays: set[asyncio.Task[None]] = set()
        self._lookups = 0
        self._consuming: Consuming | None = None
        """Its memberships in consumers, once it has any: most connections have none."""
        self._stopped_by = 0
        self._owed = 0
        """Bytes of answers that were written while the socket was full."""
        self._owing = False
        self.closed = False
        self.surplus = False
        """Whether it came when there were enough, and has to say that it replaces another."""
        self.will: Will | None = None
        """What is to be said when the connection is lost."""
        self._attendance: Attendance | None = None
        """Where it is present, once it is anywhere."""

    @property
    def client(self) -> str:
        """Who it is, for operators: its name, or where it comes from as long as it has none."""
        return self.agent or self.address.rpartition(":")[0]

    # Sink -----------------------------------------------------------------------------------------------------------

    def answer(self, lines: list[bytes]) -> None:
        """Send answers to requests."""
        if not self.closed:
            frame = text_frame(b"\n".join(lines))
            self.write(frame)
            if not self.writable:
                self.owe(len(frame))

    def settle(self, count: int, lines: list[bytes]) -> None:
        """Send answers to publishes."""
        self.in_flight -= count
        self.answer(lines)

    def owe(self, size: int) -> None:
        """An answer was written to a socket that was full already.

        A client that goes on asking and never reads is read no further, until it has taken what it asked for.
        """
        self._owed += size
        if self._owed > self._sessions.settings.write_buffer and not self._owing:
            self._owing = True
            self.stop_reading()

    def stop_reading(self) -> None:
        """One more shard asks to take nothing from this connection for now."""
        self._stopped_by += 1
        if self._stopped_by == 1 and not self.closed:
            self._connection.pause_reading()

    def resume_reading(self) -> None:
        """One shard fewer asks for that."""
        self._stopped_by -= 1
        if self._stopped_by == 0 and not self.closed:
            self._connection.resume_reading()

    # From the connection --------------------------------------------------------------------------------------------

    def receive_binary(self, payload: bytes) -> None:
        """A binary frame: one message whose payload is bytes."""
        if self.closed:
            return
        try:
            header, body = split_binary(payload)
            frame = decode_client(header)
        except BadFrame as error:
            self._refuse_line(b"", error)
            return
        if type(frame) is not Pub:
            self._refuse(frame.rid, ErrorCode.BAD_REQUEST, "a binary frame holds a `pub`")
        elif frame.data:
            self._refuse_publish(
                frame, Refusal(ErrorCode.BAD_REQUEST, "a binary frame's header has no `data`: the payload follows it")
            )
        else:
            self._publish(frame, body)

    def full(self, now: float) -> None:
        """The socket can take no more."""
        self.writable = False
        self.paused_since = now

    def drained(self) -> None:
        """The socket can take more."""
        self.writable = True
        self.paused_since = 0.0
        self._owed = 0
        if self._owing:
            self._owing = False
            self.resume_reading()
        self._sessions.catch_up.wake(self)
        if self._consuming is not None:
            self._consuming.drained()

    def lost(self) -> None:
        """The connection is gone, or about to go. What it has published stays; its cursors cost nothing any more."""
        if self.closed:
            return
        self.closed = True
        self.writable = False
        if self._expiry is not None:
            self._expiry.cancel()
        for task in self._replays:
            task.cancel()
        for parts in self.patterns.values():
            for shard, part in parts:
                shard.readers.forget_pattern(part)
        for cursor in list(self.cursors.values()):
            cursor.detach()
        if self._consuming is not None:
            self._consuming.lost()
        if self._attendance is not None:
            self._attendance.lost()
        self._sessions.left(self)

    def go_away(self, reason: str, reconnect_after: float) -> None:
        """Tell the client that the broker is leaving."""
        self.answer([encode(Goaway(reason=reason, reconnect_after=reconnect_after))])

    def forget_publishers(self) -> None:
        """What was worked out for its topics may hold no longer: the next message to each asks again."""
        self._publishers.clear()

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the connection."""
        self._connection.close(code, reason)

    @property
    def subscriptions(self) -> int:
        """How many subscriptions it holds."""
        members = len(self._consuming.members) if self._consuming is not None else 0
        return len(self.subscribed) + len(self.patterns) + members

    # Lines ----------------------------------------------------------------------------------------------------------

    def receive_line(self, line: bytes) -> None:
        """One line of a text frame."""
        if self.closed:
            return
        try:
            frame = decode_client(line)
        except BadFrame as error:
            self._refuse_line(line, error)
            return
        if type(frame) is Pub:
            self.receive_publish(frame)
            return
        try:
            self._handle(frame)
        except Refusal as refusal:
            self.refuse(frame.rid, refusal)
        except Elsewhere as elsewhere:
            self._send_on(elsewhere, Err(code=ErrorCode.WRONG_SHARD, message=elsewhere.message, rid=frame.rid))
        except ProtocolError as error:
            self._refuse(frame.rid, ErrorCode.BAD_REQUEST, str(error))
        except LogError as error:
            because = _unreadable(error)
            self._refuse(frame.rid, because.code, because.message, because.retry_after)

    def receive_publish(self, pub: Pub) -> None:
        """One line of a text frame that has been read already."""
        if self.closed:
            return
        if pub.data:
            self._publish(pub, None)
        else:
            self._refuse_publish(pub, Refusal(ErrorCode.BAD_REQUEST, "`data` is missing"))

    def _handle(self, frame: ClientFrame) -> None:
        match frame:
            case Ping():
                self.answer([encode(Pong(rid=frame.rid))])
            case Hello():
                self._hello(frame)
            case Sub():
                self._subscribe(frame)
            case Unsub():
                self._unsubscribe(frame)
            case Join():
                self._attend(frame)
            case Leave():
                self._known()
                if self._attendance is not None:
                    self._attendance.leave(frame.topic)
                self.answer([encode(Ok(rid=frame.rid, topic=frame.topic))])
            case Ack() | Nack() | Extend() | Term():
                self._known()
                self._consumes().settle(frame)
            case Get():
                self._known()
                self._find(frame)
            case State() | Change() | Renew():
                share(self, self._sessions, self._known(), frame)

    def _hello(self, hello: Hello) -> None:
        check_agent(hello.agent)
        if len(hello.groups or ()) > GROUPS_MAX:  # looked at before any of them is: each takes its time
            raise Refusal(ErrorCode.BAD_REQUEST, f"`groups` names {GROUPS_MAX} groups at most")
        groups = tuple(map(check_group, hello.groups or ()))
        if hello.session is not None and not 1 <= len(hello.session) <= 128:
            raise Refusal(ErrorCode.BAD_REQUEST, "`session` has 1 to 128 characters")
        identity = self._identify(hello, groups)
        if identity is None:
            return
        if self.agent is not None and self.agent != hello.agent:
            raise Refusal(ErrorCode.BAD_REQUEST, f"this connection is {self.agent}'s: open another for {hello.agent}")
        if self.entrance is not None:
            self.entrance.check_groups(groups)
        if self.surplus and not self._sessions.gives_place(self, hello.agent, hello.session):
            return
        if hello.will is not None:
            check_will(hello.will, self._sessions, identity)
        card = Card.of(hello.capabilities, hello.description)
        self.know(identity)
        self.groups = groups or identity.groups
        self.agent = hello.agent
        self.life = hello.session
        self.meta = bytes(hello.meta)
        self._publishers.clear()  # what was worked out for a name that the handshake gave may count differently now
        inbox = self._sessions.arrived(self, card)
        self.will = hello.will  # a refused hello leaves none
        self._sessions.greeted(self)
        self.answer([encode(welcome(self, self._sessions.settings, identity, inbox, hello.rid))])
        log.debug("welcomed", session=self.id, agent=self.agent, address=self.address)
        self._sessions.on_agent(self.agent)

    def _identify(self, hello: Hello, groups: tuple[str, ...]) -> Identity | None:
        """Who says hello. None if that was no answer, and the connection is closed.

        Raises:
            Refusal: if a fresh token is not taken, on a connection that goes on with the one it had.
        """
        access = self._sessions.access
        renews = bool(hello.token) and self.agent is not None and self.identity is not None
        try:
            identity = access.identify(hello.token) if hello.token or self.identity is None else self.identity
        except Denied as denied:
            refusal = Refusal(ErrorCode.UNAUTHORIZED, str(denied))
            code = CloseCode.TOKEN_EXPIRED if denied.expired else CloseCode.UNAUTHORIZED
        else:
            why = access.why_not(identity, Operation.SPEAK_AS, hello.agent)
            if why is None and identity.name is not None and not set(groups).issubset(identity.groups):
                why = f"your token is not for all of these groups: {', '.join(groups)[:200]}"
            if why is None:
                if self.identity is None or not renews or identity.same_rights(self.identity):
                    return identity
                self.close(CloseCode.TOKEN_EXPIRED, "this token allows other things: reconnect with it")
                return None
            refusal, code = Refusal(ErrorCode.FORBIDDEN, why), CloseCode.FORBIDDEN
        if renews:
            raise refusal
        if code is not CloseCode.TOKEN_EXPIRED:  # an `err` would be the last word, and a fresh token is welcome
            self._refuse(hello.rid, refusal.code, refusal.message)
        self.close(code, refusal.message[:REASON_CHARS_MAX])
        return None

    def know(self, identity: Identity) -> None:
        """It has shown who it is. When that ends, the connection does (4005)."""
        self.identity = identity
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._await_expiry()

    def _await_expiry(self) -> None:
        left = None if self.identity is None else self._sessions.access.ends_in(self.identity)
        if left is not None:
            self._expiry = asyncio.get_running_loop().call_later(min(left, EXPIRY_NAP), self._expire)

    def _expire(self) -> None:
        self._expiry = None
        if self.identity is not None and self._sessions.access.ends_in(self.identity) == 0:
            self.close(CloseCode.TOKEN_EXPIRED, "the token has expired: reconnect with a new one")
        elif not self.closed:
            self._await_expiry()

    def require(self, operation: Operation, target: str = "") -> None:
        """Insist that whoever this is may do that.

        Raises:
            Refusal: `forbidden`, or `unauthorized` if it has not shown who it is.
        """
        if self.identity is None:
            raise Refusal(ErrorCode.UNAUTHORIZED, "say who you are first: `hello`")
        why = self._sessions.access.why_not(self.identity, operation, target)
        if why is not None:
            raise Refusal(ErrorCode.FORBIDDEN, why)

    def _known(self) -> str:
        if self.agent is None:
            if self.surplus:
                self._sessions.turn_away(self)
            raise Refusal(ErrorCode.UNAUTHORIZED, "say who you are first: `hello`, or ?agent=NAME in the address")
        return self.agent

    # Publish --------------------------------------------------------------------------------------------------------

    def _publish(self, pub: Pub, payload: bytes | None) -> None:
        sessions = self._sessions
        known = self._publishers.get(pub.topic)
        try:
            if known is None or known[0].topic.gone:
                known = self._open_publisher(pub)
            if pub.mandatory:
                self._check_heard(known[0])
            if self.in_flight >= self._in_flight_max:
                self.require_room()
            sessions.admit(known[0].name, pub, payload, known[0].topic.name)
        except Refusal as refusal:
            self._refuse_publish(pub, refusal)
            return
        except Elsewhere as elsewhere:
            err = Err(code=ErrorCode.WRONG_SHARD, message=elsewhere.message, rid=pub.rid, id=pub.id, topic=pub.topic)
            self._send_on(elsewhere, err)
            return
        except ProtocolError as error:
            self._refuse_publish(pub, Refusal(ErrorCode.BAD_REQUEST, str(error)))
            return
        except LogError as error:
            self._refuse_publish(pub, _unreadable(error))
            return
        self.in_flight += 1
        try:
            known[1](known[0], pub, payload, self)
        except LogError as error:
            self.in_flight -= 1
            self._refuse_publish(pub, _unreadable(error))

    def require_room(self) -> None:
        """Insist that the connection has room for one more publish that waits for its answer.

        Raises:
            Refusal: `overloaded`.
        """
        if self.in_flight >= self._in_flight_max:
            raise Refusal(
                ErrorCode.OVERLOADED,
                f"{self.in_flight} publishes of this connection wait for their answer, the limit (max_inflight)",
                0.1,
                limit="max_inflight",
            )

    def _open_publisher(self, pub: Pub) -> tuple[Publisher, Publish]:
        agent = self._known()
        if self._sessions.bus is not None and is_mail(pub.topic):
            return open_mail(self, self._sessions, self._sessions.bus, agent, pub)
        self.require(Operation.PUBLISH, check_topic(pub.topic))  # once for each topic: the answer is kept with it
        shard, topic = self._sessions.open_topic(pub.topic)
        if len(self._publishers) >= PUBLISHERS_KEPT:
            self._publishers.clear()
        known = self._publishers[pub.topic] = (Publisher(agent, self.life, topic), shard.publish)
        return known

    def _consumes(self) -> Consuming:
        if self._consuming is None:
            self._consuming = Consuming(self, self._sessions)
        return self._consuming

    # Subscribe ------------------------------------------------------------------------------------------------------

    def _subscribe(self, sub: Sub) -> None:
        self._known()
        name = check_pattern(sub.topic)
        if sub.consumer is None:
            self.require(Operation.SUBSCRIBE, name)
        start = Start.parse(sub.start)
        if sub.consumer is None and (name in self.subscribed or name in self.patterns):
            raise Refusal(ErrorCode.CONFLICT, f"this connection is subscribed to {name} already: `unsub` it first")
        limit = self._sessions.settings.max_subscriptions
        if self.subscriptions >= limit:
            raise Refusal(
                ErrorCode.OVERLOADED,
                f"this connection has {limit} subscriptions, the limit (max_subscriptions): "
                "unsubscribe some, or use a pattern",
                limit="max_subscriptions",
            )
        if sub.consumer is not None:
            self._consumes().subscribe(sub)
            log.debug("subscribed", session=self.id, agent=self.agent, topic=name, consumer=sub.consumer)
            return
        filter = parse_filter(sub, self._sessions.settings)
        check_apart(self, name, filter)
        if is_pattern(name):
            self._subscribe_pattern(sub, start, filter)
        else:
            self._subscribe_topic(sub, start, filter)
        log.debug("subscribed", session=self.id, agent=self.agent, topic=name)

    def _subscribe_topic(self, sub: Sub, start: Start, filter: Filter | None) -> None:
        shard = self._sessions.shard_of(group_of(sub.topic))
        cursor, gap = shard.readers.subscribe(self, sub.topic, start, filter)
        self.subscribed.add(sub.topic)
        topic = cursor.topic
        first = topic.store.first_seq(topic.log)
        ok = Ok(
            rid=sub.rid,
            topic=topic.name,
            head=topic.delivered,
            next=max(cursor.next, min(first, topic.delivered + 1)),
            epoch=topic.store.epoch,
        )
        lines: list[Frame] = [ok]
        if gap is not None:
            self._sessions.metrics.count_gap(gap.reason)
            lines.append(gap)
        self.answer([encode(line) for line in lines])
        shard.readers.begin(cursor)

    def _subscribe_pattern(self, sub: Sub, start: Start, filter: Filter | None) -> None:
        pattern = sub.topic
        first = group_of(pattern)
        if self.entrance is not None and is_pattern(first) and not sub.here:
            raise Elsewhere(None, "no worker has all groups: subscribe at each of `workers`, with `here`: true")
        shards = self._sessions.shards if is_pattern(first) else [self._sessions.shard_of(first)]
        for shard in shards:
            shard.readers.check_pattern_filter(filter)
        waiting = len(shards)

        def on_live() -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                self.answer([b'{"op":"live","topic":"%b","seq":0}' % pattern.encode()])

        parts = [(shard, shard.readers.subscribe_pattern(self, pattern, start, on_live, filter)) for shard in shards]
        readable = self._sessions.access.passes(self.identity, pattern) if self.identity is not None else None
        if readable is not None:
            for _, part in parts:
                part.only(readable)
        self.patterns[pattern] = parts
        self.answer([encode(Ok(rid=sub.rid, topic=pattern, head=0, next=0, epoch=shards[0].log.epoch))])
        if start.is_new:
            for _ in parts:
                on_live()
            return
        task = asyncio.get_running_loop().create_task(self._replay(parts), name=f"replay {pattern}")
        self._replays.add(task)
        task.add_done_callback(self._replays.discard)

    async def _replay(self, parts: list[tuple[Shard, PatternSubscription]]) -> None:
        try:
            for shard, part in parts:
                await shard.readers.replay(part)
        except LogError as error:  # half a replay must not look like a whole one
            self.close(CloseCode.TRY_AGAIN_LATER, _unreadable(error).message[:100])

    def _unsubscribe(self, unsub: Unsub) -> None:
        self._known()
        name = check_pattern(unsub.topic)
        if unsub.consumer is not None:
            self._consumes().unsubscribe(unsub)
            return
        if name in self.subscribed:
            self.subscribed.discard(name)
            self._sessions.shard_of(group_of(name)).readers.drop(self.cursors[name])
        elif name in self.patterns:
            for shard, part in self.patterns.pop(name):
                shard.readers.drop_pattern(part)
        else:
            raise Refusal(ErrorCode.NOT_FOUND, f"this connection has no subscription to {name}")
        self.answer([encode(Ok(rid=unsub.rid, topic=name))])

    def _find(self, get: Get) -> None:
        settings = self._sessions.settings
        shard = check_get(get, self, self._sessions)
        limit = settings.max_lookups
        if self._lookups >= limit:
            message = f"{limit} requests of this connection are being looked up, the limit (max_lookups)"
            raise Refusal(ErrorCode.OVERLOADED, message, 0.1, limit="max_lookups")
        self._lookups += 1
        task = asyncio.get_running_loop().create_task(
            answer_get(get, self, shard, settings.max_frame // 2), name=f"get {get.topic}"
        )
        self._replays.add(task)
        task.add_done_callback(self._found)

    def _found(self, task: asyncio.Task[None]) -> None:
        self._lookups -= 1
        self._replays.discard(task)

    def _check_heard(self, publisher: Publisher) -> None:
        topic: Any = publisher.topic
        if type(topic) is RemoteTopic:  # its owner looks
            return
        if not self._sessions.shard_of(group_of(topic.name)).readers.heard_besides(topic, self):
            raise Refusal(ErrorCode.NOT_FOUND, f"nobody is subscribed to {topic.name} (mandatory)")

    def _attend(self, join: Join) -> None:
        agent = self._known()
        check_join(join.topic, self)
        if self._sessions.bus is None:
            raise Refusal(ErrorCode.NOT_FOUND, "this broker keeps no presence")
        if self._attendance is None:
            self._attendance = Attendance(agent, self._sessions.bus.presence, self._sessions)
        present = self._attendance.join(join.topic)
        self.answer([encode(Ok(rid=join.rid, topic=join.topic, present=list(present)))])

    # Refuse ---------------------------------------------------------------------------------------------------------

    def _send_on(self, elsewhere: Elsewhere, err: Err) -> None:
        """Say where to go with what was asked for."""
        self._sessions.metrics.count_request_refusal(ErrorCode.WRONG_SHARD)
        url = None if self.entrance is None or elsewhere.worker is None else self.entrance.url_of(elsewhere.worker)
        self.answer([encode(replace(err, url=url))])

    def refuse(self, rid: Rid | None, refusal: Refusal) -> None:
        """Answer a request with why it is not carried out."""
        self._sessions.metrics.refuse_request(refusal, self.client)
        err = Err(code=refusal.code, message=refusal.message, rid=rid, retry_after=refusal.retry_after)
        self.answer([encode(err)])

    def _refuse(self, rid: Rid | None, code: ErrorCode, message: str, retry_after: float | None = None) -> None:
        self.refuse(rid, Refusal(code, message, retry_after))

    def _refuse_publish(self, pub: Pub, refusal: Refusal) -> None:
        self._sessions.metrics.refuse_publish(refusal, self.client, pub.topic)
        self.answer([answers.refusal(pub, refusal.code, refusal.message, retry_after=refusal.retry_after)])

    def _refuse_line(self, line: bytes, error: BadFrame) -> None:
        self._sessions.metrics.count_request_refusal(ErrorCode.BAD_REQUEST)
        rid, id = reference_of(line)
        if id is not None and len(id) > ID_BYTES_MAX:
            id = None
        self.answer([encode(Err(code=ErrorCode.BAD_REQUEST, message=str(error), rid=rid, id=id))])


def _unreadable(error: LogError) -> Refusal:
    """The log could not be read. Who asked is told, and the operator; nobody else notices."""
    log.error("log unreadable", reason=str(error))
    return unreadable(error)
