"""The command as a whole: its help, its speed, its exit codes."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from hubbub_broker.cli import app
from hubbub_broker.cli.exit_code import ExitCode, Failure, ends_well
from hubbub_broker.cli.main import COMMANDS, GROUPS
from hubbub_broker.cli.registry import help_of, register
from hubbub_protocol import __version__

run = CliRunner().invoke


def test_the_version() -> None:
    result = run(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"hubbub {__version__}\n")


def test_the_help_lists_every_command_and_the_exit_codes() -> None:
    result = run(app, ["--help"])
    assert result.exit_code == 0
    for name in ("serve", "config", "pub", "tail", "topics", "log", "backup", "restore"):
        assert f" {name} " in result.stdout
    assert "3 no broker reached" in result.stdout


@pytest.mark.parametrize("function", [one for group in COMMANDS.values() for one in group], ids=lambda f: f.__name__)
def test_every_command_teaches_by_example(function: object) -> None:
    name = function.__name__  # type: ignore[attr-defined]
    group, _, rest = name.partition("_")
    words = [group, rest] if group in GROUPS else [name]
    result = run(app, [*words, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert f"hubbub {' '.join(words)}" in result.stdout


@pytest.mark.parametrize("arguments", [["nosuch"], ["serve", "--nosuch"], ["pub"], ["serve", "--port", "x"]])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert run(app, arguments).exit_code == 2


def test_help_loads_neither_the_broker_nor_the_sdk() -> None:
    script = (
        "import sys; from hubbub_broker.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'fastapi', 'pydantic', 'uvicorn', 'websockets', 'structlog', 'hubbub', 'msgspec'}\n"
        "sys.exit(f'loaded: {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_off_a_terminal_there_is_no_colour() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hubbub_broker", "--help"], capture_output=True, check=True, env={"PATH": "", **_path()}
    )
    assert b"\x1b" not in done.stdout


def _path() -> dict[str, str]:
    import os

    return {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}


# How a command ends


def ended(error: BaseException | None) -> typer.Exit | None:
    @ends_well
    def command() -> None:
        if error is not None:
            raise error

    try:
        command()
    except typer.Exit as exit_:
        return exit_
    return None


def test_a_failure_is_a_message_and_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    result = ended(Failure("one\ntwo", ExitCode.USAGE))
    assert result is not None
    assert result.exit_code == 2
    assert capsys.readouterr().err == "hubbub: one\nhubbub: two\n"


def test_an_interrupt_is_130_and_silent(capsys: pytest.CaptureFixture[str]) -> None:
    result = ended(KeyboardInterrupt())
    assert result is not None
    assert result.exit_code == 130
    assert capsys.readouterr() == ("", "")


def test_success_is_not_an_exit() -> None:
    assert ended(None) is None


def test_a_mistake_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        ended(ZeroDivisionError())


def test_a_reader_that_has_had_enough_is_no_failure() -> None:
    script = (
        "from hubbub_broker.cli.exit_code import ends_well\n"
        "from hubbub_broker.cli.output import emit\n"
        "import typer\n"
        "@ends_well\n"
        "def command():\n"
        "    while True: emit('x' * 1000)\n"
        "try: command()\n"
        "except typer.Exit as end: raise SystemExit(end.exit_code)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == b""


# The registry


def test_functions_become_commands_and_groups() -> None:
    called: list[str] = []

    def one() -> None:
        """First.

        Examples:
          one [x]
        """
        called.append("one")

    def log_two() -> None:
        """Second."""
        called.append("two")

    def log_three() -> None:
        """Third."""
        called.append("three")

    small = typer.Typer()
    register(small, {"A": (one,), "B": (log_two, log_three)}, {"log": "Logs."})
    for words in (["one"], ["log", "two"], ["log", "three"]):
        assert run(small, words).exit_code == 0
    assert called == ["one", "two", "three"]
    assert help_of(one) == "First.\n\n\b\nExamples:\n  one \\[x]"
    assert "one [x]" in run(small, ["one", "--help"]).stdout
