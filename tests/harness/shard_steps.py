"""The steps that a shard is tried with: what clients do, what time does, and what goes wrong.

Whoever chooses the steps (a search that shrinks what it finds, or a long walk from a seed) is somebody else.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hubbub_broker.log import LogSettings
from hubbub_protocol.names import matcher

from .disk import PowerCut
from .shard_model import Ear, World
from .shard_site import Line, Peer, ShardSite

TOPICS = ["g/a", "g/b", "g/deep/c", "quick/q"]
NAMES = [*TOPICS, "g/*", "g/**", "**", "*/a", "quick/*"]
IDS = [f"i{number}" for number in range(12)]
AGENTS: list[tuple[str, str | None]] = [("joe", "life"), ("ann", "life"), ("eve", None), ("joe", None)]
POLICY = [{"pattern": "quick/*", "durable": False}, {"pattern": "g/deep/*", "max_message": 1500}]
HOLD_SECONDS = 2.0
PEERS_MAX = 4
CALM_ROUNDS = 20

FAULTS = ["full", "full", "short", "sync", "write", "truncate"]
WAYS_ON: list[str | float] = ["turn", "turn", "turn", "sync", "sync", "settle", 0.1, 1.0, 3.0, 61.0]
ENDS = ["cut", "cut soon", "stop"]


class ShardSteps:
    """A shard, its clients, and the model that listens. Every step ends with a look at what went wrong."""

    def __init__(self, seed: int, *, topics_in_memory: int = 1, segment_bytes: int = 6000) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.site = ShardSite(
            self.root,
            seed=seed,
            log=LogSettings(segment_bytes=segment_bytes, min_free_bytes=1),
            pending_soft=4096,
            pending_hard=8192,
            hold_seconds=HOLD_SECONDS,
            hold_messages=3,
            hold_bytes=6000,
            topics_in_memory=topics_in_memory,
            policy=POLICY,
        )
        self.world = World(self.site)
        self._contents = 0
        self._failed = False
        self._begin()

    def _begin(self) -> None:
        """The broker runs, and its clients are there."""
        self._failed = False
        self.world.start()
        for who in AGENTS[:3]:
            self.world.listen(self.site.connect(*who))
        self.site.raise_uncaught()

    def finish(self) -> None:
        """The last step: all come to rest, the power goes, and all is there."""
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
        """The clients that may misbehave: all but the witness."""
        return [ear for ear in self.world.ears.values() if ear is not self.world.witness]

    @property
    def _readable(self) -> list[Ear]:
        """Those that the broker reads from now."""
        return [ear for ear in self._ears if ear.peer.reading]

    def come(self, agent: tuple[str, str | None]) -> None:
        """A client connects; if it names a life that is connected already, that one is closed."""
        if len(self._ears) < PEERS_MAX:
            self._guarded(lambda: self.world.listen(self.site.connect(*agent)))

    def go(self, who: int) -> None:
        """A connection is lost."""
        if self._ears:
            ear = self._ears[who % len(self._ears)]
            self._guarded(lambda: self.world.leave(ear))

    def publish(self, who: int, drafts: list[dict[str, Any]]) -> None:
        """A client publishes some messages: binary ones in frames of their own, then the others in one."""
        if not self._readable:
            return
        peer = self._readable[who % len(self._readable)].peer
        counts: dict[str, int] = {}
        lines = [self._line_of(peer, draft, counts) for draft in drafts]
        frames = [[line] for line in lines if "payload" in line]
        frames.append([line for line in lines if "payload" not in line])
        for frame in frames:
            if frame and peer in self.world.ears and peer.reading:
                self._send(peer, frame)

    def _line_of(self, peer: Peer, draft: dict[str, Any], counts: dict[str, int]) -> Line:
        self._contents += 1
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
        body = f"{self._contents} " + "x" * draft["size"]
        if draft["binary"]:
            line["payload"] = body.encode()
        else:
            line["data"] = body
        return line

    def repeat(self, who: int, what: int) -> None:
        """A client sends something of its own again, as one does that has no answer."""
        if not self._readable:
            return
        peer = self._readable[who % len(self._readable)].peer
        own = [p for p in self.world.publishes.values() if (p.peer.agent, p.peer.life) == (peer.agent, peer.life)]
        if own:
            line = own[what % len(own)].line
            self._send(peer, [{name: value for name, value in line.items() if name not in ("op", "rid")}])

    def _send(self, peer: Peer, lines: list[Line]) -> None:
        self._guarded(lambda: self.world.publish(peer, *lines))

    def subscribe(self, who: int, name: str, start: Any) -> None:
        """A client subscribes."""
        if not self._readable:
            return
        ear = self._readable[who % len(self._readable)]
        if name in ear.names or ("*" in name and any(_overlap(name, other) for other in ear.names)):
            return  # which of two patterns brings a topic's past is not promised
        if "*" in name and isinstance(start, dict):
            start = {key: value for key, value in start.items() if key != "epoch"}  # topics have one, patterns none
        self._guarded(lambda: self.world.subscribe(ear, name, start))

    def unsubscribe(self, who: int, what: int) -> None:
        """A client takes a subscription back."""
        ready = [ear for ear in self._readable if ear.names]
        if ready:
            ear = ready[who % len(ready)]
            name = sorted(ear.names)[what % len(ear.names)]
            self._guarded(lambda: self.world.unsubscribe(ear, name))

    def read_or_not(self, who: int, room: int | None) -> None:
        """A reader reads again (None), or its socket takes so many bytes more and is full then."""
        if self._ears:
            peer = self._ears[who % len(self._ears)].peer
            self._guarded(peer.drain if room is None else lambda: peer.fill(room))

    # Time -----------------------------------------------------------------------------------------------------------

    def go_on(self, how: str | float) -> None:
        """One turn of the loop; the end of one sync; everything that is under way; or so many seconds."""
        if isinstance(how, float):
            self._guarded(lambda: self.site.tick(how))
        else:
            self._guarded({"turn": self.site.loop.turn, "sync": self.site.sync, "settle": self.site.settle}[how])

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
        else:
            disk.fail(fault, errno.EIO)

    def end(self, how: str, calls: int) -> None:
        """The power goes, now or at one of the next calls that change a file; or a clean stop."""
        if how == "cut":
            self._crash()
        elif how == "cut soon":
            self.site.disk.cut_after = calls
        else:
            self._stop()

    def _stop(self) -> None:
        """Everyone who is owed an answer gets it."""
        self.site.disk.heal()
        self.site.loop.do(self.site.shard.sequencer.release_all)
        self._all_drain()
        assert self.world.unanswered() == []
        self.site.stop()
        self.site.reopen()
        self._begin()

    def _crash(self) -> None:
        self.site.crash()
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
            self._crash()
            return
        self.site.raise_uncaught()
        for ear in [ear for ear in self.world.ears.values() if ear.peer.close_code is not None]:
            assert ear.peer.close_code == 4509
            del self.world.ears[ear.peer]
        failed = self.site.shard.log.failed is not None
        if failed and not self._failed:
            self.world.storage_failed()
        self._failed = failed

    # Rest -----------------------------------------------------------------------------------------------------------

    def come_to_rest(self) -> None:
        """The disk is mended, every reader reads, and time passes until nothing is left to do. Then all is judged."""
        site = self.site
        site.disk.heal()
        for _ in range(CALM_ROUNDS):
            self._all_drain()
            self._guarded(lambda: site.tick(1.0))
            if not (site.loop.busy or site.syncer.waiting or site.shard.sequencer.holding):
                break
        self.world.check_at_rest()

    def _all_drain(self) -> None:
        self._guarded(self.site.settle)
        for ear in list(self.world.ears.values()):
            self._guarded(ear.peer.drain)
        self._guarded(self.site.settle)


def _overlap(one: str, other: str) -> bool:
    return any(matcher(one)(topic) and matcher(other)(topic) for topic in TOPICS)
