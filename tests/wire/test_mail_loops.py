"""Agents that mail one another without end, from outside: pollers with curl, who say what they answer or nothing."""

from asyncio import to_thread
from collections.abc import AsyncIterator, Callable
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from harness.broker import serving
from hubbub_broker.cli import app
from hubbub_broker.server import Server

THANKS = "Thank you very much for your message, I will look into it!"


def client_of(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=10)


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(server) as client:
        yield client


async def send(http: httpx.AsyncClient, sender: str, to: str, **fields: Any) -> httpx.Response:
    return await http.post("/api/send", json={"from": sender, "to": to, "create": True, **fields})


async def read(http: httpx.AsyncClient, agent: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await http.get(f"/api/inbox/{agent}?mark_read=true")).json()["messages"]
    return found


async def until_refused(http: httpx.AsyncClient, names: str, body: Callable[[int], str]) -> tuple[int, httpx.Response]:
    """How many mails go round in a circle of pollers until one of them is refused, and how."""
    for number, (sender, to) in enumerate(islice(pairwise(cycle(names)), 400)):
        answer = await send(http, sender, to, subject="hello", body=body(number))
        if answer.status_code != 200:
            return number, answer
    raise AssertionError("nothing was refused")


@pytest.mark.parametrize(
    ("names", "body", "rule", "least", "most"),
    [
        ("ab", lambda _: THANKS, "echo", 32, 40),
        ("abc", lambda _: THANKS, "echo", 32, 40),
        ("ab", lambda number: f"this is number {number}", "pingpong", 50, 60),
    ],
)
async def test_pollers_that_answer_one_another_at_once_are_slowed(
    server: Server, http: httpx.AsyncClient, names: str, body: Any, rule: str, least: int, most: int
) -> None:
    taken, refused = await until_refused(http, names, body)
    assert least <= taken <= most
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) >= 1
    assert server.broker.metrics.guard_refusals == {rule: 1}
    assert f'hubbub_guard_refusals_total{{rule="{rule}"}} 1.0' in (await http.get("/metrics")).text
    (event,) = (await http.get("/v1/topics/_hubbub/events/messages")).json()["messages"]
    assert event["data"]["rule"] == rule


@pytest.mark.parametrize("options", [{"policy": [{"pattern": "**", "max_depth": 5}]}], indirect=True)
async def test_who_says_what_it_answers_is_stopped_at_the_depth(http: httpx.AsyncClient) -> None:
    assert (await send(http, "ann", "joe", body="hello")).status_code == 200
    for number, (sender, to) in enumerate(islice(pairwise(cycle(("joe", "ann"))), 5)):
        (mail,) = await read(http, sender)
        assert mail["hops"] == number
        assert (await send(http, sender, to, body=str(number), in_reply_to=mail["id"])).status_code == 200
    (mail,) = await read(http, "ann")
    assert mail["hops"] == 5
    assert mail["in_reply_to"] is not None
    refused = await send(http, "ann", "joe", body="and so on", in_reply_to=mail["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "loop")
    assert "max_depth" in refused.json()["message"]
    anew = await send(http, "ann", "joe", body="and so on", in_reply_to=mail["id"], headers={"hops": 0})
    assert anew.status_code == 200


async def test_a_chain_of_mails_goes_on_after_a_restart(tmp_path: Path) -> None:
    options: dict[str, Any] = {"policy": [{"pattern": "**", "max_depth": 3}]}
    async with serving(tmp_path / "d", **options) as server, client_of(server) as http:
        assert (await send(http, "ann", "joe", body="1", id="m1")).status_code == 200
        assert (await send(http, "joe", "ann", body="2", id="m2", in_reply_to="m1")).status_code == 200
        assert (await send(http, "ann", "joe", body="3", id="m3", in_reply_to="m2")).status_code == 200
    async with serving(tmp_path / "d", **options) as server, client_of(server) as http:
        mail = (await read(http, "joe"))[-1]
        assert (mail["id"], mail["hops"], mail["in_reply_to"]) == ("m3", 2, "m2")
        answers = {"in_reply_to": mail["id"]}
        for hops, status in ((mail["hops"] + 1, 200), (mail["hops"] + 2, 409)):
            answer = await send(http, "joe", "ann", body=str(hops), headers={"hops": hops}, **answers)
            assert answer.status_code == status


@pytest.mark.parametrize("options", [{"policy": [{"pattern": "**", "max_depth": 1}]}], indirect=True)
async def test_what_was_taken_is_taken_again_whatever_the_guard_says_by_then(http: httpx.AsyncClient) -> None:
    """A poller whose answer was lost sends again."""
    assert (await send(http, "ann", "joe", subject="Re: x", body="1", id="m1")).status_code == 200
    assert (await send(http, "joe", "ann", subject="Re: x", body="2", id="m2")).status_code == 200
    assert (await send(http, "ann", "joe", subject="Re: x", body="3")).status_code == 409
    again = await send(http, "joe", "ann", subject="Re: x", body="2", id="m2")
    assert (again.status_code, again.json()["dup"]) == (200, True)


@pytest.mark.parametrize("options", [{"policy": [{"pattern": "g/**", "max_depth": 2}]}], indirect=True)
async def test_each_rule_is_a_setting_by_topic_pattern(http: httpx.AsyncClient) -> None:
    for name, group in (("a", "g"), ("b", "g"), ("c", "h"), ("d", "h")):
        await http.post("/v1/agents", json={"agent": name, "group": group})
    for names, last in (("ab", 409), ("cd", 200)):
        found = [
            (await send(http, sender, to, subject="Re: x", body="b")).status_code
            for sender, to in islice(pairwise(cycle(names)), 4)
        ]
        assert found == [200, 200, 200, last]


async def test_the_command_line_says_what_a_mail_answers(http: httpx.AsyncClient, server: Server) -> None:
    for agent in ("ann", "joe"):
        await read(http, agent)
    await send(http, "ann", "joe", body="hello", id="m1")
    command = ["send", "ann", "hi", "--from", "joe", "--in-reply-to", "m1", "--url", f"http://127.0.0.1:{server.port}"]
    assert (await to_thread(CliRunner().invoke, app, command)).exit_code == 0
    (mail,) = await read(http, "ann")
    assert (mail["in_reply_to"], mail["hops"]) == ("m1", 1)
