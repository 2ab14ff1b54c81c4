"""How a command ends."""

import functools
import os
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import ParamSpec, TypeVar

import typer

P = ParamSpec("P")
T = TypeVar("T")


class ExitCode(IntEnum):
    """What the shell gets to see."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    DAMAGED = 4
    """It is done, and what was found damaged on the way was named."""
    INTERRUPTED = 130


class Failure(Exception):
    """The command can't do what it was asked to. `str` of it is for the user, and may have several lines."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


def ends_well(command: Callable[P, T]) -> Callable[P, T]:
    """Make a command end with a message and an exit code, not with a traceback.

    Other exceptions than `Failure` are mistakes of the program, and keep their traceback.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except Failure as failure:
            for line in str(failure).splitlines():
                typer.echo(f"hubbub: {line}", err=True)
            raise typer.Exit(failure.code) from None
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever read our output has had enough (`hubbub tail … | head`). Python would complain when it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(ExitCode.OK) from None

    return wrapped
