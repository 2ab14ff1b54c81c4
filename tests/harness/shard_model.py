"""What a shard promises, as a model that hears every line that the broker sends, and objects at once.

One `World` outlives crashes; it has an `Ear` for each client. The first client of each life of the broker is the
witness: it reads everything, and never slowly.

The model looks into the broker in two places only: what is `delivered` where a subscription from "new" must begin, and
what the disk would still have if the power went now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from hubbub_protocol.names import matcher

from .shard_site import Line, Peer, ShardSite

Key = tuple[str, str, str]
"""Agent, topic, id: what a message is the same by."""
Writer = tuple[str, str | None, str]
"""Agent, life, topic: what counts its `n` by itself."""


@dataclass(eq=False)
class Publish:
    """One `pub` that was sent, once."""

    peer: Peer
    line: Line
    sent_at: float
    known_seq: int | None
    """The seq that a repeat must be answered with."""
    answer: Line | None = None
    before: Publish | None = None
    """The numbered one of the same writer that was taken before this one."""
    unheard: bool = False
    """It may have been refused after its client had left."""
    gone: bool = False
    """Nobody was told of it before the power went, and it was not there after."""

    @property
    def key(self) -> Key:
        return self.peer.agent, self.line["topic"], self.line["id"]

    @property
    def writer(self) -> Writer:
        return self.peer.agent, self.peer.life, self.line["topic"]

    @property
    def content(self) -> Any:
        return content_of(self.line)

    @property
    def refused(self) -> bool:
        return self.answer is not None and self.answer["op"] == "err"


@dataclass
class Place:
    """One client's place in one topic."""

    due: int | None
    """The next seq; None: not known yet."""
    lc: int = 0
    signals: int = 0
    """Ephemeral messages that came, or were said to be missed."""
    before: int = 0
    """How many of them the witness had heard when this place began."""
    topic: Any = None
    """The broker's own topic. When it was let go from memory, its `lc` forgets what only signals had brought."""
    durable_lc: int = 0


@dataclass(eq=False)
class Ear:
    """What one client has been promised."""

    peer: Peer
    places: dict[str, Place] = field(default_factory=dict)
    names: dict[str, bool] = field(default_factory=dict)
    """Its subscriptions; whether each has been told `live`."""
    asked: dict[str, tuple[str, Any]] = field(default_factory=dict)
    """rid -> (name, start) of what has no answer yet; start is None for an `unsub`."""
    reset: str | None = None
    """The topic whose `ok` came just now: a gap that says `reset` may follow."""


def content_of(line: Line) -> Any:
    """What tells a message from every other."""
    return line.get("payload", line.get("data"))


def _counts(other: Publish) -> bool:
    """Whether what was sent before makes a durable publish of the same id a repeat."""
    if other.gone or other.refused or other.line.get("ephemeral"):
        return False
    return other.answer is None or "seq" in other.answer


def _is_uncertain(other: Publish) -> bool:
    """Whether nobody can tell if a publish of the same id is a repeat of this one.

    It may have been refused unheard; or it may be there, and past its time, so that after a crash nobody hears of it.
    """
    return "ttl" in other.line if other.gone else other.unheard


