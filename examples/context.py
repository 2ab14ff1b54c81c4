"""What an agent needs to know, and no more.

A reviewer reads only the results worth reading, and of these only the title: the broker sifts. The report itself lies
beside the message that refers to it, and is fetched when it is wanted. What led to it is asked for up to a budget, as
a prompt for a model would have it.
"""

import asyncio
from collections.abc import AsyncIterator

from hubbub import Agent, Message

PAGE = ("All is well. " * 100 + "\n").encode()
PAGES = 2_000


async def pages() -> AsyncIterator[bytes]:
    """A report that is larger than any message may be, written as it is sent."""
    for _ in range(PAGES):
        yield PAGE


async def write(writer: Agent) -> None:
    conversation = writer.topic("reviews/q3")
    question = await conversation.publish("How was the third quarter?", type="question")
    draft = await conversation.publish("I will look at the figures.", type="note", parent=question.id)
    for score in (0.2, 0.3):
        await conversation.publish({"title": "a first try", "score": score, "notes": "-" * 10_000}, type="result")
    report = await conversation.attach(pages(), name="report.txt")
    await conversation.publish(
        {"title": "The third quarter", "score": 0.9, "notes": "-" * 10_000},
        type="result",
        parent=draft.id,
        attachments=[report],
    )


async def review(reviewer: Agent) -> Message:
    results = reviewer.subscribe(
        "reviews/q3",
        "all",
        where={"type": "result", "data.score": {">=": 0.5}},
        select=["data.title", "headers.attachments"],
    )
    result = await anext(results)
    print(f"worth reading: {result.data}")
    report = await result.fetch("report.txt")
    print(f"the report has {len(report):,} bytes, and ends: {report[-14:].decode().strip()}")
    return result


async def main() -> None:
    async with Agent("writer") as writer, Agent("reviewer") as reviewer:
        _, result = await asyncio.gather(write(writer), review(reviewer))
        context = await reviewer.topic("reviews/q3").context(result.id, budget_tokens=3_000)
        for message in reversed(context.messages):
            print(f"{message.type}: {str(message.data)[:40]}")


asyncio.run(main())
