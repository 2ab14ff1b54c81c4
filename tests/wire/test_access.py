"""Every operation, by every kind of token, over every door: one table, held against a running broker."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match, Route
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed

from harness.broker import serving, url_of
from harness.log_capture import captured_log
from harness.tokens import BUS_TOKEN, key, token, write_key
from harness.wire import WireClient, wire_client
from hubbub_broker.access import Operation
from hubbub_broker.cli.planes import Inside
from hubbub_broker.http.caller import OPEN_PATHS
from hubbub_broker.server import Server
from hubbub_protocol import PATH
from hubbub_protocol.frames import ClientFrame

STRANGER = key("k1", secret=b"a secret that this broker has no")

KINDS: dict[str, str | None] = {
    "none": None,
    "wrong": "not-a-token",
    "forged": token("ann", by=STRANGER, admin=True),
    "expired": token("ann", lasts=-60, admin=True),
    "bus": BUS_TOKEN,
    "member": token("ann", groups=["g"], pub=["g/**"], subscribe=["g/**"]),
    "reader": token("ann", subscribe=["g/c"]),
    "writer": token("ann", pub=["g/*"]),
    "outsider": token("ann", groups=["h"], pub=["h/**"], subscribe=["h/**"]),
    "empty": token("ann"),
    "herald": token("ann", pub=["_mail/@ALL"]),
    "monitor": token("ann", subscribe=["g/@joe"]),
    "deputy": token("ann", groups=["g"], subscribe=["g/@joe"]),
    "scraper": token("ann", metrics=True),
    "operator": token("ann", admin=True),
}
KNOWN = "bus member reader writer outsider empty herald monitor deputy scraper operator"

Ask = Callable[["Doors"], Awaitable[bool]]


class Doors:
    """One broker, and somebody with one kind of token before its doors. True: what was asked for was done."""

    def __init__(self, server: Server, credential: str | None) -> None:
        self.server = server
        self.credential = credential
        self.asked: set[tuple[str, str]] = set()
        """Method and path of every request over HTTP."""
        self.ops: set[str] = set()
        """Every operation over a WebSocket."""
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{server.port}",
            headers=headers,
            timeout=30,
            event_hooks={"request": [self._note_request]},
        )

    async def _note_request(self, request: httpx.Request) -> None:
        self.asked.add((request.method, request.url.path))

    async def ask(self, method: str, path: str, **more: Any) -> bool:
        """Over HTTP."""
        answer = await self.http.request(method, path, **more)
        assert answer.status_code in (200, 204, 401, 403), (answer.status_code, answer.text)
        if answer.status_code == 401:
            assert answer.json()["code"] == "unauthorized"
            assert answer.headers["www-authenticate"] == "Bearer"
        if answer.status_code == 403:
            assert answer.json()["code"] == "forbidden"
        return answer.status_code in (200, 204)

    async def on_socket(self, do: Callable[[WireClient], Awaitable[bool]], agent: str = "ann", **more: Any) -> bool:
        """Over a WebSocket."""
        async with self.socket() as client:
            with suppress(ConnectionClosed):
                await client.send("hello", agent=agent, **more)
                answer = await client.next()
                if answer["op"] == "welcome":
                    return await do(client)
                if more:
                    assert answer["code"] in ("forbidden", "unauthorized")
                    return False
            assert await client.closed() in (4500, 4005, 4507)
            return False

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[WireClient]:
        headers = {"Authorization": f"Bearer {self.credential}"} if self.credential else {}
        async with wire_client(url_of(self.server), additional_headers=headers) as client:
            send = client.send

            async def noting(op: str, **fields: Any) -> None:
                self.ops.add(op)
                await send(op, **fields)

            client.send = noting  # type: ignore[method-assign]
            yield client


def publishes(topic: str) -> Ask:
    async def ask(doors: Doors) -> bool:
        async def do(client: WireClient) -> bool:
            answer = await client.pub(topic, 1)
            assert answer["op"] == "ok" or answer["code"] == "forbidden", answer
            return bool(answer["op"] == "ok")

        return await doors.on_socket(do)

    return ask


def posts(topic: str, agent: str | None = None) -> Ask:
    query = "" if agent is None else f"?agent={agent}"
    return lambda doors: doors.ask("POST", f"/v1/publish{query}", json={"topic": topic, "data": 1})


def settles(topic: str, op: str = "ack", consumer: str = "none") -> Ask:
    """Settles what it never got: whoever may is told that there is no such thing."""

    async def ask(doors: Doors) -> bool:
        async def do(client: WireClient) -> bool:
            await client.send(op, topic=topic, consumer=consumer, seq=1_000_000, rid=1)
            return bool((await client.expect("err", rid=1))["code"] != "forbidden")

        return await doors.on_socket(do)

    return ask


def leaves_a_will(topic: str) -> Ask:
    async def yes(_: WireClient) -> bool:
        return True

    return lambda doors: doors.on_socket(yes, will={"topic": topic, "data": 1})


def mails(sender: str, to: str) -> Ask:
    return lambda doors: doors.ask("POST", "/api/send", json={"from": sender, "to": to, "body": "x"})


def streams(topic: str) -> Ask:
    async def ask(doors: Doors) -> bool:
        async with doors.http.stream("GET", f"/v1/topics/{topic}/stream") as answer:
            assert answer.status_code in (200, 401, 403)
            return answer.status_code == 200

    return ask


def registers(agent: str) -> Ask:
    return lambda doors: doors.ask("POST", "/v1/agents", json={"agent": agent})


def subscribes(topic: str, **more: Any) -> Ask:
    async def ask(doors: Doors) -> bool:
        async def do(client: WireClient) -> bool:
            await client.send("sub", topic=topic, rid=1, **more)
            answer = await client.next()
            assert answer["op"] == "ok" or answer["code"] == "forbidden", answer
            return bool(answer["op"] == "ok")

        return await doors.on_socket(do)

    return ask


def joins(topic: str) -> Ask:
    async def ask(doors: Doors) -> bool:
        async def do(client: WireClient) -> bool:
            answer = await client.ask("join", topic=topic)
            assert answer["op"] == "ok" or answer["code"] == "forbidden", answer
            return bool(answer["op"] == "ok")

        return await doors.on_socket(do)

    return ask


def asks(op: str, **fields: Any) -> Ask:
    """A request on the socket. A conflict is no refusal: whoever is told may ask."""

    async def ask(doors: Doors) -> bool:
        async def do(client: WireClient) -> bool:
            answer = await client.ask(op, **fields)
            assert answer["op"] == "ok" or answer["code"] in ("forbidden", "conflict", "not_found"), answer
            return bool(answer.get("code") != "forbidden")

        return await doors.on_socket(do)

    return ask


def changes(topic: str, **more: Any) -> Ask:
    return asks("change", topic=topic, id="1", set={"k": 1}, **more)


def wills(topic: str) -> Ask:
    async def ask(doors: Doors) -> bool:
        async def do(client: WireClient) -> bool:
            await client.send("hello", agent="ann", will={"topic": topic})
            answer = await client.next()
            assert answer["op"] == "welcome" or answer["code"] == "forbidden", answer
            return bool(answer["op"] == "welcome")

        return await doors.on_socket(do)

    return ask


def gets(path: str) -> Ask:
    return lambda doors: doors.ask("GET", path)


def leads(path: str, status: int) -> Ask:
    async def ask(doors: Doors) -> bool:
        answer = await doors.http.get(path)
        assert answer.status_code in (status, 401, 403)
        return answer.status_code == status

    return ask


def says(op: str, answer: str) -> Ask:
    async def ask(doors: Doors) -> bool:
        async def do(client: WireClient) -> bool:
            await client.send(op)
            return bool((await client.next())["op"] == answer)

        return await doors.on_socket(do)

    return ask


EMPTY = hashlib.sha256(b"").hexdigest()


def may_get(path: str) -> Ask:
    async def ask(doors: Doors) -> bool:
        answer = await doors.http.get(path)
        assert answer.status_code in (200, 401, 403, 404), answer.text
        return answer.status_code in (200, 404)  # it may ask, though there may be none

    return ask


def finds(topic: str) -> Ask:
    async def ask(doors: Doors) -> bool:
        async def do(client: WireClient) -> bool:
            answer = await client.ask("get", topic=topic, id="nobody's")
            assert answer["code"] in ("not_found", "forbidden"), answer
            return bool(answer["code"] == "not_found")

        return await doors.on_socket(do)

    return ask


def puts_blob(path: str) -> Ask:
    async def ask(doors: Doors) -> bool:
        answer = await doors.http.put(path, content=b"")
        assert answer.status_code in (200, 201, 401, 403), answer.text
        return answer.status_code in (200, 201)

    return ask


def history(topic: str) -> Ask:
    return gets(f"/v1/topics/{topic}/messages")


def manages(method: str, path: str, body: Any = None) -> Ask:
    async def ask(doors: Doors) -> bool:
        answer = await doors.http.request(method, path, json=body)
        assert answer.status_code in (200, 401, 403, 404), answer.text
        return answer.status_code in (200, 404)  # it may ask, though there may be none

    return ask


def controls(method: str, path: str, body: Any = None) -> Ask:
    async def ask(doors: Doors) -> bool:
        answer = await doors.http.request(method, path, json=body)
        assert answer.status_code in (200, 401, 403, 404, 503), answer.text
        return answer.status_code in (200, 404, 503)  # it may ask, though the plane may not be connected yet

    return ask


def resets(topic: str) -> Ask:
    return lambda doors: doors.ask("DELETE", f"/v1/topics/{topic}/budget")


def posts_command(do: str, to: dict[str, str] | None) -> Ask:
    body = {"do": do, "to": to, "args": {"topic": "g/c", "id": "m1"}}
    return lambda doors: doors.ask("POST", "/v1/control/commands", json=body)


def brings_card(agent: str) -> Ask:
    card = {"name": agent, "description": "Does", "version": "1", "skills": []}
    return lambda doors: doors.ask("PUT", f"/v1/control/agents/{agent}/card", json=card)


def says_hello(agent: str) -> Ask:
    async def yes(_: WireClient) -> bool:
        return True

    return lambda doors: doors.on_socket(yes, agent)


RULE = {"pattern": "none/**", "max_count": 5}
"""A policy that is about nothing here."""

TABLE: list[tuple[str, Ask, str]] = [
    # what is asked for, how, and by which kinds it may be
    ("connect as itself", says_hello("ann"), KNOWN),
    ("connect as another", says_hello("joe"), "bus"),
    ("publish", publishes("g/c"), "bus member writer operator"),
    ("publish below", publishes("g/c/d"), "bus member operator"),
    ("publish elsewhere", publishes("x/c"), "bus operator"),
    ("publish to an inbox", publishes("g/@joe"), "bus member writer deputy operator"),
    ("publish to an inbox elsewhere", publishes("h/@joe"), "bus outsider operator"),
    ("publish dead letters", publishes("g/_dead"), ""),
    ("publish as the broker", publishes("_hubbub/events"), ""),
    ("post", posts("g/c"), "bus member writer operator"),
    ("post as itself", posts("g/c", "ann"), "bus member writer operator"),
    ("post as another", posts("g/c", "joe"), "bus"),
    ("post elsewhere", posts("x/c"), "bus operator"),
    ("post to an inbox", posts("g/@joe"), "bus member writer deputy operator"),
    ("post dead letters", posts("g/_dead"), ""),
    ("post as the broker", posts("_hubbub/events"), ""),
    ("report to the control plane", publishes("_hubbub/reports"), KNOWN),
    ("answer the control plane", posts("_hubbub/answers"), KNOWN),
    ("command an agent by hand", publishes("_hubbub/@ann"), "operator"),
    ("note a command", posts("_hubbub/commands"), "operator"),
    ("change the broker's own state", publishes("_hubbub/_state"), ""),
    ("change more of the broker's own state", posts("_hubbub/_state/c"), ""),
    ("hear one's own commands", subscribes("_hubbub/@ann"), KNOWN),
    ("hear another's commands", subscribes("_hubbub/@joe"), "bus operator"),
    ("read the reports", subscribes("_hubbub/reports"), "bus operator"),
    ("read what was commanded", history("_hubbub/commands"), "bus operator"),
    ("subscribe", subscribes("g/c"), "bus member reader operator"),
    ("subscribe below", subscribes("g/c/d"), "bus member operator"),
    ("subscribe to a pattern", subscribes("g/*"), "bus member operator"),
    ("subscribe to a deep pattern", subscribes("g/**"), "bus member operator"),
    ("subscribe to all", subscribes("**"), "bus operator"),
    ("subscribe to what overlaps", subscribes("*/c"), "bus operator"),
    ("subscribe elsewhere", subscribes("h/c"), "bus outsider operator"),
    ("subscribe to one's own inbox", subscribes("g/@ann"), KNOWN),
    ("subscribe to another's inbox", subscribes("g/@joe"), "bus monitor deputy operator"),
    ("subscribe to dead letters", subscribes("g/_dead"), "bus operator"),
    ("subscribe to the broker's events", subscribes("_hubbub/events"), "bus operator"),
    ("read history", history("g/c"), "bus member reader operator"),
    ("read one message", may_get("/v1/topics/g/c/messages/m1"), "bus member reader operator"),
    ("read one message elsewhere", may_get("/v1/topics/h/c/messages/m1"), "bus outsider operator"),
    ("look one message up", finds("g/c"), "bus member reader operator"),
    ("look one message up elsewhere", finds("h/c"), "bus outsider operator"),
    ("look a mail of another up", finds("g/@joe"), "bus monitor deputy operator"),
    ("read history elsewhere", history("h/c"), "bus outsider operator"),
    ("read one's own inbox", history("g/@ann"), KNOWN),
    ("read another's inbox", history("g/@joe"), "bus monitor deputy operator"),
    ("read dead letters", history("g/_dead"), "bus operator"),
    ("read the broker's events", history("_hubbub/events"), "bus operator"),
    ("fetch a blob", may_get(f"/v1/blobs/g/{EMPTY}"), "bus member reader monitor deputy operator"),
    ("fetch a blob elsewhere", may_get(f"/v1/blobs/h/{EMPTY}"), "bus outsider operator"),
    ("read a blob", history(f"g/_blobs/{EMPTY}"), "bus member reader monitor deputy operator"),
    ("read a blob as a subscriber", subscribes(f"g/_blobs/{EMPTY}"), "bus member reader monitor deputy operator"),
    ("read a blob elsewhere", subscribes(f"h/_blobs/{EMPTY}"), "bus outsider operator"),
    ("read every blob", subscribes("g/_blobs/*"), "bus operator"),
    ("read what is no blob", subscribes("g/_blobs/x"), "bus operator"),
    ("store a blob", puts_blob(f"/v1/blobs/g/{EMPTY}"), "bus member writer deputy operator"),
    ("store any blob", puts_blob("/v1/blobs/g"), "bus member writer deputy operator"),
    ("store a blob as another", puts_blob("/v1/blobs/g?agent=joe"), "bus"),
    ("store a blob elsewhere", puts_blob("/v1/blobs/x"), "bus operator"),
    ("publish a blob", publishes(f"g/_blobs/{EMPTY}"), "bus member writer deputy operator"),
    ("publish a blob elsewhere", publishes(f"x/_blobs/{EMPTY}"), "bus operator"),
    ("be present", joins("g/c"), "bus member reader operator"),
    ("be present elsewhere", joins("h/c"), "bus outsider operator"),
    ("be present in one's own inbox", joins("g/@ann"), "bus member writer deputy operator"),
    ("be present in another's inbox", joins("g/@joe"), "bus deputy operator"),
    ("be present among the dead letters", joins("g/_dead"), ""),
    ("be present in the broker's events", joins("_hubbub/events"), ""),
    ("be present among the reports", joins("_hubbub/reports"), "bus operator"),
    ("leave a will elsewhere", wills("h/c"), "bus outsider operator"),
    ("stream", streams("g/c"), "bus member reader operator"),
    ("stream elsewhere", streams("h/c"), "bus outsider operator"),
    ("stream another's inbox", streams("g/@joe"), "bus monitor deputy operator"),
    ("who is present", gets("/v1/topics/g/c/presence"), "bus member reader operator"),
    ("leave a will", leaves_a_will("g/c"), "bus member writer operator"),
    ("leave dead letters", leaves_a_will("g/_dead"), ""),
    ("consume", subscribes("g/c", consumer="w"), "bus member reader operator"),
    ("consume a pattern", subscribes("g/*", consumer="all"), "bus member operator"),
    ("consume elsewhere", subscribes("h/c", consumer="w"), "bus outsider operator"),
    ("consume another's inbox", subscribes("g/@joe", consumer="w"), "bus monitor deputy operator"),
    ("settle", settles("g/c"), "bus member reader operator"),
    ("settle elsewhere", settles("h/c"), "bus outsider operator"),
    ("settle another's mail", settles("g/@joe"), "bus monitor deputy operator"),
    ("give back", settles("g/c", "nack"), "bus member reader operator"),
    ("give back elsewhere", settles("h/c", "nack"), "bus outsider operator"),
    ("ask for more time", settles("g/c", "extend"), "bus member reader operator"),
    ("ask for more time elsewhere", settles("h/c", "extend"), "bus outsider operator"),
    ("give up", settles("g/c", "term"), "bus member reader operator"),
    ("give up elsewhere", settles("h/c", "term"), "bus outsider operator"),
    ("take one's own mail at a socket", subscribes("g/@ann", consumer="inbox"), KNOWN),
    ("take another's mail at a socket", subscribes("g/@joe", consumer="inbox"), "bus operator"),
    ("consume a pattern under the read mark's name", subscribes("g/**", consumer="inbox"), "bus member operator"),
    ("mark one's own mail at a socket", settles("g/@ann", "ack", "inbox"), KNOWN),
    ("mark another's mail at a socket", settles("g/@joe", "ack", "inbox"), "bus operator"),
    ("give another's mail back", settles("g/@joe", "nack", "inbox"), "bus operator"),
    ("keep another's mail", settles("g/@joe", "extend", "inbox"), "bus operator"),
    ("give another's mail up", settles("g/@joe", "term", "inbox"), "bus operator"),
    ("read a state", asks("state", topic="g/c"), "bus member reader operator"),
    ("read a state elsewhere", asks("state", topic="h/c"), "bus outsider operator"),
    ("read a group's state", asks("state", topic="g"), "bus member operator"),
    ("read the state of another's inbox", asks("state", topic="g/@joe"), "bus monitor deputy operator"),
    ("read the broker's state", asks("state", topic="_hubbub"), "bus operator"),
    ("watch a state", subscribes("g/_state/c"), "bus member reader operator"),
    ("watch a group's states", subscribes("g/_state/**"), "bus member operator"),
    ("watch the state of another's inbox", subscribes("g/_state/@joe"), "bus monitor deputy operator"),
    ("change a state", changes("g/c"), "bus member writer operator"),
    ("change a state below", changes("g/c/d"), "bus member operator"),
    ("change a group's state", changes("g"), "bus member writer operator"),
    ("change a state elsewhere", changes("h/c"), "bus outsider operator"),
    ("change the broker's state", changes("_hubbub"), "operator"),
    ("change the dead letters' state", changes("g/_dead"), "operator"),
    (
        "publish with a change",
        changes("g/c", publish=[{"topic": "g/c/d", "id": "1", "data": 1}]),
        "bus member operator",
    ),
    ("get a state", gets("/v1/state/g/c"), "bus member reader operator"),
    ("get a key", manages("GET", "/v1/state/g/c?key=k"), "bus member reader operator"),
    ("get a group's state", gets("/v1/state/g"), "bus member operator"),
    ("put a key", manages("PUT", "/v1/state/g/c?key=k", 1), "bus member writer operator"),
    ("put a key elsewhere", manages("PUT", "/v1/state/h/c?key=k", 1), "bus outsider operator"),
    ("delete a key", manages("DELETE", "/v1/state/g/c?key=k"), "bus member writer operator"),
    ("post a change", manages("POST", "/v1/state/g/c", {"set": {"k": 1}}), "bus member writer operator"),
    (
        "post a change with a message",
        manages("POST", "/v1/state/g/c", {"publish": [{"topic": "g/c/d", "id": "2", "data": 1}]}),
        "bus member operator",
    ),
    ("renew a lease", asks("renew", topic="g/c", keys={"k": 1}), "bus member writer operator"),
    ("mail", mails("ann", "joe"), "bus member writer deputy operator"),
    ("mail as another", mails("joe", "ann"), "bus"),
    ("mail to all", mails("ann", "ALL"), "bus herald operator"),
    ("mail over the socket", publishes("_mail/@joe"), "bus member writer deputy operator"),
    ("mail to all over the socket", publishes("_mail/@ALL"), "bus herald operator"),
    ("pull one's own inbox", gets("/api/inbox/ann"), KNOWN),
    ("take one's own mail", gets("/api/inbox/ann?mark_read=true"), KNOWN),
    ("pull another's inbox", gets("/api/inbox/joe"), "bus monitor deputy operator"),
    ("take another's mail", gets("/api/inbox/joe?mark_read=true"), "bus operator"),
    ("mark one's own mail", lambda doors: doors.ask("POST", "/api/inbox/ann/read", json={}), KNOWN),
    ("mark another's mail", lambda doors: doors.ask("POST", "/api/inbox/joe/read", json={}), "bus operator"),
    ("register", registers("ann"), KNOWN),
    ("register another", registers("joe"), "bus operator"),
    ("look at another", gets("/v1/agents/joe"), "bus member writer monitor deputy operator"),
    ("forget another", lambda doors: doors.ask("DELETE", "/v1/agents/tom"), "bus operator"),
    ("list sessions", gets("/v1/sessions"), KNOWN),
    ("disconnect", lambda doors: doors.ask("DELETE", "/v1/sessions?agent=tom"), "operator"),
    ("list topics", gets("/v1/topics"), KNOWN),
    ("list agents", gets("/v1/agents"), KNOWN),
    ("see a budget", gets("/v1/topics/g/c/budget"), "bus member reader operator"),
    ("reset a budget", resets("g/c"), "operator"),
    ("list consumers", gets("/v1/consumers"), KNOWN),
    ("see a consumer", manages("GET", "/v1/consumers/g/c?name=w"), "bus member reader operator"),
    ("see a consumer elsewhere", manages("GET", "/v1/consumers/h/c?name=w"), "bus outsider operator"),
    ("reset", manages("POST", "/v1/consumers/g/c/reset?name=w", {"from": "all"}), "bus member operator"),
    ("reset elsewhere", manages("POST", "/v1/consumers/h/c/reset?name=w", {"from": "all"}), "bus outsider operator"),
    ("pause", manages("POST", "/v1/consumers/g/c/pause?name=w"), "bus member operator"),
    ("resume", manages("POST", "/v1/consumers/g/c/resume?name=w"), "bus member operator"),
    ("remove", manages("DELETE", "/v1/consumers/g/*?name=w"), "bus member operator"),
    ("see a read mark", manages("GET", "/v1/consumers/g/@joe?name=inbox"), "bus monitor deputy operator"),
    ("reset at an inbox", manages("POST", "/v1/consumers/g/@joe/reset?name=v", {"from": "all"}), "bus deputy operator"),
    ("reset a read mark", manages("POST", "/v1/consumers/g/@joe/reset?name=inbox", {"from": "all"}), "bus operator"),
    ("pause a read mark", manages("POST", "/v1/consumers/g/@joe/pause?name=inbox"), "bus operator"),
    ("resume a read mark", manages("POST", "/v1/consumers/g/@joe/resume?name=inbox"), "bus operator"),
    ("remove a read mark", manages("DELETE", "/v1/consumers/g/@joe?name=inbox"), "bus operator"),
    ("list dead letters", gets("/v1/dead/g"), "bus operator"),
    ("see a dead letter", manages("GET", "/v1/dead/g/1"), "bus operator"),
    ("redrive", manages("POST", "/v1/dead/g/redrive", {"all": True}), "bus operator"),
    ("drop", manages("POST", "/v1/dead/g/drop", {"all": True}), "bus operator"),
    ("ask for receipts", gets("/v1/receipts/m1"), KNOWN),
    ("top", gets("/v1/top"), "bus scraper operator"),
    ("route", gets("/v1/route?group=g"), KNOWN),
    ("shards", gets("/v1/shards"), "bus scraper operator"),
    ("metrics", gets("/metrics"), "bus scraper operator"),
    ("see policies", gets("/v1/policies"), "operator"),
    ("see what holds", gets("/v1/policies/test?topic=g/c"), "operator"),
    (
        "try a policy",
        manages("POST", "/v1/policies/test", {"name": "p", "policy": RULE, "topics": ["g/c"]}),
        "operator",
    ),
    ("see schemas", gets("/v1/schemas"), "operator"),
    ("try a schema", manages("POST", "/v1/schemas/test", {"group": "g", "type": "t", "data": 1}), "operator"),
    ("read policies", controls("GET", "/v1/control/policies"), "operator"),
    ("read a policy", controls("GET", "/v1/control/policies/p"), "operator"),
    ("set a policy", controls("PUT", "/v1/control/policies/p", RULE), "operator"),
    ("drop a policy", controls("DELETE", "/v1/control/policies/p"), "operator"),
    ("read a policy's history", controls("GET", "/v1/control/policies/p/history"), "operator"),
    ("read schemas", controls("GET", "/v1/control/schemas"), "operator"),
    ("read a schema", controls("GET", "/v1/control/schemas/none/t"), "operator"),
    ("set a schema", controls("PUT", "/v1/control/schemas/none/t", {}), "operator"),
    ("drop a schema", controls("DELETE", "/v1/control/schemas/none/t"), "operator"),
    ("read a schema's history", controls("GET", "/v1/control/schemas/none/t/history"), "operator"),
    ("change a policy by hand", changes("_hubbub"), "operator"),
    ("make a policy's history up", publishes("_hubbub/policies/p"), "operator"),
    ("the control plane", gets("/v1/control/status"), "bus scraper operator"),
    ("list a workflow", gets("/v1/control/workflows/g/c"), "bus member reader operator"),
    ("see an instance", manages("GET", "/v1/control/workflows/g/c/i"), "bus member operator"),
    ("draw an instance", manages("GET", "/v1/control/workflows/g/c/i/diagram"), "bus member operator"),
    ("order an instance", manages("POST", "/v1/control/workflows/g/c/i/pause"), "bus member operator"),
    ("list agents with their load", gets("/v1/control/agents"), KNOWN),
    ("look at another's load", gets("/v1/control/agents/joe"), "bus member writer monitor deputy operator"),
    ("see another's card", gets("/v1/control/agents/joe/card"), "bus member writer monitor deputy operator"),
    ("bring one's own card", brings_card("ann"), KNOWN),
    ("bring another's card", brings_card("joe"), "bus operator"),
    ("take another's card away", lambda doors: doors.ask("DELETE", "/v1/control/agents/tom/card"), "bus operator"),
    ("the team's card", gets("/v1/control/card"), KNOWN),
    ("the team's card for strangers", gets("/.well-known/agent-card.json"), " ".join(KINDS)),
    ("command", posts_command("ping", {"agent": "joe"}), "operator"),
    ("cancel", posts_command("cancel", None), "operator"),
    ("list commands", gets("/v1/control/commands"), "operator"),
    ("see a command", manages("GET", "/v1/control/commands/c1"), "operator"),
    ("pick one of a group", manages("GET", "/v1/control/route?group=g"), KNOWN),
    ("health", gets("/v1/health"), " ".join(KINDS)),
    ("readiness", gets("/v1/ready"), " ".join(KINDS)),
    ("reference", gets("/docs"), " ".join(KINDS)),
    ("the way to the reference", leads("/", 307), " ".join(KINDS)),
    ("the socket's address without a socket", leads(PATH, 426), " ".join(KINDS)),
    ("ask for a sign of life", says("ping", "pong"), KNOWN),
    ("subscribe no more", asks("unsub", topic="g/nothing"), KNOWN),
    ("be present no more", asks("leave", topic="h/c"), KNOWN),
    ("description", gets("/openapi.json"), " ".join(KINDS)),
]


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {"bus_token": BUS_TOKEN, "token_keys": write_key(tmp_path / "keys")}


@pytest.fixture
async def both_planes(tmp_path: Path, options: dict[str, Any]) -> AsyncIterator[Server]:
    """A broker with its control plane, and some agents."""
    async with serving(tmp_path / "data", Inside, **options) as server:
        async with Doors(server, BUS_TOKEN).http as http:
            for name in ("joe", "tom", "ann"):
                assert (await http.post("/v1/agents", json={"agent": name, "group": "g"})).status_code == 200
            async with asyncio.timeout(20):
                operator = {"Authorization": f"Bearer {KINDS['operator']}"}
                for path in ("/v1/control/agents/ann", "/v1/control/commands"):
                    while (await http.get(path, headers=operator)).status_code != 200:  # noqa: ASYNC110 - over HTTP
                        await asyncio.sleep(0.02)
        yield server


@pytest.mark.parametrize("kind", KINDS)
async def test_who_may_what(both_planes: Server, kind: str) -> None:
    server = both_planes
    doors = Doors(server, KINDS[kind])
    wrong = []
    for name, ask, kinds in TABLE:
        assert set(kinds.split()) <= set(KINDS)
        if await ask(doors) != (kind in kinds.split()):
            wrong.append(name)
    await doors.http.aclose()
    assert not wrong, "; ".join(wrong)


def routes_of(server: Server) -> list[APIRoute | Route]:
    """Every route that a broker with both planes serves."""
    app = server._app()
    assert isinstance(app, FastAPI)
    found = list(_flat(app.routes))
    paths = app.openapi()["paths"]
    assert {(method.upper(), path) for path in paths for method in paths[path]} <= {
        (method, re.sub(":path}", "}", route.path)) for route in found for method in route.methods or ()
    }
    return found


def _flat(routes: Iterable[BaseRoute]) -> Iterator[APIRoute | Route]:
    for route in routes:
        if isinstance(route, APIRoute | Route):
            yield route
        else:
            yield from _flat(route.original_router.routes)  # type: ignore[attr-defined] # or it fails: look at it then


def route_to(routes: list[APIRoute | Route], method: str, path: str) -> tuple[str, str]:
    """Which of them serves a request."""
    scope = {"type": "http", "method": method, "path": path, "root_path": ""}
    for route in routes:
        if route.matches(scope)[0] is Match.FULL:
            return method, route.path
    raise AssertionError(f"{method} {path} asks for nothing that is there")


async def test_every_door_has_its_row(both_planes: Server) -> None:
    """A route, or an operation of the socket, that is added without a row, and so without a thought, is found here."""
    routes = routes_of(both_planes)
    asked: set[tuple[str, str]] = set()
    ops: set[str] = set()
    for kind in ("operator", "empty"):
        doors = Doors(both_planes, KINDS[kind])
        for _, ask, _ in TABLE:
            await ask(doors)
        await doors.http.aclose()
        asked |= {route_to(routes, method, path) for method, path in doors.asked}
        ops |= doors.ops
    there = {(method, route.path) for route in routes for method in route.methods or () if method != "HEAD"}
    assert asked == there
    assert ops == {frame.__struct_config__.tag for frame in get_args(ClientFrame)}
    denied = set(both_planes.broker.metrics.access_denied)
    in_lists_only = {Operation.SEE_TOPIC, Operation.RECEIPTS}
    assert denied == set(Operation) - in_lists_only - {Operation.ROUTE}  # which whoever is known may ask


def test_what_is_open_is_what_the_documentation_says() -> None:
    text = (Path(__file__).parents[2] / "docs" / "access.md").read_text()
    (line,) = [line for line in text.split("\n\n") if line.startswith("Open to everybody:")]
    assert set(re.findall("`(/[^`]*)`", line)) == OPEN_PATHS


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/publish/", "//v1/topics", "/V1/TOPICS", "/v1/health/x", "/docs/"])
async def test_what_is_not_there_is_not_told_to_strangers(server: Server, path: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
        assert (await http.get(path)).status_code == 401


# Whose message it is


async def test_a_message_is_from_whoever_the_token_names(server: Server) -> None:
    doors = Doors(server, KINDS["member"])
    async with doors.http as http, doors.socket() as client:
        # over the socket the name needs not be said
        assert (await client.pub("g/c", 1, id="1", **{"from": "joe"}))["op"] == "ok"
        await http.post("/v1/publish", json={"topic": "g/c", "data": 2, "id": "2", "from": "joe"})
        page = (await http.get("/v1/topics/g/c/messages")).json()
        assert [(one["id"], one["from"]) for one in page["messages"]] == [("1", "ann"), ("2", "ann")]


@pytest.mark.parametrize("kind", ["member", "operator"])
async def test_a_name_in_the_address_is_no_way_to_be_another(server: Server, kind: str) -> None:
    url = f"{url_of(server)}?agent=joe&access_token={KINDS[kind]}"
    async with wire_client(url) as client:
        assert await client.closed() == 4507
    async with wire_client(url.replace("joe", "ann")) as client:
        await client.silent()


async def test_in_a_list_each_message_is_judged_by_itself(server: Server) -> None:
    async with Doors(server, KINDS["writer"]).http as http:
        body = [{"topic": topic, "data": 1, "id": topic} for topic in ("g/a", "x/a", "nowhere", "g/b", "g/_dead")]
        answer = await http.post("/v1/publish", json=body)
        assert answer.status_code == 207
        assert [(one["id"], one.get("code", "ok")) for one in answer.json()] == [
            ("g/a", "ok"),
            ("x/a", "forbidden"),
            ("nowhere", "bad_request"),
            ("g/b", "ok"),
            ("g/_dead", "forbidden"),
        ]


# What a pattern delivers, and lists show


async def fill(server: Server) -> None:
    async with Doors(server, BUS_TOKEN).http as http:
        body = [{"topic": topic, "data": topic} for topic in ("g/c", "g/@ann", "g/@joe", "h/c", "g/c/d")]
        assert (await http.post("/v1/publish?agent=joe", json=body)).status_code == 200


@pytest.mark.parametrize("live", [False, True])
async def test_a_pattern_passes_over_what_is_not_for_everyone(server: Server, live: bool) -> None:
    async with Doors(server, KINDS["member"]).socket() as ann, Doors(server, BUS_TOKEN).socket() as bus:
        await bus.hello("watcher")
        for client, pattern in ((ann, "g/**"), (bus, "**")):
            if live:
                await client.sub(pattern)
        await fill(server)
        for client, pattern in ((ann, "g/**"), (bus, "**")):
            if not live:
                await client.sub(pattern, from_="all")
        seen = {message["data"] for message in await ann.messages(3)}
        assert seen == {"g/c", "g/@ann", "g/c/d"}
        assert {message["data"] for message in await bus.messages(5)} == {"g/c", "g/@ann", "g/@joe", "h/c", "g/c/d"}
        await ann.send("ping")
        while (line := await ann.next())["op"] != "pong":  # nothing else is on its way
            assert line["op"] == "live"


@pytest.mark.parametrize(
    ("kind", "topics"),
    [
        ("bus", "g/@ann g/@joe g/c g/c/d h/c"),
        ("operator", "g/@ann g/@joe g/c g/c/d h/c"),
        ("member", "g/@ann g/@joe g/c g/c/d"),  # it may send to joe
        ("reader", "g/@ann g/c"),
        ("outsider", "g/@ann h/c"),
        ("empty", "g/@ann"),
    ],
)
async def test_topics_are_shown_to_those_who_may_see_them(server: Server, kind: str, topics: str) -> None:
    await fill(server)
    async with Doors(server, KINDS[kind]).http as http:
        for limit in (1, 2, 100):
            seen: list[str] = []
            after: str | None = ""
            while after is not None:
                page = (await http.get("/v1/topics", params={"after": after, "limit": limit})).json()
                seen += [one["topic"] for one in page["topics"]]
                after = page["next"]
            assert seen == topics.split()


async def test_agents_are_shown_to_those_who_may_send_to_them(server: Server) -> None:
    async with (
        wire_client(f"{url_of(server)}?access_token={token('joe', groups=['g'])}") as joe,
        wire_client(f"{url_of(server)}?access_token={token('eve', groups=['h'])}") as eve,
    ):
        await joe.silent()
        await eve.silent()
        seen = {}
        for kind in ("bus", "operator", "member", "outsider", "empty"):
            async with Doors(server, KINDS[kind]).http as http:
                found = (await http.get("/v1/sessions")).json()["sessions"]
                seen[kind] = [(one["agent"], bool(one["address"])) for one in found]
                registered = (await http.get("/v1/agents")).json()["agents"]
                assert [one["agent"] for one in registered] == [name for name, _ in seen[kind]]
        assert seen == {
            "bus": [("eve", False), ("joe", False)],
            "operator": [("eve", True), ("joe", True)],
            "member": [("joe", False)],
            "outsider": [("eve", False)],
            "empty": [],
        }


# The handshake, and hello


@pytest.mark.parametrize(
    ("kind", "code"), [("wrong", 4500), ("forged", 4500), ("expired", 4005), ("bus", 0), ("member", 0)]
)
@pytest.mark.parametrize("way", ["authorization", "header", "query", "hello"])
async def test_every_way_to_show_a_token(server: Server, kind: str, code: int, way: str) -> None:
    credential = KINDS[kind]
    url = url_of(server) + (f"?access_token={credential}" if way == "query" else "")
    headers = {"authorization": {"Authorization": f"Bearer {credential}"}, "header": {"X-Bus-Token": credential}}
    async with wire_client(url, additional_headers=headers.get(way, {})) as client:
        if way == "hello":
            await client.send("hello", agent="ann", token=credential)
        elif not code:
            await client.send("hello", agent="ann")
        if code:
            assert await client.closed() == code
        else:
            await client.expect("welcome", agent="ann")


async def test_before_hello_nothing_is_done(server: Server) -> None:
    async with wire_client(url_of(server)) as client:
        assert (await client.pub("g/c", 1))["code"] == "unauthorized"
        await client.send("sub", topic="g/c", rid=1)
        await client.expect("err", code="unauthorized", rid=1)
        await client.send("unsub", topic="g/c", rid=2)
        await client.expect("err", code="unauthorized", rid=2)
    async with wire_client(url_of(server) + "?agent=ann") as client:
        assert (await client.pub("g/c", 1))["code"] == "unauthorized"


async def test_a_group_that_the_token_does_not_name_is_refused(server: Server) -> None:
    async with wire_client(url_of(server)) as client:
        await client.send("hello", agent="ann", token=KINDS["member"], groups=["g", "h"], rid=1)
        await client.expect("err", code="forbidden", rid=1)
        assert await client.closed() == 4507


async def test_an_agent_is_registered_in_a_group_of_its_token(server: Server) -> None:
    async with Doors(server, token("ann", groups=["g", "h"])).http as http:
        assert (await http.post("/v1/agents", json={"agent": "ann", "group": "x"})).status_code == 403
        assert (await http.get("/api/inbox/ann")).status_code == 200
        assert (await http.get("/v1/agents/ann")).json()["inbox"] == "g/@ann"
        assert (await http.post("/v1/agents", json={"agent": "ann", "description": "d"})).status_code == 200
        assert (await http.post("/v1/agents", json={"agent": "ann", "group": "h"})).status_code == 409
    async with wire_client(f"{url_of(server)}?access_token={token('joe', groups=['h'])}") as joe:
        assert (await joe.hello("joe"))["inbox"] == "h/@joe"


async def test_only_its_own_reading_registers_an_agent(server: Server) -> None:
    """A mistyped name would be registered for ever, and who reads another's mail is not that other."""
    operator = token("boss", admin=True)
    monitor = token("eve", groups=["g"], subscribe=["agents/@ann", "g/@ann"])
    for other in (operator, monitor):
        async with Doors(server, other).http as http:
            answer = await http.get("/api/inbox/ann")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    async with Doors(server, operator).http as http:
        assert (await http.post("/api/inbox/ann/read", json={"seqs": []})).status_code == 404
        assert (await http.get("/v1/agents")).json()["agents"] == []
    async with Doors(server, token("ann", groups=["g"])).http as http:
        assert (await http.post("/api/inbox/ann/read", json={"seqs": []})).status_code == 200
        mine = (await http.get("/v1/agents/ann")).json()
        assert mine["inbox"] == "g/@ann"  # where the token says, whichever way it was registered
    for other in (operator, monitor):
        async with Doors(server, other).http as http:
            assert (await http.get("/api/inbox/ann")).status_code == 200
            assert (await http.post("/v1/agents", json={"agent": "x"})).status_code in (200, 403)
    async with Doors(server, operator).http as http:
        assert (await http.get("/v1/agents/ann")).json()["seen"] == mine["seen"]
    async with Doors(server, BUS_TOKEN).http as http:  # whoever has that is whom it says
        assert (await http.get("/api/inbox/tom")).status_code == 200
        assert (await http.get("/v1/agents/tom")).status_code == 200


