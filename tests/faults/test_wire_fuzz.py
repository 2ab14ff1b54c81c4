"""Whatever bytes come: the answer is an `err` or a close code of the protocol, and nobody else notices anything.

Workload: a client that sends rubbish, half-right frames, or too much. Beside it a well-behaved pair talks, and one of
the two also reads what the rubbish client managed to publish.
Checker: every byte that came back is the protocol's; every request got one answer; the pair's messages came in order;
the broker logged no error and no traceback.
"""

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.broker import serving, url_of
from harness.log_capture import CapturedLog, captured_log
from harness.raw_socket import BINARY, CLOSE, CLOSE_CODES, HANDSHAKE, MASK, PING, TEXT, RawSocket, header, masked
from harness.wire import WireClient, wire_client

T = TypeVar("T")

MAX_FRAME = 16_384


class Site:
    """A broker, the pair, and the loop that they live in."""

    def __init__(self, runner: asyncio.Runner, log: CapturedLog) -> None:
        self._runner = runner
        self._stack = AsyncExitStack()
        self._log = log
        self._seqs: dict[str, int] = {}
        self._count = 0
        self.port = 0
        self.joe: WireClient
        self.ann: WireClient

    async def open(self, directory: Path) -> None:
        self.server = await self._stack.enter_async_context(
            serving(directory, max_frame=MAX_FRAME, hold_seconds=0.02, hello_timeout=0.2, shards=2)
        )
        self.port = self.server.port
        self.joe = await self._stack.enter_async_context(wire_client(url_of(self.server), "joe"))
        self.ann = await self._stack.enter_async_context(wire_client(url_of(self.server), "ann"))
        await self.ann.sub("pair/talk")
        await self.ann.sub("fuzz/**")
        await self.ann.sub("**")

    async def close(self) -> None:
        await self._stack.aclose()

    async def pair_goes_on(self) -> None:
        """They talk; and whatever came in between was a whole message, in its place."""
        self._count += 1
        answer = await self.joe.pub("pair/talk", self._count)
        assert answer["op"] == "ok"
        while True:
            line = await self.ann.next()
            assert line["op"] in ("msg", "live"), line
            if line["op"] == "live":
                continue
            if "seq" in line:
                assert line["seq"] == self._seqs.get(line["topic"], line["seq"] - 1) + 1
                self._seqs[line["topic"]] = line["seq"]
            if line["topic"] == "pair/talk":
                assert line["data"] == self._count
                return

    def run(self, scenario: Callable[[], Awaitable[T]]) -> T:
        """One example: the scenario, then the pair, then a look at the log."""

        async def whole() -> T:
            found = await scenario()
            await self.pair_goes_on()
            async with asyncio.timeout(10):
                while len(self.server.broker.sessions.open) > 2:  # noqa: ASYNC110 - its end is the broker's to see
                    await asyncio.sleep(0.001)
            return found

        found = self._runner.run(whole())
        self._log.check_no_bug()
        return found

    def __repr__(self) -> str:
        return "a broker and a pair"


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    factory = pytest.importorskip("uvloop").new_event_loop if request.param == "uvloop" else None
    with captured_log() as log, asyncio.Runner(loop_factory=factory) as runner:
        site = Site(runner, log)
        runner.run(site.open(tmp_path_factory.mktemp("fuzz") / "data"))
        yield site
        runner.run(site.close())
        log.check_no_bug()


def judge_end(client: RawSocket, *, own_codes: frozenset[int] = frozenset()) -> None:
    """A connection may end without a closing frame only when the client itself ended it."""
    if client.close_code is not None:
        assert client.close_code in CLOSE_CODES | {1005} | own_codes


async def send_and_end(site: Site, pieces: list[bytes], agent: str | None = "fuzz") -> RawSocket:
    client = await RawSocket.open(site.port)
    try:
        if agent is not None:
            await client.upgrade(agent)
        await client.send(*pieces)
        await client.to_the_end()
    finally:
        client.writer.transport.abort()
    return client


# Bytes ------------------------------------------------------------------------------------------------------------

rubbish = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6)


@given(pieces=rubbish)
@settings(max_examples=60)
def test_rubbish_on_an_open_connection(site: Site, pieces: list[bytes]) -> None:
    client = site.run(lambda: send_and_end(site, pieces))
    judge_end(client)


