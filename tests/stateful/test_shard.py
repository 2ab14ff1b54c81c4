"""A whole shard, on its real log and a faulty disk, tried against a model by random steps.

Promises: what was answered `ok` is there once, with its seq, whatever crashes; nobody is sent a durable message that a
power cut could still take back; every reader gets every message once, in one order that is the same for all, ephemeral
ones in their place, without a hole that no gap tells of; publishers' counts are kept; every publish gets one answer.

`harness.shard_model` says what exactly, and objects at the step at which a promise is broken.
"""

import errno
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from harness.disk import PowerCut
from harness.shard_model import Ear, World
from harness.shard_site import Line, ShardSite
from hubbub_broker.log import LogSettings
from hubbub_protocol.names import matcher

TOPICS = ["g/a", "g/b", "g/deep/c", "quick/q"]
NAMES = [*TOPICS, "g/*", "g/**", "**", "*/a", "quick/*"]
IDS = [f"i{number}" for number in range(12)]
AGENTS = [("joe", None), ("joe", "life"), ("ann", "life"), ("eve", None)]
POLICY = [{"pattern": "quick/*", "durable": False}]
HOLD_SECONDS = 2.0
LOG = LogSettings(segment_bytes=6000, min_free_bytes=1)
CALM_ROUNDS = 20

which = st.integers(0, 1000)
starts = st.one_of(
    st.just("new"),
    st.just("all"),
    st.integers(1, 9).map(lambda seq: {"seq": seq}),
    st.just({"seq": 3, "epoch": "another"}),
    st.integers(0, 5).map(lambda last: {"last": last}),
    st.integers(0, 20).map(lambda seconds: {"since": 1_000_000.0 + seconds}),
)
numbering = st.sampled_from(["none", "none", "next", "next", "next", "skip", "first"])
drafts = st.fixed_dictionaries(
    {
        "topic": st.sampled_from(TOPICS),
        "id": st.sampled_from(IDS),
        "n": numbering,
        "size": st.sampled_from([0, 0, 10, 300, 2000]),
        "binary": st.booleans(),
    },
    optional={
        "parent": st.sampled_from(IDS),
        "ephemeral": st.just(True),
        "ttl": st.sampled_from([0.5, 5.0]),
        "lc": st.integers(0, 40),
    },
)


class ShardMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.site: ShardSite
        self.failed = False
        self.contents = 0

    @initialize(
        seed=st.integers(0, 2**32),
        memory=st.sampled_from([1, 100_000]),
        first=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(NAMES)), max_size=3),
    )
    def start(self, seed: int, memory: int, first: list[tuple[int, str]]) -> None:
        self.site = ShardSite(
            self.root,
            seed=seed,
            log=LOG,
            pending_soft=4096,
            pending_hard=8192,
            hold_seconds=HOLD_SECONDS,
            hold_messages=3,
            topics_in_memory=memory,
            policy=POLICY,
        )
        self.world = World(self.site)
        self.begin()
        for who, name in first:
            self.subscribe(who, name, "new")

    def begin(self) -> None:
        """The broker runs, and its clients are there."""
        self.failed = False
        self.world.start()
        for who in AGENTS[:3]:
            self.world.listen(self.site.connect(*who))
        self.site.raise_uncaught()

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.come_to_rest()
                self.crash()
                self.come_to_rest()
        finally:
            if hasattr(self, "site"):
                self.site.close()
            shutil.rmtree(self.root, ignore_errors=True)

    # Clients --------------------------------------------------------------------------------------------------------

    @property
    def ears(self) -> list[Ear]:
        """The clients that may misbehave: all but the witness."""
        return [ear for ear in self.world.ears.values() if ear is not self.world.witness]

    @property
    def readable(self) -> list[Ear]:
        """Those that the broker reads from now."""
        return [ear for ear in self.ears if ear.peer.reading]

    def pick(self, number: int) -> Ear:
        return self.ears[number % len(self.ears)]

    def guarded(self, work: Callable[[], Any]) -> None:
        """Do something during which the power may go."""
        try:
            work()
        except PowerCut:
            assert self.site.disk.dead
        if self.site.disk.dead:
            self.crash()
            return
        self.site.raise_uncaught()
        for ear in [ear for ear in self.world.ears.values() if ear.peer.close_code is not None]:
            assert ear.peer.close_code == 4509
            del self.world.ears[ear.peer]
        failed = self.site.shard.log.failed is not None
        if failed and not self.failed:
            self.world.storage_failed()
        self.failed = failed

    @rule(what=st.sampled_from(["come", "come", "go"]), agent=st.sampled_from(AGENTS), who=which)
    def come_and_go(self, what: str, agent: tuple[str, str | None], who: int) -> None:
        if what == "come" and len(self.ears) < 4:
            self.guarded(lambda: self.world.listen(self.site.connect(*agent)))
        elif what == "go" and self.ears:
            self.guarded(lambda: self.world.leave(self.pick(who)))

    @rule(who=which, batch=st.lists(drafts, min_size=1, max_size=5))
    def publish(self, who: int, batch: list[dict[str, Any]]) -> None:
        ready = self.readable
        if not ready:
            return
        peer = ready[who % len(ready)].peer
        counts: dict[str, int] = {}
        lines = [self.line_of(peer, draft, counts) for draft in batch]
        frames = [[line] for line in lines if "payload" in line]
        frames.append([line for line in lines if "payload" not in line])
        for frame in frames:
            if frame and peer in self.world.ears and peer.reading:
                self.guarded(lambda frame=frame: self.world.publish(peer, *frame))  # type: ignore[misc]

    publish_more = rule(who=which, batch=st.lists(drafts, min_size=1, max_size=5))(
        lambda self, who, batch: self.publish(who, batch)
    )

    def line_of(self, peer: Any, draft: dict[str, Any], counts: dict[str, int]) -> Line:
        self.contents += 1
        line: Line = {
            name: draft[name] for name in ("topic", "id", "parent", "ephemeral", "ttl", "lc") if name in draft
        }
        topic = draft["topic"]
        if line.get("ephemeral") or topic.startswith("quick/"):
            line.pop("ttl", None)
        elif draft["n"] != "none" and "ttl" not in line:
            next = counts.get(topic, self.world.next_n(peer, topic))
            line["n"] = {"next": next, "skip": next + 1, "first": 1}[draft["n"]]
            counts[topic] = line["n"] + 1
        body = f"{self.contents} " + "x" * draft["size"]
        if draft["binary"]:
            line["payload"] = body.encode()
        else:
            line["data"] = body
        return line

    @rule(who=which, what=which)
    def repeat(self, who: int, what: int) -> None:
        """Send something again, as a client does that has no answer."""
        ready = [ear.peer for ear in self.readable]
        if ready:
            peer = ready[who % len(ready)]
            own = [p for p in self.world.publishes.values() if (p.peer.agent, p.peer.life) == (peer.agent, peer.life)]
            if own:
                line = {name: value for name, value in own[what % len(own)].line.items() if name not in ("op", "rid")}
                self.guarded(lambda: self.world.publish(peer, line))

    @rule(who=which, name=st.sampled_from(NAMES), start=starts)
    def subscribe(self, who: int, name: str, start: Any) -> None:
        ready = self.readable
        if not ready:
            return
        ear = ready[who % len(ready)]
        if name in ear.names or ("*" in name and any(overlap(name, other) for other in ear.names)):
            return  # which of two patterns brings a topic's past is not promised
        if "*" in name and isinstance(start, dict):
            start = {key: value for key, value in start.items() if key != "epoch"}  # topics have one, patterns none
        self.guarded(lambda: self.world.subscribe(ear, name, start))

    @rule(who=which, what=which)
    def unsubscribe(self, who: int, what: int) -> None:
        ready = [ear for ear in self.readable if ear.names]
        if ready:
            ear = ready[who % len(ready)]
            name = sorted(ear.names)[what % len(ear.names)]
            self.guarded(lambda: self.world.unsubscribe(ear, name))

    @rule(who=which, room=st.sampled_from([None, 0, 0, 300, 3000]))
    def read_or_not(self, who: int, room: int | None) -> None:
        """A reader reads again (None), or its socket takes so many bytes more."""
        if self.ears:
            peer = self.pick(who).peer
            self.guarded(peer.drain if room is None else lambda: peer.fill(room))

    # Time -----------------------------------------------------------------------------------------------------------

    @rule(how=st.sampled_from(["turn", "turn", "sync", "settle", 0.1, 1.0, 3.0, 61.0]))
    def go_on(self, how: str | float) -> None:
        """One turn of the loop; the end of one sync; everything that is under way; or time."""
        if isinstance(how, float):
            self.guarded(lambda: self.site.tick(how))
        else:
            self.guarded({"turn": self.site.loop.turn, "sync": self.site.sync, "settle": self.site.settle}[how])

    go_on_more = rule(how=st.sampled_from(["turn", "turn", "sync", "settle"]))(lambda self, how: self.go_on(how))

    # Faults ---------------------------------------------------------------------------------------------------------

    @rule(fault=st.sampled_from(["full", "full", "short", "sync", "write", "truncate"]))
    def break_disk(self, fault: str) -> None:
        disk = self.site.disk
        if fault == "short":
            disk.write_short(30)
        elif fault == "full":
            disk.fail("write", errno.ENOSPC)
        elif fault == "truncate":
            disk.fail("write", errno.ENOSPC)
            disk.fail("truncate", errno.EIO)
        else:
            disk.fail(fault, errno.EIO)

    @rule(how=st.sampled_from(["cut", "cut soon", "stop"]), calls=st.integers(0, 12))
    def end(self, how: str, calls: int) -> None:
        """The power goes, now or at one of the next calls that change a file; or a clean stop."""
        if how == "cut":
            self.crash()
        elif how == "cut soon":
            self.site.disk.cut_after = calls
        else:
            self.stop()

    def stop(self) -> None:
        """Everyone who is owed an answer gets it."""
        self.site.disk.heal()
        self.site.loop.do(self.site.shard.sequencer.release_all)
        self.guarded(self.site.settle)
        self.all_drain()
        self.site.raise_uncaught()
        assert self.world.unanswered() == []
        self.site.stop()
        self.site.reopen()
        self.begin()

    def crash(self) -> None:
        self.site.crash()
        if self.site.disk.random.random() < 0.3:  # it is derived: nothing depends on it
            for path in self.root.glob("000/catalogue.db*"):
                path.unlink()
        self.site.reopen()
        self.begin()

    # Rest -----------------------------------------------------------------------------------------------------------

    @rule()
    def come_to_rest(self) -> None:
        """The disk is mended, every reader reads, and time passes until nothing is left to do."""
        site = self.site
        site.disk.heal()
        for _ in range(CALM_ROUNDS):
            self.guarded(site.settle)
            self.all_drain()
            self.guarded(lambda: site.tick(1.0))
            if not (site.loop.busy or site.syncer.waiting or site.shard.sequencer.holding):
                break
        self.world.check_at_rest()

    def all_drain(self) -> None:
        for ear in list(self.world.ears.values()):
            self.guarded(ear.peer.drain)
        self.guarded(self.site.settle)


def overlap(one: str, other: str) -> bool:
    return any(matcher(one)(topic) and matcher(other)(topic) for topic in TOPICS)


TestShardMachine = ShardMachine.TestCase
TestShardMachine.settings = settings(max_examples=60, stateful_step_count=40)
TestShardMachine = pytest.mark.timeout(300)(TestShardMachine)
