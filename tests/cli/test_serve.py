"""`hubbub serve`: what it does before, and instead of, serving."""

import errno
import json
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog
from typer.testing import CliRunner

from hubbub_broker.cli import app
from hubbub_broker.config import Settings
from hubbub_broker.log import LogError


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    calls: list[Settings] = []
    monkeypatch.setattr("hubbub_broker.server.run", lambda settings, **_: calls.append(settings))
    return calls


def serve(*arguments: str, **environ: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["serve", *arguments], env={"HUBBUB_CONFIG": "", **environ})
    return result.exit_code, result.stderr


def test_options_reach_the_broker(served: list[Settings]) -> None:
    code, _ = serve(
        "--port", "0", "--data-dir", "/tmp/x", "--host", "::1", "--log-level", "warning", "--set", "shards=3"
    )
    assert code == 0
    (settings,) = served
    assert (settings.port, str(settings.data_dir), settings.host, settings.shards) == (0, "/tmp/x", "::1", 3)


def test_a_wrong_setting_starts_nothing(served: list[Settings]) -> None:
    code, complaint = serve("--port", "70000", HUBBUB_SHARDS="many")
    assert code == 2
    assert "hubbub: port = 70000 (--port): must be a whole number, 0 to 65535\n" in complaint
    assert 'hubbub: shards = "many" (HUBBUB_SHARDS): must be a whole number, 1 to 999\n' in complaint
    assert served == []


def test_a_host_beyond_loopback_takes_a_decision(served: list[Settings]) -> None:
    code, complaint = serve("--host", "0.0.0.0")
    assert code == 2
    assert "insecure = true" in complaint
    assert serve("--host", "0.0.0.0", "--set", "insecure=true")[0] == 0
    assert serve("--host", "0.0.0.0", "--insecure")[0] == 0
    assert serve("--host", "0.0.0.0", HUBBUB_BUS_TOKEN="t")[0] == 0
    assert [settings.insecure for settings in served] == [True, True, False]


def test_what_was_set_is_logged_with_its_value(served: list[Settings]) -> None:
    _, log = serve("--log-format", "json", "--set", "max_frame=2MiB")
    line = json.loads(log.splitlines()[0])
    assert (line["event"], line["max_frame"], line["log_format"]) == ("settings", 2 << 20, "json")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (LogError("the directory is in use"), 1, "hubbub: the directory is in use"),
        (OSError(errno.EADDRINUSE, "Address already in use"), 1, "can't listen on 127.0.0.1:8091"),
    ],
)
def test_what_stops_a_start_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, message: str
) -> None:
    monkeypatch.setattr("hubbub_broker.server.run", _raiser(error))
    found, complaint = serve(HUBBUB_PORT="")
    assert found == code
    assert message in complaint
    assert "Traceback" not in complaint


def _raiser(error: Exception) -> Callable[..., None]:
    def run(_: Settings, **__: object) -> None:
        raise error

    return run
