"""`hubbub agents`: who there is."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from .exit_code import ExitCode, Failure, ends_well
from .http import get
from .options import DEFAULT_URL, AsJson, Timeout, Token, Url
from .output import emit, printable, table

PAGE = 1000


@ends_well
def agents(
    capability: Annotated[str | None, typer.Option("--capability", "-C", help="Those that can do this.")] = None,
    group: Annotated[str | None, typer.Option("--group", "-g", help="Those of this group.")] = None,
    online: Annotated[
        bool | None, typer.Option("--online/--offline", help="Those that are connected now, or are not.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """List the registered agents: whoever has said hello, read its inbox, or was registered by hand. While the control
    plane is there, with their state (idle, busy, slow, deaf, gone) and load, and what they are at work on.

    Examples:
      hubbub agents --online
      hubbub agents --capability search --json
    """
    query = {"capability": capability, "group": group, "online": None if online is None else str(online).lower()}
    wanted = {name: value for name, value in query.items() if value is not None}
    found = list(_find(url, "/v1/agents", wanted, timeout, token))
    told = _told(url, {name: value for name, value in wanted.items() if name != "online"}, timeout, token)
    for item in found:
        item["control"] = told.get(item["agent"])
    if as_json:
        for item in found:
            emit(json.dumps(item, ensure_ascii=False))
        return
    table(
        ("agent", "inbox", "online", "last seen", "can", "is", "state", "load", "at work on"),
        [
            (
                item["agent"],
                item["inbox"],
                "yes" if item["online"] else "no",
                datetime.fromtimestamp(item["seen"], UTC).astimezone().isoformat(sep=" ", timespec="seconds"),
                printable(", ".join(item["capabilities"])),
                printable(item["description"]),
                *_load(item["control"]),
            )
            for item in found
        ],
    )


def _told(url: str, query: dict[str, Any], timeout: float, token: str | None) -> dict[str, dict[str, Any]]:
    """What the control plane knows of the agents; nothing while there is none."""
    try:
        return {item["agent"]: item for item in _find(url, "/v1/control/agents", query, timeout, token)}
    except Failure as failure:
        if failure.code is ExitCode.UNREACHABLE:
            raise
        return {}


def _load(told: dict[str, Any] | None) -> tuple[str, str, str]:
    if told is None:
        return "-", "-", ""
    state = told["state"] + (" (paused)" if told["paused"] else "")
    load = f"{told['running'] + told['waiting']}/{told['room']}" if told["reports"] else "-"
    return state, load, printable(", ".join(f"{task['topic']} {task['id']}" for task in told["tasks"]))


def _find(url: str, path: str, query: dict[str, Any], timeout: float, token: str | None) -> Iterator[dict[str, Any]]:
    offset = 0
    while True:
        page = get(url, path, query | {"offset": offset, "limit": PAGE}, timeout, token)
        yield from page["agents"]
        offset += len(page["agents"])
        if not page["agents"] or offset >= page["total"]:
            return
