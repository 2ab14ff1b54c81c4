"""The rules of each conversation.

The sequencer asks here about every message that says what caused it and, where a topic's policy has rules about all
messages, about every one. What passes is remembered only when all rules let it pass. Memory is bounded: `chain_topics`
conversations of a shard, and in each the newest `chain_ids` messages (at most twice as many) that have a cause. What is
forgotten counts as never seen: the guard errs on the side of whoever publishes.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import DecodeError, Raw, Struct, ValidationError
from msgspec.json import Decoder
from xxhash import xxh3_64_intdigest

from hubbub_broker.config import Settings
from hubbub_broker.metrics import Metrics
from hubbub_broker.policy import TopicPolicy
from hubbub_protocol.causal import COST, HOPS, cost_of, hops_of
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Pub
from hubbub_protocol.names import MAIL, MAIL_TO_ALL, inbox_owner, is_dead_letters, is_reserved

from .bucket import TokenBucket
from .budget import Ledger
from .chain import SHALLOW, Link, denial, link, too_deep
from .correspondence import SAME_BYTES_LEAST, Correspondence, Letter
from .denial import Denial, Rule
from .pace import Came, Pace, step
from .recent import Recent

Report = Callable[[Denial, str | None, str], None]


class _Known(Struct):
    """The headers that the guard reads; whatever else is there is passed over."""

    hops: Any = None
    cost: Any = None


assert set(_Known.__struct_fields__) == {HOPS, COST}
_decode = Decoder(_Known).decode
_NOTHING_STATED = (0, 0.0)
_ONLY_HOPS = b'{"hops":'
_NAMES = (b'"%b"' % HOPS.encode(), b'"%b"' % COST.encode())


def _stated(headers: Raw) -> tuple[int, float]:
    """What the headers say of depth and cost. Malformed ones say nothing: that is between the agents."""
    text = bytes(headers)
    if text.startswith(_ONLY_HOPS) and text[8:-1].isdigit() and len(text) < 20:
        return hops_of(int(text[8:-1])), 0.0  # what the SDK writes where there is nothing else: half the time
    if _NAMES[0] not in text and _NAMES[1] not in text:
        return _NOTHING_STATED
    try:
        known = _decode(text)
    except (DecodeError, ValidationError, RecursionError):
        return _NOTHING_STATED
    return hops_of(known.hops), cost_of(known.cost)


class Memory:
    """What is remembered of one conversation."""

    __slots__ = (
        "_ids",
        "contents",
        "echo",
        "exempt",
        "gone",
        "last",
        "last_at",
        "links",
        "name",
        "older",
        "owner",
        "pingpong",
        "policy",
        "senders",
        "touched",
        "watched",
    )

    def __init__(self, name: str, policy: TopicPolicy, ids: int) -> None:
        self.name = name
        self._ids = ids
        self.policy = policy
        self.exempt = (is_reserved(name) and name != MAIL_TO_ALL) or is_dead_letters(name)
        """The broker's own, and letters that repeat what was admitted once: no rule is about them."""
        self.owner = inbox_owner(name)
        """Whose inbox it is, if it is one."""
        self.gone = False
        """Forgotten: whoever still holds this must ask the guard again."""
        self.touched = False
        """Whether it was used since the guard last looked for one to forget."""
        self.links: dict[str, Link] = {}
        """By the message's id. One without a cause needs none. Two generations, as in `Recent`, without its calls."""
        self.older: dict[str, Link] = {}
        self.contents: Recent[int, Came] = Recent(ids)
        self.senders: Recent[str, TokenBucket] = Recent(ids)
        self.follow(policy)
        self.last: Link | None = None
        """The newest message, where `pingpong_gap` looks at it."""
        self.last_at = 0.0

    def follow(self, policy: TopicPolicy) -> None:
        """Go by this policy from now on. What was counted counts on, against the new limits; a new rate begins full."""
        if (policy.sender_rate, policy.sender_burst) != (self.policy.sender_rate, self.policy.sender_burst):
            self.senders = Recent(self._ids)
        self.policy = policy
        self.watched = policy.watches_all
        self.pingpong = Pace(policy.pingpong_messages, policy.pingpong_window, policy.pingpong_stop)
        self.echo = Pace(policy.repeat_messages or policy.echo_messages, policy.echo_window, policy.echo_stop)


