"""Workflows over HTTP: seen and ordered through the control plane, moved without it."""

from collections.abc import Callable

import httpx

from hubbub import Agent
from hubbub.workflows import Assignment, Coordinator, Flow, State, Worker, Workflow
from hubbub_control import ControlPlane

MakeAgent = Callable[..., Agent]

ORDER = Workflow(
    "order",
    {
        "pay": State(handler="bank", on={"done": "sent"}),
        "sent": State(messages={"arrived": "closed"}),
        "closed": State(end=True),
    },
)

PATH = "/v1/control/workflows/g/order"


async def test_instances_are_listed_shown_drawn_and_ordered(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    assert "workflows" in (await http.get("/v1/control/status")).json()["parts"]
    async with make_agent("joe") as joe:
        flow = Flow(joe, ORDER)
        for number in range(3):
            await flow.start(f"o{number}", {"number": number})
        worker = Worker(joe)

        @worker.handles("bank")
        async def bank(task: Assignment) -> str:
            return f"paid {task.data['number']}"

        async with Coordinator(joe, ORDER):
            async for change in flow.watch("o1"):
                if change.target == "sent":
                    break
            page = (await http.get(PATH, params={"limit": 2})).json()
            assert ([one["id"] for one in page["instances"]], page["after"]) == (["o0", "o1"], "o1")
            page = (await http.get(PATH, params={"after": "o1"})).json()
            assert ([one["id"] for one in page["instances"]], page["after"]) == (["o2"], None)
            shown = (await http.get(f"{PATH}/o1")).json()
            assert (shown["state"], shown["data"]) == ("sent", {"number": 1, "pay": "paid 1"})
            assert [(one["n"], one["source"], one["target"], one["by"]) for one in shown["history"]] == [
                (1, None, "pay", "joe"),
                (2, "pay", "sent", "joe"),
            ]
            drawn = await http.get(f"{PATH}/o1/diagram")
            assert drawn.headers["content-type"].startswith("text/plain")
            assert "class s1 here" in drawn.text
            paused = await http.post(f"{PATH}/o1/pause", json={"why": "wait", "by": "boss"})
            assert (paused.status_code, paused.json()["status"]) == (200, "paused")
            assert (await flow.history("o1"))[-1].by == "boss"
            assert [one["id"] for one in (await http.get(PATH, params={"status": "paused"})).json()["instances"]] == [
                "o1"
            ]


async def test_what_can_not_be_is_refused_and_changes_nothing(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe") as joe:
        flow = Flow(joe, ORDER)
        before = await flow.start("o1")
        refused = await http.post(f"{PATH}/o1/retry")
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        assert "only what has failed can be tried again" in refused.json()["message"]
        assert await flow.get("o1") == before
        for answer in (await http.get(f"{PATH}/o9"), await http.post(f"{PATH}/o9/cancel")):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert (await http.post(f"{PATH}/o1/dance")).status_code in (400, 422)
        assert (await http.get("/v1/control/workflows/g/_state")).status_code == 400
