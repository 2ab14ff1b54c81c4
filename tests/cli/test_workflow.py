"""`hubbub workflow`, against a broker that listens."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.broker import BrokerProcess, broker_process
from hubbub import Agent
from hubbub.workflows import Assignment, Coordinator, Worker, Workflow
from hubbub_broker.cli import app

DECLARED = """
name = "order"

[states.pay]
handler = "bank"
on.done = "sent"
compensate = "bank-back"

[states.sent]
messages.arrived = "closed"

[states.closed]
end = true
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[BrokerProcess]:
    # Not in this process: what it logs would stand in what the commands print.
    async with broker_process(tmp_path / "data") as running:
        yield running


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "order.toml"
    path.write_text(DECLARED, encoding="utf-8")
    return str(path)


@pytest.fixture
async def shop(server: BrokerProcess, file: str) -> AsyncIterator[Agent]:
    """A coordinator, and a bank that declines what costs too much."""
    async with Agent("shop", group="shop", url=server.url) as agent:
        worker = Worker(agent)

        @worker.handles("bank")
        async def bank(task: Assignment) -> str:
            if task.data.get("price", 0) > 100:
                raise ValueError("declined")
            return "paid"

        @worker.handles("bank-back")
        async def back(_: Assignment) -> None: ...

        async with Coordinator(agent, Workflow.load(file)):
            yield agent


async def hubbub(server: BrokerProcess, *arguments: str) -> tuple[int, str, str]:
    """Run a command, while the broker runs on in this loop."""
    command = ["workflow", *arguments, "--agent", "joe", "--url", server.url]
    result = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


async def done(server: BrokerProcess, *arguments: str) -> str:
    code, out, err = await hubbub(server, *arguments)
    assert code == 0, err
    return out


async def found(server: BrokerProcess, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await done(server, *arguments, "--json")).splitlines()]


async def until(agent: Agent, id: str, state: str) -> None:
    async for message in agent.subscribe(f"shop/order/{id}", start="all"):
        if message.data["target"] == state:
            return


async def test_from_start_to_end(server: BrokerProcess, shop: Agent, file: str) -> None:
    assert await done(server, "start", file, "o1", '{"price": 5}', "--group", "shop") == "o1 running pay\n"
    await until(shop, "o1", "sent")
    (shown,) = await found(server, "show", "shop/order", "o1")
    assert (shown["state"], shown["status"], shown["data"]) == ("sent", "running", {"price": 5, "pay": "paid"})
    assert [(line["n"], line["from"], line["to"], line["cause"], line["by"]) for line in shown["history"]] == [
        (1, None, "pay", "start", "joe"),
        (2, "pay", "sent", "done", "shop"),
    ]
    watching = asyncio.create_task(done(server, "watch", "shop/order", "o1"))
    await shop.publish("shop/order/o1", None, type="arrived")
    lines = (await watching).splitlines()
    assert [line.split(" #")[1] for line in lines] == [
        "1 pay: start by joe",
        "2 pay -> sent: done by shop",
        "3 sent -> closed: message:arrived by shop",
    ]
    text = await done(server, "show", "shop/order", "o1")
    assert "status: done\n" in text
    assert "#3 sent -> closed" in text


async def test_a_failure_is_found_and_tried_again(server: BrokerProcess, shop: Agent, file: str) -> None:
    await done(server, "start", file, "o1", '{"price": 500}', "--group", "shop")
    await done(server, "start", file, "o2", '{"price": 5}', "--group", "shop")
    await until(shop, "o1", "FAILED")
    (failed,) = await found(server, "list", "shop/order", "--status", "failed")
    assert (failed["id"], failed["why"]) == ("o1", "ValueError: declined")
    assert [line.split("\t")[0] for line in (await done(server, "list", "shop/order")).splitlines()] == ["o1", "o2"]
    assert await done(server, "retry", "shop/order", "o1", "--why", "rich now") == "o1 running pay\n"
    assert "here" in await done(server, "diagram", "shop/order", "o1")
    assert await done(server, "diagram", "shop/order") == await done(server, "diagram", file)
    code, _, complaint = await hubbub(server, "diagram", "shop/nothing")
    assert (code, "shop/nothing has no declaration" in complaint) == (1, True)
    code, _, complaint = await hubbub(server, "diagram", "no/file.toml")
    assert (code, complaint) == (1, "hubbub: no/file.toml: No such file or directory\n")


async def test_pause_resume_and_cancel_and_what_makes_no_sense(server: BrokerProcess, shop: Agent, file: str) -> None:
    await done(server, "start", file, "o1", "--group", "shop")
    await until(shop, "o1", "sent")
    assert await done(server, "pause", "shop/order", "o1") == "o1 paused sent\n"
    code, _, complaint = await hubbub(server, "retry", "shop/order", "o1")
    assert (code, complaint) == (1, "hubbub: o1 is sent: only what has failed can be tried again\n")
    assert await done(server, "resume", "shop/order", "o1") == "o1 running sent\n"
    assert await done(server, "cancel", "shop/order", "o1", "--why", "too late") == "o1 compensating COMPENSATING\n"
    await until(shop, "o1", "CANCELLED")
    (shown,) = await found(server, "show", "shop/order", "o1")
    assert (shown["status"], shown["why"]) == ("cancelled", "too late")
    code, _, complaint = await hubbub(server, "show", "shop/order", "o9")
    assert (code, complaint) == (1, "hubbub: shop/order has no instance 'o9'\n")


async def test_run_coordinates_until_it_is_interrupted(server: BrokerProcess, file: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hubbub_broker",
        "workflow",
        "run",
        file,
        "--group",
        "shop",
        "--agent",
        "c1",
        "--url",
        server.url,
    )
    try:
        async with Agent("ann", group="shop", url=server.url) as ann:
            worker = Worker(ann)

            @worker.handles("bank")
            async def bank(_: Assignment) -> None: ...

            await done(server, "start", file, "o1", "--group", "shop")
            await until(ann, "o1", "sent")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def test_a_wrong_file_and_wrong_words_are_told_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('[states.a]\nhandler = "x"\n[states.b]\nend = true\n', encoding="utf-8")
    nobody = BrokerProcess(tmp_path / "data")
    code, _, complaint = await hubbub(nobody, "diagram", str(path))
    problem = "state a: it has a handler, and `on` does not say where to go when that is `done`"
    assert (code, complaint) == (2, f"hubbub: {path}: {problem}\n")
    code, _, complaint = await hubbub(nobody, "list", "shop")
    assert (code, complaint) == (2, "hubbub: shop: GROUP/NAME of a workflow is wanted\n")
    code, _, complaint = await hubbub(nobody, "start", str(path), "o1", "[]")
    assert code == 2
    code, _, complaint = await hubbub(nobody, "list", "shop/order", "--status", "odd")
    assert (code, "--status odd: one of running, paused" in complaint) == (2, True)
    assert (await hubbub(nobody, "list", "shop/order", "--timeout", "0.2"))[0] == 3
