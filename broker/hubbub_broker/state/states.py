"""The states of one shard: what is asked of them is decided here, in one turn of the loop.

Promises:

- A change is made whole or not at all: its keys, its version, its message, and the messages that go with it; over a
  lost batch and a crash too (one step of the log).
- It is made only if every version that it names is the one that the state has at that place in the shard's order.
- Nobody is told of a change before it is on stable storage: an answer, a conflict's too, waits until all that it speaks
  of is.
- The version of a key is the seq of the change's message on the state's topic, so none comes twice.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from msgspec import Raw
from xxhash import xxh3_64_intdigest

from hubbub_broker.config import Settings
from hubbub_broker.kinds import StateKind
from hubbub_broker.log import LogError
from hubbub_broker.logs import get_logger
from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import BROKER, Nobody, Publisher, Shard, Sink, Topic, find_first
from hubbub_protocol.codec import decode_value, encode
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Change, Entry, Err, Ok, Pub, Published, Renew, Rid, State
from hubbub_protocol.limits import STATE_KEYS_MAX
from hubbub_protocol.names import check_key, check_key_pattern, is_pattern, matcher, state_of

from .contents import Contents
from .figures import StateFigures
from .leases import Leases
from .record import Held, Totals, place
from .request import check_change, check_renewal, to_pub
from .telling import TYPE, published_with, tell
from .watchers import OnChange, Watcher

log = get_logger(__name__)

PAGE_BYTES = 256 * 1024
"""Bytes of values in one answer: well below every client's frame limit, unless one value is larger."""

_ELSEWHERE = "delete some, or use a state of another conversation"

EXPIRED_AT_ONCE = 100
"""Keys of one state whose time is over that go in one change."""


class Conflict(Exception):
    """A version is not what was expected."""

    def __init__(self, topic: str, key: str | None, expected: int, current: int) -> None:
        super().__init__(topic)
        self.topic = topic
        self.key = key
        self.expected = expected
        self.current = current

    def answer(self, rid: Rid | None, id: str | None) -> bytes:
        """The `err`."""
        what = "the state" if self.key is None else self.key
        message = f"{what} is at version {self.current}, not {self.expected}: read it again"
        return encode(
            Err(
                code=ErrorCode.CONFLICT,
                message=message,
                rid=rid,
                id=id,
                topic=self.topic,
                key=self.key,
                expected=self.expected,
                current=self.current,
            )
        )


