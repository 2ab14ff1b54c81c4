"""`hubbub inbox`: what is unread."""

import re
import time
from typing import Annotated

import typer

from .exit_code import ExitCode, Failure, ends_well
from .options import DEFAULT_URL, AsJson, Timeout, Token, Url, default_agent
from .output import note

FOLLOW_SECONDS = 10.0
"""How long one request of `--follow` waits for mail."""

_SO_LONG = re.compile(r"at most ([0-9.e+-]+) s \(max_wait\)")
"""How a broker says that it does not let anybody wait so long."""

PAUSE_SECONDS = 1.0
"""Between attempts to reach a broker that is away."""


@ends_well
def inbox(
    agent: Annotated[str | None, typer.Argument(envvar="HUBBUB_AGENT", help="Whose; your user name's.")] = None,
    mark: Annotated[bool, typer.Option("--mark", "-m", help="Mark as read what was printed.")] = False,
    wait: Annotated[float, typer.Option("--wait", "-w", min=0, help="Seconds to wait for mail if there is none.")] = 0,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Messages at most, a request.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", help="Go on, and print what comes.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Print what is unread in an agent's inbox, oldest first. An agent is registered by reading its own.

    What is marked was printed before: a mail whose printing fails is unread still, and one that was printed and could
    not be marked comes again.

    Examples:
      hubbub inbox jack
      hubbub inbox jack --mark --wait 20
      hubbub inbox jack --mark --follow --json | while read -r mail; do handle "$mail"; done
    """
    from .mail_reader import Reader

    reader = Reader(agent or default_agent(), url, token, timeout, mark=mark, as_json=as_json)
    if not follow:
        remaining = reader.read(limit, wait)
        if remaining:
            note(f"{remaining} more: " + ("again" if mark else "with --mark, or a larger --limit"))
        return
    away = False
    seconds = FOLLOW_SECONDS
    while True:
        try:
            reader.read(limit, seconds)
            if seconds < PAUSE_SECONDS:
                time.sleep(PAUSE_SECONDS - seconds)
            away = False
        except Failure as failure:
            told = _SO_LONG.search(str(failure))
            if told is not None and float(told[1]) < seconds:
                seconds = float(told[1])
                continue
            if failure.code is not ExitCode.UNREACHABLE:
                raise
            if not away:
                note(f"{failure}; trying again")
            away = True
            time.sleep(PAUSE_SECONDS)
