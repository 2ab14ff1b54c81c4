"""`python -m hubbub_bench.rivals.hubbub_client PORT COUNT`: the SDK. The token comes on stdin."""

import sys

from hubbub import Agent

from .client import Reader, measured, message

TOPIC = "bench/sdk"


def main() -> None:
    """Measure."""
    port, count, token = int(sys.argv[1]), int(sys.argv[2]), sys.stdin.read().strip()

    def agent() -> Agent:
        return Agent("lg-0", url=f"ws://127.0.0.1:{port}", token=token or None, local=False)

    async def publish(number: int) -> None:
        async with agent() as one:
            topic = one.topic(TOPIC)
            for at in range(number):
                await topic.submit(message(at))
            await one.flush()

    async def receive(number: int) -> None:
        reader = Reader(number)
        async with agent() as one, one.subscribe(TOPIC, start="all") as messages:
            async for each in messages:
                if reader.take(each.data):
                    return

    measured(publish, receive, count)


if __name__ == "__main__":
    main()
