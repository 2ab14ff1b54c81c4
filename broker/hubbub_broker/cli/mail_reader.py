"""Pages of an inbox, as a broker sends them and as people read them."""

import sys
from datetime import UTC, datetime

import msgspec

from hubbub_protocol.codec import reader_of
from hubbub_protocol.errors import BadFrame

from .http import fetch, no_broker, post
from .output import colour_of, colourful, emit, paint, printable
from .written import as_written


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
