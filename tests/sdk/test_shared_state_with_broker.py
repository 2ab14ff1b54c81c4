"""Shared state of the SDK with the real broker, in a process that is killed."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from harness.broker import BrokerProcess
from harness.failing_service import FailingService, calls_allowed, do_tasks
from harness.until import until
from hubbub import Agent, StateEntry
from hubbub.resilience import BreakerPolicy, BreakerState, TimeBased

MakeAgent = Callable[[str], Agent]

pytestmark = [pytest.mark.real_time, pytest.mark.slow]

WRITERS = 50
EACH = 100
SHORT_EACH = 10
ATTEMPTS_EACH = 12
"""Attempts for each increment, taken together: 5 on an idle machine, and 50 if everybody were always ahead."""
ATTEMPTS_MAX = 80
"""Attempts for one increment: 50 on an idle machine; `modify` gives up after 100."""

SERVICE_POLICY = BreakerPolicy(
    window=TimeBased(seconds=2),
    minimum_calls=6,
    failure_rate=0.4,
    wait_seconds=0.5,
    probes=2,
    failures=(ConnectionError,),
)
SICK_SECONDS = 4.0


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
        assert sum(tried) <= ATTEMPTS_EACH * len(tried), "what is written costs more and more attempts"
        assert max(tried) <= ATTEMPTS_MAX, "somebody starves"
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


async def test_the_work_ends_behind_a_breaker_and_what_fails_is_spared(make: MakeAgent) -> None:
    agents = [make(f"a{number}") for number in range(6)]
    for agent in agents:
        await agent.open()
        await agent.wait_for("online")
    service = FailingService(SICK_SECONDS)

    async def take_part(agent: Agent) -> None:
        async with agent.breaker("svc", SERVICE_POLICY).running() as breaker:
            await do_tasks(service, breaker, 30, random.Random(agent.name))
            assert not breaker.is_degraded

    try:
        async with asyncio.timeout(120):
            await asyncio.gather(*map(take_part, agents))
        state, _ = await agents[0].group_state().get("breakers/svc/circuit")
        told: list[tuple[int, str, str]] = []
        async for event in agents[0].subscribe("_breakers", start="all"):
            told.append((event.data["epoch"], event.data["before"], event.data["after"]))
            if len(told) == state["epoch"]:
                break
    finally:
        await asyncio.gather(*(agent.close() for agent in agents))
    assert service.done == 6 * 30
    told.sort()  # who was a little later with its event may have been earlier with its transition
    assert [epoch for epoch, _, _ in told] == list(range(1, len(told) + 1)), "each transition once, in order"
    assert [before for _, before, _ in told] == ["closed", *(after for _, _, after in told[:-1])]
    went_to = Counter(BreakerState(after) for _, _, after in told)
    assert went_to[BreakerState.OPEN]
    assert service.sick_calls <= calls_allowed(SERVICE_POLICY, went_to, len(agents))
    assert went_to[BreakerState.HALF_OPEN] <= 2 + SICK_SECONDS / SERVICE_POLICY.wait_seconds


@pytest.mark.soak
async def test_fifty_writers_with_a_hundred_increments_each_end_at_five_thousand(make: MakeAgent) -> None:
    await count_up(make, WRITERS, EACH)
