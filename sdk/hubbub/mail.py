"""Mail: a message of type `mail` in an agent's inbox."""

from typing import Any

from hubbub_protocol.causal import CAUSE, HOPS
from hubbub_protocol.headers import IN_REPLY_TO
from hubbub_protocol.names import MAIL, MAIL_GROUP, MAIL_TO_ALL, check_agent, inbox_of

from .delivery import Delivery
from .errors import MessageDecodeError
from .message import Receipt
from .naming import checked

ALL = "ALL"
"""Everyone who is registered, but the sender."""


class Mail(Delivery):
    """A message of an inbox, to be settled as every message of a consumer: `await mail.ack()` marks it as read.

    What was published to the inbox and is no mail is shown as well as can be: its data is the body.
    """

    __slots__ = ()

    @property
    def subject(self) -> str:
        """What it is about."""
        subject = self._fields().get("subject", "")
        return subject if isinstance(subject, str) else str(subject)

    @property
    def body(self) -> Any:
        """What it says: text, or any JSON value.

        Raises:
            MessageDecodeError: if it can't be read.
        """
        fields = self._fields()
        return fields.get("body", "") if fields else self.data

    @property
    def to(self) -> str:
        """To whom it was sent: this agent's name, or `ALL`."""
        to = self._fields().get("to")
        return to if isinstance(to, str) else self.topic.rpartition("@")[2]

    async def reply(
        self,
        data: Any,
        *,
        subject: str | None = None,
        type: str | None = None,
        headers: dict[str, Any] | None = None,
        ttl: float | None = None,
        ephemeral: bool | None = None,
    ) -> Receipt:
        """Answer it, and wait for the receipt: a mail to its sender, with the header `in_reply_to`.

        `subject` is "Re: …" if not given. A request that was sent to the inbox (it has a `reply_to`) is answered there,
        as `Message.reply` does.

        Raises:
            Rejected, Refused, BufferFull, Closed: as `Agent.send`.
        """
        if self.reply_to is not None:
            return await super().reply(data, type=type, headers=headers, ttl=ttl, ephemeral=ephemeral)
        if subject is None:
            subject = self.subject if self.subject.startswith("Re: ") else f"Re: {self.subject}"
        if headers is None or HOPS not in headers:
            cause = {} if self.ephemeral else {CAUSE: {"topic": self.topic, "id": self.id}}
            headers = {**self.chain, **cause, **(headers or {})}
        return await self._publisher.publish(
            address_of(self.sender),
            content(self.sender, subject, data),
            type=type or MAIL,
            headers={**headers, IN_REPLY_TO: self.id},
            ttl=ttl,
            ephemeral=bool(ephemeral),
        )

    def _fields(self) -> dict[str, Any]:
        """The parts of a mail; none of what is no mail."""
        if self.type != MAIL:
            return {}
        try:
            data = self.data
        except MessageDecodeError:
            return {}
        return data if isinstance(data, dict) else {}

    def __repr__(self) -> str:
        return f"<Mail {self.topic}#{self.seq} {self.id} from {self.sender}, attempt {self.attempt}>"


def address_of(to: str) -> str:
    """The topic that stands for an agent's inbox, wherever it is, or for everybody's.

    Raises:
        InvalidName: if the name is none.
    """
    return MAIL_TO_ALL if to == ALL else inbox_of(MAIL_GROUP, checked(check_agent, to))


def content(to: str, subject: str, body: Any) -> dict[str, Any]:
    """What a mail's data is."""
    return {"to": to, "subject": subject, "body": body}
