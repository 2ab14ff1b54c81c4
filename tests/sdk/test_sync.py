"""The façade for scripts. The broker in memory lives in the agent's thread."""

import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from hubbub import Closed, LeaseLost, NoResponder, RequestTimeout, Retry, SqliteSeen, Undelivered
from hubbub.sync import Agent, Delivery, Message
from hubbub.testing import MemoryBroker


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def joe(broker: MemoryBroker) -> Any:
    with Agent("joe", group="g", transport=broker.transport()) as agent:
        yield agent


def test_publish_and_subscribe(joe: Agent) -> None:
    receipt = joe.publish("c", {"text": "hello"})
    assert (receipt.topic, receipt.seq) == ("g/c", 1)
    for message in joe.subscribe("c", start="all"):
        assert message.data == {"text": "hello"}
        assert (message.seq, message.sender, message.topic) == (1, "joe", "g/c")
        assert message.reply("hi").seq == 2
        break


def test_submit_gives_a_future(joe: Agent) -> None:
    futures = [joe.submit("c", number) for number in range(20)]
    joe.flush()
    assert [future.result(timeout=5).seq for future in futures] == list(range(1, 21))


def test_mail_is_sent(joe: Agent, broker: MemoryBroker) -> None:
    assert joe.send("ann", "Task", "do it", create=True).seq == 1
    (message,) = broker.stored("agents/@ann")
    assert (message.sender, message.type) == ("joe", "mail")


def test_many_messages_in_order(joe: Agent) -> None:
    subscription = joe.subscribe("c", start="all")
    subscription.caught_up()
    for number in range(500):
        joe.submit("c", number)
    assert [message.data for _, message in zip(range(500), subscription, strict=False)] == list(range(500))
    assert subscription.gaps == 0
    subscription.close()
    assert list(subscription) == []


def test_bytes(joe: Agent) -> None:
    with joe.subscribe("c") as subscription:
        subscription.ready()
        joe.publish("c", b"\0\1")
        assert next(subscription).data == b"\0\1"


def test_request_and_handler(joe: Agent) -> None:
    threads: list[int] = []

    @joe.on("work")
    def work(message: Message) -> None:
        threads.append(threading.get_ident())
        message.reply(message.data * 2)

    assert joe.request("work", 21, timeout=5).data == 42
    assert threads[0] != threading.get_ident()
    with pytest.raises(RequestTimeout):
        joe.request("nobody", 1, timeout=0.05)


def test_state(joe: Agent) -> None:
    assert joe.wait_for("online", timeout=5) == "online"
    assert joe.state == "online"
    assert joe.name == "joe"
    assert joe.stats.connections == 1


def test_handlers_registered_before(broker: MemoryBroker) -> None:
    joe = Agent("joe", group="g", transport=broker.transport())
    heard = threading.Event()

    @joe.on("c")
    def work(message: Message) -> None:
        heard.set()

    with joe:
        joe.subscribe("c").ready()
        joe.publish("c", 1)
        assert heard.wait(5)


def test_after_close(broker: MemoryBroker) -> None:
    joe = Agent("joe", group="g", transport=broker.transport())
    with pytest.raises(Closed):
        joe.publish("c", 1)
    with joe:
        pass
    joe.close()
    with pytest.raises(Closed):
        joe.publish("c", 1)
    with pytest.raises(Closed):
        joe.open()
    assert not any(thread.name == "hubbub-joe" for thread in threading.enumerate())


def test_what_could_not_be_delivered_is_told(broker: MemoryBroker) -> None:
    broker._running = False
    joe = Agent("joe", group="g", transport=broker.transport())
    joe.open()
    future = joe.submit("c", 1)
    with pytest.raises(Undelivered):
        joe.close(drain=0.05)
    with pytest.raises(Closed):
        future.result(timeout=5)


def test_an_error_in_the_block_is_the_one_that_is_seen(broker: MemoryBroker) -> None:
    with pytest.raises(ZeroDivisionError), Agent("joe", group="g", transport=broker.transport()):
        raise ZeroDivisionError


def test_several_threads_may_use_it(joe: Agent) -> None:
    def publish() -> None:
        for _ in range(50):
            joe.publish("c", 1)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert joe.stats.confirmed == 200


def test_ctrl_c_ends_a_wait() -> None:
    script = textwrap.dedent("""
        from hubbub.sync import Agent
        from hubbub.testing import MemoryBroker

        with Agent("joe", group="g", transport=MemoryBroker().transport()) as joe:
            subscription = joe.subscribe("c")
            subscription.ready()
            try:
                print("waiting", flush=True)
                next(subscription)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("interrupted\n", "", 0)


def test_a_handler_of_a_consumer(joe: Agent, tmp_path: Path) -> None:
    seen = SqliteSeen(tmp_path / "seen")
    calls: list[tuple[Any, int]] = []

    @joe.on("tasks", consumer="w", backoff=[0.0], dedup=seen, concurrency=1)
    def work(msg: Delivery) -> None:
        calls.append((msg.data, msg.attempt))
        if msg.data == "twice" and msg.attempt == 1:
            raise Retry(after=0)
        with seen.transaction(msg) as database:
            database.execute("CREATE TABLE IF NOT EXISTS results (data TEXT)")
            database.execute("INSERT INTO results VALUES (?)", (msg.data,))
        msg.reply("done")

    joe.consumption("tasks", "w").ready()
    replies = joe.subscribe("results")
    replies.ready()
    for data in ("once", "twice"):
        joe.publish("tasks", data, reply_to="g/results")
    assert [next(replies).data for _ in range(2)] == ["done"] * 2
    joe.consumption("tasks", "w").drain()
    assert sorted(calls) == [("once", 1), ("twice", 1), ("twice", 2)]
    assert (joe.stats.acked, joe.stats.nacked) == (2, 1)
    seen.close()


def test_iterating_over_a_consumer(joe: Agent) -> None:
    with joe.consume("tasks", "w", backoff=[0.0]) as tasks:
        tasks.caught_up()
        tracked = [joe.publish_tracked("tasks", number) for number in range(3)]
        for message in tasks:
            assert (message.consumer, message.lost.is_set()) == ("w", False)
            if message.data == 0:
                message.extend()
                message.ack()
            elif message.data == 1 and message.attempt == 1:
                message.nack(delay=0, reason="again")
            elif message.data == 2:
                message.term("no")
            else:
                message.ack()
                break
        assert [one.done(timeout=10).state for one in tracked] == ["done", "done", "dead"]
        assert next(tracked[0]).state == "delivered"
        joe.publish("tasks", 3)
        held = next(tasks)
    with pytest.raises((Closed, LeaseLost)):
        held.ack()
    assert list(tasks) == []


def test_a_mandatory_question(joe: Agent) -> None:
    with pytest.raises(NoResponder):
        joe.request("q", 1, timeout=10, mandatory=True)


def test_large_bodies_and_what_led_to_a_message(joe: Agent, tmp_path: Path) -> None:
    body = bytes(range(256)) * 2000
    first = joe.publish("c", "how?")
    ref = joe.attach("g", body, name="report")
    joe.publish("c", "so", parent=first.id, attachments=[ref])
    with joe.subscribe("c", {"last": 1}, where={"parent": first.id}) as incoming:
        message = next(incoming)
    assert message.fetch("report") == body
    assert message.fetch_to(tmp_path / "report").read_bytes() == body
    assert [each.data for each in message.ancestors()] == ["how?"]
    assert [each.data for each in joe.thread("c", message.id)] == ["how?", "so"]
