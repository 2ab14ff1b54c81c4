"""Whole courses of misfortune for shared state as agents hold it, each told by a seed: watches, leases, writers, a bad
network, and a broker that crashes.

What must hold, whatever happens:
  - a watch tells the state as it was at one version, then every change behind that, once and in order;
  - of all agents one at most takes itself for the holder of a lease, at any moment; tokens grow;
  - in the log no change of a holder's stands outside of its time, however late it was sent;
  - who waits for a lease gets it in the end.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from harness.proxy import Cut, Delay, Fault, FaultyTransport, Silence
from hubbub import Agent, Lease, LeaseLost, RequestTimeout, SharedState, StateConflictError
from hubbub.testing import MemoryBroker
from hubbub_protocol.codec import decode_value

NETWORKS: dict[str, list[Fault]] = {
    "good": [],
    "slow": [Delay(0.0, 0.3)],
    "cut": [Delay(0.0, 0.05), Cut(0.03)],
    "silent": [Delay(0.0, 0.05), Silence(0.01)],
}
KEYS = ["a", "b", "n/1", "n/2"]
LEASE, FENCED = "_leases/writer", "doc"
TTL = 6.0
HEALING_SECONDS = 900


class Told(NamedTuple):
    """What a watch says of a key."""

    key: str
    value: Any
    version: int
    deleted: bool


class World:
    """A broker, a network, writers, watchers, and agents that want the lease."""

    def __init__(self, seed: int, faults: Sequence[Fault]) -> None:
        self.source = random.Random(seed)
        self.broker = MemoryBroker(clock=asyncio.get_running_loop().time)
        self.broker.commit_delay = self.source.choice([0.0, 0.01, 0.2])
        self.networks: list[FaultyTransport] = []
        self.faults = faults
        self.agents = [self._agent(f"a{number}") for number in range(5)]
        self.seen: list[list[Told]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.tokens: list[int] = []
        self.holding: list[Lease] = []
        self.got: dict[str, int] = {}
        self.late: list[asyncio.Task[None]] = []

    def _agent(self, name: str) -> Agent:
        network = FaultyTransport(self.broker.transport(), self.source, self.faults, refuse=0.1 if self.faults else 0)
        self.networks.append(network)
        return Agent(name, group="g", transport=network, source=self.source, local=False)

    async def run(self, steps: int) -> None:
        for agent in self.agents:
            await agent.open()
        writers, takers = self.agents[:2], self.agents[2:]
        working = [asyncio.create_task(self._write(agent.topic("c").state)) for agent in writers]
        working += [asyncio.create_task(self._take(agent)) for agent in takers]
        for step in range(steps):
            if step % 8 == 0:
                self.tasks.append(asyncio.create_task(self._watch(self.source.choice(self.agents).topic("c").state)))
            await self._misfortune()
            await asyncio.sleep(self.source.random() * 2)
        for network in self.networks:
            network.healed = True
        self.broker.start()
        self.broker.cut()  # a broker gives up whom it does not hear any more (4012); this one has no heartbeat
        got = dict(self.got)
        async with asyncio.timeout(HEALING_SECONDS):
            while any(self.got.get(one.name, 0) <= got.get(one.name, 0) for one in takers):  # noqa: ASYNC110
                await asyncio.sleep(1)
            await self._end(working)
            await asyncio.gather(*self.late)
            while not self._all_are_told():  # noqa: ASYNC110 - the last keys go by themselves meanwhile
                await asyncio.sleep(5)
            await self._end(self.tasks)
        for agent in self.agents:
            await agent.close()

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), result

    async def _misfortune(self) -> None:
        step = self.source.random()
        if step < 0.08:
            self.broker.crash()
            await asyncio.sleep(self.source.random() * self.source.choice([1, 1, 10]))
            self.broker.start()
        elif step < 0.2 and self.broker.sessions:
            self.source.choice(self.broker.sessions).close(self.source.choice([1006, 1001, 4008]))

    async def _write(self, state: SharedState) -> None:
        while True:
            key = self.source.choice(KEYS)
            try:
                match self.source.randrange(5):
                    case 0:
                        await state.delete(key, timeout=5)
                    case 1:
                        await state.put(key, self.source.random(), ttl=self.source.choice([0.5, 3.0]), timeout=5)
                    case 2:
                        await state.update(dict.fromkeys(self.source.sample(KEYS, 2), key), delete=(), timeout=5)
                    case _:
                        await state.modify(key, lambda value: [value, 1][-1], timeout=5)
            except (RequestTimeout, StateConflictError):
                pass
            await asyncio.sleep(self.source.random())

    async def _take(self, agent: Agent) -> None:
        state = agent.topic("c").state
        while True:
            lease = state.lease("writer", ttl=TTL)
            try:
                async with lease:
                    await self._hold(agent.name, state, lease)
            except (LeaseLost, RequestTimeout, StateConflictError):
                pass
            finally:
                if lease in self.holding:
                    self.holding.remove(lease)
            await asyncio.sleep(self.source.random())

    async def _hold(self, name: str, state: SharedState, lease: Lease) -> None:
        assert not [other for other in self.holding if other.held], "two take themselves for the holder"
        self.holding.append(lease)
        assert lease.token > max(self.tokens, default=0)
        self.tokens.append(lease.token)
        self.got[name] = self.got.get(name, 0) + 1
        for _ in range(self.source.randrange(4)):
            await state.put(FENCED, [name, lease.token], lease=lease, timeout=self.source.choice([2, 30]))
            await asyncio.sleep(self.source.random() * TTL)
        if self.source.random() < 0.5:
            self.late.append(asyncio.create_task(self._write_late(name, state, lease)))

    async def _write_late(self, name: str, state: SharedState, lease: Lease) -> None:
        """As one who was paused for a while, and does not know that it is no holder any more."""
        await asyncio.sleep(self.source.random() * TTL)
        with suppress(StateConflictError, RequestTimeout):
            await state.put(FENCED, [name, lease.token], lease=lease, timeout=30)

    async def _watch(self, state: SharedState) -> None:
        seen: list[Told] = []
        self.seen.append(seen)
        async for entry in state.watch():
            seen.append(Told(entry.key, entry.value, entry.version, entry.deleted))  # noqa: PERF401 - it has no end

    # What the log has ---------------------------------------------------------------------------------------------

    def courses(self) -> tuple[list[list[Told]], list[list[Told]]]:
        """By version: the state as it was then, and what its change told."""
        states: list[dict[str, Told]] = [{}]
        changes: list[list[Told]] = [[]]
        for version, message in enumerate(self.broker.stored("g/_state/c"), start=1):
            change, state = decode_value(bytes(message.data)), dict(states[-1])
            news = [Told(key, value, version, False) for key, value in change.get("set", {}).items()]
            state.update((entry.key, entry) for entry in news)
            gone = [key for key in change.get("delete", ()) if state.pop(key, None) is not None]
            news += [Told(key, None, version, True) for key in gone]
            states.append(state)
            changes.append(news)
        return [[state[key] for key in sorted(state)] for state in states], changes

    def _all_are_told(self) -> bool:
        states, changes = self.courses()
        return all(is_told(seen, states, changes) for seen in self.seen)

    def check(self) -> None:
        assert self.tokens, "nobody ever held it"
        token = 0
        for version, message in enumerate(self.broker.stored("g/_state/c"), start=1):
            change = decode_value(bytes(message.data))
            if FENCED in change.get("set", {}):
                assert change["set"][FENCED][1] == token, f"{change} was made while the token was {token}"
            if LEASE in change.get("set", {}):
                assert token == 0, "it was another's"
                token = version
            if LEASE in change.get("delete", ()):
                token = 0
        assert len(self.seen) > 3


def is_told(seen: list[Told], states: list[list[Told]], changes: list[list[Told]]) -> bool:
    """Whether that is the state at one version, and all changes behind it."""
    later = 0
    for version in reversed(range(len(states))):
        if len(seen) == len(states[version]) + later and seen[: len(states[version])] == states[version]:
            behind = [entry for news in changes[version + 1 :] for entry in news]
            if seen[len(states[version]) :] == behind:
                return True
        later += len(changes[version])
    return False


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("seed", range(6))
async def test_any_course(seed: int, network: str) -> None:
    world = World(seed, NETWORKS[network])
    await world.run(steps=40)
    world.check()


@pytest.mark.soak
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("seed", range(1000, 1050))
async def test_many_more_courses(seed: int, network: str) -> None:
    world = World(seed, NETWORKS[network])
    await world.run(steps=150)
    world.check()
