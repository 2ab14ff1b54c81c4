"""Asking the user before something can't be undone."""

import sys

import typer

from .exit_code import ExitCode, Failure


def confirmed(question: str) -> None:
    """Go on only if the user says yes. Where nobody can be asked, `--yes` has to be said.

    Raises:
        Failure: no, or nobody there.
    """
    if not sys.stdin.isatty():
        raise Failure(f"{question} Say --yes: there is no terminal to ask at", ExitCode.USAGE)
    if not typer.confirm(question, err=True):
        raise Failure("nothing was done")