upgrade = HANDSHAKE % b"fuzz"


@given(
    at=st.integers(0, len(upgrade)),
    what=st.sampled_from([b"", b"\0", b"\xff", b"\r\n", b" ", b"\r\n\r\n", b":", b"GET / HTTP/1.1\r\n", b"x" * 70_000]),
    skip=st.integers(0, 40),
    after=st.binary(max_size=30),
)
@settings(max_examples=60)
def test_rubbish_in_the_handshake(site: Site, at: int, what: bytes, skip: int, after: bytes) -> None:
    async def scenario() -> None:
        client = await RawSocket.open(site.port)
        try:
            await client.send(upgrade[:at] + what + upgrade[at + skip :], after)
            client._take = lambda data: None  # type: ignore[method-assign] # what comes back is HTTP, or frames behind it
            await client.to_the_end()
        finally:
            client.writer.transport.abort()

    site.run(scenario)


def frames(*lines: bytes) -> bytes:
    return b"".join(masked(TEXT, line) for line in lines)


GOOD = [
    b'{"op":"ping","rid":1}',
    b'{"op":"hello","agent":"fuzz","session":"life"}',
    b'{"op":"pub","topic":"fuzz/c","id":"i1","data":{"a":[1,2,3]}}',
    b'{"op":"sub","topic":"fuzz/c","from":"all","rid":"s"}',
    b'{"op":"unsub","topic":"fuzz/c"}',
]


@given(
    places=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 10_000), max_size=4),
    end=st.integers(0, 10_000),
)
@settings(max_examples=80)
def test_good_frames_with_wrong_bytes(site: Site, places: list[tuple[int, int]], cuts: list[int], end: int) -> None:
    stream = bytearray(frames(*GOOD))
    for place, byte in places:
        stream[place % len(stream)] = byte
    whole = bytes(stream[: max(1, len(stream) - end % (2 * len(stream)))] if end % 2 else stream)
    edges = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    pieces = [whole[start:stop] for start, stop in pairwise(edges)]
    client = site.run(lambda: send_and_end(site, pieces))
    # A flipped bit can make a closing frame with a code of the client's own, which is answered with the same.
    judge_end(client, own_codes=frozenset(range(1000, 5000)))


# Lines ------------------------------------------------------------------------------------------------------------

names = st.sampled_from(
    [
        "fuzz/c",
        "fuzz/d",
        "fuzz/*",
        "fuzz/**",
        "**",
        "*/c",
        "nogroup",
        "",
        "/",
        "fuzz//c",
        "_hubbub/x",
        "fuzz/" + "x" * 600,
    ]
)
odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.lists(st.integers(-2, 2), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(-9, 9), max_size=3),
)
ids = st.one_of(st.sampled_from(["a", "b", "c", "", "é" * 200]), st.text(max_size=8))
starts = st.one_of(
    st.sampled_from(["new", "all", "old", {}, {"seq": 1}, {"seq": 0}, {"seq": 2**60}, {"last": 3}, {"last": 10**30}]),
    st.fixed_dictionaries({"since": st.one_of(st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False))}),
    st.fixed_dictionaries(
        {"since": st.just(0), "after": st.dictionaries(names, st.integers(-(2**65), 2**65), max_size=3)}
    ),
    st.fixed_dictionaries({"seq": st.integers(-1, 9), "epoch": st.text(max_size=9)}),
    odd,
)
fields = st.fixed_dictionaries(
    {
        "op": st.sampled_from(
            [
                "pub",
                "pub",
                "sub",
                "unsub",
                "join",
                "leave",
                "ping",
                "hello",
                "ack",
                "nack",
                "extend",
                "term",
                "msg",
                "x",
            ]
        )
    },
    optional={
        "topic": st.one_of(names, odd),
        "id": st.one_of(ids, odd),
        "data": odd,
        "rid": st.one_of(st.integers(-(2**65), 2**65), st.text(max_size=9), odd),
        "from": starts,
        "agent": st.one_of(st.just("fuzz"), st.text(max_size=9)),
        "session": st.one_of(st.text(max_size=9), odd),
        "parent": st.one_of(ids, odd),
        "n": st.one_of(st.integers(-1, 3), odd),
        "lc": st.one_of(st.integers(-1, 2**54), odd),
        "ttl": st.one_of(st.floats(0.001, 1e9), odd),
        "ephemeral": st.booleans(),
        "headers": odd,
        "type": st.one_of(st.text(max_size=5), odd),
        "reply_to": st.one_of(names, odd),
        "consumer": st.text(max_size=4),
        "groups": st.lists(names, max_size=2),
        "seq": odd,
        "meta": odd,
    },
)


