"""Shared state as agents use it: versions, transactions, watches, leases, over lost connections and lost answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from harness.until import until
from hubbub import (
    Agent,
    Closed,
    InvalidName,
    LeaseLost,
    Publication,
    RequestTimeout,
    SharedState,
    StateConflictError,
    StateEntry,
    StateValue,
    TooLarge,
    Transaction,
    Unencodable,
)
from hubbub.testing import MemoryBroker

MakeAgent = Callable[..., Agent]


async def take(entries: AsyncIterator[StateEntry], count: int) -> list[tuple[str, Any, bool]]:
    """The next entries of a watch: key, value, whether it was deleted."""
    async with asyncio.timeout(60):
        return [(entry.key, entry.value, entry.deleted) for entry in [await anext(entries) for _ in range(count)]]


async def _until_deleted(state: SharedState, count: int) -> AsyncIterator[StateEntry]:
    async for entry in state.watch():
        if entry.deleted:
            yield entry
            count -= 1
            if not count:
                return


class TestKeys:
    async def test_what_one_puts_the_other_gets(self, joe: Agent, ann: Agent) -> None:
        state, theirs = joe.topic("c").state, ann.topic("c").state
        assert await theirs.get("plan") == StateValue(None, 0)
        version = await state.put("plan", {"steps": [1, 2]})
        assert await theirs.get("plan") == ({"steps": [1, 2]}, version)
        assert await theirs.put("plan", 2, expected_version=version) == version + 1
        assert await state.delete("plan") == version + 2
        assert await theirs.get("plan") == (None, 0)

    async def test_a_conflict_says_what_was_expected_and_what_is(self, joe: Agent) -> None:
        state = joe.topic("c").state
        await state.put("k", 1)
        with pytest.raises(StateConflictError) as caught:
            await state.update({"k": 2, "j": 2}, expected_version={"j": 0, "k": 7})
        assert (caught.value.expected, caught.value.current, caught.value.key) == (7, 1, "k")
        with pytest.raises(StateConflictError) as caught:
            await state.update({"k": 2}, expected_version=0)
        assert (caught.value.expected, caught.value.current, caught.value.key) == (0, 1, None)
        assert await state.entries() == {"k": (1, 1)}

    async def test_several_keys_and_messages_in_one_step(self, joe: Agent, ann: Agent) -> None:
        state = joe.group_state()
        await state.update({"a": 1, "b": 1})
        async with ann.topic("c").subscribe() as incoming:
            await incoming.ready()
            version = await state.update(
                {"a": 2},
                delete=["b"],
                publish=[("c", "plain"), Publication("g/c", "full", type="note", headers={"h": 1}, id="mine")],
            )
            first, second = await anext(incoming), await anext(incoming)
        assert (first.data, second.data, second.type, second.id) == ("plain", "full", "note", "mine")
        assert second.headers["h"] == 1
        assert await state.entries() == {"a": (2, version)}

    async def test_entries_by_pattern_and_over_many_pages(self, joe: Agent) -> None:
        state = joe.topic("c").state
        for begin in range(0, 2500, 250):
            await state.update({f"n/{number:04d}": number for number in range(begin, begin + 250)})
        await state.put("other", 1)
        found = await state.entries("n/*")
        assert [value.value for value in found.values()] == list(range(2500))
        assert list(await state.entries("other")) == ["other"]
        assert len(await state.entries()) == 2501

    async def test_a_change_that_no_frame_holds_is_refused_before_it_is_sent(
        self, joe: Agent, broker: MemoryBroker
    ) -> None:
        state = joe.topic("c").state
        await state.put("k", 1)
        connects = broker.connects
        for large in (
            {"k": "x" * broker.max_frame},
            {f"k{number}": "x" * (broker.max_frame // 4) for number in range(5)},
        ):
            with pytest.raises(TooLarge, match=f"frames of {broker.max_frame} at most"):
                await state.update(large)
        with pytest.raises(TooLarge):
            await state.update({}, publish=[("c", "x" * broker.max_frame)])
        assert await state.entries() == {"k": (1, 1)}
        assert broker.connects == connects

    async def test_a_page_at_a_time(self, joe: Agent) -> None:
        state = joe.topic("c").state
        await state.update({f"due/{number}": number for number in range(5)} | {"else": 0})
        first = await state.page("due/*", limit=2)
        assert ([entry.key for entry in first.entries], first.more) == (["due/0", "due/1"], "due/1")
        rest = await state.page("due/*", after=first.more, limit=9)
        assert ([(entry.key, entry.value) for entry in rest.entries], rest.more) == (
            [("due/2", 2), ("due/3", 3), ("due/4", 4)],
            None,
        )

    async def test_states_of_groups_and_conversations_are_apart(self, joe: Agent) -> None:
        await joe.group_state().put("k", "group")
        await joe.group_state("h").put("k", "another")
        await joe.topic("c").state.put("k", "conversation")
        assert joe.group_state().topic == "g/_state"
        assert joe.topic("c").state.topic == "g/_state/c"
        states = [joe.group_state(), joe.group_state("h"), joe.shared_state("h/c"), joe.shared_state("c")]
        assert [(await state.get("k")).value for state in states] == ["group", "another", None, "conversation"]

    async def test_what_can_t_be_is_refused_before_it_is_sent(self, joe: Agent, make_agent: MakeAgent) -> None:
        state = joe.topic("c").state
        for key in ("", "a b", "a//b", "k" * 129):
            with pytest.raises(InvalidName):
                await state.get(key)
            with pytest.raises(InvalidName):
                await state.put(key, 1)
        with pytest.raises(InvalidName):
            await state.entries("a/**/b")
        with pytest.raises(Unencodable):
            await state.put("k", object())
        for name in ("c/*", "_state", "g/_state/c"):
            with pytest.raises(InvalidName):
                _ = joe.topic(name).state
        nobody = make_agent("nobody", group=None)
        with pytest.raises((Closed, InvalidName)):
            nobody.group_state()
        with pytest.raises(Closed):
            nobody.shared_state("g/c")


class TestLostConnections:
    async def test_a_change_whose_answer_is_lost_is_made_once(self, joe: Agent, broker: MemoryBroker) -> None:
        state = joe.topic("c").state
        broker.hold_answers()
        putting = asyncio.create_task(state.put("k", 1, expected_version=0))
        await until(lambda: bool(broker.stored("g/_state/c")))
        broker.cut()
        broker._answers = None  # lost with the connection
        assert await putting == 1
        assert len(broker.stored("g/_state/c")) == 1

    async def test_while_the_broker_is_away_calls_wait_for_it(self, joe: Agent, broker: MemoryBroker) -> None:
        state = joe.topic("c").state
        broker.crash()
        putting = asyncio.create_task(state.put("k", 1))
        await asyncio.sleep(1)
        assert not putting.done()
        broker.start()
        assert await putting == 1

    async def test_and_give_up_in_time(self, joe: Agent, broker: MemoryBroker) -> None:
        broker.crash()
        before = asyncio.get_running_loop().time()
        with pytest.raises(RequestTimeout, match="2 s"):
            await joe.topic("c").state.get("k", timeout=2)
        assert asyncio.get_running_loop().time() - before == pytest.approx(2)
        broker.start()

    async def test_who_closes_ends_what_waits(self, make_agent: MakeAgent, broker: MemoryBroker) -> None:
        agent = make_agent("joe")
        await agent.open()
        broker.crash()
        getting = asyncio.create_task(agent.topic("c").state.get("k"))
        await asyncio.sleep(0)
        await agent.close()
        with pytest.raises(Closed):
            await getting

    async def test_a_request_before_the_first_connection_is_sent_with_it(
        self, make_agent: MakeAgent, broker: MemoryBroker
    ) -> None:
        async with make_agent("joe") as agent:
            assert await agent.topic("c").state.put("k", 1) == 1


class TestTransactions:
    async def test_what_was_read_must_not_have_changed(self, joe: Agent, ann: Agent) -> None:
        state, theirs = joe.topic("c").state, ann.topic("c").state
        await state.put("stock", 5)
        with pytest.raises(StateConflictError):  # noqa: PT012 - the end of the block raises
            async with state.transaction() as tx:
                stock = await tx.get("stock")
                await theirs.put("stock", 1)
                tx.put("stock", stock - 1)
                tx.publish("orders", "sold")
        assert (await state.get("stock")).value == 1
        assert (await ann.topic("orders").state.get("x")).version == 0

    async def test_what_was_not_there_must_not_have_come(self, joe: Agent, ann: Agent) -> None:
        with pytest.raises(StateConflictError):  # noqa: PT012 - the end of the block raises
            async with joe.topic("c").state.transaction() as tx:
                assert await tx.get("k") is None
                await ann.topic("c").state.put("k", 1)
                tx.put("other", 1)

    async def test_it_sees_what_it_does(self, joe: Agent) -> None:
        state = joe.topic("c").state
        await state.update({"a": 1, "b": 1})
        async with state.transaction() as tx:
            tx.put("a", 2)
            tx.delete("b")
            assert (await tx.get("a"), await tx.get("b")) == (2, None)
            tx.put("b", 3)
            tx.delete("a")
        assert await state.entries() == {"b": (3, tx.version)}

    async def test_a_block_that_raises_or_changes_nothing_sends_nothing(self, joe: Agent, broker: MemoryBroker) -> None:
        state = joe.topic("c").state
        with pytest.raises(KeyError):  # noqa: PT012 - a block that raises
            async with state.transaction() as tx:
                tx.put("k", 1)
                raise KeyError
        async with state.transaction() as tx:
            await tx.get("k")
        assert tx.version is None
        assert broker.stored("g/_state/c") == []

    async def test_what_is_only_read_was_there_at_one_moment(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        state, theirs = joe.topic("c").state, ann.topic("c").state
        await state.update({"a": 1, "b": 1})
        with pytest.raises(StateConflictError) as caught:  # noqa: PT012 - it comes at the end of the block
            async with state.transaction() as tx:
                assert await tx.get("a") == 1
                await theirs.update({"a": 2, "b": 2})
                assert await tx.get("b") == 2
        assert (caught.value.key, tx.version) == ("a", None)
        with pytest.raises(StateConflictError) as caught:  # noqa: PT012 - it comes at the end of the block
            async with state.transaction() as tx:
                assert await tx.get("new") is None
                await theirs.put("new", 1)
                await tx.get("b")
        assert (caught.value.key, caught.value.expected) == ("new", 0)
        seen: list[int] = []

        async def look(tx: Transaction) -> tuple[int, int]:
            a = await tx.get("a")
            if not seen:
                await theirs.update({"a": 3, "b": 3})
            seen.append(a)
            return a, await tx.get("b")

        assert await state.transact(look) == (3, 3)
        assert seen == [2, 3]

    async def test_a_key_that_goes_by_itself_keeps_its_time(self, joe: Agent) -> None:
        state = joe.topic("c").state
        loop = asyncio.get_running_loop()
        began = loop.time()
        await state.update({"modified": 1, "transacted": 1, "put": 1, "renewed": 1}, ttl=10)
        await asyncio.sleep(6)
        await state.modify("modified", lambda number: number + 1)
        async with state.transaction() as tx:
            tx.put("transacted", await tx.get("transacted") + 1)
            tx.put("other", 1)
        await state.put("put", 2)
        await state.modify("renewed", lambda number: number + 1, ttl=20)
        gone = {entry.key: loop.time() - began async for entry in _until_deleted(state, 3)}
        assert {key: round(at) for key, at in gone.items()} == {"modified": 10, "transacted": 10, "renewed": 26}
        assert await state.entries() == {"other": (1, 3), "put": (2, 4)}

    async def test_transact_tries_again_with_what_is_there_then(self, joe: Agent, ann: Agent) -> None:
        state = joe.topic("c").state
        await state.put("n", 1)
        seen: list[int] = []

        async def double(tx: Any) -> int:
            n: int = await tx.get("n")
            seen.append(n)
            if len(seen) < 3:
                await ann.topic("c").state.put("n", n + 10)
            tx.put("n", 2 * n)
            return 2 * n

        assert await state.transact(double) == 42
        assert seen == [1, 11, 21]
        assert (await state.get("n")).value == 42

    async def test_attempts_are_bounded(self, joe: Agent, ann: Agent) -> None:
        state = joe.topic("c").state
        tried = 0

        async def behind(value: Any) -> Any:
            nonlocal tried
            tried += 1
            await ann.topic("c").state.put("n", tried)
            return 0

        with pytest.raises(StateConflictError) as caught:
            await state.modify("n", behind, attempts=4)
        assert tried == 4
        assert any("4 attempts" in note for note in caught.value.__notes__)
        with pytest.raises(ValueError, match="attempts"):
            await state.modify("n", lambda n: n, attempts=0)
        with pytest.raises(ValueError, match="attempts"):
            await state.transact(lambda tx: None, attempts=0)

    async def test_fifty_writers_lose_no_increment(self, make_agent: MakeAgent) -> None:
        agents = [make_agent(f"a{number}") for number in range(10)]
        for agent in agents:
            await agent.open()

        async def count(state: SharedState) -> None:
            for _ in range(10):
                await state.modify("n", lambda n: (n or 0) + 1)

        await asyncio.gather(*(count(agent.topic("c").state) for agent in agents for _ in range(5)))
        assert await agents[0].topic("c").state.get("n") == (500, 500)
        for agent in agents:
            await agent.close()


class TestWatching:
    async def test_first_what_is_there_then_what_changes(self, joe: Agent, ann: Agent) -> None:
        state, theirs = joe.topic("c").state, ann.topic("c").state
        await theirs.update({"a": 1, "b": 1, "x/y": 1})
        entries = state.watch("*")
        assert await take(entries, 2) == [("a", 1, False), ("b", 1, False)]
        await theirs.put("a", 2)
        await theirs.put("x/y", 2)
        await theirs.update({"c": None}, delete=["b", "never"])
        assert await take(entries, 3) == [("a", 2, False), ("c", None, False), ("b", None, True)]
        await entries.aclose()  # type: ignore[attr-defined]

    async def test_nothing_is_missed_between_the_snapshot_and_the_changes(self, joe: Agent, ann: Agent) -> None:
        await ann.topic("c").state.put("k", 0)
        entries = joe.topic("c").state.watch()
        assert await take(entries, 1) == [("k", 0, False)]
        for number in range(1, 4):  # the subscription is not there yet
            await ann.topic("c").state.put("k", number)
        assert await take(entries, 3) == [("k", number, False) for number in (1, 2, 3)]
        await entries.aclose()  # type: ignore[attr-defined]

    async def test_over_disconnects_and_crashes_each_change_comes_once(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        entries = joe.topic("c").state.watch()
        seen: list[int] = []

        async def watching() -> None:
            async for entry in entries:
                seen.append(entry.value)
                if entry.value == 29:
                    return

        task = asyncio.create_task(watching())
        for number in range(30):
            await ann.topic("c").state.put("k", number)
            if number % 7 == 3:
                broker.cut("joe")
            if number == 15:
                broker.crash()
                broker.start()
        async with asyncio.timeout(60):
            await task
        assert seen == sorted(set(seen))
        assert seen[-1] == 29
        await entries.aclose()  # type: ignore[attr-defined]

    async def test_when_history_was_lost_what_is_gone_is_told_too(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        theirs = ann.topic("c").state
        await theirs.update({"stays": 1, "goes": 1, "changes": 1})
        entries = joe.topic("c").state.watch()
        await take(entries, 3)
        following = asyncio.create_task(take(entries, 2))
        await asyncio.sleep(0.1)
        broker.crash()
        await theirs_gone(broker)
        broker.start()
        assert await following == [("goes", None, True), ("changes", 2, False)]
        await theirs.put("new", 1)
        assert await take(entries, 1) == [("new", 1, False)]
        await entries.aclose()  # type: ignore[attr-defined]

    async def test_who_is_present_at_a_state_is_no_change_of_it(self, joe: Agent, ann: Agent) -> None:
        state = joe.topic("c").state
        await state.put("k", 1)
        entries = state.watch()
        assert await take(entries, 1) == [("k", 1, False)]
        following = asyncio.create_task(take(entries, 1))
        async with ann.presence(state.topic):
            await state.put("k", 2)
        assert await following == [("k", 2, False)]
        await entries.aclose()  # type: ignore[attr-defined]

    async def test_a_watch_ends_with_its_agent(self, make_agent: MakeAgent) -> None:
        agent = make_agent("joe")
        await agent.open()
        entries = agent.topic("c").state.watch()
        waiting = asyncio.create_task(take(entries, 1))
        await asyncio.sleep(0.1)
        await agent.close()
        with pytest.raises(StopAsyncIteration):
            await waiting


async def theirs_gone(broker: MemoryBroker) -> None:
    """While it was away, retention took the history of changes, and keys were deleted and set."""
    state = broker._states._states["g/_state/c"]
    log = broker.log("g/_state/c")
    for number, pub in enumerate(("goes", "changes"), 2):
        log.messages.append(log.messages[0])
        held = state.pop(pub)
        if pub == "changes":
            state[pub] = held._replace(version=number, value=type(held.value)(b"2"))
    broker.trim("g/_state/c", log.head + 1)


class TestLeases:
    async def test_one_holder_at_a_time_and_the_next_when_it_is_done(self, joe: Agent, ann: Agent) -> None:
        inside = 0
        tokens: list[int] = []

        async def work(agent: Agent) -> None:
            nonlocal inside
            for _ in range(5):
                async with agent.topic("c").lease("writer", ttl=5) as lease:
                    inside += 1
                    assert (inside, lease.held) == (1, True)
                    tokens.append(lease.token)
                    await asyncio.sleep(0.3)
                    inside -= 1
                assert not lease.held

        await asyncio.gather(work(joe), work(ann))
        assert tokens == sorted(set(tokens))
        assert len(tokens) == 10

    async def test_it_is_renewed_for_as_long_as_it_is_held(self, joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
        async with joe.topic("c").lease("writer", ttl=3) as lease:
            await asyncio.sleep(60)
            assert lease.held
            assert (await ann.topic("c").state.get(lease.key)).version == lease.token
            assert len(broker.stored("g/_state/c")) == 1, "renewals write nothing"
            with pytest.raises(RequestTimeout, match="free"):
                async with ann.topic("c").lease("writer", timeout=5):
                    pass

    async def test_over_short_outages_too(self, joe: Agent, broker: MemoryBroker) -> None:
        async with joe.topic("c").lease("writer", ttl=20) as lease:
            for _ in range(3):
                broker.crash()
                await asyncio.sleep(3)
                broker.start()
                await asyncio.sleep(15)
            assert lease.held

    async def test_who_can_t_renew_it_has_lost_it_and_is_stopped(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(LeaseLost):  # noqa: PT012 - the end of the block raises
            async with joe.topic("c").lease("writer", ttl=6) as lease:
                broker.crash()
                await asyncio.sleep(600)
        assert lease.lost.is_set()
        assert loop.time() - begun < 6.1
        broker.start()
        async with ann.topic("c").lease("writer", ttl=6) as theirs:
            assert theirs.token > lease.token
            assert loop.time() - begun > 6.0

    async def test_a_holder_that_was_taken_for_dead_can_t_write(self, joe: Agent, ann: Agent) -> None:
        state = joe.topic("c").state
        with pytest.raises(LeaseLost):  # noqa: PT012 - the end of the block raises
            async with joe.topic("c").lease("writer", ttl=6) as lease:
                await ann.topic("c").state.delete(lease.key)  # an operator's decision
                async with ann.topic("c").lease("writer") as theirs:
                    await ann.topic("c").state.put("doc", "ann's", lease=theirs)
                    with pytest.raises(StateConflictError) as caught:
                        await state.put("doc", "joe's", lease=lease)
                    assert caught.value.key == lease.key
                    with pytest.raises(StateConflictError):
                        await state.transact(lambda tx: tx.put("doc", "joe's"), lease=lease)
                    await asyncio.sleep(60)
        assert (await state.get("doc")).value == "ann's"

    async def test_a_task_that_is_cancelled_for_another_reason_stays_cancelled(self, joe: Agent, ann: Agent) -> None:
        entered = asyncio.Event()

        async def hold() -> None:
            async with joe.topic("c").lease("writer", ttl=5):
                entered.set()
                await asyncio.sleep(600)

        task = asyncio.create_task(hold())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with ann.topic("c").lease("writer", timeout=1):
            pass

    async def test_a_block_that_ends_as_its_lease_is_lost_ends_with_that_and_nothing_else(self, joe: Agent) -> None:
        lease = joe.topic("c").lease("writer", ttl=5)
        with pytest.raises(LeaseLost):
            async with lease:
                lease._lose(RequestTimeout("as if"))
        await asyncio.sleep(0.1)  # a cancellation that was left over would come here
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    async def test_one_that_was_got_by_a_request_without_an_answer_is_found_again(
        self, joe: Agent, broker: MemoryBroker
    ) -> None:
        broker.hold_answers()
        holding = asyncio.create_task(self._hold_once(joe))
        await until(lambda: bool(broker.stored("g/_state/c")))
        broker._answers = None  # lost; the lease is asked for again, and there it is
        async with asyncio.timeout(4):
            assert await holding == 1

    @staticmethod
    async def _hold_once(agent: Agent) -> int:
        async with agent.topic("c").lease("writer", ttl=5) as lease:
            return lease.token

    async def test_who_waits_goes_on_waiting_when_the_broker_does_not_answer(
        self, joe: Agent, ann: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state = ann.topic("c").state
        ask, asked = state.get, asyncio.Event()

        async def unanswered(key: str, **options: Any) -> StateValue:
            monkeypatch.setattr(state, "get", ask)
            asked.set()
            raise RequestTimeout("no answer within 30 s")

        async def wait() -> int:
            async with state.lease("writer", ttl=30) as lease:
                return lease.token

        async with joe.topic("c").lease("writer", ttl=60) as held:
            monkeypatch.setattr(state, "get", unanswered)
            waiting = asyncio.create_task(wait())
            await asked.wait()
            with pytest.raises(RequestTimeout, match=r"not free within 0\.5 s"):
                async with state.lease("writer", timeout=0.5):
                    pass
            assert not waiting.done()
        assert await waiting > held.token

    async def test_what_makes_no_sense_is_refused(self, joe: Agent) -> None:
        with pytest.raises(ValueError, match="ttl"):
            joe.topic("c").lease("writer", ttl=0.1)
        async with joe.topic("c").lease("writer") as lease:
            with pytest.raises(ValueError, match="state"):
                await joe.topic("d").state.put("k", 1, lease=lease)
            with pytest.raises(TypeError, match="lease"):
                await joe.topic("c").state.update({"k": 1}, expected_version=1, lease=lease)


async def test_agents_that_name_the_same_breaker_see_one_state(joe: Agent, ann: Agent) -> None:
    async with joe.breaker("openai").running() as ours, ann.breaker("openai").running() as theirs:
        await ours.trip("enough")
        await until(lambda: theirs.state == "open")
        await theirs.reset()
        await until(lambda: ours.state == "closed")
    assert (await joe.group_state().get("breakers/openai/circuit")).version > 0
