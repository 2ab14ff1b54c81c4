"""Agents say every now and then how they are; a monitor shows it, and notices who has fallen silent.

Reports are ephemeral: nobody needs yesterday's, so none is stored. They keep their order, and cost no disk.
"""

import asyncio

from hubbub import Agent

PERIOD = 0.1
SILENT_AFTER = 5 * PERIOD


async def report(agent: Agent, reports: int) -> None:
    for number in range(1, reports + 1):
        status = {"done": number * 10, "load": 0.25}
        await agent.publish("fleet/status", status, type="status", ephemeral=True, ttl=2 * PERIOD)
        await asyncio.sleep(PERIOD)
    print(f"{agent.name} stops reporting")


async def monitor(agent: Agent, ready: asyncio.Event, until_silent: int) -> None:
    loop = asyncio.get_running_loop()
    heard: dict[str, float] = {}
    silent: set[str] = set()
    async with agent.subscribe("fleet/status") as reports:
        await reports.ready()
        ready.set()
        incoming = aiter(reports)
        while len(silent) < until_silent:
            try:
                async with asyncio.timeout(PERIOD):
                    message = await anext(incoming)
            except TimeoutError:
                pass  # nobody spoke; it is time to look who has not for long
            else:
                if message.sender not in heard:
                    print(f"monitor: {message.sender} is there, {message.data['done']} done")
                heard[message.sender] = loop.time()
            for name, at in heard.items():
                if name not in silent and loop.time() - at > SILENT_AFTER:
                    silent.add(name)
                    print(f"monitor: {name} has fallen silent")


async def main() -> None:
    async with (
        Agent("ann", group="fleet") as ann,
        Agent("bob", group="fleet") as bob,
        Agent("monitor", group="fleet") as watcher,
    ):
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(monitor(watcher, ready, until_silent=2))
            await ready.wait()
            tasks.create_task(report(ann, 3))
            tasks.create_task(report(bob, 6))


asyncio.run(main())
