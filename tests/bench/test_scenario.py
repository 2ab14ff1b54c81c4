"""Scenarios: the files that come along, and what is refused."""

import re
from pathlib import Path

import pytest

from hubbub_bench.peers import Address, BadAddress
from hubbub_bench.scenario import FOLDER, BadScenario, ClosedLoop, Opening, OpenLoop, load, load_all, parse

README = Path(__file__).resolve().parents[2] / "bench" / "README.md"
TINY = """
kind = "closed-loop"
title = "Tiny"
how = "A little."
publishers = 2
topics = 2
subscribers = 3
payload = 64
window = 4
until = "both"
durable = true
"""


def test_the_scenarios_that_come_along_are_those_of_the_first_figures() -> None:
    assert [one.name for one in load_all()] == [
        "fan-out-ephemeral",
        "fan-out-durable",
        "topics-ephemeral",
        "topics-durable",
        "publish-1",
        "publish-64",
        "latency-ephemeral",
        "latency-durable",
        "idle-memory",
        "replay",
        "opening",
    ]


def test_ten_thousand_deliveries_a_second_are_what_the_latency_scenarios_ask_for() -> None:
    for name in ("latency-ephemeral", "latency-durable"):
        scenario = load(FOLDER / f"{name}.toml")
        assert isinstance(scenario, OpenLoop)
        assert scenario.rate * scenario.agents / scenario.topics == 10_000


@pytest.mark.parametrize("pair", ["fan-out", "topics", "latency"])
def test_pairs_differ_only_in_what_their_names_say(pair: str) -> None:
    def numbers(name: str) -> list[str]:
        lines = (FOLDER / f"{name}.toml").read_text().splitlines()
        return [line for line in lines if re.match(r"\w+ = (?!\")", line) and not line.startswith(("order", "durable"))]

    assert numbers(f"{pair}-ephemeral") == numbers(f"{pair}-durable")
    assert load(FOLDER / f"{pair}-ephemeral.toml").durable is False  # type: ignore[union-attr]
    assert load(FOLDER / f"{pair}-durable.toml").durable is True  # type: ignore[union-attr]


def test_a_scenario_is_named_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TINY)
    scenario = load(path)
    assert isinstance(scenario, ClosedLoop)
    assert (scenario.name, scenario.subscribers, scenario.runs) == ("mine", 3, 3)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("payload = 64", "payload = 8", r"payload.*>= 37|>= 37.*payload"),
        ("window = 4", "window = 0", "window"),
        ("window = 4", "", "window"),
        ("durable = true", 'durable = "yes"', "durable"),
        ("durable = true", "durable = true\nsubscribes = 3", "subscribes"),
        ('"closed-loop"', '"half-open-loop"', "half-open-loop"),
        ('until = "both"', 'until = "later"', "until"),
        ("subscribers = 3", "subscribers = 0", "needs subscribers"),
        ("durable = true", "durable = true\ngroups = 3", "3 groups need as many topics"),
        ("topics = 2", "topics = [", "mine"),
    ],
)
def test_what_can_t_be_measured_is_refused_by_name(old: str, new: str, reason: str) -> None:
    assert old in TINY
    with pytest.raises(BadScenario, match=reason) as refused:
        parse(TINY.replace(old, new), "mine")
    assert "mine" in str(refused.value)


def test_agents_are_spread_evenly() -> None:
    text = (FOLDER / "latency-durable.toml").read_text()
    with pytest.raises(BadScenario, match="evenly"):
        parse(text.replace("agents = 1000", "agents = 999"), "odd")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadScenario, match=r"none\.toml"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://127.0.0.1:9000", Address("127.0.0.1", 9000, "/v1/ws", tls=False)),
        ("ws://localhost", Address("localhost", 8091, "/v1/ws", tls=False)),
        ("wss://bus.example/x/ws?access_token=t", Address("bus.example", 443, "/x/ws?access_token=t", tls=True)),
    ],
)
def test_addresses(url: str, address: Address) -> None:
    assert Address.parse(url) == address


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "127.0.0.1:9000", "ws://", "ws://h:port", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadAddress):
        Address.parse(url)


def test_the_page_shows_only_options_and_scenarios_that_exist() -> None:
    from typer.main import get_command

    from hubbub_broker.cli import app

    page = README.read_text()
    command = get_command(app).get_command(None, "bench")  # type: ignore[attr-defined]
    there = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"(?<!\w)--[a-z]+", page.partition("## A driver")[0])) <= there
    assert set(re.findall(r"--only ([a-z0-9-]+)", page)) <= {one.name for one in load_all(pattern="**/*.toml")}


def test_the_large_ones_are_starts_on_ten_million_messages() -> None:
    large = [load(path) for path in sorted((FOLDER / "large").glob("*.toml"))]
    assert [one.name for one in large] == ["opening-10gb", "opening-small-messages"]
    for one in large:
        assert isinstance(one, Opening)
        assert one.messages == 10_000_000
