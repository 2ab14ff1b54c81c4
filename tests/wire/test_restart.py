"""Stops, crashes and restarts: what was answered is there, once, with the same seq."""

import asyncio
import json
import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from harness.broker import broker_process, serving, url_of
from harness.raw_socket import RawSocket
from harness.until import until
from harness.wire import wire_client
from hubbub_broker.server import Server


async def test_a_clean_stop_says_goodbye_and_loses_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path / "d", reconnect_spread=3) as server:
        async with wire_client(url_of(server), "joe") as joe, wire_client(url_of(server), "ann") as ann:
            await ann.sub("g/c")
            lines = [json.dumps({"op": "pub", "topic": "g/c", "id": str(i), "data": i}) for i in range(200)]
            await joe.socket.send("\n".join(lines))
            await joe.until("ok")  # it has read them all by now
            stopping = asyncio.create_task(server.stop())
            goodbye = await joe.until("goaway")
            assert 0 <= goodbye["reconnect_after"] <= 3
            assert await joe.closed() == 4001
            assert [m["data"] for m in await ann.messages(200)] == list(range(200))
            await stopping
    async with serving(tmp_path / "d") as server, wire_client(url_of(server), "late") as late:
        ok = await late.sub("g/c", from_="all")
        assert (ok["head"], [m["data"] for m in await late.messages(200)]) == (200, list(range(200)))


async def test_clients_are_told_to_come_back_at_different_times(tmp_path: Path) -> None:
    async with serving(tmp_path / "d", reconnect_spread=60) as server, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(wire_client(url_of(server), f"a{i}")) for i in range(40)]
        stopping = asyncio.create_task(server.stop())
        times = sorted([(await client.until("goaway"))["reconnect_after"] for client in clients])
        await stopping
    # Of forty evenly spread over a minute, fewer than two in a half of it are one chance in 10^10.
    assert 0 <= times[0] <= times[1] < 30 < times[-2] <= times[-1] <= 60
    assert len(set(times)) > 30


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_skips_the_waiting_and_not_the_closing(tmp_path: Path, number: signal.Signals) -> None:
    async with broker_process(tmp_path / "d", shutdown_grace=600, hello_timeout=300) as broker:
        slow = await RawSocket.open(broker.port)  # a request whose body does not come
        await slow.send(
            b"PUT /v1/blobs/g HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert b"100" in await slow._reader.readuntil(b"\r\n\r\n")  # it is being answered
        async with wire_client(broker.url, "joe") as joe:
            assert (await joe.pub("g/c", "kept"))["seq"] == 1
            os.kill(broker.pid, signal.SIGTERM)
            assert await joe.closed() == 4001
        os.kill(broker.pid, number)
        assert await asyncio.to_thread(broker.wait) == 0
        slow.cut()
        assert "hurrying" in broker.log.read_text()
        broker.start()
        await broker.wait_ready()
        async with wire_client(broker.url, "late") as late:
            await late.sub("g/c", from_="all")
            assert [m["data"] for m in await late.messages(1)] == ["kept"]


async def test_what_was_stored_while_frames_could_be_larger_comes_whole(tmp_path: Path) -> None:
    async with serving(tmp_path / "d") as server, wire_client(url_of(server), "joe") as joe:
        await joe.pub("g/c", "x" * 500_000)
    async with serving(tmp_path / "d", max_frame="64KiB") as server, wire_client(url_of(server), "joe") as joe:
        await joe.sub("g/c", from_="all")
        assert len((await joe.messages(1))[0]["data"]) == 500_000


async def test_when_a_stop_is_over_no_socket_is_left_open(tmp_path: Path) -> None:
    """Whoever did not take part in the end, or was still at the beginning, is cut off."""
    async with serving(tmp_path / "d", shutdown_grace=0.1) as server:
        silent, refused, slow = [await RawSocket.open(server.port) for _ in range(3)]
        await silent.upgrade("ann")
        await refused.upgrade("no name!".replace(" ", "%20"))
        await slow.send(b"GET /v1/health HT")
        await silent.request({"op": "ping", "rid": 1})
        await silent.until("pong")  # the three came in this order: all of them are there
        await server.stop()
        for one in (silent, refused, slow):
            async with asyncio.timeout(1.0):  # at once; a closing handshake alone may take two seconds
                while await one.receive():
                    pass
            one.writer.close()


async def test_dedup_order_and_epoch_survive_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path / "d") as server, wire_client(url_of(server), "joe") as joe:
        first = await joe.pub("g/c", 1, id="a", n=1)
        await joe.pub("g/c", 2, id="b", n=2, lc=50)
        epoch = (await joe.sub("g/c"))["epoch"]
    async with serving(tmp_path / "d") as server, wire_client(url_of(server), "joe") as joe:
        assert (await joe.sub("g/c"))["epoch"] == epoch
        assert await joe.pub("g/c", 1, id="a", n=1) == {**first, "dup": True}
        assert (await joe.pub("g/c", 4, id="d", n=4))["code"] == "order"
        third = await joe.pub("g/c", 3, id="c", n=3)
        assert (third["seq"], third["lc"]) == (3, 52)


