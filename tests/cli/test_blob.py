"""`hubbub blob`, against a broker that listens."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.broker import BrokerProcess, broker_process
from hubbub import Agent
from hubbub_broker.cli import app

BODY = os.urandom(300_000)
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[BrokerProcess]:
    async with broker_process(tmp_path / "data") as running:
        yield running


async def hubbub(server: BrokerProcess, *arguments: str, stdin: bytes | None = None) -> Result:
    """Run a command, while the broker runs on in this loop."""
    command = [*arguments, "--url", server.url]
    result = await asyncio.to_thread(CliRunner().invoke, app, command, input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


async def test_put_refer_and_get(server: BrokerProcess, tmp_path: Path) -> None:
    source = tmp_path / "report.pdf"
    source.write_bytes(BODY)
    assert (await hubbub(server, "blob", "put", "g", str(source))).stdout == SHA + "\n"
    printed = (await hubbub(server, "blob", "put", "g", "-", "--name", "b", "--json", stdin=BODY)).stdout
    assert (json.loads(printed)["sha256"], json.loads(printed)["name"]) == (SHA, "b")
    assert (await hubbub(server, "pub", "g/c", '"done"', "--attach", printed)).exit_code == 0
    async with Agent("ann", group="g", url=server.url, local=False) as ann:
        assert await (await anext(ann.subscribe("c", "all"))).fetch("b") == BODY
    target = tmp_path / "got.pdf"
    assert (await hubbub(server, "blob", "get", "g", SHA, "--out", str(target))).exit_code == 0
    assert target.read_bytes() == BODY
    assert (await hubbub(server, "blob", "get", "g", SHA)).stdout_bytes == BODY


async def test_what_is_wrong_is_said(server: BrokerProcess, tmp_path: Path) -> None:
    for arguments, code, why in [
        (("blob", "put", "g", str(tmp_path / "none")), 1, "can't read"),
        (("blob", "get", "g", SHA), 1, "no whole copy"),
        (("blob", "get", "g", "xyz"), 2, "names no blob"),
        (("pub", "g/c", "1", "--attach", "{}"), 2, "blob put --json"),
    ]:
        result = await hubbub(server, *arguments)
        assert (result.exit_code, why in result.stderr) == (code, True), result.stderr
