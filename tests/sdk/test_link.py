"""One connection: handshake, frames, silence; and the supervisor's many: backoff, goaway, redirects."""

import asyncio
import logging
import random
from typing import Any

import pytest

from hubbub import Agent, Backoff, Unauthorized, WrongProtocol
from hubbub.link import FRAME_BYTES_TARGET, Link, LinkFailed, LinkRefused
from hubbub.stats import Stats
from hubbub.testing import ClientEnd, MemoryBroker, refuse_times
from hubbub.transport import ConnectFailed, ConnectionLost, is_binary
from hubbub_protocol import codec
from hubbub_protocol.frames import Err, Goaway, Hello, Pub, Welcome


class Wire:
    """A connection whose other end is the test."""

    def __init__(self, *frames: bytes) -> None:
        self.sent: list[bytes] = []
        self.aborted = False
        self._frames = list(frames)
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def receive(self) -> bytes:
        if self._frames:
            return self._frames.pop(0)
        await self._end
        raise ConnectionLost(1006)

    async def send(self, frame: bytes, *, binary: bool = False) -> None:
        assert is_binary(frame) is binary
        if self.aborted:
            raise ConnectionLost(1006)
        self.sent.append(frame)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.abort()

    def abort(self) -> None:
        self.aborted = True
        if not self._end.done():
            self._end.set_result(None)


class OneWire:
    """A transport with one connection to give."""

    def __init__(self, wire: Wire | Exception) -> None:
        self.wire = wire

    async def connect(self, url: str, headers: dict[str, str]) -> Any:
        if isinstance(self.wire, Exception):
            raise self.wire
        return self.wire


WELCOME = codec.encode(
    Welcome(agent="joe", session="s", server="test", heartbeat=30.0, limits={"max_frame": 5000, "max_inflight": 7})
)


def endpoint(agent: Agent) -> Any:
    return agent._endpoint("s")


async def opened(wire: Wire) -> Link:
    return await Link.open(OneWire(wire), endpoint(Agent("joe")), Stats())


class TestHandshake:
    async def test_hello_and_welcome(self) -> None:
        wire = Wire(WELCOME)
        link = await Link.open(OneWire(wire), endpoint(Agent("joe", group="g", meta={"role": "x"})), Stats())
        hello = codec.decode_client(wire.sent[0])
        assert isinstance(hello, Hello)
        assert (hello.agent, hello.session, hello.groups, bytes(hello.meta)) == ("joe", "s", ["g"], b'{"role":"x"}')
        assert (link.frame_bytes_max, link.inflight_max) == (5000, 7)

    async def test_limits_that_make_no_sense_are_not_believed(self) -> None:
        link = await opened(
            Wire(
                codec.encode(
                    Welcome(
                        agent="joe", session="s", server="t", heartbeat=1, limits={"max_frame": "x", "max_inflight": 0}
                    )
                )
            )
        )
        assert (link.frame_bytes_max, link.inflight_max) == (1 << 20, 4096)

    async def test_what_comes_with_the_welcome_is_not_lost(self) -> None:
        wire = Wire(WELCOME + b"\n" + codec.encode(Goaway(reason="x", reconnect_after=1)))
        link = await opened(wire)
        got: list[Any] = []
        running = asyncio.create_task(link.run(got.extend, lambda message, payload: None))
        await asyncio.sleep(0)
        link.drop("enough")
        await running
        assert [type(frame) for frame in got] == [Goaway]

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (b"HTTP", LinkFailed),
            (codec.encode(Err(code="overloaded", message="later", retry_after=3.0)), LinkFailed),
            (codec.encode(Err(code="unauthorized", message="who?")), LinkRefused),
        ],
    )
    async def test_other_answers(self, answer: bytes, error: type[Exception]) -> None:
        wire = Wire(answer)
        with pytest.raises(error) as caught:
            await opened(wire)
        assert wire.aborted
        if answer.startswith(b'{"op":"err","code":"o'):
            assert caught.value.retry_after == 3.0  # type: ignore[attr-defined]

    async def test_no_answer(self) -> None:
        wire = Wire()
        with pytest.raises(LinkFailed, match="no welcome within 10 s"):
            await opened(wire)
        assert wire.aborted

    @pytest.mark.parametrize(("status", "error"), [(401, LinkRefused), (403, LinkRefused), (502, LinkFailed)])
    async def test_http_statuses(self, status: int, error: type[Exception]) -> None:
        with pytest.raises(error):
            await Link.open(OneWire(ConnectFailed("no", status)), endpoint(Agent("joe")), Stats())

    async def test_a_token_callable_that_fails_is_a_failed_attempt(self) -> None:
        def token() -> str:
            raise OSError("the vault is closed")

        with pytest.raises(LinkFailed, match="OSError"):
            await Link.open(OneWire(Wire(WELCOME)), endpoint(Agent("joe", token=token)), Stats())


