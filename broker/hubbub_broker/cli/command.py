"""`hubbub command` and `hubbub commands`: order something of agents, and see what became of it."""

import json
from typing import Annotated, Any

import typer

from .exit_code import ExitCode, Failure, ends_well
from .http import ask, get
from .options import DEFAULT_URL, AgentName, AsJson, Timeout, Token, Url, default_agent
from .output import compact, emit, note, printable, table
from .when import when

PATH = "/v1/control/commands"


@ends_well
def command(
    do: Annotated[str, typer.Argument(help="pause, resume, drain, configure, ping, cancel, or the agents' own.")],
    args: Annotated[str, typer.Argument(help="What goes with it: a JSON object.")] = "{}",
    to: Annotated[str | None, typer.Option("--to", "-t", help="One agent.")] = None,
    group: Annotated[str | None, typer.Option("--group", "-g", help="Every agent of a group.")] = None,
    capability: Annotated[str | None, typer.Option("--capability", "-C", help="Every agent that can do this.")] = None,
    within: Annotated[float, typer.Option(help="Seconds until its deadline.", min=0.1, max=3600)] = 30.0,
    wait: Annotated[float, typer.Option(help="Seconds to wait for answers.", min=0, max=60)] = 5.0,
    agent: AgentName = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Command agents, and tell what they answer. An agent obeys once, before the deadline or not at all.

    `cancel` calls off a message and everything that grew from it, through every agent that it reached. Exit code 1 if
    somebody did not obey, or has not answered yet.

    Examples:
      hubbub command pause --group research
      hubbub command drain --to joe --wait 30
      hubbub command configure '{"log_level": "debug"}' --capability search
      hubbub command cancel '{"topic": "research/tasks", "id": "t-42", "reason": "too dear"}'
    """
    try:
        given = json.loads(args)
    except ValueError as error:
        raise Failure(f"{args}: a JSON object is wanted ({error})", ExitCode.USAGE) from None
    named = {"agent": to, "group": group, "capability": capability}
    body: dict[str, Any] = {"do": do, "args": given, "within": within, "wait": wait}
    target = {name: value for name, value in named.items() if value is not None}
    if target:
        body["to"] = target
    by = {} if token else {"by": agent or default_agent()}
    found = ask("POST", url, PATH, by, timeout + wait, token, body)
    if as_json:
        emit(json.dumps(found, ensure_ascii=False))
    else:
        _show(found)
    cancelled = do == "cancel"
    if any(answer["state"] != "obeyed" for answer in found["answers"]) or not (found["answers"] or cancelled):
        raise typer.Exit(ExitCode.FAILED)


@ends_well
def commands(
    agent: Annotated[str | None, typer.Option("--to", "-t", help="Those that were for this agent.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Commands at most.", min=1, max=1000)] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """List who ordered what of whom, and what became of it: newest first.

    Examples:
      hubbub commands
      hubbub commands --to joe --json
    """
    query = {"limit": limit} | ({} if agent is None else {"agent": agent})
    found = get(url, PATH, query, timeout, token)["commands"]
    if as_json:
        for each in found:
            emit(json.dumps(each, ensure_ascii=False))
        return
    rows = [
        (each["id"][:12], when(each["at"]), printable(each["by"]), each["do"], _whom(each), _tally(each))
        for each in found
    ]
    table(("command", "when", "by", "do", "to", "answers"), rows)


def _show(found: dict[str, Any]) -> None:
    note(f"{found['do']} to {_whom(found)}: command {found['id']}")
    rows = [
        (
            answer["agent"],
            answer["state"],
            printable(answer["reason"] or ("" if answer["result"] is None else compact(answer["result"]))),
        )
        for answer in found["answers"]
    ]
    if rows:
        table(("agent", "state", ""), rows)


def _whom(found: dict[str, Any]) -> str:
    return printable(" ".join(f"{name} {value}" for name, value in found["to"].items()))


def _tally(found: dict[str, Any]) -> str:
    counts: dict[str, int] = {}
    for answer in found["answers"]:
        counts[answer["state"]] = counts.get(answer["state"], 0) + 1
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"
