"""`hubbub workflow`: run a declared workflow, see where its instances stand, and order what becomes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .client import connected
from .exit_code import ExitCode, Failure, ends_well
from .options import DEFAULT_URL, AgentName, AsJson, Timeout, Token, Url
from .output import compact, emit, note, printable, table
from .when import when

if TYPE_CHECKING:
    from hubbub.workflows import Change, Flow, Instance, Status, Workflow

Where = Annotated[str, typer.Argument(metavar="GROUP/NAME", help="The workflow.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The instance.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The declaration, in TOML.", dir_okay=False)]
Why = Annotated[str, typer.Option("--why", "-w", help="A reason, for the history.")]


@ends_well
def workflow_list(
    where: Where,
    status: Annotated[
        str | None, typer.Option("--status", help="running, paused, compensating, done, failed or cancelled.")
    ] = None,
    state: Annotated[str | None, typer.Option("--state", help="Those that are in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Instances at most.")] = 1000,
    as_json: AsJson = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """List the instances of a workflow, in the order of their ids.

    Examples:
      hubbub workflow list research/report
      hubbub workflow list research/report --status failed --json
    """
    wanted = _status(status)

    async def run() -> None:
        async with _flow(where, agent, url, token, timeout) as flow:
            found, more = await _find(flow, wanted, state, limit)
        if as_json:
            for item in found:
                emit(json.dumps(_fields(item)))
        else:
            table(("instance", "status", "state", "since", "changes", "why"), [_row(item) for item in found])
        if more:
            note(f"-- there are more: --limit is {limit}")

    asyncio.run(run())


@ends_well
def workflow_show(
    where: Where,
    id: Id,
    as_json: AsJson = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Show where an instance stands, its data, and how it came there: who, when, from, to and why.

    Examples:
      hubbub workflow show research/report r-42
      hubbub workflow show research/report r-42 --json | jq .data
    """

    async def run() -> None:
        async with _flow(where, agent, url, token, timeout) as flow:
            instance = await flow.get(id)
            history = await flow.history(id)
        if as_json:
            emit(json.dumps(_fields(instance) | {"history": [_told(change) for change in history]}))
            return
        for name, value in _fields(instance).items():
            emit(f"{name}: {printable(value if isinstance(value, str) else compact(value))}")
        for change in history:
            emit(_line(change))

    asyncio.run(run())


