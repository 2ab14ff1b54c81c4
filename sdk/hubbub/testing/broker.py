"""The broker in memory."""

import asyncio
import secrets
import time
from collections.abc import Callable

from msgspec import Raw
from msgspec.structs import replace

from hubbub.transport import ABNORMAL, ConnectFailed, Connection
from hubbub_protocol import codec, names
from hubbub_protocol.errors import BadFrame, BadName, CloseCode, ErrorCode
from hubbub_protocol.filters import filter_of
from hubbub_protocol.frames import (
    NO_DATA,
    Change,
    Err,
    Frame,
    From,
    Gap,
    Get,
    Goaway,
    Hello,
    Join,
    Leave,
    Live,
    Msg,
    Ok,
    Pub,
    Renew,
    Rid,
    Skip,
    State,
    Sub,
    Unsub,
    Welcome,
)

from .bus import MemoryBus
from .connection import ClientEnd, Session
from .consumers import MemoryConsumers, Settle
from .states import MemoryStates
from .topic_log import Arrival, Stored, Subscriber, TopicLog
from .verdict import SubscriptionVerdict, Verdict

SKIP_MESSAGES = 16
"""Messages that a subscription with a filter is passed over before it is told how far it is."""

CHUNK = 100
"""Messages sent to one subscription in one turn of the event loop."""


class MemoryTransport:
    """Connects to a `MemoryBroker`."""

    def __init__(self, broker: "MemoryBroker") -> None:
        self._broker = broker

    async def connect(self, url: str, headers: dict[str, str]) -> Connection:
        """Connect, whatever the url."""
        await asyncio.sleep(0)
        return self._broker.accept(url, headers)


