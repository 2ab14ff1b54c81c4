"""`hubbub consumers`: where they stand, and what an operator does about it."""

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from .asking import confirmed
from .exit_code import ExitCode, Failure, ends_well
from .http import ask, get
from .options import DEFAULT_URL, AsJson, Timeout, Token, Url, Yes
from .output import emit, note, table
from .when import ago, when

PAGE = 100

Topic = Annotated[str, typer.Argument(help="The consumer's topic or pattern.")]
Name = Annotated[str, typer.Argument(help="The consumer's name.")]


@ends_well
def consumers_list(
    pattern: Annotated[
        str, typer.Argument(help="Of which topics: `*` is one whole segment, a last `**` the rest.")
    ] = "**",
    name: Annotated[str | None, typer.Option("--name", help="Only those of this name.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Consumers at most.")] = 1000,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """List the consumers: members, messages out, waiting to come again, and behind.

    Examples:
      hubbub consumers list
      hubbub consumers list 'research/*' --json
      hubbub consumers list --name workers
    """
    found = list(_find(url, pattern, name, limit, timeout, token))
    if as_json:
        for item in found:
            emit(json.dumps(item))
        return
    table(
        ("topic", "name", "members", "behind", "oldest", "out", "waiting", "acked", "dead", ""),
        [
            (
                item["topic"],
                item["name"],
                str(len(item["members"])),
                str(item["lag"]),
                ago(item["oldest"], time.time()),
                str(item["outstanding"]),
                str(item["waiting"]),
                str(item["acked"]),
                str(item["dead"]),
                "paused" if item["paused"] else "",
            )
            for item in found
        ],
    )


@ends_well
def consumers_show(
    topic: Topic,
    name: Name,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Show one consumer: its terms, its members, and how far behind it is.

    Examples:
      hubbub consumers show research/tasks workers
      hubbub consumers show 'research/*' workers --json | jq .lag
    """
    _show(get(url, _path(topic), {"name": name}, timeout, token), as_json)


@ends_well
def consumers_reset(
    topic: Topic,
    name: Name,
    to: Annotated[str, typer.Option("--to", help="all, new, a seq, or a time: 2026-11-21T14:00, or 90m for that ago.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
    yes: Yes = False,
) -> None:
    """Let a consumer begin again elsewhere: a pattern's in all of its topics at once.

    Its members stay. What they have out is theirs no longer, and comes again if it lies behind the new start. What
    they have done comes again, too, and agents of the SDK do it again.

    Examples:
      hubbub consumers reset research/tasks workers --to all
      hubbub consumers reset research/tasks workers --to 1200
      hubbub consumers reset 'research/*' workers --to 90m --yes
      hubbub consumers reset research/tasks workers --to new
    """
    start = _start(to)
    if not yes:
        found = get(url, _path(topic), {"name": name}, timeout, token)
        confirmed(f"{name} of {topic} is {found['lag']} messages behind. Let it begin again at {to}?")
    _show(ask("POST", url, f"{_path(topic)}/reset", {"name": name}, timeout, token, {"from": start}), as_json)


@ends_well
def consumers_pause(
    topic: Topic,
    name: Name,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Give out nothing more, until `resume`. What is out can be settled.

    Examples:
      hubbub consumers pause research/tasks workers
    """
    _show(ask("POST", url, f"{_path(topic)}/pause", {"name": name}, timeout, token), as_json)


@ends_well
def consumers_resume(
    topic: Topic,
    name: Name,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Let a consumer that was paused go on.

    Examples:
      hubbub consumers resume research/tasks workers
    """
    _show(ask("POST", url, f"{_path(topic)}/resume", {"name": name}, timeout, token), as_json)


@ends_well
def consumers_remove(
    topic: Topic,
    name: Name,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
    yes: Yes = False,
) -> None:
    """Take a consumer away, with its position in every topic. The messages stay.

    Members are told, and are members no more; the next one that asks for that name begins anew.

    Examples:
      hubbub consumers remove research/tasks workers
      hubbub consumers remove 'research/*' workers --yes
    """
    if not yes:
        found = get(url, _path(topic), {"name": name}, timeout, token)
        behind = f"{found['lag']} messages that it has not done" if found["lag"] else "nothing undone"
        confirmed(f"{name} of {topic} has {len(found['members'])} members and {behind}. Remove it?")
    removed = ask("DELETE", url, _path(topic), {"name": name}, timeout, token)
    if as_json:
        emit(json.dumps(removed))
    else:
        note(f"{name} of {topic} is gone, with {removed['positions']} positions")


def _find(
    url: str, pattern: str, name: str | None, limit: int, timeout: float, token: str | None
) -> Iterator[dict[str, Any]]:
    offset = 0
    while offset < limit:
        query: dict[str, Any] = {"offset": offset, "limit": min(PAGE, limit - offset)}
        query |= {"topic": pattern} if pattern != "**" else {}
        query |= {"name": name} if name is not None else {}
        page = get(url, "/v1/consumers", query, timeout, token)
        yield from page["consumers"]
        offset += PAGE
        if offset >= page["total"]:
            return


def _show(item: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(json.dumps(item))
        return
    now = time.time()
    shared = "exclusive" if item["exclusive"] else f"in order of {item['ordered']}" if item["ordered"] else "shared"
    for label, value in (
        ("topic", item["topic"]),
        ("name", item["name"]),
        ("state", "paused" if item["paused"] else "running"),
        ("made", f"{when(item['created'])}, from {item['start']}"),
        ("members", f"{len(item['members'])}, {shared}"),
        ("behind", f"{item['lag']} messages in {item['topics']} topics, the oldest {ago(item['oldest'], now)}"),
        ("out", str(item["outstanding"])),
        ("waiting", str(item["waiting"])),
        ("acked", f"{item['acked']} since the broker's start"),
        ("redelivered", str(item["redelivered"])),
        ("dead", str(item["dead"])),
        ("max_deliver", str(item["max_deliver"] or "no end")),
        ("backoff", " ".join(f"{wait:g}s" for wait in item["backoff"])),
    ):
        emit(f"{label:12} {value}")
    if item["members"]:
        emit("")
        table(
            ("agent", "session", "since", "out", "of", "ack_wait"),
            [
                (
                    member["agent"],
                    member["session"],
                    when(member["since"]),
                    str(member["outstanding"]),
                    str(member["max_unacked"]),
                    f"{member['ack_wait']:g}s",
                )
                for member in item["members"]
            ],
        )


def _path(topic: str) -> str:
    return f"/v1/consumers/{topic}"


def _start(to: str) -> str | dict[str, float]:
    """What `--to` means, as the broker takes it."""
    from datetime import datetime

    from hubbub_broker.quantity import parse_duration

    if to in ("all", "new"):
        return to
    if to.isdecimal():
        return {"seq": int(to)}
    try:
        return {"since": datetime.fromisoformat(to).timestamp()}
    except ValueError:
        pass
    try:
        return {"since": time.time() - parse_duration(to)}
    except ValueError:
        raise Failure(
            f"--to {to}: all, new, a seq, or a time is wanted (2026-11-21T14:00, 90m)", ExitCode.USAGE
        ) from None