@ends_well
def workflow_watch(
    where: Where,
    id: Id,
    as_json: AsJson = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Print every change of an instance, from its first on, until it is at an end.

    Examples:
      hubbub workflow watch research/report r-42
    """

    async def run() -> None:
        async with _flow(where, agent, url, token, timeout) as flow:
            async for change in flow.watch(id):
                emit(json.dumps(_told(change)) if as_json else _line(change))

    asyncio.run(run())


@ends_well
def workflow_start(
    file: File,
    id: Id,
    data: Annotated[str, typer.Argument(metavar="DATA", help="What it is started with: a JSON object.")] = "{}",
    group: Annotated[str, typer.Option("--group", "-g", help="The group of agents that it is in.")] = "agents",
    as_json: AsJson = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Start an instance of a workflow that is declared in a file.

    Examples:
      hubbub workflow start report.toml r-42 '{"question": "why?"}' --group research
    """
    model, given = _load(file), _object(data)

    async def run() -> None:
        from hubbub.workflows import Flow

        async with connected(url, agent, token, timeout) as speaker:
            _print(await Flow(speaker, model, group=group).start(id, given), as_json)

    asyncio.run(run())


@ends_well
def workflow_run(
    file: File,
    group: Annotated[str, typer.Option("--group", "-g", help="The group of agents that it is in.")] = "agents",
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Coordinate a workflow that is declared in a file, until interrupted.

    As many of these as you like may run, here and elsewhere; they share the work, and any of them may die.

    Examples:
      hubbub workflow run report.toml --group research --agent coordinator-1
    """
    model = _load(file)

    async def run() -> None:
        from hubbub.workflows import Coordinator

        async with connected(url, agent, token, timeout) as speaker:
            note(f"-- {speaker.name} coordinates {group}/{model.name}")
            await Coordinator(speaker, model, group=group).run()

    asyncio.run(run())


@ends_well
def workflow_diagram(
    what: Annotated[str, typer.Argument(metavar="FILE|GROUP/NAME", help="The declaration, or the workflow.")],
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="An instance, to show where it stands.")] = None,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Draw a workflow as a Mermaid state diagram: of a file, as it was declared last at the broker, or of an instance,
    with the way that it came.

    Examples:
      hubbub workflow diagram report.toml
      hubbub workflow diagram research/report
      hubbub workflow diagram research/report r-42 > r-42.mmd
    """
    if id is None and (Path(what).exists() or Path(what).suffix == ".toml" or what.count("/") != 1):
        from hubbub.workflows import mermaid

        emit(mermaid(_load(Path(what))).rstrip("\n"))
        return

    async def run() -> None:
        async with _flow(what, agent, url, token, timeout) as flow:
            emit((await flow.diagram(id)).rstrip("\n"))

    asyncio.run(run())


@ends_well
def workflow_retry(
    where: Where,
    id: Id,
    why: Why = "",
    as_json: AsJson = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Let an instance that has failed go on from where it failed.

    Examples:
      hubbub workflow retry research/report r-42 --why 'the service is back'
    """
    _order("retry", where, id, why, as_json, agent, url, token, timeout)


@ends_well
def workflow_pause(
    where: Where,
    id: Id,
    why: Why = "",
    as_json: AsJson = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Let an instance give out no more tasks until it is resumed. Its time-outs stand still.

    Examples:
      hubbub workflow pause research/report r-42
    """
    _order("pause", where, id, why, as_json, agent, url, token, timeout)


@ends_well
def workflow_resume(
    where: Where,
    id: Id,
    why: Why = "",
    as_json: AsJson = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Let an instance that is paused go on.

    Examples:
      hubbub workflow resume research/report r-42
    """
    _order("resume", where, id, why, as_json, agent, url, token, timeout)


@ends_well
def workflow_cancel(
    where: Where,
    id: Id,
    why: Why = "",
    as_json: AsJson = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """End an instance. What it did is undone first, where the workflow says how.

    Examples:
      hubbub workflow cancel research/report r-42 --why 'nobody needs it'
    """
    _order("cancel", where, id, why, as_json, agent, url, token, timeout)


def _order(
    order: str,
    where: str,
    id: str,
    why: str,
    as_json: bool,
    agent: str | None,
    url: str,
    token: str | None,
    timeout: float,
) -> None:
    async def run() -> None:
        from hubbub.workflows import Order

        async with _flow(where, agent, url, token, timeout) as flow:
            _print(await flow.order(id, Order(order), why), as_json)

    asyncio.run(run())


@asynccontextmanager
async def _flow(where: str, agent: str | None, url: str, token: str | None, timeout: float) -> AsyncIterator[Flow]:
    from hubbub.workflows import Flow

    group, slash, name = where.partition("/")
    if not slash or not group or not name:
        raise Failure(f"{where}: GROUP/NAME of a workflow is wanted", ExitCode.USAGE)
    async with connected(url, agent, token, timeout) as speaker:
        yield Flow(speaker, name, group=group)


def _status(text: str | None) -> Status | None:
    from hubbub.workflows import Status

    try:
        return None if text is None else Status(text)
    except ValueError:
        raise Failure(f"--status {text}: one of {', '.join(Status)} is wanted", ExitCode.USAGE) from None


async def _find(flow: Flow, wanted: Status | None, state: str | None, limit: int) -> tuple[list[Instance], bool]:
    found: list[Instance] = []
    after: str | None = None
    while True:
        page, after = await flow.instances(wanted, state=state, after=after)
        found += page
        if after is None or len(found) > limit:
            return found[:limit], len(found) > limit


def _load(file: Path) -> Workflow:
    from hubbub.workflows import InvalidWorkflow, Workflow

    try:
        return Workflow.load(file)
    except InvalidWorkflow as error:
        raise Failure("\n".join(f"{file}: {problem}" for problem in error.problems), ExitCode.USAGE) from None
    except OSError as error:
        raise Failure(f"{file}: {error.strerror or error}") from None


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Failure(f"DATA is no JSON: {error}", ExitCode.USAGE) from None
    if not isinstance(found, dict):
        raise Failure("DATA is a JSON object: what it is started with, by name", ExitCode.USAGE)
    return found


def _fields(instance: Instance) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": instance.id,
        "workflow": instance.workflow,
        "status": str(instance.status),
        "state": instance.state,
        "since": when(instance.since),
        "started": when(instance.started),
        "changes": instance.n,
        "due": None if instance.due is None else when(instance.due),
        "why": instance.why,
        "tasks": [
            {"handler": task.handler, "attempt": task.attempt, "status": task.status, "error": task.error}
            for task in instance.tasks
        ],
        "data": instance.data,
    }
    return fields


def _row(instance: Instance) -> tuple[str, ...]:
    return (
        instance.id,
        str(instance.status),
        instance.state,
        when(instance.since),
        str(instance.n),
        printable(instance.why),
    )


def _print(instance: Instance, as_json: bool) -> None:
    emit(json.dumps(_fields(instance)) if as_json else f"{instance.id} {instance.status} {instance.state}")


def _told(change: Change) -> dict[str, Any]:
    return {
        "n": change.n,
        "at": change.at,
        "from": change.source,
        "to": change.target,
        "cause": change.cause,
        "by": change.by,
        "why": change.why,
    }


def _line(change: Change) -> str:
    way = change.target if change.source in (None, change.target) else f"{change.source} -> {change.target}"
    why = f" ({printable(change.why)})" if change.why else ""
    return f"{when(change.at)} #{change.n} {way}: {printable(change.cause)} by {change.by}{why}"
