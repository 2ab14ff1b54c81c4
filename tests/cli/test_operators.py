"""`hubbub consumers`, `dlq`, `receipts` and `top`, as an operator runs them against a broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.broker import serving, url_of
from harness.consuming import idle, kill, member, publish, settle
from harness.shell import Shell
from harness.wire import WireClient, wire_client
from hubbub_broker.cli.consumers import _start
from hubbub_broker.cli.exit_code import Failure
from hubbub_broker.cli.top import render, with_rates
from hubbub_broker.cli.when import ago, lasting
from hubbub_broker.server import Server

slow = pytest.mark.slow


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path / "data") as running:
        yield running


@pytest.fixture
async def shell(server: Server, tmp_path: Path) -> AsyncIterator[Shell]:
    hubbub = Shell(url_of(server), tmp_path)
    yield hubbub
    await hubbub.end()


@pytest.fixture
async def joe(server: Server) -> AsyncIterator[WireClient]:
    async with wire_client(url_of(server), "joe") as client:
        yield client


@pytest.fixture
async def ann(server: Server) -> AsyncIterator[WireClient]:
    async with wire_client(url_of(server), "ann") as client:
        yield client


@slow
class TestConsumers:
    async def test_listed_and_shown(self, shell: Shell, joe: WireClient, ann: WireClient) -> None:
        await member(ann, "g/*", max_unacked=1)
        await publish(joe, 2)
        await ann.until("msg")
        code, out, _ = await shell.run("consumers", "list")
        row = out.rstrip("\n").split("\t")
        assert (code, row[:4], row[5]) == (0, ["g/*", "w", "1", "2"], "1")
        code, out, _ = await shell.run("consumers", "list", "--name", "nobody", "--json")
        assert (code, out) == (0, "")
        code, out, _ = await shell.run("consumers", "show", "g/*", "w")
        assert code == 0
        assert "behind       2 messages in 1 topics" in out
        assert "ann" in out
        code, _, err = await shell.run("consumers", "show", "g/t", "w")
        assert (code, err) == (1, "hubbub: there is no consumer w of g/t; w reads g/*\n")

    async def test_reset_paused_resumed_and_removed(self, shell: Shell, joe: WireClient, ann: WireClient) -> None:
        await member(ann)
        await publish(joe, 2)
        for line in await ann.messages(2):
            await settle(ann, "ack", line["seq"])
        assert (await shell.run("consumers", "pause", "g/t", "w"))[0] == 0
        code, out, _ = await shell.run("consumers", "reset", "g/t", "w", "--to", "2", "--yes", "--json")
        assert (code, json.loads(out)["lag"]) == (0, 1)
        await idle(ann)
        assert (await shell.run("consumers", "resume", "g/t", "w"))[0] == 0
        await ann.until("msg", seq=2)
        code, _, err = await shell.run("consumers", "remove", "g/t", "w")
        assert code == 2
        assert "1 members and 1 messages that it has not done" in err
        assert "--yes" in err
        assert (await shell.run("consumers", "remove", "g/t", "w", "--yes"))[0] == 0
        await ann.until("err", code="not_found")
        assert (await shell.run("consumers", "remove", "g/t", "w", "--yes"))[0] == 1


@slow
class TestDeadLetters:
    async def test_listed_shown_redriven_and_dropped(self, shell: Shell, joe: WireClient, ann: WireClient) -> None:
        await ann.sub("g/_dead")
        await member(ann)
        for number in range(3):
            await joe.pub("g/t", {"n": number}, id=f"m{number}")
            line = await ann.until("msg", topic="g/t")
            await kill(ann, line["seq"], reason="no\x1bgood")
            await ann.until("msg", topic="g/_dead")
        code, out, _ = await shell.run("dlq", "list", "g")
        rows = [line.split("\t") for line in out.splitlines()]
        assert (code, [row[0] for row in rows], rows[0][6]) == (0, ["1", "2", "3"], "no\\x1bgood")
        code, out, _ = await shell.run("dlq", "show", "g", "2")
        assert code == 0
        assert 'data      {"n": 1}' in out
        code, out, _ = await shell.run("dlq", "redrive", "g", "2", "2", "--json")
        assert (code, json.loads(out)["done"]) == (0, 1)
        assert (await ann.until("msg", topic="g/t"))["data"] == {"n": 1}
        code, _, err = await shell.run("dlq", "drop", "g", "--all")
        assert (code, "Drop every open dead letter in g?" in err) == (2, True)
        code, _, err = await shell.run("dlq", "drop", "g", "--all", "--consumer", "w", "--yes")
        assert (code, "2 dropped" in err) == (0, True)
        assert (await shell.run("dlq", "list", "g"))[:2] == (0, "")

    async def test_what_python_can_not_read_is_shown_as_it_was_written(
        self, shell: Shell, joe: WireClient, ann: WireClient
    ) -> None:
        number = "9" * 5000
        await member(ann)
        await joe.socket.send(f'{{"op":"pub","topic":"g/t","id":"p","data":{number}}}')
        await joe.until("ok")
        async with asyncio.timeout(10):
            while '"id":"p"' not in str(await ann.socket.recv()):
                pass
        await ann.send("term", topic="g/t", consumer="w", seq=1, reason="no")
        async with asyncio.timeout(10):
            while (await shell.run("dlq", "list", "g"))[1] == "":
                pass
        code, out, _ = await shell.run("dlq", "show", "g", "1")
        assert (code, f"data      {number}" in out) == (0, True)
        code, out, _ = await shell.run("dlq", "show", "g", "1", "--json")
        assert (code, f'"data":{number}' in out) == (0, True)
        code, out, _ = await shell.run("tail", "g/t", "--from", "all", "--count", "1")
        assert (code, "unreadable" in out) == (0, True)

    async def test_what_stays_open_is_a_failure(self, shell: Shell, joe: WireClient, ann: WireClient) -> None:
        await ann.sub("g/_dead")
        await member(ann)
        await publish(joe, 1)
        await ann.until("msg", topic="g/t")
        await kill(ann, 1)
        await ann.until("msg", topic="g/_dead")
        await shell.run("consumers", "remove", "g/t", "w", "--yes")
        code, _, err = await shell.run("dlq", "redrive", "g", "1")
        assert code == 1
        assert "republish" in err
        assert (await shell.run("dlq", "redrive", "g", "1", "--republish"))[0] == 0

    @pytest.mark.parametrize("arguments", [[], ["1", "--all"], ["1", "--consumer", "w"]])
    async def test_which_ones_has_to_be_said(self, shell: Shell, arguments: list[str]) -> None:
        for what in ("redrive", "drop"):
            assert (await shell.run("dlq", what, "g", *arguments))[0] == 2


@slow
class TestLooking:
    async def test_receipts(self, shell: Shell, joe: WireClient, ann: WireClient) -> None:
        await member(ann)
        await joe.pub("g/t", 1, id="a b?", track=True)
        await ann.until("msg")
        await settle(ann, "ack", 1)
        code, out, _ = await shell.run("receipts", "a b?", "--json")
        assert (code, json.loads(out)["state"]) == (0, "done")
        code, out, err = await shell.run("receipts", "none")
        assert (code, out) == (1, "")
        assert "nothing is known of none" in err

    async def test_top_for_scripts_and_for_people(self, shell: Shell, joe: WireClient, ann: WireClient) -> None:
        await member(ann)
        await publish(joe, 2)
        await ann.until("msg")
        await settle(ann, "ack", 1)
        code, out, _ = await shell.run("top", "--once", "--json", "--interval", "0.1")
        sample = json.loads(out)
        assert code == 0
        assert (sample["consumers"][0]["rate"], sample["agents"][0]["state"]) == (0.0, "working")
        code, out, _ = await shell.run("top", "--once", "--interval", "0.1")
        assert code == 0
        assert "1 consumers" in out
        assert "working" in out


class TestRates:
    def test_a_rate_is_of_what_was_acked_in_between(self) -> None:
        spread = {"p50": 0.5, "p90": 1.0, "p99": 2.0}
        figures = {"wait": spread, "work": spread, "total": spread, "paused": False, "members": 1}
        figures |= {"lag": 3, "oldest": 1.0, "outstanding": 1, "waiting": 0, "dead": 0}

        def sample(now: float, acked: int, *more: str) -> dict[str, Any]:
            rows = [{**figures, "topic": "g/t", "name": name, "acked": acked} for name in ("w", *more)]
            agent = {"agent": "ann", "topic": "g/t", "consumer": "w", "state": "slow", "since": 1.0, "on": None}
            agents = [{**agent, "outstanding": 0, "acked": acked, "work": spread}]
            return {"now": now, "consumers": rows, "consumers_total": 9, "agents": agents, "agents_total": 1}

        rated = with_rates(sample(10.0, 100), sample(12.0, 150, "fresh"))
        assert [row["rate"] for row in rated["consumers"]] == [25.0, None]
        assert rated["agents"][0]["rate"] == 25.0
        assert with_rates(sample(10.0, 100), sample(11.0, 3))["agents"][0]["rate"] == 0.0, "the broker began anew"
        assert render(rated) is not None


class TestTimes:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0.0012, "1.2ms"), (0.5, "500ms"), (3.25, "3.25s"), (61, "1m01s"), (3900, "1h05m"), (90_000, "1d01h")],
    )
    def test_a_duration_in_its_largest_units(self, seconds: float, text: str) -> None:
        assert lasting(seconds) == text

    def test_how_long_ago(self) -> None:
        assert (ago(None, 5.0), ago(2.0, 5.0), ago(9.0, 5.0)) == ("-", "3s", "0ms")

    @pytest.mark.parametrize(("to", "start"), [("all", "all"), ("new", "new"), ("12", {"seq": 12})])
    def test_where_to_begin(self, to: str, start: Any) -> None:
        assert _start(to) == start

    def test_a_time_to_begin_at(self) -> None:
        assert _start("2026-11-21T14:00+00:00") == {"since": 1795269600.0}
        hour, day = _start("1h"), _start("1d")
        assert isinstance(hour, dict)
        assert isinstance(day, dict)
        assert 82_000 < hour["since"] - day["since"] < 83_000

    @pytest.mark.parametrize("to", ["", "yesterday", "-1"])
    def test_what_is_no_beginning(self, to: str) -> None:
        with pytest.raises(Failure, match="a seq, or a time is wanted"):
            _start(to)
