"""Several workers are one broker: over the wire by hand, over HTTP, and with the SDK, which hides them."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from harness.broker import serving, url_of
from harness.tokens import BUS_TOKEN
from harness.wire import wire_client
from harness.workers import WorkersProcess, workers_process
from hubbub import Agent, NotFound, StateConflictError

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

WORKERS = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="broker")
async def _broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkersProcess]:
    async with workers_process(tmp_path_factory.mktemp("workers") / "data", WORKERS) as broker:
        yield broker


@pytest_asyncio.fixture(loop_scope="module", name="http")
async def _http(broker: WorkersProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=broker.base, timeout=20) as http:
        yield http


def own_url(broker: WorkersProcess, worker: int) -> str:
    return f"ws://127.0.0.1:{broker.port_of(worker)}/v1/ws"


class TestRawClients:
    async def test_welcome_names_the_workers(self, broker: WorkersProcess) -> None:
        async with wire_client(broker.url) as client:
            welcome = await client.hello("ann")
            assert welcome["workers"] == [own_url(broker, worker) for worker in range(WORKERS)]
            assert welcome["shards"] == 16
        for worker in range(WORKERS):
            async with wire_client(own_url(broker, worker)) as client:
                assert (await client.hello("ann"))["worker"] == worker

    @pytest.mark.parametrize(
        ("op", "fields"),
        [
            ("sub", {"topic": "{}/t"}),
            ("sub", {"topic": "{}/*"}),
            ("sub", {"topic": "{}/t", "consumer": "c"}),
            ("join", {"topic": "{}/t"}),
            ("ack", {"topic": "{}/t", "consumer": "c", "seq": 1}),
        ],
    )
    async def test_what_belongs_elsewhere_is_told_where(
        self, broker: WorkersProcess, op: str, fields: dict[str, Any]
    ) -> None:
        group = broker.group_of(1)
        fields = {name: value.format(group) if name == "topic" else value for name, value in fields.items()}
        async with wire_client(own_url(broker, 0), "ann") as client:
            await client.send(op, **{"rid": "r", **fields})
            line = await client.next()
            assert (line["op"], line["code"], line["url"]) == ("err", "wrong_shard", own_url(broker, 1))
            assert line["rid"] == "r"
            line = await client.pub(f"{group}/t", 1, id="x")
            assert (line["code"], line["url"], line["id"]) == ("wrong_shard", own_url(broker, 1), "x")
        async with wire_client(line["url"], "ann") as client:
            assert (await client.pub(f"{group}/t", 1, id=f"x{op}{len(fields)}"))["op"] == "ok"

    async def test_a_look_up_is_told_where(self, broker: WorkersProcess) -> None:
        group = broker.group_of(1)
        async with wire_client(own_url(broker, 0), "ann") as client:
            answer = await client.ask("get", topic=f"{group}/t", id="none")
            assert (answer["code"], answer["url"]) == ("wrong_shard", own_url(broker, 1))

    async def test_large_bodies_and_look_ups_at_any_worker(self, broker: WorkersProcess) -> None:
        body = os.urandom(600_000)
        for worker in range(WORKERS):
            group = broker.group_of(worker)
            for asked in range(WORKERS):
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{broker.port_of(asked)}", timeout=20) as at:
                    ref = (await at.put(f"/v1/blobs/{group}", content=body)).json()
                    assert (await at.get(f"/v1/blobs/{group}/{ref['sha256']}")).content == body
            async with Agent("joe", group=group, url=own_url(broker, (worker + 1) % WORKERS), local=False) as joe:
                receipt = await joe.publish("c", 1, attachments=[await joe.attach(group, body)])
                message = await joe.topic("c").message(receipt.id)
                assert message is not None
                assert await message.fetch() == body
                found = joe.subscribe("c", "all", where={"id": receipt.id})
                assert (await anext(found)).id == receipt.id

    async def test_a_pattern_of_all_groups_is_asked_of_each(self, broker: WorkersProcess) -> None:
        async with wire_client(own_url(broker, 0), "ann") as client:
            await client.send("sub", topic="**", rid="r")
            line = await client.expect("err", code="wrong_shard", rid="r")
            assert "url" not in line
            await client.sub("**", here=True)
            own, other = broker.group_of(0, "pat"), broker.group_of(1, "pat")
            async with wire_client(own_url(broker, 1), "bob") as bob:
                await bob.pub(f"{other}/t", 1)
            await client.pub(f"{own}/t", 2)
            assert (await client.until("msg"))["topic"] == f"{own}/t"

    async def test_a_hello_with_groups_elsewhere_is_sent_there_and_the_connection_lives(
        self, broker: WorkersProcess
    ) -> None:
        group = broker.group_of(2)
        async with wire_client(own_url(broker, 0)) as client:
            await client.send("hello", agent="ann", groups=[group], rid="h")
            await client.expect("err", code="wrong_shard", rid="h", url=own_url(broker, 2))
            await client.hello("ann", groups=[broker.group_of(0), group])
        async with wire_client(own_url(broker, 0) + f"?group={broker.group_of(0)}") as client:
            await client.hello("ann", groups=[group])  # it said that it is here on purpose

    async def test_a_handshake_that_names_a_group_is_redirected_before_the_upgrade(
        self, broker: WorkersProcess
    ) -> None:
        group = broker.group_of(1)

        class NoRedirects(connect):
            def process_redirect(self, exc: Exception) -> Exception | str:
                return exc

        with pytest.raises(InvalidStatus) as caught:
            await NoRedirects(own_url(broker, 0) + f"?group={group}&agent=ann")
        assert caught.value.response.status_code == 307
        assert caught.value.response.headers["Location"] == own_url(broker, 1) + f"?group={group}&agent=ann"
        async with wire_client(broker.url + f"?group={group}&agent=ann") as client:  # a client that follows
            assert (await client.pub(f"{group}/t", 1))["op"] == "ok"
        page = {"Origin": "http://localhost:3000"}
        async with wire_client(own_url(broker, 0) + f"?group={group}&agent=ann", additional_headers=page) as client:
            assert (await client.pub(f"{group}/t", 1))["url"] == own_url(broker, 1)  # a browser can't be redirected

    async def test_an_agent_is_known_everywhere_as_soon_as_it_is_welcomed(self, broker: WorkersProcess) -> None:
        for worker in range(WORKERS):
            name = f"new-{worker}"
            group = broker.group_of(worker, "home")
            async with wire_client(own_url(broker, worker)) as client:
                assert (await client.hello(name, groups=[group]))["inbox"] == f"{group}/@{name}"
                for other in range(WORKERS):
                    async with wire_client(own_url(broker, other), "sender") as sender:
                        answer = await sender.pub(f"_mail/@{name}", {"subject": "s"})
                        assert (answer["op"], answer["topic"]) == ("ok", f"{group}/@{name}"), (worker, other)
            async with wire_client(own_url(broker, (worker + 1) % WORKERS) + f"?agent=by-address-{worker}") as client:
                assert (await client.pub("_mail/@nobody", {}))["code"] == "not_found"

    async def test_mail_keeps_its_order_and_comes_once_whichever_way_it_takes(self, broker: WorkersProcess) -> None:
        group = broker.group_of(1, "post")
        async with AsyncExitStack() as stack:
            reader = await stack.enter_async_context(wire_client(own_url(broker, 1)))
            await reader.hello("reader", groups=[group])
            for worker in range(WORKERS):
                sender = await stack.enter_async_context(wire_client(own_url(broker, worker)))
                await sender.hello("writer", session=f"life{worker}")
                for n in range(1, 21):
                    await sender.send("pub", topic="_mail/@reader", id=f"{worker}-{n}", n=n, data={"n": n})
                await sender.send("pub", topic="_mail/@reader", id=f"{worker}-1", data={"n": 1})
                answers = [await sender.until("ok") for _ in range(21)]
                assert [answer["id"] for answer in answers if answer.get("dup")] == [f"{worker}-1"]
            await reader.sub(f"{group}/@reader", from_="all")
            got = [line["id"] for line in await reader.messages(60)]
            assert got == [f"{worker}-{n}" for worker in range(WORKERS) for n in range(1, 21)]

    async def test_receipts_find_the_publisher_at_another_worker(self, broker: WorkersProcess) -> None:
        group = broker.group_of(1, "receipts")
        async with wire_client(own_url(broker, 1), "tracker") as publisher:
            await publisher.pub(f"{group}/t", 1, id="tracked", track=True)
        async with wire_client(own_url(broker, 0), "tracker") as publisher:
            async with wire_client(own_url(broker, 1), "worker") as worker:
                await worker.sub(f"{group}/t", consumer="c", from_="all")
                message = await worker.until("msg")
                await worker.ask("ack", topic=f"{group}/t", consumer="c", seq=message["seq"])
            while (await publisher.until("receipt", id="tracked"))["state"] != "done":
                pass

    async def test_a_will_of_another_workers_group_is_said(self, broker: WorkersProcess) -> None:
        group = broker.group_of(2, "wills")
        async with wire_client(own_url(broker, 2), "heir") as heir:
            await heir.sub(f"{group}/t")
            async with wire_client(own_url(broker, 0)) as dying:
                await dying.hello("dying", will={"topic": f"{group}/t", "data": "farewell", "delay": 0.05})
                dying.socket.transport.abort()
            assert (await heir.until("msg"))["data"] == "farewell"


class TestHttp:
    async def test_every_group_is_served_at_every_worker(self, broker: WorkersProcess) -> None:
        for at in range(WORKERS):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{broker.port_of(at)}", timeout=20) as http:
                for owner in range(WORKERS):
                    topic = f"{broker.group_of(owner, 'http')}/t{at}"
                    answer = await http.post("/v1/publish", json={"topic": topic, "id": "1", "data": "x"})
                    assert (answer.status_code, answer.json()["seq"]) == (200, 1)
                    page = (await http.get(f"/v1/topics/{topic}/messages")).json()
                    assert [message["data"] for message in page["messages"]] == ["x"]
                    async with http.stream("GET", f"/v1/topics/{topic}/stream?after=0") as stream:
                        async for line in stream.aiter_lines():
                            if line.startswith("data:"):
                                assert '"data":"x"' in line
                                break

    async def test_a_list_of_messages_of_several_workers_is_answered_in_its_order(
        self, broker: WorkersProcess, http: httpx.AsyncClient
    ) -> None:
        groups = [broker.group_of(worker, "list") for worker in range(WORKERS)]
        messages = [{"topic": f"{group}/t", "id": str(n), "data": n} for n in range(5) for group in groups]
        answers = (await http.post("/v1/publish", json=messages)).json()
        assert [(answer["topic"], answer["id"]) for answer in answers] == [(m["topic"], m["id"]) for m in messages]
        assert all(answer["op"] == "ok" for answer in answers)

    async def test_lists_are_of_all_workers(self, broker: WorkersProcess, http: httpx.AsyncClient) -> None:
        groups = [broker.group_of(worker, "lists") for worker in range(WORKERS)]
        wanted = sorted(f"{group}/t{n}" for group in groups for n in range(4))
        for topic in wanted:
            await http.post("/v1/publish", json={"topic": topic, "id": "1", "data": 1})
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            page = (await http.get("/v1/topics", params={"prefix": "lists", "limit": 5, "after": after})).json()
            found += [entry["topic"] for entry in page["topics"]]
            after = page["next"]
        assert found == wanted
        assert [shard["shard"] for shard in (await http.get("/v1/shards")).json()["shards"]] == list(range(16))
        async with AsyncExitStack() as stack:
            for worker in range(WORKERS):
                client = await stack.enter_async_context(wire_client(own_url(broker, worker), f"listed-{worker}"))
                await client.sub(f"{groups[worker]}/t0", consumer="listed")
            sessions = (await http.get("/v1/sessions")).json()
            assert {f"listed-{worker}" for worker in range(WORKERS)} <= {one["agent"] for one in sessions["sessions"]}
            consumers = (await http.get("/v1/consumers", params={"name": "listed"})).json()
            assert consumers["total"] == WORKERS
            assert [one["topic"] for one in consumers["consumers"]] == sorted(f"{group}/t0" for group in groups)
            online = (await http.get("/v1/agents", params={"online": True})).json()
            assert {f"listed-{worker}" for worker in range(WORKERS)} <= {one["agent"] for one in online["agents"]}

    async def test_one_scrape_shows_all_workers(self, http: httpx.AsyncClient) -> None:
        for accept in ("text/plain", "application/openmetrics-text"):
            text = (await http.get("/metrics", headers={"Accept": accept})).text
            lines = text.splitlines()
            for worker in range(WORKERS):
                assert f'hubbub_worker_up{{worker="{worker}"}} 1.0' in lines
                assert any(line.startswith(f'hubbub_connections{{worker="{worker}"}}') for line in lines)
            assert sum(line.startswith("# TYPE hubbub_connections ") for line in lines) == 1
            assert text.endswith("# EOF\n") == ("openmetrics" in accept)

    async def test_mail_and_agents(self, broker: WorkersProcess) -> None:
        async with AsyncExitStack() as stack:
            doors = [
                await stack.enter_async_context(
                    httpx.AsyncClient(base_url=f"http://127.0.0.1:{broker.port_of(worker)}", timeout=20)
                )
                for worker in range(WORKERS)
            ]
            for number, http in enumerate(doors):
                name, group = f"mailed-{number}", broker.group_of((number + 1) % WORKERS, "mailed")
                assert (await http.post("/v1/agents", json={"agent": name, "group": group})).status_code == 200
                for other in doors:
                    answer = await other.post(
                        "/api/send", json={"from": "joe", "to": name, "subject": "s", "body": "b"}
                    )
                    assert answer.status_code == 200, answer.text
                assert len((await doors[0].get(f"/api/inbox/{name}")).json()["messages"]) == WORKERS
            assert (await doors[0].post("/api/send", json={"from": "joe", "to": "ALL"})).json()["recipients"] >= WORKERS
            for number, http in enumerate(doors):
                name = f"mailed-{number}"
                read = (await http.get(f"/api/inbox/{name}", params={"mark_read": True})).json()
                assert len(read["messages"]) == WORKERS + 1
                assert (await http.delete(f"/v1/agents/{name}")).status_code == 204
                for at in range(WORKERS):  # at once, at every worker
                    async with wire_client(own_url(broker, at), "sender") as sender:
                        assert (await sender.pub(f"_mail/@{name}", {}))["code"] == "not_found"

    async def test_who_is_refused_at_the_owner_is_refused(self, broker: WorkersProcess) -> None:
        for worker in range(WORKERS):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{broker.port_of(worker)}", timeout=20) as http:
                assert (await http.get(f"/v1/topics/{broker.group_of(1)}/*/messages")).status_code == 400
                assert (await http.get("/v1/agents/none-such")).status_code == 404
                topic = f"{broker.group_of(1)}/t"
                big = await http.post("/v1/publish", json={"topic": topic, "data": "x" * (1 << 20)})
                assert big.status_code == 413

    async def test_the_control_plane_is_one(self, broker: WorkersProcess) -> None:
        for worker in range(WORKERS):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{broker.port_of(worker)}", timeout=20) as http:
                status = await http.get("/v1/control/status")
                assert status.status_code == 200, status.text
                assert status.json()["online"] is True
                assert "/v1/control/status" in (await http.get("/openapi.json")).json()["paths"]
                assert (await http.get("/.well-known/agent-card.json")).status_code == 200

    async def test_where_a_group_lives(self, broker: WorkersProcess, http: httpx.AsyncClient) -> None:
        for worker in range(WORKERS):
            route = (await http.get("/v1/route", params={"group": broker.group_of(worker)})).json()
            assert route["url"] == own_url(broker, worker)


class TestSdk:
    async def test_one_agent_publishes_and_reads_in_all_groups(self, broker: WorkersProcess) -> None:
        groups = [broker.group_of(worker, "sdk") for worker in range(WORKERS)]
        async with Agent("reader", group=groups[0], url=broker.url) as reader:
            feeds = [reader.subscribe(f"{group}/t") for group in groups]
            for feed in feeds:
                await feed.ready()
            async with Agent("writer", group=groups[1], url=broker.url) as writer:
                for n in range(50):
                    for group in groups:
                        await writer.submit(f"{group}/t", n)
                await writer.flush()
            for feed in feeds:
                got = [message.data async for message in _first(feed, 50)]
                assert got == list(range(50))

    async def test_a_pattern_of_all_groups(self, broker: WorkersProcess) -> None:
        groups = [broker.group_of(worker, "wide") for worker in range(WORKERS)]
        async with Agent("writer", url=broker.url) as writer:
            for group in groups:
                await writer.publish(f"{group}/wide", "before")
            async with Agent("reader", url=broker.url) as reader:
                everything = reader.subscribe("*/wide", start="all")
                got = {message.topic: message.data async for message in _first(everything, WORKERS)}
                assert got == {f"{group}/wide": "before" for group in groups}
                await everything.caught_up()
                for group in groups:
                    await writer.publish(f"{group}/wide", "after")
                got = {message.topic: message.data async for message in _first(everything, WORKERS)}
                assert got == {f"{group}/wide": "after" for group in groups}

    async def test_requests_and_consumers_across_workers(self, broker: WorkersProcess) -> None:
        async with AsyncExitStack() as stack:
            for worker in range(WORKERS):
                group = broker.group_of(worker, "ask")
                helper = await stack.enter_async_context(Agent(f"helper-{worker}", group=group, url=broker.url))

                @helper.on("tasks", consumer="helpers")
                async def answer(message: Any) -> None:
                    await message.reply(message.data * 2)

                await helper.consumption("tasks", "helpers").ready()
            asker = await stack.enter_async_context(Agent("asker", url=broker.url))
            for n in range(5):
                for worker in range(WORKERS):
                    topic = f"{broker.group_of(worker, 'ask')}/tasks"
                    assert (await asker.request(topic, n, timeout=20)).data == n * 2

    async def test_shared_state_of_every_group(self, broker: WorkersProcess) -> None:
        async with (
            Agent("ann", group=broker.group_of(0), url=broker.url) as ann,
            Agent("bob", group=broker.group_of(1), url=broker.url) as bob,
        ):
            for worker in range(WORKERS):
                group = broker.group_of(worker, "state")
                version = await ann.group_state(group).put("key", {"by": "ann"})
                found = await bob.group_state(group).get("key")
                assert (found.value, found.version) == ({"by": "ann"}, version)
                with pytest.raises(StateConflictError):
                    await bob.group_state(group).put("key", 2, expected_version=version + 7)
                async with bob.topic(f"{group}/t").lease("writer", ttl=30) as lease:
                    assert lease.token > 0

    async def test_mail_to_one_and_to_all(self, broker: WorkersProcess) -> None:
        async with AsyncExitStack() as stack:
            readers = []
            for worker in range(WORKERS):
                group = broker.group_of(worker, "letters")
                agent = await stack.enter_async_context(Agent(f"pal-{worker}", group=group, url=broker.url))
                inbox = await stack.enter_async_context(agent.inbox())
                await agent.wait_for("online", timeout=20)
                readers.append(inbox)
            sender = await stack.enter_async_context(Agent("sender", group=broker.group_of(0), url=broker.url))
            for worker in range(WORKERS):
                await sender.send(f"pal-{worker}", "one", worker)
            await sender.send("ALL", "all", "everybody")
            for worker, inbox in enumerate(readers):
                mails = []
                async for mail in inbox:
                    mails.append((mail.subject, mail.body))
                    await mail.ack()
                    if len(mails) == 2:
                        break
                assert mails == [("one", worker), ("all", "everybody")]
            with pytest.raises(NotFound):
                await sender.send("none-such", "s")

    async def test_presence_in_another_workers_topic(self, broker: WorkersProcess) -> None:
        topic = f"{broker.group_of(2, 'room')}/t"
        async with (
            Agent("ann", group=broker.group_of(0), url=broker.url) as ann,
            Agent("bob", group=broker.group_of(1), url=broker.url) as bob,
            ann.presence(topic) as seen,
        ):
            async with bob.presence(topic) as here:
                assert here.agents == {"ann", "bob"}
                assert (await anext(seen)).agent in ("ann", "bob")

    async def test_what_was_awaited_comes_before_what_it_caused(self, broker: WorkersProcess) -> None:
        """Causal order across workers: by Lamport timestamps, and by vector clocks where they are asked for."""
        groups = [broker.group_of(worker, "causal") for worker in range(WORKERS)]
        async with (
            Agent("first", url=broker.url, vector_clocks=True) as first,
            Agent("second", url=broker.url, vector_clocks=True) as second,
        ):
            feed = second.subscribe(f"{groups[0]}/t")
            await feed.ready()
            cause = await first.publish(f"{groups[0]}/t", "cause")
            async for message in feed:
                assert message.data == "cause"
                effect = await second.publish(f"{groups[1]}/t", "effect")
                assert cause.lc is not None
                assert effect.lc is not None
                assert effect.lc > cause.lc
                break


async def _first(feed: Any, count: int) -> AsyncIterator[Any]:
    async with asyncio.timeout(20):
        for _ in range(count):
            yield await anext(feed)


async def test_the_same_directory_opens_with_any_number_of_workers(tmp_path: Path) -> None:
    """One process, several workers, one process: each goes on where the last one stopped."""
    topics = [f"g{number}/t" for number in range(12)]

    async def publish_and_read(url: str, run: int) -> None:
        async with Agent("joe", url=url) as joe:
            for topic in topics:
                receipt = await joe.publish(topic, run)
                assert receipt.seq == run + 1
                feed = joe.subscribe(topic, start="all")
                assert [message.data async for message in _first(feed, run + 1)] == list(range(run + 1))
            await joe.send("joe", f"run {run}")

    async with serving(tmp_path / "data", shards=16) as server:
        await publish_and_read(url_of(server), 0)
    for run, workers in enumerate((2, 4), 1):
        async with workers_process(tmp_path / "data", workers) as broker:
            await publish_and_read(broker.url, run)
            assert broker.terminate() == 0
    async with serving(tmp_path / "data", shards=16) as server:
        await publish_and_read(url_of(server), 3)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
            mails = (await http.get("/api/inbox/joe")).json()["messages"]
        assert [mail["subject"] for mail in mails] == ["run 0", "run 1", "run 2", "run 3"]


async def test_an_agent_is_disconnected_from_every_worker(broker: WorkersProcess, http: httpx.AsyncClient) -> None:
    async with AsyncExitStack() as stack:
        for worker in range(WORKERS):
            clients = [
                await stack.enter_async_context(wire_client(own_url(broker, at), f"unwanted-{worker}"))
                for at in range(WORKERS)
            ]
            at = f"http://127.0.0.1:{broker.port_of(worker)}/v1/sessions?agent=unwanted-{worker}"
            assert (await http.delete(at)).json()["connections"] == WORKERS
            assert [await client.closed() for client in clients] == [4503] * WORKERS


async def test_a_worker_asks_the_others_nothing_for_whom_nobody_knows(tmp_path: Path) -> None:
    """Nor does it wait for the body of somebody whom it turns away, or of who asks what anybody may ask."""
    async with workers_process(tmp_path / "data", 2, bus_token=BUS_TOKEN, handshake_seconds=0.3) as broker:
        for worker in range(2):
            for path, status in (("/api/send", 401), ("/v1/agents", 401), ("/api/inbox/ann/read", 401), ("/docs", 405)):
                reader, writer = await asyncio.open_connection("127.0.0.1", broker.port_of(worker))
                head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                writer.write(head.encode() + b"Content-Length: 1000000\r\n\r\n")
                async with asyncio.timeout(10):
                    answer = await reader.readuntil(b"\r\n\r\n")
                    assert answer.startswith(b"HTTP/1.1 %d " % status), (worker, path, answer)
                    writer.write(b"x")
                    await reader.read()
                writer.close()
        async with httpx.AsyncClient(headers={"X-Bus-Token": BUS_TOKEN}) as http:
            metrics = (await http.get(f"{broker.base}/metrics")).text
    forwarded = [line for line in metrics.splitlines() if line.startswith("hubbub_http_forwarded_total")]
    assert sum(float(line.split()[-1]) for line in forwarded) <= 1, forwarded  # /docs, which one of them has not
