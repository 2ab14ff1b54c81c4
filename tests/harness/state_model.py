"""What shared states promise, held against what clients were told: the history of changes is the judge.

Clients note what they ask and hear. When all has come to rest, the changes that the log holds are gone through in their
order, and everything that anyone was told has to fit: answers, conflicts, reads, watches, messages that went along, and
when keys went by themselves.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from .shard_site import Line, Peer, ShardSite

Versions = dict[str, tuple[Any, int]]
"""What keys hold, and their versions."""

REFUSED = {"read_only", "overloaded", "internal", "shutting_down"}
"""Errors after which a change may still be made, when it is asked for again."""


@dataclass
class Asked:
    """A change that somebody asked for, perhaps more than once."""

    agent: str
    line: Line
    made: int | None = None
    """The version that it was answered with."""
    over: bool = False
    """It was refused for good, by a conflict or a limit: it is not in the history."""


@dataclass
class Told:
    """Something that was said of a state: it has to be true somewhere behind `floor`."""

    topic: str
    floor: int
    """All up to this version had been told to somebody before it was asked."""
    line: Line


@dataclass
class Stream:
    """What a watcher has heard."""

    topic: str
    first: int
    lines: list[Line] = field(default_factory=list)


def state_topic(name: str) -> str:
    group, _, conversation = name.partition("/")
    return f"{group}/_state/{conversation}" if conversation else f"{group}/_state"


class StateModel:
    """All that clients have asked and heard, over any number of crashes."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.asked: dict[tuple[str, str], Asked] = {}
        self.known: dict[str, int] = defaultdict(int)
        """By topic: the newest version that anybody was told of. No crash may take it back."""
        self.conflicts: list[Told] = []
        self.reads: list[Told] = []
        self.streams: list[Stream] = []
        self.not_before: dict[tuple[str, str, int], float] = {}
        """By topic, key and version: when a key may go by itself at the earliest."""
        self._pending: dict[tuple[int, Any], tuple[str, int, float, Line]] = {}
        self._watching: dict[tuple[int, str], Stream] = {}
        self._rid = 0

    # What clients do ------------------------------------------------------------------------------------------------

    def connect(self, site: ShardSite, agent: str) -> Peer:
        """A client that notes what it hears."""
        peer = site.connect(agent)
        peer.hear = lambda line, _: self._hear(site, peer, line)
        return peer

    def change(self, peer: Peer, line: Line) -> None:
        """Ask for a change; the same one again is a repeat."""
        self.asked.setdefault((peer.agent, line["id"]), Asked(peer.agent, line))
        self._ask(peer, {"op": "change", **line})

    def read(self, peer: Peer, name: str) -> None:
        """Read a whole state."""
        self._ask(peer, {"op": "state", "topic": name})

    def renew(self, peer: Peer, name: str, keys: dict[str, int]) -> None:
        """Renew keys that go by themselves."""
        self._ask(peer, {"op": "renew", "topic": name, "keys": keys})

    def watch(self, peer: Peer, name: str) -> None:
        """Watch from the beginning."""
        self._ask(peer, {"op": "sub", "topic": state_topic(name), "from": "all"})

    def reopened(self, site: ShardSite) -> None:
        """The broker has started again: who was connected is gone, and what goes by itself has its whole time again."""
        self._pending.clear()
        self._watching.clear()
        for name in self.names:
            topic = state_topic(name)
            for key, (version, ttl) in leases_of(history(site, topic)).items():
                self._may_go(topic, key, version, site.now + ttl)

    def _ask(self, peer: Peer, line: Line) -> None:
        if not peer.reading or peer.close_code is not None:
            return
        self._rid += 1
        topic = line["topic"] if line["op"] == "sub" else state_topic(line["topic"])
        self._pending[id(peer), self._rid] = topic, self.known[topic], peer.site.now, line
        peer.send({**line, "rid": self._rid})

    def _may_go(self, topic: str, key: str, version: int, at: float) -> None:
        place = (topic, key, version)
        self.not_before[place] = max(self.not_before.get(place, 0.0), at)

    # What they hear -------------------------------------------------------------------------------------------------

    def _hear(self, site: ShardSite, peer: Peer, line: Line) -> None:
        if line["op"] == "msg":
            stream = self._watching.get((id(peer), line["topic"]))
            if stream is not None:
                assert line["seq"] == stream.first + len(stream.lines), (line, len(stream.lines))
                stream.lines.append(line)
                self._learn(line["topic"], line["seq"])
            return
        pending = self._pending.pop((id(peer), line.get("rid")), None)
        if pending is None:
            return
        topic, floor, asked_at, request = pending
        if line["op"] == "err":
            self._refused(peer, topic, floor, request, line)
        elif request["op"] == "change":
            self._made(peer, topic, request, line)
        elif request["op"] == "state":
            assert line.get("more") is None
            self.reads.append(Told(topic, floor, line))
            self._learn(topic, line["head"])
        elif request["op"] == "renew":
            for key, version in request["keys"].items():
                ttl = {key: ttl for key, (at, ttl) in leases_of(history(site, topic)).items() if at == version}.get(key)
                if ttl is not None:
                    self._may_go(topic, key, version, asked_at + ttl)
        else:
            stream = Stream(topic, line["next"])
            self.streams.append(stream)
            self._watching[id(peer), topic] = stream

    def _refused(self, peer: Peer, topic: str, floor: int, request: Line, line: Line) -> None:
        if line["code"] in REFUSED:
            return
        if request["op"] == "change":
            asked = self.asked[peer.agent, request["id"]]
            assert asked.made is None, f"{request} was made as {asked.made}, and then refused: {line}"
        if line["code"] == "conflict" and "current" in line:
            assert line["current"] != line["expected"]
            if request["op"] == "change":
                self.conflicts.append(Told(topic, floor, line))
                self._learn(topic, line["current"])
        elif request["op"] == "change":
            self.asked[peer.agent, request["id"]].over = True

    def _made(self, peer: Peer, topic: str, request: Line, line: Line) -> None:
        asked = self.asked[peer.agent, request["id"]]
        assert asked.made in (None, line["seq"]), f"{request} was made as {asked.made}, and again: {line}"
        asked.made = line["seq"]
        self._learn(topic, line["seq"])

    def _learn(self, topic: str, version: int) -> None:
        self.known[topic] = max(self.known[topic], version)

    # The judgement --------------------------------------------------------------------------------------------------

    def check(self, site: ShardSite) -> None:
        """All has come to rest: does everything fit?"""
        made: dict[tuple[str, str], int] = {}
        for name in self.names:
            topic = state_topic(name)
            changes = history(site, topic)
            assert [change["seq"] for change in changes] == list(range(1, len(changes) + 1))
            assert len(changes) >= self.known[topic], f"{topic} has forgotten what was told"
            states = self._replay(topic, changes, made)
            self._check_told(topic, states)
            self._check_contents(site, topic, changes, states[-1])
            for stream in self.streams:
                if stream.topic == topic:
                    heard = changes[stream.first - 1 : stream.first - 1 + len(stream.lines)]
                    assert [plain(line) for line in stream.lines] == [plain(change) for change in heard]
        self._check_messages(site, made)
        for key, asked in self.asked.items():
            if asked.made is not None:
                assert made.get(key) == asked.made, f"{asked.line} was answered, and is not there"
            assert not (asked.over and key in made), f"{asked.line} was refused, and is there"

    def _replay(self, topic: str, changes: list[Line], made: dict[tuple[str, str], int]) -> list[Versions]:
        """The state after each change; each is checked against what was asked for."""
        states: list[Versions] = [{}]
        for change in changes:
            before, data, version = states[-1], change["data"], change["seq"]
            if data.get("expired"):
                for key in data["delete"]:
                    earliest = self.not_before.get((topic, key, before[key][1]), 0.0)
                    assert change["ts"] >= earliest - 1e-6, f"{key} went at {change['ts']}, before {earliest}"
            else:
                asked = self.asked[change["from"], change["id"]]
                assert (change["from"], change["id"]) not in made, f"{change} was made twice"
                made[change["from"], change["id"]] = version
                line = asked.line
                assert (data.get("set", {}), data.get("delete", [])) == (line.get("set", {}), line.get("delete", []))
                assert fits(line.get("expect"), before, version - 1), f"{line} was made on {before}"
            after = dict(before)
            for key, value in data.get("set", {}).items():
                after[key] = value, version
                ttl = data.get("ttl", {}).get(key)
                if ttl is not None:
                    self._may_go(topic, key, version, change["ts"] + ttl)
                if key in data.get("keep", ()) and key in before:
                    self._may_go(topic, key, version, self.not_before.get((topic, key, before[key][1]), 0.0))
            for key in data.get("delete", []):
                after.pop(key, None)
            states.append(after)
        return states

    def _check_told(self, topic: str, states: list[Versions]) -> None:
        for read in self.reads:
            if read.topic == topic:
                head = read.line["head"]
                assert head >= read.floor, f"{read.line} does not hold {read.floor}, which was told before"
                entries = {entry["key"]: (entry["value"], entry["version"]) for entry in read.line["entries"]}
                assert entries == states[head], f"{read.line} is not the state at {head}"
        for conflict in self.conflicts:
            if conflict.topic == topic:
                key, current = conflict.line.get("key"), conflict.line["current"]
                places = range(conflict.floor, len(states))
                found = any((at if key is None else states[at].get(key, (None, 0))[1]) == current for at in places)
                assert found, f"{conflict.line} was never so after {conflict.floor}"

    @staticmethod
    def _check_contents(site: ShardSite, topic: str, changes: list[Line], state: Versions) -> None:
        contents = site.states.contents
        held = {}
        for key in {key for change in changes for key in (*change["data"].get("set", {}), *state)}:
            found = contents.get(topic, key)
            if found is not None:
                held[key] = found.version
        assert held == {key: version for key, (_, version) in state.items()}
        assert contents.totals(topic).keys == len(state)
        assert bool(contents.totals(topic).size) == bool(state)
        wanted = {key: version for key, (version, _) in leases_of(changes).items()}
        known = {key: lease.version for (of, key), lease in site.states._leases._leases.items() if of == topic}
        assert known == wanted

    def _check_messages(self, site: ShardSite, made: dict[tuple[str, str], int]) -> None:
        """What was to be published with a change is there if that is, and not without it."""
        topics = {part["topic"] for asked in self.asked.values() for part in asked.line.get("publish", [])}
        there = {
            (topic, message["from"], message["id"]): message["data"]
            for topic in topics
            for message in history(site, topic)
        }
        wanted = {
            (part["topic"], agent, part["id"]): part["data"]
            for (agent, id), asked in self.asked.items()
            for part in asked.line.get("publish", [])
            if (agent, id) in made
        }
        assert there == wanted


