"""`hubbub log`, `backup` and `restore`, on directories that a broker made."""

import json
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from harness.broker import serving
from hubbub_broker.cli import app
from hubbub_broker.server import Server

PUBLISHED = [
    {"topic": "research/conv-1", "id": "a", "data": {"text": "one"}},
    {"topic": "research/conv-1", "id": "b", "data": "two", "ttl": 3600},
    {"topic": "ops/conv-2", "id": "c", "data_base64": "AP8="},
]


def hubbub(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


async def publish(server: Server, *messages: object) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as http:
        answer = await http.post("/v1/publish", json=list(messages))
        assert answer.status_code == 200


@pytest_asyncio.fixture
async def directory(tmp_path: Path) -> Path:
    async with serving(tmp_path / "data") as server:
        await publish(server, *PUBLISHED)
    return tmp_path / "data"


def segment_with(directory: Path, text: bytes) -> Path:
    return next(path for path in directory.rglob("*.log") if text in path.read_bytes())


def test_verify_counts_and_finds_nothing_wrong(directory: Path) -> None:
    code, printed, _ = hubbub("log", "verify", directory, "--json")
    report = json.loads(printed)
    assert code == 0
    assert (report["ok"], report["shards"], report["messages"], report["topics"]) == (True, 2, 3, 2)
    code, printed, _ = hubbub("log", "verify", directory)
    assert code == 0
    assert printed.split("\t")[0] == "2"


def test_verify_finds_a_flipped_bit(directory: Path) -> None:
    segment = segment_with(directory, b'"one"')
    content = bytearray(segment.read_bytes())
    content[content.index(b'"one"') + 1] ^= 1
    segment.write_bytes(content)
    code, printed, complaint = hubbub("log", "verify", directory)
    assert code == 1
    assert f"damaged: {segment}" in printed
    assert f"problems in {directory}" in complaint


def test_stat_tells_the_size_of_each_shard(directory: Path) -> None:
    code, printed, _ = hubbub("log", "stat", directory, "--json")
    shards = [json.loads(line) for line in printed.splitlines()]
    assert code == 0
    assert [shard["number"] for shard in shards] == [0, 1]
    assert sum(shard["bytes"] for shard in shards) == sum(path.stat().st_size for path in directory.rglob("*.log"))
    assert len(hubbub("log", "stat", directory)[1].splitlines()) == 2


def test_dump_prints_messages_as_subscribers_get_them(directory: Path) -> None:
    code, printed, _ = hubbub("log", "dump", directory, "research/**")
    one, two = [json.loads(line) for line in printed.splitlines()]
    assert code == 0
    assert (one["op"], one["topic"], one["seq"], one["data"]) == ("msg", "research/conv-1", 1, {"text": "one"})
    assert two["expires"] > two["ts"]
    _, printed, _ = hubbub("log", "dump", directory, "ops/*", "--at")
    (binary,) = [json.loads(line) for line in printed.splitlines()]
    assert binary["data_base64"] == "AP8="
    assert "@" in binary["at"]
    assert len(hubbub("log", "dump", directory, "--limit", 2)[1].splitlines()) == 2


@pytest.mark.parametrize("command", ["verify", "stat", "dump"])
async def test_a_directory_in_use_is_refused(tmp_path: Path, command: str) -> None:
    async with serving(tmp_path / "data"):
        code, printed, complaint = hubbub("log", command, tmp_path / "data")
    assert (code, printed) == (1, "")
    assert complaint.startswith("hubbub: ")
    assert str(tmp_path / "data") in complaint


@pytest.mark.parametrize("command", ["verify", "stat", "dump"])
def test_what_is_no_data_directory_is_refused(tmp_path: Path, command: str) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        code, printed, complaint = hubbub("log", command, path)
        assert (code, printed) == (1, "")
        assert "is no data directory" in complaint
    assert not (tmp_path / "missing").exists()


def test_a_bad_pattern_is_wrong_usage(tmp_path: Path) -> None:
    assert hubbub("log", "dump", tmp_path, "a**")[0] == 2


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
async def test_a_backup_of_a_live_directory_becomes_a_broker_again(tmp_path: Path, ending: str) -> None:
    file, restored = tmp_path / f"copy{ending}", tmp_path / "restored"
    async with serving(tmp_path / "data") as server:
        await publish(server, *PUBLISHED)
        code, printed, _ = hubbub("backup", tmp_path / "data", file)
        assert (code, printed) == (0, f"{file}: {file.stat().st_size} bytes\n")
        await publish(server, {"topic": "research/conv-1", "data": "later"})
    code, printed, _ = hubbub("restore", file, restored)
    assert code == 0
    assert printed.startswith(f"{restored}: ")
    async with (
        serving(restored) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as http,
    ):
        page = (await http.get("/v1/topics/research/conv-1/messages")).json()
    assert [message["id"] for message in page["messages"]] == ["a", "b"]


def test_backup_and_restore_refuse_to_overwrite(directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "copy.tar"
    assert hubbub("backup", directory, file)[0] == 0
    code, _, complaint = hubbub("backup", directory, file)
    assert code == 1
    assert "is there already" in complaint
    code, _, complaint = hubbub("restore", file, directory)
    assert code == 1
    assert "is not empty" in complaint
    code, _, complaint = hubbub("restore", tmp_path / "none.tar", tmp_path / "new")
    assert code == 1
    assert "none.tar" in complaint
    assert not (tmp_path / "new").exists()


def test_damage_is_named_and_does_not_keep_a_backup_from_being_made(directory: Path, tmp_path: Path) -> None:
    victim = max(directory.glob("shards/*/*.log"), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[200] ^= 1
    victim.write_bytes(data)
    code, printed, complaint = hubbub("backup", directory, tmp_path / "copy.tar")
    assert (code, "bytes" in printed) == (4, True)
    assert f"segment {int(victim.stem)} of shard {int(victim.parent.name)} is damaged at " in complaint
    code, _, complaint = hubbub("restore", tmp_path / "copy.tar", tmp_path / "restored")
    assert code == 0
    assert f"segment {int(victim.stem)} of shard {int(victim.parent.name)} is damaged at " in complaint