async def test_an_inbox_is_read_where_reading_it_was_allowed(server: Server) -> None:
    """A grant for an inbox of that name in one group opens no inbox in another."""
    async with Doors(server, token("ann", groups=["research"])).http as http:
        assert (await http.get("/api/inbox/ann")).status_code == 200
    async with Doors(server, token("joe", groups=["research"])).http as http:
        assert (await http.post("/api/send", json={"from": "joe", "to": "ann"})).status_code == 200
    async with Doors(server, token("eve", groups=["research"], subscribe=["agents/@ann"])).http as http:
        assert (await http.get("/api/inbox/ann")).status_code == 403


async def test_a_refused_will_is_never_said(server: Server) -> None:
    async with wire_client(f"{url_of(server)}?access_token={BUS_TOKEN}") as bus:
        await bus.hello("watcher")
        await bus.sub("x/c")
        await bus.expect("live")
        async with wire_client(f"{url_of(server)}?access_token={KINDS['member']}") as ann:
            await ann.send("hello", agent="ann", will={"topic": "x/c", "data": 1}, rid=1)
            await ann.expect("err", rid=1, code="forbidden")
            ann.socket.transport.abort()
        async with asyncio.timeout(10):
            while len(server.broker.sessions.open) > 1:  # noqa: ASYNC110 - the broker sets no event for it
                await asyncio.sleep(0.01)
        await bus.silent()


