"""Shared state of the SDK with the real broker, in a process that is killed."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from harness.broker import BrokerProcess
from harness.until import until
from hubbub import Agent, StateEntry

MakeAgent = Callable[[str], Agent]

pytestmark = [pytest.mark.real_time, pytest.mark.slow]

WRITERS = 50
EACH = 100
SHORT_EACH = 10


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One broker for all these tests: starting one takes longer than most of them."""
    broker = BrokerProcess(tmp_path_factory.mktemp("broker") / "data", role="data")
    yield broker
    broker.kill()


@pytest.fixture
async def real(process: BrokerProcess) -> BrokerProcess:
    if process._process is None:
        process.start()
    await process.wait_ready()
    return process


@pytest.fixture
def make(real: BrokerProcess, request: pytest.FixtureRequest) -> MakeAgent:
    """An agent in a group of the test's own."""

    def make(name: str) -> Agent:
        return Agent(name, group=request.node.name[:100], url=f"ws://127.0.0.1:{real.port}", local=False)

    return make


async def count_up(make: MakeAgent, writers: int, each: int) -> None:
    """Writers that read, add 1 and write, on connections of their own: none of it may be lost."""
    agents = [make(f"w{number}") for number in range(writers)]
    tried: list[int] = []

    async def write(agent: Agent) -> None:
        state = agent.topic("c").state
        for _ in range(each):
            attempts = 0

            def add(n: int | None) -> int:
                nonlocal attempts
                attempts += 1
                return (n or 0) + 1

            await state.modify("n", add)
            tried.append(attempts)

    for agent in agents:
        await agent.open()
    try:
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(300):
            await asyncio.gather(*map(write, agents))
        seconds = asyncio.get_running_loop().time() - begun
        value, version = await agents[0].topic("c").state.get("n")
        assert (value, version) == (writers * each, writers * each)
        assert max(tried) <= 100, "what `modify` allows"
        print(
            f"{writers} writers x {each}: {value} in {seconds:.1f} s, {sum(tried) / len(tried):.1f} attempts each, "
            f"{max(tried)} at most"
        )
    finally:
        await asyncio.gather(*(agent.close() for agent in agents))


async def test_fifty_writers_lose_no_increment(make: MakeAgent) -> None:
    await count_up(make, WRITERS, SHORT_EACH)


async def test_over_a_kill_of_the_broker_every_increment_that_was_answered_is_there_and_no_other(
    real: BrokerProcess, make: MakeAgent
) -> None:
    agents = [make(f"w{number}") for number in range(4)]
    made = 0
    seen: list[StateEntry] = []
    stop = asyncio.Event()

    async def write(agent: Agent) -> None:
        nonlocal made
        state = agent.topic("c").state
        while not stop.is_set():
            await state.modify("n", lambda n: (n or 0) + 1, timeout=60)
            made += 1

    async def watch(agent: Agent) -> None:
        async for entry in agent.topic("c").state.watch("n"):
            seen.append(entry)  # noqa: PERF401 - it has no end

    for agent in agents:
        await agent.open()
    try:
        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch(agents[0]))
            writing = [tasks.create_task(write(agent)) for agent in agents]
            await until(lambda: made > 20)
            real.kill()
            real.start()
            await real.wait_ready()
            begun = made
            await until(lambda: made > begun + 20)
            stop.set()
            await asyncio.wait(writing)
            await until(lambda: seen and seen[-1].value == made)
            watching.cancel()
        value, version = await agents[0].topic("c").state.get("n")
        assert (value, version) == (made, made)
        assert [entry.value for entry in seen] == list(range(1, made + 1)), "each change once, in order"
    finally:
        await asyncio.gather(*(agent.close() for agent in agents))


async def test_a_lease_outlives_a_kill_of_the_broker_and_not_its_holder(real: BrokerProcess, make: MakeAgent) -> None:
    async with make("joe") as joe, make("ann") as ann:
        async with joe.topic("c").lease("writer", ttl=20) as lease:
            real.kill()
            real.start()
            await real.wait_ready()
            await joe.topic("c").state.put("doc", "joe's", lease=lease, timeout=60)
            assert lease.held
        async with ann.topic("c").lease("writer", ttl=20, timeout=60) as theirs:
            assert theirs.token > lease.token


async def test_agents_share_a_breaker(make: MakeAgent) -> None:
    async with make("joe") as joe, make("ann") as ann:
        async with joe.breaker("openai").running() as ours, ann.breaker("openai").running() as theirs:
            await ours.trip("enough")
            await until(lambda: theirs.state == "open")
            await theirs.reset()
            await until(lambda: ours.state == "closed")
            assert [ours.is_degraded, theirs.is_degraded] == [False, False]


@pytest.mark.soak
async def test_fifty_writers_with_a_hundred_increments_each_end_at_five_thousand(make: MakeAgent) -> None:
    await count_up(make, WRITERS, EACH)
