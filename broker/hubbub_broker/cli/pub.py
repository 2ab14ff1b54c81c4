"""`hubbub pub`: publish messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .blob import attachments_of
from .client import connected
from .exit_code import ExitCode, Failure, ends_well
from .options import DEFAULT_URL, AgentName, AsJson, Timeout, Token, Url
from .output import emit

if TYPE_CHECKING:
    from hubbub import Receipt
    from hubbub.message import PublishOptions

WINDOW = 1000
"""Messages that may be under way before the oldest receipt is waited for."""


@ends_well
def pub(
    topic: Annotated[str, typer.Argument(help="GROUP/CONVERSATION.")],
    data: Annotated[
        list[str],
        typer.Argument(help="One message each: JSON, or any other text as a string. `-`: a line of stdin each."),
    ],
    type: Annotated[str | None, typer.Option("--type", help="The messages' type.")] = None,
    parent: Annotated[str | None, typer.Option("--parent", help="The id of the message that these answer.")] = None,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Only for those who listen now; not stored.")] = False,
    attach: Annotated[
        list[str] | None,
        typer.Option("--attach", help="A large body they refer to: what `blob put --json` printed. May be repeated."),
    ] = None,
    ttl: Annotated[float | None, typer.Option("--ttl", min=0.001, help="Seconds after which they expire.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Take everything as text, JSON too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
    as_json: AsJson = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Publish, and wait until every message is on stable storage. Prints the seq and the id that each got.

    Examples:
      hubbub pub research/conv-42 '{"text": "hello"}'
      hubbub pub research/conv-42 'plain text is fine' --type note
      tail -f app.log | hubbub pub ops/app-log - --text --quiet
      hubbub pub research/status '{"busy": true}' --ephemeral
    """
    options: PublishOptions = {"type": type, "parent": parent, "ephemeral": ephemeral, "ttl": ttl}
    options["attachments"] = attachments_of(attach)

    def show(receipt: Receipt) -> None:
        if not quiet:
            emit(_receipt(receipt, as_json))

    asyncio.run(_publish(topic, _messages(data, text), options, agent, url, token, timeout, show))


async def _publish(
    topic: str,
    messages: AsyncIterator[Any],
    options: PublishOptions,
    agent: str | None,
    url: str,
    token: str | None,
    timeout: float,
    show: Callable[[Receipt], None],
) -> None:
    receipts: asyncio.Queue[asyncio.Future[Receipt] | None] = asyncio.Queue(WINDOW)
    async with connected(url, agent, token, timeout) as speaker:

        async def submit() -> None:
            async for message in messages:
                await receipts.put(await speaker.submit(topic, message, **options))
            await receipts.put(None)

        tasks = {asyncio.create_task(submit()), asyncio.create_task(_settle(receipts, timeout, show))}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()


async def _settle(
    receipts: asyncio.Queue[asyncio.Future[Receipt] | None], timeout: float, show: Callable[[Receipt], None]
) -> None:
    """Show the receipts as they come, in order."""
    while (future := await receipts.get()) is not None:
        try:
            async with asyncio.timeout(timeout):
                receipt = await asyncio.shield(future)
        except TimeoutError:
            message = f"a message has no receipt after {timeout:g} s; it and {receipts.qsize()} later ones may be lost"
            raise Failure(message, ExitCode.UNREACHABLE) from None
        show(receipt)


async def _messages(data: list[str], text: bool) -> AsyncIterator[Any]:
    for item in data:
        if item == "-":
            from .stdin import lines

            async for line in lines():
                yield _value(line.decode(errors="replace"), text)
        else:
            yield _value(item, text)


def _value(item: str, text: bool) -> Any:
    if text:
        return item
    try:
        return json.loads(item, parse_constant=_no_json)
    except ValueError:
        return item


def _no_json(name: str) -> Any:
    """`NaN`, `Infinity` and `-Infinity`: Python reads them, and no other language's JSON does."""
    raise ValueError(name)


def _receipt(receipt: Receipt, as_json: bool) -> str:
    if as_json:
        fields = {"topic": receipt.topic, "seq": receipt.seq, "id": receipt.id, "lc": receipt.lc}
        return json.dumps(fields | {name: True for name in ("dup", "dropped") if getattr(receipt, name)})
    place = "ephemeral" if receipt.seq is None else f"#{receipt.seq}"
    remark = " (duplicate)" if receipt.dup else " (dropped)" if receipt.dropped else ""
    return f"{receipt.topic} {place} {receipt.id}{remark}"
