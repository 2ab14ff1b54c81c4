"""Questions that nobody hears, and questions that are given up."""

import asyncio
from typing import Any

import pytest

from harness.until import until
from hubbub import Agent, Delivery, Message, NoResponder, NotFound, RequestTimeout
from hubbub.testing import MemoryBroker


class Answering:
    """A handler that never answers, and what became of it."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.cancelled: list[Any] = []

    async def __call__(self, message: Message) -> None:
        self.begun.append(message.data)
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            self.cancelled.append(message.data)
            raise


@pytest.fixture(params=["plain", "consumer"])
async def answering(request: pytest.FixtureRequest, joe: Agent, ann: Agent) -> Answering:
    """Joe's handler of g/q."""
    handler = Answering()

    async def answer(message: Any) -> None:
        await handler(message)

    if request.param == "plain":
        joe.on("q", concurrency=3)(answer)
        warm = joe.subscribe("q")
        await warm.ready()
        await warm.close()
    else:
        joe.on("q", consumer="w", concurrency=3)(answer)
        await joe.consumption("q", "w").ready()
    with pytest.raises(RequestTimeout):  # the first question in a group is when an agent begins to listen there
        await ann.request("q", "first", timeout=5)
    await until(lambda: handler.cancelled == ["first"])
    return handler


async def test_a_timeout_calls_the_question_off(answering: Answering, joe: Agent, broker: MemoryBroker) -> None:
    assert joe.stats.called_off == 1
    await until(lambda: joe.stats.acked == (0 if joe._runners else 1))
    assert broker.stored("g/_cancel") == []


async def test_a_caller_that_is_cancelled_calls_the_question_off(answering: Answering, ann: Agent) -> None:
    asking = asyncio.create_task(ann.request("q", "second", timeout=500))
    await until(lambda: "second" in answering.begun)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: answering.cancelled == ["first", "second"])


async def test_nobody_else_can_call_it_off(answering: Answering, joe: Agent, ann: Agent, make_agent: Any) -> None:
    seen = joe.subscribe("q")
    await seen.ready()
    asking = asyncio.create_task(ann.request("q", "mine", timeout=100))
    question = await anext(seen)
    async with make_agent("eve") as eve:
        cancel = {"id": question.id, "topic": question.topic}
        for data in (cancel, "nonsense", {"id": 1}):
            await eve.publish("_cancel", data, type="cancel", ephemeral=True)
        await asyncio.sleep(10)
        assert answering.cancelled == ["first"]
        await ann.publish("_cancel", cancel, type="cancel", ephemeral=True)
        await until(lambda: answering.cancelled == ["first", "mine"])
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_what_was_not_begun_is_passed_over(answering: Answering, joe: Agent, ann: Agent) -> None:
    asking = [asyncio.create_task(ann.request("q", number, timeout=500)) for number in range(3)]
    await until(lambda: len(answering.begun) == 4)
    with pytest.raises(RequestTimeout):
        await ann.request("q", "waits in vain", timeout=5)
    for task in asking:
        task.cancel()
    await until(lambda: joe.stats.called_off == 5)
    assert "waits in vain" not in answering.begun
    await asyncio.wait(asking)


async def test_the_handler_goes_on_with_others_after_it(answering: Answering, joe: Agent, ann: Agent) -> None:
    tasks = [asyncio.create_task(ann.request("q", number, timeout=20)) for number in range(10)]
    await asyncio.wait(tasks)
    await until(lambda: joe.stats.called_off == 11)
    assert all(isinstance(task.exception(), RequestTimeout) for task in tasks)
    assert joe.stats.handler_errors == 0


async def test_an_answer_in_time_calls_nothing_off(joe: Agent, ann: Agent) -> None:
    @joe.on("q", consumer="w")
    async def answer(message: Delivery) -> None:
        await message.reply(message.data)

    await joe.consumption("q", "w").ready()
    signals = joe.subscribe("_cancel")
    await signals.ready()
    assert (await ann.request("q", 1, timeout=10)).data == 1
    await asyncio.sleep(20)
    assert signals.buffered == 0


async def test_a_mandatory_question_that_nobody_would_hear_fails_at_once(joe: Agent, ann: Agent) -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    own = ann.subscribe("q")
    await own.ready()
    with pytest.raises(NoResponder, match="g/q"):
        await ann.request("q", 1, timeout=100, mandatory=True)
    assert loop.time() - before < 1
    with pytest.raises(NotFound):
        await ann.publish("q", 1, mandatory=True)

    @joe.on("q", consumer="w")
    async def answer(message: Delivery) -> None:
        await message.reply("yes")

    await joe.consumption("q", "w").ready()
    assert (await ann.request("q", 1, timeout=100, mandatory=True)).data == "yes"


async def test_nothing_is_left_of_questions_that_were_served(joe: Agent, ann: Agent) -> None:
    @joe.on("q", consumer="w")
    async def answer(message: Delivery) -> None:
        await message.reply("yes")

    await joe.consumption("q", "w").ready()
    for _ in range(3):
        await ann.request("q", 1, timeout=10)
    assert joe._cancels._serving == {}
    assert list(joe._cancels._lines) == ["g"]
