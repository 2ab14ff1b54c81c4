"""What led to a message: ancestors, threads, and a context that fits."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbub import Agent, Message, NotFound
from hubbub.testing import MemoryBroker


async def chain(agent: Agent, topic: str, count: int, parent: str | None = None) -> list[str]:
    """Messages of which each answers the one before it; their ids."""
    ids = []
    for n in range(count):
        receipt = await agent.publish(topic, {"n": n}, parent=parent)
        ids.append(parent := receipt.id)
    return ids


async def last(agent: Agent, topic: str) -> Message:
    subscription = agent.subscribe(topic, {"last": 1})
    message = await anext(subscription)
    await subscription.close()
    return message


class TestAncestors:
    async def test_nearest_first_and_so_many(self, joe: Agent, ann: Agent) -> None:
        ids = await chain(joe, "c", 100)
        await joe.publish("c", "elsewhere")
        message = await ann.topic("c").message(ids[-1])
        assert message is not None
        assert [m.id for m in await message.ancestors(5)] == ids[-2:-7:-1]
        assert [m.id for m in await message.ancestors(1000)] == ids[-2::-1]
        assert await message.ancestors(0) == []
        root = await ann.topic("c").message(ids[0])
        assert root is not None
        assert await root.ancestors() == []

    async def test_where_something_is_gone_it_ends(self, joe: Agent, broker: MemoryBroker) -> None:
        ids = await chain(joe, "c", 6)
        broker.trim("g/c", 4)
        message = await last(joe, "c")
        assert [m.id for m in await message.ancestors(10)] == [ids[4], ids[3]]
        assert await joe.topic("c").message(ids[0]) is None

    async def test_across_topics(self, joe: Agent, ann: Agent) -> None:
        @ann.on("work", start="all")
        async def work(message: Message) -> None:
            await ann.publish("done", {"of": message.id})

        first = await chain(joe, "work", 2)
        results = joe.subscribe("done", "all")
        answers = [await anext(results), await anext(results)]
        assert [m.data["of"] for m in answers] == first
        line = await answers[1].ancestors()
        assert [(m.topic, m.id) for m in line] == [("g/work", first[1]), ("g/work", first[0])]

    async def test_from_an_answer_to_its_question(self, joe: Agent, ann: Agent) -> None:
        @ann.on("questions")
        async def answer(message: Message) -> None:
            await message.reply("yes")

        await ann.wait_for("online")
        reply = await joe.request("questions", "well?", timeout=5, durable=True)
        (question,) = await reply.ancestors()
        assert (question.topic, question.data) == ("g/questions", "well?")

    async def test_a_payload_of_bytes_and_a_circle(self, joe: Agent) -> None:
        await joe.publish("c", b"\x00\x01", id="1", headers={"cause": {"topic": "g/d", "id": "1"}})
        await joe.publish("d", 1, id="1", headers={"cause": {"topic": "g/c", "id": "1"}})
        message = await last(joe, "c")
        assert [(m.topic, m.data) for m in await message.ancestors()] == [("g/d", 1)]
        other = await last(joe, "d")
        assert [(m.topic, m.data) for m in await other.ancestors()] == [("g/c", b"\x00\x01")]

    @pytest.mark.parametrize(
        "cause", [1, "x", {}, {"topic": "g", "id": "1"}, {"topic": "g/*", "id": "1"}, {"topic": "g/c"}]
    )
    async def test_a_header_that_makes_no_sense_is_the_end(self, joe: Agent, cause: Any) -> None:
        await joe.publish("c", 1, headers={"cause": cause})
        assert await (await last(joe, "c")).ancestors() == []

    async def test_the_broker_is_asked_again_when_it_is_back(self, joe: Agent, broker: MemoryBroker) -> None:
        ids = await chain(joe, "c", 3)
        message = await last(joe, "c")
        broker.crash()
        await joe.wait_for("degraded")
        broker.start()
        assert [m.id for m in await message.ancestors()] == [ids[1], ids[0]]


class TestThread:
    async def test_everything_that_grew_from_one_root_and_nothing_else(self, joe: Agent) -> None:
        (root,) = await chain(joe, "c", 1)
        left = await chain(joe, "c", 3, root)
        await chain(joe, "c", 4)
        right = await chain(joe, "c", 2, root)
        twig = await chain(joe, "c", 1, left[0])
        conversation = joe.topic("c")
        for id in (root, left[2], twig[0]):
            assert [m.id for m in await conversation.thread(id)] == [root, *left, *right, *twig]
        assert [m.id for m in await conversation.thread(root, limit=2)] == [root, left[0]]
        with pytest.raises(NotFound):
            await conversation.thread("none")
        with pytest.raises(ValueError, match="limit"):
            await conversation.thread(root, limit=0)

    async def test_a_long_line_to_the_root(self, joe: Agent) -> None:
        ids = await chain(joe, "c", 80)
        assert [m.id for m in await joe.topic("c").thread(ids[-1])] == ids

    async def test_what_is_left_of_one(self, joe: Agent, broker: MemoryBroker) -> None:
        ids = await chain(joe, "c", 5)
        broker.trim("g/c", 3)
        assert [m.id for m in await joe.topic("c").thread(ids[-1])] == ids[2:]


class TestContext:
    async def test_newest_first_cut_at_the_budget(self, joe: Agent) -> None:
        ids = await chain(joe, "c", 20)
        await chain(joe, "other", 3)
        conversation = joe.topic("c")
        size = len(b'{"n":19}')
        whole = await conversation.context(budget_bytes=10_000)
        assert ([m.id for m in whole.messages], whole.complete) == (ids[::-1], True)
        part = await conversation.context(ids[10], budget_bytes=3 * len(b'{"n":9}') + 1)
        assert [m.id for m in part.messages] == [ids[10], ids[9], ids[8]][: len(part.messages)]
        assert (part.complete, part.used <= 22) == (False, True)
        none = await conversation.context(budget_bytes=size - 1)
        assert (none.messages, none.used, none.complete) == ([], 0, False)

    async def test_tokens_are_counted_as_one_likes(self, joe: Agent) -> None:
        ids = await chain(joe, "c", 10)
        conversation = joe.topic("c")
        counted = await conversation.context(budget_tokens=4, counter=lambda m: 1)
        assert ([m.id for m in counted.messages], counted.used) == (ids[:5:-1], 4)
        guessed = await conversation.context(budget_tokens=5)
        assert (len(guessed.messages), guessed.used) == (2, 4)
        shallow = await conversation.context(budget_tokens=1000, depth=2)
        assert ([m.id for m in shallow.messages], shallow.complete) == (ids[:6:-1], False)

    async def test_of_nothing_and_of_a_message_in_hand(self, joe: Agent) -> None:
        conversation = joe.topic("c")
        assert (await conversation.context(budget_bytes=10)).messages == []
        ids = await chain(joe, "c", 2)
        message = await last(joe, "c")
        context = await conversation.context(message, budget_bytes=100)
        assert [m.id for m in context.messages] == ids[::-1]
        for budgets in ({}, {"budget_bytes": 1, "budget_tokens": 1}):
            with pytest.raises(ValueError, match="exactly one"):
                await conversation.context(**budgets)  # type: ignore[arg-type]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parents=st.lists(st.integers(-1, 20), max_size=20), asked=st.integers(0, 20), depth=st.integers(0, 25))
async def test_any_tree(joe: Agent, parents: list[int], asked: int, depth: int) -> None:
    """Ancestors and threads are those that the parents say, whatever the tree."""
    topic = f"t{joe._composer.new_id()}"
    ids: list[str] = []
    up: dict[str, str | None] = {}
    for number, parent in enumerate([-1, *parents]):
        over = ids[parent % number] if number and parent >= 0 else None
        ids.append((await joe.publish(topic, number, parent=over)).id)
        up[ids[-1]] = over
    id = ids[asked % len(ids)]
    line = [id]
    while (over := up[line[-1]]) is not None:
        line.append(over)
    message = await joe.topic(topic).message(id)
    assert message is not None
    assert [m.id for m in await message.ancestors(depth)] == line[1 : depth + 1]
    root, grown = line[-1], {line[-1]}
    for each in ids:
        if up[each] in grown:
            grown.add(each)
    assert [m.id for m in await joe.topic(topic).thread(id)] == [each for each in ids if each in grown]
    assert root in grown
