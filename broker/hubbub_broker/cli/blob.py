"""`hubbub blob`: large bodies, put beside the messages that refer to them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .client import connected
from .exit_code import ExitCode, Failure, ends_well
from .options import DEFAULT_URL, AgentName, AsJson, Timeout, Token, Url
from .output import emit

if TYPE_CHECKING:
    from hubbub_protocol.blobs import BlobRef

READ_BYTES = 1 << 20
"""What is read from stdin in one go."""


@ends_well
def blob_put(
    group: Annotated[str, typer.Argument(help="The group whose agents are to fetch it.")],
    file: Annotated[str, typer.Argument(help="A file, or `-`: stdin.")],
    name: Annotated[str, typer.Option("--name", "-n", help="What it is called; the file's name if not given.")] = "",
    media_type: Annotated[str, typer.Option("--type", help="What it is; by its name if not given.")] = "",
    as_json: AsJson = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Store a large body, and print its hash (with --json, the reference for a message's header `attachments`).

    The same content is stored once; what an interrupted upload has left is gone on with.

    Examples:
      hubbub blob put research report.pdf
      pg_dump orders | hubbub blob put backups - --name orders.sql
      hubbub pub research/conv-42 '"done"' --attach "$(hubbub blob put research report.pdf --json)"
    """
    asyncio.run(_put(group, file, name, media_type, as_json, agent, url, token, timeout))


async def _put(
    group: str,
    file: str,
    name: str,
    media_type: str,
    as_json: bool,
    agent: str | None,
    url: str,
    token: str | None,
    timeout: float,
) -> None:
    from hubbub_protocol.codec import encode_value

    source = _stdin() if file == "-" else Path(file)
    async with connected(url, agent, token, timeout) as speaker:
        try:
            ref = await speaker.attach(group, source, name=name, media_type=media_type)
        except OSError as error:
            raise Failure(f"can't read {file}: {error.strerror or error}") from None
        except ValueError as error:
            raise Failure(str(error)) from None
    emit(encode_value(ref).decode() if as_json else ref.sha256)


@ends_well
def blob_get(
    group: Annotated[str, typer.Argument(help="The group that it is in.")],
    sha256: Annotated[str, typer.Argument(help="Its hash, as `blob put` printed it.")],
    out: Annotated[str, typer.Option("--out", "-o", help="A file, or `-`: stdout.")] = "-",
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Fetch a large body. It is checked against its hash: a file is there when it is whole, and not before.

    Examples:
      hubbub blob get research 9f86d0… --out report.pdf
      hubbub blob get backups 60303a… | psql orders
    """
    asyncio.run(_get(group, sha256, out, agent, url, token, timeout))


async def _get(
    group: str, sha256: str, out: str, agent: str | None, url: str, token: str | None, timeout: float
) -> None:
    async with connected(url, agent, token, timeout) as speaker:
        blob = speaker.blob(await speaker.find_blob(group, sha256))
        try:
            if out != "-":
                await blob.fetch_to(out)
                return
            async for piece in blob:
                await asyncio.to_thread(sys.stdout.buffer.write, piece)
            sys.stdout.flush()
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise Failure(f"can't write {out}: {error.strerror or error}") from None


async def _stdin() -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(sys.stdin.buffer.read, READ_BYTES):
        yield piece


def attachments_of(given: list[str] | None) -> list[BlobRef]:
    """References on the command line, as `blob put --json` prints them.

    Raises:
        Failure: one is none.
    """
    from hubbub_protocol.blobs import refs_of

    found: list[BlobRef] = []
    for text in given or ():
        try:
            refs = refs_of([json.loads(text)])
        except ValueError:
            refs = []
        if not refs:
            raise Failure(f"--attach {text[:80]}: what `hubbub blob put --json` prints is wanted", ExitCode.USAGE)
        found += refs
    return found