async def test_a_consumer_of_a_pattern_gets_nobodys_mail(server: Server) -> None:
    async with Doors(server, KINDS["member"]).socket() as ann:
        await ann.hello("ann")
        await ann.send("sub", topic="g/**", consumer="w", rid=1, **{"from": "all"})
        await ann.expect("ok", rid=1)
        await fill(server)
        assert {message["data"] for message in await ann.messages(2)} == {"g/c", "g/c/d"}
        await ann.send("ping")
        while (line := await ann.next())["op"] != "pong":
            assert line["op"] == "live"


async def test_who_may_read_an_inbox_does_not_take_its_mail(server: Server) -> None:
    async with Doors(server, KINDS["bus"]).http as bus:
        await bus.get("/api/inbox/joe")
        inbox = (await bus.get("/v1/agents/joe")).json()["inbox"]
        eve = token("eve", subscribe=[inbox])
        assert (await bus.post("/api/send", json={"from": "ann", "to": "joe", "body": "x"})).status_code == 200
        async with wire_client(f"{url_of(server)}?access_token={eve}") as client:
            for asked in (
                {"op": "sub", "topic": inbox, "consumer": "inbox", "from": "all"},
                {"op": "ack", "topic": inbox, "consumer": "inbox", "seq": 1},
                {"op": "ack", "topic": inbox, "consumer": "inbox", "upto": 1},
            ):
                assert (await client.ask(asked.pop("op"), **asked))["code"] == "forbidden"
            answer = await client.ask("sub", topic=inbox, consumer="eve's own", from_="all")
            assert answer["code"] == "bad_request"  # no name: one that is, is hers
            assert (await client.ask("sub", topic=inbox, consumer="eves", from_="all"))["op"] == "ok"
            (message,) = await client.messages(1)
            assert (await client.ask("ack", topic=inbox, consumer="eves", seq=message["seq"]))["op"] == "ok"
            assert (await client.ask("ack", topic=inbox, consumer="inbox", seq=1))["code"] == "forbidden"
        assert [mail["body"] for mail in (await bus.get("/api/inbox/joe")).json()["messages"]] == ["x"]


