"""The steps that consumers are tried with: what members do, what time does, and what goes wrong.

Whoever chooses the steps (a search that shrinks what it finds, or a long walk from a seed) is somebody else.
"""

from __future__ import annotations

import errno
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hubbub_broker.log import LogError, LogSettings, Retention

from .consumer_model import Desk, Ear, Member, Office, Task, Terms
from .disk import PowerCut
from .shard_site import Line, ShardSite

TOPICS = ["g/a", "g/b", "g/deep/c"]
CONSUMERS = [
    Terms("g/a", "shared"),
    Terms("g/*", "pattern", backoff=(0.0, 2.0)),
    Terms("g/a", "one", exclusive=True),
    Terms("g/a", "keys", ordered="key"),
    Terms("g/**", "all-keys", ordered="key", max_deliver=3),
    Terms("g/*", "rows", ordered="*"),
    Terms("g/b", "poison", max_deliver=2, backoff=()),
    Terms("g/b", "late", start="new", max_deliver=1),
]
AGENTS = ["joe", "ann", "eve"]
OPS = ["ack", "ack", "ack", "nack", "return", "extend", "term"]
WINDOW = 6
EARS_MAX = 5
CALM_ROUNDS = 400
IDLE_ROUNDS = 30
"""Seconds without any progress after which what is not settled is taken to be stuck: longer than any wait here."""

FAULTS = ["full", "full", "short", "sync", "write", "truncate", "read"]
WAYS_ON: list[str | float] = ["turn", "turn", "turn", "sync", "sync", "settle", "settle", 0.1, 1.0, 3.0, 61.0]
ENDS = ["cut", "cut soon", "stop"]


