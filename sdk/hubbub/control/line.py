"""A topic on which an agent hears by itself, such as `_hubbub/@NAME`, where the control plane speaks to it.

A subscription of its own kind: it stands beside those of the application, and overlaps with none of them. Where a
pattern of the application's matches its topic, a message goes to both.
"""

import asyncio
import logging
from collections.abc import Callable

from hubbub import policy
from hubbub.cursor import Start, TopicCursor
from hubbub.link import Link
from hubbub.message import MessageView
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err, Gap, Msg, Ok, Sub
from hubbub_protocol.names import is_reserved

RETRY_SECONDS = 2.0
"""When a broker is asked again that can't take it now, and does not say when it can."""

logger = logging.getLogger("hubbub")


class Line:
    """The agent's end of it. What is said here while the connection is away, the agent hears when it is back."""

    def __init__(self, topic: str, take: Callable[[MessageView], None], start: Start = "new") -> None:
        """`take` is called with each message, once."""
        self.topic = topic
        self.live = asyncio.Event()
        """What there was before has come; or nothing will, because the broker will not have this."""
        self.link: Link | None = None
        """The connection, while there is one that takes part in this."""
        self.on_up: Callable[[], None] = _nothing
        """Called when the broker has taken the subscription."""
        self._take = take
        self._cursor = TopicCursor(start)

    def link_up(self, link: Link) -> None:
        """Ask for it, from where it ended."""
        self.link = link
        start = self._cursor.start()
        link.ask(lambda rid: Sub(topic=self.topic, start=start, rid=rid), lambda answer: self._asked(link, answer))

    def link_down(self) -> None:
        """Nothing is heard for now."""
        self.link = None

    def receive(self, frame: Msg) -> None:
        """A message of the topic came."""
        if self._cursor.admit(frame) >= 0:
            self._take(MessageView(frame))

    def gap(self, gap: Gap) -> None:
        """Some won't come: they had expired."""
        self._cursor.gap(gap)

    def _asked(self, link: Link, answer: Ok | Err) -> None:
        if self.link is not link:
            return
        if isinstance(answer, Ok):
            self._cursor.opened(answer, link.broker_time())
            self.on_up()
            return
        # A broker that knows nothing of control planes; or one that is busy, or whose worker for this is away.
        unknown = answer.code == ErrorCode.FORBIDDEN and is_reserved(self.topic)
        level = logging.INFO if unknown else logging.WARNING
        logger.log(level, "! %s is not heard: %s (%s)", self.topic, answer.message, answer.code)
        self.live.set()
        if policy.is_retryable(answer.code):
            delay = RETRY_SECONDS if answer.retry_after is None else answer.retry_after
            asyncio.get_running_loop().call_later(delay, self._ask_again, link)
        else:
            self.link = None

    def _ask_again(self, link: Link) -> None:
        if self.link is link:
            self.link_up(link)


def _nothing() -> None:
    pass
