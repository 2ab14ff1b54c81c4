"""A token is shown in every way there is, right and wrong, to a broker that logs all it can; after that it is found
nowhere."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from harness.broker import BrokerProcess, broker_process
from harness.tokens import key, token, write_key
from hubbub import Agent, HubbubError
from hubbub_broker.cli import app

BUS = "Bus-Token-That-Must-Not-Show-4711"
SECRET = "hmac-secret-that-must-not-show-0815-xxxxx"
GOOD = token("ann", groups=["g"], pub=["g/**"], subscribe=["g/**"])
EXPIRED = token("ann", lasts=-100)
FORGED = token("ann", by=key(secret=b"a secret that this broker has no"))
WRONG = "Wrong-Token-That-Must-Not-Show-4712"
LONG = "Long-Token-That-Must-Not-Show-" + "x" * 20_000
ALL = {"good": GOOD, "expired": EXPIRED, "forged": FORGED, "wrong": WRONG, "long": LONG, "bus": BUS}


def traces() -> dict[str, str]:
    """What would give a token away: itself, or the parts of it that are nobody else's."""
    found = {"secret": SECRET, "bus": BUS, "wrong": WRONG, "long": LONG[:40]}
    for name in ("good", "expired", "forged"):
        _, payload, signature = ALL[name].split(".")
        found |= {f"{name} payload": payload, f"{name} signature": signature}
    return found


def check(text: str, where: str) -> None:
    shown = [name for name, trace in traces().items() if trace in text]
    assert not shown, f"{shown} in {where}"


async def over_http(url: str, seen: list[str]) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        for credential in ALL.values():
            ways: list[dict[str, Any]] = [
                {"params": {"access_token": credential}},
                {"params": {"access_token": credential, "limit": "wrong", "after": "-1"}},
            ]
            if len(credential) < 10_000:
                ways += [
                    {"headers": {"Authorization": f"Bearer {credential}"}},
                    {"headers": {"X-Bus-Token": credential}},
                    {"headers": {"Authorization": f"Bearer {credential}", "Origin": "https://evil.example"}},
                ]
            for way in ways:
                for method, path in (
                    ("GET", "/v1/topics"),
                    ("GET", "/v1/topics/"),  # a redirect, if anything
                    ("GET", "/v1/topics/g/c/messages"),
                    ("GET", "/v1/topics/nowhere/messages"),
                    ("GET", "/v1/nothing"),
                    ("GET", "/v1/ws"),
                    ("GET", "/"),
                    ("GET", "/docs"),
                    ("PUT", "/v1/publish"),
                    ("POST", "/v1/publish"),
                    ("GET", "/metrics"),
                    ("GET", "/v1/agents"),
                ):
                    answer = await http.request(method, path, **way)
                    seen.append(f"{dict(answer.headers)} {answer.text}")
                body = {"topic": "g/c", "data": 1, "n": -1, "access_token": 1}
                answer = await http.post("/v1/publish", json=body, **way)
                seen.append(f"{dict(answer.headers)} {answer.text}")


LINES = (
    '{"op":"ping"}',
    '{"op":"hello","agent":"ann","token":[TOKEN]}',
    '{"op":"hello","agent":5,"token":TOKEN}',
    '{"op":"hello","agent":"ann","token":TOKEN,"groups":["not in it"]}',
    '{"op":"hello","agent":"ann","groups":["x"],"token":TOKEN}',
    '{"op":"hello","agent":"ann","token":TOKEN}',
    '{"op":"hello","agent":"joe","token":TOKEN}',
    '{"op":"hello","agent":"ann","token":TOKEN',
    '{"op":"sub","topic":"x/y"}',
    '{"op":"ping","rid":"the last"}',
)


async def collect(socket: ClientConnection, seen: list[str]) -> None:
    """Everything up to the answer to the last line, or the end."""
    with suppress(ConnectionClosed):
        async with asyncio.timeout(10):
            while True:
                frame = str(await socket.recv())
                seen.append(frame)
                if "the last" in frame:
                    return


