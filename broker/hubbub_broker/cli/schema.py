"""`hubbub schema`: the JSON Schemas that messages are held to, by group and type."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .asking import confirmed
from .documents import IfVersion, Limit, Note, change, read_json, show, show_history, tell_skipped
from .exit_code import ExitCode, ends_well
from .http import get, post
from .options import DEFAULT_URL, AgentName, AsJson, Timeout, Token, Url, Yes
from .output import emit, note, printable, table
from .when import when

PATH = "/v1/control/schemas"

Group = Annotated[str, typer.Argument(help="Whose messages it is about.")]
Type = Annotated[str, typer.Argument(help="The `type` of the messages that it is about.")]


@ends_well
def schema_list(as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None, timeout: Timeout = 10.0) -> None:
    """List the schemas in force.

    Examples:
      hubbub schema list
    """
    found = get(url, "/v1/schemas", {}, timeout, token)
    if as_json:
        emit(json.dumps(found))
        return
    table(
        ("group", "type", "version", "by", "when", "note"),
        [
            (
                each["group"],
                each["type"],
                str(each["version"]),
                printable(each["by"] or "-"),
                when(each["at"] or 0.0),
                printable(each["note"] or ""),
            )
            for each in found["schemas"]
        ],
    )
    tell_skipped(found["skipped"])


@ends_well
def schema_show(
    group: Group,
    type: Type,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Show a schema as it was written, with who set it, when and why.

    Examples:
      hubbub schema show research task
      hubbub schema show research task --json | jq .schema > task.json
    """
    show(get(url, f"{PATH}/{group}/{type}", {}, timeout, token), "schema", as_json)


@ends_well
def schema_set(
    group: Group,
    type: Type,
    file: Annotated[Path, typer.Argument(help="The JSON Schema; `-` is standard input.")],
    if_version: IfVersion = None,
    why: Note = None,
    as_json: AsJson = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Hold messages of a type to a JSON Schema, from the next one on.

    What does not fit is refused, or only counted where the topic's policy says `schemas=count`.

    Examples:
      hubbub schema set research task task.json
      echo '{"required": ["task"]}' | hubbub schema set research task -
    """
    made = change(
        "PUT",
        f"{PATH}/{group}/{type}",
        read_json(file),
        agent=agent,
        why=why,
        version=if_version,
        url=url,
        token=token,
        timeout=timeout,
    )
    emit(json.dumps(made) if as_json else f"{group} {type} version {made['version']}")


@ends_well
def schema_drop(
    group: Group,
    type: Type,
    if_version: IfVersion = None,
    why: Note = None,
    yes: Yes = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Hold messages of a type to nothing any more.

    Examples:
      hubbub schema drop research task --yes
    """
    if not yes:
        confirmed(f"Drop the schema of {type} in {group}?")
    change(
        "DELETE",
        f"{PATH}/{group}/{type}",
        None,
        agent=agent,
        why=why,
        version=if_version,
        url=url,
        token=token,
        timeout=timeout,
    )
    note(f"{group} {type} is dropped")


@ends_well
def schema_check(
    group: Group,
    type: Type,
    data: Annotated[Path, typer.Argument(help="A file with the data of a message; `-` is standard input.")],
    schema: Annotated[
        Path | None, typer.Option("--schema", "-s", help="A schema that is not set yet, instead of the one in force.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Hold data to a schema without publishing it. Exit code 1 if it does not fit.

    Examples:
      hubbub schema check research task message.json
      hubbub schema check research task message.json --schema stricter.json
    """
    body: dict[str, Any] = {"group": group, "type": type, "data": read_json(data)}
    if schema is not None:
        body["schema"] = read_json(schema)
    outcome = post(url, "/v1/schemas/test", body, timeout, token)
    emit(json.dumps(outcome) if as_json else "it fits" if outcome["fits"] else printable(outcome["reason"]))
    if not outcome["fits"]:
        raise typer.Exit(ExitCode.FAILED)


@ends_well
def schema_history(
    group: Group,
    type: Type,
    limit: Limit = 50,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """List who set or dropped a schema, when, to what and why; newest first, as far back as the log keeps it.

    Examples:
      hubbub schema history research task
    """
    show_history(f"{PATH}/{group}/{type}", "schema", limit, as_json, url, token, timeout)