def spoil(line: bytes, place: int, what: bytes, skip: int) -> bytes:
    place %= len(line) + 1
    return line[:place] + what + line[place + skip :]


spoilt = st.builds(
    spoil,
    fields.map(lambda line: json.dumps(line).encode()),
    st.integers(0, 1000),
    st.sampled_from(
        [b"", b'"', b"{", b"}", b"[" * 3000, b"\xff", b"\xed\xa0\x80", b"\0", b"\\u", b"\\ud800", b",", b"9" * 400]
    ),
    st.integers(0, 4),
)
any_line = st.one_of(fields.map(lambda line: json.dumps(line).encode()), spoilt, st.binary(max_size=20))


def answers_due(payload: bytes) -> int:
    """How many answers a text frame is owed: one for each line, be it text or not."""
    return sum(1 for line in payload.split(b"\n") if line) if b"\n" in payload else 1


async def all_answered(client: RawSocket, due: int) -> None:
    """Read until every request has its answer, and one more request too."""
    while sum(line["op"] in ("ok", "err", "welcome", "pong") for line in client.lines) < due:
        assert await client.receive(), f"closed with {client.close_code}, {due} answers due: {client.lines}"
    await client.request({"op": "ping", "rid": "the end of this example"})
    await client.until("pong", rid="the end of this example")
    assert sum(line["op"] in ("ok", "err", "welcome", "pong") for line in client.lines) == due + 1, client.lines


@given(lines=st.lists(st.lists(any_line, min_size=1, max_size=5), min_size=1, max_size=5))
@settings(max_examples=150)
def test_every_line_gets_one_answer(site: Site, lines: list[list[bytes]]) -> None:
    payloads = [b"\n".join(each)[:MAX_FRAME] for each in lines]

    async def scenario() -> None:
        client = await RawSocket.open(site.port)
        try:
            await client.upgrade("fuzz")
            await client.send(*(masked(TEXT, payload) for payload in payloads))
            await all_answered(client, sum(map(answers_due, payloads)))
            assert not client.closed
            codes = {line["code"] for line in client.lines if line["op"] == "err"}
            allowed = {"bad_request", "forbidden", "conflict", "not_found", "order", "overloaded", "too_large"}
            assert codes <= allowed
        finally:
            client.writer.transport.abort()

    site.run(scenario)


REFUSED_LINES = [
    b'{"op":"ping","id":"\xff"}',
    b'{"op":"ping","rid":"\x84"}',
    b"\x84",
    b'{"op":"pub","topic":"fuzz/c","id":"\xed\xa0\x80","data":1}',
    b'{"op":"pub","topic":"fuzz/c","id":"i","data":"\xff"}',
    b'{"op":"ping","rid":"\\ud800"}',
    b'{"op":"ping","rid":' + b"9" * 5000 + b"}",
    b'{"op":"pub","topic":"fuzz/c","id":"i","data":' + b"[" * 5000 + b"]" * 5000 + b"}",
]
"""Lines that were found to need care: each is refused, and the connection lives."""


@pytest.mark.parametrize("line", REFUSED_LINES, ids=range(len(REFUSED_LINES)))
@pytest.mark.parametrize("beside", [b"", b'\n{"op":"ping"}'], ids=["alone", "with another"])
def test_a_refused_line(site: Site, line: bytes, beside: bytes) -> None:
    async def scenario() -> None:
        client = await RawSocket.open(site.port)
        try:
            await client.upgrade("fuzz")
            await client.send(masked(TEXT, line + beside))
            await all_answered(client, answers_due(line + beside))
            assert client.lines[0]["code"] == "bad_request"
        finally:
            client.writer.transport.abort()

    site.run(scenario)


# Frames ------------------------------------------------------------------------------------------------------------


