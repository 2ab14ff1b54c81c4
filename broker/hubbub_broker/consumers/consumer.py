"""A consumer: gives each message of its topics to one member, and again to another until it is settled.

stir()   there may be something to give, or someone to give it to
_pump()  once a turn: by turns what comes again and what is new, topic by topic; each to a member with room
settle() done with;   fail()  it comes again, or goes to the dead letters
"""

from __future__ import annotations

import asyncio
import random
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING

import msgspec

from hubbub_broker.log import LogError
from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import cut_line, view_of
from hubbub_broker.wire import frames, text_frame
from hubbub_protocol.codec import encode, reader_of
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import BY_TOPIC, Gap, Live
from hubbub_protocol.names import is_pattern

from .failures import Failure
from .lease import Key, Lease, Tracked, Wait
from .member import Member
from .place import Entry, Place
from .pool import Pool
from .terms import Terms

if TYPE_CHECKING:
    from .consumers import Consumers

PUMP_MESSAGES = 256
"""Messages given out in one go; then everything else gets its turn."""

RECENT = 1024
"""Settled messages of a place of which it is remembered who settled them."""

JITTER = 0.2
"""Of a wait by `backoff`, the part that is random: what failed together does not come again together."""

EXPIRED = "expired"
"""Why a message was given up whose time to live ran out."""
_OP = len(b'{"op":"msg",')


class Facts(msgspec.Struct):
    """What of a message's line matters to a consumer."""

    id: str
    sender: str = msgspec.field(name="from")
    ts: float
    track: bool = False


class _Keyed(msgspec.Struct):
    headers: dict[str, msgspec.Raw] = {}


_facts_of = reader_of(Facts)
_keyed = reader_of(_Keyed)


