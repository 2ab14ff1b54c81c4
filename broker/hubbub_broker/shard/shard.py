"""A shard: the single-threaded owner of a set of topics.

The path of a message through this folder:

    sequencer    is it taken, and what is its place (seq, lc)? The line that every reader gets, encoded once
    batch        what is taken in one turn is written and synced together
    readers      the runs of a batch go to every reader that has all before them; the others stay at their cursor
    catch_up     readers that are behind are brought to the head from the log
"""

from asyncio import AbstractEventLoop
from dataclasses import replace
from itertools import islice
from typing import Any
from uuid import uuid4

from msgspec import Raw

from hubbub_broker.config import Settings
from hubbub_broker.guard import ConversationGuard
from hubbub_broker.kinds import StateKind
from hubbub_broker.log import ShardLog
from hubbub_broker.metrics import Metrics
from hubbub_broker.policy import Policies, TopicPolicy
from hubbub_broker.schema import NO_SCHEMAS, Schemas
from hubbub_protocol.codec import encode_value
from hubbub_protocol.frames import Pub
from hubbub_protocol.names import group_of, is_dead_letters, is_reserved, is_state

from .batch import Batch
from .catch_up import CatchUp
from .publisher import Publisher
from .readers import Readers
from .sequencer import Sequencer
from .sink import Nobody
from .step import Step
from .topic import Topic

IDLE_SECONDS = 60.0
"""A topic that nobody reads or has published to for this long may be let go from memory."""
CROWDED_IDLE_SECONDS = 1.0
"""The same, while there are twice as many as there may be: somebody is making topics up."""

LETTER_BYTES_MAX = 1 << 40
"""A dead letter is as large as its message, and what it says of that: none is too large to be written."""

DELIVERY_BYTES = 256
"""What a delivery says of itself beside the message, at most: consumer (a segment), `made`, `lease`, `attempt`; and the
length of a binary frame's header. So much less than `max_frame` a message may take: what is sent of it fits, too."""

UNGUARDED: dict[str, Any] = {
    "budget_messages": 0,
    "budget_bytes": 0,
    "budget_cost": 0.0,
    "repeat_messages": 0,
    "sender_rate": 0.0,
    "pingpong_gap": 0.0,
}
"""What the guard would look at every message for: a letter repeats what it has admitted once."""

BROKER = "hubbub"
"""Who the broker's own messages are from."""


