"""The HTTP API of a real broker."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from harness.broker import serving
from harness.log_capture import captured_log
from hubbub import Agent
from hubbub_broker.server import Server

TOPIC = "research/conv-42"


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path / "data") as running:
        yield running


@pytest_asyncio.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client:
        yield client


async def test_published_over_http_is_durable_ordered_and_there_once(http: httpx.AsyncClient) -> None:
    body = [{"topic": TOPIC, "id": f"m{number}", "data": {"n": number}} for number in range(1, 51)]
    first = await http.post("/v1/publish?agent=ann", json=body)
    assert first.status_code == 200
    assert [(answer["op"], answer["seq"]) for answer in first.json()] == [("ok", seq) for seq in range(1, 51)]
    again = await http.post("/v1/publish?agent=ann", json=body[:2])
    assert [(answer["seq"], answer["dup"]) for answer in again.json()] == [(1, True), (2, True)]
    page = (await http.get(f"/v1/topics/{TOPIC}/messages?after=47")).json()
    assert [(msg["seq"], msg["from"], msg["data"]) for msg in page["messages"]] == [
        (seq, "ann", {"n": seq}) for seq in (48, 49, 50)
    ]
    assert (page["head"], page["first"], page["next"]) == (50, 1, 50)


async def test_http_and_sockets_share_the_same_topics(http: httpx.AsyncClient, server: Server) -> None:
    async with Agent("joe", url=f"ws://127.0.0.1:{server.port}", control=False) as joe:
        incoming = joe.subscribe(TOPIC)
        await incoming.ready()
        payload = bytes(range(256))
        await http.post("/v1/publish", json={"topic": TOPIC, "data": "text"})
        await http.post("/v1/publish", json={"topic": TOPIC, "data_base64": base64.b64encode(payload).decode()})
        one, two = [await anext(incoming) for _ in range(2)]
        assert (one.sender, one.data, two.data) == ("http", "text", payload)
        await joe.publish(TOPIC, payload)
        page = (await http.get(f"/v1/topics/{TOPIC}/messages")).json()
        assert base64.b64decode(page["messages"][2]["data_base64"]) == payload
        sessions = (await http.get("/v1/sessions")).json()
        assert (sessions["total"], sessions["sessions"][0]["agent"]) == (1, "joe")
        assert sessions["sessions"][0]["subscriptions"] == 1
        agents = (await http.get("/v1/agents")).json()
        assert [(agent["agent"], agent["online"]) for agent in agents["agents"]] == [("joe", True)]


async def test_a_pretty_printed_message_is_one_line_on_the_wire(http: httpx.AsyncClient, server: Server) -> None:
    async with Agent("joe", url=f"ws://127.0.0.1:{server.port}") as joe:
        incoming = joe.subscribe(TOPIC)
        await incoming.ready()
        text = '{\n  "topic": "research/conv-42",\n  "data": {\n    "op": "gap"\n  }\n}'
        answer = await http.post("/v1/publish", content=text, headers={"Content-Type": "application/json"})
        assert answer.status_code == 200
        assert (await anext(incoming)).data == {"op": "gap"}


async def test_a_client_that_hangs_up_in_the_middle_of_its_body_is_no_bug(
    http: httpx.AsyncClient, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with captured_log() as log:
        for path in ("/v1/publish", "/api/send", "/v1/state/g/c"):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            headers = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            writer.write(f"{headers}Content-Length: 100\r\n\r\n{{".encode())
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        for _ in range(10):
            assert (await http.get("/v1/health")).status_code == 200
        log.check_no_bug()
    assert "Traceback" not in capsys.readouterr().err


async def test_refusals_are_the_wires(http: httpx.AsyncClient) -> None:
    body = [
        {"topic": "nowhere", "data": 1},
        {"topic": TOPIC, "data": 1, "ttl": -1},
        {"topic": "_hubbub/x", "data": 1},
        {"topic": TOPIC, "id": "fine", "data": 1},
    ]
    answer = await http.post("/v1/publish", json=body)
    assert answer.status_code == 207
    assert [one.get("code", "ok") for one in answer.json()] == ["bad_request", "bad_request", "forbidden", "ok"]


async def test_pages_are_bounded_in_bytes_and_join(http: httpx.AsyncClient) -> None:
    for number in range(5):
        await http.post("/v1/publish", json={"topic": TOPIC, "data": "x" * 400_000, "id": str(number)})
    seen: list[str] = []
    after, pages = 0, 0
    while True:
        answer = await http.get(f"/v1/topics/{TOPIC}/messages", params={"after": after})
        assert len(answer.content) < 2_000_000
        pages += 1
        seen += [msg["id"] for msg in answer.json()["messages"]]
        after = answer.json()["next"]
        if after == answer.json()["head"]:
            break
    assert seen == list("01234")
    assert pages > 1


async def test_topics_shards_and_routes_agree(http: httpx.AsyncClient) -> None:
    topics = [f"group-{number}/conv" for number in range(20)]
    await http.post("/v1/publish", json=[{"topic": topic, "data": 1} for topic in topics])
    found = (await http.get("/v1/topics", params={"pattern": "group-1*/conv"})).status_code
    assert found == 400
    found_topics = (await http.get("/v1/topics", params={"pattern": "*/conv"})).json()["topics"]
    assert [item["topic"] for item in found_topics] == sorted(topics)
    shards = (await http.get("/v1/shards")).json()["shards"]
    assert [shard["shard"] for shard in shards] == [0, 1]
    for topic in topics:
        route = (await http.get("/v1/route", params={"group": topic.partition("/")[0]})).json()
        assert route["shard"] in (0, 1)
        assert route["url"] == f"ws://{http.base_url.netloc.decode()}/v1/ws"


async def test_metrics_can_be_scraped_and_tell_what_happened(http: httpx.AsyncClient) -> None:
    await http.post(
        "/v1/publish", json=[{"topic": TOPIC, "id": "a", "data": 1}, {"topic": TOPIC, "id": "a", "data": 1}]
    )
    await http.post("/v1/publish", json={"topic": "nowhere", "data": 1})
    answer = await http.get("/metrics")
    found = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["hubbub_publishes_total", ("durable",)] == 1
    assert found["hubbub_publishes_total", ("duplicate",)] == 1
    assert found["hubbub_publishes_refused_total", ("bad_request",)] == 1
    assert found["hubbub_log_records_total", ("0",)] + found["hubbub_log_records_total", ("1",)] == 1
    assert found["hubbub_log_sync_seconds_count", ()] >= 1
    assert found["hubbub_http_requests_total", ("POST", "/v1/publish", "200")] == 1


async def test_a_broker_that_stops_is_not_ready(http: httpx.AsyncClient, server: Server) -> None:
    assert (await http.get("/v1/ready")).status_code == 200
    server.broker.sessions.draining = True
    try:
        answer = await http.get("/v1/ready")
    finally:
        server.broker.sessions.draining = False
    assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")


async def test_a_page_of_another_host_is_turned_away(http: httpx.AsyncClient) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        assert (await http.get("/v1/health", headers=headers)).status_code == 403
