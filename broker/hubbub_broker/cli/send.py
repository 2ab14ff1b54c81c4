"""`hubbub send`: mail to an agent."""

import json
import sys
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from .exit_code import ExitCode, Failure, ends_well
from .http import post
from .options import DEFAULT_URL, AsJson, Timeout, Token, Url, default_agent
from .output import emit

Sender = Annotated[
    str | None,
    typer.Option("--from", "-f", envvar="HUBBUB_AGENT", help="Who sends it; your user name if not given."),
]


@ends_well
def send(
    to: Annotated[str, typer.Argument(help="An agent's name, or ALL: everyone but the sender.")],
    body: Annotated[str | None, typer.Argument(help="What it says. `-`: what stdin says.")] = None,
    subject: Annotated[str, typer.Option("--subject", "-S", help="What it is about.")] = "",
    sender: Sender = None,
    id: Annotated[str | None, typer.Option("--id", help="The same id is sent once, however often you send it.")] = None,
    in_reply_to: Annotated[
        str | None,
        typer.Option("--in-reply-to", help="The id of the mail in the sender's inbox that this one answers."),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Keep it for an agent that has never been there.")] = False,
    file: Annotated[Path | None, typer.Option("--file", help="Read what it says from this file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Send a mail, and wait until it is on stable storage. Prints to whom it went, its place there, and its id.

    Examples:
      hubbub send jack 'Handle blog publishing' --subject Task
      hubbub send ALL 'The build is green' --from ci
      hubbub send jack --subject Report --file report.md
      hubbub send joe 'It is done' --from jack --in-reply-to 018f-7
      git log -1 | hubbub send jack - --subject 'Last commit' --id "$(git rev-parse HEAD)"
    """
    id = id or str(uuid4())
    mail = {"from": sender or default_agent(), "to": to, "subject": subject, "body": _body(body, file), "id": id}
    try:
        answer = post(url, "/api/send", mail | {"create": create, "in_reply_to": in_reply_to}, timeout, token)
    except Failure as failure:
        if failure.code is ExitCode.UNREACHABLE:  # it may have arrived, and its answer not
            raise Failure(f"{failure}\nsend it again with --id {id}: it arrives once", failure.code) from None
        raise
    if as_json:
        emit(json.dumps(answer))
    elif not quiet:
        place = f"#{answer['seq']}" if answer.get("seq") else f"{answer.get('recipients', 0)} recipients"
        emit(f"{answer['to']} {place} {answer['id']}" + (" (duplicate)" if answer.get("dup") else ""))


def _body(body: str | None, file: Path | None) -> str:
    if file is not None:
        if body is not None:
            raise Failure("say the body or --file, not both", ExitCode.USAGE)
        try:
            return file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"can't read {file}: {error}") from None
    if body == "-":
        return sys.stdin.read()
    return body or ""
