"""One connection that is several, with workers that are scripted here."""

import asyncio
import json
from typing import Any

import pytest

from hubbub import fleet as fleet_module
from hubbub.fleet import Fleet
from hubbub.link import LinkFailed
from hubbub.transport import Connection, ConnectionLost
from hubbub_protocol import codec
from hubbub_protocol.frames import Hello, Welcome
from hubbub_protocol.routing import worker_of

WORKERS = 3
SHARDS = 16
URLS = [f"ws://worker/{number}" for number in range(WORKERS)]


def group_of(worker: int) -> str:
    return next(group for n in range(100) if worker_of(group := f"g{n}", SHARDS, WORKERS) == worker)


class Wire:
    """One worker's end: what it was sent, and what it says."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.binary: list[bytes] = []
        self.closed = False
        self._news = asyncio.Event()
        self._says: asyncio.Queue[bytes | ConnectionLost] = asyncio.Queue()

    async def receive(self) -> bytes:
        said = await self._says.get()
        if isinstance(said, ConnectionLost):
            raise said
        return said

    async def send(self, frame: bytes, *, binary: bool = False) -> None:
        if binary:
            self.binary.append(frame)
        else:
            self.sent += [json.loads(line) for line in frame.split(b"\n")]
        self._news.set()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def say(self, *lines: dict[str, Any]) -> None:
        self._says.put_nowait(b"\n".join(json.dumps(line).encode().replace(b'": ', b'":') for line in lines))

    def lose(self, code: int = 1006) -> None:
        self._says.put_nowait(ConnectionLost(code, "gone"))

    async def was_sent(self, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(5):
            while len(self.sent) + len(self.binary) < count:
                self._news.clear()
                await self._news.wait()
        return self.sent


def welcome(worker: int) -> Welcome:
    return Welcome(
        agent="joe",
        session="s",
        server="hubbub",
        heartbeat=0,
        limits={"max_frame": 1 << 20},
        workers=URLS,
        shards=SHARDS,
        worker=worker,
    )


class Workers:
    """The workers of a broker, of which some may be away."""

    def __init__(self) -> None:
        self.wires = [Wire() for _ in range(WORKERS)]
        self.away: set[int] = set()
        self.hanging: set[int] = set()
        self.opened: list[int] = []
        self.fleet = Fleet(self.wires[0], welcome(0), self._open, lambda token: Hello(agent="joe", token=token))

    async def _open(self, url: str) -> tuple[Connection, Welcome, list[bytes]]:
        number = URLS.index(url)
        self.opened.append(number)
        if number in self.hanging:
            await asyncio.Event().wait()
        if number in self.away:
            raise LinkFailed("away")
        return self.wires[number], welcome(number), []

    async def send(self, *lines: dict[str, Any]) -> None:
        await self.fleet.send(b"\n".join(json.dumps(line).encode() for line in lines))

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(5):
            frame = await self.fleet.receive()
        assert b"\n" not in frame
        line: dict[str, Any] = json.loads(frame)
        return line


def pub(worker: int, n: int) -> dict[str, Any]:
    return {"op": "pub", "topic": f"{group_of(worker)}/t", "id": f"{worker}.{n}", "data": n}


async def test_each_line_goes_to_its_worker_in_order_and_one_connection_is_made_to_each() -> None:
    workers = Workers()
    await workers.send(*(pub(worker, n) for n in range(20) for worker in (1, 0, 1)))
    await workers.send({"op": "pub", "topic": "_mail/@ann", "id": "m", "data": 1}, {"op": "ping"})
    assert [line["id"] for line in (await workers.wires[1].was_sent(40))] == [
        f"1.{n}" for n in range(20) for _ in range(2)
    ]
    assert [line.get("id") for line in workers.wires[0].sent] == [*(f"0.{n}" for n in range(20)), "m", None]
    assert workers.opened == [1]
    header = json.dumps({"op": "pub", "topic": f"{group_of(2)}/t", "id": "b"}).encode()
    await workers.fleet.send(codec.join_binary(header, b"\x00\x01"), binary=True)
    await workers.wires[2].was_sent(1)
    assert workers.wires[2].binary == [codec.join_binary(header, b"\x00\x01")]
    workers.wires[2].say({"op": "ok", "id": "b"})
    workers.wires[1].say({"op": "ok", "id": "1.0"})
    assert {(await workers.next())["id"], (await workers.next())["id"]} == {"b", "1.0"}
    await workers.fleet.close()
    assert all(wire.closed for wire in workers.wires)


async def test_a_pattern_of_all_groups_is_one_subscription() -> None:
    workers = Workers()
    await workers.send({"op": "sub", "topic": "*/t", "from": "all", "rid": 7})
    for wire in workers.wires:
        assert (await wire.was_sent(1))[0] == {"op": "sub", "topic": "*/t", "from": "all", "rid": 7, "here": True}
    msg = {"op": "msg", "topic": f"{group_of(1)}/t", "id": "1", "from": "a", "ts": 1.0, "lc": 1, "data": 1, "seq": 1}
    workers.wires[1].say({"op": "ok", "rid": 7, "topic": "*/t"})
    workers.wires[1].say(msg)
    workers.wires[1].say({"op": "live", "topic": "*/t", "seq": 0})
    workers.wires[0].say({"op": "ok", "rid": 7, "topic": "*/t", "epoch": "main"})
    workers.wires[0].say(
        {"op": "live", "topic": f"{group_of(0)}/t", "seq": 3}, {"op": "live", "topic": "*/t", "seq": 0}
    )
    workers.wires[2].say({"op": "ok", "rid": 7, "topic": "*/t"})
    first = await workers.next()
    assert (first["op"], first["rid"], first["epoch"]) == ("ok", 7, "main")  # nothing of any worker comes before it
    assert {(await workers.next())["op"] for _ in range(2)} == {"msg", "live"}  # the topic's own
    workers.wires[2].say({"op": "live", "topic": "*/t", "seq": 0})
    assert await workers.next() == {"op": "live", "topic": "*/t", "seq": 0}
    await workers.send({"op": "unsub", "topic": "*/t", "rid": 8})
    for wire in workers.wires:
        assert (await wire.was_sent(2))[1]["op"] == "unsub"
        wire.say({"op": "ok", "rid": 8, "topic": "*/t"})
    assert (await workers.next())["rid"] == 8
    await workers.fleet.close()


async def test_a_pattern_that_one_worker_refuses_is_nobodys() -> None:
    workers = Workers()
    await workers.send({"op": "sub", "topic": "**", "rid": 7})
    for wire in workers.wires:
        await wire.was_sent(1)
    workers.wires[1].say({"op": "ok", "rid": 7, "topic": "**"})
    workers.wires[2].say({"op": "err", "rid": 7, "code": "overloaded", "message": "no", "retry_after": 1.0})
    workers.wires[0].say({"op": "ok", "rid": 7, "topic": "**"})
    answer = await workers.next()
    assert (answer["op"], answer["rid"], answer["retry_after"]) == ("err", 7, 1.0)
    for wire in workers.wires:
        assert (await wire.was_sent(2))[1]["op"] == "unsub"
    await workers.fleet.close()


async def test_what_is_for_a_worker_that_is_away_is_refused_and_nothing_else_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_module, "HOLD_SECONDS", 0.05)
    workers = Workers()
    workers.away.add(1)
    workers.hanging.add(2)
    sub = {"op": "sub", "topic": f"{group_of(1)}/t", "rid": 5}
    change = {"op": "change", "topic": group_of(2), "id": "c", "set": {"a": 1}}
    await workers.send(
        pub(1, 0), sub, pub(2, 0), change, {"op": "ack", "topic": f"{group_of(1)}/t", "seq": 1}, pub(0, 0)
    )
    assert (await workers.wires[0].was_sent(1))[0]["id"] == "0.0"
    refused = [await workers.next() for _ in range(4)]  # the ack asked for no answer, and gets none
    assert {line["code"] for line in refused} == {"overloaded"}
    assert all(line["retry_after"] > 0 for line in refused)
    assert [line.get("id") or line.get("rid") for line in refused] == ["1.0", 5, "2.0", "c"]
    await workers.send({"op": "sub", "topic": "**", "rid": 6})  # one worker hangs: nobody is asked for long
    assert (await workers.next())["rid"] == 6
    workers.away.clear()
    await workers.send(pub(1, 1))
    assert (await workers.wires[1].was_sent(1))[-1]["op"] in ("pub", "unsub")
    await workers.fleet.close()


async def test_who_loses_what_when_a_worker_is_lost() -> None:
    """What was under way there is refused, its subscriptions are told, in their place; nothing else notices."""
    workers = Workers()
    parted: list[set[str]] = []
    workers.fleet.on_parted = parted.append
    topic = f"{group_of(1)}/t"
    await workers.send({"op": "sub", "topic": topic, "rid": 1}, pub(1, 0), pub(1, 1), pub(2, 0))
    await workers.wires[1].was_sent(3)
    workers.wires[1].say({"op": "ok", "rid": 1, "topic": topic}, {"op": "ok", "id": "1.0", "topic": topic, "seq": 1})
    workers.wires[1].lose(4500)
    async with asyncio.timeout(5):
        frames = (await workers.fleet.receive()).split(b"\n")
    assert [json.loads(line)["op"] for line in frames] == ["ok", "ok"]
    assert parted == []
    refused = await workers.next()
    assert (refused["id"], refused["code"], refused["message"]) == ("1.1", "overloaded", "worker 1 was lost")
    workers.wires[2].say({"op": "ok", "id": "2.0"})
    assert (await workers.next())["id"] == "2.0"
    assert parted == [{topic}]
    workers.wires[1] = Wire()
    await workers.send({"op": "sub", "topic": topic, "rid": 2})  # it is back
    assert (await workers.wires[1].was_sent(1))[0]["rid"] == 2
    await workers.fleet.close()


async def test_a_pattern_of_all_groups_that_one_worker_lost_is_asked_for_anew() -> None:
    workers = Workers()
    parted: list[set[str]] = []
    workers.fleet.on_parted = parted.append
    await workers.send({"op": "sub", "topic": "**", "rid": 7})
    for wire in workers.wires:
        await wire.was_sent(1)
        wire.say({"op": "ok", "rid": 7, "topic": "**"})
        wire.say({"op": "live", "topic": "**", "seq": 0})
    assert [(await workers.next())["op"] for _ in range(2)] == ["ok", "live"]
    workers.wires[1].lose()
    for wire in (workers.wires[0], workers.wires[2]):
        assert (await wire.was_sent(2))[1]["op"] == "unsub"
    workers.wires[0].say({"op": "pong"})
    assert (await workers.next())["op"] == "pong"
    assert parted == [{"**"}]
    await workers.fleet.close()


@pytest.mark.parametrize(
    "line",
    [
        {"op": "sub", "topic": f"{group_of(1)}/t", "consumer": "c", "rid": 1},
        {"op": "sub", "topic": f"{group_of(1)}/t", "presence": True, "rid": 1},
        {"op": "join", "topic": f"{group_of(1)}/t", "rid": 1},
    ],
)
async def test_where_consumers_or_presence_were_all_is_lost_and_may_come_back_at_once(line: dict[str, Any]) -> None:
    workers = Workers()
    await workers.send(line)
    await workers.wires[1].was_sent(1)
    workers.wires[0].say({"op": "pong"})
    workers.wires[1].lose(4500)
    assert (await workers.next())["op"] == "pong"  # what came before is not lost
    with pytest.raises(ConnectionLost) as caught:
        await workers.next()
    assert caught.value.retry_after == 0.0
    assert caught.value.code == 1006  # it is that worker's, and no reason to stay away from all
    workers.fleet.abort()


async def test_main_is_lost_as_it_says() -> None:
    workers = Workers()
    workers.wires[0].lose(4509)
    with pytest.raises(ConnectionLost) as caught:
        await workers.next()
    assert caught.value.code == 4509
    workers.fleet.abort()


async def test_a_fresh_token_is_shown_everywhere_and_one_welcome_is_heard() -> None:
    workers = Workers()
    await workers.send(pub(1, 0))
    await workers.wires[1].was_sent(1)
    await workers.send({"op": "hello", "agent": "joe", "token": "fresh", "groups": ["g"], "rid": 1})
    assert (await workers.wires[1].was_sent(2))[1] == {"op": "hello", "agent": "joe", "token": "fresh"}
    assert (await workers.wires[0].was_sent(1))[0]["groups"] == ["g"]
    workers.wires[1]._says.put_nowait(codec.encode(welcome(1)))
    workers.wires[1]._says.put_nowait(b'{"op":"goaway","reason":"r","reconnect_after":9}')
    workers.wires[1].say({"op": "ok", "id": "1.0"})
    assert (await workers.next())["id"] == "1.0"
    assert workers.opened == [1]
    await workers.fleet.close()


async def test_a_worker_whose_socket_is_full_is_refused_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "UNSENT_BYTES_MAX", 1000)
    workers = Workers()
    stuck = asyncio.Event()

    async def send(_frame: bytes, *, binary: bool = False) -> None:
        await stuck.wait()

    monkeypatch.setattr(workers.wires[1], "send", send)
    for n in range(100):
        await workers.send(pub(1, n))
    await workers.send(pub(0, 0))
    assert (await workers.wires[0].was_sent(1))[0]["id"] == "0.0"
    assert (await workers.next())["message"] == "worker 1 takes nothing now"
    workers.fleet.abort()
