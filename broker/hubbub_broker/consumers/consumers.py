"""The consumers of a shard: who there is, where each stands, and how that gets into the log.

A position changes with every ack and goes to the log lazily: every `position_interval` seconds the places that have
changed are written, many to a batch. What somebody waits for (`confirm`) goes with the next batch.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from time import time

import msgspec

from hubbub_broker.config import Settings
from hubbub_broker.kinds import StateKind
from hubbub_broker.log import LogError
from hubbub_broker.logs import get_logger
from hubbub_broker.metrics import Metrics
from hubbub_broker.pattern_index import PatternSet
from hubbub_broker.refusal import Refusal, unreadable
from hubbub_broker.shard import RETRY_SECONDS, TOPICS_PAGE, Follower, Shard, Sink, Start, Topic, answers
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err
from hubbub_protocol.names import is_hidden, is_pattern, literal_prefix, matcher

from .burials import Burials
from .confirm import Confirm, resolve
from .consumer import Consumer
from .dead_letters import DeadLetters
from .deadlines import Deadlines
from .departures import Departures
from .failures import Failures
from .latency import Latency
from .member import Member, Wish
from .metrics import ConsumerFigures
from .numbering import Numbering
from .place import Place
from .position import Position, decode_page, decode_position, encode_page, encode_position
from .receipts import Receipts, Tell
from .settled import Settled
from .settling import Settling
from .terms import (
    Terms,
    check_filters,
    consumer_key,
    consumer_of_key,
    decode_terms,
    encode_terms,
    filter_terms,
    is_internal,
    number_of_page,
    page_key,
    start_fields,
)

_WRITTEN_AT_ONCE = 1000
"""Positions that go with one batch: about 5 ms of the loop."""

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, ValueError)

log = get_logger(__name__)


class Consumers:
    """Every consumer of one shard. A `Ledger` of its batches."""

    def __init__(
        self,
        shard: Shard,
        settings: Settings,
        metrics: Metrics,
        figures: ConsumerFigures,
        latency: Latency,
        tell: Tell,
        loop: AbstractEventLoop,
    ) -> None:
        self.shard = shard
        self.settings = settings
        self.metrics = metrics
        self.figures = figures
        self.latency = latency
        self._loop = loop
        self._log = shard.log
        self.receipts = Receipts(
            shard.log,
            tell,
            kept=settings.receipts_kept,
            window=settings.receipt_window,
            retold=settings.receipts_retold,
            want=self._want,
        )
        self.dead_letters = DeadLetters(self)
        self.burials = Burials(shard, self.receipts, figures, self.dead_letters.is_handled, loop)
        self._by_topic: dict[str, dict[str, Consumer]] = {}
        """Consumers of one topic, by topic and name."""
        self._patterns: dict[str, dict[str, Consumer]] = {}
        """Consumers of a pattern, by pattern and name."""
        self._pattern_names = PatternSet()
        self._size = 0
        self._dirty: dict[Place, None] = {}
        self._urgent: dict[Place, None] = {}
        self.departures = Departures(settings.latency_series)
        self._new_terms: dict[bytes, bytes] = {}
        self._deleted: list[tuple[StateKind, bytes]] = []
        self._writing: list[tuple[Place | None, StateKind, bytes, bytes]] = []
        self._position_due = 0.0
        self._due = False
        """Whether the positions that have changed are to go with the next batch."""
        self.numbering = Numbering(shard.log)
        self.deadlines = Deadlines(self, settings.expiries_kept, loop.time)
        self.settling = Settling(self, loop)
        self.stopping = False
        for _, body in shard.log.states(StateKind.CONSUMER):
            try:
                self._add(terms := decode_terms(body))
                shard.batch.never_before(terms.created)  # else what comes now could count as older than the consumer
            except _UNREADABLE as error:
                log.warning("consumer unreadable", shard=shard.number, reason=str(error))
        self.started = shard.batch.mark_time()
        """Behind all that earlier lives of the broker sequenced."""
        shard.readers.followers_of = self._followers_of
        shard.readers.on_special = self.deadlines.follow
        shard.batch.ledgers.append(self)

    # Who there is ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Consumer]:
        for table in (self._by_topic, self._patterns):
            for named in table.values():
                yield from named.values()

    def get(self, topic: str, name: str) -> Consumer | None:
        """The consumer of exactly this topic or pattern."""
        return (self._patterns if is_pattern(topic) else self._by_topic).get(topic, {}).get(name)

    def covering(self, topic: str, name: str) -> Consumer | None:
        """The consumer of this name that reads a topic."""
        found = self._by_topic.get(topic, {}).get(name)
        if found is not None or is_hidden(topic):
            return found
        for pattern in self._pattern_names.matching(topic):
            if name in self._patterns[pattern]:
                return self._patterns[pattern][name]
        return None

    def _add(self, terms: Terms) -> Consumer:
        consumer = Consumer(self, terms, self._loop)
        if is_pattern(terms.topic):
            self._patterns.setdefault(terms.topic, {})[terms.name] = consumer
            self._pattern_names.add(terms.topic)
        else:
            self._by_topic.setdefault(terms.topic, {})[terms.name] = consumer
        self._size += 1
        return consumer

    def _followers_of(self, topic: str) -> tuple[Follower, ...]:
        """The places that get what is published to a topic: those of its consumers that have members."""
        found = [each for each in self.readers_of(topic) if each.pool.members]
        return tuple(place for each in found if (place := self._try_place(each, topic)) is not None)

    def readers_of(self, topic: str) -> list[Consumer]:
        """The consumers that read a topic."""
        found = list(self._by_topic.get(topic, {}).values())
        if self._patterns and not is_hidden(topic):
            for pattern in self._pattern_names.matching(topic):
                found.extend(self._patterns[pattern].values())
        return found

    def _try_place(self, consumer: Consumer, topic: str) -> Place | None:
        """A place, for who can't wait: if it can't be read now, that is tried again."""
        try:
            return self.place(consumer, topic)
        except LogError as error:
            log.warning("log unreadable", consumer=consumer.terms.name, topic=topic, reason=str(error))
            self._loop.call_later(RETRY_SECONDS, self._place_again, consumer, topic)
            return None

    def _place_again(self, consumer: Consumer, topic: str) -> None:
        place = self._try_place(consumer, topic) if consumer.pool.members else None
        if place is not None:
            consumer.stir(place)

    # Joining and leaving --------------------------------------------------------------------------------------------

    def join(
        self,
        sink: Sink,
        agent: str,
        session: str,
        wish: Wish,
        then: Callable[[Member, int, int], None],
        refused: Callable[[Refusal], None],
    ) -> Member:
        """Make a connection a member, and the consumer if there is none yet.

        `then(member, head, next)` is called before anything is delivered: now, or when a new consumer is on stable
        storage. `refused` is called instead if that fails.

        Raises:
            Refusal: another consumer is in the way, or has other terms.
        """
        consumer = self.get(wish.topic, wish.name)
        if self.numbering.want():
            self._want()
        if consumer is None:
            consumer = self._make(wish)
            consumer.joining = []
            self.confirm(Confirm(partial(self._stored, consumer)))
        else:
            self._agree(consumer, wish)
        member = Member(sink, agent, session, consumer, wish.ack_wait, wish.max_unacked, time())

        def begin() -> None:
            current = self.get(wish.topic, wish.name)  # it may have been reset, or removed, while it was being stored
            if current is None:
                refused(Refusal(ErrorCode.NOT_FOUND, f"consumer {wish.name} of {wish.topic} was removed"))
                return
            member.consumer = current
            head, next = self._stand(current)
            then(member, head, next)
            if not member.gone:  # it may have gone while the consumer was being stored
                self.begin(member)

        def stored(refusal: Refusal | None) -> None:
            if refusal is not None:
                refused(refusal)
                return
            try:
                begin()
            except LogError as error:
                refused(unreadable(error))

        if consumer.joining is None:
            begin()
        else:
            consumer.joining.append(stored)
        return member

    def _stored(self, consumer: Consumer, error: Err | None) -> None:
        """A new consumer is on stable storage, or could not be put there: whoever wants to join is told so."""
        joining, consumer.joining = consumer.joining or [], None
        refusal = None
        if error is not None:
            self._discard(consumer)
            why = f"consumer {consumer.terms.name} could not be stored: {error.message}"
            refusal = Refusal(ErrorCode.READ_ONLY, why, error.retry_after)
        for tell in joining:
            tell(refusal)

    def _make(self, wish: Wish) -> Consumer:
        self.check_writable()
        kind, number = start_fields(wish.start)
        terms = Terms(
            topic=wish.topic,
            name=wish.name,
            created=self.shard.batch.mark_time(),
            start=kind,
            number=number,
            max_deliver=self.settings.max_deliver if wish.max_deliver is None else wish.max_deliver,
            backoff=self.settings.backoff_seconds() if wish.backoff is None else wish.backoff,
            exclusive=wish.exclusive,
            ordered=wish.ordered,
            **filter_terms(wish.filter),
        )
        self._check_filters(terms)
        for other in self._rivals(terms):
            if terms.collides(other.terms):
                raise Refusal(
                    ErrorCode.CONFLICT,
                    f"consumer {terms.name} reads {other.terms.topic} already, which overlaps {terms.topic}: "
                    "use the same topic, or another name",
                )
        limit = self.settings.max_consumers
        if self._size >= limit:
            raise Refusal(
                ErrorCode.OVERLOADED,
                f"this shard has {limit} consumers, the limit (max_consumers): remove those that nobody uses",
                limit="max_consumers",
            )
        return self.add(terms)

    def _rivals(self, terms: Terms) -> Iterator[Consumer]:
        """The consumers of that name that might read the same topics: two of one topic each can't."""
        tables = (self._by_topic, self._patterns) if is_pattern(terms.topic) else (self._patterns,)
        for table in tables:
            for named in table.values():
                if terms.name in named:
                    yield named[terms.name]

    def _agree(self, consumer: Consumer, wish: Wish) -> None:
        """Let the newest member's wishes count, as far as they may."""
        terms = consumer.terms
        if (wish.exclusive, wish.ordered) != (terms.exclusive, terms.ordered):
            if consumer.pool.members or consumer.joining:
                how = "exclusive" if terms.exclusive else f"ordered by {terms.ordered}" if terms.ordered else "shared"
                raise Refusal(
                    ErrorCode.CONFLICT,
                    f"consumer {terms.name} of {terms.topic} is {how} and has members: they have to leave before that "
                    "can change",
                )
            terms = msgspec.structs.replace(terms, exclusive=wish.exclusive, ordered=wish.ordered)
        if wish.filter != consumer.filter:
            if consumer.pool.members or consumer.joining:
                why = f"consumer {terms.name} has members with another filter, who have to leave before that can change"
                raise Refusal(ErrorCode.CONFLICT, why)
            terms = msgspec.structs.replace(terms, **filter_terms(wish.filter))
            self._check_filters(terms)
        # nothing is refused from here on
        if (terms.exclusive, terms.ordered) != (consumer.terms.exclusive, consumer.terms.ordered):
            consumer.pool.exclusive = terms.exclusive
            consumer.begin_again()
        consumer.filter = wish.filter
        if wish.max_deliver is not None:
            terms = msgspec.structs.replace(terms, max_deliver=wish.max_deliver)
        if wish.backoff is not None:
            terms = msgspec.structs.replace(terms, backoff=wish.backoff)
        self.change_terms(consumer, terms)

    def _check_filters(self, terms: Terms) -> None:
        tables = self._patterns.values() if is_pattern(terms.topic) else [self._by_topic.get(terms.topic, {})]
        check_filters(terms, (each.filter for named in tables for each in named.values()), self.settings.max_filters)

    def change_terms(self, consumer: Consumer, terms: Terms) -> None:
        """Let other terms hold, in the log with the next batch."""
        if terms != consumer.terms:
            consumer.terms = terms
            self._new_terms[terms.key] = encode_terms(terms)
            self._want()

    def _stand(self, consumer: Consumer) -> tuple[int, int]:
        """Head and first seq to come, for the `ok`; both 0 for a pattern."""
        if is_pattern(consumer.terms.topic):
            return 0, 0
        place = self.place(consumer, consumer.terms.topic)
        return place.topic.delivered, place.settled.hole(1)[0]

    @property
    def may_lease(self) -> bool:
        """Whether anything may be given out: leases have numbers from the first one on, unless storage fails."""
        return self.numbering.ready or self._log.failed is not None

    def begin(self, member: Member) -> None:
        """Give a member its share from now on."""
        consumer = member.consumer
        first = not consumer.pool.members
        consumer.join(member)
        if is_pattern(consumer.terms.topic):
            if first:
                self.shard.readers.pattern_epoch += 1
            if not consumer.listed and consumer.scan is None:
                consumer.scan = self._loop.create_task(self._list(consumer), name=f"consumer {consumer.terms.name}")
        else:
            consumer.stir(self.place(consumer, consumer.terms.topic))

    def drop(self, member: Member, reason: str) -> None:
        """A member is no more. What it has out comes again."""
        if not member.gone:
            self.departures.note(member.agent, member.consumer.terms, time())
        member.gone = True
        if self.stopping:
            member.consumer.abandon(member)
        else:
            member.consumer.leave(member, reason)

    def deserted(self, consumer: Consumer) -> None:
        """A consumer's last member has gone."""
        consumer.listed = False
        if consumer.scan is not None:
            consumer.scan.cancel()
            consumer.scan = None
        for place in consumer.places.values():
            consumer.missed_signals(place.drop_ahead())

    def stop(self) -> None:
        """The broker is leaving: nothing more is given out, and what is out is not counted against its message.

        What is settled from now on still counts: `flush` once more when every member is gone.
        """
        self.stopping = True

    def _discard(self, consumer: Consumer) -> None:
        """A consumer is no more; nothing of it is to be written."""
        terms = consumer.terms
        consumer.retired = True
        if consumer.scan is not None:
            consumer.scan.cancel()
            consumer.scan = None
        table = self._patterns if is_pattern(terms.topic) else self._by_topic
        named = table.get(terms.topic, {})
        if named.get(terms.name) is consumer:
            self._new_terms.pop(terms.key, None)
            del named[terms.name]
            self._size -= 1
            if not named:
                del table[terms.topic]
                self._pattern_names.discard(terms.topic)

    async def _list(self, consumer: Consumer) -> None:
        """Find the topics of a pattern that have something for its consumer. Later ones join by themselves."""
        terms = consumer.terms
        matches = matcher(terms.topic)
        prefix = literal_prefix(terms.topic)
        after = ""
        while True:
            try:
                page = self._log.topics(prefix, after, TOPICS_PAGE)
                for info in page:
                    if not matches(info.name) or is_hidden(info.name):
                        continue
                    # a place in memory says nothing: a late ack, or a count, may have brought it there
                    if info.name in consumer.places or self._has_more(consumer, info.name, info.head, info.last_ts):
                        consumer.stir(self.place(consumer, info.name))
            except LogError as error:
                log.warning("log unreadable", consumer=terms.name, reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if len(page) < TOPICS_PAGE:
                break
            after = page[-1].name
            await asyncio.sleep(0)
        consumer.listed = True
        consumer.scan = None
        consumer.stir()

    # What operators change (see `administration`) -------------------------------------------------------------------

    def add(self, terms: Terms) -> Consumer:
        """A new consumer, that goes to the log with the next batch."""
        consumer = self._add(terms)
        self._new_terms[terms.key] = encode_terms(terms)
        self._want()
        return consumer

    def retire(self, consumer: Consumer) -> None:
        """Take a consumer out, and its members out of it. What still refers to it (places, timers) finds it empty."""
        self._discard(consumer)
        for member in list(consumer.pool.members):
            consumer.pool.leave(member)
            member.leases.clear()
            member.stalled.clear()

    def delete(self, kind: StateKind, keys: Iterable[bytes]) -> None:
        """Delete states from the log, with the next batch."""
        self._deleted.extend((kind, key) for key in keys)
        self._want()

    def _has_more(self, consumer: Consumer, topic: str, head: int, last_ts: float) -> bool:
        position = self.position_of(consumer, topic)
        if position is not None:
            return position.floor < head
        return consumer.terms.start != "new" or last_ts >= consumer.terms.created

    def position_of(self, consumer: Consumer, topic: str) -> Position | None:
        """Where it stands in a topic by the log; None if it has not begun there."""
        body = self._log.state(StateKind.POSITION, consumer_key(consumer.terms.name, topic))
        if body is None:
            return None
        try:
            position = decode_position(body)
        except _UNREADABLE as error:  # better to deliver again than not at all
            log.exception("position unreadable", consumer=consumer.terms.name, topic=topic, reason=str(error))
            return None
        return position if position.made == consumer.terms.created else None

    def place(self, consumer: Consumer, topic: str) -> Place:
        """A consumer's place in one of its topics, brought into memory if need be."""
        place = consumer.places.get(topic)
        if place is None or place.topic.gone:
            place = consumer.places[topic] = self._load(consumer, self.shard.topic(topic))
        return place

    def _load(self, consumer: Consumer, topic: Topic) -> Place:
        """A place as it was left. From here on the topic stays in memory as long as the place has something to lose."""
        position = self.position_of(consumer, topic.name)
        failures = Failures()
        if position is None:
            settled = Settled(max(0, consumer.terms.floor_of(topic)))
        else:
            settled = position.settled()
            if settled.top > topic.log.head:  # a loss took the end of the history away
                settled = Settled(topic.log.head)
            else:
                self._read_failures(consumer, topic.name, position, failures)
        place = Place(consumer, topic, settled, failures)
        self.shard.readers.follow(topic, place)
        return place

    def _read_failures(self, consumer: Consumer, topic: str, position: Position, failures: Failures) -> None:
        failures.load(position.failures.items(), stale=True)
        for number in position.pages:
            body = self._log.state(StateKind.FAILURES, page_key(consumer.terms.name, topic, number))
            if body is not None:
                try:
                    page = decode_page(body)
                except _UNREADABLE as error:  # its messages count as delivered for the first time
                    log.exception("failures unreadable", consumer=consumer.terms.name, topic=topic, reason=str(error))
                    continue
                if page.made == position.made:
                    failures.load(page.failures.items(), stale=False)

    # Finding --------------------------------------------------------------------------------------------------------

    def ensure(self, topic: str, name: str) -> Consumer:
        """The consumer of one topic, made if need be: it then begins with the first message that there is.

        Raises:
            Refusal: it can't be made.
        """
        if (found := self.get(topic, name)) is not None:
            return found
        consumer = self._make(Wish(topic, name, Start(all=True), 0, 0, None, None, exclusive=False, ordered=None))
        self._want()
        return consumer

    def find(self, topic: str, name: str) -> Place:
        """The place that a request names.

        Raises:
            Refusal: there is no such consumer.
        """
        consumer = None if is_internal(name) else self.covering(topic, name)
        if consumer is None:
            raise Refusal(ErrorCode.NOT_FOUND, f"there is no consumer {name} of {topic}")
        return self.place(consumer, topic)

    # Time -----------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Called some twenty times a second: what is due happens, positions are written."""
        self.deadlines.tick()
        if self._log.failed is not None:
            return
        now = self._loop.time()
        if self._dirty and now >= self._position_due:
            self._position_due = now + self.settings.position_interval
            self._due = True
            self._want()
        elif self._new_terms or self._deleted or self.receipts.pending or self.numbering.pending:
            self._want()  # storage had failed, and is back

    # In the log (Ledger) --------------------------------------------------------------------------------------------

    @property
    def _unwritten(self) -> bool:
        """Whether there is anything that is not in the log as it is here."""
        return bool(self._dirty or self._new_terms or self._deleted or self.receipts.pending)

    def changed(self, place: Place) -> None:
        """A position has changed: it is written before long."""
        if not place.dirty:
            place.dirty = True
            self._dirty[place] = None

    def confirm(self, sink: Sink, line: bytes = b'{"op":"ok"}', places: Sequence[Place] = ()) -> None:
        """Send `line` to `sink` when what has been done up to now in `places` is on stable storage.

        If that fails, an `err` goes instead.
        """
        for place in places:
            if place.dirty:
                self._urgent[place] = None
        if self._log.failed is not None:
            sink.settle(1, [answers.failed(line, f"this shard is read-only: {self._log.failed}", RETRY_SECONDS)])
            return
        self.shard.batch.answer_when_durable(sink, line)
        self._want()

    async def stored(self, *places: Place) -> None:
        """Wait until what has been done up to now (in `places`, and to consumers) is on stable storage.

        Raises:
            Refusal: `read_only`. It counts as done while the broker runs, and is stored when storage is back.
        """
        done: asyncio.Future[Err | None] = self._loop.create_future()
        self.confirm(Confirm(partial(resolve, done)), places=places)
        error = await done
        if error is not None:
            raise Refusal(ErrorCode.READ_ONLY, error.message, error.retry_after)

    def check_writable(self) -> None:
        """Refuse what would have to be stored while nothing can be.

        Raises:
            Refusal: `read_only`.
        """
        if self._log.failed is not None:
            raise Refusal(ErrorCode.READ_ONLY, f"this shard is read-only: {self._log.failed}", RETRY_SECONDS)

    def hurry(self, place: Place) -> None:
        """Write this position with the next batch."""
        self._urgent[place] = None
        self._want()

    def _want(self) -> None:
        self.shard.batch.want()

    def write(self) -> bool:
        """Append what is to go with the batch that is about to be committed. Whether that is anything."""
        before = len(self._writing)
        for kind, key in self._deleted:
            self._append(None, kind, key, b"")
        self._deleted.clear()
        for key, body in self._new_terms.items():
            self._append(None, StateKind.CONSUMER, key, body)
        self._new_terms.clear()
        for place in self._urgent:
            self._append_position(place)
        self._urgent.clear()
        if self._due:
            for place in list(islice(self._dirty, _WRITTEN_AT_ONCE)):
                self._append_position(place)
            self._due = bool(self._dirty)
        receipts = self.receipts.pending
        self.receipts.write()
        return self.numbering.write() or receipts or len(self._writing) > before

    def _append_position(self, place: Place) -> None:
        if place.dirty:
            terms = place.consumer.terms
            if not place.consumer.retired:
                failures = place.failures
                for number in failures.stale:
                    page = failures.page(number)
                    body = encode_page(page, terms.created) if page else b""
                    self._append(place, StateKind.FAILURES, page_key(terms.name, place.topic.name, number), body)
                failures.stale.clear()
                body = encode_position(place.settled, failures.pages, terms.created)
                self._append(place, StateKind.POSITION, consumer_key(terms.name, place.topic.name), body)
            place.dirty = False
            self._dirty.pop(place, None)

    def _append(self, place: Place | None, kind: StateKind, key: bytes, body: bytes) -> None:
        self._log.append_state(kind, key, body)
        self._writing.append((place, kind, key, body))

    def written(self, *, durable: bool) -> None:
        """What was appended is on stable storage; or it was taken back, and has to be written again."""
        writing, self._writing = self._writing, []
        self.receipts.written(durable=durable)
        if self.numbering.written(durable=durable):
            for each in self:
                each.stir()
        if durable:
            if self._due or self.receipts.pending:  # there was more than goes with one batch
                self._want()
            return
        for place, kind, key, body in writing:
            if place is not None:
                if kind == StateKind.FAILURES:
                    place.failures.stale.add(number_of_page(key))
                self.changed(place)
            elif not body:
                self._deleted.append((kind, key))
            elif (consumer := self.get(*consumer_of_key(key))) is not None:
                self._new_terms.setdefault(key, encode_terms(consumer.terms))

    async def flush(self) -> None:
        """Write every position, and wait until that is on stable storage (or can't be)."""
        while self._unwritten:
            if self._log.failed is not None:
                return
            self._due = True
            with suppress(Refusal):
                await self.stored()

    def close(self) -> None:
        """Stop what is under way."""
        for consumer in self:
            if consumer.scan is not None:
                consumer.scan.cancel()
