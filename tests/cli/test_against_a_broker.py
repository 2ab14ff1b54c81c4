"""The commands as a user runs them: processes of their own, against a broker that is one too."""

import asyncio
import json
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from harness.broker import broker_process, free_port, serving, url_of
from harness.shell import WAIT, Shell
from hubbub_broker.server import Server

pytestmark = pytest.mark.slow


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path / "data") as running:
        yield running


@pytest_asyncio.fixture
async def shell(server: Server, tmp_path: Path) -> AsyncIterator[Shell]:
    hubbub = Shell(url_of(server), tmp_path)
    yield hubbub
    await hubbub.end()


async def line_of(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(WAIT):
        found: dict[str, Any] = json.loads(await process.stdout.readline())
        return found


async def note_of(process: Process) -> str:
    assert process.stderr is not None
    async with asyncio.timeout(WAIT):
        return (await process.stderr.readline()).decode()


async def interrupted(process: Process) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    async with asyncio.timeout(WAIT):
        complaint = (await process.stderr.read()).decode()
        return await process.wait(), complaint


async def test_what_was_published_is_read(shell: Shell) -> None:
    code, printed, _ = await shell.run("pub", "research/conv-42", '{"text": "hello"}', "plain words", "--type", "note")
    assert code == 0
    assert [line.split(" ")[:2] for line in printed.splitlines()] == [
        ["research/conv-42", "#1"],
        ["research/conv-42", "#2"],
    ]
    code, printed, complaint = await shell.run("tail", "research/*", "--from", "all", "--no-follow", "--json")
    assert (code, complaint) == (0, "")
    found = [json.loads(line) for line in printed.splitlines()]
    assert [(msg["seq"], msg["from"], msg["type"], msg["data"]) for msg in found] == [
        (1, "joe", "note", {"text": "hello"}),
        (2, "joe", "note", "plain words"),
    ]
    code, printed, _ = await shell.run("topics", "--json")
    assert (code, json.loads(printed)["topic"], json.loads(printed)["head"]) == (0, "research/conv-42", 2)


async def test_lines_of_standard_input_become_messages_in_order(shell: Shell) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(3000))
    code, printed, _ = await shell.run("pub", "ops/log", "-", "--text", "--json", stdin=lines)
    assert code == 0
    assert [json.loads(line)["seq"] for line in printed.splitlines()] == list(range(1, 3001))
    _, printed, _ = await shell.run("tail", "ops/log", "--from", "all", "--count", "3000", "--json")
    assert [json.loads(line)["data"] for line in printed.splitlines()] == [f"line {n}" for n in range(3000)]


async def test_what_is_no_json_is_a_string_and_no_number_is_changed(shell: Shell) -> None:
    texts = ("NaN", "Infinity", '{"a": NaN}', "[1,2", "null", "1.50", "123456789012345678901234567890")
    assert (await shell.run("pub", "a/b", *texts))[0] == 0
    _, printed, _ = await shell.run("tail", "a/b", "--from", "all", "--no-follow", "--json")
    data = [json.loads(line)["data"] for line in printed.splitlines()]
    assert data == ["NaN", "Infinity", '{"a": NaN}', "[1,2", None, 1.5, 123456789012345678901234567890]


async def test_tail_goes_on_where_it_was_after_the_broker_was_killed(tmp_path: Path) -> None:
    async with broker_process(tmp_path / "data") as broker:
        shell = Shell(broker.url, tmp_path)
        try:
            tail = await shell.start("tail", "a/**", "--from", "all", "--json")
            await shell.run("pub", "a/b", "1", "2")
            assert [(await line_of(tail))["data"] for _ in range(2)] == [1, 2]
            broker.kill()
            assert "the broker is away" in await note_of(tail)
            broker.start()
            await broker.wait_ready()
            await shell.run("pub", "a/b", "3")
            assert (await line_of(tail))["data"] == 3
            assert "the broker is back" in await note_of(tail)
        finally:
            await shell.end()


