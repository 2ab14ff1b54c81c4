"""Policies and schemas that are set at run time, at every worker: the home worker has the state, the others follow it.

A change is in force at home before it is answered, and at the others as soon as home has told them: the links' delay
later. A worker takes no connection before it has been told once, so it never serves by other rules than the state's;
while home is away it goes by the last ones.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from hubbub_broker.peers import Peers, Reply
from hubbub_broker.rules import KEPT_IN, POLICY, SCHEMA, Document, Rules
from hubbub_broker.state import StateChange, States

_KINDS = (f"{POLICY}/", f"{SCHEMA}/")


class RulesTeller:
    """The home worker's side."""

    def __init__(self, states: States, peers: Peers) -> None:
        self._states = states
        self._peers = peers
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


class RulesFollower:
    """Another worker's side."""

    def __init__(self, rules: Rules, peers: Peers) -> None:
        self._rules = rules
        self.told = asyncio.Event()
        """Set when home has told what holds."""
        peers.handlers["rules"] = self._load
        peers.handlers["rules_changed"] = self._take

    def _load(self, arguments: list[Any], _reply: Reply) -> None:
        self._rules.load({key: Document(version, value) for key, version, value in arguments[0]})
        self.told.set()

    def _take(self, arguments: list[Any], _reply: Reply) -> None:
        version, by, given, gone = arguments
        decoded = {key: msgspec.json.decode(value) for key, value in given.items()}
        self._rules.take(StateChange(version, by, decoded, tuple(gone)))
