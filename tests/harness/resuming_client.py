"""Clients that outlive the broker with nothing but the protocol: the least that a client in any language must do.

The publisher numbers its messages (`n`), keeps what has no answer, and sends that again, in order, after a reconnect.
The reader subscribes from the seq after the last one it got.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from .history import Answer, History, Hole, Message, Reading
from .reaper import Progress
from .wire import PATIENCE, Line, WireClient, wire_client

WINDOW = 64
"""Publishes without an answer, at most."""

LOST = (ConnectionClosed, InvalidHandshake, OSError, EOFError)
"""What a broker's death looks like."""


async def outlive(url: str, agent: str, session: str, use: Callable[[WireClient], Awaitable[None]]) -> None:
    """Use one connection after the other, each when the last one is lost, until `use` returns."""
    while True:
        try:
            async with wire_client(url) as client:
                await client.hello(agent, session=session)
                await use(client)
                return
        except LOST:
            await asyncio.sleep(0.01)  # it is not there yet, and nothing tells when


async def heard(client: WireClient) -> Line:
    """The next line. That nothing comes is no lost connection but a fault."""
    try:
        return await client.next()
    except TimeoutError:
        raise AssertionError(f"nothing came for {PATIENCE} s on an open connection") from None


class ResumingPublisher:
    """Publishes numbered messages to one topic until it is told to stop, and every one of them is answered."""

    def __init__(self, history: History, answers: Progress, url: str, name: str, topic: str) -> None:
        self.name = name
        self.topic = topic
        self._history = history
        self._answers = answers
        self._url = url
        self._unanswered: OrderedDict[str, str] = OrderedDict()
        self._count = 0
        self._stopping = False
        self.resent = 0
        self.duplicates = 0

    def stop(self) -> None:
        """Publish nothing new."""
        self._stopping = True

    async def run(self) -> None:
        """Until stopped and answered."""
        await outlive(self._url, self.name, f"life of {self.name}", self._publish)

    async def _publish(self, client: WireClient) -> None:
        if self._unanswered:
            self.resent += len(self._unanswered)
            await client.socket.send("\n".join(self._unanswered.values()))
        while self._unanswered or not self._stopping:
            room = 0 if self._stopping else WINDOW - len(self._unanswered)
            if room > WINDOW // 2:
                await client.socket.send("\n".join([self._next() for _ in range(room)]))
            self._take(await heard(client))

    def _next(self) -> str:
        self._count += 1
        id = f"{self.name}-{self._count}"
        self._history.publishing(self.name, self.topic, id, self._count)
        fields = {"op": "pub", "topic": self.topic, "id": id, "data": self._count, "n": self._count}
        line = self._unanswered[id] = json.dumps(fields)
        return line

    def _take(self, answer: Line) -> None:
        assert answer["op"] == "ok", f"{self.name} was answered {answer}"
        id = answer["id"]
        first = next(iter(self._unanswered))
        assert id == first, f"{self.name} was answered {id} before {first}"
        del self._unanswered[id]
        dup = bool(answer.get("dup"))
        self.duplicates += dup
        self._history.answered.append(Answer(self.name, self.topic, id, answer["seq"], dup))
        self._answers.step()


class ResumingReader:
    """Reads one topic, from wherever it was, until it is cancelled."""

    def __init__(self, reading: Reading, seen: Progress, url: str, topic: str) -> None:
        self._reading = reading
        self._seen = seen
        self._url = url
        self._topic = topic
        self._epoch: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        await outlive(self._url, self._reading.name, f"life of {self._reading.name}", self._read)

    async def _read(self, client: WireClient) -> None:
        start: dict[str, object] = {"seq": self._reading.head(self._topic) + 1}
        if self._epoch is not None:
            start["epoch"] = self._epoch
        self._epoch = (await client.sub(self._topic, from_=start))["epoch"]
        while True:
            note(self._reading, await heard(client))
            self._seen.step()


def note(reading: Reading, line: Line) -> None:
    """Write down what came."""
    if line["op"] == "msg":
        reading.saw(message_of(line))
    elif line["op"] == "gap":
        reading.told(Hole(line["topic"], line["first"], line["last"], line["reason"]))


def message_of(line: Line) -> Message:
    """A line as the history has it."""
    return Message(line["topic"], line.get("seq"), line["id"], line["from"], line.get("payload", line.get("data")))


async def read_all(url: str, history: History, *topics: str) -> None:
    """The independent replay: a new client reads each topic from its beginning to its head."""
    async with wire_client(url, "auditor") as client:
        for topic in topics:
            page = Reading(topic)
            await client.sub(topic, from_="all")
            while (line := await client.next())["op"] != "live":
                note(page, line)
            await client.send("unsub", topic=topic, rid="enough")
            await client.until("ok", rid="enough")
            history.replay[topic] = page.entries[topic]
