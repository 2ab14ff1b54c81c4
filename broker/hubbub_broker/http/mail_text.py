"""Mail as the JSON text that it comes and goes as: what an agent wrote is passed on as it stands, and never decoded.

So no mail can be written that its reader's poll would fail on: a number that no float holds, one of five thousand
digits, a list in a list in a list are for whoever wants them to read.
"""

import base64

import msgspec

from hubbub_broker.bus import MAIL
from hubbub_protocol.causal import HOPS, hops_of
from hubbub_protocol.codec import decoder_of, encode_value, members_of, reader_of
from hubbub_protocol.frames import NO_DATA
from hubbub_protocol.headers import IN_REPLY_TO

from .api import StoredLine

DIGITS_MAX = 20
"""No count is longer."""

_NOTHING = msgspec.Raw(b'""')


class SentMail(msgspec.Struct, forbid_unknown_fields=True, rename={"sender": "from"}):
    """What `POST /api/send` takes."""

    sender: str
    to: str
    subject: str = ""
    body: msgspec.Raw = _NOTHING
    id: str | None = None
    create: bool = False
    in_reply_to: str | None = None
    headers: dict[str, msgspec.Raw] = {}

    @property
    def data(self) -> msgspec.Raw:
        """The message's data."""
        return msgspec.Raw(encode_value({"to": self.to, "subject": self.subject, "body": self.body}))


read_mail = decoder_of(SentMail)
"""A request's body, read. Raises BadFrame."""


class _Envelope(msgspec.Struct, rename={"sender": "from"}):
    id: str
    sender: str
    ts: float
    type: str | None = None
    data: msgspec.Raw = NO_DATA
    headers: msgspec.Raw = NO_DATA


_envelope_of = reader_of(_Envelope)


def shown(seq: int, stored: StoredLine, agent: str) -> bytes:
    """A message of an inbox as the bus shows it. What is no mail is shown as well as can be."""
    found = _envelope_of(stored.line[: stored.header_size] if stored.header_size else stored.line)
    headers = members_of(found.headers) or {}
    body = found.data or msgspec.Raw(b"null")
    mail: dict[str, msgspec.Raw] = {}
    if stored.header_size:
        payload = base64.b64encode(stored.line[stored.header_size :]).decode()
        body = msgspec.Raw(encode_value({"data_base64": payload}))
    elif found.type == MAIL:
        mail = members_of(found.data) or {}
    return encode_value(
        {
            "id": found.id,
            "from": found.sender,
            "to": _text(mail["to"]) if "to" in mail else agent,
            "subject": _text(mail.get("subject", _NOTHING)),
            "body": mail.get("body", _NOTHING) if mail else body,
            "timestamp": found.ts,
            "seq": seq,
            "type": found.type,
            "in_reply_to": headers[IN_REPLY_TO] if _is_text(headers.get(IN_REPLY_TO)) else None,
            "hops": _count(headers.get(HOPS)),
        }
    )


def _text(value: msgspec.Raw) -> msgspec.Raw | str:
    """A value where text is wanted."""
    return value if _is_text(value) else bytes(value).decode()


def _is_text(value: msgspec.Raw | None) -> bool:
    return value is not None and bytes(value).startswith(b'"')


def _count(value: msgspec.Raw | None) -> int:
    """The number in a `hops` header; 0 when there is none, or it is not one."""
    raw = b"" if value is None else bytes(value)
    return hops_of(int(raw)) if raw.isdigit() and len(raw) < DIGITS_MAX else 0
