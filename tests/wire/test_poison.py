"""Messages that no reader can decode: JSON by its grammar, and too much for whoever wants its value. One costs nobody
anything: it is shown as it was written, and everything around it is read, marked, buried and found as ever.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from harness.broker import url_of
from harness.wire import WireClient
from hubbub import Agent, MessageDecodeError
from hubbub_broker.server import Server
from hubbub_protocol.codec import elements_of, members_of

POISON = {
    "a number that no float holds": "1e999",
    "the same further down": '{"a":[1e400]}',
    "five thousand digits": "9" * 5000,
    "nested deep": "[" * 260 + "]" * 260,
    "nested as deep as can be": "[" * 900 + "]" * 900,
}

poisons = pytest.mark.parametrize("poison", POISON.values(), ids=POISON)


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as client:
        yield client


async def publish(client: WireClient, topic: str, data: str, headers: str = "{}", id: str = "poison") -> None:
    """Publish what `json` would not write."""
    line = f'{{"op":"pub","topic":"{topic}","id":"{id}","data":{data},"headers":{headers}}}'
    await client.socket.send(line)
    assert (await client.until("ok", id=id))["op"] == "ok"


async def send(http: httpx.AsyncClient, text: str) -> httpx.Response:
    return await http.post("/api/send", content=text, headers={"Content-Type": "application/json"})


def bodies(answer: httpx.Response) -> list[str]:
    """The bodies of a page, each as the text that it is."""
    assert answer.status_code == 200, answer.text
    page = members_of(answer.content)
    assert page is not None
    return [bytes((members_of(each) or {})["body"]).decode() for each in elements_of(page["messages"]) or []]


@poisons
class TestInbox:
    async def test_it_is_shown_as_it_was_written_and_the_others_are_read(
        self, http: httpx.AsyncClient, connect: Any, poison: str
    ) -> None:
        await http.get("/api/inbox/jack")
        async with connect("eve") as eve:
            await publish(eve, "agents/@jack", poison)
            await publish(eve, "_mail/@jack", f'{{"to":"jack","body":{poison}}}', id="mail")
            await publish(eve, "agents/@jack", "1", f'{{"a":{poison}}}', id="headers")
        assert (await send(http, '{"from":"joe","to":"jack","body":"good"}')).status_code == 200
        expected = [poison, poison, "1", '"good"']
        assert bodies(await http.get("/api/inbox/jack")) == expected
        assert bodies(await http.get("/api/inbox/jack?mark_read=true")) == expected
        assert bodies(await http.get("/api/inbox/jack")) == []

    async def test_it_is_marked_by_its_id(self, http: httpx.AsyncClient, connect: Any, poison: str) -> None:
        await http.get("/api/inbox/jack")
        async with connect("eve") as eve:
            await publish(eve, "agents/@jack", poison)
        answer = await http.post("/api/inbox/jack/read", json={"ids": ["poison"]})
        assert answer.json() == {"marked": 1}

    async def test_a_socket_has_it_and_what_comes_after(self, server: Server, connect: Any, poison: str) -> None:
        good = asyncio.Event()
        failures: list[str] = []
        async with Agent("jack", url=url_of(server)) as jack, connect("eve") as eve:

            @jack.on_mail(max_deliver=1)
            async def read(mail: Any) -> None:
                if mail.id == "good":
                    good.set()
                    return
                try:
                    _ = mail.data
                except MessageDecodeError:
                    failures.append(mail.id)
                    raise

            await publish(eve, "_mail/@jack", poison)
            await publish(eve, "_mail/@jack", '{"body":1}', id="good")
            async with asyncio.timeout(10):
                await good.wait()
        assert failures in ([], ["poison"])  # Python reads lists in lists


@poisons
async def test_it_is_buried_whole_and_comes_back(http: httpx.AsyncClient, connect: Any, poison: str) -> None:
    headers = f'{{"a":{poison},"hops":1}}'
    async with connect("ann") as ann, connect("eve") as eve:
        await ann.sub("g/_dead")
        await ann.ask("sub", topic="g/t", consumer="c", max_deliver=1, backoff=[])
        await publish(eve, "g/t", poison, headers)
        for _ in range(2):
            await frame_with(ann, '"topic":"g/t"')
            await ann.send("nack", topic="g/t", consumer="c", seq=1)
            letter = await frame_with(ann, '"topic":"g/_dead"')
            assert f'"data":{poison}' in letter
            assert f'"headers":{headers}' in letter
            (open_one,) = (await http.get("/v1/dead/g")).json()["letters"]
            assert (open_one["id"], open_one["from"], open_one["reason"]) == ("poison", "eve", "nack")
            whole = await http.get(f"/v1/dead/g/{open_one['seq']}")
            assert (whole.status_code, f'"data":{poison}' in whole.text) == (200, True)
            assert (await http.post("/v1/dead/g/redrive", json={"all": True})).json()["done"] == 1
        await frame_with(ann, '"topic":"g/t"')
        await ann.send("nack", topic="g/t", consumer="c", seq=1)
        await frame_with(ann, '"topic":"g/_dead"')
        answer = await http.post("/v1/dead/g/redrive", json={"all": True, "republish": True})
        assert answer.json()["done"] == 1
        again = await frame_with(ann, '"topic":"g/t"')
        assert (f'"data":{poison}' in again, f'"headers":{headers}' in again) == (True, True)


async def frame_with(client: WireClient, text: str) -> str:
    """The next frame that has this in it, as it came."""
    async with asyncio.timeout(10):
        while True:
            frame = await client.socket.recv()
            if isinstance(frame, str) and text in frame and '"op":"msg"' in frame:
                return frame


@poisons
async def test_it_is_found_in_every_way(http: httpx.AsyncClient, connect: Any, poison: str) -> None:
    async with connect("eve") as eve:
        await publish(eve, "g/t", poison, f'{{"a":{poison}}}')
        await eve.pub("g/t", {"good": 1}, id="good", parent="poison")
        assert poison in (await http.get("/v1/topics/g/t/messages")).text
        assert poison in (await http.get("/v1/topics/g/t/messages/poison")).text
        assert poison in (await http.get("/v1/topics/g/t/messages/good?ancestors=3")).text
        where = json.dumps({"data.good": 1})
        sifted = (await http.get("/v1/topics/g/t/messages", params={"where": where})).json()
        assert [message["id"] for message in sifted["messages"]] == ["good"]
        async with http.stream("GET", "/v1/topics/g/t/stream?after=0") as stream:
            assert poison in await anext(line async for line in stream.aiter_lines() if line.startswith("data: "))
        async with http.stream("GET", "/v1/topics/g/t/stream?after=0", params={"after": 0, "where": where}) as stream:
            assert '"good"' in await anext(line async for line in stream.aiter_lines() if line.startswith("data: "))
        # a duplicate is compared with what is stored
        await publish(eve, "g/t", poison, f'{{"a":{poison}}}')
    async with connect("ann") as ann:
        await ann.sub("g/t", from_="all", where={"data.good": 1})
        assert (await ann.until("msg"))["id"] == "good"
        await ann.ask("sub", topic="g/t", consumer="keyed", ordered="a", **{"from": "all"})
        await frame_with(ann, '"id":"poison"')


@poisons
async def test_a_tracked_one_has_its_receipt(connect: Any, poison: str) -> None:
    async with connect("ann") as ann, connect("eve") as eve:
        await ann.ask("sub", topic="g/t", consumer="c")
        await eve.socket.send(f'{{"op":"pub","topic":"g/t","id":"p","track":true,"data":{poison}}}')
        await frame_with(ann, '"id":"p"')
        await ann.send("ack", topic="g/t", consumer="c", seq=1)
        assert (await eve.until("receipt", state="done"))["id"] == "p"


class TestSending:
    @pytest.mark.parametrize("body", ["NaN", "[-Infinity]", "Infinity", "tru", "01", '"\\q"', "[1,]"])
    async def test_what_is_no_json_is_refused(self, http: httpx.AsyncClient, body: str) -> None:
        await http.get("/api/inbox/jack")
        answer = await send(http, f'{{"from":"joe","to":"jack","body":{body}}}')
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        assert bodies(await http.get("/api/inbox/jack")) == []

    @pytest.mark.parametrize("body", ["1e400", "123456789012345678901234567890", "1.50e1", "12345678901234567890.5"])
    async def test_a_number_stays_the_text_that_it_is(self, http: httpx.AsyncClient, body: str) -> None:
        await http.get("/api/inbox/jack")
        assert (await send(http, f'{{"from":"joe","to":"jack",\n "body":{body}}}')).status_code == 200
        assert bodies(await http.get("/api/inbox/jack")) == [body]

    async def test_what_is_no_text_where_text_is_wanted_is_shown_as_text(
        self, http: httpx.AsyncClient, connect: Any
    ) -> None:
        await http.get("/api/inbox/jack")
        async with connect("eve") as eve:
            await eve.pub("_mail/@jack", {"to": 7, "subject": {"a": 1}, "body": None})
        (mail,) = (await http.get("/api/inbox/jack")).json()["messages"]
        assert (mail["to"], mail["subject"], mail["body"]) == ("7", '{"a": 1}', None)