class Conversation(Protocol):
    """A topic, as the guard sees it."""

    name: str
    policy: TopicPolicy
    memory: Memory | None
    """None until there is something to remember."""


class ConversationGuard:
    """The guard of one shard's conversations. One thread, no locks.

    Args:
        read_budget: the newest state of a key, from the shard's log.
    """

    def __init__(self, settings: Settings, metrics: Metrics, read_budget: Callable[[bytes], bytes | None]) -> None:
        self.ledger = Ledger(read_budget, settings.chain_topics)
        self.mail = Correspondence(settings)
        """What is remembered of mail. The same for all shards of a broker."""
        self.report: Report = _tell_nobody
        """Told of each denial."""
        self._metrics = metrics
        self._topics = settings.chain_topics
        self._ids = settings.chain_ids
        self._memories: OrderedDict[str, Memory] = OrderedDict()

    def __len__(self) -> int:
        return len(self._memories)

    def memory_of(self, topic: str, policy: TopicPolicy) -> Memory:
        """What is remembered of a conversation. May be kept while it is not `gone`."""
        memory = self._memories.get(topic)
        if memory is None:
            memory = self._memories[topic] = Memory(topic, policy, self._ids)
            while len(self._memories) > self._topics:
                self._forget_one()
        elif memory.policy is not policy:  # it was changed while the topic was not in memory
            memory.follow(policy)
        return memory

    def _forget_one(self) -> None:
        """Forget the one that came first of those that were not used since they were last looked at."""
        while True:
            name, memory = self._memories.popitem(last=False)
            if not memory.touched:
                memory.gone = True
                return
            memory.touched = False
            self._memories[name] = memory

    def admit(
        self, conversation: Conversation, sender: str, pub: Pub, payload: bytes | None, now: float
    ) -> Denial | None:
        """Decide about one message that is about to be sequenced, and remember it if it may.

        Args:
            conversation: its topic. What is remembered of it is found there, and put there.
            sender: who publishes it.
            pub: the message; not a repeat of one that was taken before.
            payload: its data where that is bytes.
            now: seconds; never goes back.
        """
        memory = conversation.memory
        if memory is None or memory.gone:
            memory = conversation.memory = self.memory_of(conversation.name, conversation.policy)
        if memory.exempt:
            return None
        depth, cost = _stated(pub.headers) if pub.headers else _NOTHING_STATED
        parent = None
        if pub.parent is not None:
            parent = memory.links.get(pub.parent) or memory.older.get(pub.parent)
            above = 1 if parent is None else parent[0] + 1
            depth = above if above > depth else depth
        letter = None
        if memory.owner is not None and pub.type == MAIL:
            letter = self.mail.read(sender, memory.owner, pub, now)
            parent, depth = parent or letter.parent, max(depth, letter.depth)
        if letter is not None or memory.watched or depth > SHALLOW:
            made, refused = self._judge(memory, sender, pub, payload, now, parent, depth, cost, letter)
            if refused is not None:
                self._metrics.count_guard(refused.rule)
                self.report(refused, memory.name, sender)
                return refused
            if letter is not None:
                self.mail.remember(letter, made, now)
        elif depth:
            memory.touched = True
            made = (depth, sender, None if parent is None else parent[1], None)
        else:
            return None
        if depth:
            links = memory.links
            if len(links) >= self._ids:
                memory.older = links
                links = memory.links = {}
            links[pub.id] = made
        return None

    def _judge(
        self,
        memory: Memory,
        sender: str,
        pub: Pub,
        payload: bytes | None,
        now: float,
        parent: Link | None,
        depth: int,
        cost: float,
        letter: Letter | None,
    ) -> tuple[Link, Denial | None]:
        """The rules, one after the other; what is to be remembered if none of them says no."""
        topic, policy = memory.name, memory.policy
        memory.touched = True
        if parent is None and policy.pingpong_gap and now - memory.last_at <= policy.pingpong_gap:
            parent = memory.last
        made, refused = link(memory.pingpong, parent, depth, sender, now, topic)
        if depth > policy.max_depth > 0:
            refused = too_deep(policy.max_depth, depth, mail=letter is not None)
        if refused is not None:
            return made, refused
        size = len(pub.data) if payload is None else len(payload)
        came, contents = None, memory.contents
        if letter is not None and not policy.repeat_messages:
            content, contents = letter.content if _may_echo(policy, depth) else 0, self.mail.contents
        else:
            looked_at = policy.repeat_messages or (_may_echo(policy, depth) and size >= SAME_BYTES_LEAST)
            content = _hash(pub, payload) if looked_at else 0
        if content:
            came, refused = _came_round(memory, contents, content, depth, sender, now)
            if refused is not None:
                return made, refused
        if memory.watched:
            refused = self._use(topic, policy, memory, sender, size + len(pub.headers), cost, now)
            if refused is not None:
                return made, refused
            if policy.pingpong_gap:
                memory.last, memory.last_at = made, now
        if came is not None:
            contents.put(content, came)
        return made, None

    def _use(
        self, topic: str, policy: TopicPolicy, memory: Memory, sender: str, size: int, cost: float, now: float
    ) -> Denial | None:
        """Count what a message uses up, if nothing else stops it: of its sender's rate, and of the budget."""
        bucket = None
        if policy.sender_rate:
            bucket = memory.senders.get(sender)
            if bucket is None:
                bucket = TokenBucket(policy.sender_rate, policy.sender_burst, now)
                memory.senders.put(sender, bucket)
            wait = bucket.wait(now, 1.0)
            if wait:
                what = f"{sender} publishes more than {policy.sender_rate:g} messages a second to {topic} (sender_rate)"
                return Denial(Rule.SENDER_RATE, ErrorCode.RATE_LIMITED, what, wait)
        if policy.has_budget:
            sums = self.ledger.of(topic)
            refused = sums.why_not(topic, policy, size, cost)
            if refused is not None:
                return refused
            self.ledger.used(topic, sums, size, cost)
        if bucket is not None:
            bucket.spend(1)
        return None


