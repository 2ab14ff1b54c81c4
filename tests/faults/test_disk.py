"""A broker whose disk is full, fails, or has lost what it had: what its clients see of that."""

import asyncio
import errno
from pathlib import Path

import pytest

from harness.broker import broker_process, serving, url_of
from harness.disk import FaultyDisk, flip_bit
from harness.until import until
from harness.wire import Line, WireClient, wire_client
from hubbub import Agent
from hubbub_broker.server import Server

TOPIC = "g/c"


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> list[FaultyDisk]:
    """Every disk that a shard of a broker in this process is opened on, in the shards' order."""
    made: list[FaultyDisk] = []

    def make() -> FaultyDisk:
        made.append(FaultyDisk(len(made)))
        return made[-1]

    monkeypatch.setattr("hubbub_broker.log.log.Files", make)
    return made


async def told(client: WireClient, topic: str = TOPIC) -> tuple[list[int], list[Line]]:
    """The seqs of all messages that a reader is given, and the gaps it is told of."""
    await client.sub(topic, from_="all")
    seqs, gaps = [], []
    while (line := await client.next())["op"] != "live":
        if line["op"] == "msg":
            seqs.append(line["seq"])
        elif line["op"] == "gap":
            gaps.append({name: line[name] for name in ("first", "last", "reason")})
    return seqs, gaps


async def stored(server: Server) -> list[int]:
    async with wire_client(url_of(server), "reader") as reader:
        seqs, gaps = await told(reader)
        assert gaps == []
        return seqs


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE])
async def test_a_full_disk_is_refused_heals_by_itself_and_costs_nothing(
    tmp_path: Path, disks: list[FaultyDisk], code: int
) -> None:
    """Other shards, on other disks, go on meanwhile."""
    async with serving(tmp_path / "d", shards=2, min_free_bytes=1000) as server:
        async with wire_client(url_of(server), "joe") as joe, wire_client(url_of(server), "ann") as ann:
            await ann.sub(TOPIC)
            full = disks[server.broker.shard_of("g").number]
            own = server.broker.shard_of("g")
            other = next(f"h{n}/c" for n in range(99) if server.broker.shard_of(f"h{n}") is not own)
            for number in range(5):
                assert (await joe.pub(TOPIC, number, id=f"before-{number}", n=number + 1))["op"] == "ok"
            full.free = 0
            full.fail("write", code)
            for number in range(3):  # the first fails on the disk, the others because the shard knows
                refused = await joe.pub(TOPIC, number, id=f"full-{number}", n=6)
                assert (refused["op"], refused["code"]) == ("err", "read_only")
                assert refused["retry_after"] > 0
                assert "room" in refused["message"] or "open files" in refused["message"]
            assert (await joe.pub(other, 1))["op"] == "ok"
            assert await stored(server) == [1, 2, 3, 4, 5], "what there is can be read"
            full.free = 1000
            while (answer := await joe.pub(TOPIC, "after", id="full-0", n=6))["op"] == "err":
                assert answer["code"] == "read_only"
            assert (answer["seq"], answer.get("dup")) == (6, None), "what was refused was not stored"
            assert [line["seq"] for line in await ann.messages(6)] == [1, 2, 3, 4, 5, 6]
            epoch = (await joe.sub(TOPIC))["epoch"]
    async with serving(tmp_path / "d") as server, wire_client(url_of(server), "joe") as joe:
        assert await stored(server) == [1, 2, 3, 4, 5, 6]
        assert (await joe.sub(TOPIC))["epoch"] == epoch


async def test_what_an_agent_publishes_while_the_disk_is_full_is_stored_once_and_in_order(
    tmp_path: Path, disks: list[FaultyDisk]
) -> None:
    async with serving(tmp_path / "d", shards=1, min_free_bytes=1000) as server:
        async with (
            Agent("joe", group="g", url=f"ws://127.0.0.1:{server.port}") as joe,
            wire_client(url_of(server), "ann") as ann,
        ):
            await ann.sub(TOPIC)
            await joe.publish("c", 0)
            (disk,) = disks
            disk.free = 0
            disk.fail("write", errno.ENOSPC)
            publishes = [asyncio.create_task(joe.publish("c", number)) for number in range(1, 20)]
            await until(lambda: server.broker.shards[0].log.failed)
            disk.free = 1000
            receipts = await asyncio.gather(*publishes)
            assert [(receipt.seq, receipt.dup) for receipt in receipts] == [(seq, False) for seq in range(2, 21)]
            assert [line["data"] for line in await ann.messages(20)] == list(range(20))
        assert await stored(server) == list(range(1, 21))


