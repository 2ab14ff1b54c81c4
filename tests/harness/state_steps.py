"""The steps that shared states are tried with: what clients ask, what time does, and what goes wrong."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from hubbub_broker.log import LogSettings

from .disk import PowerCut
from .shard_site import Line, Peer, ShardSite
from .state_model import StateModel, leases_of, state_topic

NAMES = ["g", "g/c", "g/d"]
KEYS = ["a", "b", "n/1", "n/2"]
AGENTS = ["joe", "ann"]
TTLS: list[float | Literal["keep"] | None] = [None, None, "keep", 0.5, 5.0, 60.0]
FAULTS = ["full", "full", "short", "sync", "write", "truncate"]
WAYS_ON: list[str | float] = ["turn", "turn", "sync", "sync", "settle", "settle", 0.2, 1.0, 7.0]
ENDS = ["cut", "cut soon", "stop"]
PEERS_MAX = 5


class StateSteps:
    """A shard, its clients, and the model that listens."""

    def __init__(self, seed: int, *, segment_bytes: int = 6000) -> None:
        self.root = Path(tempfile.mkdtemp())
        self.site = ShardSite(self.root, seed=seed, log=LogSettings(segment_bytes=segment_bytes, min_free_bytes=1))
        self.site.disk.warms = True
        self.model = StateModel(NAMES)
        self._count = 0
        self.peers: list[Peer] = []
        self._begin()

    def _begin(self) -> None:
        self.peers = [self.model.connect(self.site, agent) for agent in AGENTS]

    def finish(self) -> None:
        """The last step: all come to rest, the power goes, and nothing that was told is forgotten."""
        try:
            self.come_to_rest()
            self._crash()
            self.come_to_rest()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of everything."""
        self.site.close()
        shutil.rmtree(self.root, ignore_errors=True)

    # Clients --------------------------------------------------------------------------------------------------------

    @property
    def _readable(self) -> list[Peer]:
        return [peer for peer in self.peers if peer.reading and peer.close_code is None]

    def _by(self, who: int, work: Callable[[Peer], None]) -> None:
        peers = self._readable
        if peers:
            self._guarded(lambda: work(peers[who % len(peers)]))

    def change(
        self,
        who: int,
        what: int,
        keys: list[str],
        *,
        delete: list[str],
        expect: list[tuple[str, int]] | int | None,
        ttl: float | Literal["keep"] | None,
        publish: int,
    ) -> None:
        """Somebody asks for a change. Versions are said relative to what is there: 0 is right, others mostly not."""
        self._count += 1
        name = NAMES[what % len(NAMES)]
        line: Line = {"topic": name, "id": f"c{self._count}", "set": dict.fromkeys(keys, self._count)}
        line["delete"] = [key for key in delete if key not in keys]
        topic = state_topic(name)
        if isinstance(expect, int):
            line["expect"] = max(0, self.site.shard.log.topic(topic).head + expect)
        elif expect:
            now = self.site.states.contents
            line["expect"] = {key: max(0, now.version(topic, key) + shift) for key, shift in expect}
        if ttl == "keep":
            line["keep"] = keys
        elif ttl is not None:
            line["ttl"] = dict.fromkeys(keys, ttl)
        if publish:
            topics = [name if "/" in name else "g/x", "g/y"]
            line["publish"] = [
                {"topic": topics[number % 2], "id": f"p{self._count}-{number}", "data": self._count}
                for number in range(publish)
            ]
        if not (line["set"] or line["delete"] or publish):
            return
        self._by(who, lambda peer: self.model.change(peer, line))

    def again(self, who: int, what: int) -> None:
        """Somebody asks again for what it has asked for before, answered or not."""
        peers = self._readable
        if peers:
            peer = peers[who % len(peers)]
            mine = [asked.line for (agent, _), asked in self.model.asked.items() if agent == peer.agent]
            if mine:
                self._guarded(lambda: self.model.change(peer, mine[-1 - what % min(len(mine), 8)]))

    def read(self, who: int, what: int) -> None:
        """Somebody reads a state."""
        self._by(who, lambda peer: self.model.read(peer, NAMES[what % len(NAMES)]))

    def watch(self, who: int, what: int) -> None:
        """Somebody watches a state."""
        self._by(who, lambda peer: self.model.watch(peer, NAMES[what % len(NAMES)]))

    def renew(self, who: int, what: int, shift: int) -> None:
        """Somebody renews a key that goes by itself, or thinks so."""
        name = NAMES[what % len(NAMES)]
        leases = self.site.states._leases
        found = [(key, lease.version) for (of, key), lease in leases._leases.items() if of == state_topic(name)]
        key, version = found[what % len(found)] if found else (KEYS[what % len(KEYS)], 1)
        self._by(who, lambda peer: self.model.renew(peer, name, {key: max(0, version + shift)}))

    def come(self, agent: str) -> None:
        """A client connects."""
        if len(self._readable) < PEERS_MAX:
            self._guarded(lambda: self.peers.append(self.model.connect(self.site, agent)))

    def go(self, who: int) -> None:
        """A connection is lost."""
        self._by(who, lambda peer: peer.disconnect())

    # Time and faults ------------------------------------------------------------------------------------------------

    def go_on(self, how: str | float) -> None:
        """One turn of the loop; the end of one sync; everything that is under way; or so many seconds."""
        if isinstance(how, float):
            self._guarded(lambda: self.site.tick(how))
        else:
            self._guarded({"turn": self.site.loop.turn, "sync": self.site.sync, "settle": self.site.settle}[how])

    def break_disk(self, fault: str) -> None:
        """The disk will fail, once."""
        disk = self.site.disk
        if fault == "short":
            disk.write_short(200)
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
            self.site.disk.heal()
            self._guarded(self._stop)

    def _stop(self) -> None:
        self.site.stop()
        self._reopen()

    def _crash(self) -> None:
        self.site.crash()
        if self.site.disk.random.random() < 0.3:  # it is derived: nothing depends on it
            for path in self.root.glob("000/catalogue.db*"):
                path.unlink()
        self._reopen()

    def _reopen(self) -> None:
        self.site.reopen()
        self.model.reopened(self.site)
        self._begin()

    def _guarded(self, work: Callable[[], Any]) -> None:
        """Do something during which the power may go."""
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
        """Nothing is broken, every answer comes, what goes by itself has gone: then all is judged."""
        site = self.site
        site.disk.heal()
        self._guarded(site.settle)
        self._guarded(lambda: site.tick(1.0))
        if site.shard.log.failed is not None:  # a sync failed: only a new start helps
            self._crash()
        self._guarded(site.settle)
        self.model.check(site)
        self._guarded(lambda: site.tick(100.0))
        self._guarded(site.settle)
        self.model.check(site)
        for name in NAMES:
            assert leases_of_topic(site, name) == {}, "their time is over"


def leases_of_topic(site: ShardSite, name: str) -> dict[str, tuple[int, float]]:
    """The keys of a state that go by themselves."""
    from .state_model import history

    return leases_of(history(site, state_topic(name)))
