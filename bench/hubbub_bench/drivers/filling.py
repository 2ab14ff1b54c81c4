"""History for a measurement to read: so many messages, published as fast as they are taken."""

from hubbub_bench.peers import Address

from .connection import DriverError
from .fleet import Fleet
from .flow import Flow
from .load import Load

_WINDOW = 1024
_IN_FLIGHT = 200_000
"""Messages of all topics together that wait for their answers: enough to keep any broker busy."""
_PATIENCE = 60.0
"""Seconds without an answer after which filling has failed: nothing is measured yet, and the machine may be busy."""


async def fill(
    address: Address,
    label: str,
    *,
    messages: int,
    payload: int,
    topics: int = 1,
    groups: int = 1,
    again: bool = False,
) -> str:
    """Publish durable messages, spread over the topics, and return the name of the first topic.

    With `again`, to those that an earlier call with the same label filled `again`.

    Raises:
        DriverError: if not all of them were taken.
    """
    load = Load(sending=True)
    window = max(1, min(_WINDOW, _IN_FLIGHT // topics))
    async with Fleet(address, load, label, groups, label if again else "") as fleet:
        for id, publisher in enumerate(await fleet.connect(topics, "publisher")):
            share = messages // topics + (id < messages % topics)
            publisher.flow = fleet.flows[id] = Flow(
                load,
                id,
                fleet.topic(id),
                payload=payload,
                durable=True,
                write=publisher.write,
                window=window,
                limit=share,
            )
            publisher.flow.fill()
        await load.until(0, messages, _PATIENCE)
        if load.acked < messages:
            raise DriverError(f"only {load.acked} of {messages} messages were taken")
        return fleet.topic(0)
