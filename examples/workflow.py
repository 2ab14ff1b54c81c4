"""Research, analysis, synthesis and review as a workflow: explicit states, every change on the log.

Here everything runs in one process. Workers, coordinators and whoever starts a report may be any number of processes on
any machines; each may die at any time, and the work goes on.
"""

import asyncio
import uuid
from pathlib import Path
from typing import Any

from hubbub import Agent
from hubbub.workflows import Assignment, Coordinator, Flow, Outcome, Worker, Workflow

REPORT = Workflow.load(Path(__file__).with_name("report.toml"))


def employ(agent: Agent) -> None:
    worker = Worker(agent)

    @worker.handles("research")
    async def research(task: Assignment) -> Any:
        if task.attempt == 1:
            raise ConnectionError("the library is closed")  # tried again, as the file says
        return {"findings": [f"{task.data['question']}: finding {number}" for number in (1, 2, 3)]}

    @worker.handles("analysis")
    async def analysis(task: Assignment) -> Any:
        return {"finding": task.item, "weight": task.index + 1}

    @worker.handles("synthesis")
    async def synthesis(task: Assignment) -> Any:
        weighed = task.data["analysis"]
        if sum(each["weight"] for each in weighed) < 3:
            return Outcome("thin")
        return {"page": f"{len(weighed)} findings about {task.data['question']}"}


async def main() -> None:
    async with (
        Agent("ann", group="desk") as ann,
        Agent("coordinator", group="desk") as coordinator,
        Agent("joe", group="desk") as joe,
    ):
        employ(ann)
        async with Coordinator(coordinator, REPORT):
            flow, id = Flow(joe, REPORT), uuid.uuid4().hex[:8]
            await flow.start(id, {"question": "tides"})
            async for change in flow.watch(id):
                print(f"{change.source or 'start'} -> {change.target} ({change.cause}) by {change.by} {change.why}")
                if change.target == "review":  # the instance waits for somebody's word; anyone may say it
                    await joe.publish(f"desk/report/{id}", {"by": "joe"}, type="approved")
            report = await flow.get(id)
            print(f"{report.status}: {report.data['synthesis']['page']}")
            print(await flow.diagram(id))


asyncio.run(main())