async def over_sockets(url: str, seen: list[str]) -> None:
    for credential in ALL.values():
        for address, headers in (
            (f"{url}?access_token={credential}", {}),
            (f"{url}?access_token={credential}&agent=a%20b", {}),
            (url.replace("/v1/ws", f"/v2?access_token={credential}"), {}),
            (url, {"Authorization": f"Bearer {credential}"}),
            (url, {"X-Bus-Token": credential, "Origin": "https://evil.example"}),
            (url, {}),
        ):
            with suppress(WebSocketException, OSError):
                async with connect(address, additional_headers=headers, compression=None) as socket:
                    quoted = json.dumps(credential)
                    for line in LINES:
                        with suppress(WebSocketException):
                            await socket.send(line.replace("TOKEN", quoted))
                    await collect(socket, seen)
                    seen.append(f"{socket.close_reason}")


async def by_the_sdk(broker: BrokerProcess) -> None:
    for credential in ALL.values():
        agent = Agent("ann", url=f"ws://127.0.0.1:{broker.port}", token=credential)
        with suppress(HubbubError, TimeoutError):
            async with agent:
                await agent.wait_for("online", timeout=0.5)
                await agent.publish("x/y", 1)


@pytest.mark.slow
async def test_a_token_is_found_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    settings = {
        "bus_token": BUS,
        "token_secret": SECRET,
        "token_keys": write_key(tmp_path / "keys"),
        "log_level": "debug",
        "hello_timeout": 5,
    }
    caplog.set_level("DEBUG", "hubbub")  # the SDK's own
    async with broker_process(tmp_path / "data", **settings) as broker:
        url = f"http://127.0.0.1:{broker.port}"
        await over_http(url, seen)
        await over_sockets(broker.url, seen)
        await by_the_sdk(broker)
        (tmp_path / "keys" / "bad.secret").write_text(SECRET[:20])  # read again, and refused
        async with asyncio.timeout(20):
            while "keys not read again" not in broker.log.read_text():  # noqa: ASYNC110 - another process's log
                await asyncio.sleep(0.05)
        async with httpx.AsyncClient(base_url=url) as http:
            metrics = await http.get("/metrics", headers={"X-Bus-Token": BUS})
            assert metrics.status_code == 200
            seen.append(metrics.text)
        assert broker.terminate() == 0
    assert len(seen) > 300
    assert "hubbub_tokens_refused_total" in metrics.text
    check("\n".join(seen), "what the broker answered")
    log = broker.log.read_text()
    assert '"level": "debug"' in log
    check(log, "the broker's log")
    own = [record.getMessage() for record in caplog.records if record.name.startswith("hubbub")]
    assert len(own) > 10
    check("\n".join(own), "the SDK's log")


@pytest.mark.parametrize(
    "arguments",
    [
        ["config"],
        ["config", "--set", f"bus_token={BUS}"],
        ["config", "--set", f"bus_token={BUS} with a space"],
        ["config", "--set", f"token_secret={SECRET}"],
        ["config", "--set", f"token_secret={SECRET[:30]}"],
        ["config", "--set", f"bus_tokn={BUS}"],
        ["config", "--set", f"token_key={SECRET}"],
        ["serve", "--port", "99999", "--set", f"bus_token={BUS}"],
        ["serve", "--set", f"bus_token={BUS}", "--set", "token_keys=/nowhere"],
    ],
)
def test_settings_are_shown_without_secrets(arguments: list[str], tmp_path: Path) -> None:
    environ = {"HUBBUB_CONFIG": "", "HUBBUB_BUS_TOKEN": BUS, "HUBBUB_DATA_DIR": str(tmp_path / "data")}
    result = CliRunner().invoke(app, arguments, env=environ)
    for text in (result.stdout, result.stderr):
        assert BUS not in text
        assert SECRET[:30] not in text
    if result.exit_code == 0:
        assert 'bus_token = "***"' in result.stdout


def test_what_stands_for_a_secret_is_none() -> None:
    result = CliRunner().invoke(app, ["config", "--set", "bus_token=***"], env={"HUBBUB_CONFIG": ""})
    assert result.exit_code == 2
    assert "bus_token = *** (--set)" in result.stderr