async def test_a_consumer_of_a_pattern_is_in_nobodys_way(server: Server) -> None:
    """It passes inboxes over, so neither is it their read mark, nor does its name keep anybody from reading mail."""
    async with Doors(server, KINDS["bus"]).http as bus, Doors(server, KINDS["member"]).socket() as ann:
        await bus.post("/v1/agents", json={"agent": "joe", "group": "g"})
        await ann.hello("ann")
        for pattern in ("g/*", "g/**"):
            await ann.sub(pattern, consumer="inbox", from_="all")
            assert (await bus.post("/api/send", json={"from": "tom", "to": "joe", "body": pattern})).status_code == 200
            got = await bus.get("/api/inbox/joe", params={"mark_read": True})
            assert [mail["body"] for mail in got.json()["messages"]] == [pattern]
            assert (await ann.ask("unsub", topic=pattern, consumer="inbox"))["op"] == "ok"
            assert (await bus.delete(f"/v1/consumers/{pattern}", params={"name": "inbox"})).status_code == 200
            assert (await bus.get("/api/inbox/joe")).json()["messages"] == []
            await ann.send("ping")
            while (line := await ann.next())["op"] != "pong":
                assert line["op"] != "msg"


async def test_reading_registers_nobody_but_whom_the_caller_may_register(server: Server) -> None:
    eve = token("eve", groups=["research"], subscribe=["agents/@ann"])
    async with Doors(server, KINDS["operator"]).http as operator, Doors(server, eve).http as http:
        assert (await operator.post("/v1/agents", json={"agent": "ann", "group": "research"})).status_code == 200
        mail = {"from": "ann", "to": "ann", "body": "for ann alone"}
        assert (await operator.post("/api/send", json=mail)).status_code == 200
        assert (await http.get("/api/inbox/ann")).status_code == 403
        assert (await operator.delete("/v1/agents/ann")).status_code == 204
        for path in ("/api/inbox/ann", "/api/inbox/ann?wait=1"):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert (await operator.get("/v1/agents/ann")).status_code == 404
        assert (await http.get("/api/inbox/eve")).status_code == 200  # herself she may


