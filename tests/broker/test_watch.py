"""Who is slow and who is deaf, told by a broker with real members."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.broker import serving, url_of
from harness.consuming import member, publish, settle
from harness.wire import WireClient, wire_client
from hubbub_broker.consumers import Work
from hubbub_broker.metrics import GROUPS_MAX, Metrics
from hubbub_broker.server import Server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path / "data", deaf_seconds=0.001, heartbeat=0) as server:
        yield server


def states(server: Server) -> dict[str, str]:
    return {row.agent: row.state for row in server.broker.watch.agents()}


async def ack(client: WireClient) -> None:
    line = await client.until("msg")
    assert (await settle(client, "ack", line["seq"]))["op"] == "ok"


async def test_who_takes_much_longer_than_the_others_is_slow(server: Server) -> None:
    url = url_of(server)
    async with wire_client(url, "joe") as joe, wire_client(url, "ann") as ann, wire_client(url, "bob") as bob:
        await member(ann, max_unacked=1)
        await member(bob, max_unacked=1)
        await publish(joe, 2)
        for client in (ann, bob):
            await ack(client)
        assert states(server) == {"ann": "idle", "bob": "idle"}
        pace = server.broker.latency.pace_of(Work("w", "g/t", "bob"))
        assert pace is not None
        pace.recent.extend([100.0] * 10)
        assert states(server) == {"ann": "idle", "bob": "slow"}
        assert server.broker.watch.states()["slow"] == 1


async def test_one_alone_is_not_slower_than_the_others(server: Server) -> None:
    url = url_of(server)
    async with wire_client(url, "joe") as joe, wire_client(url, "ann") as ann:
        await member(ann)
        await publish(joe, 1)
        await ack(ann)
        pace = server.broker.latency.pace_of(Work("w", "g/t", "ann"))
        assert pace is not None
        pace.recent.extend([100.0] * 10)
        assert states(server) == {"ann": "idle"}


async def test_who_takes_nothing_is_deaf(server: Server) -> None:
    url = url_of(server)
    async with wire_client(url, "ann") as ann:
        await member(ann)
        (session,) = server.broker.sessions.of("ann")
        session.full(asyncio.get_running_loop().time() - 1.0)
        assert states(server) == {"ann": "deaf"}
        session.drained()
        assert states(server) == {"ann": "idle"}


async def test_an_unanswered_ping_is_silence(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", deaf_seconds=0.001, heartbeat=5) as server:
        async with wire_client(url_of(server), "ann") as ann:
            await member(ann)
            (session,) = server.broker.sessions.of("ann")
            heartbeat = server.broker.heartbeat
            heartbeat._missed[session] = 1
            assert states(server) == {"ann": "idle"}, "a ping was just sent"
            heartbeat._missed[session] = 3
            assert heartbeat.silence(session) == 10.0
            assert states(server) == {"ann": "deaf"}


async def test_how_long_messages_take_to_stable_storage_is_told_by_group(server: Server) -> None:
    async with wire_client(url_of(server), "joe") as joe:
        for group in ("a", "b"):
            await publish(joe, 3, f"{group}/t")
        await joe.pub("a/t", 1, ephemeral=True)
    durable = server.broker.metrics.durable_seconds
    assert {group: durable[group].count for group in ("a", "b")} == {"a": 3, "b": 3}
    assert 0 < durable["a"].sum < 10


def test_groups_beyond_the_bound_are_counted_together() -> None:
    metrics = Metrics()
    for number in range(GROUPS_MAX + 50):
        metrics.durable_of(f"g{number}").observe(0.001, 2)
    assert len(metrics.durable_seconds) == GROUPS_MAX + 1
    assert metrics.durable_seconds["(other)"].count == 100


async def test_consumers_of_one_name_on_different_topics_are_not_compared(server: Server) -> None:
    url = url_of(server)
    async with wire_client(url, "joe") as joe, wire_client(url, "ann") as ann, wire_client(url, "bob") as bob:
        for client, topic in ((ann, "g/long"), (bob, "g/short")):
            await member(client, topic)
            await publish(joe, 1, topic)
            await client.until("msg")
            assert (await settle(client, "ack", 1, topic))["op"] == "ok"
        pace = server.broker.latency.pace_of(Work("w", "g/long", "ann"))
        assert pace is not None
        pace.recent.extend([100.0] * 10)
        assert states(server) == {"ann": "idle", "bob": "idle"}
        works = {row.topic: row.work.p90 for row in server.broker.watch.consumers()}
        assert works["g/long"] == 100.0
        assert works["g/short"] < 100.0