class World:
    """The truth so far. Every method that hears something raises AssertionError if that must not be."""

    def __init__(self, site: ShardSite) -> None:
        self.site = site
        self.ears: dict[Peer, Ear] = {}
        self.witness: Ear
        self.publishes: dict[int, Publish] = {}
        self.stored: dict[str, dict[int, tuple[Line, bytes]]] = defaultdict(dict)
        """What anybody was told of, with its seq: it never changes, whatever happens."""
        self.seqs: dict[Key, int] = {}
        """The seq of each message that anybody was told of."""
        self.taken: dict[Writer, Publish | None] = {}
        """Each writer's last numbered message that was not refused."""
        self.signals: dict[str, int] = defaultdict(int)
        """Ephemeral messages that were taken."""
        self.lossy: set[str] = set()
        """Topics of which a failed batch may have taken signals along."""
        self.unsure: set[Writer] = set()
        """Writers who can't know their count: they left before they heard of a refusal."""
        self.expired: list[tuple[str, int, int, float]] = []
        self._by_key: dict[Key, list[Publish]] = defaultdict(list)
        self._heard: dict[str, set[str]] = defaultdict(set)
        """Ids that the witness has heard, also of messages that were never stored."""
        self._last_n: dict[Writer, int] = {}
        self._counted: dict[Writer, list[Publish]] = {}
        """What waited in its place for a while, at most until the end of the frame just sent, and was refused then: too
        large, or behind such a one. What came meanwhile was judged by its `n`."""
        self._replaying = False
        self._policies = site.settings.policies()

    # What clients do ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The broker has (again) been started: the witness listens, and hears all that there is."""
        self.ears.clear()
        self._last_n.clear()
        self.unsure.clear()
        self.taken.clear()
        self.signals.clear()
        self.lossy.clear()
        self._replaying = True
        self.witness = self.listen(self.site.connect("witness"))
        self.subscribe(self.witness, "**", "all")
        self.site.settle()
        self.site.raise_uncaught()
        self._replaying = False
        for publish in self.publishes.values():
            publish.gone = publish.gone or (publish.answer is None and publish.key not in self.seqs)
        self.check_nothing_is_lost()

    def listen(self, peer: Peer) -> Ear:
        """Hear what this client hears."""
        ear = self.ears[peer] = Ear(peer)
        peer.hear = lambda line, raw: self.hear(ear, line, raw)
        return ear

    def leave(self, ear: Ear) -> None:
        """The connection is lost."""
        ear.peer.disconnect()
        del self.ears[ear.peer]

    def next_n(self, peer: Peer, topic: str) -> int:
        """The `n` of this client's next message to the topic."""
        last = self.taken.get((peer.agent, peer.life, topic))
        return 1 if last is None else int(last.line["n"]) + 1

    def publish(self, peer: Peer, *lines: Line) -> None:
        """Send publishes in one go, and see that their `n` is judged as it should be."""
        sent = []
        for line in lines:
            rid = len(self.publishes)
            publish = Publish(peer, {**line, "op": "pub", "rid": rid}, self.site.now, None)
            publish.known_seq = self.seqs.get(publish.key)
            self.publishes[rid] = publish
            self._by_key[publish.key].append(publish)
            sent.append(publish)
        tips = {publish.writer: self.taken.get(publish.writer) for publish in sent}
        peer.send(*(publish.line for publish in sent))
        if self.site.disk.dead:
            return
        self._note_unheard_refusals()
        self._counted = {writer: [tip] for writer, tip in tips.items() if tip is not None and tip.refused}
        for publish in sent:
            others = self._by_key[publish.key]
            others = others[: others.index(publish)]
            if publish.known_seq is None and any(map(_is_uncertain, others)):
                self.unsure.add(publish.writer)
            repeat = publish.known_seq is not None or any(map(_counts, others))
            if publish.line.get("n") is not None and not repeat:
                self._judge_number(publish)

    def _note_unheard_refusals(self) -> None:
        """A message that waits is found too large when its time comes, which may be after its client has left."""
        for publish in self._left_behind():
            if len(publish.content) > self._max_message(publish.line["topic"]):
                self._refused_unheard(publish)

    def _refused_unheard(self, publish: Publish) -> None:
        publish.unheard = True
        self.unsure.add(publish.writer)

    def _max_message(self, topic: str) -> int:
        return self._policies.of(topic).max_message

    def _judge_number(self, publish: Publish) -> None:
        """The first that is not a repeat: is it in its order?"""
        n, writer, answer = publish.line["n"], publish.writer, publish.answer
        last = self.taken.get(writer)
        places = {1 if each is None else each.line["n"] + 1: each for each in (last, *self._counted.get(writer, []))}
        if not publish.refused:
            assert writer in self.unsure or n == 1 or n in places, (publish, places)
            publish.before = places.get(n, last)
            self.taken[writer] = publish
            return
        assert answer is not None
        if answer["code"] == "order":
            assert writer in self.unsure or (n not in (1, answer["expect"]) and answer["expect"] in places), (answer, n)
        if answer["code"] in ("order", "too_large") and n in places:
            publish.before = places[n]
            self._counted.setdefault(writer, []).append(publish)

    def subscribe(self, ear: Ear, name: str, start: Any) -> None:
        """Subscribe."""
        rid = f"sub {name}"
        ear.asked[rid] = (name, start)
        ear.peer.request("sub", topic=name, from_=start, rid=rid)
        assert not ear.asked or self.site.disk.dead, "a request was not answered at once"

    def unsubscribe(self, ear: Ear, name: str) -> None:
        """Unsubscribe."""
        rid = f"unsub {name}"
        ear.asked[rid] = (name, None)
        ear.peer.request("unsub", topic=name, rid=rid)
        assert not ear.asked or self.site.disk.dead, "a request was not answered at once"

    def storage_failed(self) -> None:
        """A batch could not be made durable: signals may have gone with it, and not everybody was there to hear it.

        A topic that is not durable has none in a batch.
        """
        self.lossy.update(topic for topic in self.heads() if not topic.startswith("quick/"))
        for publish in self._left_behind():
            self._refused_unheard(publish)

    # What they hear -------------------------------------------------------------------------------------------------

    def hear(self, ear: Ear, line: Line, raw: bytes) -> None:
        """One line that the broker sent to a client."""
        after_ok, ear.reset = ear.reset, None
        match line["op"]:
            case "msg":
                self._message(ear, line, raw)
            case "gap":
                self._gap(ear, line, after_ok)
            case "live":
                self._live(ear, line)
            case "ok" | "err" if isinstance(line.get("rid"), int):
                self._answer(line)
            case "ok":
                self._subscribed(ear, line)
            case op:
                assert op == "welcome", line

    def _message(self, ear: Ear, line: Line, raw: bytes) -> None:
        topic = line["topic"]
        who = ear.peer.agent
        place = self._place(ear, topic)
        assert len(raw) <= self._max_message(topic), f"too large: {line}"
        published = [p for p in self._by_key[line["from"], topic, line["id"]] if p.content == content_of(line)]
        assert published, f"nobody published {line}"
        ttl = published[-1].line.get("ttl")
        if ttl is not None:  # it counts from when it came, also for what was held back; the clock in whole microseconds
            ends = max(p.sent_at for p in published) + ttl + 1e-6
            assert min(ends, line["ts"] + ttl) > self.site.now, f"past its time at {self.site.now}: {line}"
        self._lc_grows(who, place, line)
        if ear is self.witness and not (self._replaying and line.get("seq") in self.stored[topic]):
            self._follows_its_parent(line, place)
        if "seq" in line:
            assert "ephemeral" not in line
            assert place.due in (None, line["seq"]), f"{who} was due {topic}#{place.due}, and heard {line}"
            place.due = line["seq"] + 1
            self._learn(line, raw)
        else:
            assert line["ephemeral"] is True
            place.signals += 1
        if ear is self.witness:
            if "seq" in line:
                self._follows_its_number(published[-1])
            self._heard[topic].add(line["id"])

    def _lc_grows(self, who: str, place: Place, line: Line) -> None:
        found = self.site.shard.topics.get(line["topic"])
        if place.topic is not found:
            place.topic, place.lc = found, place.durable_lc
        assert line["lc"] > place.lc, f"{who} heard lc {place.lc}, then {line}"
        place.lc = line["lc"]
        if "seq" in line:
            place.durable_lc = place.lc

    def _learn(self, line: Line, raw: bytes) -> None:
        """A durable message was heard: it is durable by now, and the one that others heard."""
        topic, seq = line["topic"], line["seq"]
        known = self.stored[topic].get(seq)
        if known is None:
            assert self._is_durable(raw), f"not on stable storage: {line}"
            self.stored[topic][seq] = (line, raw)
            self._is_at((line["from"], topic, line["id"]), seq)
        else:
            assert known[1] == raw, f"{topic}#{seq} was {known[1]!r} and is {raw!r}"

    def _is_durable(self, raw: bytes) -> bool:
        inodes = self.site.disk._inodes.items()
        return any(raw in inode.durable for path, inode in inodes if path.suffix == ".log")

    def _is_at(self, key: Key, seq: int) -> None:
        first = self.seqs.setdefault(key, seq)
        assert first == seq, f"{key} is at {first}, and at {seq}"

    def _follows_its_parent(self, line: Line, place: Place) -> None:
        """What is heard for the first time comes after its parent, or is an orphan."""
        topic, parent = line["topic"], line.get("parent")
        if parent is None:
            return
        if line.get("orphan"):
            known = self.stored[topic]
            before = [known[seq][0]["id"] for seq in range(1, line.get("seq", place.due or 1)) if seq in known]
            assert parent not in before, f"no orphan: {line}"
        elif not self._may_be_unheard(topic, parent):
            assert parent in self._heard[topic], f"its parent was not heard before: {line}"

    def _may_be_unheard(self, topic: str, id: str) -> bool:
        """Whether the broker may have had a message of which the witness never hears: one whose time was over before it
        could go out, or an ephemeral one that went with a failed batch, or with the power.
        """
        same = [each for key, sent in self._by_key.items() if key[1:] == (topic, id) for each in sent]
        if self._replaying or topic in self.lossy:
            return any("ttl" in each.line or each.line.get("ephemeral") for each in same)
        return any("ttl" in each.line for each in same)

    def _follows_its_number(self, publish: Publish) -> None:
        n, writer = publish.line.get("n"), publish.writer
        if n is None:
            return
        last = self._last_n.get(writer, 0)
        assert n in (1, last + 1), f"{publish.line} of {writer} comes after n {last}"
        self._last_n[writer] = n
        if self._replaying:  # it counts as taken, whatever its publisher was told before the power went
            self.taken[writer] = replace(publish, answer={"op": "ok"}, before=None)

    def _gap(self, ear: Ear, line: Line, after_ok: str | None) -> None:
        topic, first, last = line["topic"], line["first"], line["last"]
        place = self._place(ear, topic)
        if line["reason"] == "reset":
            assert after_ok == topic, line
        elif line["reason"] == "slow":
            assert place.due is None or first == last == place.due - 1, (line, place)
            assert line["dropped"] > 0
            place.signals += line["dropped"]
        else:
            assert line["reason"] == "expired", line
            assert place.due in (None, first), f"{ear.peer.agent} was due {topic}#{place.due}, and heard {line}"
            assert last >= first
            place.due = last + 1
            self.expired.append((topic, first, last, self.site.now))

    def _live(self, ear: Ear, line: Line) -> None:
        name = line["topic"]
        if "*" in name:
            assert ear.names[name] is False, f"{ear.peer.agent} was told live of {name} twice"
        else:
            place = self._place(ear, name)
            assert place.due in (None, line["seq"] + 1), (line, place)
        if name in ear.names:
            ear.names[name] = True

    def _answer(self, line: Line) -> None:
        publish = self.publishes[line["rid"]]
        assert publish.answer is None, f"{publish.line} was answered {publish.answer}, and {line}"
        assert line["id"] == publish.line["id"]
        publish.answer = line
        if line["op"] == "err":
            self._refused(publish, line)
        elif "seq" in line:
            assert line["topic"] == publish.line["topic"]
            assert not publish.line.get("ephemeral")
            assert publish.known_seq is None or line.get("dup"), f"stored again: {line}"
            topic, seq, id = line["topic"], line["seq"], line["id"]
            start = f'{{"op":"msg","topic":"{topic}","seq":{seq},"id":"{id}",'
            assert self._is_durable(start.encode()), f"answered, and not on stable storage: {line}"
            self._is_at(publish.key, line["seq"])
        elif not line.get("dup"):
            self.signals[line["topic"]] += 1

    def _refused(self, publish: Publish, line: Line) -> None:
        code = line["code"]
        assert code in ("order", "overloaded", "read_only", "too_large"), line
        if code in ("overloaded", "read_only"):
            assert line["retry_after"] > 0
        if code == "too_large":
            assert len(publish.content) > self._max_message(line["topic"]), line
        if code == "read_only":
            assert self.site.shard.log.failed is not None
        last = self.taken.get(publish.writer)
        while last is not None and last.refused:
            last = last.before
        if publish.writer in self.taken:
            self.taken[publish.writer] = last

    def _subscribed(self, ear: Ear, line: Line) -> None:
        name, start = ear.asked.pop(line["rid"])
        if start is None:
            del ear.names[name]
            for topic in list(ear.places):
                if not self._wants(ear, topic):  # else a pattern goes on with it from here
                    del ear.places[topic]
            return
        by_pattern = self._wants(ear, name)
        ear.names[name] = False
        if "*" in name:
            heads = self.heads()
            for topic in heads.keys() | self.witness.places.keys():
                if matcher(name)(topic) and topic not in ear.places:
                    ear.places[topic] = self._rebase(Place(self._first(topic, heads.get(topic, 0), start)), topic)
            return
        delivered = self.heads().get(name, 0)
        earlier = self._place(ear, name) if by_pattern else None
        assert line["head"] == delivered, line
        wanted = self._first(name, delivered, start)
        if wanted is not None and earlier is not None:  # a pattern of its own may not have had all before that yet
            wanted = None if earlier.due is None else min(wanted, earlier.due)
        assert wanted in (None, line["next"]), f"from {start} of {delivered} (was due: {earlier}): {line}"
        place = ear.places[name] = self._rebase(Place(line["next"]), name)
        if earlier is not None:
            place.signals, place.before = earlier.signals, earlier.before
        ear.reset = name

    # Places ---------------------------------------------------------------------------------------------------------

    def _wants(self, ear: Ear, topic: str) -> bool:
        return any(matcher(name)(topic) for name in ear.names)

    def _place(self, ear: Ear, topic: str) -> Place:
        """The client's place; in a topic that is younger than its pattern, that begins at the beginning."""
        place = ear.places.get(topic)
        if place is None:
            assert self._wants(ear, topic), f"{ear.peer.agent} has no subscription to {topic}"
            place = ear.places[topic] = Place(1)
        return place

    def _rebase(self, place: Place, topic: str) -> Place:
        """Count signals from here on."""
        heard = self.witness.places.get(topic)
        place.signals = 0
        place.before = 0 if heard is None else heard.signals
        return place

    def heads(self) -> dict[str, int]:
        """How far each topic has been delivered."""
        shard = self.site.shard
        heads = {info.name: info.head for info in shard.log.topics()}
        return {**heads, **{name: topic.delivered for name, topic in shard.topics.items()}}

    def _first(self, topic: str, delivered: int, start: Any) -> int | None:
        """Where a subscription begins; None if the model can't tell."""
        match start:
            case "new":
                return delivered + 1
            case "all" | {"epoch": _}:
                return 1
            case {"seq": int(seq)}:
                return min(seq, delivered + 1)
            case {"last": int(last)}:
                return max(1, delivered + 1 - last)
            case {"since": float(since)}:
                known = self.stored[topic]
                if set(known) < set(range(1, delivered + 1)):
                    return None
                return min((seq for seq, (line, _) in known.items() if line["ts"] >= since), default=delivered + 1)
        raise AssertionError(start)

    def _left_behind(self) -> Iterator[Publish]:
        """Publishes without an answer whose clients have left."""
        for publish in self.publishes.values():
            if publish.answer is None and not publish.gone and publish.peer not in self.ears:
                yield publish

    # At rest ----------------------------------------------------------------------------------------------------------

    def unanswered(self) -> list[Publish]:
        """Publishes of clients that are still there, without an answer."""
        return [
            publish
            for publish in self.publishes.values()
            if publish.answer is None and not publish.gone and publish.peer in self.ears
        ]

    def check_at_rest(self) -> None:
        """Nothing is under way and every socket takes what it gets: everybody has everything."""
        assert self.unanswered() == []
        heads = self.heads()
        for ear in self.ears.values():
            who = ear.peer.agent
            assert all(ear.names.values()), f"{who} was not told live: {ear.names}"
            for topic, head in heads.items():
                if self._wants(ear, topic):
                    self._check_place(who, topic, self._place(ear, topic), head)
            assert ear.peer.reading or self.site.shard.log.failed
        for topic, place in self.witness.places.items():
            self._check_signals(topic, place.signals)
        for topic, first, last, at in self.expired:
            for seq in range(first, last + 1):
                self._check_expired(topic, seq, at)
        assert self.site.shard.batch.settled
        sequencer = self.site.shard.sequencer
        assert sequencer.holding or not sequencer.held_bytes
        assert self.site.catch_up.behind == 0

    def _check_place(self, who: str, topic: str, place: Place, head: int) -> None:
        assert place.due in (None, head + 1), f"{who} is due {topic}#{place.due}, the head is {head}"
        signals = self.witness.places[topic].signals if topic in self.witness.places else 0
        assert place.signals == signals - place.before, f"{who} heard of {place} in {topic}, the witness of {signals}"

    def _check_signals(self, topic: str, heard: int) -> None:
        """The witness has heard every signal that was answered `ok`; an answer may have come too late for a client."""
        asked = [p for p in self.publishes.values() if p.line["topic"] == topic and p.answer is None and not p.gone]
        assert heard <= self.signals[topic] + len(asked)
        assert heard >= self.signals[topic] or topic in self.lossy

    def _check_expired(self, topic: str, seq: int, at: float) -> None:
        known = self.stored[topic].get(seq)
        for key, place in self.seqs.items():
            if (key[1], place) == (topic, seq):
                sent = [p for p in self._by_key[key] if known is None or p.content == content_of(known[0])]
                ends = [p.sent_at + p.line["ttl"] for p in sent if "ttl" in p.line]
                # The broker's clock counts in whole microseconds.
                assert any(end <= at + 1e-6 for end in ends), (key, seq)

    def check_nothing_is_lost(self) -> None:
        """The broker has been started again: all that anybody was told of is there."""
        for (agent, topic, id), seq in self.seqs.items():
            due = self.witness.places[topic].due if topic in self.witness.places else 1
            assert due is not None
            assert seq < due, f"lost: {id} of {agent} in {topic} was told to be at {seq}, the head is {due - 1}"
            gone = any(gap[0] == topic and gap[1] <= seq <= gap[2] for gap in self.expired)
            assert gone or seq in self.stored[topic]