class Shard:
    """Owns the topics of the groups that hash to it. Every method is called on the loop."""

    def __init__(
        self,
        number: int,
        log: ShardLog,
        settings: Settings,
        policies: Policies,
        metrics: Metrics,
        catch_up: CatchUp,
        loop: AbstractEventLoop,
    ) -> None:
        self.number = number
        self.log = log
        self.metrics = metrics
        self.topics: dict[str, Topic] = {}
        self._policies = policies
        self._schemas = NO_SCHEMAS
        self._generation = 0
        """Counts the changes of the two: a topic whose own count is behind goes by older ones."""
        self._dedup_window = settings.dedup_window
        self._largest = settings.max_frame - DELIVERY_BYTES
        self._fitting: dict[int, tuple[TopicPolicy, TopicPolicy]] = {}
        """Policies that would let larger messages pass, by their place in memory, and what holds instead."""
        self._whole: dict[str, Any] = {"max_message": settings.max_frame, "max_ttl": 0.0}
        self._topics_in_memory = settings.topics_in_memory
        self.readers = Readers(log, metrics, catch_up, self.topic, settings.max_filters)
        self.batch = Batch(log, settings, metrics, loop, self.readers.deliver)
        self.batch.never_before(log.opened_at)
        self.guard = ConversationGuard(settings, metrics, lambda key: log.state(StateKind.BUDGET, key))
        self.sequencer = Sequencer(log, self.batch, settings, metrics, loop, self.guard)
        self.batch.on_failure = self._batch_lost
        self.publish = self.sequencer.publish

    def topic(self, name: str) -> Topic:
        """The topic's state, brought into memory if need be. The name must have been checked."""
        found = self.topics.get(name)
        if found is None:
            group = group_of(name)
            durable_seconds = self.metrics.durable_of(group)
            found = self.topics[name] = Topic(
                name, self.log, self.policy_of(name, self._policies), self._schemas.of(group), durable_seconds
            )
            found.used = self.batch.now
            found.generation = self._generation
        elif found.generation != self._generation:
            self._renew(found)
        return found

    @property
    def policies(self) -> Policies:
        """What is in force now."""
        return self._policies

    def policy_of(self, name: str, policies: Policies) -> TopicPolicy:
        """What holds for a topic by these policies, and by what topics of its kind need whatever those say."""
        policy = policies.of(name)
        if is_dead_letters(name):  # kept, whatever holds for other topics: it takes what any topic of its group took
            return replace(policy, durable=True, max_message=LETTER_BYTES_MAX, **UNGUARDED)
        if is_state(name) or is_reserved(name):  # likewise; what one change may hold, the limits of states say
            window = max(policy.dedup_window, self._dedup_window)  # a change that is asked for twice is made once
            return replace(policy, durable=True, dedup_window=window, **self._whole, **UNGUARDED)
        return policy if policy.max_message <= self._largest else self._fit(policy)

    def _fit(self, policy: TopicPolicy) -> TopicPolicy:
        """The policy, with messages no larger than a delivery can carry. One for all topics: there may be millions."""
        found = self._fitting.get(id(policy))
        if found is None:
            found = self._fitting[id(policy)] = (policy, replace(policy, max_message=self._largest))
        return found[1]

    def follow(self, policies: Policies, schemas: Schemas) -> None:
        """Go by these from the next message on.

        A topic in memory learns of it when it is next asked for by name: the change costs nothing for each topic, and a
        message need not ask whether there was one. Whoever keeps a topic's `Publisher` has to let go of it now.
        """
        self._policies = policies
        self._fitting.clear()
        self._schemas = schemas
        self._generation += 1
        for topic in self.sequencer.waiting_topics():
            self._renew(topic)

    def _renew(self, topic: Topic) -> None:
        topic.generation = self._generation
        topic.follow(self.policy_of(topic.name, self._policies), self._schemas.of(group_of(topic.name)))

    def misfit(self, pub: Pub) -> str | None:
        """Why the schema of its type would not let a message pass that is yet to be published; None if it would.

        Costs a look-up where the group has no schema for that type: the topic is not even brought into memory.
        """
        schemas = self._schemas.of(group_of(pub.topic))
        if schemas is None or pub.type not in schemas:
            return None
        return self.sequencer.misfit(self.topic(pub.topic), pub, None)

    def step(self) -> Step:
        """Several messages, and what belongs to them, that are to be taken all or none."""
        return Step(self.log, self.batch, self.sequencer, self.guard, self.metrics)

    def announce(self, topic: str, type: str, data: dict[str, Any], *, ephemeral: bool = False) -> None:
        """Publish a message of the broker's own. What the shard can't take now is lost, and counted refused."""
        pub = Pub(topic=topic, id=str(uuid4()), type=type, data=Raw(encode_value(data)), ephemeral=ephemeral)
        self.publish(Publisher(BROKER, None, self.topic(topic)), pub, None, Nobody())

    def keep_budgets(self) -> bool:
        """Append what conversations have used since the last time. Whether there was anything: then see to a commit."""
        if self.log.failed is not None:
            return False
        return bool(self.guard.ledger.write(self.log.append_state))

    def _batch_lost(self) -> None:
        self.guard.ledger.write_again()
        self.sequencer.refuse_held()

    @property
    def crowded(self) -> bool:
        """Whether there are so many topics in memory that `let_go` should be called more often than once a second."""
        return len(self.topics) > 2 * self._topics_in_memory

    def let_go(self, now: float, most: int = 1000) -> int:
        """Let idle topics go from memory if there are more than `topics_in_memory`. How many went.

        At most `most` are looked at, those first that were not for the longest time.
        """
        count = 0
        excess = len(self.topics) - self._topics_in_memory
        idle = CROWDED_IDLE_SECONDS if self.crowded else IDLE_SECONDS
        for topic in list(islice(self.topics.values(), most)) if excess > 0 else ():
            if count == excess:
                break
            del self.topics[topic.name]
            if topic.idle and topic.used < now - idle:
                topic.gone = True
                for cursor in list(topic.all_live()):
                    cursor.detach()
                for follower in topic.followers:
                    follower.gone()
                self.log.forget(topic.log)
                count += 1
            else:
                self.topics[topic.name] = topic
        return count
