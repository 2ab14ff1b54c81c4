"""Mail between agents: sent, read, answered; and while the broker is away."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hubbub import Agent, Conflict, InvalidName, Mail, NotFound, Retry
from hubbub.testing import MemoryBroker

URL = "ws://mail.test"


@pytest.fixture
def make_local(make_agent: Any) -> Any:
    return lambda name, **options: make_agent(name, **{"local": True, "url": URL, **options})


async def online(*agents: Agent) -> None:
    for agent in agents:
        await agent.wait_for("online")


async def degraded(*agents: Agent) -> None:
    for agent in agents:
        await agent.wait_for("degraded")


async def sent(agent: Agent, to: str, *bodies: Any, **options: Any) -> list[asyncio.Task[Any]]:
    """Mail on its way: tasks that end with the receipts."""
    tasks = []
    for body in bodies:
        tasks.append(asyncio.create_task(agent.send(to, "s", body, **options)))
        await asyncio.sleep(0)  # accepted, in order
    return tasks


async def until(done: Callable[[], bool]) -> None:
    """Let (virtual) time go by until something is so."""
    async with asyncio.timeout(60):
        while not done():  # noqa: ASYNC110 - counters tell nobody
            await asyncio.sleep(0.01)


async def acked(inbox: Any, count: int) -> list[Mail]:
    found = []
    for _ in range(count):
        mail = await anext(inbox)
        await mail.ack()
        found.append(mail)
    return found


async def test_a_mail_is_sent_read_once_and_answered(joe: Agent, ann: Agent) -> None:
    receipt = await joe.send("ann", subject="Task", body={"what": "it"}, id="m1")
    assert (receipt.seq, receipt.dup) == (1, False)
    assert (await joe.send("ann", subject="Task", body={"what": "it"}, id="m1")).dup
    async with ann.inbox() as inbox, joe.inbox() as answers:
        mail = await anext(inbox)
        assert (mail.sender, mail.to, mail.subject, mail.body) == ("joe", "ann", "Task", {"what": "it"})
        assert (mail.topic, mail.seq, mail.local) == ("g/@ann", 1, False)
        await mail.ack()
        await mail.reply("done")
        answer = await anext(answers)
        assert (answer.sender, answer.subject, answer.body) == ("ann", "Re: Task", "done")
        assert answer.in_reply_to == "m1"
        await answer.reply("thanks")
        assert (await anext(inbox)).subject == "Re: Task"


async def test_an_answer_says_how_far_it_is_from_the_first_mail(joe: Agent, ann: Agent) -> None:
    """Outside of a handler too, and how many of those that led to it went to all."""
    async with ann.inbox() as inbox, joe.inbox() as answers:
        await joe.send("ann", headers={"hops": 2, "broadcasts": 1})
        mail = await anext(inbox)
        assert (mail.hops, mail.broadcasts) == (2, 1)
        await mail.reply("done")
        answer = await anext(answers)
        cause = {"topic": mail.topic, "id": mail.id}
        assert answer.headers == {"hops": 3, "broadcasts": 1, "in_reply_to": mail.id, "cause": cause}
        await answer.reply("something else", headers={"hops": 0})
        assert (await anext(inbox)).headers == {"hops": 0, "in_reply_to": answer.id}


async def test_a_handler_passes_on_how_many_mails_went_to_all(joe: Agent, ann: Agent) -> None:
    @ann.on_mail()
    async def answer(mail: Mail) -> None:
        await ann.send("joe")

    async with joe.inbox() as answers:
        await joe.send("ann", headers={"broadcasts": 2})
        found = await anext(answers)
        assert (found.hops, found.broadcasts) == (1, 2)
        await joe.send("ann", headers={"broadcasts": "many"})
        assert (await anext(answers)).broadcasts == 0


async def test_what_was_acked_does_not_come_again(ann: Agent, joe: Agent) -> None:
    for number in range(3):
        await joe.send("ann", body=number)
    async with ann.inbox() as inbox:
        assert [mail.body for mail in await acked(inbox, 2)] == [0, 1]
    async with ann.inbox() as inbox:
        assert (await anext(inbox)).body == 2


async def test_a_handler_gets_what_comes_and_may_be_there_before_the_agent_is(
    make_agent: Any, joe: Agent, broker: MemoryBroker
) -> None:
    ann = make_agent("ann")
    got: asyncio.Queue[Any] = asyncio.Queue()

    @ann.on_mail(backoff=[0.1])
    async def read(mail: Mail) -> None:
        got.put_nowait((mail.body, mail.attempt))
        if mail.body == "hard" and mail.attempt == 1:
            raise Retry(after=0.1)

    async with ann:
        await online(ann)
        await joe.send("ann", body="easy")
        await joe.send("ann", body="hard")
        assert [await got.get() for _ in range(3)] == [("easy", 1), ("hard", 1), ("hard", 2)]
        broker.cut("ann")
        await joe.send("ann", body="after")
        assert await got.get() == ("after", 1)


async def test_mail_to_all_and_to_nobody(joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
    await joe.send("ALL", body="hear")
    async with ann.inbox() as inbox:
        mail = await anext(inbox)
        assert (mail.to, mail.body) == ("ALL", "hear")
    assert broker.stored("g/@joe") == []
    with pytest.raises(NotFound):
        await joe.send("nobody", body="?")
    await joe.send("later", body="kept", create=True)
    assert [message.id for message in broker.stored("agents/@later")]
    with pytest.raises(InvalidName):
        await joe.send("a b")


async def test_what_is_no_mail_is_shown_too(joe: Agent, ann: Agent) -> None:
    await joe.publish("g/@ann", [1, 2], type="note")
    async with ann.inbox() as inbox:
        mail = await anext(inbox)
        assert (mail.subject, mail.body, mail.to, mail.type) == ("", [1, 2], "ann", "note")
        await mail.ack()


async def test_an_agent_reads_its_inbox_once_at_a_time(ann: Agent) -> None:
    async with ann.inbox():
        with pytest.raises(Conflict):
            ann.inbox()


class TestWhileTheBrokerIsAway:
    async def test_mail_is_heard_at_once_and_its_copies_are_dropped(
        self, make_local: Any, broker: MemoryBroker
    ) -> None:
        async with make_local("joe") as joe, make_local("ann") as ann, ann.inbox() as inbox:
            await online(joe, ann)
            await joe.send("ann", body="stored")
            assert [mail.local for mail in await acked(inbox, 1)] == [False]
            broker.crash()
            await degraded(joe, ann)
            sending = await sent(joe, "ann", 1, 2, 3)
            heard = await acked(inbox, 3)
            assert [(mail.body, mail.local, mail.seq) for mail in heard] == [(n, True, None) for n in (1, 2, 3)]
            broker.start()
            assert [(await task).seq for task in sending] == [2, 3, 4]
            await joe.send("ann", body="live again")
            assert [(mail.body, mail.seq) for mail in await acked(inbox, 1)] == [("live again", 5)]
            await until(lambda: ann.stats.acked == 5)
            assert ann.stats.local == 3
        async with make_local("ann") as later, later.inbox() as inbox:
            await later.wait_for("online")
            await inbox.caught_up()
            assert inbox.unsettled == 0  # all of it was marked as read

    async def test_what_is_at_work_goes_on_as_the_copys_own(self, make_local: Any, broker: MemoryBroker) -> None:
        async with make_local("joe") as joe, make_local("ann") as ann:
            begun, go_on, done = asyncio.Event(), asyncio.Event(), []

            @ann.on_mail()
            async def read(mail: Mail) -> None:
                begun.set()
                await go_on.wait()
                done.append((mail.body, mail.local))

            await online(joe, ann)
            broker.crash()
            await degraded(joe, ann)
            (sending,) = await sent(joe, "ann", "slow")
            await begun.wait()
            broker.start()
            assert (await sending).seq == 1
            reader = ann.consumption("_mail/@ann", "inbox")
            await until(lambda: reader.unsettled == 1)  # the copy has come
            go_on.set()
            await until(lambda: ann.stats.acked == 1)
            assert (done, reader.unsettled) == ([("slow", True)], 0)

    async def test_what_failed_comes_again_from_the_broker(self, make_local: Any, broker: MemoryBroker) -> None:
        async with make_local("joe") as joe, make_local("ann") as ann, ann.inbox() as inbox:
            await online(joe, ann)
            broker.crash()
            await degraded(joe, ann)
            sending = await sent(joe, "ann", "nacked", "dropped", "kept")
            await (await anext(inbox)).nack()
            assert (await anext(inbox)).body == "dropped"  # and nobody holds it
            kept = await anext(inbox)
            await kept.ack()
            broker.start()
            await asyncio.gather(*sending)
            assert [(mail.body, mail.local) for mail in await acked(inbox, 2)] == [
                ("nacked", False),
                ("dropped", False),
            ]
            await joe.send("ann", body="end")
            assert (await anext(inbox)).body == "end"

    async def test_a_senders_order_stays(self, make_local: Any, broker: MemoryBroker) -> None:
        """ann has not been given joe's first mail: his second must not come before it."""
        async with make_local("joe") as joe, make_local("ann") as ann, ann.inbox() as inbox:
            await online(joe, ann)
            broker.cut("ann")
            await joe.send("ann", body=1)
            broker.crash()
            await degraded(joe, ann)
            sending = await sent(joe, "ann", 2)
            broker.start()
            await asyncio.gather(*sending)
            assert [(mail.body, mail.local) for mail in await acked(inbox, 2)] == [(1, False), (2, False)]

    async def test_mail_to_all_is_heard_by_all_but_the_sender(self, make_local: Any, broker: MemoryBroker) -> None:
        agents = make_local("joe"), make_local("ann"), make_local("eve")
        async with agents[0] as joe, agents[1] as ann, agents[2] as eve:
            await online(joe, ann, eve)
            broker.crash()
            await degraded(joe, ann, eve)
            async with joe.inbox() as own, ann.inbox() as anns, eve.inbox() as eves:
                sending = await sent(joe, "ALL", "hear")
                for inbox in (anns, eves):
                    assert [(mail.body, mail.local) for mail in await acked(inbox, 1)] == [("hear", True)]
                broker.start()
                await asyncio.gather(*sending)
                await joe.send("joe", body="to myself")
                assert (await anext(own)).body == "to myself"
                await joe.send("ann", body="next")
                assert (await anext(anns)).body == "next"

    async def test_nobody_else_hears_it(self, make_local: Any, broker: MemoryBroker) -> None:
        async with make_local("joe") as joe, make_local("ann") as ann, make_local("eve") as eve:
            await online(joe, ann, eve)
            everything = eve.subscribe("**")
            await everything.ready()
            broker.crash()
            await degraded(joe, ann, eve)
            async with eve.inbox() as eves, ann.inbox() as anns:
                sending = await sent(joe, "ann", "secret")
                assert (await anext(anns)).body == "secret"
                assert (everything.buffered, eve.stats.local) == (0, 0)
                assert eves.unsettled == 0
                broker.start()
                await asyncio.gather(*sending)

    async def test_before_the_first_connection_too(self, make_local: Any, broker: MemoryBroker) -> None:
        broker.crash()
        async with make_local("joe") as joe, make_local("ann") as ann, ann.inbox() as inbox:
            await degraded(joe, ann)
            sending = await sent(joe, "ann", "early", create=True)
            assert [mail.local for mail in await acked(inbox, 1)] == [True]
            broker.start()
            await asyncio.gather(*sending)
            await joe.send("ann", body="next")
            assert [(mail.body, mail.local) for mail in await acked(inbox, 1)] == [("next", False)]
