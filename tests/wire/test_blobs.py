"""Large bodies against a real broker: over HTTP, by the SDK, and from one to the other; and in bounded memory."""

import asyncio
import hashlib
import os
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.broker import broker_process, serving, url_of
from harness.until import until
from hubbub import Agent, BlobCorrupt, BlobGone
from hubbub_broker.policy import Override
from hubbub_broker.server import Server
from hubbub_protocol.blobs import PIECE_BYTES, BlobRef

BODY = os.urandom(PIECE_BYTES * 5 + 777)
SHA = hashlib.sha256(BODY).hexdigest()
MIB = 1 << 20


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client:
        yield client


def agent_of(url: str, name: str = "joe") -> Agent:
    return Agent(name, group="g", url=url, local=False)


async def test_what_is_put_is_got_and_stored_once(http: httpx.AsyncClient) -> None:
    answer = await http.put("/v1/blobs/g?name=a.bin&agent=joe", content=BODY, headers={"Content-Type": "image/png"})
    assert answer.status_code == 201
    ref = answer.json()
    assert {name: ref[name] for name in ("sha256", "size", "group", "by", "name", "media_type")} == {
        "sha256": SHA, "size": len(BODY), "group": "g", "by": "joe", "name": "a.bin", "media_type": "image/png",
    }  # fmt: skip
    answer = await http.put(f"/v1/blobs/g/{SHA}?agent=ann", content=BODY)
    assert (answer.status_code, answer.json()["by"]) == (200, "joe")
    assert (await http.get(f"/v1/topics/g/_blobs/{SHA}/messages?select=headers")).json()["head"] == 6
    answer = await http.get(f"/v1/blobs/g/{SHA}")
    assert (answer.content, answer.headers["etag"], answer.headers["content-length"]) == (
        BODY,
        f'"{SHA}"',
        str(len(BODY)),
    )
    known = await http.get(f"/v1/blobs/g/{SHA}", headers={"If-None-Match": f'"x", "{SHA}"'})
    assert (known.status_code, known.content) == (304, b"")
    assert (await http.get(f"/v1/blobs/g/{SHA}", headers={"If-Match": '"x"'})).status_code == 412
    assert (await http.get(f"/v1/blobs/g/{SHA}", headers={"If-None-Match": SHA})).status_code == 400


async def test_an_empty_one(http: httpx.AsyncClient) -> None:
    ref = (await http.put("/v1/blobs/g", content=b"")).json()
    assert (await http.get(f"/v1/blobs/g/{ref['sha256']}")).content == b""


async def test_what_came_over_http_an_agent_fetches_and_the_other_way_round(
    http: httpx.AsyncClient, server: Server, tmp_path: Path
) -> None:
    ref = (await http.put("/v1/blobs/g", content=BODY)).json()
    async with agent_of(url_of(server)) as joe:
        incoming = joe.subscribe("c")
        await incoming.ready()
        await http.post("/v1/publish", json={"topic": "g/c", "data": 1, "headers": {"attachments": [ref]}})
        message = await anext(incoming)
        path = await message.fetch_to(tmp_path / "got")
        assert path.read_bytes() == BODY
        assert await joe.attach("g", BODY) == BlobRef(**{**ref, "media_type": ""})
        mine = await joe.attach("g", BODY + b"!")
        assert (await http.get(f"/v1/blobs/g/{mine.sha256}")).content == BODY + b"!"
        assert await joe.find_blob("g", mine.sha256) == mine


