"""What caused what, across topics: the header `hops`, which says how many messages led to this one, each to the next.

`parent` says it within a topic. From one topic to another it is this header, which the SDK fills in wherever it knows
the cause: in a handler, and in `Message.reply`. The header `cause` goes with it, and says which message that was. The
broker stops a chain that does not end (`LoopDetected`). A handler that begins something new, rather than answers, says
so with `headers={"hops": 0}`.
"""

from contextvars import ContextVar
from typing import Any

from hubbub_protocol.causal import CAUSE, HOPS
from hubbub_protocol.headers import IN_REPLY_TO
from hubbub_protocol.names import MAIL_TO_ALL, is_mail, is_reserved

from .message import MessageView

handling: ContextVar[MessageView | None] = ContextVar("hubbub_handling", default=None)
"""The message that the handler at work here was called with. Tasks and threads that it starts inherit it."""


def caused(headers: dict[str, Any] | None, topic: str) -> dict[str, Any] | None:
    """The headers of a message that is published to `topic` here and now: with `hops`, if it is known what caused it,
    and with `cause` if that is a stored message of another topic.

    What the caller says itself stays as it is.
    """
    cause = handling.get()
    if cause is None or (headers is not None and HOPS in headers):
        return headers
    found = cause.chain
    if cause.topic != topic and not cause.ephemeral:
        found[CAUSE] = {"topic": cause.topic, "id": cause.id}
    return {**found, **(headers or {})}


def grows_from(cause: MessageView, topic: str, headers: dict[str, Any] | None) -> bool:
    """Whether a message to `topic`, published while a handler is at work on `cause`, is work that goes on: not the
    answer to a question or to a mail, nothing of the broker's own, no mail to everybody, and not the beginning of
    something new.
    """
    if topic in (cause.reply_to, MAIL_TO_ALL):
        return False
    if is_mail(topic):
        return headers is None or (headers.get(HOPS) != 0 and IN_REPLY_TO not in headers)
    return not is_reserved(topic) and (headers is None or headers.get(HOPS) != 0)