@given(
    cuts=st.lists(st.integers(1, 40), max_size=10),
    pings=st.lists(st.integers(0, 9), max_size=4),
    segments=st.lists(st.integers(0, 3000), max_size=6),
    binary=st.booleans(),
)
@settings(max_examples=60)
def test_fragments_with_pings_between_and_any_segments(
    site: Site, cuts: list[int], pings: list[int], segments: list[int], binary: bool
) -> None:
    message = {"op": "pub", "topic": "fuzz/fragments", "id": f"{cuts}{pings}{segments}{binary}"[:200]}
    if binary:
        head = json.dumps(message).encode()
        payload = struct.pack(">I", len(head)) + head + bytes(range(256))
    else:
        payload = json.dumps({**message, "data": "x" * 200}).encode()
    parts = []
    rest = payload
    for cut in cuts:
        parts.append(rest[:cut])
        rest = rest[cut:]
    parts.append(rest)
    stream = b""
    for number, part in enumerate(parts):
        first = (2 if binary else 1) if number == 0 else 0
        stream += masked(first | (0x80 if number == len(parts) - 1 else 0), part)
        if number in pings and number < len(parts) - 1:
            stream += masked(PING, b"between %d" % number)
    edges = sorted({0, len(stream), *(edge % (len(stream) + 1) for edge in segments)})
    pieces = [stream[start:stop] for start, stop in pairwise(edges)]

    async def scenario() -> RawSocket:
        client = await RawSocket.open(site.port)
        try:
            await client.upgrade("fuzz")
            await client.send(*pieces)
            await client.until("ok", id=message["id"], topic="fuzz/fragments")
        finally:
            client.writer.transport.abort()
        return client

    client = site.run(scenario)
    assert client.pongs == [b"between %d" % number for number in sorted(set(pings)) if number < len(parts) - 1]


@given(
    claimed=st.one_of(st.integers(0, 60), st.integers(0, 2**32 - 1)),
    payload=st.one_of(st.binary(max_size=60), any_line),
)
@settings(max_examples=60)
def test_binary_frames_that_lie_about_their_header(site: Site, claimed: int, payload: bytes) -> None:
    async def scenario() -> None:
        client = await RawSocket.open(site.port)
        try:
            await client.upgrade("fuzz")
            await client.send(masked(BINARY, struct.pack(">I", claimed) + payload[:MAX_FRAME]))
            await all_answered(client, 1)
        finally:
            client.writer.transport.abort()

    site.run(scenario)


WRONG_FRAMES = {
    "a frame one byte over the limit": (header(TEXT, MAX_FRAME + 1), 1009),
    "a frame of four gigabytes": (header(TEXT, 2**32), 1009),
    "a frame of nine exabytes": (header(TEXT, 2**63 - 1), 1009),
    "a length with its highest bit set": (header(TEXT, 2**63), 1009),
    "a binary frame of four gigabytes": (header(BINARY, 2**32), 1009),
    "fragments that are too much together": (
        masked(0x01, b"x" * (MAX_FRAME - 9)) + masked(0x00, b"x" * 5) + masked(0x80, b"x" * 10),
        1009,
    ),
    "no mask": (header(TEXT, 2, None) + b"{}", 4501),
    "a reserved bit": (masked(0xC1, b"{}"), 4501),
    "a reserved opcode": (masked(0x83, b"{}"), 4501),
    "a continuation of nothing": (masked(0x80, b"{}"), 4501),
    "a new message inside another": (masked(0x01, b"{") + masked(TEXT, b"{}"), 4501),
    "a fragmented ping": (masked(0x09, b"x"), 4501),
    "a ping of 126 bytes": (masked(PING, b"x" * 126), 4501),
    "a closing frame of one byte": (masked(CLOSE, b"x"), 4501),
    "a closing frame with a code that nobody may send": (masked(CLOSE, struct.pack(">H", 1005)), 4501),
    "a closing frame whose reason is no text": (masked(CLOSE, struct.pack(">H", 1000) + b"\xff\xff"), 4501),
}


@pytest.mark.parametrize("what", WRONG_FRAMES)
@pytest.mark.parametrize("before", [b"", masked(TEXT, b'{"op":"ping"}'), masked(PING, b"")], ids=["", "text", "ping"])
def test_broken_framing_has_a_close_code(site: Site, what: str, before: bytes) -> None:
    stream, code = WRONG_FRAMES[what]
    client = site.run(lambda: send_and_end(site, [before + stream, b"what follows is not read"]))
    assert client.close_code == code


