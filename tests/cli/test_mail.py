"""`hubbub send`, `hubbub inbox`, `hubbub agents` and `hubbub disconnect`, against a broker that listens."""

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.broker import broker_process, serving, url_of
from harness.tokens import BUS_TOKEN
from harness.wire import wire_client
from hubbub_broker.cli import app
from hubbub_broker.server import Server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path / "data") as running:
        yield running


async def hubbub(server: Server, *arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
    """Run a command, while the broker runs on in this loop."""
    command = [*arguments, "--url", url_of(server)]
    result = await asyncio.to_thread(CliRunner().invoke, app, command, input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


async def found(server: Server, *arguments: str) -> list[Any]:
    code, out, _ = await hubbub(server, *arguments, "--json")
    assert code == 0
    return [json.loads(line) for line in out.splitlines()]


async def test_mail_is_sent_read_and_marked(server: Server) -> None:
    assert await hubbub(server, "inbox", "jack", "--mark") == (0, "", "")
    code, out, _ = await hubbub(server, "send", "jack", "it\nall", "--subject", "Task", "--from", "joe", "--id", "m1")
    assert (code, out) == (0, "jack #1 m1\n")
    code, out, _ = await hubbub(server, "send", "jack", "again", "--from", "joe", "--id", "m1")
    assert out == "jack #1 m1 (duplicate)\n"
    for _ in range(2):
        code, out, _ = await hubbub(server, "inbox", "jack")
        head, *body = out.splitlines()
        assert (head.startswith("#1 "), head.endswith("joe: Task"), body) == (True, True, ["  it", "  all"])
    (mail,) = await found(server, "inbox", "jack", "--mark")
    assert (mail["id"], mail["body"]) == ("m1", "it\nall")
    assert await found(server, "inbox", "jack") == []


@pytest.mark.parametrize("body", ["1e999", "9" * 5000, "[" * 900 + "]" * 900], ids=["1e999", "digits", "deep"])
async def test_what_python_can_not_read_is_printed_as_it_was_written(server: Server, body: str) -> None:
    await hubbub(server, "inbox", "jack")
    async with wire_client(url_of(server), "eve") as eve:
        await eve.socket.send(f'{{"op":"pub","topic":"_mail/@jack","id":"p","data":{{"body":{body}}}}}')
        await eve.until("ok")
    await hubbub(server, "send", "jack", "good", "--from", "joe")
    code, out, _ = await hubbub(server, "inbox", "jack")
    assert (code, out.splitlines()[1], out.splitlines()[3]) == (0, f"  {body}", "  good")
    code, out, _ = await hubbub(server, "inbox", "jack", "--mark", "--json")
    first, second = out.splitlines()
    assert (code, f'"body":{body},' in first, json.loads(second)["body"]) == (0, True, "good")
    assert await hubbub(server, "inbox", "jack") == (0, "", "")


async def test_pages_say_that_there_is_more(server: Server) -> None:
    await hubbub(server, "inbox", "jack")
    for number in range(3):
        await hubbub(server, "send", "jack", str(number), "--from", "joe")
    _, _, told = await hubbub(server, "inbox", "jack", "--limit", "2")
    assert "1 more" in told
    assert [mail["body"] for mail in await found(server, "inbox", "jack", "--limit", "2", "--mark")] == ["0", "1"]
    assert [mail["body"] for mail in await found(server, "inbox", "jack")] == ["2"]


async def test_what_it_says_comes_from_a_file_or_stdin(server: Server, tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("# Report\n")
    code, _, _ = await hubbub(
        server, "send", "jack", "--file", str(tmp_path / "report.md"), "--create", "--from", "joe"
    )
    assert code == 0
    await hubbub(server, "send", "jack", "-", "--from", "joe", stdin="typed")
    await hubbub(server, "send", "ALL", "all", "--from", "joe")
    bodies = [(mail["to"], mail["body"]) for mail in await found(server, "inbox", "jack")]
    assert bodies == [("jack", "# Report\n"), ("jack", "typed"), ("ALL", "all")]
    assert (await hubbub(server, "send", "jack", "x", "--file", "y"))[0] == 2
    assert (await hubbub(server, "send", "jack", "--file", str(tmp_path / "none")))[0] == 1


async def test_what_steers_a_terminal_is_made_visible(server: Server) -> None:
    await hubbub(server, "inbox", "jack")
    await hubbub(server, "send", "jack", "a\x1b[2Jb", "--subject", "\x1b[31m", "--from", "joe")
    _, out, _ = await hubbub(server, "inbox", "jack")
    assert "\x1b" not in out
    assert "a\\x1b[2Jb" in out


async def test_refusals_and_absence_end_with_their_codes(server: Server) -> None:
    code, _, complaint = await hubbub(server, "send", "nobody", "x", "--from", "joe")
    assert (code, "create" in complaint) == (1, True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{probe.getsockname()[1]}"
        for command in (["send", "jack", "x", "--id", "m7"], ["inbox", "jack"], ["agents"]):
            result = CliRunner().invoke(app, [*command, "--url", url])
            assert result.exit_code == 3
            assert ("--id m7" in result.stderr) is (command[0] == "send")


async def test_agents(server: Server) -> None:
    await hubbub(server, "inbox", "ann")
    async with wire_client(url_of(server)) as joe:
        await joe.hello("joe", capabilities=["search"], description="finds\tthings")
        assert [agent["agent"] for agent in await found(server, "agents")] == ["ann", "joe"]
        assert [agent["agent"] for agent in await found(server, "agents", "--online")] == ["joe"]
        assert [agent["agent"] for agent in await found(server, "agents", "--offline")] == ["ann"]
        assert [agent["agent"] for agent in await found(server, "agents", "--capability", "search")] == ["joe"]
        assert await found(server, "agents", "--group", "none") == []
        _, out, _ = await hubbub(server, "agents", "--online")
        name, inbox, online, _, can, says, *_ = out.rstrip("\n").split("\t")
        assert (name, inbox, online, can, says) == ("joe", "agents/@joe", "yes", "search", "finds\\tthings")


async def test_a_token_is_shown(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", bus_token=BUS_TOKEN) as server:
        for command in (["inbox", "jack"], ["send", "jack", "x", "--from", "joe"], ["agents"], ["topics"]):
            assert (await hubbub(server, *command))[0] == 1
            code, _, complaint = await hubbub(server, *command, "--token", BUS_TOKEN)
            assert (code, complaint) == (0, "")


@pytest.mark.slow
async def test_follow_waits_as_long_as_the_broker_lets_it(tmp_path: Path) -> None:
    async with broker_process(tmp_path / "data", max_wait="0.5s") as broker:
        command = [sys.executable, "-m", "hubbub_broker"]
        environment = {**os.environ, "HUBBUB_URL": broker.url, "PYTHONUNBUFFERED": "1"}
        reading = await asyncio.create_subprocess_exec(
            *command, "inbox", "jack", "--follow", "--json", env=environment, stdout=PIPE, stderr=PIPE
        )
        assert reading.stdout is not None
        try:
            sending = await asyncio.create_subprocess_exec(
                *command, "send", "jack", "hello", "--from", "joe", "--create", env=environment, stdout=PIPE
            )
            assert await sending.wait() == 0
            async with asyncio.timeout(30):
                assert json.loads(await reading.stdout.readline())["body"] == "hello"
            assert reading.returncode is None
        finally:
            reading.kill()
            await reading.communicate()


@pytest.mark.slow
async def test_follow_goes_on_over_a_crash_of_the_broker(tmp_path: Path) -> None:
    async with broker_process(tmp_path / "data") as broker:
        command = [sys.executable, "-m", "hubbub_broker"]
        environment = {**os.environ, "HUBBUB_URL": broker.url, "PYTHONUNBUFFERED": "1"}
        reading = await asyncio.create_subprocess_exec(
            *command, "inbox", "jack", "--mark", "--follow", "--json", env=environment, stdout=PIPE, stderr=PIPE
        )
        assert reading.stdout is not None
        assert reading.stderr is not None
        try:
            for number in range(3):
                sending = await asyncio.create_subprocess_exec(
                    *command, "send", "jack", str(number), "--from", "joe", "--create", env=environment, stdout=PIPE
                )
                assert await sending.wait() == 0
                async with asyncio.timeout(30):
                    assert json.loads(await reading.stdout.readline())["body"] == str(number)
                if number == 1:
                    broker.kill()
                    async with asyncio.timeout(30):
                        assert b"trying again" in await reading.stderr.readline()
                    broker.start()
                    await broker.wait_ready()
        finally:
            reading.kill()
            await reading.communicate()


async def test_an_agent_is_disconnected(server: Server) -> None:
    async with wire_client(url_of(server), "jack") as jack, wire_client(url_of(server), "joe") as joe:
        code, out, _ = await hubbub(server, "disconnect", "jack")
        assert (code, out.endswith("jack: 1 connection ended\n")) == (0, True)
        assert await jack.closed() == 4503
        code, _, said = await hubbub(server, "disconnect", "jack")
        assert (code, "jack has no connection" in said) == (1, True)
        await joe.silent()
