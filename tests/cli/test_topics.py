"""`hubbub topics`, and how commands ask the HTTP API."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from hubbub_broker.cli import app
from hubbub_broker.cli.exit_code import Failure
from hubbub_broker.cli.http import base_of


class Answers(ThreadingHTTPServer):
    """Answers what the test says, and keeps what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, bytes]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.server_address[1]}/v1/ws"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Answers)
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        server.asked.append((parts.path, query))
        status, body = server.answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Answers]:
    with Answers() as answers:
        thread = threading.Thread(target=answers.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield answers
        answers.shutdown()
        thread.join()


def item(topic: str, **fields: Any) -> dict[str, Any]:
    return {"topic": topic, "head": 7, "first": 1, "ts": 0.0, "bytes": 100, **fields}


def page(*topics: str, after: str | None = None) -> tuple[int, bytes]:
    return 200, json.dumps({"topics": [item(topic) for topic in topics], "next": after}).encode()


def topics(server: Answers, *arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["topics", "--url", server.url, *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_all_pages_are_printed(server: Answers) -> None:
    server.answers = [page("a/1", "a/2", after="a/2"), page(after="b/9"), page("c/1")]
    assert topics(server)[:2] == (0, "a/1\t7\t1\t100\t-\na/2\t7\t1\t100\t-\nc/1\t7\t1\t100\t-\n")
    assert [query["after"] for _, query in server.asked] == ["", "a/2", "b/9"]


def test_the_pattern_and_the_limit_reach_the_broker(server: Answers) -> None:
    server.answers = [page("a/1", "a/2", after="a/2"), page("a/3", after="a/3")]
    code, printed, _ = topics(server, "a/*", "--limit", "3", "--json")
    assert code == 0
    assert [json.loads(line)["topic"] for line in printed.splitlines()] == ["a/1", "a/2", "a/3"]
    assert server.asked == [
        ("/v1/topics", {"pattern": "a/*", "after": "", "limit": "3"}),
        ("/v1/topics", {"pattern": "a/*", "after": "a/2", "limit": "1"}),
    ]


def test_a_refusal_is_passed_on(server: Answers) -> None:
    server.answers = [(400, json.dumps({"op": "err", "code": "bad_request", "message": "bad pattern"}).encode())]
    assert topics(server, "a/**") == (1, "", "hubbub: bad pattern\n")


def test_a_refusal_that_is_none_of_ours_is_told_by_its_status(server: Answers) -> None:
    server.answers = [(502, b"<html>")]
    assert topics(server) == (1, "", "hubbub: the broker answers 502 Bad Gateway\n")


def test_something_else_at_the_address_is_no_broker(server: Answers) -> None:
    server.answers = [(200, b"<html>")]
    code, _, complaint = topics(server)
    assert code == 3
    assert "is no Hubbub broker" in complaint


def test_nobody_at_the_address_is_3_and_says_what_to_do() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{probe.getsockname()[1]}"
        result = CliRunner().invoke(app, ["topics", "--url", url])
    assert result.exit_code == 3
    assert "start one with `hubbub serve`" in result.stderr
    assert "Connection refused" in result.stderr


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("ws://127.0.0.1:8091", "http://127.0.0.1:8091"),
        ("ws://127.0.0.1:8091/v1/ws?x=1", "http://127.0.0.1:8091"),
        ("wss://broker.example", "https://broker.example"),
        ("http://[::1]:9", "http://[::1]:9"),
        ("localhost:8091", "http://localhost:8091"),
    ],
)
def test_the_http_side_of_an_address(url: str, base: str) -> None:
    assert base_of(url) == base


@pytest.mark.parametrize("url", ["", "ftp://x", "ws://", "file:///etc/passwd"])
def test_what_is_no_address_is_wrong_usage(url: str) -> None:
    with pytest.raises(Failure, match="an address such as") as caught:
        base_of(url)
    assert caught.value.code == 2


def test_a_pattern_that_is_none_is_wrong_usage() -> None:
    """As `hubbub tail` says; no broker is asked."""
    result = CliRunner().invoke(app, ["topics", "*", "--url", "ws://127.0.0.1:1"])
    assert result.exit_code == 2
    assert "bad pattern" in result.stderr
