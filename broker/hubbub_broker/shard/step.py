"""Several messages in one step: all of them get their places, or none does.

    prepare   decides about each message, in order, as the sequencer would: seq, lc, line; the first refusal is all's
    append    puts them into the log and the batch, with whatever else belongs to the step

Between the two nothing else may happen on the shard: both in one turn of the loop.
"""

from collections.abc import Callable
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from hubbub_broker.guard import ConversationGuard
from hubbub_broker.log import ShardLog
from hubbub_broker.metrics import Metrics
from hubbub_broker.refusal import Refusal
from hubbub_protocol.codec import encode_value
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Pub

from .batch import Batch
from .first import find_first
from .publisher import Publisher
from .sequencer import Sequencer
from .sink import Sink


class Placed(NamedTuple):
    """A message with its place. `line` is empty for a repeat of one that has it already."""

    publisher: Publisher
    pub: Pub
    seq: int
    lc: int | None
    """None for a repeat of one that retention took."""
    line: bytes
    raw_id: bytes
    dedup_hash: int

    @property
    def dup(self) -> bool:
        """Whether it was there before."""
        return not self.line


class Step:
    """One step that is being prepared. Of no use after the turn of the loop in which it was made."""

    def __init__(
        self, log: ShardLog, batch: Batch, sequencer: Sequencer, guard: ConversationGuard, metrics: Metrics
    ) -> None:
        self._log = log
        self._batch = batch
        self._sequencer = sequencer
        self._guard = guard
        self._metrics = metrics
        self._heads: dict[str, tuple[int, int]] = {}
        """Of the topics that get a message: seq and lc of the last one prepared."""
        self._hashes: set[int] = set()
        self.placed: list[Placed] = []
        if not batch.scheduled:
            batch.schedule()

    def prepare(self, publisher: Publisher, pub: Pub) -> Placed:
        """Give one durable message its place. One whose parent is not known is an orphan: a step can't wait.

        Raises:
            Refusal: why the step can't be taken; nothing is changed by it.
        """
        topic = publisher.topic
        self._check(publisher, pub)
        raw_id = pub.id.encode()
        dedup_hash = xxh3_64_intdigest(raw_id, publisher.dedup_seed)
        known = self._log.dedup(dedup_hash)
        first = find_first(self._log, publisher, pub.id, known, self._batch.now) if known else None
        if first is not None:
            placed = Placed(publisher, pub, known, first.lc, b"", raw_id, dedup_hash)
            self.placed.append(placed)
            return placed
        if dedup_hash in self._hashes:
            raise Refusal(ErrorCode.BAD_REQUEST, f"two messages to {topic.name} in one change have the id {pub.id!r}")
        head, last_lc = self._heads.get(topic.name) or (topic.log.head, topic.lc)
        seq, lc = head + 1, max(pub.lc, last_lc) + 1
        orphan = pub.parent is not None and not self._sequencer.has_parent(topic, pub.parent)
        line = self._sequencer.line(publisher, pub, None, b'"seq":%d,' % seq, encode_value(pub.id), lc, orphan)
        if len(line) > topic.policy.max_message:
            raise Refusal(
                ErrorCode.TOO_LARGE,
                f"a message to {topic.name} takes {len(line)} bytes on the wire; "
                f"the limit there (max_message) is {topic.policy.max_message}",
                limit="max_message",
            )
        misfit = None if publisher.promised else self._sequencer.misfit(topic, pub, None)
        if misfit is not None:
            raise Refusal(ErrorCode.BAD_REQUEST, misfit)
        if topic.asks_guard(pub):
            denial = self._guard.admit(topic, publisher.name, pub, None, self._batch.now)
            if denial is not None:
                raise Refusal(denial.code, denial.message, denial.retry_after, limit=denial.rule)
        self._heads[topic.name] = seq, lc
        self._hashes.add(dedup_hash)
        placed = Placed(publisher, pub, seq, lc, line, raw_id, dedup_hash)
        self.placed.append(placed)
        return placed

    def _check(self, publisher: Publisher, pub: Pub) -> None:
        policy = publisher.topic.policy
        if pub.ttl is not None and 0 < policy.max_ttl < pub.ttl:
            message = f"`ttl` is {pub.ttl:g} s; the limit for {pub.topic} (max_ttl) is {policy.max_ttl:g} s"
            raise Refusal(ErrorCode.BAD_REQUEST, message, limit="max_ttl")
        if not policy.durable:
            message = f"{pub.topic} keeps no messages (policy `durable`): publish to it apart from the change"
            raise Refusal(ErrorCode.BAD_REQUEST, message)

    def append(self, then: Callable[[], None], sink: Sink, answer: bytes) -> None:
        """Take what was prepared, and what `then` appends to the log. `answer` goes out when all of it is durable."""
        log, batch = self._log, self._batch
        fresh = [(placed, placed.lc) for placed in self.placed if placed.lc is not None and not placed.dup]
        with log.step():
            for (publisher, pub, seq, _, line, raw_id, dedup_hash), lc in fresh:
                topic = publisher.topic
                topic.lc = lc
                expires = 0.0 if pub.ttl is None else batch.now + pub.ttl
                batch.add_durable(topic, line)
                if expires:
                    topic.mark(0, expires)
                log.append_message(
                    topic.log,
                    seq,
                    line,
                    0,
                    batch.now,
                    lc,
                    xxh3_64_intdigest(raw_id),
                    dedup_hash,
                    expires,
                    b"",
                    0,
                )
            then()
        self._metrics.publishes_durable += len(fresh)
        self._metrics.publishes_dup += len(self.placed) - len(fresh)
        batch.answer_when_durable(sink, answer)
        for placed, _ in fresh:
            if placed.publisher.topic.hold is not None:
                self._sequencer.came(placed.publisher.topic, placed.pub.id)