async def test_a_poll_answers_nothing_behind_the_end_of_its_token(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", token_keys=write_key(tmp_path / "keys"), token_leeway=0) as server:
        short, long = Doors(server, token("ann", lasts=2)).http, Doors(server, token("joe", groups=["agents"])).http
        async with short, long:
            assert (await short.get("/api/inbox/ann")).status_code == 200
            polling = asyncio.create_task(short.get("/api/inbox/ann", params={"wait": 20, "mark_read": True}))
            while (await short.get("/v1/agents/ann")).status_code == 200:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.05)
            assert (await long.post("/api/send", json={"from": "joe", "to": "ann", "body": "late"})).status_code == 200
            assert (await polling).status_code == 401
            async with Doors(server, token("ann")).http as fresh:
                assert [mail["body"] for mail in (await fresh.get("/api/inbox/ann")).json()["messages"]] == ["late"]


async def test_nobodys_inbox_is_in_a_group_of_the_brokers_own(server: Server) -> None:
    """Mail to ALL would be said there, and to an agent `_hubbub/@NAME` is the control plane's word."""
    async with Doors(server, KINDS["bus"]).http as http:
        for group in ("_hubbub", "_own"):
            answer = await http.post("/v1/agents", json={"agent": "joe", "group": group})
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        async with wire_client(f"{url_of(server)}?access_token={BUS_TOKEN}") as joe:
            assert (await joe.hello("joe", groups=["_hubbub", "g"]))["inbox"] == "agents/@joe"
        async with Doors(server, token("tom", groups=["_own"])).http as tom:
            assert (await tom.get("/api/inbox/tom")).status_code == 200
        assert {each["inbox"] for each in (await http.get("/v1/agents")).json()["agents"]} == {
            "agents/@joe",
            "agents/@tom",
        }


