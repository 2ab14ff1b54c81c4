"""Policies and schemas through the control plane: set, versioned, told of; and in force when it is away."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.broker import broker_process, serving, url_of
from harness.control_process import control_process
from harness.tokens import token, write_key
from harness.until import until
from harness.wire import wire_client
from hubbub_broker.cli.planes import Inside
from hubbub_broker.config import Settings
from hubbub_broker.server import Server
from hubbub_control import ControlPlane

POLICIES, SCHEMAS = "/v1/control/policies", "/v1/control/schemas"
SMALL = {"pattern": "g/**", "max_message": 200}
TASK = {"type": "object", "required": ["task"]}


async def test_a_policy_is_set_read_changed_and_dropped(
    plane: ControlPlane, http: httpx.AsyncClient, server: Server
) -> None:
    async with wire_client(url_of(server), "joe") as joe:
        made = await http.put(f"{POLICIES}/small", json=SMALL, params={"by": "ann", "note": "they write novels"})
        assert made.status_code == 200, made.text
        first = made.json()
        assert (first["name"], first["policy"], first["by"], first["note"]) == (
            "small",
            SMALL,
            "ann",
            "they write novels",
        )
        assert made.headers["etag"] == f'"{first["version"]}"'
        assert (await joe.pub("g/c", "x" * 300))["code"] == "too_large"
        assert (await http.get(f"{POLICIES}/small")).json() == first
        assert (await http.get(POLICIES)).json() == {"policies": [first]}
        second = (await http.put(f"{POLICIES}/small", json={**SMALL, "max_message": "1KiB"})).json()
        assert second["version"] > first["version"]
        assert (await joe.pub("g/c", "x" * 300))["op"] == "ok"
        dropped = await http.delete(f"{POLICIES}/small", params={"by": "bob"})
        assert dropped.json() == second
        assert (await joe.pub("g/c", "x" * 3000))["op"] == "ok"
        assert (await http.get(f"{POLICIES}/small")).status_code == 404
        assert (await http.delete(f"{POLICIES}/small")).status_code == 404
        changes = (await http.get(f"{POLICIES}/small/history")).json()["changes"]
        assert [(one["action"], one["by"], one["note"]) for one in changes] == [
            ("drop", "bob", None),
            ("set", None, None),
            ("set", "ann", "they write novels"),
        ]
        assert [one["policy"] for one in changes] == [None, {**SMALL, "max_message": "1KiB"}, SMALL]
        assert len((await http.get(f"{POLICIES}/small/history", params={"limit": 2})).json()["changes"]) == 2
        assert (await http.get(f"{POLICIES}/never/history")).json() == {"changes": []}


async def test_a_schema_is_set_read_and_dropped(plane: ControlPlane, http: httpx.AsyncClient, server: Server) -> None:
    async with wire_client(url_of(server), "joe") as joe:
        made = await http.put(f"{SCHEMAS}/g/task", json=TASK, params={"by": "ann"})
        assert made.json()["schema"] == TASK
        assert (await joe.pub("g/c", {}, type="task"))["code"] == "bad_request"
        assert (await http.get(SCHEMAS)).json() == {"schemas": [made.json()]}
        assert (await http.delete(f"{SCHEMAS}/g/task")).status_code == 200
        assert (await joe.pub("g/c", {}, type="task"))["op"] == "ok"
        changes = (await http.get(f"{SCHEMAS}/g/task/history")).json()["changes"]
        assert [(one["action"], one["schema"]) for one in changes] == [("drop", None), ("set", TASK)]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (f"{POLICIES}/p", {"pattern": "g/**", "max_age": "soon"}, 'max_age = "soon": must be 0 (for ever), or 1s to'),
        (f"{POLICIES}/p", {"pattern": "g/**", "max_agee": 1}, "did you mean max_age"),
        (f"{POLICIES}/a b", SMALL, "bad policy name"),
        (f"{SCHEMAS}/g/task", {"properties": {"a": {"type": "x"}}}, "/properties/a/type: "),
        (f"{SCHEMAS}/g/a b", TASK, "bad message type"),
        (f"{POLICIES}/p", [], ""),
    ],
)
async def test_what_is_wrong_is_refused_with_the_field_and_changes_nothing(
    plane: ControlPlane, http: httpx.AsyncClient, path: str, body: Any, said: str
) -> None:
    answer = await http.put(path, json=body)
    assert (answer.status_code, answer.json()["op"]) == (400, "err")
    assert said in answer.json()["message"]
    assert (await http.get(POLICIES)).json() == {"policies": []}
    assert (await http.get("/v1/topics", params={"pattern": "_hubbub/policies/**"})).json()["topics"] == []


async def test_if_match_keeps_operators_from_undoing_each_other(plane: ControlPlane, http: httpx.AsyncClient) -> None:
    made = await http.put(f"{POLICIES}/p", json=SMALL, headers={"If-Match": '"0"'})
    tag = made.headers["etag"]
    late = await http.put(f"{POLICIES}/p", json=SMALL, headers={"If-Match": '"0"'})
    assert (late.status_code, late.headers["etag"], late.json()["code"]) == (412, tag, "conflict")
    changed = await http.put(f"{POLICIES}/p", json={**SMALL, "max_count": 5}, headers={"If-Match": tag})
    assert changed.status_code == 200
    assert (await http.delete(f"{POLICIES}/p", headers={"If-Match": tag})).status_code == 412
    assert (await http.put(f"{POLICIES}/p", json=SMALL, headers={"If-Match": "seven"})).status_code == 400
    assert (await http.delete(f"{POLICIES}/p", headers={"If-Match": changed.headers["etag"]})).status_code == 200


@pytest.mark.parametrize(("path", "body"), [(f"{POLICIES}/p", SMALL), (f"{SCHEMAS}/g/task", TASK)])
async def test_every_condition_is_kept_or_refused(
    plane: ControlPlane, http: httpx.AsyncClient, path: str, body: Any
) -> None:
    assert (await http.put(path, json=body, headers={"If-Match": "*"})).status_code == 404
    made = await http.put(path, json=body, headers={"If-None-Match": "*"})
    tag = made.headers["etag"]
    again = await http.put(path, json=body, headers={"If-None-Match": "*"})
    assert (again.status_code, again.headers["etag"]) == (412, tag)
    assert (await http.get(path, headers={"If-None-Match": tag})).status_code == 304
    assert (await http.get(path, headers={"If-None-Match": '"999"'})).json() == made.json()
    assert (await http.get(path, headers={"If-Match": '"999"'})).status_code == 412
    assert (await http.put(path, json=body, headers={"If-None-Match": "*", "If-Match": tag})).status_code == 400
    assert (await http.put(path, json=body, headers={"If-None-Match": tag})).status_code == 400
    assert (await http.delete(path, headers={"If-Match": '"998", "999"'})).status_code == 412
    second = await http.put(path, json=body, headers={"If-Match": "*"})
    assert (second.status_code, second.json()["version"] > made.json()["version"]) == (200, True)
    assert (await http.delete(path, headers={"If-Match": f"{tag}, {second.headers['etag']}"})).status_code == 200


async def test_of_fifty_operators_who_change_the_same_version_one_does(
    plane: ControlPlane, http: httpx.AsyncClient
) -> None:
    tag = (await http.put(f"{POLICIES}/p", json=SMALL)).headers["etag"]
    answers = await asyncio.gather(
        *(
            http.put(f"{POLICIES}/p", json={**SMALL, "max_count": number}, headers={"If-Match": tag})
            for number in range(1, 51)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 49]
    (winner,) = (answer.json() for answer in answers if answer.status_code == 200)
    assert (await http.get(f"{POLICIES}/p")).json() == winner
    changes = (await http.get(f"{POLICIES}/p/history")).json()["changes"]
    assert [one["policy"] for one in changes] == [winner["policy"], SMALL], "what was not made is in no history"


async def test_no_policy_for_all_topics_locks_operators_out(
    plane: ControlPlane, http: httpx.AsyncClient, server: Server
) -> None:
    worst = {"pattern": "**", "durable": False, "max_message": 128, "max_ttl": 0.001, "sender_rate": 0.001}
    assert (
        await http.put(f"{POLICIES}/worst", json={**worst, "budget_messages": 1, "schemas": "off"})
    ).status_code == 200
    own = {"pattern": "_hubbub/**", "durable": False, "max_message": 128, "dedup_window": 0}
    assert (await http.put(f"{POLICIES}/own", json=own, params={"note": "x" * 500})).status_code == 200
    async with wire_client(url_of(server), "joe") as joe:
        assert "seq" not in await joe.pub("g/c", 1)
    for name in ("own", "worst"):
        assert (await http.delete(f"{POLICIES}/{name}", params={"note": "x" * 500})).status_code == 200
        assert len((await http.get(f"{POLICIES}/{name}/history")).json()["changes"]) == 2
    verdict = (await http.get("/v1/policies/test", params={"topic": "_hubbub/events"})).json()
    assert verdict["settings"]["max_message"] == {"value": 2**20, "source": "rule **"}


async def test_what_is_in_force_and_why_is_told(plane: ControlPlane, http: httpx.AsyncClient) -> None:
    await http.put(f"{POLICIES}/low", json={"pattern": "**", "priority": -1, "max_count": 7})
    await http.put(f"{POLICIES}/high", json={"pattern": "g/*", "priority": 3, "max_age": "1h"}, params={"by": "ann"})
    found = (await http.get("/v1/policies")).json()
    assert [(one["name"], one["settings"], one["by"]) for one in found["policies"]] == [
        ("high", {"max_age": 3600.0}, "ann"),
        ("low", {"max_count": 7}, None),
    ]
    assert found["rules"][-1]["pattern"] == "**"
    assert found["skipped"] == []
    verdict = (await http.get("/v1/policies/test", params={"topic": "g/c"})).json()
    assert (verdict["policy"], verdict["rule"]) == ("high", "**")
    assert verdict["settings"]["max_age"] == {"value": 3600.0, "source": "policy high"}
    assert verdict["settings"]["max_count"] == {"value": 0, "source": "rule **"}
    dead = (await http.get("/v1/policies/test", params={"topic": "g/_dead"})).json()
    assert dead["settings"]["max_message"]["source"] == "broker"
    assert (await http.get("/v1/policies/test", params={"topic": "g"})).status_code == 400


async def test_a_policy_is_tried_before_it_is_set(plane: ControlPlane, http: httpx.AsyncClient) -> None:
    await http.put(f"{POLICIES}/p", json={"pattern": "g/*", "max_count": 7})
    trial = {"name": "q", "policy": {"pattern": "g/c", "priority": 1, "max_age": "1h"}, "topics": ["g/c", "g/d"]}
    outcome = (await http.post("/v1/policies/test", json=trial)).json()["topics"]
    assert [one["changed"] for one in outcome] == [["max_age", "max_count"], []]
    assert (outcome[0]["before"]["policy"], outcome[0]["after"]["policy"]) == ("p", "q")
    bad = await http.post("/v1/policies/test", json={**trial, "policy": {"pattern": "g/c", "max_age": -1}})
    assert (bad.status_code, "max_age = -1" in bad.json()["message"]) == (400, True)
    assert [one["name"] for one in (await http.get(POLICIES)).json()["policies"]] == ["p"]


async def test_data_is_held_to_a_schema_without_being_published(plane: ControlPlane, http: httpx.AsyncClient) -> None:
    trial = {"group": "g", "type": "task", "schema": TASK, "data": {}}
    answer = (await http.post("/v1/schemas/test", json=trial)).json()
    assert answer == {"fits": False, "reason": "`data/task`: it is missing"}
    answer = (await http.post("/v1/schemas/test", json={**trial, "data": {"task": 1}})).json()
    assert answer == {"fits": True, "reason": None}
    del trial["schema"]
    assert (await http.post("/v1/schemas/test", json=trial)).status_code == 404
    await http.put(f"{SCHEMAS}/g/task", json=TASK)
    assert (await http.post("/v1/schemas/test", json=trial)).json()["fits"] is False
    assert [one["schema"] for one in (await http.get("/v1/schemas")).json()["schemas"]] == [TASK]


async def test_changes_are_counted(plane: ControlPlane, http: httpx.AsyncClient) -> None:
    await http.put(f"{POLICIES}/p", json=SMALL)
    await http.put(f"{POLICIES}/p", json={"pattern": "g/**"})
    await http.put(f"{POLICIES}/p", json=SMALL, headers={"If-Match": '"0"'})
    page = (await http.get("/metrics")).text
    for outcome in ("made", "refused", "conflict"):
        assert f'hubbub_control_rule_changes_total{{kind="policy",outcome="{outcome}"}} 1.0' in page


async def test_without_a_broker_it_says_so(server: Server, insides: list[Inside], http: httpx.AsyncClient) -> None:
    await insides[0].plane.stop()
    answer = await http.get(POLICIES)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "in force all the same" in answer.json()["message"]


@pytest.mark.slow
async def test_policies_stay_in_force_when_the_control_plane_is_away_and_after_a_restart(tmp_path: Path) -> None:
    async with broker_process(tmp_path / "data", role="data") as broker:
        async with control_process(broker.url) as control:
            assert (await control.http.put(f"{POLICIES}/p", json=SMALL)).status_code == 200
            assert (await control.http.put(f"{SCHEMAS}/g/task", json=TASK)).status_code == 200
            control.kill()
        for start in (1, 2):
            if start == 2:
                broker.kill()
                broker.start()
                await broker.wait_ready()
            async with wire_client(broker.url, "joe") as joe:
                assert (await joe.pub("g/c", "x" * 300))["code"] == "too_large"
                assert (await joe.pub("g/c", {}, type="task"))["code"] == "bad_request"
        async with control_process(broker.url) as control:
            assert [one["name"] for one in (await control.http.get(POLICIES)).json()["policies"]] == ["p"]
            assert len((await control.http.get(f"{POLICIES}/p/history")).json()["changes"]) == 1


async def test_whom_a_token_names_is_who_did_it(tmp_path: Path) -> None:
    insides: list[Inside] = []

    def beside(settings: Settings) -> Inside:
        insides.append(Inside(settings))
        return insides[-1]

    async with serving(tmp_path / "data", beside, token_keys=write_key(tmp_path)) as server:
        await until(lambda: insides[0].plane.online)
        headers = {"Authorization": f"Bearer {token('ann', admin=True)}"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", headers=headers, timeout=30) as http:
            assert (await http.put(f"{POLICIES}/p", json=SMALL)).json()["by"] == "ann"
            assert (await http.put(f"{POLICIES}/p", json=SMALL, params={"by": "bob"})).status_code == 403