class States:
    """The states of one shard. A `Ledger`, to hear when a batch is lost."""

    def __init__(self, shard: Shard, settings: Settings, figures: StateFigures, loop: AbstractEventLoop) -> None:
        self.contents = Contents(shard.log)
        self._shard = shard
        self._settings = settings
        self._figures = figures
        self._leases = Leases(shard.log, self.contents, figures, loop.time)
        self._checks: dict[str, Callable[[Change], None]] = {}
        """By topic: who looks at a change before it is made."""
        shard.batch.ledgers.append(self)

    def begin(self) -> None:
        """The broker takes connections from now on: keys that go by themselves have their whole time again."""
        self._leases.begin()

    # Reading --------------------------------------------------------------------------------------------------------

    def read(self, request: State, sink: Sink) -> None:
        """Answer with what keys hold. What was changed before this is in it; the answer waits until that is durable.

        Raises:
            Refusal, BadName: why not.
            LogError: the log can't be read.
        """
        topic = self._topic(state_of(request.topic))
        if request.limit is not None and not 1 <= request.limit <= STATE_KEYS_MAX:
            raise Refusal(ErrorCode.BAD_REQUEST, f"`limit` is 1 to {STATE_KEYS_MAX} keys")
        if request.keys is not None and (request.match is not None or len(request.keys) > STATE_KEYS_MAX):
            raise Refusal(ErrorCode.BAD_REQUEST, f"`keys` are {STATE_KEYS_MAX} at most, and not with `match`")
        after = "" if request.after is None else check_key(request.after)
        if request.keys is not None:
            page = self.contents.pick(topic.name, [check_key(key) for key in request.keys], PAGE_BYTES)
        else:
            pattern = check_key_pattern(request.match or "**")
            matches = matcher(pattern) if is_pattern(pattern) else pattern.__eq__
            limit = request.limit or STATE_KEYS_MAX
            page = self.contents.page(topic.name, pattern, matches, after, limit, PAGE_BYTES)
        self._figures.reads += 1
        entries = [
            Entry(key=key, value=Raw(held.value), version=held.version, left=self._leases.left((topic.name, key)))
            for key, held in page.entries
        ]
        head = topic.log.head
        ok = Ok(
            rid=request.rid,
            topic=topic.name,
            head=head,
            epoch=self._shard.log.epoch,
            entries=entries,
            more=page.more,
        )
        self._answer(topic, sink, encode(ok))

    # Changing -------------------------------------------------------------------------------------------------------

    def change(self, agent: str, change: Change, sink: Sink) -> None:
        """Make a change, or refuse it. The answer goes to `sink.settle`, when it is durable.

        Who asks has checked that it may be made, and its limits of its own (rate, requests under way).

        Raises:
            Refusal, BadName: why it can't be made; nothing was.
            LogError: the log can't be read.
        """
        topic = self._topic(state_of(change.topic))
        publisher = self._teller(agent, topic)
        if self._answer_repeat(publisher, change, sink):
            return
        check_change(change, self._settings)
        check = self._checks.get(topic.name)
        if check is not None:
            check(change)
        self._require_room(sink)
        try:
            self._require_versions(topic, change.expect)
        except Conflict as conflict:
            self._conflict(topic, conflict, change.rid, change.id, sink)
            return
        self._make(publisher, change, sink)
        self._figures.changes += 1

    def renew(self, renew: Renew, sink: Sink) -> None:
        """Let keys live their whole time again, all or none; nothing is written for it.

        Raises:
            Refusal, BadName: why not.
        """
        check_renewal(renew)
        self._require_room(sink)  # while storage has failed, what its last write left is in doubt: removals too
        topic = self._topic(state_of(renew.topic))
        for key, version in renew.keys.items():
            current = self._leases.version((topic.name, key))
            if current != version:
                self._conflict(topic, Conflict(topic.name, key, version, current), renew.rid, None, sink)
                return
        for key in renew.keys:
            self._leases.renew((topic.name, key))
        self._answer(topic, sink, encode(Ok(rid=renew.rid, topic=topic.name)))

    def expire(self) -> None:
        """Remove the keys whose time is over. Called now and then."""
        over = self._leases.over()
        if not over or self._shard.log.failed is not None:
            return
        by_topic: dict[str, list[str]] = defaultdict(list)
        for (topic, key), _ in over:
            by_topic[topic].append(key)
        try:
            for name, keys in by_topic.items():
                for begin in range(0, len(keys), EXPIRED_AT_ONCE):
                    self._expire(name, keys[begin : begin + EXPIRED_AT_ONCE])
        except (LogError, Refusal) as error:
            log.warning("keys not removed", reason=str(error))

    def _expire(self, name: str, keys: list[str]) -> None:
        change = Change(topic=name, id=str(uuid4()), delete=keys)
        self._make(self._teller(BROKER, self._topic(name)), change, Nobody(), expired=True)
        self._figures.expired += len(keys)

    # For the broker itself ------------------------------------------------------------------------------------------

    def entries(self, name: str, pattern: str = "**") -> dict[str, Any]:
        """The values of the state of a conversation or group, at the broker's start or in `on_change`."""
        return {key: decode_value(held.value) for key, held in self.held(name, pattern).items()}

    def held(self, name: str, pattern: str = "**") -> dict[str, Held]:
        """The same with versions, and the values as they are kept."""
        topic = state_of(name)
        matches = matcher(pattern) if is_pattern(pattern) else pattern.__eq__
        found: dict[str, Held] = {}
        after: str | None = ""
        while after is not None:
            page = self.contents.page(topic, pattern, matches, after, STATE_KEYS_MAX, PAGE_BYTES)
            found.update(page.entries)
            after = page.more
        return found

    def check(self, name: str, call: Callable[[Change], None]) -> None:
        """Ask a function before a change of that state is made. It raises Refusal if the change may not be made."""
        self._checks[state_of(name)] = call

    def on_change(self, name: str, call: OnChange) -> Watcher:
        """Call a function with each change of the state of a conversation or group, when it is durable, in order."""
        watcher = Watcher(call)
        self._shard.readers.follow(self._topic(state_of(name)), watcher)
        return watcher

    # ----------------------------------------------------------------------------------------------------------------

    def _topic(self, name: str) -> Topic:
        return self._shard.topic(name)

    @staticmethod
    def _teller(agent: str, topic: Topic) -> Publisher:
        """Who publishes what tells of an agent's changes. No schema is about that."""
        publisher = Publisher(agent, None, topic)
        publisher.promised = True
        return publisher

    def _answer(self, topic: Topic, sink: Sink, line: bytes) -> None:
        """Answer when all that the state's log has now is durable."""
        batch = self._shard.batch
        if not batch.scheduled:
            batch.schedule()
        batch.answer_with(topic, topic.log.head, sink, line)

    def _conflict(self, topic: Topic, conflict: Conflict, rid: Rid | None, id: str | None, sink: Sink) -> None:
        self._figures.conflicts += 1
        self._shard.metrics.count_request_refusal(ErrorCode.CONFLICT)
        self._answer(topic, sink, conflict.answer(rid, id))

    def _answer_repeat(self, publisher: Publisher, change: Change, sink: Sink) -> bool:
        """Answer a change that was made already as it was answered then."""
        shard = self._shard
        topic = publisher.topic
        seq = shard.log.dedup(xxh3_64_intdigest(change.id.encode(), publisher.dedup_seed))
        first = find_first(shard.log, publisher, change.id, seq, shard.batch.now) if seq else None
        if first is None:
            return False
        self._figures.repeats += 1
        published = published_with(first.data)
        ok = Ok(rid=change.rid, id=change.id, topic=topic.name, seq=seq, lc=first.lc, dup=True, published=published)
        if not shard.batch.scheduled:
            shard.batch.schedule()
        shard.batch.answer_with(topic, seq, sink, encode(ok))
        return True

    def _require_room(self, sink: Sink) -> None:
        refusal = self._shard.sequencer.room(sink)
        if refusal is not None:
            raise refusal

    def _require_versions(self, topic: Topic, expect: int | dict[str, int] | None) -> None:
        if isinstance(expect, int):
            if topic.log.head != expect:
                raise Conflict(topic.name, None, expect, topic.log.head)
        elif expect is not None:
            for key, version in expect.items():
                current = self.contents.version(topic.name, key)
                if current != version:
                    raise Conflict(topic.name, key, version, current)

    def _make(self, publisher: Publisher, change: Change, sink: Sink, *, expired: bool = False) -> None:
        """Decide about its messages, then append everything in one step."""
        topic = publisher.topic
        totals = self._totals_after(topic.name, change)
        step = self._shard.step()
        published: list[Published] = []
        for part in change.publish:
            target = self._shard.topic(part.topic)
            placed = step.prepare(Publisher(publisher.name, None, target), to_pub(part, change.lc))
            published.append(Published(topic=part.topic, id=part.id, seq=placed.seq, lc=placed.lc, dup=placed.dup))
        data = Raw(tell(change, published, expired=expired))
        message = step.prepare(publisher, Pub(topic=topic.name, id=change.id, type=TYPE, data=data, lc=change.lc))
        version = message.seq
        ok = Ok(
            rid=change.rid,
            id=change.id,
            topic=topic.name,
            seq=version,
            lc=message.lc,
            published=published or None,
        )
        step.append(lambda: self._keep(topic.name, change, version, totals), sink, encode(ok))

    def _keep(self, topic: str, change: Change, version: int, totals: Totals | None) -> None:
        """Append the newest values. The step goes on around this."""
        append = self._shard.log.append_state
        for key, value in change.set.items():
            append(StateKind.STATE, place(topic, key), Held(version, bytes(value)).encode())
            if key in change.keep:
                self._leases.keep((topic, key), version)
            else:
                self._leases.put((topic, key), version, change.ttl.get(key))
        for key in change.delete:
            if self.contents.get(topic, key) is not None:
                append(StateKind.STATE, place(topic, key), b"")
                self._leases.drop((topic, key))
        if totals is not None:
            append(StateKind.STATE_TOTALS, topic.encode(), totals.encode())

    def _totals_after(self, topic: str, change: Change) -> Totals | None:
        """How large the state will be; None when that is as it was.

        Raises:
            Refusal: too large.
        """
        before = self.contents.totals(topic)
        keys, size = before
        leases = 0
        for key, value in change.set.items():
            held = self.contents.get(topic, key)
            keys += held is None
            size += len(value) + len(key) - (0 if held is None else len(held.value) + len(key))
            leases += key in change.ttl and (topic, key) not in self._leases
        for key in set(change.delete):
            held = self.contents.get(topic, key)
            if held is not None:
                keys -= 1
                size -= len(held.value) + len(key)
        settings = self._settings
        if keys > settings.state_keys and keys > before.keys:
            message = f"the state would have {keys} keys; the limit (state_keys) is {settings.state_keys}"
            raise Refusal(ErrorCode.TOO_LARGE, f"{message}: {_ELSEWHERE}", limit="state_keys")
        if size > settings.state_bytes and size > before.size:
            message = f"the state would have {size} bytes; the limit (state_bytes) is {settings.state_bytes}"
            raise Refusal(ErrorCode.TOO_LARGE, f"{message}: {_ELSEWHERE}", limit="state_bytes")
        if leases and len(self._leases) + leases > settings.state_leases:
            message = f"{settings.state_leases} keys of this shard go by themselves, the limit (state_leases)"
            raise Refusal(ErrorCode.OVERLOADED, f"{message}: try again when some have gone", 1.0, limit="state_leases")
        after = Totals(keys, size)
        return None if after == before else after

    # Ledger ---------------------------------------------------------------------------------------------------------

    def write(self) -> bool:
        """Nothing is kept back: every change is appended when it is made."""
        return False

    def written(self, *, durable: bool) -> None:
        """A batch is through, or lost: then what is known of leases is what the log still has."""
        if not durable:
            self._leases.reload()


StatesOf = Callable[[str], States]
"""The states of a group's shard."""