class ConsumerSteps:
    """A shard, the members of its consumers, and the model that listens."""

    def __init__(self, seed: int, *, topics_in_memory: int = 1, segment_bytes: int = 6000) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.site = ShardSite(
            self.root,
            seed=seed,
            log=LogSettings(segment_bytes=segment_bytes, min_free_bytes=1),
            topics_in_memory=topics_in_memory,
            consumer_window=WINDOW,
            dedup_window=86_400,
        )
        self.site.disk.warms = True
        self.source = random.Random(seed)
        """For what does not matter to a search: which answers are asked for when all are to come to rest."""
        self.office = Office(self.site, CONSUMERS, TOPICS, WINDOW)
        random.seed(seed)  # the broker's jitter
        self._contents = 0
        self._begin()

    def _begin(self) -> None:
        self.office.start()
        for agent in AGENTS:
            self.office.listen(self.site.connect(agent))
        self.site.raise_uncaught()

    def finish(self) -> None:
        """The last step: all come to rest, the power goes, and nothing that was settled comes again."""
        try:
            self.come_to_rest()
            self._crash()
            self.come_to_rest()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of everything, whatever state it is in."""
        self.site.close()
        shutil.rmtree(self.root, ignore_errors=True)

    # Clients --------------------------------------------------------------------------------------------------------

    @property
    def _ears(self) -> list[Ear]:
        return list(self.office.ears.values())

    @property
    def _readable(self) -> list[Ear]:
        return [ear for ear in self._ears if ear.peer.reading]

    def come(self, agent: str) -> None:
        """A client connects."""
        if len(self._ears) < EARS_MAX:
            self._guarded(lambda: self.office.listen(self.site.connect(agent)))

    def go(self, who: int) -> None:
        """A connection is lost."""
        if self._ears:
            self._guarded(lambda: self.office.lose(self._ears[who % len(self._ears)]))

    def publish(self, who: int, drafts: list[dict[str, Any]]) -> None:
        """A client publishes some messages."""
        for draft in drafts:
            ears = self._readable
            if ears:
                line = self._line_of(draft)
                self._guarded(lambda ears=ears, line=line: self.office.publish(ears[who % len(ears)].peer, line))  # type: ignore[misc]

    def _line_of(self, draft: dict[str, Any]) -> Line:
        self._contents += 1
        line: Line = {"topic": draft["topic"], "id": f"m{self._contents}"}
        if draft.get("key") is not None:
            line["headers"] = {"key": draft["key"]}
        body = f"{self._contents} " + "x" * draft["size"]
        if draft["binary"]:
            line["payload"] = body.encode()
        else:
            line["data"] = body
        match draft["kind"]:
            case "ephemeral":
                line["ephemeral"] = True
            case float():
                line["ttl"] = draft["kind"]
        return line

    def join(self, who: int, what: int, ack_wait: float, max_unacked: int) -> None:
        """A client becomes a member."""
        ears = self._readable
        if ears:
            ear, desk = ears[who % len(ears)], self.office.desks[what % len(self.office.desks)]
            if ear.member_of(desk) is None and desk not in ear.joining:
                self._guarded(lambda: self.office.join(ear, desk, ack_wait, max_unacked))

    def part(self, what: int, *, drain: bool) -> None:
        """A member leaves, or finishes what it has and then leaves."""
        members = [m for desk in self.office.desks for m in desk.active if m.ear.peer.reading]
        if members:
            self._guarded(lambda: self.office.part(members[what % len(members)], drain=drain))

    def settle(self, what: int, op: str, shift: int, *, confirmed: bool, delay: float | None) -> None:
        """A member settles something that it has. `shift` makes its attempt a wrong one; None names none."""
        leases = [(m, t) for ear in self._readable for m in ear.members for t in m.leases]
        if leases:
            member, task = leases[what % len(leases)]
            lease = member.leases[task]
            attempt = {0: None, 1: lease.attempt, 2: lease.attempt - 1, 3: lease.attempt + 1}[shift]
            self._settle(member.ear, task, op, attempt, confirmed=confirmed, delay=delay)

    def settle_anything(self, who: int, what: int, op: str, attempt: int | None, *, confirmed: bool) -> None:
        """A client settles a message that may be somebody else's, or long settled."""
        ears = self._readable
        desks = [desk for desk in self.office.desks if desk.start is not None]
        if not (ears and desks):
            return
        desk = desks[what % len(desks)]
        topics = [topic for topic in TOPICS if desk.covers(topic)]
        topic = topics[what % len(topics)]
        seq = what % (self.office.head(topic) + 2)
        if seq > (desk.start or 0) or seq == 0:
            task = desk.tasks.get((topic, seq)) or Task(desk, topic, seq)
            if 1 <= seq <= self.office.head(topic):
                desk.tasks[topic, seq] = task
            self._settle(ears[who % len(ears)], task, op, attempt, confirmed=confirmed, delay=None)

    def _settle(
        self, ear: Ear, task: Task, op: str, attempt: int | None, *, confirmed: bool, delay: float | None
    ) -> None:
        fields: dict[str, Any] = {}
        if op == "return":
            op, fields = "nack", {"returned": True}
        elif op == "nack" and delay is not None:
            fields = {"delay": delay}
        self._guarded(lambda: self.office.settle(ear, task, op, attempt, confirmed=confirmed, **fields))

    def ack_several(self, what: int, *, upto: bool) -> None:
        """A member acks several messages in one request."""
        members = [m for ear in self._readable for m in ear.members if m.leases]
        if members:
            self._ack_several(members[what % len(members)], what, upto=upto)

    def _ack_several(self, member: Member, what: int, *, upto: bool) -> None:
        topic = list(member.leases)[what % len(member.leases)].topic
        tasks = [task for task in member.leases if task.topic == topic]
        if upto:
            last = tasks[what % len(tasks)].seq
            self._guarded(lambda: self.office.ack_upto(member.ear, member.desk, topic, last))
        else:
            self._guarded(lambda: self.office.ack_many(member.ear, tasks))

    def read_or_not(self, who: int, room: int | None) -> None:
        """A reader reads again (None), or its socket takes so many bytes more and is full then."""
        if self._ears:
            peer = self._ears[who % len(self._ears)].peer
            self._guarded(peer.drain if room is None else lambda: peer.fill(room))

    # Time -----------------------------------------------------------------------------------------------------------

    def go_on(self, how: str | float) -> None:
        """One turn of the loop; the end of one sync; everything that is under way; or so many seconds."""
        if isinstance(how, float):
            self._guarded(lambda: self._tick(how))
        else:
            self._guarded({"turn": self.site.loop.turn, "sync": self.site.sync, "settle": self.site.settle}[how])

    def _tick(self, seconds: float) -> None:
        self.site.tick(seconds)
        self.office.time_passed()

    def rest_a_while(self) -> None:
        """Nothing is broken, and time passes: after that every position is on stable storage."""
        self.site.disk.heal()
        for _ in range(3):
            self._guarded(lambda: self._tick(1.0))
            self._guarded(self.site.settle)
        if self.site.shard.log.failed is None:
            self.office.written()

    # Faults ---------------------------------------------------------------------------------------------------------

    def break_disk(self, fault: str) -> None:
        """The disk will fail, once."""
        disk = self.site.disk
        if fault == "short":
            disk.write_short(30)
        elif fault == "full":
            disk.fail("write", errno.ENOSPC)
        elif fault == "truncate":
            disk.fail("write", errno.ENOSPC)
            disk.fail("truncate", errno.EIO)
        elif fault == "read":
            disk.fail("read_cached", errno.EIO)
        else:
            disk.fail(fault, errno.EIO)

    def cool(self) -> None:
        """The page cache forgets everything: the next read has to wait for the disk."""
        self.site.disk.cached = False

    def retain(self, count: int) -> None:
        """Retention drops old segments, as far as they hold nothing but tasks."""

        async def run() -> None:
            policy = {topic: Retention(max_count=count) for topic in TOPICS}
            try:
                await self.site.shard.log.enforce_retention(lambda topic: policy.get(topic, Retention()), self.site.now)
            except (LogError, OSError):
                assert self.site.shard.log.failed is not None or self.site.disk.calls

        def work() -> None:
            task = self.site.loop.create_task(run())
            self.site.settle()
            assert task.done() or self.site.disk.dead

        self._guarded(work)

    def end(self, how: str, calls: int) -> None:
        """The power goes, now or at one of the next calls that change a file; or a clean stop."""
        if how == "cut":
            self._crash()
        elif how == "cut soon":
            self.site.disk.cut_after = calls
        else:
            self.site.disk.heal()
            self._guarded(self._stop)

    def _stop(self) -> None:
        self.site.stop()
        if self.site.shard.log.failed is None:
            self.office.written()
        self.office.ended()
        self.site.reopen()
        self._begin()

    def _crash(self) -> None:
        self.site.crash()
        self.office.ended()
        if self.site.disk.random.random() < 0.3:  # it is derived: nothing depends on it
            for path in self.root.glob("000/catalogue.db*"):
                path.unlink()
        self.site.reopen()
        self._begin()

    def _guarded(self, work: Callable[[], Any]) -> None:
        """Do something during which the power may go, and look what came of it."""
        try:
            work()
        except PowerCut:
            assert self.site.disk.dead
        if self.site.disk.dead:
            self.site.disk.heal()
            self._crash()
            return
        self.site.raise_uncaught()

    # Rest -----------------------------------------------------------------------------------------------------------

    def come_to_rest(self) -> None:
        """Nothing is broken, every consumer has a member, and every member does its work: then all gets settled."""
        site, office = self.site, self.office
        site.disk.heal()
        self.rest_a_while()
        if site.shard.log.failed is not None:  # a sync failed: only a new start helps
            self._crash()
        for desk in office.desks:
            if desk.start is not None and not desk.active:
                ear = office.listen(site.connect("finisher"))
                self._guarded(lambda ear=ear, desk=desk: office.join(ear, desk, 60.0, 2))  # type: ignore[misc]
        idle, before = 0, -1
        for _ in range(CALM_ROUNDS):
            self._work()
            if not any(True for _ in office.unsettled()):
                break
            idle = 0 if office.heard != before else idle + 1
            before = office.heard
            assert idle < IDLE_ROUNDS, f"stuck: {list(office.unsettled())}"
            self._guarded(lambda: self._tick(1.0))
        else:
            raise AssertionError(f"not done: {list(office.unsettled())}")
        self.rest_a_while()

    def _work(self) -> None:
        """Every client reads, and acks what it has."""
        self._guarded(self.site.settle)
        for ear in self._ears:
            self._guarded(ear.peer.drain)
        self._guarded(self.site.settle)
        for ear in self._ears:
            for member in list(ear.members):
                while member.leases:
                    if self.source.random() < 0.5:
                        self._ack_several(member, self.source.randrange(100), upto=self.source.random() < 0.3)
                    else:
                        task = next(iter(member.leases))
                        self._settle(ear, task, "ack", None, confirmed=self.source.random() < 0.5, delay=None)
        self._guarded(self.site.settle)


def desk_named(office: Office, name: str) -> Desk:
    """The consumer of that name."""
    return next(desk for desk in office.desks if desk.terms.name == name)
