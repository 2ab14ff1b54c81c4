"""The supervisor and its workers: who ends with whom, and what stays locked meanwhile. With TLS and tokens."""

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from websockets.exceptions import ConnectionClosed

from harness.tokens import token, write_key
from harness.until import until
from harness.wire import WireClient, wire_client
from harness.workers import WorkersProcess, is_gone, workers_process
from hubbub import Agent
from hubbub.transport import WebSocketTransport
from hubbub_protocol.routing import worker_of

pytestmark = pytest.mark.slow

WORKERS = 2
HOME = worker_of("_hubbub", 16, WORKERS)
OTHER = 1 - HOME


class Certified:
    """A certificate for 127.0.0.1, and clients that trust it."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.chain.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(self.key))
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


def serve_again(broker: WorkersProcess) -> "subprocess.CompletedProcess[str]":
    """Try to open the same directory with another broker."""
    command = [sys.executable, "-m", "hubbub_broker", "serve", "--data-dir", str(broker.directory), "--port", "0"]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


async def test_with_tls_and_tokens_every_worker_is_the_broker(tmp_path: Path) -> None:
    site = Certified(tmp_path)
    groups = [group_of(worker) for worker in range(WORKERS)]
    joe = token("joe", groups=groups, pub=["**"], subscribe=["**"])
    boss = token("boss", groups=groups, admin=True)
    settings: dict[str, Any] = {
        "tls_certificate": site.chain,
        "tls_key": site.key,
        "token_keys": write_key(tmp_path / "keys"),
    }
    async with workers_process(tmp_path / "data", WORKERS, verify=site.client, **settings) as broker:
        transport = WebSocketTransport(tls=site.client)
        async with Agent("joe", group=groups[0], url=broker.url, token=joe, transport=transport) as agent:
            for group in groups:
                feed = agent.subscribe(f"{group}/t")
                await feed.ready()
                await agent.publish(f"{group}/t", group)
                assert (await anext(feed)).data == group
            await check_credentials(broker, site, joe, groups)
        await check_rules(broker, site, joe, boss, groups)
        broker.kill_worker(OTHER)
        await broker.worker_back(OTHER, 2)
        assert await publish(broker, site, joe, groups[OTHER], 1000) == 413  # it takes no connection before it knows
        async with httpx.AsyncClient(base_url=broker.base, verify=site.client, timeout=20) as http:
            text = (await http.get("/metrics", headers=bearer(boss))).text
        assert f'hubbub_worker_restarts_total{{worker="{OTHER}"}} 1.0' in text
        assert f'hubbub_worker_restarts_total{{worker="{HOME}"}} 0.0' in text


def group_of(worker: int) -> str:
    return next(group for n in range(100) if worker_of(group := f"g{n}", 16, WORKERS) == worker)


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


async def check_credentials(broker: WorkersProcess, site: Certified, joe: str, groups: list[str]) -> None:
    """Whoever asks anywhere is who it is, at the owner too."""
    narrow = token("ann", groups=[groups[0]], subscribe=[f"{groups[0]}/**"])
    for worker in range(WORKERS):
        async with httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{broker.port_of(worker)}", verify=site.client, timeout=20
        ) as http:
            for group in groups:
                url = f"/v1/topics/{group}/t/messages"
                assert (await http.get(url)).status_code == 401
                assert (await http.get(url, headers=bearer("nobody's"))).status_code == 401
                assert (await http.get(url, headers=bearer(joe))).status_code == 200
                assert (await http.get(url, params={"access_token": joe})).status_code == 200
                wanted = 200 if group == groups[0] else 403
                assert (await http.get(url, headers=bearer(narrow))).status_code == wanted
            topics = (await http.get("/v1/topics", headers=bearer(narrow))).json()["topics"]
            assert {topic["topic"] for topic in topics} == {f"{groups[0]}/t"}
            assert (await http.get("/v1/shards", headers=bearer(narrow))).status_code == 403
            route = await http.get("/v1/route", params={"group": groups[1]}, headers=bearer(joe))
            assert route.json()["url"].startswith(f"wss://127.0.0.1:{broker.port_of(1)}/")


async def check_rules(broker: WorkersProcess, site: Certified, joe: str, boss: str, groups: list[str]) -> None:
    """A policy is in force at every worker as soon as it is answered."""
    home = f"wss://127.0.0.1:{broker.port_of(HOME)}/v1/ws"
    async with wire_client(home, "boss", ssl=site.client, additional_headers=bearer(boss)) as operator:
        for change, (limit, status) in enumerate(((200, 413), (100_000, 200), (200, 413))):
            policy = {"policy": {"pattern": "**", "max_message": limit}}
            answer = await operator.ask("change", topic="_hubbub", id=str(change), set={"policy/small": policy})
            assert answer["op"] == "ok", answer
            for group in groups:
                assert await publish(broker, site, joe, group, 1000) == status


async def publish(broker: WorkersProcess, site: Certified, joe: str, group: str, size: int) -> int:
    async with httpx.AsyncClient(base_url=broker.base, verify=site.client, timeout=20) as http:
        message = {"topic": f"{group}/rules", "data": "x" * size}
        return (await http.post("/v1/publish", json=message, headers=bearer(joe))).status_code


async def test_no_worker_outlives_its_supervisor_and_no_second_broker_gets_in(tmp_path: Path) -> None:
    async with workers_process(tmp_path / "data", WORKERS) as broker:
        second = serve_again(broker)
        assert second.returncode == 1
        assert "in use by another process" in second.stderr
        pids = list(broker.pids().values())
        async with Agent("joe", url=broker.url) as joe:
            await joe.publish("g/t", 1)
            os.kill(pids[0], signal.SIGSTOP)  # it can't notice yet, and keeps its shards
            broker.kill()
            assert "in use by another process" in serve_again(broker).stderr
            os.kill(pids[0], signal.SIGCONT)
            await until(lambda: all(is_gone(pid) for pid in pids))
            assert sum(line["event"] == "supervisor gone" for line in log_lines(broker)) == WORKERS
            assert not joe.stats.confirmed - 1
    async with workers_process(tmp_path / "data", WORKERS) as broker, Agent("joe", url=broker.url) as joe:
        assert (await joe.publish("g/t", 2)).seq == 2


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--set", "worker_port={port}"], 1, "a worker's own: see worker_port"),
        (["--set", "token_keys=/nowhere"], 2, "/nowhere"),
        (["--set", "shards=2"], 2, "workers"),
        (["--set", "worker_urls=ws://one:1/v1/ws"], 2, "takes one address for each of the 3 workers"),
    ],
)
def test_what_can_not_begin_is_said_before_anything_does(
    tmp_path: Path, options: list[str], code: int, said: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        filled = [option.format(port=taken.getsockname()[1]) for option in options]
        command = [
            sys.executable,
            "-m",
            "hubbub_broker",
            "serve",
            "--workers",
            "3",
            "--data-dir",
            str(tmp_path / "data"),
        ]
        ended = subprocess.run(
            [*command, "--port", "0", *filled], capture_output=True, text=True, timeout=50, check=False
        )
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr


async def test_a_worker_that_can_not_be_kept_up_ends_the_broker(tmp_path: Path) -> None:
    async with workers_process(tmp_path / "data", WORKERS, worker_restarts=1) as broker:
        broker.kill_worker(0)
        await broker.worker_back(0, 2)
        broker.kill_worker(0)
        assert await broker.ended() == 1
        assert "worker 0 died 2 times in a row, the limit (worker_restarts) is 1" in broker.log.read_text()


async def test_a_stop_is_a_drain_of_every_worker(tmp_path: Path) -> None:
    async with workers_process(tmp_path / "data", WORKERS) as broker:
        groups = [broker.group_of(worker) for worker in range(WORKERS)]
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(wire_client(f"{broker.url}?group={group}", "joe")) for group in groups
            ]
            for client, group in zip(clients, groups, strict=True):
                for n in range(200):
                    await client.send("pub", topic=f"{group}/t", id=str(n), data=n)
            for client in clients:
                await client.expect("ok")  # it has begun to answer
            ending = asyncio.get_running_loop().run_in_executor(None, broker.terminate)
            answered = []
            answered = [await answers_until_the_end(client) for client in clients]
            assert await ending == 0
        assert sum(line["event"] == "stopped" for line in log_lines(broker)) == WORKERS + 1
        broker.start()
        await broker.wait_ready()
        async with httpx.AsyncClient(base_url=broker.base, timeout=20) as http:
            for group, least in zip(groups, answered, strict=True):
                assert (await http.get(f"/v1/topics/{group}/t/messages")).json()["head"] >= least


async def answers_until_the_end(client: WireClient) -> int:
    """How many publishes were answered, the first one with them, on a connection that the broker ends in order."""
    lines: list[str] = ["ok"]
    with suppress(ConnectionClosed):
        while True:
            lines.append((await client.next())["op"])
    assert "goaway" in lines
    assert await client.closed() == 4001
    return lines.count("ok")


def log_lines(broker: WorkersProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in broker.log.read_text().splitlines() if line.startswith("{")]
