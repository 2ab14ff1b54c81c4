"""A user asks a lead, the lead divides the task among specialists, and the user hears how it goes.

Tasks go to consumers: each is one worker's, and another's if that worker dies. What the user hears are messages of the
same conversation, each naming what it answers (`parent`), so the whole chain can be read again later.
"""

import asyncio
import uuid
from typing import Any

from hubbub import Agent, Delivery

GROUP = "newsroom"
JOB = f"story-{uuid.uuid4().hex[:8]}"  # the conversation of this task


async def run_lead(lead: Agent) -> None:
    """Takes the user's task, gives its parts to specialists, and puts the results together."""

    @lead.on(f"{GROUP}/stories", consumer="leads", start="all")
    async def story(task: Delivery) -> None:
        conversation = lead.topic(task.data["conversation"])
        results = conversation.subscribe(start="all")
        parts = ["facts", "quotes", "pictures"]
        await conversation.publish({"status": f"accepted, {len(parts)} parts"}, type="status")
        for part in parts:
            await lead.publish(f"{GROUP}/parts", {"part": part, "conversation": conversation.name})
        found: dict[str, Any] = {}
        async for message in results:
            if message.type == "result":
                found[message.data["part"]] = message.data["text"]
                await message.reply({"status": f"{len(found)} of {len(parts)} done"}, type="status")
            if len(found) == len(parts):
                break
        await conversation.publish({"text": "; ".join(found[part] for part in parts)}, type="answer")
        # Returning acks the task. If this process had died, another lead would have got it.


async def run_specialist(specialist: Agent) -> None:
    """Works on one part at a time, whichever comes."""

    @specialist.on(f"{GROUP}/parts", consumer="specialists", start="all", max_unacked=1)
    async def part(task: Delivery) -> None:
        conversation = specialist.topic(task.data["conversation"])
        await conversation.publish({"status": f"{specialist.name} works on {task.data['part']}"}, type="status")
        await conversation.publish({"part": task.data["part"], "text": f"the {task.data['part']}"}, type="result")


async def main() -> None:
    async with (
        Agent("user", group=GROUP) as user,
        Agent("lead", group=GROUP) as lead,
        Agent("ann", group=GROUP) as ann,
        Agent("bob", group=GROUP) as bob,
    ):
        await run_lead(lead)
        await run_specialist(ann)
        await run_specialist(bob)

        replies = user.topic(JOB).subscribe(start="all")
        await user.publish(f"{GROUP}/stories", {"title": "The river", "conversation": JOB})
        async for message in replies:
            if message.type == "status":
                print(f"user is told by {message.sender}: {message.data['status']}")
            elif message.type == "answer":
                print(f"user has the answer: {message.data['text']}")
                break


asyncio.run(main())
