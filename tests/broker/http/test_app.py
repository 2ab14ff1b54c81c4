"""The application as a whole: health, metrics, the reference, refusals that no route makes."""

import re
from html.parser import HTMLParser

import httpx
import pytest

from harness.http_broker import HttpBroker
from hubbub_broker.http import create_app
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err


async def test_health_and_readiness(client: httpx.AsyncClient, broker: HttpBroker) -> None:
    assert (await client.get("/v1/health")).json()["status"] == "ok"
    assert (await client.get("/v1/ready")).json()["status"] == "ready"
    broker.not_ready = Err(code=ErrorCode.SHUTTING_DOWN, message="the broker is stopping", retry_after=5)
    answer = await client.get("/v1/ready")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert answer.json() == {
        "op": "err",
        "code": "shutting_down",
        "message": "the broker is stopping",
        "retry_after": 5,
    }
    assert (await client.get("/v1/health")).status_code == 200


async def test_metrics_are_passed_on_as_they_are(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics", headers={"Accept": "text/x"})
    assert answer.text == "# accept text/x"
    assert answer.headers["content-type"] == "text/plain; version=9"


async def test_requests_are_counted_by_route_not_by_path(client: httpx.AsyncClient, broker: HttpBroker) -> None:
    await client.get("/v1/topics/a/b/messages")
    await client.get("/v1/topics/a/c/messages")
    await client.get("/v1/topics/nowhere/messages")
    await client.get("/made/up/1")
    await client.request("BREW", "/made/up/2")
    history = "/v1/topics/{topic:path}/messages"
    assert broker.metrics.http_requests == {
        ("GET", history, 200): 2,
        ("GET", history, 400): 1,
        ("GET", "(other)", 404): 1,
        ("(other)", "(other)", 404): 1,
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("DELETE", "/v1/publish", 405, "bad_request"),
        ("GET", "/v1/ws", 426, "bad_request"),
    ],
)
async def test_every_refusal_looks_alike(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["op"] == "err"
    assert answer.json()["code"] == code
    assert path in answer.json()["message"]


async def test_a_bug_is_answered_without_its_particulars(client: httpx.AsyncClient, broker: HttpBroker) -> None:
    broker.fault = RuntimeError("secret particulars")
    answer = await client.post("/v1/publish", json={"topic": "a/b", "data": 1})
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "secret" not in answer.text


async def test_the_reference_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    answer = await client.get("/docs")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", answer.text)


async def test_the_reference_has_every_route_with_every_field(client: httpx.AsyncClient) -> None:
    description = (await client.get("/openapi.json")).json()
    page = (await client.get("/docs")).text
    paths = description["paths"]
    assert set(paths) == {
        "/v1/publish",
        "/v1/topics/{topic}/messages",
        "/v1/topics/{topic}/messages/{id}",
        "/v1/blobs/{group}",
        "/v1/blobs/{group}/{sha256}",
        "/v1/topics/{topic}/budget",
        "/v1/topics",
        "/v1/sessions",
        "/v1/shards",
        "/v1/route",
        "/v1/health",
        "/v1/ready",
        "/metrics",
    }
    for path in paths:
        assert f"{path}</code>" in page, path
    for field in (
        "topic",
        "data_base64",
        "ephemeral",
        "ttl",
        "reply_to",
        "retry_after",
        "orphan",
        "read_only",
        "since",
        "missing",
        "sha256",
    ):
        assert f"<code>{field}" in page, field


async def test_every_parameter_and_field_of_the_reference_is_explained(client: httpx.AsyncClient) -> None:
    description = (await client.get("/openapi.json")).json()
    for path, item in description["paths"].items():
        for operation in item.values():
            assert operation["description"], path
            assert operation["summary"], path
            assert "422" not in operation["responses"], path
            for parameter in operation.get("parameters", []):
                assert parameter.get("description"), (path, parameter["name"])


async def test_text_from_the_description_can_not_become_markup() -> None:
    from hubbub_broker.http.reference import render

    openapi = {
        "info": {"title": "<b>", "version": "<i>", "description": "`<script>`"},
        "paths": {"/<u>": {"get": {"summary": "<s>", "description": "<script>", "responses": {"200": {}}}}},
    }
    page = render(openapi, "/<x>")
    assert not re.search(r"<(?:script|b|i|u|s|x)>", page)


async def test_the_root_leads_to_the_reference(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


# What a browser's page may not do


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8091"}, 200),
        ({"Host": "[::1]:8091"}, 200),
        ({"Host": "127.0.0.1"}, 200),
        ({"Host": "evil.example:8091"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "[::1"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "http://127.0.0.1:8091"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://localhost.evil.example"}, 403),
    ],
)
async def test_pages_of_other_hosts_are_refused(
    client: httpx.AsyncClient, broker: HttpBroker, headers: dict[str, str], status: int
) -> None:
    answer = await client.post("/v1/publish", json={"topic": "a/b", "data": 1}, headers=headers)
    assert answer.status_code == status
    assert len(broker.published) == (status == 200)
    if status == 403:
        assert answer.json()["code"] == "forbidden"
        assert "insecure" in answer.json()["message"]


async def test_a_broker_that_was_opened_answers_to_any_name() -> None:
    app = create_app(HttpBroker(host="0.0.0.0", insecure=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://broker.example") as http:
        assert (await http.get("/v1/health", headers={"Origin": "https://other.example"})).status_code == 200


class Nesting(HTMLParser):
    """Checks that what is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value[1:] for name, value in attrs if name == "href" and value and value.startswith("#")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


async def test_the_reference_is_well_formed_and_its_links_lead_somewhere(client: httpx.AsyncClient) -> None:
    page = Nesting()
    page.feed((await client.get("/docs")).text)
    assert page.open == page.wrong == []
    assert page.links
    assert set(page.links) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
