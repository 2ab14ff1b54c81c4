"""`hubbub demo`, from its options to its exit code, small."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hubbub_broker.cli import app
from hubbub_broker.cli.demonstration.audit import Anomalies, Verdict
from hubbub_broker.cli.demonstration.clock import now
from hubbub_broker.cli.demonstration.display import Lines
from hubbub_broker.cli.demonstration.job import run
from hubbub_broker.cli.demonstration.options import Options
from hubbub_broker.cli.demonstration.outcome import Outcome

SMALL = ["--agents", "9", "--conversations", "3", "--pieces", "60", "--rate", "0"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A folder with something to read."""
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(4):
        lines = (f"The broker of line {line} is a program that keeps message {number * line}.\n" for line in range(300))
        (folder / f"page-{number}.txt").write_text("".join(lines))
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "hubbub_broker", "demo", *map(str, arguments)]


def processes_with(words: str) -> list[str]:
    """The processes whose command line has these words, where the system shows them as files."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if words in line:
            found.append(line)
    return found


# The whole of it


@pytest.mark.slow
async def test_nothing_is_lost_when_the_broker_is_killed(text: Path, tmp_path: Path) -> None:
    options = Options(
        agents=20,
        conversations=4,
        workers=2,
        folder=text,
        pieces=200,
        rate=150.0,
        kill=True,
        seed=7,
        data_dir=tmp_path / "data",
        keep=True,
        report=tmp_path / "out" / "report.md",
        tamper=None,
        linger=0.2,
    )
    told = io.StringIO()
    outcome, verdict = await run(options, Lines(told, 21, now))
    assert verdict.evidence == []
    assert outcome.good, told.getvalue()
    assert outcome.messages == outcome.planned == outcome.replayed > 2 * outcome.pieces
    assert outcome.deliveries == 6 * outcome.messages  # five members, and the editor
    assert outcome.crash is not None
    assert outcome.crash.killed < outcome.crash.listening <= outcome.crash.recovered
    assert outcome.reconnects >= 21
    assert "crash" in outcome.latency
    assert sum(figures.count for figures in outcome.latency.values()) == outcome.deliveries
    assert (outcome.transitions, outcome.astray) == (4 * 4, 0)
    report = options.report.read_text()
    assert report.count("\n## ") == 1 + 4
    assert "**program**" in report or "**message**" in report
    starts = [line for line in (tmp_path / "data" / "broker.log").read_text().splitlines() if "serving" in line]
    assert len(starts) == 2
    assert processes_with(str(tmp_path)) == []


@pytest.mark.slow
def test_a_fault_in_the_records_ends_with_1(text: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    done = subprocess.run(
        command(*SMALL, "--no-kill", "--json", "--tamper", "lost", "--folder", text, "--report", report),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 1, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    assert figures["ok"] is False
    assert figures["anomalies"] == {"lost": 1, "duplicated": 0, "out_of_order": 0, "conflicting": 0}
    assert len(figures["evidence"]) == 1
    assert "1 lost" in report.read_text()
    assert list(tmp_path.glob("hubbub-demo-*")) == []  # the temporary directory is gone


@pytest.mark.parametrize(
    ("anomalies", "code"),
    [
        (Anomalies(), 0),
        (Anomalies(lost=1), 1),
        (Anomalies(duplicated=1), 1),
        (Anomalies(out_of_order=1), 1),
        (Anomalies(conflicting=1), 1),
    ],
)
def test_the_exit_code_says_whether_all_is_well(
    anomalies: Anomalies, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def found(_options: Options, _display: object) -> tuple[Outcome, Verdict]:
        return figures_with(anomalies), Verdict(anomalies, evidence=[f"ann in desk/a: {anomalies}"])

    monkeypatch.setattr("hubbub_broker.cli.demonstration.job.run", found)
    result = CliRunner().invoke(app, ["demo", "--report", str(tmp_path / "r.md")])
    assert result.exit_code == code
    assert f"ann in desk/a: {anomalies}" in result.stdout


def figures_with(anomalies: Anomalies) -> Outcome:
    return Outcome(
        agents=3,
        conversations=1,
        files=1,
        text_bytes=1000,
        pieces=2,
        planned=9,
        messages=9,
        deliveries=36,
        replayed=9,
        work=1.0,
        total=2.0,
        latency={},
        crash=None,
        reconnects=0,
        resent=0,
        suppressed=0,
        dropped_copies=0,
        anomalies=anomalies,
        transitions=4,
        astray=0,
        unfinished=0,
        report="r.md",
    )


# How it ends otherwise


def start(text: Path, tmp_path: Path) -> tuple["subprocess.Popen[str]", int]:
    """A demonstration at work, and its broker's port."""
    process = subprocess.Popen(
        command("--agents", 9, "--conversations", 3, "--rate", 5, "--folder", text, "--data-dir", tmp_path / "data"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stderr is not None
    port = 0
    for line in process.stderr:
        if "listens on port" in line:
            port = int(line.split("listens on port ")[1].split(";")[0])
        if "every agent is online" in line:
            return process, port
    raise AssertionError(f"it ended with {process.wait()}")


def wait_until_gone(port: int, tmp_path: Path) -> None:
    """Until nobody listens any more, and no process is left; the test's time-out is the limit."""
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) and not processes_with(str(tmp_path)):
                return


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_everything_and_leaves_nothing(
    number: signal.Signals, code: int, text: Path, tmp_path: Path
) -> None:
    process, port = start(text, tmp_path)
    process.send_signal(number)
    _, complaint = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in complaint
    wait_until_gone(port, tmp_path)
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_even_sigkill_leaves_no_process(text: Path, tmp_path: Path) -> None:
    process, port = start(text, tmp_path)
    process.kill()
    process.communicate(timeout=30)
    wait_until_gone(port, tmp_path)


# Options


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["demo", *map(str, arguments)])
    assert result.exit_code == 2
    return result.stderr


def test_three_members_make_a_conversation() -> None:
    assert "--agents 10: 4 conversations need 3 members each, so 12 agents at least, or --conversations 3 at most" in (
        refused("--agents", 10, "--conversations", 4)
    )


def test_an_unknown_anomaly_is_refused() -> None:
    assert "one of lost, duplicated, out-of-order is wanted" in refused("--tamper", "swapped")


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("short\n" * 100)
    complaint = refused("--folder", tmp_path, "--report", tmp_path / "r.md")
    assert "holds 600 bytes of text in 1 files" in complaint
    assert "--conversations 3 --agents 15" in complaint


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file or directory" in refused("--folder", tmp_path / "nowhere")


def test_a_directory_with_something_in_it_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    assert "is not empty" in refused("--data-dir", tmp_path, "--agents", 3, "--conversations", 1)
    assert (tmp_path / "precious").read_text() == "data"