async def test_a_gap_is_told_on_stderr(shell: Shell) -> None:
    await shell.run("pub", "a/b", "gone", "--ttl", "0.001")
    await shell.run("pub", "a/b", "here")
    code, printed, complaint = await shell.run("tail", "a/b", "--from", "all", "--no-follow", "--json")
    assert (code, [json.loads(line)["data"] for line in printed.splitlines()]) == (0, ["here"])
    assert "gap in a/b: #1 past their time-to-live" in complaint


async def test_an_interrupt_ends_tail_without_noise(shell: Shell) -> None:
    await shell.run("pub", "a/b", "1")
    tail = await shell.start("tail", "a/b", "--from", "all", "--json")
    await line_of(tail)
    assert await interrupted(tail) == (130, "")


async def test_an_interrupt_ends_pub_while_it_waits_for_input(shell: Shell) -> None:
    pub = await shell.start("pub", "a/b", "-", "--json", stdin=PIPE)
    assert pub.stdin is not None
    pub.stdin.write(b"1\n")
    await pub.stdin.drain()
    assert (await line_of(pub))["seq"] == 1  # the receipt comes although the input has not ended
    assert await interrupted(pub) == (130, "")


async def test_a_reader_that_leaves_ends_tail_quietly(shell: Shell) -> None:
    await shell.run("pub", "a/b", "1", "2")
    tail = await shell.start("tail", "a/b", "--from", "all", "--json")
    await line_of(tail)
    tail._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    async with asyncio.timeout(WAIT):
        while True:
            await shell.run("pub", "a/b", "3")
            if tail.returncode is not None:
                break
    assert tail.returncode == 0
    assert tail.stderr is not None
    assert await tail.stderr.read() == b""


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["pub", "a/*", "1"], 2, "pattern"),
        (["pub", "a/b", "1", "--agent", "a/b"], 2, "bad agent name"),
        (["pub", "a/b", "[1e999]"], 1, "JSON can't hold"),
        (["tail", "a/**/b"], 2, "bad pattern"),
        (["pub", "_hubbub/x", "1"], 1, "hubbub: "),
        (["tail", "a/b", "--from", "yesterday"], 2, "one of new, all, seq:N, last:N"),
    ],
)
async def test_what_can_not_be_done_is_said_in_a_line(
    shell: Shell, arguments: list[str], code: int, complaint: str
) -> None:
    found, printed, said = await shell.run(*arguments)
    assert (found, printed) == (code, "")
    assert complaint in said
    assert said.startswith("hubbub: ")
    assert len(said.splitlines()) == 1


async def test_nobody_there_is_3(shell: Shell) -> None:
    for arguments in (["pub", "a/b", "1"], ["tail", "a/b"]):
        code, _, complaint = await shell.run(*arguments, "--timeout", "0.5", "--url", f"ws://127.0.0.1:{free_port()}")
        assert code == 3
        assert "start one with `hubbub serve`" in complaint


# serve


async def test_one_directory_has_one_broker(shell: Shell, tmp_path: Path) -> None:
    code, _, complaint = await shell.run("serve", "--data-dir", str(tmp_path / "data"), "--port", "0")
    assert code == 1
    assert str(tmp_path / "data") in complaint.splitlines()[-1]
    assert complaint.splitlines()[-1].startswith("hubbub: ")


async def test_one_port_has_one_broker(shell: Shell, server: Server, tmp_path: Path) -> None:
    code, _, complaint = await shell.run("serve", "--data-dir", str(tmp_path / "other"), "--port", str(server.port))
    assert code == 1
    assert f"can't listen on 127.0.0.1:{server.port}" in complaint.splitlines()[-1]
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_broker_stops_in_order(shell: Shell, tmp_path: Path, number: signal.Signals) -> None:
    broker = await shell.start("serve", "--data-dir", str(tmp_path / "own"), "--port", "0", "--log-format", "json")
    while json.loads(await note_of(broker))["event"] != "serving":
        pass
    broker.send_signal(number)
    events = []
    while line := await note_of(broker):
        events.append(json.loads(line)["event"])
    assert events[-1] == "stopped"
    assert await broker.wait() == 0