class MemoryBroker:
    """A broker that keeps everything in memory."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        heartbeat: float = 30.0,
        max_frame: int = 1 << 20,
        max_inflight: int = 4096,
        hold_seconds: float = 5.0,
        authenticate: Callable[[str, str | None], int] | None = None,
    ) -> None:
        """`authenticate(agent, token)` returns 0, or the close code with which a connection is refused."""
        self.clock = clock
        self.max_age: float | None = None
        """The seconds for which it says that messages are kept."""
        self.heartbeat = heartbeat
        self.max_frame = max_frame
        self.max_inflight = max_inflight
        self.hold_seconds = hold_seconds
        self.authenticate = authenticate
        self.commit_delay = 0.0
        """Seconds from accepting a message to storing it (and then answering and delivering it)."""
        self.mute = False
        """Take connections, and hear and say nothing."""
        self.duplicate_answers = False
        """Answer every publish twice."""
        self.verdict: Verdict | None = None
        """Decides about each publish first, when set."""
        self.subscription_verdict: SubscriptionVerdict | None = None
        """Decides about each subscription first, when set."""
        self.sessions: list[Session] = []
        self.connects = 0
        """Connections accepted so far."""
        self.urls: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.hellos: list[Hello] = []
        self._running = True
        self._topics: dict[str, TopicLog] = {}
        self._queue: list[Arrival | Callable[[], None]] = []
        self._commit: asyncio.Handle | None = None
        self._answers: list[tuple[Session, Frame]] | None = None
        self._consumers = MemoryConsumers(self)
        self._bus = MemoryBus(self)
        self._states = MemoryStates(self)

    def transport(self) -> MemoryTransport:
        """A transport for agents."""
        return MemoryTransport(self)

    # For the test ------------------------------------------------------------------------------------------------

    def stored(self, topic: str) -> list[Msg]:
        """What a topic holds."""
        log = self._topics.get(topic)
        return [] if log is None else [stored.frame for stored in log.messages]

    @property
    def topics(self) -> list[str]:
        """The names of all topics."""
        return list(self._topics)

    def start(self) -> None:
        """Take connections again."""
        self._running = True
        self._states.started()

    def crash(self) -> None:
        """Break all connections, lose what was accepted and is not stored, take no connections."""
        self._running = False
        self._states.crashed()
        self._drop_uncommitted()
        self.cut()

    def stop(self, reconnect_after: float = 0.0) -> None:
        """Say `goaway`, store what was accepted, close all connections, take no further ones."""
        self._running = False
        for session in self.sessions:
            session.send(Goaway(reason="shutting down", reconnect_after=reconnect_after))
        self._store_queue()
        self.cut(code=CloseCode.SHUTDOWN)

    def cut(self, agent: str | None = None, code: int = ABNORMAL, reason: str = "") -> None:
        """End the connections of one agent, or all."""
        for session in tuple(self.sessions):
            if agent is None or session.agent == agent:
                session.close(code, reason)

    def hold_answers(self) -> None:
        """Keep the answers to publishes back until `release_answers`."""
        if self._answers is None:
            self._answers = []

    def release_answers(self) -> None:
        """Send the answers that were kept back."""
        answers, self._answers = self._answers or [], None
        for session, frame in answers:
            self.answer(session, frame)

    def trim(self, topic: str, first: int) -> None:
        """Retention: drop what is before `first`."""
        log = self.log(topic)
        while log.first < first and log.messages:
            log.messages.pop(0)
            log.first += 1

    def reset(self, topic: str) -> None:
        """Lose a topic's history: it begins again at 1, in another epoch, for those who subscribe from now on."""
        self._topics[topic] = TopicLog(topic, secrets.token_hex(4))

    # Connections --------------------------------------------------------------------------------------------------

    def accept(self, url: str, headers: dict[str, str]) -> ClientEnd:
        """A connection comes in."""
        if not self._running:
            raise ConnectFailed("connection refused")
        self.connects += 1
        self.urls.append(url)
        self.headers.append(headers)
        end = ClientEnd()
        end.session = Session(self, end)
        self.sessions.append(end.session)
        return end

    def forget(self, session: Session) -> None:
        """A connection has ended."""
        if session in self.sessions:
            self.sessions.remove(session)
            self._consumers.gone(session)
            self._bus.gone(session)

    def hello(self, session: Session, hello: Hello) -> None:
        """A client introduces itself."""
        self.hellos.append(hello)
        number = self.sessions.index(session)
        token = self.headers[-1].get("Authorization", "").removeprefix("Bearer ") or hello.token
        if self.authenticate is not None:
            code = self.authenticate(hello.agent, token)
            if code:
                session.close(code)
                return
        session.agent = hello.agent
        session.session = hello.session or secrets.token_hex(8)
        for other in tuple(self.sessions[:number]):
            if (other.agent, other.session) == (session.agent, session.session):
                other.close(CloseCode.REPLACED)
        session.send(
            Welcome(
                agent=session.agent,
                session=session.session,
                server="memory",
                heartbeat=self.heartbeat,
                limits={"max_frame": self.max_frame, "max_inflight": self.max_inflight},
                ts=self.clock() or 1e-9,  # 0 stands for a broker that does not say
                inbox=self._bus.register(hello),
            )
        )
        for receipt in self._consumers.missed(session.agent):
            session.send(receipt)

    # Publishing ---------------------------------------------------------------------------------------------------

    def publish(self, session: Session, pub: Pub, payload: bytes | None) -> None:
        """A message comes in."""
        mail = self._bus.addressed(pub)
        if isinstance(mail, Err):
            self.answer(session, mail)
            return
        pub = mail or pub
        refusal = self._refusal(session, pub)
        if refusal is not None:
            self.answer(session, replace(refusal, id=pub.id, topic=pub.topic))
            return
        log = self.log(pub.topic)
        writer = f"{session.agent}/{session.session}{'' if mail is None else '~mail'}"
        arrival = Arrival(pub, payload, session.agent, writer, [(session, False)])
        if pub.ephemeral:
            self._accept(log, arrival)
            return
        key = (session.agent, pub.id)
        known = log.ids.get(key)
        if known is not None:
            self.answer(session, replace(known, dup=True))
            return
        waiting = log.pending.get(key) or self._held(log, key)
        if waiting is not None:
            waiting.askers.append((session, True))
            return
        expected = log.writers.get(writer, 0) + 1
        if pub.n is not None and pub.n not in (expected, 1):
            message = f"n is {pub.n}, and {expected} comes next"
            self.answer(
                session,
                Err(id=pub.id, topic=pub.topic, code=ErrorCode.ORDER, message=message, expect=expected),
            )
            return
        if pub.parent is not None and not log.knows(pub.parent):
            self._hold(log, arrival)
        else:
            self._accept(log, arrival)

    def _refusal(self, session: Session, pub: Pub) -> Err | None:
        if self.verdict is not None:
            refusal = self.verdict(pub)
            if refusal is not None:
                return refusal
        if not names.is_topic(pub.topic):
            return Err(code=ErrorCode.BAD_REQUEST, message="bad topic")
        if session.unanswered >= self.max_inflight:
            return Err(code=ErrorCode.OVERLOADED, message="too many unanswered publishes", retry_after=0.1)
        if pub.mandatory and not self._would_hear(session, pub.topic):
            return Err(code=ErrorCode.NOT_FOUND, message=f"nobody is subscribed to {pub.topic} (mandatory)")
        return None

    def _would_hear(self, session: Session, topic: str) -> bool:
        return self._consumers.would_hear(session, topic) or any(
            other.agent != session.agent and any(subscriber.matches(topic) for subscriber in other.subs.values())
            for other in self.sessions
        )

    def bury(self, pub: Pub, payload: bytes | None, sender: str) -> None:
        """Store a dead letter, once."""
        log = self.log(pub.topic)
        if (sender, pub.id) not in log.ids:
            self._accept(log, Arrival(pub, payload, sender, "", []))

    def _accept(self, log: TopicLog, arrival: Arrival) -> None:
        pub = arrival.pub
        for session, _ in arrival.askers:
            session.unanswered += 1
        if not pub.ephemeral:
            log.pending[arrival.sender, pub.id] = arrival
            if pub.n is not None:
                log.writers[arrival.writer] = pub.n
        self.enqueue(arrival)
        for child in log.held.pop(pub.id, []):
            self._accept(log, child)

    def enqueue(self, item: Arrival | Callable[[], None]) -> None:
        """Store a message with the next commit, or do something in its place."""
        self._queue.append(item)
        if self._commit is None:
            loop = asyncio.get_running_loop()
            store = self._store_queue
            self._commit = loop.call_later(self.commit_delay, store) if self.commit_delay else loop.call_soon(store)

    def _hold(self, log: TopicLog, arrival: Arrival) -> None:
        assert arrival.pub.parent is not None
        log.held.setdefault(arrival.pub.parent, []).append(arrival)
        asyncio.get_running_loop().call_later(self.hold_seconds, self._release, log, arrival)

    def _release(self, log: TopicLog, arrival: Arrival) -> None:
        siblings = log.held.get(arrival.pub.parent or "", [])
        if arrival in siblings:
            siblings.remove(arrival)
            arrival.orphan = True
            self._accept(log, arrival)

    @staticmethod
    def _held(log: TopicLog, key: tuple[str, str]) -> Arrival | None:
        for arrivals in log.held.values():
            for arrival in arrivals:
                if (arrival.sender, arrival.pub.id) == key:
                    return arrival
        return None

    def _store_queue(self) -> None:
        """Commit: what was accepted is stored, then answered and delivered."""
        self._commit = None
        queue, self._queue = self._queue, []
        for item in queue:
            if isinstance(item, Arrival):
                self.store(item)
            else:
                item()

    def store(self, arrival: Arrival) -> Ok:
        """Store a message, deliver it, and answer those who ask; what they are answered."""
        pub = arrival.pub
        log = self.log(pub.topic)
        now = self.clock()
        log.lc = max(log.lc, pub.lc) + 1
        frame = Msg(
            topic=pub.topic,
            seq=None if pub.ephemeral else log.head + 1,
            id=pub.id,
            sender=arrival.sender,
            ts=now,
            lc=log.lc,
            data=pub.data if arrival.payload is None else NO_DATA,
            parent=pub.parent,
            type=pub.type,
            headers=pub.headers,
            reply_to=pub.reply_to,
            ephemeral=pub.ephemeral,
            orphan=arrival.orphan,
            track=pub.track,
        )
        stored = Stored(frame, codec.encode(frame), arrival.payload, None if pub.ttl is None else now + pub.ttl)
        ok = Ok(id=pub.id, topic=pub.topic, seq=frame.seq, lc=frame.lc)
        if pub.ephemeral:
            self._pass_on(log, stored)
        else:
            log.messages.append(stored)
            log.ids[arrival.sender, pub.id] = ok
            log.pending.pop((arrival.sender, pub.id), None)
            if pub.n is not None:
                log.durable_writers[arrival.writer] = pub.n
        for session, dup in arrival.askers:
            session.unanswered -= 1
            self.answer(session, replace(ok, dup=dup))
        if not pub.ephemeral:
            self._feed_all(log)
            self._bus.stored(arrival)
        return ok

    def answer(self, session: Session, frame: Frame) -> None:
        """Answer a client."""
        if self._answers is not None:
            self._answers.append((session, frame))
            return
        for _ in range(1 + self.duplicate_answers):
            if session.open:
                session.send(frame)

    def _drop_uncommitted(self) -> None:
        if self._commit is not None:
            self._commit.cancel()
            self._commit = None
        self._queue.clear()
        for log in self._topics.values():
            log.pending.clear()
            log.held.clear()
            log.writers = dict(log.durable_writers)

    # Subscribing --------------------------------------------------------------------------------------------------

    def subscribe(self, session: Session, sub: Sub) -> None:
        """A subscription comes in."""
        refusal = self.subscription_verdict(sub) if self.subscription_verdict is not None else None
        if refusal is not None:
            session.send(replace(refusal, rid=sub.rid))
            return
        try:
            names.check_pattern(sub.topic)
        except BadName as error:
            session.send(Err(rid=sub.rid, code=ErrorCode.BAD_REQUEST, message=str(error)))
            return
        try:
            filter = filter_of(sub.where, sub.select)
        except BadFrame as error:
            session.send(Err(rid=sub.rid, code=ErrorCode.BAD_REQUEST, message=str(error)))
            return
        if sub.consumer is not None:
            self._consumers.join(session, sub, filter)
            return
        for other in session.subs.values():
            if other.filter != filter and names.readers_overlap(other.name, sub.topic):
                message = f"{other.name} is read with another filter here"
                session.send(Err(rid=sub.rid, code=ErrorCode.CONFLICT, message=message))
                return
        if sub.topic in session.subs:
            session.send(Err(rid=sub.rid, code=ErrorCode.CONFLICT, message="subscribed already"))
            return
        subscriber = session.subs[sub.topic] = Subscriber(session, sub.topic, sub.start, filter)
        if names.is_pattern(sub.topic):
            session.send(Ok(rid=sub.rid, topic=sub.topic, head=0, next=0))
            for log in self._topics.values():
                if subscriber.matches(log.name):
                    self._place(subscriber, log)
        else:
            log = self.log(sub.topic)
            self._place(subscriber, log, sub.rid)
        self._feed(subscriber)

    def unsubscribe(self, session: Session, unsub: Unsub) -> None:
        """A subscription ends."""
        if unsub.consumer is not None:
            self._consumers.leave(session, unsub)
            return
        if session.subs.pop(unsub.topic, None) is None:
            session.send(Err(rid=unsub.rid, code=ErrorCode.NOT_FOUND, message="no such subscription"))
        else:
            session.send(Ok(rid=unsub.rid, topic=unsub.topic))

    def attend(self, session: Session, frame: Join | Leave) -> None:
        """A client comes to a topic, or goes."""
        self._bus.attend(session, frame)

    def signal(self, topic: str, sender: str, pub: Pub) -> None:
        """Say something for a client."""
        self._accept(self.log(topic), Arrival(pub, None, sender, "", []))

    def share(self, session: Session, frame: State | Change | Renew) -> None:
        """A client asks something of a shared state."""
        self._states.take(session, frame)

    def find(self, session: Session, get: Get) -> None:
        """A client asks for a stored message, and for what led to it."""
        log = self._topics.get(get.topic)
        stored = {} if log is None else {one.frame.seq: one for one in log.messages if not self._is_over(one)}
        by_id = {one.frame.id: one for one in stored.values()}
        found = stored.get(get.seq) if get.id is None else by_id.get(get.id)
        if found is None:
            session.send(Err(rid=get.rid, code=ErrorCode.NOT_FOUND, message=f"{get.topic} has no such message"))
            return
        line = [found]
        missing = None
        while found.frame.parent is not None and len(line) <= get.ancestors:
            parent = by_id.get(found.frame.parent)
            if parent is None:
                missing = found.frame.parent
                break
            found = parent
            line.append(found)
        session.send(
            Ok(
                rid=get.rid,
                topic=get.topic,
                messages=[Raw(one.as_json()) for one in line],
                missing=missing,
                max_age=self.max_age,
                left=None if self.max_age is None else max(0.0, line[0].frame.ts + self.max_age - self.clock()),
            )
        )

    def _is_over(self, stored: Stored) -> bool:
        return stored.expires_at is not None and stored.expires_at <= self.clock()

    def settle(self, session: Session, frame: Settle) -> None:
        """A consumer's member says what became of a message."""
        self._consumers.settle(session, frame)

    def _place(self, subscriber: Subscriber, log: TopicLog, rid: Rid | None = None) -> None:
        """Set a subscription's cursor in a topic; answer, if it is the topic's own; tell of what is missing."""
        start = subscriber.start
        reset = isinstance(start, From) and self._is_reset(start, log)
        wanted = log.first if reset else self.first_of(start, log)
        next_seq = max(wanted, log.first)
        subscriber.next[log.name] = next_seq
        session = subscriber.session
        if rid is not None:
            session.send(Ok(rid=rid, topic=log.name, head=log.head, next=next_seq, epoch=log.epoch))
        if reset:
            session.send(Gap(topic=log.name, first=log.first, last=log.first - 1, reason="reset"))
        elif wanted < log.first and start != "all":
            session.send(Gap(topic=log.name, first=wanted, last=log.first - 1, reason="retention"))

    @staticmethod
    def _is_reset(start: From, log: TopicLog) -> bool:
        after = (start.after or {}).get(log.name)
        if after is not None:
            return after > log.head
        if start.seq is None:
            return False
        return (start.epoch is not None and start.epoch != log.epoch) or start.seq > log.head + 1

    @staticmethod
    def first_of(start: str | From, log: TopicLog) -> int:
        """The first seq that a start stands for."""
        if not isinstance(start, From):
            return log.first if start == "all" else log.head + 1
        if start.seq is not None:
            return max(1, start.seq)
        if start.last is not None:
            return max(log.first, log.head + 1 - start.last)
        after = (start.after or {}).get(log.name)
        if after is not None:
            return after + 1
        since = start.since or 0.0
        later = (stored.frame.seq for stored in log.messages if stored.frame.ts >= since)
        return next((seq for seq in later if seq is not None), log.head + 1)

    def _feed_all(self, log: TopicLog) -> None:
        for session in tuple(self.sessions):
            for subscriber in tuple(session.subs.values()):
                if subscriber.matches(log.name):
                    if log.name not in subscriber.next:
                        subscriber.next[log.name] = 1  # a topic that began after the subscription did
                    self._feed(subscriber)
        self._consumers.stored(log)

    def _feed(self, subscriber: Subscriber) -> None:
        """Send a subscription its next messages; a chunk in each turn of the event loop."""
        session = subscriber.session
        if not session.open or session.subs.get(subscriber.name) is not subscriber:
            return
        budget = CHUNK
        for topic in tuple(subscriber.next):
            log = self._topics.get(topic)
            while log is not None and budget and subscriber.next[topic] <= log.head:
                self._send_next(subscriber, log)
                budget -= 1
        if not budget:
            asyncio.get_running_loop().call_soon(self._feed, subscriber)
        elif not subscriber.live:
            subscriber.live = True
            head = 0 if names.is_pattern(subscriber.name) else self.log(subscriber.name).head
            session.send(Live(topic=subscriber.name, seq=head))

    def _send_next(self, subscriber: Subscriber, log: TopicLog) -> None:
        seq = subscriber.next[log.name]
        if seq < log.first:
            subscriber.session.send(Gap(topic=log.name, first=seq, last=log.first - 1, reason="retention"))
            subscriber.next[log.name] = log.first
            return
        subscriber.next[log.name] = seq + 1
        stored = log.messages[seq - log.first].part(subscriber.filter)
        if stored is None:
            subscriber.passed += 1
            if subscriber.passed >= SKIP_MESSAGES:
                subscriber.passed = 0
                subscriber.session.send(Skip(topic=log.name, seq=seq))
            return
        subscriber.passed = 0
        if stored.expires_at is not None and stored.expires_at <= self.clock():
            subscriber.session.send(Gap(topic=log.name, first=seq, last=seq, reason="expired"))
        else:
            subscriber.session.send_stored(stored)

    def _pass_on(self, log: TopicLog, stored: Stored) -> None:
        """An ephemeral message goes to those who are caught up."""
        for session in tuple(self.sessions):
            for subscriber in session.subs.values():
                if subscriber.matches(log.name) and subscriber.next.get(log.name, 1) > log.head:
                    part = stored.part(subscriber.filter)
                    if part is not None:
                        session.send_stored(part)
        self._consumers.pass_on(log, stored)

    @property
    def logs(self) -> list[TopicLog]:
        """All topics."""
        return list(self._topics.values())

    def log(self, topic: str) -> TopicLog:
        """A topic, made if need be."""
        log = self._topics.get(topic)
        if log is None:
            log = self._topics[topic] = TopicLog(topic, secrets.token_hex(4))
        return log
