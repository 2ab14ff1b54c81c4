"""`hubbub tail`: follow conversations."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from . import message_line
from .client import connected
from .exit_code import ends_well
from .options import DEFAULT_URL, AgentName, AsJson, Timeout, Token, Url
from .output import colourful, emit, note, printable
from .start import Start, parse_start

if TYPE_CHECKING:
    from hubbub import Gap, State, Subscription

_REASONS = {
    "retention": "no longer kept",
    "expired": "past their time-to-live",
    "slow": "dropped, because this reader was too slow",
    "reset": "lost: the topic's history was reset",
}


@ends_well
def tail(
    pattern: Annotated[str, typer.Argument(help="A topic, or a pattern: `*` is one segment, a last `**` the rest.")],
    start: Annotated[
        str, typer.Option("--from", "-f", help="new, all, seq:N, last:N, or since:TIME (10m, 2026-01-31T12:00).")
    ] = "new",
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="Stop after so many messages.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Whether to wait for new messages.")] = True,
    as_json: AsJson = False,
    agent: AgentName = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Print messages as they come, each sender in a colour of its own. Goes on across restarts of the broker.

    A line is: time, topic, #seq (~ if ephemeral), sender, [type], ^parent, data. What will not come (a gap) and
    what becomes of the connection is told on stderr.

    Examples:
      hubbub tail 'research/**'
      hubbub tail research/conv-42 --from all --no-follow
      hubbub tail 'ops/*' --from since:10m --json | jq .data
      hubbub tail research/conv-42 --from last:20 --count 20
    """
    asyncio.run(_follow(pattern, parse_start(start), count, follow, as_json, agent, url, token, timeout))


async def _follow(
    pattern: str,
    start: Start,
    count: int | None,
    follow: bool,
    as_json: bool,
    agent: str | None,
    url: str,
    token: str | None,
    timeout: float,
) -> None:
    async with connected(url, agent, token, timeout) as listener:
        listener.on_state(_tell_state)
        async with listener.subscribe(pattern, start=start, on_gap=_tell_gap) as subscription:
            end = None if follow else asyncio.create_task(_end_when_caught_up(subscription))
            await _print(subscription, count, as_json)
            if end is not None:
                end.cancel()


async def _print(subscription: Subscription, count: int | None, as_json: bool) -> None:
    colour = colourful(sys.stdout)
    printed = 0
    async for message in subscription:
        emit(message_line.as_json(message) if as_json else message_line.as_text(message, colour))
        printed += 1
        if printed == count:
            return


async def _end_when_caught_up(subscription: Subscription) -> None:
    await subscription.caught_up()
    await subscription.close()  # what was read ahead is still printed


def _tell_gap(gap: Gap) -> None:
    if gap.dropped:
        what = f"{gap.dropped} ephemeral messages"
    else:
        what = f"#{gap.first}" if gap.first == gap.last else f"#{gap.first} to #{gap.last}"
    note(f"-- gap in {gap.topic}: {what} {_REASONS.get(gap.reason, printable(gap.reason))}")


def _tell_state(_before: State, after: State) -> None:
    if after == "degraded":
        note("-- the broker is away; waiting for it")
    elif after == "online":
        note("-- the broker is back")
