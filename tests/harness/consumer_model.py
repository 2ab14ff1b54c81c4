"""What consumers promise (docs/consumers.md), as a model that hears every line from the broker, and objects at once.

A `Desk` stands for one consumer, a `Task` for one message of it, a `Lease` for one delivery. One `Office` outlives
crashes. Where a crash leaves two outcomes possible, both are allowed until the broker shows which it was.

The model looks into the broker in one place only: how far a topic goes (`delivered`, and what retention left).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hubbub_protocol.names import matcher

from .shard_site import Line, Peer, ShardSite

LETTERS = "g/_dead"
NEVER = 0


@dataclass(frozen=True)
class Terms:
    """One consumer, as every member asks for it."""

    topic: str
    name: str
    start: Any = "all"
    exclusive: bool = False
    ordered: str | None = None
    max_deliver: int = NEVER
    backoff: tuple[float, ...] = (1.0,)


@dataclass(eq=False)
class Member:
    """One connection's share in a consumer."""

    ear: Ear
    desk: Desk
    ack_wait: float
    max_unacked: int
    leases: dict[Task, Lease] = field(default_factory=dict)
    draining: bool = False
    overdue: bool = False
    """It has let its time for a message run out, and settled none since."""
    demoted: float = -1.0
    """When that was last; who was at the same time may stand in either order."""


@dataclass(eq=False)
class Lease:
    member: Member
    attempt: int
    deadline: float


@dataclass(eq=False)
class Task:
    """One message of a consumer."""

    desk: Desk
    topic: str
    seq: int
    key: Any = None
    lease: Lease | None = None
    count: int = 0
    """Deliveries that counted; at most so many, as long as it is not `exact`."""
    kept: int = 0
    """How many of them are on stable storage, at least."""
    exact: bool = True
    given: bool = False
    """Whether it was delivered in this life of the broker."""
    due: float = 0.0
    """It must not come before."""
    due_kept: float = 0.0
    """What of that is on stable storage."""
    acked: str = ""
    """"lazy": it may come again after a crash; "sure": never again; "maybe": a crash may have taken the ack back."""
    acker: tuple[Peer, int | None] | None = None
    dying: bool = False
    """It was given up in this life of the broker: a letter is on its way, or there."""
    given_up: bool = False
    """It was given up at some time."""
    lost: bool = False
    letter: int | None = None

    @property
    def settled(self) -> bool:
        return bool(self.acked) or self.letter is not None or self.lost


@dataclass(eq=False)
class Desk:
    """One consumer."""

    terms: Terms
    start: int | None = None
    """The seq before its first one, once somebody was told that there is such a consumer."""
    members: list[Member] = field(default_factory=list)
    tasks: dict[tuple[str, int], Task] = field(default_factory=dict)
    newest: dict[Any, int] = field(default_factory=dict)
    """The last seq that was given out for the first time in this life, for each topic and member (or key)."""

    def task(self, topic: str, seq: int) -> Task:
        return self.tasks.setdefault((topic, seq), Task(self, topic, seq))

    def covers(self, topic: str) -> bool:
        return not topic.startswith("g/_") and matcher(self.terms.topic)(topic)

    @property
    def active(self) -> list[Member]:
        return [member for member in self.members if not member.draining]

    @property
    def firsts(self) -> list[Member]:
        """Of an exclusive consumer: whose turn it is. More than one, where which of them can't be told."""
        there = self.active
        there = [member for member in there if not member.overdue] or there
        return [member for member in there if member is there[0] or -1 < member.demoted == there[0].demoted]

    def demote(self, member: Member, now: float) -> None:
        """Its time for a message has run out: the others go before it."""
        if not member.overdue and member in self.members:
            member.overdue, member.demoted = True, now
            self.members.remove(member)
            self.members.append(member)


@dataclass(eq=False)
class Ear:
    """What one client hears."""

    peer: Peer
    members: list[Member] = field(default_factory=list)
    asked: dict[Any, Callable[[Line], None]] = field(default_factory=dict)
    joining: set[Desk] = field(default_factory=set)
    answers: list[Line] | None = None
    """Where answers go while one is waited for within the call."""

    def member_of(self, desk: Desk) -> Member | None:
        return next((each for each in self.members if each.desk is desk and not each.draining), None)


