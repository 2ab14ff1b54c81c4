"""What is printed, and what is not."""

import io

import pytest

from hubbub_broker.cli.output import colour_of, colourful, paint, printable, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert colourful(Terminal())
    assert not colourful(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colourful(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not colourful(Terminal())


def test_paint() -> None:
    assert paint("x", 31, True) == "\x1b[31mx\x1b[0m"
    assert paint("x", 31, False) == "x"


def test_a_sender_keeps_its_colour() -> None:
    assert colour_of("joe") == colour_of("joe")
    assert len({colour_of(f"agent-{number}") for number in range(100)}) > 5


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode ✓", "plain ünïcode ✓"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eright-to-left", "\\u202eright-to-left"),
    ],
)
def test_nothing_steers_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_table_on_a_pipe_is_for_the_next_program(capsys: pytest.CaptureFixture[str]) -> None:
    table(("topic", "last"), [("a/b", "1"), ("c/d", "2")])
    assert capsys.readouterr().out == "a/b\t1\nc/d\t2\n"


def test_a_table_on_a_terminal_has_heads_and_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    table(("topic", "last"), [("[red]a/b[/red]", "1")])
    assert "topic" in terminal.getvalue()
    assert "[red]a/b[/red]" in terminal.getvalue()