class Consumer:
    """One consumer of a shard. All calls are made on the loop."""

    def __init__(self, registry: Consumers, terms: Terms, loop: AbstractEventLoop) -> None:
        self.terms = terms
        self.filter = terms.filter()
        """What of its topics is its business; None: everything."""
        self.loop = loop
        self.pool = Pool(exclusive=terms.exclusive)
        self.places: dict[str, Place] = {}
        self.listed = False
        """Whether every topic that has something for it has its place in memory."""
        self.scan: asyncio.Task[None] | None = None
        """Finds those topics, for a pattern."""
        self.joining: list[Callable[[Refusal | None], None]] | None = None
        """Who wants to become a member of a consumer that is not on stable storage yet; None once it is."""
        self.redelivered = 0
        self.dead = 0
        self.acked = 0
        self.retired = False
        """Removed, or replaced by one that begins elsewhere: what still refers to it is void."""
        self.fences: dict[tuple[str, int], tuple[object, int]] = {}
        """Deliveries that a reset has ended: to whom, and which attempt. Their holders have them no more."""
        self._registry = registry
        self._metrics = registry.metrics
        self._figures = registry.figures
        self._prefix = f'{{"op":"msg","consumer":"{terms.name}","made":{terms.created!r},'.encode()
        self._ready: deque[Place] = deque()
        self._again: deque[tuple[Place, int]] = deque()
        """What may be given out again now. What was settled or given up meanwhile is passed over in its turn."""
        self._roomy: dict[Member, None] = {}
        """Members that may have more room than the pool knows of."""
        self._unstalled: deque[Member] = deque()
        """Members that may have room for what waits for just them."""
        self._again_idle = False
        """Whether nothing in `_again` can be given out before something changes."""
        self._fresh_next = False
        """Whose turn it is: what fails again and again must not keep what is new from its first delivery."""
        self._scheduled = False

    # What may set it in motion --------------------------------------------------------------------------------------

    def stir(self, place: Place | None = None) -> None:
        """There may be something to give out, in `place` or anywhere."""
        self._again_idle = False
        if place is not None and not place.queued and not place.topic.gone:
            place.queued = True
            self._ready.append(place)
        if not self._scheduled and self.pool.members:
            self._scheduled = True
            self.loop.call_soon(self._pump)

    def join(self, member: Member) -> None:
        """A member has come."""
        self.pool.join(member)
        for place in self.places.values():
            self.stir(place)
        self.stir()

    def leave(self, member: Member, reason: str) -> None:
        """A member is gone: what it had out comes again."""
        if member not in self.pool.members:
            return
        self.pool.leave(member)
        for lease in list(member.leases.values()):
            self.fail(lease, reason, dropped=True)
        self._again.extend(member.stalled)
        member.stalled.clear()
        if not self.pool.members:
            self._registry.deserted(self)
        self.stir()

    def abandon(self, member: Member) -> None:
        """The broker is leaving, and a member with it: what it has out is as if it had not been delivered."""
        self.pool.leave(member)
        for lease in member.leases.values():
            del lease.place.out[lease.seq]
        member.leases.clear()

    def drain(self, member: Member) -> None:
        """A member wants nothing more, and keeps what it has until that is settled."""
        self.pool.stop(member)
        self._again.extend(member.stalled)
        member.stalled.clear()
        if not member.leases:
            self._registry.drop(member, "drained")
        self.stir()

    def room(self, member: Member) -> None:
        """A member may have room again."""
        if not member.gone:  # looked at once a turn, however many of its messages are settled in it
            self._roomy[member] = None
            self.stir()

    def due(self, place: Place, seq: int) -> None:
        """A message has waited long enough."""
        self._again.append((place, seq))
        self.stir()

    def redeliver(self, place: Place, seq: int) -> None:
        """Give a message that is settled once more, as if for the first time."""
        if place.reopen(seq):
            self._again.append((place, seq))
        self._registry.changed(place)
        self.stir(place)

    # Giving out -----------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        self._scheduled = False
        if self.terms.paused or self._registry.stopping or not self._registry.may_lease:
            return
        for roomy in self._roomy:
            if not roomy.gone:
                self.pool.changed(roomy)
                if roomy.stalled and roomy.has_room:
                    self._unstalled.append(roomy)
        self._roomy.clear()
        posted: dict[Member, None] = {}
        given = 0
        while given < PUMP_MESSAGES and self.pool.pick() is not None:
            found = self._next()
            if found is None:
                break
            given += 1
            member = self._give(*found)
            if member is not None:
                posted[member] = None
        for member in posted:
            self._post(member)
        if given == PUMP_MESSAGES:
            self.stir()
        elif not (self._again or self._ready or self.scan):
            self._announce()

    def _next(self) -> tuple[Place, Entry, Wait | None] | None:
        """What is to be given out next: by turns what comes again and what is new, each topic in its turn."""
        self._fresh_next = not self._fresh_next
        if self._fresh_next:
            return self._next_again() or self._next_fresh()
        return self._next_fresh() or self._next_again()

    def _next_again(self) -> tuple[Place, Entry, Wait] | None:
        if self._again_idle and not self._unstalled:
            return None
        while self._unstalled:
            member = self._unstalled[0]
            if member.stalled and member.has_room:
                self._again.appendleft(member.stalled.popleft())
                break
            self._unstalled.popleft()
        for _ in range(len(self._again)):
            place, seq = self._again.popleft()
            wait = place.waiting.get(seq)
            if wait is None or seq in place.condemned:
                continue  # settled or given up meanwhile
            entry = self._load(place, seq)
            if entry is None:
                self._again.append((place, seq))
                continue
            return place, entry, wait
        self._again_idle = True
        return None

    def _next_fresh(self) -> tuple[Place, Entry, None] | None:
        limit = self._registry.settings.consumer_window
        for _ in range(len(self._ready)):
            place = self._ready[0]
            if place.has_more and place.unsettled < limit:
                try:
                    entry = place.take()
                except LogError as error:
                    place.put_off(error)
                    entry = None
                if entry is not None:
                    self._ready.rotate(-1)
                    return place, entry, None
            self._ready.popleft()
            place.queued = False
        return None

    def _load(self, place: Place, seq: int) -> Entry | None:
        if place.warming:
            return None
        try:
            return place.load(seq)
        except LogError as error:
            place.put_off(error)
            return None

    def _give(  # noqa: PLR0911 - a return for each way in which a message can fail to be given
        self, place: Place, entry: Entry, wait: Wait | None
    ) -> Member | None:
        """Give a message to a member, or find out why not. Returns who got something."""
        if self.filter is not None and wait is None and entry.line and not self._wants(self.filter, entry):
            self._pass_over(place, entry)
            return None
        if not entry.seq:
            return self._signal(entry)
        if not entry.line:
            place.waiting.pop(entry.seq, None)
            place.failures.pop(entry.seq)
            self.lost(place, entry.seq, entry.seq, "retention")
            self._over(place, entry.seq, wait.key if wait is not None else None)
            return None
        now = time()
        key = self._key_of(place, entry)
        if key is not None and place.keys.setdefault(key, entry.seq) != entry.seq:
            place.park(key, entry.seq)
            return None
        if entry.expires and entry.expires <= now:
            self.condemn(place, entry.seq, EXPIRED, key)
            return None
        failure = place.failures.get(entry.seq) if place.failures else None
        if failure is not None and 0 < self.terms.max_deliver <= failure.deliveries:
            self.condemn(place, entry.seq, failure.reason, key)  # a crash, or a smaller `max_deliver`, came in between
            return None
        if failure is not None and failure.due > now and (wait is None or not wait.due):
            self._put_off(place, entry, failure, key, now)
            return None
        last = None if wait is None else wait.last
        member = self.pool.pick(None if last is None else last.member)
        if key is not None and not self.pool.exclusive:
            owner = self.pool.owner(key)
            if owner is not None and not owner.has_room:
                owner.stalled.append((place, entry.seq))
                if wait is None:
                    place.waiting[entry.seq] = Wait(0.0, key, None)
                return None
            member = owner
        if member is None:
            place.waiting[entry.seq] = wait or Wait(0.0, key, None)
            self._again.appendleft((place, entry.seq))
            return None
        self._lease(place, entry, key, member, now)
        return member

    def _put_off(self, place: Place, entry: Entry, failure: Failure, key: Key, now: float) -> None:
        """Its wait had begun before the broker was started, or before its place left memory, and is not over.

        Should the machine's clock have been set back, it does not wait longer than it was to.
        """
        left = min(failure.due - now, failure.due - failure.last)
        wait = place.waiting[entry.seq] = Wait(self.loop.time() + left, key, None)
        self._registry.deadlines.wait(place, entry.seq, wait)
        self._registry.deadlines.expires(place.topic.name, entry.seq, entry.expires)

    def _wants(self, filter: Filter, entry: Entry) -> bool:
        """Whether a message is this consumer's business."""
        return filter.matches(view_of(entry.line, entry.header_size))

    def _pass_over(self, place: Place, entry: Entry) -> None:
        """A message is none of this consumer's business: it counts as settled."""
        self._metrics.filtered_out += 1
        if entry.seq:
            place.settled.add(entry.seq)
            self._over(place, entry.seq, None)

    def _lease(self, place: Place, entry: Entry, key: Key, member: Member, now: float) -> None:
        seq = entry.seq
        place.waiting.pop(seq, None)
        failure = place.failures.get(seq)
        attempt = 1 if failure is None else failure.deliveries + 1
        if self.fences:
            fence = self.fences.pop((place.topic.name, seq), None)
            if fence is not None:  # so that an ack of that delivery, still on its way, is not taken for one of this
                attempt = max(attempt, fence[1] + 1)
        ts, tracked = _ts_and_tracked(entry)
        deadline = self.loop.time() + member.ack_wait
        number = self._registry.numbering.next()
        lease = Lease(place, seq, attempt, member, key, ts, now, deadline, tracked, entry.expires, number)
        place.out[seq] = lease
        member.leases[place, seq] = lease
        if not member.timed:
            self._registry.deadlines.time(member)
        self.pool.changed(member)
        prefix = self._prefix if number is None else b'%b"lease":%d,' % (self._prefix, number)
        if attempt > 1:
            prefix = b'%b"attempt":%d,' % (prefix, attempt)
        self._put(member, prefix, entry)
        self._figures.deliveries += 1
        if attempt > 1:
            self.redelivered += 1
            self._figures.redeliveries += 1
        self._registry.latency.sent(self.terms.name, self.terms.topic, now - ts)
        if tracked is not None:
            self._tell(lease, "delivered")

    def _tell(self, lease: Lease, state: str) -> None:
        """A receipt for a message that is tracked."""
        assert lease.tracked is not None
        by = lease.member.agent
        self._registry.receipts.note(lease.tracked, lease.place.topic.name, lease.seq, self.terms.name, state, by)

    def _signal(self, entry: Entry) -> Member | None:
        """An ephemeral message: one member gets it, and need not say anything of it."""
        member = self.pool.pick()
        if member is None or (entry.expires and entry.expires <= time()):
            self.missed_signals(1)
            return None
        self._put(member, self._prefix, entry)
        return member

    def _put(self, member: Member, prefix: bytes, entry: Entry) -> None:
        """Let a member be sent a message at the end of this turn, so much of it as it is to get."""
        line, header_size = entry.line, entry.header_size
        if self.filter is not None and self.filter.cuts:
            line, header_size = cut_line(self.filter, view_of(line, header_size), line, header_size)
        if header_size:
            member.special[len(member.lines)] = (len(prefix) - _OP + header_size, 0.0)
        member.lines.append(prefix + line[_OP:])

    def missed_signals(self, count: int) -> None:
        """Ephemeral messages that nobody had room for."""
        self._metrics.ephemeral_dropped += count

    def _key_of(self, place: Place, entry: Entry) -> Key:
        header = self.terms.ordered
        if header is None:
            return None
        if header == BY_TOPIC:
            return place.topic.name
        found = _keyed(entry.line[: entry.header_size] if entry.header_size else entry.line).headers.get(header)
        return None if found is None else bytes(found).decode()

    def _post(self, member: Member) -> None:
        """Send a member what it was given in this turn, as one blob."""
        lines, member.lines = member.lines, []
        special, member.special = member.special, {}
        if lines and not member.gone:
            blob = frames(lines, special or None)
            self._metrics.bytes_out += len(blob)
            member.sink.write(blob)

    def _announce(self) -> None:
        for member in self.pool.members:
            if member.announce:
                member.announce = False
                topic = self.terms.topic
                place = self.places.get(topic)
                seq = 0 if is_pattern(topic) or place is None else place.topic.delivered
                member.sink.write(text_frame(encode(Live(topic=topic, seq=seq, consumer=self.terms.name))))

    def lost(self, place: Place, first: int, last: int, reason: str) -> None:
        """Messages that retention took before they were settled. The members are told."""
        place.settled.add_range(first, last)
        self._registry.changed(place)
        self._metrics.count_gap(reason)
        self._figures.lost += last - first + 1
        gap = Gap(topic=place.topic.name, first=first, last=last, reason=reason, consumer=self.terms.name)
        line = text_frame(encode(gap))
        for member in self.pool.members:
            member.sink.write(line)

    # Settling -------------------------------------------------------------------------------------------------------

    def settle(self, lease: Lease) -> None:
        """The message is done."""
        place, member = lease.place, lease.member
        self._end(lease)
        place.failures.pop(lease.seq)
        place.settled.add(lease.seq)
        self._remember(place, lease.seq, member.session, lease.attempt)
        self.acked += 1
        self._figures.acks += 1
        self._registry.latency.acked(self.terms.name, self.terms.topic, member.agent, lease, time())
        if lease.tracked is not None:
            self._tell(lease, "done")
        self._over(place, lease.seq, lease.key)

    def settle_waiting(self, place: Place, seq: int, session: str, agent: str) -> Lease | None:
        """The message is done, though it was to come again: the work was in time after all.

        Its last delivery, if that was in this life of the broker.
        """
        wait = place.waiting.pop(seq, None)
        failure = place.failures.pop(seq)
        place.condemned.pop(seq, None)
        place.settled.add(seq)
        self._remember(place, seq, session, failure.deliveries if failure is not None else 1)
        self.acked += 1
        self._figures.acks += 1
        last = None if wait is None else wait.last
        if last is not None and last.member.agent == agent:  # late, and no less work for it
            self._registry.latency.acked(self.terms.name, self.terms.topic, agent, last, time())
        self._over(place, seq, wait.key if wait is not None else None)
        return last

    def _remember(self, place: Place, seq: int, session: str, attempt: int) -> None:
        if len(place.recent) >= RECENT:
            del place.recent[next(iter(place.recent))]
        place.recent[seq] = (session, attempt)

    def extend(self, lease: Lease) -> None:
        """Its member is still at work."""
        leases = lease.member.leases
        del leases[lease.place, lease.seq]
        leases[lease.place, lease.seq] = lease
        lease.deadline = self.loop.time() + lease.member.ack_wait
        self._figures.extends += 1
        if not lease.extended:
            lease.extended = True
            if lease.tracked is not None:
                self._tell(lease, "working")

    def give_back(self, lease: Lease) -> None:
        """It was not begun: as if this delivery had not been."""
        place = lease.place
        self._end(lease)
        place.waiting[lease.seq] = Wait(0.0, lease.key, lease)
        self._again.append((place, lease.seq))
        self.stir()

    def fail(self, lease: Lease, reason: str, delay: float | None = None, *, dropped: bool = False) -> None:
        """It went wrong: it comes again after a wait, or goes to the dead letters if it has been given enough chances.

        The first time that a connection is lost it comes again at once, since that is hardly the message's fault.
        """
        place, seq = lease.place, lease.seq
        failure = self._note(lease, reason)
        self._figures.count_failure("dropped" if dropped else "timeout" if reason == TIMED_OUT else "nack")
        if 0 < self.terms.max_deliver <= lease.attempt:
            self.condemn(place, seq, reason, lease.key)
            return
        if delay is None:
            backoff = self.terms.backoff
            step = failure.failures - (2 if dropped else 1)
            wait = backoff[min(step, len(backoff) - 1)] if step >= 0 and backoff else 0.0
            delay = wait * (1 + JITTER * random.random())
        if lease.expires and lease.expires <= failure.last:
            self.condemn(place, seq, EXPIRED, lease.key)
            return
        failure.due = failure.last + delay
        wait_for = place.waiting[seq] = Wait(self.loop.time() + delay, lease.key, lease)
        if delay > 0:
            self._registry.deadlines.wait(place, seq, wait_for)
            self._registry.deadlines.expires(place.topic.name, seq, lease.expires)
        else:
            self._again.append((place, seq))
            self.stir()

    def terminate(self, lease: Lease, reason: str) -> None:
        """Its member says that it will never be done."""
        self._note(lease, reason)
        self._figures.count_failure("term")
        self.condemn(lease.place, lease.seq, reason, lease.key)

    def _note(self, lease: Lease, reason: str) -> Failure:
        """End a lease that went wrong, and remember that."""
        place, seq, now = lease.place, lease.seq, time()
        self._end(lease)
        failure = place.failures.get(seq)
        if failure is None:
            failure = Failure(lease.attempt, 0, now, now, reason)
        failure.deliveries = lease.attempt
        failure.failures += 1
        failure.last = failure.due = now
        failure.reason = reason
        place.failures.put(seq, failure)
        self._registry.changed(place)
        return failure

    def _end(self, lease: Lease) -> None:
        """A lease is over, whatever comes of its message."""
        del lease.place.out[lease.seq]
        member = lease.member
        member.leases.pop((lease.place, lease.seq), None)
        if lease.place.watchers:
            lease.place.watched()
        if member.draining and not member.leases and not member.gone:
            self._registry.drop(member, "drained")
        else:
            self.room(member)

    def _over(self, place: Place, seq: int, key: Key) -> None:
        """A message is settled: the next of its key may go."""
        self._registry.changed(place)
        following = place.key_done(key, seq)
        if following is not None:
            place.waiting[following] = Wait(0.0, key, None)
            self._again.append((place, following))
        if following is not None or place.has_more:
            self.stir(place)

    def demote(self, member: Member) -> None:
        """A member let its time for a message run out: others go before it until it settles something."""
        if not (member.overdue or member.gone):
            self.pool.demote(member)
            self._again.extend(member.stalled)
            member.stalled.clear()
            self.stir()

    def trust(self, member: Member) -> None:
        """A member that was overdue has settled something."""
        if not member.gone:
            self.pool.trust(member)
            self.stir()

    # Dead letters ---------------------------------------------------------------------------------------------------

    def expire(self, place: Place, seq: int) -> bool:
        """The time to live of a message is over, whoever was to get it. False: ask again, it has to be read first."""
        if seq in place.settled or seq in place.condemned or seq in place.out:
            return True  # whoever has it may still be in time with it
        if self.filter is not None:
            entry = self._load(place, seq)
            if entry is None:
                return False
            if entry.line and not self._wants(self.filter, entry):
                return True
        wait = place.waiting.get(seq)
        self.condemn(place, seq, EXPIRED, wait.key if wait is not None else None)
        return True

    def condemn(self, place: Place, seq: int, reason: str, key: Key) -> None:
        """Give a message up."""
        place.waiting[seq] = Wait(0.0, key, None)
        place.condemned[seq] = reason
        self._registry.burials.add(place, seq)

    def buried(self, place: Place, seq: int) -> None:
        """Its dead letter is on stable storage."""
        place.condemned.pop(seq, None)
        wait = place.waiting.pop(seq, None)
        place.failures.pop(seq)
        place.settled.add(seq)
        self.dead += 1
        self._over(place, seq, wait.key if wait is not None else None)

    # Looking after --------------------------------------------------------------------------------------------------

    def begin_again(self) -> None:
        """How it is shared has changed, and it has no members: what waits is given out anew, in order."""
        for place in self.places.values():
            place.rewind()
        self._again.clear()

    def forget(self, place: Place) -> None:
        """A place leaves memory."""
        if self.places.get(place.topic.name) is place:
            del self.places[place.topic.name]
        if place.queued:
            self._ready.remove(place)
            place.queued = False
        place.waiting.clear()  # so that what stands in line of it is passed over


def tracked_of(entry: Entry) -> Tracked | None:
    """For whom a message is tracked."""
    return _ts_and_tracked(entry)[1]


def _ts_and_tracked(entry: Entry) -> tuple[float, Tracked | None]:
    """When a message was sequenced, and for whom it is tracked. Most are not, and need not be decoded for that."""
    line = entry.line
    if b'"track":true' not in line:
        at = line.index(b'"ts":') + 5  # no string has these bytes: a quote in one is escaped
        return float(line[at : line.index(b",", at)]), None
    facts = _facts_of(line[: entry.header_size] if entry.header_size else line)
    return facts.ts, Tracked(facts.id, facts.sender) if facts.track else None


TIMED_OUT = "ack_wait ran out"
