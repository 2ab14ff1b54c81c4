"""What `hubbub policy` and `hubbub schema` have in common: changing documents of the control plane; their history."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .exit_code import ExitCode, Failure
from .http import ask, get
from .options import default_agent
from .output import compact, emit, note, printable, table
from .when import when

Note = Annotated[str | None, typer.Option("--note", "-m", help="Why, for those who read the history.")]
IfVersion = Annotated[
    int | None, typer.Option("--if-version", min=0, help="Only if it has this version; 0: only if it is new.")
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="Changes at most.")]


def change(
    method: str,
    path: str,
    content: Any,
    *,
    agent: str | None,
    why: str | None,
    version: int | None,
    url: str,
    token: str | None,
    timeout: float,
) -> Any:
    """Ask the control plane for a change; what it answers.

    Raises:
        Failure: it can't be reached, or refuses.
    """
    by = agent or (None if token else default_agent())  # a token says by itself whose it is
    query = {name: value for name, value in (("by", by), ("note", why)) if value is not None}
    headers = {} if version is None else {"If-Match": f'"{version}"'}
    return ask(method, url, path, query, timeout, token, content, headers)


def show(found: Mapping[str, Any], what: str, as_json: bool) -> None:
    """A document with who wrote it."""
    if as_json:
        emit(json.dumps(found))
        return
    for label in ("version", "by", "at", "note"):
        value = found[label]
        if value is not None:
            emit(f"{label:8} {when(value) if label == 'at' else printable(str(value))}")
    emit(json.dumps(found[what], indent=2))


def show_history(path: str, what: str, limit: int, as_json: bool, url: str, token: str | None, timeout: float) -> None:
    """The changes of a document, newest first."""
    changes = get(url, f"{path}/history", {"limit": limit}, timeout, token)["changes"]
    if as_json:
        for one in changes:
            emit(json.dumps(one))
        return
    table(
        ("when", "by", "what", what, "note"),
        [
            (
                when(one["at"] or 0.0),
                printable(one["by"] or "-"),
                one["action"],
                "" if one[what] is None else printable(compact(one[what])),
                printable(one["note"] or ""),
            )
            for one in changes
        ],
    )


def tell_skipped(skipped: list[dict[str, str]]) -> None:
    """Say what is kept and not in force."""
    for each in skipped:
        note(f"not in force: {printable(each['key'])}: {printable(each['reason'])}")


def read_json(file: Path) -> Any:
    """The JSON in a file; `-` is standard input.

    Raises:
        Failure: it can't be read, or is none.
    """
    try:
        return json.loads(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"{file}: {error.strerror or error}", ExitCode.USAGE) from None
    except ValueError as error:
        raise Failure(f"{file} is not JSON: {error}", ExitCode.USAGE) from None