async def test_nobody_is_present_where_only_the_broker_speaks(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as server,
        wire_client(url_of(server), "operator") as operator,
        wire_client(url_of(server), "eve") as eve,
    ):
        for topic in ("_hubbub/events", "_hubbub/agents", "g/_dead", "g/_state", "_own/c"):
            await operator.sub(topic)
            assert (await eve.pub(topic, 1))["code"] == "forbidden"
            assert (await eve.ask("join", topic=topic))["code"] == "forbidden"
        answer = await eve.ask("join", topic="g/c")
        assert answer["present"] == ["eve"]


async def test_an_agent_too_many_is_turned_away_and_leaves_nothing(tmp_path: Path) -> None:
    with captured_log() as log:
        async with serving(tmp_path / "data", bus_token=BUS_TOKEN, max_agents=1) as server:
            url = f"{url_of(server)}?access_token={BUS_TOKEN}"
            async with wire_client(url) as first:
                await first.hello("first")
                async with wire_client(url + "&agent=second") as second:
                    assert await second.closed() == 1013
                async with wire_client(url) as third:
                    await third.send("hello", agent="third", rid=1)
                    await third.expect("err", rid=1, code="overloaded")
            async with asyncio.timeout(10):
                await server.broker.sessions.all_gone()
        log.check_no_bug()


