"""`hubbub policy` and `hubbub schema`, as an operator runs them against a broker."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.broker import serving, url_of
from harness.shell import Shell
from harness.until import until
from harness.wire import wire_client
from hubbub_broker.cli.planes import Inside
from hubbub_broker.config import Settings
from hubbub_broker.server import Server

pytestmark = pytest.mark.slow


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    insides: list[Inside] = []

    def beside(settings: Settings) -> Inside:
        insides.append(Inside(settings))
        return insides[-1]

    async with serving(tmp_path / "data", beside) as running:
        await until(lambda: insides[0].plane.online)
        yield running


@pytest.fixture
async def shell(server: Server, tmp_path: Path) -> AsyncIterator[Shell]:
    hubbub = Shell(url_of(server), tmp_path)
    yield hubbub
    await hubbub.end()


async def test_a_policy_is_tried_set_looked_at_and_dropped(shell: Shell, server: Server) -> None:
    setting = ("policy", "set", "small", "g/**", "max_message=200", "max_age=30d", "-p", "3")
    code, out, _ = await shell.run(*setting, "--try", "g/c", "--try", "h/c")
    assert code == 0
    assert out.splitlines() == [
        "g/c max_age: 7d becomes 30d (policy small)",
        "g/c max_message: 1048320 becomes 200 (policy small)",
        "h/c: nothing changes",
    ]
    code, out, err = await shell.run(*setting, "-m", "they write novels", "--if-version", "0", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert (made["policy"], made["by"], made["note"]) == (
        {"pattern": "g/**", "max_message": 200, "max_age": "30d", "priority": 3},
        "joe",
        "they write novels",
    )
    async with wire_client(url_of(server), "ann") as ann:
        assert (await ann.pub("g/c", "x" * 300))["code"] == "too_large"
    code, out, err = await shell.run(*setting, "--if-version", "0")
    assert (code, err) == (1, f"hubbub: it has version {made['version']}, not 0: read it again\n")
    code, out, _ = await shell.run("policy", "list")
    first, *rules = out.splitlines()
    assert first.split("\t")[:6] == [
        "small",
        "g/**",
        "3",
        str(made["version"]),
        "max_age=30d max_message=200",
        "joe",
    ]
    assert [rule.split("\t")[:2] for rule in rules] == [["(rule)", "**"]]
    code, out, _ = await shell.run("policy", "test", "g/c")
    assert "max_message\t200\tpolicy small" in out.splitlines()
    code, out, _ = await shell.run("policy", "drop", "small", "--yes")
    assert code == 0
    code, out, _ = await shell.run("policy", "history", "small")
    assert [line.split("\t")[1:3] for line in out.splitlines()] == [["joe", "drop"], ["joe", "set"]]
    code, _, err = await shell.run("policy", "show", "small")
    assert (code, err) == (1, "hubbub: there is no policy small\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["p", "g/**", "max_age=soon"], 1, 'max_age = "soon": must be 0 (for ever), or 1s to 3650d'),
        (["p", "g/**", "max_age"], 2, "SETTING=VALUE is wanted"),
        (["p"], 2, "name a PATTERN, or a --file"),
        (["p", "g/**", "--file", "-"], 2, "leave out PATTERN"),
        (["p", "--file", "nowhere.json"], 2, "nowhere.json: No such file"),
    ],
)
async def test_a_mistake_is_told(shell: Shell, arguments: list[str], code: int, said: str) -> None:
    found, _, err = await shell.run("policy", "set", *arguments)
    assert (found, said in err) == (code, True), err


async def test_a_schema_is_checked_set_looked_at_and_dropped(shell: Shell, server: Server, tmp_path: Path) -> None:
    schema = {"type": "object", "required": ["task"]}
    file = tmp_path / "task.json"
    file.write_text(json.dumps(schema))
    check = ("schema", "check", "g", "task", "-")
    code, out, _ = await shell.run(*check, "--schema", str(file), stdin=b"{}")
    assert (code, out) == (1, "`data/task`: it is missing\n")
    code, out, err = await shell.run("schema", "set", "g", "task", str(file))
    assert (code, out.split(" version ")[0]) == (0, "g task"), err
    code, out, _ = await shell.run(*check, stdin=b'{"task": 1}')
    assert (code, out) == (0, "it fits\n")
    async with wire_client(url_of(server), "ann") as ann:
        assert (await ann.pub("g/c", {}, type="task"))["code"] == "bad_request"
    code, out, _ = await shell.run("schema", "list")
    assert out.split("\t")[:2] == ["g", "task"]
    code, out, _ = await shell.run("schema", "show", "g", "task", "--json")
    assert json.loads(out)["schema"] == schema
    code, _, err = await shell.run("schema", "drop", "g", "task", "--yes", "-m", "too strict")
    assert (code, err) == (0, "g task is dropped\n")
    code, out, _ = await shell.run("schema", "history", "g", "task", "--json")
    assert [json.loads(line)["note"] for line in out.splitlines()] == ["too strict", None]
