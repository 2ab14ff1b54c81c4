"""`hubbub bench` from end to end: real brokers, real sockets, a second of load."""

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

LOOPS = {
    "closed": """kind = "closed-loop"
publishers = 4
topics = 2
subscribers = 3
payload = 64
window = 4
until = "both"
durable = true
""",
    "open": """kind = "open-loop"
agents = 20
topics = 4
payload = 64
rate = 200
durable = true
""",
    "team": """kind = "team"
agents = 12
conversations = 4
members = 3
groups = 2
rate = 200
payload = [64, 900]
consumer = "own"
processes = 2
""",
    "replay": """kind = "replay"
messages = 2000
payload = 64
""",
    "opening": """kind = "opening"
messages = 1000
payload = 64
topics = 4
groups = 2
""",
    "idle": """kind = "idle"
connections = 60
topics = 10
settle = 0.05
""",
}
TIMED = "seconds = 0.5\nwarmup = 0.1\n"


def bench(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "hubbub_broker", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=140, check=False)


def measured(tmp_path: Path, *names: str) -> dict[str, dict[str, Any]]:
    """The scenarios of those names, measured: what the JSON says of each."""
    files: list[object] = []
    for order, name in enumerate(names):
        path = tmp_path / f"{name}.toml"
        head = f'title = "T"\nhow = "H"\norder = {order}\nruns = 1\n'
        path.write_text(head + LOOPS[name] + (TIMED if name in ("closed", "open", "team") else ""))
        files += ["--scenario", path]
    where = ["--json", tmp_path / "figures.json", "--data-dir", tmp_path / "data", "--plot", tmp_path / "pictures"]
    done = bench(*files, *where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "data").iterdir()) == [], "the brokers' directories are removed"
    content = json.loads((tmp_path / "figures.json").read_text())
    assert all(one["good"] and not one["skipped"] for one in content["scenarios"])
    return {one["name"]: one for one in content["scenarios"]}


def figures_of(scenario: dict[str, Any]) -> dict[str, float]:
    return {figure["name"]: figure["median"] for figure in scenario["figures"]}


@pytest.mark.soak
@pytest.mark.timeout(150)  # it starts nine processes, one after the other
def test_every_kind_of_scenario_is_measured_and_nothing_is_lost(tmp_path: Path) -> None:
    found = measured(tmp_path, "closed", "open", "replay", "opening", "idle")
    figures = {name: figures_of(one) for name, one in found.items()}
    assert figures["closed"]["deliveries"] > 100
    assert 0 < figures["open"]["end to end p50"] <= figures["open"]["end to end p99"]
    assert figures["open"]["end to end count"] == pytest.approx(0.5 * 200 * 5, abs=100), (
        "all that was due, none left out"
    )
    assert figures["replay"]["replay"] > 1000
    assert figures["opening"]["after SIGKILL"] > 0
    assert figures["opening"]["memory after a clean stop"] > 10
    assert "memory per connection" in figures["idle"]


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_team_is_measured_by_several_processes_and_pictured(tmp_path: Path) -> None:
    scenario = measured(tmp_path, "team")["team"]
    figures = figures_of(scenario)
    (run,) = scenario["runs"]
    assert figures["published"] == figures["acked"] > 0.55 * 200
    assert figures["end to end count"] == pytest.approx(0.5 * 200 * 3, abs=12), "all that was due, none left out"
    assert [one["delivered"] == 3 * one["published"] > 0 for one in run["conversations"]] == [True] * 4
    assert run["log"]["records"] >= figures["published"]
    assert run["log"]["syncs"] > 0
    assert (tmp_path / "pictures" / "team-latency.svg").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_in_the_middle_it_leaves_no_broker_and_no_directory(tmp_path: Path, number: signal.Signals) -> None:
    scenario, data = tmp_path / "closed.toml", tmp_path / "data"
    scenario.write_text('title = "T"\nhow = "H"\nseconds = 600\n' + LOOPS["closed"])
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "hubbub_broker",
        "bench",
        "--scenario",
        scenario,
        "--json",
        tmp_path / "j",
        "--data-dir",
        data,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    broker = None
    try:
        while broker is None or len(broker.net_connections()) <= 4 + 2 * 3:  # it listens, and its agents have come
            assert process.poll() is None
            time.sleep(0.05)  # another process's sockets give no sign
            broker = next(iter(psutil.Process(process.pid).children()), None)
        process.send_signal(number)
        assert process.wait(30) != 0
        assert not broker.is_running()
    finally:
        for one in (process, broker):
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if one is not None:
                    one.kill()
        process.wait()
    assert list(data.iterdir()) == []


def test_the_list_says_which_there_are() -> None:
    done = bench("--list", "--only", "replay")
    assert (done.returncode, done.stdout.split()[0]) == (0, "replay")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "everything"], "no scenario everything; there are "),
        (["--scenario", "none.toml"], "none.toml"),
        (["--url", "http://127.0.0.1:1"], "ws://HOST:PORT"),
    ],
)
def test_what_can_t_be_done_is_refused_with_the_reason(arguments: list[str], said: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broker_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    where = ["--json", tmp_path / "figures.json", "--data-dir", tmp_path]
    done = bench("--url", "ws://127.0.0.1:1", "--only", "fan-out-durable", "--only", "opening", *where)
    assert done.returncode == 1
    assert "can't connect to 127.0.0.1:1" in done.stdout
    assert "needs a broker of its own" in done.stdout
    assert json.loads((tmp_path / "figures.json").read_text())["scenarios"][0]["good"] is False
