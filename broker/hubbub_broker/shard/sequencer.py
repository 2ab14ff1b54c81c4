"""The sequencer: decides of each publish whether it is taken, and what its place is. Nothing here waits or does I/O.

publish()    refuse | duplicate | hold back | take
_take()      seq, lc, and the line that every reader will get, encoded once -> the batch
"""

from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Iterable

from xxhash import xxh3_64_intdigest

from hubbub_broker.config import Settings
from hubbub_broker.guard import ConversationGuard
from hubbub_broker.log import ShardLog
from hubbub_broker.metrics import Metrics
from hubbub_broker.refusal import Refusal
from hubbub_protocol.codec import encode_value
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Pub

from . import answers
from .batch import RETRY_SECONDS, Batch
from .first import find_first
from .hold import Held, HoldBack, Waiter, size_of
from .publisher import Publisher
from .sink import Sink
from .topic import Topic


class Sequencer:
    """Puts the messages of a shard's topics in order. One thread, no locks."""

    def __init__(
        self,
        log: ShardLog,
        batch: Batch,
        settings: Settings,
        metrics: Metrics,
        loop: AbstractEventLoop,
        guard: ConversationGuard,
    ) -> None:
        self._log = log
        self._batch = batch
        self._metrics = metrics
        self._loop = loop
        self._guard = guard
        self._holding: dict[Topic, None] = {}
        self._free: deque[Held] = deque()
        self._releasing = False
        self._pending_soft = settings.pending_soft
        self._pending_hard = settings.pending_hard
        self._hold_seconds = settings.hold_seconds
        self._hold_messages = settings.hold_messages
        self._hold_bytes = settings.hold_bytes
        self.held_bytes = 0
        """Bytes of memory that all those take that wait for their parents."""

    def publish(  # noqa: PLR0911 - a return for each way in which a publish can end
        self, publisher: Publisher, pub: Pub, payload: bytes | None, sink: Sink
    ) -> None:
        """Take one message, or refuse it. Its answer goes to `sink.settle`, now or when it is durable.

        The caller has checked the names and the limits of its own (frame size, rate, messages in flight).
        """
        if not self._batch.scheduled:
            self._batch.schedule()
        topic = publisher.topic
        if pub.ttl is not None and 0 < topic.policy.max_ttl < pub.ttl and not publisher.promised:
            message = f"`ttl` is {pub.ttl:g} s; the limit here (max_ttl) is {topic.policy.max_ttl:g} s"
            self._refuse_at(publisher, sink, pub, Refusal(ErrorCode.BAD_REQUEST, message, limit="max_ttl"))
            return
        if pub.ephemeral or not topic.policy.durable:
            self._publish_signal(publisher, pub, payload, sink)
            return
        log = self._log
        if log.failed is not None:
            self._refuse_read_only(sink, pub)
            return
        raw_id = pub.id.encode()
        dedup_hash = xxh3_64_intdigest(raw_id, publisher.dedup_seed)
        seq = log.dedup(dedup_hash)
        if seq and self._answer_duplicate(publisher, pub, seq, sink):
            return
        if log.pending_bytes > self._pending_soft and not self._has_room(publisher, pub, sink):
            return
        if (topic.hold is not None or pub.n is not None) and not self._in_order(publisher, pub, payload, sink):
            return
        if pub.parent is not None and not self.has_parent(topic, pub.parent):
            self._hold(publisher, pub, payload, sink, pub.parent)
            return
        expires = 0.0 if pub.ttl is None else self._batch.now + pub.ttl  # `_end_of`, without the call
        self._take(publisher, pub, payload, sink, raw_id, dedup_hash, expires, False)

    def _take(
        self,
        publisher: Publisher,
        pub: Pub,
        payload: bytes | None,
        sink: Sink,
        raw_id: bytes,
        dedup_hash: int,
        expires: float,
        orphan: bool,
    ) -> None:
        """Give a durable message its place: seq, lc, and a line in the next batch.

        One whose time is over already gets its place too: its publisher's count goes on, and answers to it find it.
        """
        topic = publisher.topic
        seq = topic.log.head + 1
        lc = (pub.lc if pub.lc > topic.lc else topic.lc) + 1
        wire_id = encode_value(pub.id)
        line = self.line(publisher, pub, payload, b'"seq":%d,' % seq, wire_id, lc, orphan)
        header_size = 0
        if payload is not None:
            header_size = len(line)
            line += payload
        if len(line) > topic.policy.max_message and not publisher.promised:
            self._refuse_large(publisher, sink, pub, len(line))
            return
        if (pub.parent is not None or pub.headers or topic.watched) and not self._admit(publisher, pub, payload, sink):
            return
        topic.lc = lc
        self._batch.add_durable(topic, line)
        if header_size or expires:
            topic.mark(header_size, expires)
        self._log.append_message(
            topic.log,
            seq,
            line,
            header_size,
            self._batch.now,
            lc,
            xxh3_64_intdigest(raw_id),
            dedup_hash,
            expires,
            b"" if pub.n is None else publisher.key,
            pub.n or 0,
        )
        self._metrics.publishes_durable += 1
        answer = answers.ok(pub, wire_id, topic.wire_name, seq, lc)
        self._batch.answer_when_durable(sink, answer)
        if topic.hold is not None:
            self.came(topic, pub.id)

    def _publish_signal(self, publisher: Publisher, pub: Pub, payload: bytes | None, sink: Sink) -> None:
        """Take an ephemeral message: no log, but its place among the topic's others."""
        topic = publisher.topic
        if (topic.hold is not None or pub.parent is not None) and not self._signal_may_pass(
            publisher, pub, payload, sink
        ):
            return
        self._take_signal(publisher, pub, payload, sink, self._end_of(pub), False)

    def _take_signal(
        self, publisher: Publisher, pub: Pub, payload: bytes | None, sink: Sink, expires: float, orphan: bool
    ) -> None:
        topic = publisher.topic
        lc = (pub.lc if pub.lc > topic.lc else topic.lc) + 1
        wire_id = encode_value(pub.id)
        line = self.line(publisher, pub, payload, b"", wire_id, lc, orphan)
        header_size = 0
        if payload is not None:
            header_size = len(line)
            line += payload
        if len(line) > topic.policy.max_message and not publisher.promised:
            self._refuse_large(publisher, sink, pub, len(line))
            return
        answer = answers.ok_signal(pub, wire_id, topic.wire_name, lc)
        if topic.remember_signal(pub.id, publisher.name):
            if (pub.parent is not None or pub.headers or topic.watched) and not self._admit(
                publisher, pub, payload, sink
            ):
                topic.forget_signal(pub.id)
                return
            topic.lc = lc
            self._batch.add_signal(topic, line)
            if header_size or expires:
                topic.mark(header_size, expires)
            self._metrics.publishes_ephemeral += 1
        else:
            self._metrics.publishes_dup += 1
            answer = answers.ok_duplicate(answer)
        self._batch.answer_this_turn(sink, answer)
        if topic.hold is not None:
            self.came(topic, pub.id)

    def line(
        self,
        publisher: Publisher,
        pub: Pub,
        payload: bytes | None,
        wire_seq: bytes,
        wire_id: bytes,
        lc: int,
        orphan: bool,
    ) -> bytes:
        """The message as every reader will get it. User data goes through as the text that it came as."""
        extra = b""
        if pub.parent is not None or pub.type is not None or pub.headers or pub.reply_to or pub.track or orphan:
            extra = _extra_fields(pub, orphan)
        if not wire_seq:
            extra += b',"ephemeral":true'
        if payload is not None:
            return b'%b%b"id":%b,%b,"ts":%b,"lc":%d%b}' % (
                publisher.wire_head,
                wire_seq,
                wire_id,
                publisher.wire_sender,
                self._batch.wire_now,
                lc,
                extra,
            )
        return b'%b%b"id":%b,%b,"ts":%b,"lc":%d%b,"data":%b}' % (
            publisher.wire_head,
            wire_seq,
            wire_id,
            publisher.wire_sender,
            self._batch.wire_now,
            lc,
            extra,
            pub.data,
        )

    def _admit(self, publisher: Publisher, pub: Pub, payload: bytes | None, sink: Sink) -> bool:
        """Whether its schema and the guard let a message pass that they look at; if not, it is refused."""
        if publisher.promised:
            return True
        topic = publisher.topic
        if topic.schemas is not None and pub.type is not None:
            misfit = self.misfit(topic, pub, payload)
            if misfit is not None:
                self._refuse(sink, pub, ErrorCode.BAD_REQUEST, misfit)
                return False
        if topic.asks_guard(pub) and not publisher.promised:
            denial = self._guard.admit(topic, publisher.name, pub, payload, self._batch.now)
            if denial is not None:
                refusal = Refusal(denial.code, denial.message, denial.retry_after, limit=denial.rule)
                self._refuse_at(publisher, sink, pub, refusal)
                return False
        return True

    def misfit(self, topic: Topic, pub: Pub, payload: bytes | None) -> str | None:
        """Why the schema of its type does not let a message pass, which is counted; None if it does."""
        schema = None if topic.schemas is None or pub.type is None else topic.schemas.get(pub.type)
        if schema is None:
            return None
        why = schema.misfit(pub.data) if payload is None else "the payload is bytes, and a schema is about JSON"
        if why is None:
            return None
        refuses = topic.policy.schemas == "refuse"
        self._metrics.count_misfit(schema.group, schema.type, "refused" if refuses else "counted")
        return f"it does not fit the schema of type {pub.type!r} in {schema.group}: {why}" if refuses else None

    # Refuse, recognise, put in order --------------------------------------------------------------------------------

    def _refuse(
        self,
        sink: Sink,
        pub: Pub,
        code: ErrorCode,
        message: str,
        retry_after: float | None = None,
        expect: int | None = None,
    ) -> None:
        self._metrics.count_refusal(code)
        sink.settle(1, [answers.refusal(pub, code, message, retry_after=retry_after, expect=expect)])

    def _refuse_at(self, publisher: Publisher, sink: Sink, pub: Pub, refusal: Refusal) -> None:
        """A limit does not let it pass."""
        self._metrics.refuse_publish(refusal, publisher.name, publisher.topic.name)
        answer = answers.refusal(pub, refusal.code, refusal.message, retry_after=refusal.retry_after)
        sink.settle(1, [answer])

    def _refuse_read_only(self, sink: Sink, pub: Pub) -> None:
        message = f"this shard is read-only: {self._log.failed}"
        self._refuse(sink, pub, ErrorCode.READ_ONLY, message, RETRY_SECONDS)

    def _refuse_large(self, publisher: Publisher, sink: Sink, pub: Pub, size: int) -> None:
        limit = publisher.topic.policy.max_message
        message = f"the message takes {size} bytes on the wire; the limit here (max_message) is {limit}"
        self._refuse_at(publisher, sink, pub, Refusal(ErrorCode.TOO_LARGE, message, limit="max_message"))

    def _refuse_order(self, sink: Sink, pub: Pub, last: int) -> None:
        message = f"n is {pub.n}, but {last + 1} comes next from this publisher to {pub.topic}"
        self._refuse(sink, pub, ErrorCode.ORDER, message, retry_after=0.0, expect=last + 1)

    def _has_room(self, publisher: Publisher, pub: Pub, sink: Sink) -> bool:
        refusal = self.room(sink)
        if refusal is not None:
            self._refuse_at(publisher, sink, pub, refusal)
        return refusal is None

    def room(self, sink: Sink) -> Refusal | None:
        """Why nothing can be taken now, None if it can. Where the disk is behind, this connection is first read no
        further, then what it sends is refused.
        """
        if self._log.failed is not None:
            return Refusal(ErrorCode.READ_ONLY, f"this shard is read-only: {self._log.failed}", RETRY_SECONDS)
        if self._log.pending_bytes <= self._pending_soft:
            return None
        self._batch.pause(sink)
        if self._log.pending_bytes <= self._pending_hard:
            return None
        return Refusal(
            ErrorCode.OVERLOADED,
            f"{self._log.pending_bytes} bytes wait for the disk; the limit (pending_hard) is {self._pending_hard}",
            RETRY_SECONDS,
            limit="pending_hard",
        )

    def _answer_duplicate(self, publisher: Publisher, pub: Pub, seq: int, sink: Sink) -> bool:
        """Answer a message that is there already with what the first one got. False if it is not the same after all."""
        topic = publisher.topic
        first = find_first(self._log, publisher, pub.id, seq, self._batch.now)
        if first is None:
            return False
        self._metrics.publishes_dup += 1
        answer = answers.ok_repeat(pub, topic.name, seq, first.lc)
        self._batch.answer_with(topic, seq, sink, answer)
        return True

    def _in_order(self, publisher: Publisher, pub: Pub, payload: bytes | None, sink: Sink) -> bool:
        """Whether the message may be taken now: not a repeat of one that waits, and not before its time.

        `n` starts at 1, and 1 always starts a new count: a client that has forgotten where it was can go on.
        """
        topic = publisher.topic
        hold = topic.hold
        if hold is not None:
            held = hold.find(publisher, pub)
            if held is not None:
                self._hold_again(hold, held, pub, payload, sink)
                return False
        if pub.n is None:
            return True
        last = hold.last_n(publisher.key) if hold is not None else None
        waits = last is not None
        if last is None:
            last = topic.log.writers.get(publisher.key, 0)
        if pub.n != last + 1 and pub.n != 1:
            self._refuse_order(sink, pub, last)
            return False
        if waits:
            parent = pub.parent
            if parent is not None and self.has_parent(topic, parent):
                parent = None
            self._hold(publisher, pub, payload, sink, parent)
            return False
        return True

    def has_parent(self, topic: Topic, parent: str) -> bool:
        return topic.has_signal(parent) or self._log.has_id(topic.log, xxh3_64_intdigest(parent.encode()))

    def _signal_may_pass(self, publisher: Publisher, pub: Pub, payload: bytes | None, sink: Sink) -> bool:
        topic = publisher.topic
        if topic.hold is not None:
            held = topic.hold.find(publisher, pub)
            if held is not None:
                self._hold_again(topic.hold, held, pub, payload, sink)
                return False
        if pub.parent is not None and not self.has_parent(topic, pub.parent):
            self._hold(publisher, pub, payload, sink, pub.parent)
            return False
        return True

    # Hold-back ------------------------------------------------------------------------------------------------------

    def _end_of(self, pub: Pub) -> float:
        """When the time of a message is over that came now; 0.0: never."""
        return 0.0 if pub.ttl is None else self._batch.now + pub.ttl

    def _hold(self, publisher: Publisher, pub: Pub, payload: bytes | None, sink: Sink, parent: str | None) -> None:
        """Keep a message until the one it answers has come, or for `hold_seconds`."""
        topic = publisher.topic
        size = size_of(pub, payload)
        if not self._may_hold(size, publisher, sink, pub):
            return
        if topic.hold is None:
            topic.hold = HoldBack()
            self._holding[topic] = None
        deadline = self._loop.time() + self._hold_seconds
        topic.hold.add(Held(publisher, pub, payload, sink, parent, deadline, self._end_of(pub)))
        self.held_bytes += size
        self._metrics.held += 1
        if len(topic.hold) > self._hold_messages or topic.hold.bytes > self._pending_soft:
            self._let_go(topic, topic.hold, topic.hold.evict())

    def _hold_again(self, hold: HoldBack, held: Held, pub: Pub, payload: bytes | None, sink: Sink) -> None:
        """A message that waits was sent again: it waits on, and is answered twice."""
        cost = held.cost_of_repeat(pub, payload)
        if self._may_hold(cost, held.publisher, sink, pub):
            hold.repeat(held, Waiter(sink, pub, payload, self._end_of(pub)), cost)
            self.held_bytes += cost

    def _may_hold(self, size: int, publisher: Publisher, sink: Sink, pub: Pub) -> bool:
        """Whether there is room for so many bytes more; if not, the message is refused. A first one always may."""
        if not self.held_bytes or self.held_bytes + size <= self._hold_bytes:
            return True
        message = (
            f"{self.held_bytes} bytes of messages wait for their parents here; the limit (hold_bytes) is "
            f"{self._hold_bytes}: publish the parent first, or try again"
        )
        refusal = Refusal(ErrorCode.OVERLOADED, message, RETRY_SECONDS, limit="hold_bytes")
        self._refuse_at(publisher, sink, pub, refusal)
        return False

    def release_overdue(self) -> None:
        """Let the messages go whose parent has not come in time. Called a few times a second while any waits."""
        now = self._loop.time()
        for topic in list(self._holding):
            while (hold := topic.hold) is not None and (held := hold.overdue(now)) is not None:
                self._let_go(topic, hold, held)

    def release_all(self) -> None:
        """Let everything go that is held back, as orphans: the broker is stopping, and the publishers wait."""
        for topic in list(self._holding):
            while (hold := topic.hold) is not None:
                self._let_go(topic, hold, hold.evict())

    @property
    def held(self) -> int:
        """How many messages wait for their parent."""
        return sum(len(topic.hold) for topic in self._holding if topic.hold is not None)

    def waiting_topics(self) -> Iterable[Topic]:
        """Topics in which messages wait for their parents."""
        return self._holding.keys()

    @property
    def holding(self) -> bool:
        """Whether any message waits for its parent."""
        return bool(self._holding)

    def came(self, topic: Topic, id: str) -> None:
        """A message has got its place: those that waited for it get theirs."""
        if topic.hold is not None:
            self._release(topic, topic.hold.freed_by(id))

    def _let_go(self, topic: Topic, hold: HoldBack, held: Held) -> None:
        """Sequence a message that has waited long enough, and whatever waited behind it only."""
        if not self._batch.scheduled:
            self._batch.schedule()
        self._release(topic, [held])
        self._release(topic, hold.ready())

    def _release(self, topic: Topic, free: list[Held]) -> None:
        """Sequence what waits no more, first come, first served.

        What one of them sets free goes behind all that are free already: a publisher's own would overtake each other
        otherwise. A loop and not a recursion: a chain of a thousand answers to answers must not exhaust the stack.
        """
        self._free.extend(free)
        if self._releasing:
            return
        self._releasing = True
        try:
            while self._free:
                self._take_held(self._free.popleft())
        finally:
            self._releasing = False
        if topic.hold is not None and not len(topic.hold):
            topic.hold = None
            self._holding.pop(topic, None)

    def _take_held(self, held: Held) -> None:
        publisher = held.publisher
        topic = publisher.topic
        self.held_bytes -= held.size
        orphan = held.parent is not None
        if orphan:
            self._metrics.hold_orphaned += 1
            self._metrics.publishes_orphan += 1
        else:
            self._metrics.hold_released += 1
        for waiter in held.waiters:
            sink, pub, payload, expires = waiter
            if pub.ephemeral or not topic.policy.durable:
                self._take_signal(publisher, pub, payload, sink, expires, orphan)
            elif self._log.failed is not None:
                self._refuse_read_only(sink, pub)
            else:
                self._take_freed(publisher, waiter, orphan)

    def _take_freed(self, publisher: Publisher, waiter: Waiter, orphan: bool) -> None:
        """Sequence a durable message that has waited, unless it is a repeat, or what it waited behind was refused."""
        topic = publisher.topic
        sink, pub, payload, expires = waiter
        raw_id = pub.id.encode()
        dedup_hash = xxh3_64_intdigest(raw_id, publisher.dedup_seed)
        seq = self._log.dedup(dedup_hash)
        if seq and self._answer_duplicate(publisher, pub, seq, sink):  # it was sent again while it waited
            return
        last = topic.log.writers.get(publisher.key, 0)
        if pub.n is not None and pub.n != last + 1 and pub.n != 1:
            self._refuse_order(sink, pub, last)
            return
        self._take(publisher, pub, payload, sink, raw_id, dedup_hash, expires, orphan)

    def refuse_held(self) -> None:
        """A batch was lost. What is held back must not go before it, once its publisher sends it again: it goes too."""
        for topic in list(self._holding):
            hold, topic.hold = topic.hold, None
            for held in hold or ():
                self.held_bytes -= held.size
                for waiter in held.waiters:
                    self._refuse_read_only(waiter.sink, waiter.pub)
        self._holding.clear()


def _extra_fields(pub: Pub, orphan: bool) -> bytes:
    """The optional fields of a message, each with the comma before it."""
    parts = []
    if pub.parent is not None:
        parts.append(b',"parent":%b' % encode_value(pub.parent))
    if pub.type is not None:
        parts.append(b',"type":%b' % encode_value(pub.type))
    if pub.headers:
        parts.append(b',"headers":%b' % pub.headers)
    if pub.reply_to is not None:
        parts.append(b',"reply_to":%b' % encode_value(pub.reply_to))
    if pub.track:
        parts.append(b',"track":true')
    if orphan:
        parts.append(b',"orphan":true')
    return b"".join(parts)
