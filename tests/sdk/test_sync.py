"""The façade for scripts. The broker in memory lives in the agent's thread."""

import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from hubbub import Closed, RequestTimeout, Undelivered
from hubbub.sync import Agent, Message
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