class TestFrames:
    async def test_what_is_queued_in_one_turn_leaves_as_one_frame(self) -> None:
        wire = Wire(WELCOME)
        link = await opened(wire)
        running = asyncio.create_task(link.run(lambda frames: None, lambda message, payload: None))
        await asyncio.sleep(0)
        for number in range(5):
            link.send(b"%d" % number)
        await asyncio.sleep(0.1)
        link.send(b"later")
        await asyncio.sleep(0.1)
        assert wire.sent[1:] == [b"0\n1\n2\n3\n4", b"later"]
        link.drop("enough")
        assert (await running).reason == "enough"

    async def test_frames_stay_under_the_brokers_limit(self) -> None:
        wire = Wire(WELCOME)
        link = await opened(wire)
        for number in range(100):
            link.send(b"%03d" % number * 100)
        link.send_binary(b"{}", b"payload")
        link.send(b"after")
        running = asyncio.create_task(link.run(lambda frames: None, lambda message, payload: None))
        await asyncio.sleep(0.1)
        frames = wire.sent[1:]
        assert all(len(frame) <= 5000 for frame in frames)
        assert len(frames) < 12
        assert [is_binary(frame) for frame in frames].count(True) == 1
        assert frames[-2:] == [codec.join_binary(b"{}", b"payload"), b"after"]
        assert b"\n".join(frames[:-2]).split(b"\n") == [b"%03d" % number * 100 for number in range(100)]
        assert FRAME_BYTES_TARGET > 5000
        link.drop("enough")
        await running


class TestSilence:
    async def test_an_idle_connection_is_asked_and_stays(self, joe: Agent, broker: MemoryBroker) -> None:
        await asyncio.sleep(3600)
        assert broker.connects == 1
        assert joe.state == "online"

    async def test_a_dead_one_is_given_up(self, joe: Agent, broker: MemoryBroker) -> None:
        broker.mute = True
        loop = asyncio.get_running_loop()
        before = loop.time()
        await joe.wait_for("degraded")
        assert 2 * broker.heartbeat <= loop.time() - before <= 3 * broker.heartbeat + 1
        broker.mute = False
        await joe.wait_for("online")
        assert (await joe.publish("c", 1)).seq == 1

    async def test_a_broker_that_leaves_publishes_unanswered_is_given_up(
        self, joe: Agent, broker: MemoryBroker
    ) -> None:
        broker.hold_answers()
        future = await joe.submit("c", 1)
        await joe.wait_for("degraded")
        broker._answers = None
        receipt = await future
        assert (receipt.seq, receipt.dup) == (1, True)

    async def test_a_half_open_connection_is_fenced_by_its_session(self, joe: Agent, broker: MemoryBroker) -> None:
        """The broker still holds the old connection when the new one comes."""
        old = broker.sessions[0]
        assert isinstance(old.end, ClientEnd)
        old.end.lose(1006)  # only the client learns that it is over
        await joe.wait_for("degraded")
        await joe.wait_for("online")
        assert broker.sessions != [old]
        assert len(broker.sessions) == 1
        assert (await joe.publish("c", 1)).seq == 1


