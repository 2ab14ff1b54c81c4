"""What the demonstration starts, and the room it needs."""

import resource
import socket
from pathlib import Path

import pytest

from hubbub_broker.cli.demonstration import broker as module
from hubbub_broker.cli.demonstration.broker import PORTS, Broker, free_ports, says_serving
from hubbub_broker.cli.demonstration.open_files import allow_open_files
from hubbub_broker.cli.demonstration.processes import Child, environment
from hubbub_broker.cli.demonstration.run_directory import run_directory
from hubbub_broker.cli.exit_code import Failure


@pytest.mark.parametrize(
    ("log", "serving"),
    [
        ("", False),
        ('{"event": "settings"}\n', False),
        ('{"event": "settings"}\n{"event": "serving", "port": 1}\n', True),
        ('{"event": "serving"}', False),  # perhaps not whole yet
        ('warning: "serving"\n["serving"]\n', False),
    ],
)
def test_a_broker_says_itself_that_it_serves(log: str, serving: bool) -> None:
    assert says_serving(log) is serving


def test_ports_are_free_and_not_the_same_each_time() -> None:
    first, second = list(free_ports()), list(free_ports())
    assert len(first) == len(set(first)) == 10
    assert set(first) <= set(PORTS)
    assert first != second


@pytest.mark.slow
async def test_a_port_that_another_took_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = next(free_ports())
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        monkeypatch.setattr(module, "free_ports", lambda: iter([taken, free]))
        broker = Broker(tmp_path / "log", tmp_path / "broker.log")
        try:
            await broker.start()
            assert broker.port == free
        finally:
            assert await broker.stop() == 0


async def test_a_broker_that_can_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    broker = Broker(tmp_path / "file", tmp_path / "broker.log")
    with pytest.raises(Failure, match=r"the broker ended with code 1; the end of its log:\n.*file"):
        await broker.start()
    assert await broker.stop() == 1


async def test_a_process_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deaf.py").write_text(
        "import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\nsys.stdin.read()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("hubbub_broker.cli.demonstration.processes.END_SECONDS", 0.05)
    child = await Child.start("deaf", "deaf", log=tmp_path / "deaf.log")
    assert child.process.stdout is not None
    assert await child.process.stdout.readline() == b"up\n"
    assert await child.stop() == -9
    assert await child.stop() == -9


def test_settings_for_other_brokers_and_proxies_do_not_reach_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBUB_PORT", "1")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    found = environment()
    assert not [name for name in found if name.startswith("HUBBUB_")]
    assert found["NO_PROXY"] == found["no_proxy"] == "127.0.0.1"


# Room


def limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> list[tuple[int, int]]:
    """Let the system have these limits; what they become."""
    found = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: found[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, pair: found.append(pair))
    return found


def test_room_for_sockets_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = limits(monkeypatch, 256, 4096)
    allow_open_files(1000)
    assert found[-1] == (4096, 4096)


def test_too_little_room_is_said_with_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says is enough is enough."""
    limits(monkeypatch, 256, 1024)
    with pytest.raises(Failure, match=r"1,000 agents need .* open files .* this system allows 1,024") as no:
        allow_open_files(1000)
    enough = int(str(no.value).split()[3].replace(",", ""))
    limits(monkeypatch, enough, enough)
    allow_open_files(1000)
    limits(monkeypatch, enough - 2, enough - 2)
    with pytest.raises(Failure):
        allow_open_files(1000)


@pytest.mark.parametrize("keep", [False, True])
def test_the_directory_is_removed_unless_wanted(keep: bool, tmp_path: Path) -> None:
    wanted = tmp_path / "deep" / "data"
    with run_directory(wanted, keep=keep) as directory:
        assert directory == wanted
        (directory / "log").touch()
    assert wanted.exists() is keep


def test_a_temporary_directory_goes_also_after_an_error() -> None:
    def work(directory: Path) -> None:
        (directory / "log").touch()
        raise Failure("no")

    with run_directory(None, keep=False) as kept, pytest.raises(Failure):
        work(kept)
    assert not kept.exists()


def test_a_directory_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="--data-dir"), run_directory(tmp_path / "file" / "data", keep=False):
        pass
