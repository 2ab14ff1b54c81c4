"""`python -m hubbub_bench.rivals.nats_client PORT COUNT`: nats-py over TCP, with JetStream."""

import sys

import nats  # type: ignore[import-not-found, unused-ignore]
from nats.js.api import (  # type: ignore[import-not-found, unused-ignore]
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    StreamConfig,
)

from .client import Reader, measured, message

SUBJECT = "bench.sdk"


def main() -> None:
    """Measure."""
    url, count = f"nats://127.0.0.1:{int(sys.argv[1])}", int(sys.argv[2])

    async def publish(number: int) -> None:
        connection = await nats.connect(url)
        stream = connection.jetstream()
        await stream.add_stream(StreamConfig(name="SDK", subjects=[SUBJECT]))
        for at in range(number):
            await stream.publish_async(SUBJECT, message(at).encode(), wait_stall=60.0)
        await stream.publish_async_completed()
        await connection.close()

    async def receive(number: int) -> None:
        connection = await nats.connect(url)
        reader = Reader(number)
        wanted = ConsumerConfig(deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, mem_storage=True)
        subscription = await connection.jetstream().subscribe(
            SUBJECT, config=wanted, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        async for each in subscription.messages:
            if reader.take(each.data):
                break
        await connection.close()

    measured(publish, receive, count)


if __name__ == "__main__":
    main()
