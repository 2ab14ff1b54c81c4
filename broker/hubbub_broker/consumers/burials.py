"""Dead letters: a message that its consumer could not deal with goes to its group's `_dead` topic, whole.

A letter is stored before its message counts as settled, and its id is made from what it is about: a crash in between
stores it once all the same. Who dies again after its letter was handled gets another one.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from functools import partial
from time import time
from typing import TYPE_CHECKING

import msgspec

from hubbub_broker.logs import get_logger
from hubbub_broker.shard import Publisher, Shard
from hubbub_protocol.codec import decode_broker, encode_value, members_of
from hubbub_protocol.frames import Err, Msg, Ok, Pub
from hubbub_protocol.names import dead_letters_of, group_of, is_dead_letters

from .confirm import Reply

if TYPE_CHECKING:
    from .metrics import ConsumerFigures
    from .place import Entry, Place
    from .receipts import Receipts

LETTER = "dead_letter"
"""The `type` of a dead letter."""

_RETRY_SECONDS = 1.0
_AT_ONCE = 100
"""Letters written in one turn of the loop: 5 ms. Thousands may be due at once, when what was kept for long expires."""

log = get_logger(__name__)


class Burials:
    """Takes the messages of a shard that were given up to their dead-letter topics."""

    def __init__(
        self,
        shard: Shard,
        receipts: Receipts,
        figures: ConsumerFigures,
        is_handled: Callable[[str, int], bool],
        loop: AbstractEventLoop,
    ) -> None:
        self._shard = shard
        self._is_handled = is_handled
        self._figures = figures
        self._receipts = receipts
        self._loop = loop
        self._queue: deque[tuple[Place, int]] = deque()
        self._scheduled = False

    def add(self, place: Place, seq: int) -> None:
        """This message is dead: `place.condemned` says why."""
        self._queue.append((place, seq))
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        for _ in range(min(len(self._queue), _AT_ONCE)):
            place, seq = self._queue.popleft()
            if seq not in place.condemned:
                continue  # acked, or taken back, meanwhile
            try:
                entry = None if place.warming else place.load(seq)
                if entry is not None:
                    self._bury(place, entry)
                    continue
            except Exception as error:
                log.exception("dead letter not stored", topic=place.topic.name, seq=seq, reason=str(error))
            self._later(place, seq)
        if self._queue:
            self._schedule()

    def _later(self, place: Place, seq: int) -> None:
        self._loop.call_later(_RETRY_SECONDS if not place.warming else 0.01, self.add, place, seq)

    def _bury(self, place: Place, entry: Entry) -> None:
        consumer = place.consumer
        if not entry.line:  # retention was faster
            consumer.lost(place, entry.seq, entry.seq, "retention")
            consumer.buried(place, entry.seq)
            return
        if is_dead_letters(place.topic.name):  # a letter about a letter helps nobody: it stays readable where it is
            log.warning("dead letter given up", topic=place.topic.name, seq=entry.seq, consumer=consumer.terms.name)
            consumer.buried(place, entry.seq)
            return
        self._write(place, entry, 1)

    def _write(self, place: Place, entry: Entry, death: int) -> None:
        pub, payload, original = self._letter(place, entry, death)
        topic = self._shard.topic(pub.topic)
        then = partial(self._answered, place, entry, original, death)
        self._shard.publish(Publisher(original.sender, None, topic), pub, payload, Reply(then))

    def _answered(self, place: Place, entry: Entry, original: Msg, death: int, answer: Ok | Err) -> None:
        if isinstance(answer, Err):
            self._not_stored(place, entry.seq, answer)
        elif entry.seq not in place.condemned:
            return
        elif answer.dup and self._is_handled(dead_letters_of(group_of(place.topic.name)), answer.seq or 0):
            self._write(place, entry, death + 1)  # it was given another chance since, and has died again
        else:
            self._stored(place, entry.seq, original)

    def _letter(self, place: Place, entry: Entry, death: int) -> tuple[Pub, bytes | None, Msg]:
        header = entry.line[: entry.header_size] if entry.header_size else entry.line
        original = decode_broker(header)
        assert isinstance(original, Msg)
        terms = place.consumer.terms
        failure = place.failures.get(entry.seq)
        now = time()
        fields = members_of(header) or {}
        fields.pop("data", None)
        about = {
            "reason": place.condemned[entry.seq],
            "attempts": failure.deliveries if failure is not None else 0,
            "first_failure": failure.first if failure is not None else now,
            "last_failure": failure.last if failure is not None else now,
            "topic": place.topic.name,
            "seq": entry.seq,
            "consumer": terms.name,
            "consumer_topic": terms.topic,
            "original": fields,
        }
        pub = Pub(
            topic=dead_letters_of(group_of(place.topic.name)),
            id=f"{place.topic.name}#{entry.seq} {terms.name}" + (f" {death}" if death > 1 else ""),
            type=LETTER,
            headers=msgspec.Raw(encode_value({"dead": about})),
            data=original.data,
            lc=original.lc,
        )
        return pub, entry.line[entry.header_size :] if entry.header_size else None, original

    def _not_stored(self, place: Place, seq: int, error: Err) -> None:
        log.warning("dead letter not stored", topic=place.topic.name, seq=seq, reason=error.message)
        self._later(place, seq)

    def _stored(self, place: Place, seq: int, original: Msg) -> None:
        reason = place.condemned[seq]
        consumer = place.consumer
        consumer.buried(place, seq)
        self._figures.count_dead_letter("expired" if reason == "expired" else "failed")
        if original.track:
            state = "expired" if reason == "expired" else "dead"
            self._receipts.close(original, place.topic.name, seq, consumer.terms.name, state, reason)