class Office:
    """The truth so far. What hears something raises AssertionError if that must not be."""

    def __init__(self, site: ShardSite, desks: list[Terms], topics: list[str], window: int) -> None:
        self.site = site
        self.desks = [Desk(terms) for terms in desks]
        self.topics = topics
        self.window = window
        self.ears: dict[Peer, Ear] = {}
        self.published: dict[str, Line] = {}
        self.stored: dict[str, dict[int, Line]] = {topic: {} for topic in [*topics, LETTERS]}
        self.signals: set[tuple[Desk, str]] = set()
        self.inherited: dict[str, int] = {}
        """How far each topic went when the broker was last started."""
        self.heard = 0
        """Lines about tasks: grows as long as there is progress."""
        self._rids = 0

    @property
    def now(self) -> float:
        return self.site.loop.time()

    def head(self, topic: str) -> int:
        return self.site.shard.topic(topic).delivered

    def first(self, topic: str) -> int:
        return self.site.shard.log.first_seq(self.site.shard.topic(topic).log)

    # Lives of the broker --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The broker has (again) been started: the witness hears all that there is."""
        self.ears.clear()
        self.inherited = {topic: self.head(topic) for topic in self.topics}
        witness = self.site.connect("witness")
        witness.hear = self._witness
        for topic in [*self.topics, LETTERS]:
            witness.request("sub", topic=topic, from_="all")
        self.site.settle()
        self.site.raise_uncaught()

    def ended(self) -> None:
        """The broker is no more. What it had not written may be as it was before (`written` comes first if it had)."""
        for desk in self.desks:
            desk.members.clear()
            desk.newest.clear()
            for task in desk.tasks.values():
                task.lease = task.acker = None
                task.given = task.dying = False
                task.due = task.due_kept
                task.exact = task.kept == task.count
                if task.acked == "lazy":
                    task.acked = "maybe"

    def written(self) -> None:
        """Every position is on stable storage."""
        for desk in self.desks:
            for task in desk.tasks.values():
                if task.acked == "lazy":
                    task.acked = "sure"
                if task.exact:
                    task.kept = task.count
                task.due_kept = task.due

    # Clients --------------------------------------------------------------------------------------------------------

    def listen(self, peer: Peer) -> Ear:
        ear = self.ears[peer] = Ear(peer)
        peer.hear = lambda line, _: self.hear(ear, line)
        return ear

    def rid(self) -> int:
        self._rids += 1
        return self._rids

    def publish(self, peer: Peer, line: Line) -> None:
        self.published[line["id"]] = line
        peer.send({"op": "pub", **line})

    def join(self, ear: Ear, desk: Desk, ack_wait: float, max_unacked: int) -> None:
        terms, rid = desk.terms, self.rid()
        ear.joining.add(desk)

        def answered(line: Line) -> None:
            ear.joining.discard(desk)
            if line["op"] == "err":
                assert line["code"] == "read_only", line
                return
            if desk.start is None:
                desk.start = line["next"] - 1 if line["next"] else 0
            member = Member(ear, desk, ack_wait, max_unacked)
            ear.members.append(member)
            desk.members.append(member)

        ear.asked[rid] = answered
        ear.peer.request(
            "sub",
            topic=terms.topic,
            consumer=terms.name,
            from_=terms.start,
            exclusive=terms.exclusive,
            ordered=terms.ordered,
            max_deliver=terms.max_deliver,
            backoff=terms.backoff,
            ack_wait=ack_wait,
            max_unacked=max_unacked,
            rid=rid,
        )

    def part(self, member: Member, *, drain: bool) -> None:
        """A member leaves, now or when it has finished what it has."""
        ear, terms = member.ear, member.desk.terms
        line = {"op": "unsub", "topic": terms.topic, "consumer": terms.name, "drain": drain, "rid": "unsub"}

        def now() -> None:
            self._ask(ear, line)
            if drain:
                member.draining = True
                self._drained(member)
            else:
                self._gone(member)

        self.site.loop.do(now)

    def lose(self, ear: Ear) -> None:
        """A connection is lost."""

        def now() -> None:
            ear.peer.close(1006, "lost")
            del self.ears[ear.peer]
            for member in list(ear.members):
                self._gone(member)

        self.site.loop.do(now)

    def _ask(self, ear: Ear, line: Line) -> list[Line]:
        """Let the broker have a line, and return what it answers in the same breath."""
        answers: list[Line] = []
        ear.answers = answers
        try:
            ear.peer.intake.text(json.dumps(line).encode())
        finally:
            ear.answers = None
        return answers

    def _gone(self, member: Member) -> None:
        for task in list(member.leases):
            self._fail(task, dropped=True)
        self._forget(member)

    def _drained(self, member: Member) -> None:
        if member.draining and not member.leases:
            self._forget(member)

    def _forget(self, member: Member) -> None:
        if member in member.desk.members:
            member.desk.members.remove(member)
            member.ear.members.remove(member)

    # Settling -------------------------------------------------------------------------------------------------------

    def settle(self, ear: Ear, task: Task, op: str, attempt: int | None, *, confirmed: bool, **fields: Any) -> None:
        """Ack, nack, extend or term one message, and see that the answer is the right one."""
        line = {"op": op, "topic": task.topic, "consumer": task.desk.terms.name, "seq": task.seq, **fields}
        if attempt is not None:
            line["attempt"] = attempt
        if confirmed:
            line["rid"] = self.rid()

        def now() -> None:
            self._at_work(ear, task.desk)
            allowed = self._allowed(ear, task, op, attempt)
            if confirmed and op == "ack":
                ear.asked[line["rid"]] = lambda answer: self._confirmed([task], answer)
            answers = self._ask(ear, line)
            if self.site.disk.dead:
                self._apply(ear, task, line)
                return
            errors = [answer for answer in answers if answer["op"] == "err"]
            code = errors[0]["code"] if errors else "ok"
            if code == "read_only" and op == "ack":
                assert self.site.shard.log.failed is not None
                code = "ok"
            elif confirmed and (op != "ack" or errors):
                assert len(answers) == 1, (line, answers)
                ear.asked.pop(line["rid"], None)
                assert answers[0]["rid"] == line["rid"], answers
            else:
                assert len(answers) == len(errors) <= 1, (line, answers)
            if code == "conflict":
                said = errors[0]
                expected = (task.topic, task.desk.terms.name, task.seq)
                assert (said["topic"], said["consumer"], said["seq"]) == expected, said
            assert code in allowed, (line, code, allowed, task)
            if code == "ok":
                self._apply(ear, task, line)

        self.site.loop.do(now)

    def ack_many(self, ear: Ear, tasks: list[Task]) -> None:
        """Ack several of one's own messages of one topic at once, confirmed."""
        desk, topic = tasks[0].desk, tasks[0].topic
        rid = self.rid()
        line = {"op": "ack", "topic": topic, "consumer": desk.terms.name, "seqs": [t.seq for t in tasks], "rid": rid}

        def now() -> None:
            self._at_work(ear, desk)
            ear.asked[rid] = lambda answer: self._confirmed(tasks, answer)
            errors = [answer for answer in self._ask(ear, line) if answer.get("code") == "conflict"]
            assert not errors, errors
            for task in tasks:
                self._apply(ear, task, {"op": "ack", "attempt": None})

        self.site.loop.do(now)

    def ack_upto(self, ear: Ear, desk: Desk, topic: str, upto: int) -> None:
        """Ack all that a connection has up to a seq."""
        line = {"op": "ack", "topic": topic, "consumer": desk.terms.name, "upto": upto}

        def now() -> None:
            self._at_work(ear, desk)
            answers = self._ask(ear, line)
            assert not answers, answers
            for task in list(desk.tasks.values()):
                own = task.lease is not None and task.lease.member.ear is ear
                if own and task.topic == topic and task.seq <= upto:
                    self._apply(ear, task, {"op": "ack", "attempt": None})

        self.site.loop.do(now)

    def _at_work(self, ear: Ear, desk: Desk) -> None:
        """Who settles, or tries to, is overdue no more."""
        member = ear.member_of(desk)
        if member is not None:
            member.overdue = False

    def _confirmed(self, tasks: list[Task], answer: Line) -> None:
        if answer["op"] == "ok":
            for task in tasks:
                assert task.acked, task
                task.acked = "sure"

    def _allowed(self, ear: Ear, task: Task, op: str, attempt: int | None) -> set[str]:
        if not 1 <= task.seq <= self.head(task.topic):
            return {"bad_request"}
        lease = task.lease
        if lease is not None:
            own = lease.member.ear is ear and attempt in (None, lease.attempt)
            return {"ok"} if own else {"conflict"}
        if op != "ack":
            return {"conflict"}
        if task.acked in ("lazy", "sure"):
            own = task.acker is not None and task.acker[0] is ear.peer and attempt in (None, task.acker[1])
            return {"ok"} if own else {"ok", "conflict"}
        if task.acked or task.given_up or task.lost or self._mortal(task):
            return {"ok", "conflict"}
        if task.seq > self.inherited[task.topic] and not task.count:  # nobody had it, or gave it back
            return {"ok", "conflict"} if task.given else {"conflict"}
        if attempt is None or attempt >= task.count:
            return {"ok"}
        return {"conflict"} if task.exact or attempt < task.kept else {"ok", "conflict"}

    def _apply(self, ear: Ear, task: Task, line: Line) -> None:
        """What was asked for has been done."""
        lease = task.lease
        match line["op"]:
            case "ack":
                if task.acked not in ("lazy", "sure"):
                    task.acker = (ear.peer, lease.attempt if lease is not None else None)
                    task.acked = "lazy"
                self._end(task)
            case "extend":
                if lease is not None:
                    lease.deadline = self.now + lease.member.ack_wait
            case "term":
                if lease is not None:
                    task.count = lease.attempt
                self._give_up(task)
            case "nack" if line.get("returned"):
                self._end(task)
            case "nack":
                self._fail(task, delay=line.get("delay"))

    def _fail(self, task: Task, *, delay: float | None = None, dropped: bool = False) -> None:
        lease = task.lease
        if lease is None:
            return  # the power went before
        task.count = lease.attempt
        limit = task.desk.terms.max_deliver
        if limit and lease.attempt >= limit:
            self._give_up(task)
            return
        if delay is not None and not dropped:
            task.due = self.site.now + delay
        self._end(task)

    def _give_up(self, task: Task) -> None:
        task.dying = task.given_up = True
        self._end(task)

    def _end(self, task: Task) -> None:
        lease, task.lease = task.lease, None
        if lease is not None:
            del lease.member.leases[task]
            self._drained(lease.member)

    def time_passed(self) -> None:
        """Leases whose time has run out are over."""
        for desk in self.desks:
            for task in desk.tasks.values():
                lease = task.lease
                if lease is not None and lease.deadline <= self.now:
                    self._fail(task)
                    desk.demote(lease.member, self.now)

    # Hearing --------------------------------------------------------------------------------------------------------

    def hear(self, ear: Ear, line: Line) -> None:
        """One line to a client."""
        match line["op"]:
            case "msg":
                self.heard += 1
                self._given(ear, line)
            case "gap":
                assert line["reason"] == "retention", line
                for member in ear.members:
                    if member.desk.covers(line["topic"]):
                        self._gap(member.desk, line)
            case "live" | "welcome":
                pass
            case "ok" | "err" if line.get("rid") in ear.asked:
                ear.asked.pop(line["rid"])(line)
                if ear.answers is not None:
                    ear.answers.append(line)
            case "ok" if "id" in line:
                pass
            case "err" if "id" in line:
                assert line["code"] in ("read_only", "overloaded"), line
            case op:
                assert ear.answers is not None, (op, line)
                ear.answers.append(line)

    def _gap(self, desk: Desk, line: Line) -> None:
        """Which consumer it is about is not said: another one may have them ahead, and deliver them yet."""
        assert line["last"] < self.first(line["topic"]) or line["last"] == line["first"], line
        for seq in range(line["first"], line["last"] + 1):
            task = desk.task(line["topic"], seq)
            if task.lease is None and seq < self.first(line["topic"]):
                task.lost = True

    def _given(self, ear: Ear, line: Line) -> None:
        topic = line["topic"]
        desk = next(each for each in self.desks if each.terms.name == line["consumer"] and each.covers(topic))
        member = ear.member_of(desk)
        assert member is not None, f"{ear.peer.agent} is no member: {line}"
        published = self.published[line["id"]]
        assert line.get("payload", line.get("data")) == published.get("payload", published.get("data")), line
        if "ttl" in published:
            assert line["ts"] + published["ttl"] > self.site.now, f"expired: {line}"
        if desk.terms.exclusive:
            assert member in desk.firsts, f"not the one whose turn it is: {line}"
        if line.get("ephemeral"):
            assert (desk, line["id"]) not in self.signals, f"twice: {line}"
            self.signals.add((desk, line["id"]))
            return
        seq = line["seq"]
        known = self.stored[topic].get(seq)
        assert known is None or known["id"] == line["id"], (known, line)
        task = desk.task(topic, seq)
        self._check_given(task, member, line)
        attempt = line.get("attempt", 1)
        task.acked = ""
        task.acker = None
        task.lost = False
        task.count = attempt - 1
        task.exact = True
        task.lease = member.leases[task] = Lease(member, attempt, self.now + member.ack_wait)
        task.given = True
        task.due = 0.0

    def _check_given(self, task: Task, member: Member, line: Line) -> None:
        desk = task.desk
        assert desk.start is not None
        assert task.seq > desk.start, f"from before its start: {line}"
        assert task.lease is None, f"two leases: {line}, {task.lease}"
        assert task.acked not in ("lazy", "sure"), f"acked ({task.acked}): {line}"
        assert not task.dying, f"given up: {line}"
        assert task.due <= self.site.now, f"too early: {line}"
        attempt = line.get("attempt", 1)
        fewest = task.count if task.exact else min(task.kept, task.count)
        assert fewest + 1 <= attempt <= task.count + 1, (task, line)
        assert not desk.terms.max_deliver or attempt <= desk.terms.max_deliver, line
        assert len(member.leases) < member.max_unacked, f"more than max_unacked: {line}"
        header = desk.terms.ordered
        key = task.topic if header == "*" else line.get("headers", {}).get(header) if header else None
        task.key = key
        if not task.given and (key is not None or not desk.terms.ordered):
            whose = (task.topic, key, None if key is not None or desk.terms.exclusive else member)
            newest = desk.newest.get(whose, 0)
            assert newest < task.seq, f"after {newest}: {line}"
            desk.newest[whose] = task.seq
        others = [each for each in desk.tasks.values() if each.topic == task.topic and each is not task]
        if key is not None:
            for other in others:
                if other.key == key and other.given:
                    assert other.lease is None, f"two of a key at once: {other.seq}, {line}"
                    assert other.seq > task.seq or other.settled, f"before {other.seq}: {line}"
        unsettled = sum(each.given and not each.settled and not each.dying for each in others)
        assert unsettled < self.window, f"more than consumer_window: {line}"

    def _witness(self, line: Line, _: bytes) -> None:
        if line["op"] != "msg" or "seq" not in line:
            return
        topic, seq = line["topic"], line["seq"]
        known = self.stored[topic].setdefault(seq, line)
        assert known["id"] == line["id"], (known, line)
        if topic == LETTERS and known is line:
            self._letter(line)

    def _letter(self, line: Line) -> None:
        about = line["headers"]["dead"]
        original = self.published[about["original"]["id"]]
        for name in ("data", "payload"):
            assert line.get(name) == original.get(name), (line, original)
        assert line["type"] == "dead_letter"
        desk = next(
            each
            for each in self.desks
            if (each.terms.topic, each.terms.name) == (about["consumer_topic"], about["consumer"])
        )
        task = desk.task(about["topic"], about["seq"])
        assert task.letter is None, f"a second letter: {line}"
        assert task.given_up or self._mortal(task), f"nobody gave it up: {line}"
        task.letter = line["seq"]
        self.heard += 1

    def _mortal(self, task: Task) -> bool:
        """Whether the message has a time to live that may be over."""
        line = self.stored[task.topic].get(task.seq)
        return line is None or "ttl" in self.published[line["id"]]

    # Judgement ------------------------------------------------------------------------------------------------------

    def unsettled(self) -> Iterator[Task]:
        """What is still to come, of every consumer that somebody was told there is."""
        for desk in self.desks:
            if desk.start is not None:
                for topic in self.topics:
                    if desk.covers(topic):
                        for seq in range(max(desk.start + 1, self.first(topic)), self.head(topic) + 1):
                            task = desk.task(topic, seq)
                            if not task.settled:
                                yield task
