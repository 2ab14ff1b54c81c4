"""What tests of consumers ask a broker by wire, again and again."""

from typing import Any

from .wire import Line, WireClient


async def member(client: WireClient, topic: str = "g/t", name: str = "w", **fields: Any) -> Line:
    """Join a consumer, and return the `ok`."""
    await client.send("sub", topic=topic, consumer=name, rid=f"join {topic}", **fields)
    return await client.until("ok", rid=f"join {topic}")


async def settle(client: WireClient, op: str, seq: int, topic: str = "g/t", name: str = "w", **fields: Any) -> Line:
    """Ack, nack, extend or term with a `rid`, and return the answer."""
    return await client.ask(op, topic=topic, consumer=name, seq=seq, **fields)


async def idle(client: WireClient) -> None:
    """Assert that no message has come (`live` may have)."""
    await client.send("ping", rid="idle?")
    while (line := await client.next())["op"] != "pong":
        assert line["op"] != "msg", line


async def publish(client: WireClient, count: int, topic: str = "g/t", **fields: Any) -> None:
    """Publish 0, 1, 2 …, each durable before the next."""
    for number in range(count):
        assert (await client.pub(topic, number, **fields))["op"] == "ok"


async def kill(client: WireClient, seq: int, topic: str = "g/t", reason: str = "broken", **fields: Any) -> None:
    """Take a message that has come to the dead letters."""
    assert (await settle(client, "term", seq, topic, reason=reason, **fields))["op"] == "ok"