async def test_refusals(http: httpx.AsyncClient, server: Server) -> None:
    other = "0" * 64
    answer = await http.put(f"/v1/blobs/g/{other}", content=BODY)
    assert (answer.status_code, SHA in answer.json()["message"]) == (400, True)
    answer = await http.get(f"/v1/blobs/g/{other}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    for path in ("/v1/blobs/g/xyz", f"/v1/blobs/g/{SHA.upper()}", f"/v1/blobs/*/{SHA}"):
        assert (await http.get(path)).status_code == 400
    assert (await http.put("/v1/blobs/_hubbub", content=b"x")).status_code == 403
    # What is not what it is named after is handed to nobody.
    headers = {"blob": {"at": 0, "len": 4, "size": 4, "copy": "c"}}
    async with agent_of(url_of(server)) as joe:
        await joe.publish(f"g/_blobs/{other}", b"evil", type="blob", headers=headers)
        assert (await http.get(f"/v1/blobs/g/{other}")).status_code == 500
        with pytest.raises(BlobCorrupt):
            await joe.blob(await joe.find_blob("g", other)).fetch()
        with pytest.raises(BlobGone):
            await joe.find_blob("g", "1" * 64)


@pytest.mark.parametrize("options", [{"max_blob": 1000, "max_blob_uploads": 1, "hello_timeout": 0.3}], indirect=True)
async def test_the_limits_are_named(http: httpx.AsyncClient, server: Server) -> None:
    async def unending() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(100)

    for content in (bytes(1001), unending()):
        answer = await http.put("/v1/blobs/g", content=content)
        assert (answer.status_code, "max_blob" in answer.json()["message"]) == (413, True)
    first, writer = await opened(server, size=10)
    answer = await http.put("/v1/blobs/g", content=b"y")
    while answer.status_code in (200, 201):  # the first one's request is on its way
        answer = await http.put("/v1/blobs/g", content=b"y")
    assert (answer.status_code, "max_blob_uploads" in answer.json()["message"]) == (503, True)
    assert b"hello_timeout" in await first.readuntil(b"}")
    writer.close()
    assert (await http.put("/v1/blobs/g", content=b"y")).status_code in (200, 201)


async def opened(server: Server, size: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request that has sent one byte of its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"PUT /v1/blobs/g HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\nx" % size)
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("options", [{"policy": [{"pattern": "*/_blobs/**", "max_message": 70_000}]}], indirect=True)
async def test_where_a_policy_wants_small_messages_pieces_are_small(http: httpx.AsyncClient, server: Server) -> None:
    assert (await http.put("/v1/blobs/g", content=BODY)).status_code == 201
    async with agent_of(url_of(server)) as joe:
        ref = await joe.attach("h", BODY)
        assert await joe.blob(ref).fetch() == BODY
        assert (await http.get(f"/v1/topics/{ref.topic}/messages?select=headers")).json()["head"] > 6
        with pytest.raises(Exception, match="attach"):
            await joe.publish(ref.topic, bytes(80_000))


async def test_an_upload_survives_the_broker(tmp_path: Path) -> None:
    """Killed in the middle: what was answered is there, and the rest follows."""
    async with broker_process(tmp_path / "data") as broker, agent_of(broker.url) as joe:
        await joe.wait_for("online", timeout=20)
        upload = asyncio.create_task(joe.attach("g", BODY * 3))
        await until(lambda: joe.stats.confirmed >= 2, step=0.001)
        broker.kill()
        broker.start()
        await broker.wait_ready()
        ref = await upload
        assert await joe.blob(ref).fetch() == BODY * 3


async def stored_and_fetched(tmp_path: Path, size: int) -> int:
    """Send so much through a broker and back. How many bytes the broker's memory has grown by."""
    source = tmp_path / "source"
    piece = os.urandom(MIB)
    with source.open("wb") as file:
        for _ in range(size // MIB):
            file.write(piece)
    async with broker_process(tmp_path / "data") as broker, agent_of(broker.url) as joe:
        await joe.wait_for("online", timeout=20)
        await joe.blob(await joe.attach("g", b"warm")).fetch()
        before = _resident(broker.pid)
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        ref = await joe.attach("g", source)
        await joe.blob(ref).fetch_to(tmp_path / "got")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{broker.port}", timeout=60) as http:
            digest = hashlib.sha256()
            async with http.stream("GET", f"/v1/blobs/g/{ref.sha256}") as answer:
                async for part in answer.aiter_bytes():
                    digest.update(part)
            assert digest.hexdigest() == ref.sha256
            with source.open("rb") as file:
                assert (await http.put("/v1/blobs/h", content=_parts(file))).status_code == 201
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - own
        assert grown < 60 * MIB, "the agent holds what it should pass on"
        return _resident(broker.pid) - before


async def _parts(file: Any) -> AsyncIterator[bytes]:
    while part := file.read(MIB):
        yield part


def _resident(pid: int) -> int:
    """The most that a process has had in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such line")


async def test_memory_does_not_grow_with_the_blob(tmp_path: Path) -> None:
    assert await stored_and_fetched(tmp_path, 32 * MIB) < 24 * MIB


@pytest.mark.soak
async def test_memory_does_not_grow_with_a_large_blob(tmp_path: Path) -> None:
    assert await stored_and_fetched(tmp_path, 256 * MIB) < 40 * MIB


async def test_serving_again_it_is_still_there(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as server, agent_of(url_of(server)) as joe:
        ref = await joe.attach("g", BODY)
    async with serving(tmp_path / "data") as server, agent_of(url_of(server)) as joe:
        assert await joe.blob(ref).fetch() == BODY


async def test_a_copy_that_goes_soon_is_stored_anew_at_either_door(server: Server, http: httpx.AsyncClient) -> None:
    def keep(seconds: float) -> None:
        override = Override("blobs", "g/_blobs/*", 0, 1, {"max_age": seconds})
        server.broker._follow([override], server.broker.schemas)

    async with agent_of(url_of(server)) as joe:
        keep(3600.0)
        first = await joe.attach("g", BODY)
        assert await joe.attach("g", BODY) == first
        assert (await http.put("/v1/blobs/g?agent=joe", content=BODY)).status_code == 200
        keep(0.001)  # what was put there is past half of it
        second = await joe.attach("g", BODY)
        assert second.copy != first.copy
        third = await http.put("/v1/blobs/g?agent=joe", content=BODY)
        assert (third.status_code, third.json()["copy"] in (first.copy, second.copy)) == (201, False)
        keep(0)
        assert await joe.attach("g", BODY) in (first, second), "for ever: any is good"
