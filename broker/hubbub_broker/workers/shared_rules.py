"""Policies and schemas that are set at run time, at every worker: the home worker has the state, the others follow it.

A change is in force at every worker before it is answered: home tells the others when it is on stable storage, and they
have taken it when they answer what is asked behind that. One that is away, or hangs, is not waited for longer than
`link_timeout`. A worker takes no connection before it has been told once, so it never serves by other rules than the
state's; while home is away it goes by the last ones.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from hubbub_broker.logs import get_logger
from hubbub_broker.peers import Peers, Reply
from hubbub_broker.rules import KEPT_IN, POLICY, SCHEMA, Document, Rules
from hubbub_broker.shard import Cursor, Sink
from hubbub_broker.state import StateChange, States
from hubbub_protocol.frames import Change

log = get_logger(__name__)

_KINDS = (f"{POLICY}/", f"{SCHEMA}/")


class RulesTeller:
    """The home worker's side."""

    def __init__(self, states: States, peers: Peers, loop: asyncio.AbstractEventLoop) -> None:
        self._states = states
        self._peers = peers
        self._loop = loop
        self._passing: set[asyncio.Task[None]] = set()
        peers.on_joined.append(self._joined)
        states.on_change(KEPT_IN, self._changed)

    def _joined(self, worker: int) -> None:
        held = self._states.held(KEPT_IN).items()
        documents = [(key, each.version, each.value) for key, each in held if key.startswith(_KINDS)]
        self._peers.tell(worker, "rules", documents)

    def _changed(self, change: StateChange) -> None:
        given = {key: msgspec.json.encode(value) for key, value in change.set.items() if key.startswith(_KINDS)}
        gone = [key for key in change.delete if key.startswith(_KINDS)]
        if given or gone:
            self._peers.tell_all("rules_changed", change.version, change.by, given, gone)

    def answer_later(self, change: Change, sink: Sink) -> Sink:
        """What is to get the answer to a change in place of `sink`, which gets it when every worker goes by it."""
        keys = (*change.set, *change.delete)
        ours = change.topic.partition("/")[0] == KEPT_IN and any(key.startswith(_KINDS) for key in keys)
        return _Later(self, sink) if ours else sink

    def pass_on(self, sink: Sink, count: int, lines: list[bytes]) -> None:
        """Give the answer when everybody has taken what was told before."""
        task = self._loop.create_task(self._pass_on(sink, count, lines), name="rules told")
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _pass_on(self, sink: Sink, count: int, lines: list[bytes]) -> None:
        there = [worker for worker in self._peers.topology.others if self._peers.is_here(worker)]
        found = await asyncio.gather(*(self._peers.ask(each, "rules_taken") for each in there), return_exceptions=True)
        for worker, answer in zip(there, found, strict=True):
            if isinstance(answer, BaseException):
                log.warning("change of rules not confirmed", worker=worker, reason=str(answer))
        sink.settle(count, lines)


class _Later:
    """A `Sink` for the answer to one change."""

    __slots__ = ("_sink", "_teller", "cursors", "writable")

    def __init__(self, teller: RulesTeller, sink: Sink) -> None:
        self._teller = teller
        self._sink = sink
        self.writable = False
        self.cursors: dict[str, Cursor] = {}

    def write(self, blob: bytes) -> None:
        self._sink.write(blob)

    def answer(self, lines: list[bytes]) -> None:
        self._sink.answer(lines)

    def settle(self, count: int, lines: list[bytes]) -> None:
        self._teller.pass_on(self._sink, count, lines)

    def stop_reading(self) -> None:
        self._sink.stop_reading()

    def resume_reading(self) -> None:
        self._sink.resume_reading()


class RulesFollower:
    """Another worker's side."""

    def __init__(self, rules: Rules, peers: Peers) -> None:
        self._rules = rules
        self.told = asyncio.Event()
        """Set when home has told what holds."""
        peers.handlers["rules"] = self._load
        peers.handlers["rules_changed"] = self._take
        peers.handlers["rules_taken"] = lambda _, reply: reply(None)

    def _load(self, arguments: list[Any], _reply: Reply) -> None:
        self._rules.load({key: Document(version, value) for key, version, value in arguments[0]})
        self.told.set()

    def _take(self, arguments: list[Any], _reply: Reply) -> None:
        version, by, given, gone = arguments
        decoded = {key: msgspec.json.decode(value) for key, value in given.items()}
        self._rules.take(StateChange(version, by, decoded, tuple(gone)))
