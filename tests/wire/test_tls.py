"""TLS: both doors behind one certificate, and a new one without dropping anybody."""

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from websockets.asyncio.client import connect

from harness.broker import broker_process, serving
from harness.log_capture import captured_log
from harness.tokens import BUS_TOKEN
from harness.wire import WireClient
from hubbub import Agent
from hubbub_broker.config import Settings
from hubbub_broker.server import Server
from hubbub_broker.tls import BadCertificate, Certificate


class Site:
    """Files of a certificate, and the authority that vouches for it."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.certificate = folder / "chain.pem"
        self.key = folder / "key.pem"
        self.authority_file = folder / "authority.pem"
        self.authority.cert_pem.write_to_path(str(self.authority_file))
        self.serial = self.issue()

    def issue(self) -> bytes:
        """Write a new certificate with its key; returns the certificate as it is sent."""
        issued = self.authority.issue_cert("127.0.0.1", "localhost")
        chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
        for path, content in ((self.certificate, chain), (self.key, issued.private_key_pem.bytes())):
            new = path.with_suffix(".new")
            new.write_bytes(content)
            new.replace(path)
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    @property
    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority_file))

    @property
    def settings(self) -> dict[str, Any]:
        return {"tls_certificate": self.certificate, "tls_key": self.key}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def server(tmp_path: Path, site: Site) -> AsyncIterator[Server]:
    async with serving(tmp_path, bus_token=BUS_TOKEN, **site.settings) as server:
        yield server


async def shown(server: Server, site: Site) -> bytes:
    """The certificate that somebody who connects now is shown."""
    return await shown_at(server.port, site)


async def shown_at(port: int, site: Site) -> bytes:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=site.client)
    der: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    assert der is not None
    return der


async def test_both_doors_are_behind_tls(server: Server, site: Site) -> None:
    headers = {"Authorization": f"Bearer {BUS_TOKEN}"}
    async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{server.port}", verify=site.client) as http:
        body = {"topic": "g/c", "data": "x" * 300_000}
        assert (await http.post("/v1/publish", json=body, headers=headers)).status_code == 200
        assert (await http.get("/v1/route?group=g", headers=headers)).json()["url"].startswith("wss://")
    url = f"wss://127.0.0.1:{server.port}/v1/ws?agent=joe&access_token={BUS_TOKEN}"
    async with connect(url, ssl=site.client, compression=None) as socket:
        client = WireClient(socket)
        await client.sub("g/c", from_="all")
        assert len((await client.messages(1))[0]["data"]) == 300_000


async def test_a_broker_of_its_own_speaks_it_and_reads_it_again(tmp_path: Path) -> None:
    """In its own process it runs on the faster loop, whose TLS is another."""
    site = Site(tmp_path)
    async with broker_process(tmp_path / "data", bus_token=BUS_TOKEN, **site.settings) as broker:
        url = f"wss://127.0.0.1:{broker.port}/v1/ws?agent=joe&access_token={BUS_TOKEN}"
        async with connect(url, ssl=site.client, compression=None) as socket:
            client = WireClient(socket)
            first = await shown_at(broker.port, site)
            site.issue()
            async with asyncio.timeout(20):
                while await shown_at(broker.port, site) == first:  # noqa: ASYNC110 - as below
                    await asyncio.sleep(0.05)
            await client.sub("g/c")
            await client.expect("live")
            await client.pub("g/c", "x" * 300_000)
            assert len((await client.messages(1))[0]["data"]) == 300_000
        assert broker.terminate() == 0


async def test_without_tls_there_is_no_answer(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(10):
        assert not (await reader.read()).startswith(b"HTTP/")
    writer.close()


async def test_the_sdk_speaks_it(server: Server, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority_file))
    async with Agent("joe", url=f"wss://127.0.0.1:{server.port}", token=BUS_TOKEN) as joe:
        receipt = await joe.publish("g/c", 1)
        assert receipt.seq == 1


async def test_a_new_certificate_is_shown_and_nobody_is_dropped(tmp_path: Path) -> None:
    site = Site(tmp_path)
    async with serving(tmp_path / "data", **site.settings) as server:
        first = site.serial
        assert await shown(server, site) == first
        url = f"wss://127.0.0.1:{server.port}/v1/ws?agent=joe"
        async with connect(url, ssl=site.client, compression=None) as socket:
            second = site.issue()
            async with asyncio.timeout(10):
                while await shown(server, site) == first:  # noqa: ASYNC110 - no event: the broker looks once a second
                    await asyncio.sleep(0.05)
            assert await shown(server, site) == second
            await WireClient(socket).silent()


def test_files_that_do_not_belong_together_leave_in_force_what_was(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    site, other = Site(tmp_path), Site(tmp_path / "other")
    certificate = Certificate(site.certificate, site.key)
    assert not certificate.refresh()
    good = site.key.read_bytes()
    with captured_log() as log:
        site.key.write_bytes(other.key.read_bytes())
        assert not certificate.refresh()
        site.certificate.unlink()
        assert not certificate.refresh()
        assert [line["event"] for line in log.read()] == ["certificate not read again"] * 2
    site.certificate.write_bytes(b"")
    assert not certificate.refresh()
    site.issue()
    assert certificate.refresh()
    assert site.key.read_bytes() != good


@pytest.mark.parametrize("wrong", ["missing", "garbage", "encrypted"])
def test_what_can_not_be_used_is_refused_at_the_start(tmp_path: Path, site: Site, wrong: str) -> None:
    from cryptography.hazmat.primitives import serialization

    key = tmp_path / "key.pem"
    if wrong == "garbage":
        key.write_text("garbage")
    if wrong == "encrypted":
        loaded = serialization.load_pem_private_key(site.key.read_bytes(), None)
        key.write_bytes(
            loaded.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
    with pytest.raises(BadCertificate, match="tls_key"):
        Certificate(site.certificate, key)


def test_a_broker_with_half_of_it_says_so(tmp_path: Path, site: Site) -> None:
    with pytest.raises(ValueError, match="tls_key"):
        Settings(tls_certificate=site.certificate)
    with pytest.raises(ValueError, match="tls_certificate"):
        Settings(tls_key=site.key)
    command = [sys.executable, "-m", "hubbub_broker", "serve", "--data-dir", str(tmp_path / "data"), "--port", "0"]
    environ = {**os.environ, "HUBBUB_TLS_CERTIFICATE": str(site.certificate), "HUBBUB_TLS_KEY": "/nowhere/key.pem"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 2
    assert "tls_key /nowhere/key.pem" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_tls_handshake_is_not_waited_for_for_ever(tmp_path: Path, site: Site) -> None:
    async with serving(tmp_path, handshake_seconds=0.3, **site.settings) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