class TestSupervisor:
    async def test_goaway_says_when_to_come_back(self, joe: Agent, broker: MemoryBroker) -> None:
        loop = asyncio.get_running_loop()
        broker.stop(reconnect_after=12.0)
        broker.start()
        before = loop.time()
        await joe.wait_for("degraded")
        await joe.wait_for("online")
        assert loop.time() - before == pytest.approx(12.0, abs=0.1)

    async def test_stop_loses_nothing(self, joe: Agent, broker: MemoryBroker) -> None:
        futures = [await joe.submit("c", number) for number in range(50)]
        await asyncio.sleep(0)
        broker.stop()
        broker.start()
        assert [(await future).seq for future in futures] == list(range(1, 51))

    async def test_delays_grow_while_it_stays_away_and_begin_anew_after(
        self, make_agent: Any, broker: MemoryBroker, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "hubbub")
        broker.crash()
        loop = asyncio.get_running_loop()
        async with make_agent(backoff=Backoff(base=1, cap=16), source=random.Random(1)) as joe:
            await asyncio.sleep(200)
            attempts = [record for record in caplog.records if "next attempt" in record.getMessage()]
            assert 15 < len(attempts) < 60
            broker.start()
            await joe.wait_for("online")
            await asyncio.sleep(10)
            broker.cut()
            before = loop.time()
            await joe.wait_for("degraded")
            await joe.wait_for("online")
            assert loop.time() - before <= 1.0

    async def test_a_connection_that_never_settles_does_not_begin_anew(self, joe: Agent, broker: MemoryBroker) -> None:
        for _ in range(40):
            broker.cut()
            await joe.wait_for("degraded")
            await joe.wait_for("online")
        assert asyncio.get_running_loop().time() > 100

    async def test_sent_on_to_another_broker_and_back(self, make_agent: Any, broker: MemoryBroker) -> None:
        urls: list[str] = []

        class Elsewhere:
            async def connect(self, url: str, headers: dict[str, str]) -> Any:
                urls.append(url)
                if len(urls) == 1:
                    return Wire(codec.encode(Err(code="wrong_shard", message="there", url="ws://other/v1/ws")))
                if len(urls) == 2:
                    raise ConnectFailed("nobody there")
                return await broker.transport().connect(url, headers)

        async with make_agent(transport=Elsewhere(), url="ws://first") as joe:
            await joe.wait_for("online")
        assert urls == ["ws://first/v1/ws", "ws://other/v1/ws", "ws://first/v1/ws"]

    @pytest.mark.parametrize(("code", "error"), [("unauthorized", Unauthorized), ("bad_request", WrongProtocol)])
    async def test_refused_at_hello(self, make_agent: Any, code: str, error: type[Exception]) -> None:
        class Refusing:
            async def connect(self, url: str, headers: dict[str, str]) -> Any:
                return Wire(codec.encode(Err(code=code, message="no")))

        async with make_agent(transport=Refusing()) as joe:
            with pytest.raises(error):
                await joe.wait_for("online")
            assert joe.state == "closed"

    async def test_a_defect_in_reading_costs_the_connection_and_not_the_agent(
        self, joe: Agent, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(frames: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(joe._sender, "answered", fail)
        await joe.submit("c", 1)
        await joe.wait_for("degraded")
        monkeypatch.undo()
        await joe.wait_for("online")
        assert (await joe.publish("c", 2)).seq == 2

    async def test_logs_tell_no_payload_and_no_token(
        self, make_agent: Any, broker: MemoryBroker, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG, "hubbub")
        broker.verdict = refuse_times(1, "bad_request")
        async with make_agent(token="sesame-token") as joe:
            await joe.submit("c", "secret payload")
            await joe.publish("c", "secret payload")
            broker.cut()
            await joe.wait_for("degraded")
        assert caplog.text
        assert "secret" not in caplog.text
        assert "sesame" not in caplog.text


async def test_the_wire_of_a_publish() -> None:
    wire = Wire(WELCOME)
    agent = Agent("joe", group="g", transport=OneWire(wire), session="s", local=False)
    await agent.open()
    await agent.wait_for("online")
    await agent.submit("c", {"a": 1}, parent="p", headers={"h": 1})
    await agent.submit("c", b"bytes", ttl=5)
    await agent.submit("c", "now", ephemeral=True)
    await asyncio.sleep(0.1)
    assert wire.sent[1] == (
        b'{"op":"pub","n":1,"topic":"g/c","id":"s.1","data":{"a":1},"parent":"p","headers":{"h":1}}'
    )
    header, payload = codec.split_binary(wire.sent[2])
    pub = codec.decode_client(header)
    assert isinstance(pub, Pub)
    assert (pub.n, pub.ttl, payload, bytes(pub.data)) == (2, 5.0, b"bytes", b"")
    assert wire.sent[3] == b'{"op":"pub","topic":"g/c","id":"s.3","data":"now","ephemeral":true}'
    with pytest.raises(Exception, match="2 accepted"):
        await agent.close(drain=0.1)
