"""`hubbub inbox`: what is unread."""

import re
import sys
import time
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from hubbub_protocol.codec import reader_of
from hubbub_protocol.errors import BadFrame

from .exit_code import ExitCode, Failure, ends_well
from .http import fetch, no_broker, post
from .options import DEFAULT_URL, AsJson, Timeout, Token, Url, default_agent
from .output import as_written, colour_of, colourful, emit, note, paint, printable

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


class Mail(msgspec.Struct, rename={"sender": "from"}):
    """A mail of a page."""

    seq: int
    sender: str
    to: str
    subject: str
    timestamp: float
    body: msgspec.Raw
    """What was written, as it stands."""


class _Page(msgspec.Struct):
    messages: list[msgspec.Raw]
    remaining: int


_page_of = reader_of(_Page)
_mail_of = reader_of(Mail)


class Reader:
    """Reads one inbox, page by page."""

    def __init__(self, agent: str, url: str, token: str | None, timeout: float, *, mark: bool, as_json: bool) -> None:
        self._path = f"/api/inbox/{agent}"
        self._url = url
        self._token = token
        self._timeout = timeout
        self._mark = mark
        self._as_json = as_json
        self._after = 0

    def read(self, limit: int, wait: float) -> int:
        """Print a page, and mark it if that is wanted; returns how many more are unread.

        Raises:
            Failure: the broker can't be reached, or refuses.
        """
        query = {"limit": limit, "wait": wait, "after": self._after}
        text = fetch("GET", self._url, self._path, query, wait + self._timeout, self._token)
        try:
            page = _page_of(text)
        except BadFrame:
            raise no_broker(self._url) from None
        mails = [_mail_of(mail) for mail in page.messages]
        for mail, raw in zip(mails, page.messages, strict=True):
            emit(bytes(raw).decode() if self._as_json else as_text(mail))
        seqs = [mail.seq for mail in mails]
        if seqs and self._mark:
            post(self._url, f"{self._path}/read", {"seqs": seqs}, self._timeout, self._token)
        elif seqs:
            self._after = seqs[-1]
        return page.remaining


def as_text(mail: Mail) -> str:
    """A mail for people: a line of who, when and what about, then its body, indented."""
    colour = colourful(sys.stdout)
    at = datetime.fromtimestamp(mail.timestamp, UTC).astimezone().isoformat(sep=" ", timespec="seconds")
    sender = paint(printable(mail.sender), colour_of(mail.sender), colour)
    subject = printable(mail.subject) or "(no subject)"
    place = paint(f"#{mail.seq} {at}", 2, colour)
    head = f"{place} {sender}: {paint(subject, 1, colour)}"
    if mail.to == "ALL":
        head += paint(" (to ALL)", 2, colour)
    body = as_written(mail.body)
    return "\n".join([head, *(f"  {printable(line)}" for line in body.splitlines())])