def test_a_claim_of_gigabytes_costs_nothing(site: Site) -> None:
    """The length is refused when it is read: nothing is kept for it, and nothing waited for."""

    async def scenario() -> None:
        clients = [await RawSocket.open(site.port) for _ in range(50)]
        for client in clients:
            await client.upgrade("fuzz")
            await client.send(header(BINARY, 2**33) + b"x" * 1000)
        for client in clients:
            while await client.receive():
                pass
            assert client.close_code == 1009
            client.writer.transport.abort()

    site.run(scenario)


# Too much, too little ------------------------------------------------------------------------------------------------


def test_a_flood_of_pings_is_answered_in_order(site: Site) -> None:
    async def scenario() -> None:
        client = await RawSocket.open(site.port)
        await client.upgrade("fuzz")
        for batch in range(20):
            await client.send(b"".join(masked(PING, b"%d" % (batch * 500 + i)) for i in range(500)))
        while len(client.pongs) < 10_000:
            assert await client.receive()
        assert client.pongs == [b"%d" % i for i in range(10_000)]
        client.writer.transport.abort()

    site.run(scenario)


FLOODS = {
    "pings": masked(PING, b"p" * 125) * 100,
    "requests": masked(TEXT, b"\n".join([b'{"op":"ping","rid":"%b"}' % (b"r" * 80)] * 100)),
    "rubbish": masked(TEXT, b"\n".join([b"{}"] * 1000)),
    "publishes": masked(TEXT, b"\n".join([b'{"op":"pub","topic":"flood/c","id":"x","data":1}'] * 100)),
}
UNREAD_MAX = 4 * 2**20
"""What the broker may hold of answers for a client that does not read them."""


@pytest.mark.parametrize("what", FLOODS)
def test_who_sends_and_never_reads_is_read_no_further(site: Site, what: str) -> None:
    """Otherwise its answers pile up in the broker's memory without bound."""

    async def scenario() -> int:
        client = await RawSocket.open(site.port, receive_buffer=4096)
        await client.upgrade("deaf")
        session = next(each for each in site.server.broker.sessions.open if each.agent == "deaf")
        transport = session._connection.transport  # type: ignore[attr-defined]
        held = sent = 0
        while sent < 32 * 2**20 and held <= UNREAD_MAX:
            client.writer.write(FLOODS[what])
            sent += len(FLOODS[what])
            try:
                async with asyncio.timeout(0.5):
                    await client.writer.drain()
            except TimeoutError:
                break  # it is read no further: that is what should happen
            held = max(held, transport.get_write_buffer_size())
        client.cut()
        return held

    assert site.run(scenario) <= UNREAD_MAX


@given(
    stream=st.sampled_from([upgrade, upgrade + frames(*GOOD), upgrade + masked(0x01, b'{"op":"pub"')]),
    at=st.integers(1, 500),
    reset=st.booleans(),
)
@settings(max_examples=40)
def test_half_open_connections(site: Site, stream: bytes, at: int, reset: bool) -> None:
    async def scenario() -> None:
        client = await RawSocket.open(site.port)
        await client.send(stream[: at % len(stream)])
        if reset:
            client.cut()
        else:
            client.writer.transport.abort()

    site.run(scenario)


def test_who_connects_and_says_nothing_is_asked_to_go(site: Site) -> None:
    async def scenario() -> int | None:
        client = await RawSocket.open(site.port)
        client.writer.write(upgrade.replace(b"?agent=fuzz", b""))
        answer = await client._reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in answer
        while await client.receive():
            pass
        client.writer.transport.abort()
        return client.close_code

    assert site.run(scenario) == 4500


def test_a_frame_full_of_rubbish_holds_nobody_up(site: Site) -> None:
    """The largest frame, made of the shortest lines: thousands of answers to one frame."""

    async def scenario() -> None:
        client = await RawSocket.open(site.port)
        await client.upgrade("fuzz")
        payload = b"\n".join([b"0"] * (MAX_FRAME // 2))
        await client.send(masked(TEXT, payload, MASK))
        await all_answered(client, MAX_FRAME // 2)
        client.writer.transport.abort()

    site.run(scenario)