async def test_what_is_held_back_is_let_go_by_a_stop(tmp_path: Path) -> None:
    async with serving(tmp_path / "d", hold_seconds=600) as server:
        async with wire_client(url_of(server), "joe") as joe:
            await joe.send("pub", topic="g/c", id="a", data=1, parent="never")
            await joe.silent()
            stopping = asyncio.create_task(server.stop())
            assert (await joe.until("ok", id="a"))["seq"] == 1
            await stopping


async def test_after_sigkill_what_was_answered_is_there(tmp_path: Path) -> None:
    async with broker_process(tmp_path / "d") as broker:
        async with wire_client(broker.url, "joe") as joe:
            answered = [await joe.pub("g/c", i, id=str(i)) for i in range(50)]
            lines = [json.dumps({"op": "pub", "topic": "g/c", "id": str(i), "data": i}) for i in range(50, 1000)]
            await joe.socket.send("\n".join(lines))
            answered.append(await joe.until("ok"))
            broker.kill()
        broker.start()
        await broker.wait_ready()
        async with wire_client(broker.url, "joe") as joe, wire_client(broker.url, "ann") as ann:
            for i in range(1000):
                await joe.send("pub", topic="g/c", id=str(i), data=i)
            again = [await joe.until("ok") for _ in range(1000)]
            for ok in answered:
                assert again[ok["seq"] - 1] == {**ok, "dup": True}
            await ann.sub("g/c", from_="all")
            messages = await ann.messages(1000)
            assert [(m["seq"], m["data"]) for m in messages] == [(i + 1, i) for i in range(1000)]


async def test_sigterm_exits_with_zero(tmp_path: Path) -> None:
    async with broker_process(tmp_path / "d") as broker, wire_client(broker.url, "joe") as joe:
        await joe.pub("g/c", 1)
        assert await asyncio.to_thread(broker.terminate) == 0
        assert await joe.closed() == 4001


async def times_of(server: Server, count: int) -> list[float]:
    """When the messages of g/c were sequenced."""
    async with wire_client(url_of(server), "late") as late:
        await late.sub("g/c", from_="all")
        return [message["ts"] for message in await late.messages(count)]


async def test_a_clock_that_was_set_back_while_the_broker_was_down_sets_no_message_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who asks for what came since it left would not be given what came after that."""
    async with serving(tmp_path / "d", shards=1) as server, wire_client(url_of(server), "joe") as joe:
        await joe.pub("g/c", 1, id="a")
        left = time.time()
    monkeypatch.setattr("hubbub_broker.shard.batch.time", lambda: left - 3600)
    async with serving(tmp_path / "d", shards=1) as server, wire_client(url_of(server), "joe") as joe:
        await joe.pub("g/c", 2, id="b")
        await joe.pub("g/new", 3, id="c")
        assert await times_of(server, 2) == sorted(await times_of(server, 2))
        async with wire_client(url_of(server), "ann") as ann:
            await ann.sub("g/*", from_={"since": left, "after": {"g/c": 1}})
            assert {message["data"] for message in await ann.messages(2)} == {2, 3}


async def test_a_clock_that_was_set_back_after_a_kill_sets_no_message_back(tmp_path: Path) -> None:
    async with broker_process(tmp_path / "d", ahead=3600) as broker, wire_client(broker.url, "joe") as joe:
        await joe.pub("g/c", 1, id="a")
        broker.kill()
    async with serving(tmp_path / "d") as server, wire_client(url_of(server), "joe") as joe:
        await joe.pub("g/c", 2, id="b")
        first, second = await times_of(server, 2)
        assert time.time() + 3000 < first <= second


async def test_a_repeat_of_what_retention_took_is_one_after_a_restart(tmp_path: Path) -> None:
    """And is answered the same before and after: the first one's seq, and no `lc`, which went with it."""
    policy: list[dict[str, Any]] = [{"pattern": "**", "max_count": 5}]
    settings: dict[str, Any] = {"shards": 1, "segment_bytes": 4096, "retention_interval": 0.05, "policy": policy}
    expected = {"op": "ok", "id": "X", "topic": "g/c", "seq": 1, "dup": True}
    async with serving(tmp_path / "d", **settings) as server, wire_client(url_of(server), "joe") as joe:
        assert await joe.pub("g/c", "once", id="X") == {"op": "ok", "id": "X", "topic": "g/c", "seq": 1, "lc": 1}
        for number in range(60):
            await joe.pub("g/c", "x" * 200, id=str(number))
        shard = server.broker.shards[0]
        await until(lambda: shard.log.first_seq(shard.topic("g/c").log) > 1)
        assert await joe.pub("g/c", "once", id="X") == expected
    async with serving(tmp_path / "d", **settings) as server, wire_client(url_of(server), "joe") as joe:
        assert await joe.pub("g/c", "once", id="X") == expected
    policy[0]["dedup_window"] = 0
    async with serving(tmp_path / "d", **settings) as server, wire_client(url_of(server), "joe") as joe:
        assert "dup" not in await joe.pub("g/c", "once", id="X"), "what has no window has no repeats"
