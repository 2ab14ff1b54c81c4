"""Workflows against the broker itself: what each part of them needs to be allowed, and what it must not be."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.broker import serving, url_of
from harness.tokens import token, write_key
from hubbub import Agent, Forbidden
from hubbub.workflows import Assignment, Coordinator, Flow, State, Worker, Workflow
from hubbub_broker.server import Server

pytestmark = pytest.mark.real_time

MODEL = Workflow(
    "report",
    {
        "research": State(handler="research", on={"done": "review"}),
        "review": State(messages={"approved": "published"}),
        "published": State(end=True),
    },
)

STEPS = ["lab/report", "lab/report/*", "lab/_tasks/*"]
"""What a step publishes to: the state's conversation, the instance's, and the tasks."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path / "data", token_keys=write_key(tmp_path / "keys")) as running:
        yield running


def agent(server: Server, name: str, *, pub: list[str], subscribe: list[str]) -> Agent:
    own = token(name, groups=["lab"], pub=pub, subscribe=subscribe)
    return Agent(name, group="lab", url=url_of(server), token=own, local=False)


async def test_a_result_that_its_record_can_not_hold_fails_its_task_and_says_so(server: Server) -> None:
    everything = {"pub": ["lab/**"], "subscribe": ["lab/**"]}
    async with agent(server, "ann", **everything) as ann:
        worker = Worker(ann)

        @worker.handles("research")
        async def research(_: Assignment) -> str:
            return "x" * 600_000  # a frame holds it, the value of a key doesn't

        async with Coordinator(ann, MODEL):
            flow = Flow(ann, MODEL)
            await flow.start("r1")
            assert [change.target async for change in flow.watch("r1")] == ["research", "FAILED"]
            why = (await flow.get("r1")).why
            assert "its result is too large to be kept: " in why
            assert "(state_value)" in why


async def test_each_part_needs_this_and_no_more(server: Server) -> None:
    worker_may = {"pub": ["lab/_workflow/report"], "subscribe": ["lab/_tasks/research", "lab/report"]}
    coordinator_may = {"pub": STEPS, "subscribe": ["lab/_workflow/report", "lab/report", "lab/report/*"]}
    starter_may = {"pub": STEPS, "subscribe": ["lab/report", "lab/report/*"]}
    speaker_may = {"pub": ["lab/report/*"], "subscribe": ["lab/report", "lab/report/*"]}
    async with (
        agent(server, "ann", **worker_may) as ann,
        agent(server, "c1", **coordinator_may) as c1,
        agent(server, "joe", **starter_may) as joe,
        agent(server, "boss", **speaker_may) as boss,
    ):
        worker = Worker(ann)

        @worker.handles("research")
        async def research(task: Assignment) -> str:
            return f"found {task.data['question']}"

        async with Coordinator(c1, MODEL):
            await Flow(joe, MODEL).start("r1", {"question": "q"})
            seen = Flow(boss, "report")
            path = []
            async for change in seen.watch("r1"):
                path.append((change.target, change.by))
                if change.target == "review":
                    with pytest.raises(Forbidden):
                        await seen.cancel("r1")  # who may speak in the conversation may not order
                    await boss.publish("lab/report/r1", None, type="approved")
            assert path == [("research", "joe"), ("review", "ann"), ("published", "boss")]
            assert (await seen.get("r1")).data == {"question": "q", "research": "found q"}
