"""`hubbub dlq`: dead letters: look, redrive, drop."""

import json
import time
from typing import Annotated, Any

import typer

from .asking import confirmed
from .exit_code import ExitCode, Failure, ends_well
from .http import ask, fetch, get
from .options import DEFAULT_URL, AsJson, Timeout, Token, Url, Yes
from .output import emit, note, printable, table
from .when import ago, when

PAGE = 1000

Group = Annotated[str, typer.Argument(help="The group whose dead letters they are.")]
Seqs = Annotated[list[int] | None, typer.Argument(help="The letters, by their seq.", min=1)]
OfConsumer = Annotated[str | None, typer.Option("--consumer", help="Only what this consumer could not deal with.")]
OfTopic = Annotated[str | None, typer.Option("--topic", help="Only messages of this topic.")]
Every = Annotated[bool, typer.Option("--all", help="Every open one; with --consumer or --topic, of those.")]


@ends_well
def dlq_list(
    group: Group,
    consumer: OfConsumer = None,
    topic: OfTopic = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Letters at most.")] = 1000,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """List the open dead letters of a group: messages that no consumer could deal with, oldest first.

    Examples:
      hubbub dlq list research
      hubbub dlq list research --consumer workers --json | jq -r .reason | sort | uniq -c
    """
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None and len(found) < limit:
        query: dict[str, Any] = {"after": after, "limit": min(PAGE, limit - len(found))}
        query |= {name: value for name, value in (("consumer", consumer), ("topic", topic)) if value is not None}
        page = get(url, f"/v1/dead/{group}", query, timeout, token)
        found += page["letters"]
        after = page["next"]
    if as_json:
        for letter in found:
            emit(json.dumps(letter))
        return
    table(
        ("seq", "when", "topic", "message", "consumer", "attempts", "reason"),
        [
            (
                str(letter["seq"]),
                f"{ago(letter['ts'], time.time())} ago",
                letter["topic"],
                f"#{letter['message']}",
                letter["consumer"],
                str(letter["attempts"]),
                printable(letter["reason"]),
            )
            for letter in found
        ],
    )


@ends_well
def dlq_show(
    group: Group,
    seq: Annotated[int, typer.Argument(help="The letter's seq.", min=1)],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Show one dead letter: what it is about, why, and the message itself.

    Examples:
      hubbub dlq show research 4
      hubbub dlq show research 4 --json | jq .letter.data
    """
    from hubbub_protocol.codec import decode_value, members_of

    from .written import as_written

    text = fetch("GET", url, f"/v1/dead/{group}/{seq}", {}, timeout, token)
    if as_json:
        emit(text.decode())
        return
    fields = members_of(text) or {}
    letter = members_of(fields.pop("letter", b"")) or {}
    found = {name: decode_value(value) for name, value in fields.items()}
    data = as_written(letter["data"]) if "data" in letter else f"{len(letter.get('data_base64', b'')) * 3 // 4} bytes"
    for label, value in (
        ("reason", found["reason"]),
        ("attempts", str(found["attempts"])),
        ("failed", f"first {when(found['first_failure'])}, last {when(found['last_failure'])}"),
        ("consumer", f"{found['consumer']} of {found['consumer_topic']}"),
        ("message", f"{found['topic']}#{found['message']}, id {found['id']}, from {found['from']}"),
        ("data", data),
    ):
        emit(f"{label:9} {printable(value)}")


@ends_well
def dlq_redrive(
    group: Group,
    seqs: Seqs = None,
    every: Every = False,
    consumer: OfConsumer = None,
    topic: OfTopic = None,
    republish: Annotated[
        bool, typer.Option("--republish", help="Publish copies as new messages, for all who read the topic.")
    ] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 60.0,
) -> None:
    """Give messages back to the consumer that could not deal with them, and to no other. Their attempts begin again.

    Where retention took the message, or the consumer is gone, --republish publishes the copy that the letter holds.
    Exit code 1 if some letters stay open.

    Examples:
      hubbub dlq redrive research 4 7
      hubbub dlq redrive research --all --consumer workers
      hubbub dlq redrive research 4 --republish
    """
    body = _which(seqs, every, consumer, topic) | ({"republish": True} if republish else {})
    _handle("redrive", "redriven", url, group, body, timeout, token, as_json)


@ends_well
def dlq_drop(
    group: Group,
    seqs: Seqs = None,
    every: Every = False,
    consumer: OfConsumer = None,
    topic: OfTopic = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 60.0,
    yes: Yes = False,
) -> None:
    """Take letters as handled, without another word. They stay readable in GROUP/_dead.

    Examples:
      hubbub dlq drop research 4 7
      hubbub dlq drop research --all --topic research/conv-42 --yes
    """
    body = _which(seqs, every, consumer, topic)
    if every and not yes:
        of = "".join(f" of {each}" for each in (consumer, topic) if each is not None)
        confirmed(f"Drop every open dead letter{of} in {group}?")
    _handle("drop", "dropped", url, group, body, timeout, token, as_json)


def _which(seqs: list[int] | None, every: bool, consumer: str | None, topic: str | None) -> dict[str, Any]:
    if bool(seqs) == every:
        raise Failure("which letters? Give their seqs, or say --all", ExitCode.USAGE)
    if seqs:
        if consumer is not None or topic is not None:
            raise Failure("--consumer and --topic go with --all", ExitCode.USAGE)
        return {"seqs": seqs}
    given = {name: value for name, value in (("consumer", consumer), ("topic", topic)) if value is not None}
    return {"all": True, **given}


def _handle(
    what: str,
    done: str,
    url: str,
    group: str,
    body: dict[str, Any],
    timeout: float,
    token: str | None,
    as_json: bool,
) -> None:
    total = {"done": 0, "already": 0, "refused": 0}
    refusals: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = {"after": after} if body.get("all") else {}
        answer = ask("POST", url, f"/v1/dead/{group}/{what}", {}, timeout, token, body | page)
        total = {name: count + answer[name] for name, count in total.items()}
        refusals += answer["refusals"]
        after = answer["next"]
    if as_json:
        emit(json.dumps({**total, "refusals": refusals}))
    else:
        already = f", {total['already']} not open" if total["already"] else ""
        note(f"{total['done']} {done}{already}")
    if total["refused"]:
        lines = [f"{each['seq']}: {each['message']}" for each in refusals[:10]]
        raise Failure("\n".join([f"{total['refused']} letters stay open", *lines]))
