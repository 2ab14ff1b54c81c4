"""A client that speaks the protocol by hand: what it sends and what came, frame by frame."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

PATIENCE = 10.0
"""Seconds after which what a test waits for is taken not to come."""

Line = dict[str, Any]


class WireClient:
    """One raw connection. Lines are dicts; a binary message is a dict with `payload`."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._lines: deque[Line] = deque()
        self._count = 0

    async def send(self, op: str, **fields: Any) -> None:
        """Send one line. `from_` is spelt `from`."""
        if "from_" in fields:
            fields["from"] = fields.pop("from_")
        await self.socket.send(json.dumps({"op": op, **fields}))

    async def send_binary(self, payload: bytes, **fields: Any) -> None:
        """Publish bytes."""
        header = json.dumps({"op": "pub", **fields}).encode()
        await self.socket.send(len(header).to_bytes(4, "big") + header + payload)

    async def next(self) -> Line:
        """The next line, whatever it is."""
        while not self._lines:
            async with asyncio.timeout(PATIENCE):
                frame = await self.socket.recv()
            if isinstance(frame, str):
                self._lines.extend(json.loads(line) for line in frame.split("\n"))
            else:
                size = int.from_bytes(frame[:4], "big")
                self._lines.append({**json.loads(frame[4 : 4 + size]), "payload": frame[4 + size :]})
        return self._lines.popleft()

    async def expect(self, op: str, **fields: Any) -> Line:
        """The next line, which must be this one."""
        line = await self.next()
        seen = {name: line.get(name) for name in fields}
        assert (line["op"], seen) == (op, fields), f"expected {op} {fields}, got {line}"
        return line

    async def until(self, op: str, **fields: Any) -> Line:
        """The next line that is like this one; others are passed over."""
        while True:
            line = await self.next()
            if line["op"] == op and all(line.get(name) == value for name, value in fields.items()):
                return line

    async def hello(self, agent: str, **fields: Any) -> Line:
        """Say who it is."""
        await self.send("hello", agent=agent, **fields)
        return await self.expect("welcome", agent=agent)

    async def pub(self, topic: str, data: Any = None, **fields: Any) -> Line:
        """Publish, and return the answer to it."""
        self._count += 1
        fields.setdefault("id", f"m{self._count}-{id(self)}")
        await self.send("pub", topic=topic, data=data, **fields)
        return await self._answer("id", fields["id"])

    async def ask(self, op: str, **fields: Any) -> Line:
        """Send a request with a `rid`, and return its answer. What comes before that is kept."""
        self._count += 1
        rid = f"{op} {self._count}"
        await self.send(op, rid=rid, **fields)
        return await self._answer("rid", rid)

    async def _answer(self, field: str, value: Any) -> Line:
        others: list[Line] = []
        while True:
            line = await self.next()
            if line["op"] in ("ok", "err") and line.get(field) == value:
                self._lines.extendleft(reversed(others))
                return line
            others.append(line)

    async def sub(self, topic: str, **fields: Any) -> Line:
        """Subscribe, and return the `ok`."""
        await self.send("sub", topic=topic, rid=f"sub {topic}", **fields)
        return await self.until("ok", rid=f"sub {topic}")

    async def messages(self, count: int) -> list[Line]:
        """The next messages; other lines in between are passed over."""
        return [await self.until("msg") for _ in range(count)]

    async def silent(self) -> None:
        """Assert that nothing more has come: whatever the broker sent before it answers a ping is here then."""
        await self.send("ping", rid="silence?")
        await self.expect("pong", rid="silence?")

    async def closed(self) -> int:
        """Wait for the end of the connection, and return the close code."""
        async with asyncio.timeout(PATIENCE):
            await self.socket.wait_closed()
        code = self.socket.close_code
        assert code is not None
        return code


@asynccontextmanager
async def wire_client(url: str, agent: str | None = None, **options: Any) -> AsyncIterator[WireClient]:
    """A connected client; with `agent`, one that has said hello."""
    async with connect(url, compression=None, max_size=None, **options) as socket:
        client = WireClient(socket)
        if agent is not None:
            await client.hello(agent)
        yield client
