"""Shared states in memory: decided when they are stored, one after the other, as a broker's sequencer does."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from msgspec import Raw

from hubbub_protocol import codec, names
from hubbub_protocol.errors import BadName, ErrorCode
from hubbub_protocol.frames import Change, Entry, Err, Frame, Ok, Pub, Published, Renew, State

from .topic_log import Arrival, TopicLog

if TYPE_CHECKING:
    from .connection import Session

PAGE = 1000
"""Keys in one answer, if the client names no number."""

Request = State | Change | Renew


class Held(NamedTuple):
    """What a key holds."""

    version: int
    value: Raw


class Lease(NamedTuple):
    """A key that goes by itself."""

    version: int
    ttl: float
    timer: asyncio.TimerHandle


class Keeper(Protocol):
    """What states need of their broker."""

    def log(self, topic: str) -> TopicLog:
        """A topic."""

    def store(self, arrival: Arrival) -> Ok:
        """Store a message, deliver it, and answer those who ask; what they are answered."""

    def enqueue(self, act: Callable[[], None]) -> None:
        """Do something with the next commit, in its place among the messages."""

    def answer(self, session: "Session", frame: Frame) -> None:
        """Answer a client."""


class MemoryStates:
    """The states of a broker."""

    def __init__(self, broker: Keeper) -> None:
        self._broker = broker
        self._states: dict[str, dict[str, Held]] = {}
        self._leases: dict[tuple[str, str], Lease] = {}
        self._made: dict[tuple[str, str, str], Ok] = {}
        """Answers to changes, by topic, sender and id."""

    def take(self, session: "Session", request: Request) -> None:
        """A client asks for something."""
        self._broker.enqueue(lambda: self._broker.answer(session, self._do(session.agent, request)))

    def crashed(self) -> None:
        """The broker is down: nobody can renew."""
        for lease in self._leases.values():
            lease.timer.cancel()

    def started(self) -> None:
        """It is up again: keys that go by themselves have their whole time again."""
        for name, lease in list(self._leases.items()):
            lease.timer.cancel()
            self._leases[name] = lease._replace(timer=self._timer(name, lease.version, lease.ttl))

    def _do(self, agent: str, request: Request) -> Frame:
        try:
            topic = names.state_of(request.topic)
            if isinstance(request, Change):
                return self._change(agent, topic, request)
            return self._renew(topic, request) if isinstance(request, Renew) else self._read(topic, request)
        except BadName as error:
            return Err(rid=request.rid, code=ErrorCode.BAD_REQUEST, message=str(error))

    def _read(self, topic: str, request: State) -> Ok:
        state = self._states.get(topic, {})
        pattern = names.check_key_pattern(request.match or "**")
        matches = names.matcher(pattern) if names.is_pattern(pattern) else pattern.__eq__
        wanted = sorted(key for key in state if matches(key) and key > (request.after or ""))
        if request.keys is not None:
            wanted = [key for key in request.keys if key in state]
        limit = request.limit or PAGE
        entries = [Entry(key=key, value=state[key].value, version=state[key].version) for key in wanted[:limit]]
        log = self._broker.log(topic)
        more = wanted[limit - 1] if len(wanted) > limit else None
        return Ok(rid=request.rid, topic=topic, head=log.head, epoch=log.epoch, entries=entries, more=more)

    def _change(self, agent: str, topic: str, change: Change) -> Frame:
        made = self._made.get((topic, agent, change.id))
        if made is not None:
            return Ok(
                rid=change.rid,
                id=made.id,
                topic=topic,
                seq=made.seq,
                lc=made.lc,
                published=made.published,
                dup=True,
            )
        for key in (*change.set, *change.delete):
            names.check_key(key)
        conflict = self._conflict(topic, change)
        if conflict is not None:
            return conflict
        published = [self._publish(agent, part) for part in to_pubs(change)]
        told = self._tell(agent, topic, change.id, change, published)
        version = told.seq or 0
        state = self._states.setdefault(topic, {})
        for key, value in change.set.items():
            state[key] = Held(version, Raw(bytes(value)))
            if key in change.keep:
                self._keep((topic, key), version)
            else:
                self._lease((topic, key), version, change.ttl.get(key))
        for key in change.delete:
            state.pop(key, None)
            self._lease((topic, key), version, None)
        ok = Ok(
            rid=change.rid,
            id=change.id,
            topic=topic,
            seq=version,
            lc=told.lc,
            published=published or None,
        )
        self._made[topic, agent, change.id] = ok
        return ok

    def _conflict(self, topic: str, change: Change) -> Err | None:
        state = self._states.get(topic, {})
        if isinstance(change.expect, int):
            checks: list[tuple[str | None, int, int]] = [(None, change.expect, self._broker.log(topic).head)]
        else:
            there = {key: state[key].version for key in change.expect or () if key in state}
            checks = [(key, version, there.get(key, 0)) for key, version in (change.expect or {}).items()]
        for key, expected, current in checks:
            if expected != current:
                return _conflict(topic, key, expected, current, change.rid, change.id)
        return None

    def _renew(self, topic: str, renew: Renew) -> Frame:
        for key, version in renew.keys.items():
            lease = self._leases.get((topic, key))
            current = 0 if lease is None else lease.version
            if current != version:
                return _conflict(topic, key, version, current, renew.rid, None)
        for key in renew.keys:
            lease = self._leases[topic, key]
            self._lease((topic, key), lease.version, lease.ttl)
        return Ok(rid=renew.rid, topic=topic)

    def _lease(self, name: tuple[str, str], version: int, ttl: float | None) -> None:
        before = self._leases.pop(name, None)
        if before is not None:
            before.timer.cancel()
        if ttl is not None:
            self._leases[name] = Lease(version, ttl, self._timer(name, version, ttl))

    def _keep(self, name: tuple[str, str], version: int) -> None:
        before = self._leases.get(name)
        if before is not None:
            before.timer.cancel()
            left = before.timer.when() - asyncio.get_running_loop().time()
            self._leases[name] = Lease(version, before.ttl, self._timer(name, version, before.ttl, left))

    def _timer(self, name: tuple[str, str], version: int, ttl: float, left: float | None = None) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(ttl if left is None else left, self._broker.enqueue, lambda: self._expire(name, version))

    def _expire(self, name: tuple[str, str], version: int) -> None:
        lease = self._leases.get(name)
        if lease is None or lease.version != version or lease.timer.when() > asyncio.get_running_loop().time():
            return
        topic, key = name
        del self._leases[name]
        del self._states[topic][key]
        change = Change(topic=topic, id=f"expired-{version}", delete=[key])
        self._tell("hubbub", topic, change.id, change, [], expired=True)

    def _publish(self, agent: str, pub: Pub) -> Published:
        known = self._broker.log(pub.topic).ids.get((agent, pub.id))
        ok = known or self._broker.store(Arrival(pub, None, agent, "", []))
        return Published(topic=pub.topic, id=pub.id, seq=ok.seq or 0, lc=ok.lc or 0, dup=known is not None)

    def _tell(
        self,
        agent: str,
        topic: str,
        id: str,
        change: Change,
        published: list[Published],
        *,
        expired: bool = False,
    ) -> Ok:
        told: dict[str, Any] = {"set": change.set, "delete": change.delete, "ttl": change.ttl, "keep": change.keep}
        told = {name: value for name, value in told.items() if value}
        if expired:
            told["expired"] = True
        if published:
            told["published"] = published
        pub = Pub(topic=topic, id=id, type="state", data=Raw(codec.encode_value(told)), lc=change.lc)
        return self._broker.store(Arrival(pub, None, agent, "", []))


def to_pubs(change: Change) -> list[Pub]:
    """The messages that go with a change."""
    return [
        Pub(
            topic=part.topic,
            id=part.id,
            data=part.data,
            parent=part.parent,
            type=part.type,
            headers=part.headers,
            ttl=part.ttl,
            reply_to=part.reply_to,
            track=part.track,
        )
        for part in change.publish
    ]


def _conflict(topic: str, key: str | None, expected: int, current: int, rid: str | int | None, id: str | None) -> Err:
    return Err(
        rid=rid,
        id=id,
        code=ErrorCode.CONFLICT,
        message=f"{key or 'the state'} is at version {current}, not {expected}",
        topic=topic,
        key=key,
        expected=expected,
        current=current,
    )
