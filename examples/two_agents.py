"""Two agents talk in a conversation; a third comes later and reads everything that was said."""

import asyncio

from hubbub import Agent


async def main() -> None:
    async with Agent("ann", group="research") as ann, Agent("joe", group="research") as joe:
        # A topic is a conversation. Subscribe before the other speaks; `ready` waits until the broker knows.
        heard_by_joe = joe.topic("tides").subscribe()
        await heard_by_joe.ready()

        # `publish` returns when the message is on the broker's disk.
        question = await ann.topic("tides").publish({"text": "Why are there two tides a day?"})
        print(f"ann asked (message {question.seq})")

        async for message in heard_by_joe:
            print(f"joe heard: {message.data['text']}")
            await message.reply({"text": "Two bulges of water, and the earth turns below them."})
            break

    # Both have left. The conversation has not: who comes later reads it from the beginning.
    async with Agent("late", group="research") as late:
        async for message in late.topic("tides").subscribe(start={"seq": question.seq or 1}):
            print(f"late reads: {message.sender}: {message.data['text']}")
            if message.parent == question.id:
                break


asyncio.run(main())
