"""The lines of one agent: its own, and those on which it hears what is called off."""

from collections.abc import Callable

from hubbub.cursor import Start
from hubbub.link import Link
from hubbub.message import MessageView
from hubbub_protocol.frames import Gap, Msg

from .line import Line


class Lines:
    """By topic. All of them are on the main connection."""

    def __init__(self) -> None:
        self.topics: dict[str, Line] = {}
        self.link: Link | None = None
        """The connection, while there is one."""

    def add(self, topic: str, take: Callable[[MessageView], None], start: Start = "new") -> Line:
        """Hear a topic. `take` is called with each message, once."""
        line = self.topics[topic] = Line(topic, take, start)
        if self.link is not None:
            line.link_up(self.link)
        return line

    def link_up(self, link: Link) -> None:
        """Ask for all of them, each from where it ended."""
        self.link = link
        for line in self.topics.values():
            line.link_up(link)

    def parted(self, topics: set[str]) -> None:
        """These are off the wire, though the connection goes on: they are asked for again."""
        for topic in topics & self.topics.keys():
            if self.link is not None:
                self.topics[topic].link_up(self.link)

    def link_down(self) -> None:
        """Nothing is heard for now."""
        self.link = None
        for line in self.topics.values():
            line.link_down()

    def receive(self, frame: Msg) -> None:
        """A message of one of the topics came."""
        self.topics[frame.topic].receive(frame)

    def gap(self, gap: Gap) -> None:
        """Some won't come."""
        line = self.topics.get(gap.topic)
        if line is not None:
            line.gap(gap)

    def live(self, topic: str) -> None:
        """What there was before has come."""
        line = self.topics.get(topic)
        if line is not None:
            line.live.set()
