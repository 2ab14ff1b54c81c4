"""The promises of a shard's log, tried against a dict by random steps, on a disk that fails and loses power."""

import asyncio
import errno
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from harness.disk import FaultyDisk, InlineSyncer, PowerCut
from harness.shard_log import append, commit, hash_of, open_log, read_all
from hubbub_broker.log import LogError, LogSettings, Retention, ShardLog, TopicLog, sealing

TOPICS = ["g/a", "g/b", "g/c/deep", "g/@inbox"]
SETTINGS = LogSettings(segment_bytes=1500, dedup_entries=1000, min_free_bytes=0)


@pytest.fixture(autouse=True)
def _no_clock_in_sealing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices are cut by time; here the same steps must lead to the same calls."""
    monkeypatch.setattr(sealing, "SLICE_SECONDS", float("inf"))


@dataclass
class Entry:
    """One record: a message (topic, line, …) or a state (key, body)."""

    topic: str
    line: bytes
    header_size: int = 0
    expires: float = 0.0
    writer: bytes = b""
    n: int = 0
    key: bytes = b""
    body: bytes = b""


@dataclass
class Model:
    """What must be there: confirmed records in order, then any prefix of `open` (or of `limbo`)."""

    confirmed: list[Entry] = field(default_factory=list)
    open: list[Entry] = field(default_factory=list)
    limbo: list[Entry] = field(default_factory=list)

    def topic(self, name: str, *, extra: int = 0) -> list[Entry]:
        return [e for e in [*self.confirmed, *self.open[:extra]] if e.topic == name]

    def states(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for entry in [*self.confirmed, *self.open]:
            if entry.key:
                found[entry.key] = entry.body
        return {key: body for key, body in found.items() if body}


class LogMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self.callback_raised)
        self.raised: BaseException | None = None
        self.root = Path(tempfile.mkdtemp())
        self.directory = self.root / "003"
        self.model = Model()
        self.now = 1000.0
        self.kept = 10**9
        self.floors: dict[str, int] = {}
        self.committing = 0
        self.results: list[LogError | None] = []

    @initialize(seed=st.integers(0, 2**32))
    def start(self, seed: int) -> None:
        self.random = Random(seed)
        self.disk = FaultyDisk(seed)
        self.syncer = InlineSyncer()
        self.log = self.opened()
        self.epoch = self.log.epoch

    def opened(self) -> ShardLog:
        return self.run(self.open_async())

    async def open_async(self) -> ShardLog:
        return open_log(self.directory, self.syncer, SETTINGS, self.disk, self.now)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it on the loop. What a callback of the loop raises stops it: a power cut may come there, too."""
        task = self.loop.create_task(coroutine)
        try:
            return self.loop.run_until_complete(task)
        except RuntimeError:
            task.cancel()
            with suppress(asyncio.CancelledError, PowerCut):
                self.loop.run_until_complete(task)
            raised, self.raised = self.raised, None
            if raised is None:
                raise
            raise raised from None

    def callback_raised(self, loop: asyncio.AbstractEventLoop, context: dict[str, BaseException]) -> None:
        self.raised = context.get("exception") or AssertionError(context["message"])
        loop.stop()

    def teardown(self) -> None:
        self.log._standings.close()
        self.disk.heal()
        self.loop.close()
        shutil.rmtree(self.root, ignore_errors=True)

    # Appending ------------------------------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(TOPICS),
        size=st.integers(0, 300),
        binary=st.booleans(),
        expires=st.sampled_from([0.0, 0.0, 5000.0]),
        tick=st.sampled_from([0.0, 0.5, 3.0]),
        writer=st.sampled_from([b"", b"w1", b"w2"]),
    )
    def append(self, name: str, size: int, binary: bool, expires: float, tick: float, writer: bytes) -> None:
        self.now += tick
        topic = self.log.topic(name)
        n = topic.writers.get(writer, 0) + 1 if writer else 0
        header_size = 10 if binary else 0
        try:
            line = append(
                self.log,
                name,
                self.random.randbytes(size),
                header_size=header_size,
                ts=self.now,
                expires=expires,
                writer=writer,
                n=n,
            )
        except LogError:
            assert self.log.failed is not None
            return
        assert self.log.failed is None
        self.model.open.append(Entry(name, line, header_size, expires, writer, n))

    @rule(key=st.sampled_from([b"k1", b"k2", b"k3"]), body=st.binary(max_size=40))
    def append_state(self, key: bytes, body: bytes) -> None:
        with suppress(LogError):
            self.log.append_state(7, key, body)
            self.model.open.append(Entry("", b"", key=key, body=body))

    @precondition(lambda self: not self.log.busy and not self.syncer.held)
    @rule(seed=st.integers(0, 2**32), count=st.integers(1, 12))
    def publish(self, seed: int, count: int) -> None:
        """What brokers do all day: some messages, a state, a commit. Segments fill up by it."""
        random = Random(seed)
        for _ in range(count):
            self.append(
                random.choice(TOPICS), random.randint(0, 200), False, 0.0, 1.0, random.choice([b"", b"w1", b"w2"])
            )
        self.append_state(random.choice([b"k1", b"k2", b"k3"]), random.randbytes(4))
        if self.log.pending_bytes:
            self.guarded(self.commit_async())

    # Committing -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.log.pending_bytes and not self.log.busy and not self.syncer.held)
    @rule()
    def commit(self) -> None:
        self.guarded(self.commit_async())

    async def commit_async(self) -> None:
        try:
            await commit(self.log)
        except LogError:
            self.was_taken_back()
        else:
            self.was_confirmed(len(self.model.open))
        await self.log.settled()

    @precondition(lambda self: self.log.pending_bytes and not self.log.busy)
    @rule()
    def begin_commit(self) -> None:
        """The sync takes its time; more is appended meanwhile."""
        self.syncer.held = True
        self.committing = len(self.model.open)
        self.results = []

        async def begin() -> None:
            self.log.commit(self.results.append)
            await asyncio.sleep(0)

        self.guarded(begin())
        self.look_at_result()

    @precondition(lambda self: self.syncer.held)
    @rule()
    def end_commit(self) -> None:
        async def end() -> None:
            self.syncer.held = False
            self.syncer.release()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await self.log.settled()

        self.guarded(end())
        self.look_at_result()

    def look_at_result(self) -> None:
        if self.results:
            result = self.results.pop()
            if result is None:
                self.was_confirmed(self.committing)
            else:
                self.was_taken_back()
            self.syncer.held = False

    def was_confirmed(self, count: int) -> None:
        self.model.confirmed += self.model.open[:count]
        del self.model.open[:count]
        self.model.limbo = []

    def was_taken_back(self) -> None:
        assert self.log.failed is not None
        self.model.limbo = self.model.open
        self.model.open = []
        assert self.log.pending_bytes == 0

    # Faults ---------------------------------------------------------------------------------------------------------

    @rule(fault=st.sampled_from(["write", "sync", "short", "full", "truncate", "create"]), calm=st.integers(0, 3))
    def break_disk(self, fault: str, calm: int) -> None:
        if calm:
            return
        if fault == "short":
            self.disk.write_short(self.random.randint(0, 50))
        elif fault == "full":
            self.disk.fail("write", errno.ENOSPC)
        elif fault == "truncate":
            self.disk.fail("write", errno.ENOSPC)
            self.disk.fail("truncate", errno.EIO)
        else:
            self.disk.fail(fault, errno.EIO)

    @rule(calls=st.integers(0, 12))
    def power_will_go(self, calls: int) -> None:
        self.disk.cut_after = calls

    @rule(calm=st.integers(0, 5))
    def power_goes(self, calm: int) -> None:
        if not calm:
            self.crash()

    @precondition(lambda self: self.log.failed is not None)
    @rule(free=st.sampled_from([0, None]))
    def recheck(self, free: int | None) -> None:
        self.disk.free = free

        async def check() -> None:
            assert self.log.recheck() == (self.log.failed is None)
            await self.log.settled()

        self.guarded(check())

    def guarded(self, awaitable: Coroutine[Any, Any, Any]) -> None:
        """Do something during which the power may go."""
        try:
            self.run(awaitable)
        except PowerCut:
            self.crash()

    def crash(self) -> None:
        self.results = []
        self.syncer.held = False
        self.syncer.waiting.clear()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
            with suppress(asyncio.CancelledError, PowerCut):
                self.loop.run_until_complete(task)
        self.log._standings.close()
        self.disk.crash()
        fate = self.random.choice(["kept", "kept", "lost"])
        if fate == "lost":
            for path in self.directory.glob("catalogue.db*"):
                path.unlink(missing_ok=True)
        self.reopen_after_cuts()
        self.look_what_is_left()

    def reopen_after_cuts(self) -> None:
        """Recovery, too, may be cut short."""
        if self.random.random() < 0.3:
            self.disk.cut_after = self.random.randint(0, 6)
            try:
                self.log = self.opened()
                self.log._standings.close()
            except PowerCut:
                pass
            self.disk.crash()
        self.log = self.opened()

    @precondition(lambda self: not self.syncer.held and not self.log.busy)
    @rule()
    def close_and_open(self) -> None:
        async def cycle() -> None:
            await self.log.settled()
            self.log.close()

        self.model.limbo = self.model.open or self.model.limbo
        self.model.open = []
        self.disk.heal()
        self.run(cycle())
        self.log.close()
        self.log = self.opened()
        self.look_what_is_left()

    def look_what_is_left(self) -> None:
        """After a reopening: what was confirmed, then a prefix of what was not."""
        model = self.model
        assert self.log.epoch == self.epoch
        assert self.log.stats.damaged == 0
        for candidates in (model.open, model.limbo):
            for count in range(len(candidates), -1, -1):
                if self.agrees([*model.confirmed, *candidates[:count]]):
                    self.model = Model([*model.confirmed, *candidates[:count]])
                    return
        raise AssertionError("neither what was confirmed nor a prefix of the rest")

    def agrees(self, entries: list[Entry]) -> bool:
        for name in TOPICS:
            if self.log.topic(name).head != sum(e.topic == name for e in entries):
                return False
        trial = Model(entries)
        return dict(self.log.states(7)) == trial.states()

    # Retention ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.syncer.held and not self.log.busy and self.log.failed is None)
    @rule(count=st.integers(1, 6))
    def retain(self, count: int) -> None:
        self.kept = min(self.kept, count)

        async def enforce() -> None:
            try:
                await self.log.enforce_retention(lambda _: Retention(max_count=count), self.now)
            except LogError:
                if self.log.failed is not None:
                    self.was_taken_back()
            else:
                if not self.log.pending_bytes:
                    self.was_confirmed(len(self.model.open))

        self.guarded(enforce())

    @precondition(lambda self: not self.syncer.held and not self.log.busy)
    @rule()
    def forget_topics(self) -> None:
        for topic in list(self.log._topics.values()):
            self.log.forget(topic)

    # Checks ---------------------------------------------------------------------------------------------------------

    @invariant()
    def everything_is_there(self) -> None:
        if self.disk.dead:
            return
        log, model = self.log, self.model
        assert dict(log.states(7)) == model.states()
        for name in TOPICS:
            topic = log.topic(name)
            entries = model.topic(name, extra=len(model.open))
            confirmed = model.topic(name)
            assert topic.head == len(entries)
            first = log.first_seq(topic)
            assert first <= max(1, len(entries) - self.kept + 1)
            found = self.run(read_all(log, topic_view(topic, len(confirmed)), first))
            assert found == {seq: e.line for seq, e in enumerate(confirmed, 1) if seq >= first}
            writers = {}
            for entry in entries:
                if entry.n:
                    writers[entry.writer] = entry.n
            assert topic.writers == writers
            for seq, entry in enumerate(entries, 1):
                stored = log.read_one(topic, seq)
                if seq < first:
                    assert stored is None
                else:
                    assert stored is not None
                    assert (stored.line, stored.header_size, stored.expires) == (
                        entry.line,
                        entry.header_size,
                        entry.expires,
                    )
                    assert log.has_id(topic, hash_of(str(seq)))
                    assert log.dedup(hash_of("d", name, str(seq))) == seq
            assert not log.has_id(topic, hash_of(str(len(entries) + 1)))
            assert not log.dedup(hash_of("d", name, str(len(entries) + 1)))
        names = {info.name: info.head for info in log.topics()}
        assert {n: h for n, h in names.items() if h} == {
            name: len(model.topic(name, extra=len(model.open)))
            for name in TOPICS
            if model.topic(name, extra=len(model.open))
        }


def topic_view(topic: TopicLog, head: int) -> TopicLog:
    """A topic as readers see it: its head is what is durable."""
    view = type(topic).__new__(type(topic))
    for slot in type(topic).__slots__:
        setattr(view, slot, getattr(topic, slot))
    view.head = head
    return view


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(max_examples=60, stateful_step_count=40)
TestLogMachine = pytest.mark.timeout(300)(TestLogMachine)