# Expiry


class TestExpiry:
    @pytest.fixture
    def options(self, tmp_path: Path) -> dict[str, Any]:
        return {"token_keys": write_key(tmp_path / "keys"), "token_leeway": 0}

    async def test_the_end_of_the_token_is_the_end_of_the_connection(self, server: Server) -> None:
        async with wire_client(url_of(server)) as short, wire_client(url_of(server)) as long:
            welcome = await short.hello("ann", token=token("ann", lasts=4))
            await long.hello("joe", token=token("joe"))
            assert 0 < welcome["expires"] - welcome["ts"] <= 4
            assert await short.closed() == 4005
            await long.silent()

    async def test_a_fresh_token_moves_the_end(self, server: Server) -> None:
        async with wire_client(url_of(server)) as client, wire_client(url_of(server)) as witness:
            await client.hello("ann", token=token("ann", lasts=4, subscribe=["g/*"]))
            await witness.hello("joe", token=token("joe", lasts=4.1))
            await client.sub("g/c")
            await client.expect("live")
            welcome = await client.hello("ann", token=token("ann", lasts=60, subscribe=["g/*"]))
            assert welcome["expires"] - welcome["ts"] > 50
            assert await witness.closed() == 4005
            await client.silent()
            await client.hello("ann")  # without a token it only says again who it is
            await client.silent()

    async def test_a_bad_token_changes_nothing(self, server: Server) -> None:
        async with wire_client(url_of(server)) as client:
            before = await client.hello("ann", token=token("ann", lasts=60))
            for bad, code in (
                ("junk", "unauthorized"),
                (token("ann", lasts=-9), "unauthorized"),
                (token("joe"), "forbidden"),
            ):
                await client.send("hello", agent="ann", token=bad, rid=1)
                await client.expect("err", code=code, rid=1)
            assert (await client.hello("ann"))["expires"] == before["expires"]

    @pytest.mark.parametrize("more", [{"subscribe": ["g/*", "h/*"]}, {"subscribe": []}, {"admin": True}])
    async def test_a_token_that_allows_other_things_takes_a_new_connection(
        self, server: Server, more: dict[str, Any]
    ) -> None:
        async with wire_client(url_of(server)) as client:
            await client.hello("ann", token=token("ann", subscribe=["g/*"]))
            await client.send("hello", agent="ann", token=token("ann", **{"subscribe": ["g/*"], **more}))
            assert await client.closed() == 4005

    async def test_a_stream_ends_with_its_token(self, server: Server) -> None:
        short, long = token("ann", lasts=4, subscribe=["g/c"]), token("joe", pub=["g/c"])
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=20) as http:
            headers = {"Authorization": f"Bearer {short}"}
            async with http.stream("GET", "/v1/topics/g/c/stream", headers=headers) as stream:
                assert stream.status_code == 200
                while (await http.get("/v1/route?group=g", headers=headers)).status_code == 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                posted = await http.post("/v1/publish", params={"access_token": long}, json={"topic": "g/c", "data": 1})
                assert posted.status_code == 200
                assert [line async for line in stream.aiter_lines() if "data" in line] == []

    async def test_who_waits_for_mail_gets_none_after_the_end_and_nothing_is_marked(self, server: Server) -> None:
        short = {"Authorization": f"Bearer {token('ann', lasts=4, groups=['g'])}"}
        long = {"Authorization": f"Bearer {token('ann', groups=['g'])}"}
        joe = {"Authorization": f"Bearer {token('joe', groups=['g'])}"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as http:
            waiting = asyncio.create_task(http.get("/api/inbox/ann?wait=30&mark_read=true", headers=short))
            while (await http.get("/api/inbox/ann", headers=short)).status_code == 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert not waiting.done()
            sent = await http.post("/api/send", headers=joe, json={"from": "joe", "to": "ann", "body": "late"})
            assert sent.status_code == 200
            answer = await waiting
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            (mail,) = (await http.get("/api/inbox/ann", headers=long)).json()["messages"]
            assert mail["body"] == "late"

    async def test_over_http_too(self, server: Server) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
            answer = await http.get("/v1/topics", params={"access_token": token("ann", lasts=-9)})
            assert (answer.status_code, "expired" in answer.json()["message"]) == (401, True)


async def test_a_key_that_is_taken_away_ends_what_it_vouched_for(tmp_path: Path) -> None:
    keys = write_key(tmp_path / "keys")
    write_key(keys, "k2", b"the new secret of thirty-two byt")
    new = key("k2", secret=b"the new secret of thirty-two byt")
    async with serving(tmp_path / "data", token_keys=keys, bus_token=BUS_TOKEN) as server:
        async with (
            wire_client(f"{url_of(server)}?access_token={token('old')}") as old,
            wire_client(f"{url_of(server)}?access_token={token('new', by=new)}") as kept,
            wire_client(f"{url_of(server)}?agent=bus&access_token={BUS_TOKEN}") as bus,
        ):
            await old.silent()
            (keys / "k1.jwk").unlink()
            assert await old.closed() == 4005
            await kept.silent()
            await bus.silent()
            async with wire_client(f"{url_of(server)}?access_token={token('old')}") as again:
                assert await again.closed() == 4500


# Pages in browsers


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://app.example.org", 101),
        ("http://localhost:3000", 101),
        ("https://app.example.org.evil.example", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
async def test_pages_of_allowed_origins_may_connect(tmp_path: Path, origin: str, status: int) -> None:
    async with serving(tmp_path, bus_token=BUS_TOKEN, allowed_origins="https://app.example.org") as server:
        url = f"{url_of(server)}?access_token={BUS_TOKEN}"
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
            headers = {"Origin": origin, "Authorization": f"Bearer {BUS_TOKEN}"}
            answer = await http.get("/v1/topics", headers=headers)
            assert answer.status_code == (200 if status == 101 else 403)
            allows = answer.headers.get("access-control-allow-origin")
            assert (allows == origin) == (origin == "https://app.example.org")
        if status == 101:
            async with open_socket(url, origin=origin) as socket:  # type: ignore[arg-type]
                await socket.send(json.dumps({"op": "hello", "agent": "ann"}))
                assert json.loads(await asyncio.wait_for(socket.recv(), 10))["op"] == "welcome"
        else:
            with pytest.raises(Exception, match="403"):
                await open_socket(url, origin=origin)  # type: ignore[arg-type]


async def test_a_page_may_ask_before_it_asks(tmp_path: Path) -> None:
    async with serving(tmp_path, bus_token=BUS_TOKEN, allowed_origins="https://app.example.org") as server:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
            headers = {
                "Origin": "https://app.example.org",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            }
            answer = await http.options("/v1/publish", headers=headers)
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == "https://app.example.org"
            headers["Origin"] = "https://evil.example"
            assert (await http.options("/v1/publish", headers=headers)).status_code >= 400


async def test_denials_are_counted_by_operation(server: Server) -> None:
    doors = Doors(server, KINDS["empty"])
    await publishes("g/c")(doors)
    await subscribes("g/c")(doors)
    await gets("/metrics")(doors)
    await gets("/v1/topics")(doors)
    await doors.http.aclose()
    assert server.broker.metrics.access_denied == {"publish": 1, "subscribe": 1, "metrics": 1}