async def test_after_a_failed_sync_nothing_is_taken_until_the_broker_is_started_again(
    tmp_path: Path, disks: list[FaultyDisk]
) -> None:
    """What that sync left on the disk nobody knows, so it is not tried again."""
    async with serving(tmp_path / "d", shards=1) as server, wire_client(url_of(server), "joe") as joe:
        assert (await joe.pub(TOPIC, 1, id="a"))["op"] == "ok"
        (disk,) = disks
        disk.fail("sync")
        assert (await joe.pub(TOPIC, 2, id="b"))["code"] == "read_only"
        syncs = disk.calls["sync"]
        server.broker._look_after_shards()
        refused = await joe.pub(TOPIC, 2, id="b")
        assert (refused["code"], "start the broker again" in refused["message"]) == ("read_only", True)
        assert disk.calls["sync"] == syncs
        assert await stored(server) == [1]
    async with serving(tmp_path / "d", shards=1) as server, wire_client(url_of(server), "joe") as joe:
        assert (await joe.pub(TOPIC, 2, id="b"))["seq"] == 2
        assert await stored(server) == [1, 2]


async def filled(directory: Path, count: int = 60) -> tuple[str, list[Path]]:
    """A broker's directory with several segments, which was killed; the epoch, and the files."""
    async with broker_process(directory, shards=1, segment_bytes=4096) as broker, wire_client(broker.url, "joe") as joe:
        for number in range(count):
            assert (await joe.pub(TOPIC, "x" * 200, id=str(number)))["op"] == "ok"
        epoch = (await joe.sub(TOPIC))["epoch"]
        broker.kill()
    return epoch, sorted((directory / "shards" / "000").glob("*.log"))


async def test_a_torn_end_is_cut_off_and_no_reader_is_told_of_a_gap(tmp_path: Path) -> None:
    epoch, files = await filled(tmp_path / "d")
    with files[-1].open("ab") as file:
        file.write(b"half a record")
    async with serving(tmp_path / "d", shards=1) as server, wire_client(url_of(server), "joe") as joe:
        assert await told(joe) == (list(range(1, 61)), [])
        assert (await joe.sub("g/other"))["epoch"] == epoch
        assert server.broker.shards[0].log.stats.damaged == 0


async def test_damage_is_told_to_readers_as_a_gap_and_counted(tmp_path: Path) -> None:
    _, files = await filled(tmp_path / "d")
    flip_bit(files[1], 1000 * 8)
    async with serving(tmp_path / "d", shards=1) as server, wire_client(url_of(server), "joe") as joe:
        seqs, gaps = await told(joe)
        (gap,) = gaps
        assert gap["reason"] == "reset"
        lost = range(gap["first"], gap["last"] + 1)
        assert len(lost) == 1
        assert sorted([*seqs, *lost]) == list(range(1, 61))
        assert server.broker.shards[0].log.stats.damaged > 0


async def test_a_segment_that_can_not_be_read_is_set_aside_and_told_as_a_gap(tmp_path: Path) -> None:
    epoch, files = await filled(tmp_path / "d")
    files[1].write_bytes(bytes(4096))
    for derived in (files[1].with_suffix(".idx"), *files[1].parent.glob("catalogue.db*")):
        derived.unlink()
    async with serving(tmp_path / "d", shards=1) as server, wire_client(url_of(server), "joe") as joe:
        seqs, gaps = await told(joe)
        (gap,) = gaps
        assert gap["reason"] == "reset"
        assert sorted([*seqs, *range(gap["first"], gap["last"] + 1)]) == list(range(1, 61))
        assert (await joe.sub("g/other"))["epoch"] != epoch
        assert list(files[1].parent.glob("*.bad"))


async def test_a_lost_tail_is_another_epoch_and_no_seq_is_given_out_twice_under_one(tmp_path: Path) -> None:
    """Of records that had been there at a clean stop, and are not: nothing is torn, so nothing else would tell."""
    async with serving(tmp_path / "d", shards=1) as server, wire_client(url_of(server), "joe") as joe:
        sizes = []
        for number in range(10):
            await joe.pub(TOPIC, number, id=str(number))
            sizes.append(server.broker.shards[0].log.size)
        epoch = (await joe.sub(TOPIC))["epoch"]
    (file,) = (tmp_path / "d" / "shards" / "000").glob("*.log")
    file.write_bytes(file.read_bytes()[: sizes[4]])
    async with serving(tmp_path / "d", shards=1) as server, wire_client(url_of(server), "joe") as joe:
        assert server.broker.shards[0].log.stats.damaged == 1
        assert (await joe.pub(TOPIC, "new"))["seq"] == 6
        ok = await joe.sub(TOPIC, from_={"seq": 11, "epoch": epoch})
        assert ok["epoch"] != epoch
        gap = await joe.until("gap")
        assert gap["reason"] == "reset"
