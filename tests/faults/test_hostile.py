"""A client that means harm: it costs a bounded amount of memory and time, and its neighbours notice nothing.

Workload: a well-behaved pair that measures how long a message takes, beside the attack and at a broker of its own.
Fault: one attack each.
Checker: how each attack is answered; the pair's latencies and answers; the broker's memory; that it lives.
"""

import asyncio
import gzip
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from harness.broker import BrokerProcess
from harness.neighbours import BUSY, Neighbours, Probe, neighbours
from harness.raw_socket import (
    BINARY,
    CLOSE_CODES,
    HANDSHAKE,
    PING,
    TEXT,
    RawSocket,
    header,
    masked,
    raw_socket,
    text,
)

MIB = 2**20
NO_MASK = bytes(4)
CONNECTIONS = 100
GROWTH_MAX = 48 * MIB
"""Of the broker's memory by one attack: what a hundred connections may hold with `SETTINGS`, and some slack."""
SETTINGS: dict[str, Any] = {
    "write_buffer": "64KiB",
    "max_frame": "1MiB",
    "topics_in_memory": 200,
    "hello_timeout": 5,
    "hold_bytes": "1MiB",
}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One broker for all attacks: it has to outlive them."""
    broker = BrokerProcess(tmp_path_factory.mktemp("broker") / "data", **SETTINGS)
    broker.start()
    yield broker
    broker.kill()


class Street:
    """A broker and the pair on it."""

    def __init__(self, broker: BrokerProcess, pair: Neighbours) -> None:
        self.port = broker.port
        self.url = broker.url
        self.pair = pair
        self._memory = pair.memory

    def judge(self, during: list[Probe], growth: int = GROWTH_MAX) -> None:
        """Assert that nobody has noticed anything."""
        Neighbours.compare(during, BUSY)
        assert self.pair.memory - self._memory < growth, f"grew by {(self.pair.memory - self._memory) / MIB:.0f} MiB"


@pytest.fixture(scope="module")
def pair(process: BrokerProcess) -> Iterator[Neighbours]:
    asyncio.run(process.wait_ready())
    with neighbours(process) as pair:
        yield pair


@pytest.fixture
async def street(process: BrokerProcess, pair: Neighbours) -> AsyncIterator[Street]:
    await pair.measure(3)
    yield Street(process, pair)
    await pair.measure(3)


# Sockets ------------------------------------------------------------------------------------------------------------


async def test_handshakes_a_byte_at_a_time(street: Street) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(raw_socket(street.port, None)) for _ in range(CONNECTIONS)]

        async def drip() -> None:
            for at in range(40):
                for client in clients:
                    await client.send(HANDSHAKE[at : at + 1])

        street.judge(await street.pair.beside(drip()))


async def test_sockets_that_subscribe_and_never_read(street: Street) -> None:
    async with AsyncExitStack() as stack:
        for number in range(CONNECTIONS):
            deaf = await stack.enter_async_context(raw_socket(street.port, f"deaf{number}", receive_buffer=4096))
            await deaf.request({"op": "sub", "topic": "load/**"}, *({"op": "ping", "rid": i} for i in range(2000)))

        async def talk() -> None:
            async with raw_socket(street.port, "loud") as loud:
                for number in range(100):
                    await loud.request(
                        *({"op": "pub", "topic": "load/c", "id": f"{number}.{i}", "data": "x" * 4000} for i in range(8))
                    )
                    await loud.until("ok", id=f"{number}.7")

        street.judge(await street.pair.beside(talk()))


async def test_sockets_that_are_cut_in_the_middle(street: Street) -> None:
    async def cut() -> None:
        whole = text([{"op": "pub", "topic": "load/c", "id": "x", "data": "x" * 5000}])
        for number in range(CONNECTIONS):
            client = await RawSocket.open(street.port)
            await client.upgrade(f"cut{number}")
            await client.send(whole[: 1 + 50 * number])
            client.cut()

    street.judge(await street.pair.beside(cut()))


async def test_headers_without_end(street: Street) -> None:
    async def ramble() -> None:
        for start in (b"GET /v1/ws HTTP/1.1\r\n", b"GET /" + b"x" * 1000, HANDSHAKE[:-2]):
            async with raw_socket(street.port, None) as client:
                await client.send(start, *(b"X-%d: %b\r\n" % (i, b"y" * 1000) for i in range(1000)))

    street.judge(await street.pair.beside(ramble()))


# Frames -------------------------------------------------------------------------------------------------------------


async def ended(client: RawSocket) -> int | None:
    while await client.receive():
        pass
    return client.close_code


@pytest.mark.parametrize("size", [MIB + 1, 2**31, 2**40, 2**62])
async def test_a_frame_that_claims_too_much_is_not_waited_for(street: Street, size: int) -> None:
    async def claim() -> None:
        for kind in (TEXT, BINARY):
            async with raw_socket(street.port) as client:
                await client.send(header(kind, size), b"x" * 1000)
                assert await ended(client) == 1009

    street.judge(await street.pair.beside(claim()))


async def test_a_message_in_fragments_is_bounded_too(street: Street) -> None:
    async def dribble() -> None:
        for size in (1, 60_000):
            async with raw_socket(street.port) as client:
                await client.send(masked(0x01, b"x" * size, NO_MASK))
                for _ in range(20 if size > 1 else 2000):
                    await client.send(masked(0x00, b"x" * size, NO_MASK))
                if size > 1:
                    assert await ended(client) == 1009

    street.judge(await street.pair.beside(dribble()))


async def test_nothing_is_inflated(street: Street) -> None:
    """Compression is not offered: a bomb stays what it is on the wire."""
    bomb = gzip.compress(b"[" + b"0," * (32 * MIB) + b"0]")
    assert len(bomb) < 128 * 1024

    async def throw() -> None:
        asking = HANDSHAKE[:-2] % b"bomber" + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        async with raw_socket(street.port, None) as client:
            client.writer.write(asking)
            answer = await client._reader.readuntil(b"\r\n\r\n")
            assert b"101" in answer
            assert b"extensions" not in answer.lower()
            await client.send(masked(0xC1, bomb, NO_MASK))  # a frame that says it is compressed
            assert await ended(client) in CLOSE_CODES | {1002}
        async with raw_socket(street.port, None) as client:
            start = b"POST /v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            client.writer.write(start + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
            assert b" 400 " in await client._reader.readuntil(b"\r\n")

    street.judge(await street.pair.beside(throw()))


async def test_pings_without_end(street: Street) -> None:
    async def ping() -> None:
        async with raw_socket(street.port, receive_buffer=4096) as client:
            for _ in range(200):
                await client.send(masked(PING, b"x" * 125) * 50)

    street.judge(await street.pair.beside(ping()))


# Lines --------------------------------------------------------------------------------------------------------------

BIG = 900_000
HUGE = "9" * BIG


def pub(**fields: str) -> bytes:
    given = {"op": '"pub"', "topic": '"load/c"', "id": '"i"', "data": "1", **fields}
    return ("{" + ",".join(f'"{name}":{value}' for name, value in given.items()) + "}").encode()


DEEP = "[" * (BIG // 2) + "]" * (BIG // 2)
LINES = {
    "data that is deep": pub(data=DEEP),
    "headers that are deep": pub(headers='{"hops":' + DEEP + "}"),
    "objects that are deep": pub(data='{"a":' * 100_000 + "1" + "}" * 100_000),
    "a huge lc": pub(lc=HUGE),
    "a huge n": pub(n=HUGE),
    "a huge ttl": pub(ttl=HUGE),
    "a ttl beyond all exponents": pub(ttl="1e" + HUGE),
    "a fine ttl": pub(ttl="0." + HUGE),
    "a huge rid": pub(rid=HUGE),
    "huge hops": pub(headers='{"hops":' + HUGE + ',"cost":1e' + HUGE[:1000] + "}"),
    "a huge number as data": pub(data=HUGE),
    "a huge id": pub(id='"' + "x" * BIG + '"'),
    "an id of escapes": pub(id='"' + "\\u00e9" * (BIG // 6) + '"'),
    "a huge topic": pub(topic='"' + "x/" * (BIG // 2) + 'x"'),
    "a huge type": pub(type='"' + "x" * BIG + '"'),
    "a huge parent": pub(parent='"' + "x" * BIG + '"'),
    "many fields": pub(**{f"k{number}": "1" for number in range(60_000)}),
    "a pattern of stars": b'{"op":"sub","topic":"' + b"*" * BIG + b'"}',
    "a pattern of segments": b'{"op":"sub","topic":"' + b"*/" * (BIG // 2) + b'**"}',
    "many topics to go on from": b'{"op":"sub","topic":"load/**","from":{"since":0,"after":{%b}}}'
    % b",".join(b'"load/%d":1' % number for number in range(50_000)),
    "many groups": b'{"op":"hello","agent":"raw","groups":[' + b",".join([b'"g"'] * 150_000) + b"]}",
    "bytes that are no UTF-8": pub().replace(b'"i"', b'"\xc3\x28\xff"'),
    "half a character in data": pub(data='"x"').replace(b'"x"', b'"\xf0\x9f\x98"'),
    "half of a pair": pub(id='"\\ud800"'),
    "a NUL": pub(data='"\\u0000"', id='"\\u0000"'),
    "no JSON at all": b"\0" * BIG,
    "a string without end": b'{"op":"pub","id":"' + b"x" * BIG,
    "a thousand lines of nothing": b"{}\n" * 1000,
}


@pytest.mark.parametrize("name", LINES)
async def test_a_line_made_to_be_slow_or_wrong(street: Street, name: str) -> None:
    frame = masked(TEXT, LINES[name], NO_MASK)

    async def ask() -> None:
        async with raw_socket(street.port) as client:
            for number in range(10):
                await client.send(frame)
                await client.request({"op": "ping", "rid": f"r{number}"})
                while not any(line.get("rid") == f"r{number}" for line in client.lines):
                    if not await client.receive():
                        assert client.close_code in CLOSE_CODES
                        return
            answers = [line for line in client.lines if line["op"] != "pong"]
            assert answers, "not a word about it"
            assert all(len(json.dumps(line)) < 5000 for line in answers if line["op"] == "err")

    street.judge(await street.pair.beside(ask()))


# Topics and patterns ------------------------------------------------------------------------------------------------


async def many_topics(street: Street, count: int) -> None:
    """A message to each of so many topics; one in a hundred answers a message that never comes, and is held back."""
    async with raw_socket(street.port) as client:
        acked = 0

        def note(line: dict[str, object]) -> None:
            nonlocal acked
            assert line["op"] == "ok", line
            acked += "seq" in line

        client.take = note
        for start in range(0, count, 500):
            await client.request(
                *(
                    {"op": "pub", "topic": f"many/t{number}", "id": "i", "data": 1, "parent": "p", "ephemeral": True}
                    if number % 100 == 0
                    else {"op": "pub", "topic": f"many/t{number}", "id": "i", "data": 1}
                    for number in range(start, min(count, start + 500))
                )
            )
            while acked < start - start // 100:
                assert await client.receive()


async def test_ten_thousand_topics(street: Street) -> None:
    street.judge(await street.pair.beside(many_topics(street, 10_000)))


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_a_million_topics(street: Street) -> None:
    street.judge(await street.pair.beside(many_topics(street, 1_000_000)), 256 * MIB)


async def test_answers_to_what_never_comes_fill_no_memory(street: Street) -> None:
    """Each in a topic of its own, over many groups."""
    data = '"' + "x" * 900_000 + '"'

    async def hoard() -> None:
        async with raw_socket(street.port) as client:
            codes: list[str] = []
            client.take = lambda line: codes.append(line.get("code", line["op"]))
            for number in range(150):
                one = pub(topic=f'"hoard{number % 40}/t{number}"', parent='"never"', data=data)
                await client.send(masked(TEXT, one, NO_MASK))
                await client.request({"op": "ping"})
                while codes.count("pong") <= number:
                    assert await client.receive()
            assert codes.count("overloaded") > 100, codes

    street.judge(await street.pair.beside(hoard()))


async def test_topics_that_are_only_looked_at(street: Street) -> None:
    async def look() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", street.port)
        for number in range(1000):
            writer.write(b"GET /v1/topics/nobody/t%d/messages HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
            answer = await reader.readuntil(b"\r\n\r\n")
            size = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(size)
            assert answer.startswith(b"HTTP/1.1 200")
        writer.close()

    street.judge(await street.pair.beside(look()))


async def test_patterns_made_to_be_slow(street: Street) -> None:
    longest = "many/" + "a/" * 250 + "a"

    async def subscribe() -> None:
        async with AsyncExitStack() as stack:
            for number in range(5):
                client = await stack.enter_async_context(raw_socket(street.port, f"p{number}"))
                for start in range(0, 1000, 100):
                    await client.request(
                        *(
                            {"op": "sub", "topic": "*/" * (250 - i % 9) + f"x{start + i}", "rid": f"s{start + i}"}
                            for i in range(100)
                        )
                    )
                    await client.until("ok", rid=f"s{start + 99}")
                for i in range(20):
                    await client.request(
                        {"op": "pub", "topic": f"{longest[:-1]}{i}", "id": f"i{number}", "data": 1},
                        {"op": "unsub", "topic": "*/" * (250 - i % 9) + f"x{i}", "rid": f"u{i}"},
                    )
                    await client.until("ok", id=f"i{number}", topic=f"{longest[:-1]}{i}")

    street.judge(await street.pair.beside(subscribe()))


# Rules of the guard -------------------------------------------------------------------------------------------------


async def test_chains_and_names_made_up_to_fill_the_guard_s_memory(street: Street) -> None:
    async def fill() -> None:
        async with raw_socket(street.port) as client:
            client.take = lambda line: None
            for start in range(0, 10_000, 500):
                await client.request(
                    *(
                        {
                            "op": "pub",
                            "topic": f"made-up/t{number % 3000}",
                            "id": f"{number}" + "x" * 200,
                            "data": os.urandom(40).hex(),
                            "headers": {"hops": 60 + number % 10},
                            "ephemeral": True,
                        }
                        for number in range(start, start + 500)
                    )
                )
                assert await client.receive()

    street.judge(await street.pair.beside(fill()))