def _may_echo(policy: TopicPolicy, depth: int) -> bool:
    return depth > SHALLOW and policy.echo_messages > 0


def _hash(pub: Pub, payload: bytes | None) -> int:
    """Of type and data, as they were written: a loop passes on, or makes anew, the same bytes."""
    seed = 0 if pub.type is None else xxh3_64_intdigest(pub.type.encode())
    return xxh3_64_intdigest(pub.data if payload is None else payload, seed) | 1  # 0 is none


def _came_round(
    memory: Memory, contents: Recent[int, Came], content: int, depth: int, sender: str, now: float
) -> tuple[Came | None, Denial | None]:
    """What to remember of some content if the message with it may pass; None: nothing new.

    Content goes round if it comes again because of itself: further down than it ever stood. Many agents that say the
    same, and one that says the same every second, stand where they stood.
    """
    every = memory.policy.repeat_messages > 0
    level, deepest = contents.get(content) or (None, 0)
    if level is not None and now - level.at >= memory.echo.window:
        level, deepest = None, 0  # a silence as long as that has ended the matter
    if not every and depth <= deepest:
        return None, None
    pace = memory.echo
    level, wait = step(pace, level, now)
    if not wait:
        return (level, depth if depth > deepest else deepest), None
    rule, name = (Rule.REPEAT, "repeat_messages") if every else (Rule.ECHO, "echo_messages")
    what = f"{sender} publishes to {memory.name} what was said there before, and again"
    return None, denial(rule, wait, what, f"{pace.limit} times in {pace.window:g} s ({name}, echo_window)")


def _tell_nobody(denial: Denial, topic: str | None, sender: str) -> None:
    """Until somebody wants to know."""
