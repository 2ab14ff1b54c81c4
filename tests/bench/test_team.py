"""A team: the count is right when all is well, and finds what a broker that lies does to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic_ns
from typing import Any

import msgspec
import pytest

from harness.broker import serving as serving_now
from harness.relay import Relay
from harness.workers import SHARDS, workers_process
from hubbub_bench.drivers.checker import Checker
from hubbub_bench.drivers.connection import DriverError
from hubbub_bench.drivers.frame import TEXT, FrameSplitter, received_text_frame
from hubbub_bench.drivers.load import Verdict
from hubbub_bench.drivers.team.crew import rates
from hubbub_bench.drivers.team.place import Place
from hubbub_bench.drivers.team.roster import members_of, parts
from hubbub_bench.drivers.team.squad import Squad
from hubbub_bench.drivers.team.tally import Sample, Tally
from hubbub_bench.peers import Address
from hubbub_bench.scenario import FOLDER, BadScenario, Team, load, parse
from hubbub_broker.server import Server
from hubbub_protocol.routing import worker_of

TEAM = Team(
    title="T",
    how="H",
    name="team",
    agents=6,
    conversations=3,
    members=2,
    rate=300.0,
    payload=64,
    seconds=0.4,
    warmup=0.1,
)
Lines = list[bytes]
Tamper = Callable[[Lines], Lines]


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Server]:
    """A broker, which ends when all who were there have hung up."""
    async with serving_now(directory) as server:
        yield server
        async with asyncio.timeout(10):
            while server.broker.gauges().connections:  # noqa: ASYNC110 - the broker gives no sign
                await asyncio.sleep(0.01)


async def worked(team: Team, address: Address) -> Squad:
    """A team that has worked, in this process."""
    squad = Squad(team, parts(team)[0], "test", address)
    try:
        await squad.gather()
        start = monotonic_ns() + 10_000_000
        await squad.run(start, start + int(team.warmup * 1e9), start + int((team.warmup + team.seconds) * 1e9))
    finally:
        await squad.close()
    return squad


def changed(**changes: Any) -> Team:
    return msgspec.structs.replace(TEAM, **changes)


@asynccontextmanager
async def lying(port: int, tamper: Tamper) -> AsyncIterator[Address]:
    """Something between clients and a broker: `tamper` decides what becomes of the lines of each frame of messages."""

    async def serve(relay: Relay, down: asyncio.StreamReader, up: asyncio.StreamWriter) -> None:
        reader, writer = await relay.beyond()

        async def upwards() -> None:
            while data := await down.read(65536):
                writer.write(data)
            writer.close()

        async def downwards() -> None:
            up.write(await reader.readuntil(b"\r\n\r\n"))
            splitter = FrameSplitter()
            while data := await reader.read(65536):
                for first, payload in splitter.feed(data):
                    if first != TEXT:
                        continue
                    lines = payload.split(b"\n")
                    if b'"op":"msg"' in payload:
                        lines = tamper(lines)
                    if lines:
                        up.write(received_text_frame(b"\n".join(lines)))
            up.close()

        await asyncio.gather(upwards(), downwards(), return_exceptions=True)

    async with Relay(port, serve) as relay:
        yield Address("127.0.0.1", relay.port)


class Once:
    """Does something to one frame of messages: the tenth."""

    def __init__(self, what: Tamper) -> None:
        self._what = what
        self._frames = 0

    def __call__(self, lines: Lines) -> Lines:
        self._frames += 1
        return self._what(lines) if self._frames == 10 else lines


class Swap:
    """Holds one message back until the next of its topic and publisher has come, for that reader."""

    def __init__(self) -> None:
        self._held: bytes | None = None
        self._done = False

    def __call__(self, lines: Lines) -> Lines:
        if self._done:
            return lines
        if self._held is None:
            self._held = lines[0]
            return lines[1:]
        self._done = True
        return [*lines, self._held]


async def test_when_all_is_well_everything_is_counted_and_nothing_is_wrong(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as server:
        squad = await worked(TEAM, Address("127.0.0.1", server.port))
    every = squad.conversations()
    assert squad.verdict().good
    assert squad.tally.published == sum(one.published for one in every) >= 0.5 * 300 - 3
    assert squad.tally.delivered == sum(one.delivered for one in every) == 2 * squad.tally.published
    assert len(squad.tally.latencies) == pytest.approx(0.4 * 300 * 2, abs=6), "all that was due in the window"
    assert len(squad.tally.timeline) > 2


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (Once(lambda lines: lines[1:]), Verdict(lost=1)),
        (Once(lambda lines: [*lines, lines[0]]), Verdict(duplicated=1)),
    ],
    ids=["lost", "duplicated"],
)
async def test_what_is_wrong_is_found(
    tmp_path: Path, tamper: Tamper, expected: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubbub_bench.drivers.team.squad.DRAIN_PATIENCE", 0.5)
    async with serving(tmp_path / "data") as server, lying(server.port, tamper) as address:
        squad = await worked(changed(seconds=0.3), address)
    assert squad.verdict() == expected
    wrong = [one for one in squad.conversations() if one.lost or one.duplicated]
    assert len(wrong) == 1, "told for the conversation in which it happened"


async def test_a_message_that_overtakes_is_found(tmp_path: Path) -> None:
    alone = changed(agents=1, conversations=1, members=1, rate=100.0, seconds=0.3)
    async with serving(tmp_path / "data") as server, lying(server.port, Swap()) as address:
        squad = await worked(alone, address)
    assert squad.verdict() == Verdict(out_of_order=1)


@pytest.mark.parametrize("mode", ["raw", "sdk"])
@pytest.mark.parametrize("consumer", ["none", "own", "shared"])
async def test_agents_that_leave_and_readers_that_are_slow_get_everything(
    tmp_path: Path, mode: str, consumer: str
) -> None:
    restless = changed(mode=mode, consumer=consumer, churn=20.0, away=0.05, slow=1, pause=0.1, rate=200.0)
    async with serving(tmp_path / "data") as server:
        squad = await worked(restless, Address("127.0.0.1", server.port))
    assert squad.tally.left > 1
    assert squad.verdict().good
    copies = 1 if consumer == "shared" else 2
    assert squad.tally.delivered - squad.tally.redelivered == copies * squad.tally.published


async def test_ephemeral_messages_that_an_absent_agent_misses_are_not_lost_but_told(tmp_path: Path) -> None:
    restless = changed(durable=False, churn=20.0, away=0.1)
    async with serving(tmp_path / "data") as server:
        squad = await worked(restless, Address("127.0.0.1", server.port))
    assert squad.verdict().good
    missed = sum(one.missed for one in squad.conversations())
    assert missed > 0
    assert squad.tally.delivered + missed == 2 * squad.tally.published


async def test_a_full_window_is_kept_full_and_no_fuller(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as server:
        squad = await worked(changed(rate=0.0, window=4), Address("127.0.0.1", server.port))
    assert squad.verdict().good
    assert squad.tally.published == squad.tally.acked > 6 * 4


def test_a_part_has_its_share_and_all_have_everything() -> None:
    team = changed(agents=12, conversations=6, processes=3, slow=4, churn=3.0, rate=90.0)
    every = parts(team)
    assert [one.agents for one in every] == [4, 4, 4]
    assert [one.slow for one in every] == [2, 1, 1]
    assert sum(one.rate for one in every) == pytest.approx(90)
    assert sum(one.conversations for one in every) == 6


def test_everybody_is_in_about_as_many_conversations() -> None:
    seats = [agent for number in range(4) for agent in members_of(number, 3, 6)]
    assert sorted(seats) == sorted([*range(6), *range(6)])


def test_a_delivery_that_is_marked_as_a_repetition_is_no_duplicate_and_an_unmarked_one_is() -> None:
    tally = Tally()
    place = Place(tally, "g/t", {1: Checker()}, in_order=True)
    for sequence, attempt in ((1, 1), (3, 1), (2, 2), (2, 2)):
        place.take(1, sequence, 0, sequence, attempt)
    checker = place.checkers[1]
    assert (checker.duplicated, checker.out_of_order, checker.lost(3), tally.redelivered) == (0, 0, 0, 1)
    place.take(1, 2, 0, 2, 1)
    assert checker.duplicated == 1


def test_latencies_are_of_those_who_were_there_and_read() -> None:
    tally = Tally(record_from=10, record_to=20, abandoned={10**10 + 3})
    place = Place(tally, "g/t", {1: Checker()}, in_order=True)
    place.live_since = 12
    for sequence, due in ((1, 11), (2, 13), (3, 14), (4, 25)):
        place.take(1, sequence, due, sequence, 1)
    assert len(tally.latencies) == 1, "not from history, not of a publisher that was away, not beyond the window"
    place.slow = True
    place.take(1, 5, 15, 5, 1)
    assert len(tally.latencies) == 1


def test_rates_are_of_all_processes_together() -> None:
    one = [Sample(10.0, 0, 0, 0), Sample(11.0, 10, 8, 20), Sample(12.0, 20, 16, 60)]
    two = [Sample(10.0, 0, 0, 0), Sample(11.0, 10, 8, 10), Sample(12.0, 20, 16, 20)]
    assert rates([one, two], 10.0) == [(1.0, 30.0, 16.0), (2.0, 50.0, 16.0)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("window = 3", "one of rate"),
        ("processes = 4", "divided by 4"),
        ("members = 7", "more than the 6 agents"),
        ("publishers = 3", "3 publishers"),
        ("slow = 7", "7 slow agents"),
        ("handler = 0.1", "handler needs a consumer"),
        ('consumer = "own"\ndurable = false', "durable"),
        ("groups = 4", "4 groups"),
        ("payload = [64, 3]", "payload"),
    ],
)
def test_what_contradicts_itself_is_refused(change: str, reason: str) -> None:
    text = 'kind = "team"\ntitle = "T"\nhow = "H"\nagents = 6\nconversations = 3\nrate = 10.0\n'
    text += "" if change.startswith("members") else "members = 2\n"
    with pytest.raises(BadScenario, match=reason):
        parse(text + change, "mine")


def test_the_teams_that_come_along_can_be_used() -> None:
    found = [load(path) for path in sorted((FOLDER / "teams").glob("*.toml"))]
    assert len(found) >= 5
    assert all(isinstance(one, Team) for one in found)
    assert {one.mode for one in found if isinstance(one, Team)} == {"raw", "sdk"}


async def test_agents_find_the_worker_that_owns_their_group(tmp_path: Path) -> None:
    async with workers_process(tmp_path / "data", 2) as broker:
        squad = await worked(changed(groups=3), Address.parse(broker.url))
    assert squad.verdict().good
    assert {worker_of(f"test-{group}", SHARDS, 2) for group in range(3)} == {0, 1}, "each has one of them"


async def test_an_agent_of_several_groups_is_told_what_it_can_not_have(tmp_path: Path) -> None:
    async with workers_process(tmp_path / "data", 2) as broker:
        with pytest.raises(DriverError, match="wrong_shard"):
            await worked(changed(agents=2, groups=3), Address.parse(broker.url))


async def test_a_broker_that_is_not_there_is_told() -> None:
    with pytest.raises(Exception, match="can't connect"):
        await worked(TEAM, replace(Address("127.0.0.1", 1)))
