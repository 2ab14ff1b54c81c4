"""Functions to commands: their names, their help, and the groups of `hubbub GROUP COMMAND`."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer

Command = Callable[..., None]


def register(app: typer.Typer, commands: Mapping[str, Sequence[Command]], groups: Mapping[str, str]) -> None:
    """Add commands to `app`.

    Args:
        app: the root.
        commands: functions by the heading under which the help lists them. `config` becomes the command `config`; and
            `log_verify` becomes `log verify`, if there is a group `log`.
        groups: names of groups, with their help.
    """
    subs: dict[str, typer.Typer] = {}
    for heading, functions in commands.items():
        for function in functions:
            group, _, name = function.__name__.partition("_")
            if group not in groups:
                app.command(function.__name__.replace("_", "-"), help=help_of(function), rich_help_panel=heading)(
                    function
                )
                continue
            if group not in subs:
                subs[group] = typer.Typer(help=groups[group], no_args_is_help=True)
                app.add_typer(subs[group], name=group, rich_help_panel=heading)
            subs[group].command(name.replace("_", "-"), help=help_of(function))(function)


def help_of(function: Callable[..., Any]) -> str:
    """A function's docstring as help: the examples in it keep their lines, and brackets are just brackets."""
    text = inspect.getdoc(function) or ""
    return keep_lines(text).replace("[", "\\[")


def keep_lines(text: str) -> str:
    """Mark the paragraphs of `text` that are lists of examples, so that they are not filled."""
    return "\n\n".join("\b\n" + paragraph if "\n  " in paragraph else paragraph for paragraph in text.split("\n\n"))