def fits(expect: int | dict[str, int] | None, state: Versions, version: int) -> bool:
    """Whether a state is as expected."""
    if isinstance(expect, int):
        return version == expect
    return all(state.get(key, (None, 0))[1] == wanted for key, wanted in (expect or {}).items())


def leases_of(changes: list[Line]) -> dict[str, tuple[int, float]]:
    """The keys that go by themselves after these changes: version and time."""
    leases: dict[str, tuple[int, float]] = {}
    for change in changes:
        data = change["data"]
        for key in data.get("set", {}):
            before = leases.pop(key, None)
            if key in data.get("keep", ()) and before is not None:
                leases[key] = change["seq"], before[1]
            if key in data.get("ttl", {}):
                leases[key] = change["seq"], data["ttl"][key]
        for key in data.get("delete", []):
            leases.pop(key, None)
    return leases


def history(site: ShardSite, topic: str) -> list[Line]:
    """What a topic's log holds, read beside the clients: appended messages too."""
    import json

    log = site.shard.log
    place = log.topic(topic)
    lines = []
    for seq in range(1, place.head + 1):
        stored = log.read_one(place, seq)
        assert stored is not None
        lines.append(json.loads(stored.line))
    return lines


def plain(line: Line) -> Line:
    """A message as it can be compared."""
    return {name: line[name] for name in ("topic", "seq", "id", "from", "data")}
