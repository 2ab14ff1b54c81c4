"""A circuit breaker that agents share: those that name the same one see one state.

    PREFIX/NAME/circuit            where it stands, and who is out on a probe: changed by compare-and-set only
    PREFIX/NAME/reports/MEMBER     what one agent counted, written now and then: never once for each call

Every agent decides alone, from its own counts and the others' reports, that it is time to open; compare-and-set lets
one of them do it. A probe is a slot in the circuit, so that all agents together make as many probes as one would. While
it is closed or open, asking costs no I/O.
"""

import asyncio
import contextlib
import itertools
import logging
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any

from hubbub.backoff import SETTLED_SECONDS, Backoff
from hubbub.shared_state.entry import StateEntry

from .breaker import Admission, BreakerEvent, BreakerState, Circuit, Ticket, admit, conclude, happen
from .breaker_policy import BreakerPolicy, Verdict
from .calls import in_event_loop
from .circuit_breaker import DEFAULT_POLICY, end_of_probe
from .errors import StateConflictError
from .guard import Guard
from .record import BadRecordError, Moment, decode_report, encode_report
from .replica import Replica
from .reports import Reports
from .store import StateStore
from .transition import Announcer, Listener, Transition
from .window import Counts, TimeBased

logger = logging.getLogger("hubbub")

PREFIX = "breakers"
"""Under which keys breakers live in a store."""

STALE_WINDOWS = 10
"""A report that nobody renewed for that many windows is of an agent that has gone: whoever sees it removes it."""

CONTENDED_SECONDS = 1.0
"""When to ask again, at the latest, when other agents were ahead at every try."""


class SharedCircuitBreaker(Guard):
    """A circuit breaker whose state is shared through a store.

        breaker = SharedCircuitBreaker("openai", store=store, agent="joe")
        async with breaker.running():
            await breaker.call(client.complete, prompt)

    It promises, with the store within reach: one state, as late as the store's watch at most; at most `probes` calls of
    all agents together at a time while half open, and fewer than twice that in one half-open period; no store write for
    an ordinary call. An agent that dies with a probe loses it after `probe_seconds`. When the store fails, it goes on
    by its own counts and its own view, and says so (`is_degraded`, `on_degraded`, the log); until it is back, each
    agent makes its own probes. Before `start` and after `close` it works in the same way, alone.

    A plain function may be called from any thread. On the event loop's own thread it can't wait for the store, so there
    it is never a probe.
    """

    def __init__(
        self,
        name: str,
        policy: BreakerPolicy = DEFAULT_POLICY,
        *,
        store: StateStore,
        agent: str,
        report_seconds: float = 1.0,
        reports_per_second: float = 50.0,
        store_seconds: float = 2.0,
        reconnect: Backoff = Backoff(base=0.5, cap=30.0),  # noqa: B008 - frozen
        on_transition: Listener | None = None,
        publish: Listener | None = None,
        on_degraded: Callable[[bool], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        source: random.Random | None = None,
    ) -> None:
        """An agent reports at most every `report_seconds` while calls fail, less often while all is well, and in both
        cases so seldom that all agents together stay near `reports_per_second`; but three times in a window at least.
        What takes the store longer than `store_seconds` has failed. `publish` is called only by whoever made a
        transition, once; `on_transition` by each agent that learns of it.
        """
        super().__init__(name, policy, clock)
        if not name or "/" in name:
            raise ValueError(f"{name!r} can't be a breaker's name in a store: it must not be empty or have a `/`")
        if not isinstance(policy.window, TimeBased):
            raise TypeError("agents' last calls were not made at the same time: a shared breaker's window is TimeBased")
        if not (report_seconds > 0 and reports_per_second > 0 and store_seconds > 0):
            raise ValueError("report_seconds, reports_per_second and store_seconds must be above 0")
        self._source = source or random.Random()
        self.member = f"{agent}.{self._source.getrandbits(48):012x}"
        """Who this is among those that share it: another one each time, also of the same agent."""
        self._store = store
        self._prefix = f"{PREFIX}/{name}/"
        self._report_seconds = report_seconds
        self._reports_per_second = reports_per_second
        self._store_seconds = store_seconds
        self._reconnect = reconnect
        self._on_degraded = on_degraded
        self._wall = wall
        self._announcer = Announcer(self.stats, on_transition, publish)
        self._replica = Replica(
            store, f"{self._prefix}circuit", policy, self, self.stats, now=self._moment, store_seconds=store_seconds
        )
        self._lock = threading.Lock()
        self._span = policy.window
        self._window = policy.window.make()
        self._reports = Reports(policy.window)
        self._slots = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._tripping = False
        self._poked = asyncio.Event()
        self._unreported = 0
        """Whether something is to be reported: 1 if calls went well, 2 if any did not."""
        self._reported_at = float("-inf")
        self._report_version = 0

    # What it is -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> BreakerState:
        """Where the circuit stands, as far as this agent knows."""
        return self._replica.view.state

    @property
    def is_degraded(self) -> bool:
        """Whether this agent decides by its local view, because it can't reach the store."""
        return self._replica.is_degraded

    @property
    def counts(self) -> Counts:
        """What is in the window: this agent's calls, and while it is not degraded, those that others reported."""
        now = self._clock()
        with self._lock:
            own = self._window.counts(now)
            return own if self.is_degraded else own + self._reports.counts(now)

    # Its life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to share. Waits for the store's first answer, `store_seconds` at most, and does not fail without it."""
        if self._loop is not None:
            raise RuntimeError(f"breaker {self.name} was started before")
        self._loop = asyncio.get_running_loop()
        try:
            await self._replica.load()
        except Exception as error:  # noqa: BLE001 - a store may fail in any way
            logger.warning("! breaker %s starts by its local view: %r", self.name, error)
            self._replica.degrade(error)
        self._spawn(self._follow(), "follow")
        self._spawn(self._report(), "report")

    async def close(self) -> None:
        """Stop sharing: end what is on its way to the store, and take back this agent's report. Idempotent."""
        if self._loop is None or self._closing:
            return
        self._closing = True
        endless = [task for task in self._tasks if task.get_name().endswith(("-follow", "-report"))]
        for task in endless:
            task.cancel()
        await asyncio.gather(*endless, return_exceptions=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * self._store_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._report_version and not self.is_degraded:
            with contextlib.suppress(Exception):
                await self._replica.bounded(self._store.put(self._report_key, None, self._report_version))
        self._replica.leave_store()
        await self._announcer.close(self._store_seconds)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["SharedCircuitBreaker"]:
        """Share it while a block runs: `async with breaker.running(): ...`."""
        await self.start()
        try:
            yield self
        finally:
            await self.close()

    async def trip(self, reason: str = "tripped by hand") -> None:
        """Open it now, for all agents."""
        await self._replica.decide(lambda circuit: (self._moved(circuit, BreakerEvent.TRIPPED, reason), None))

    async def reset(self, reason: str = "reset by hand") -> None:
        """Close it now, for all agents."""
        await self._replica.decide(lambda circuit: (self._moved(circuit, BreakerEvent.RESET, reason), None))

    # Asking for leave -----------------------------------------------------------------------------------------------

    def _admit(self) -> Ticket:
        taken, admission = self._replica.apply(self._ask)
        if taken:
            return self._answer(admission)
        loop = self._loop
        if loop is None or loop.is_closed() or in_event_loop():
            return self._answer(None)
        asked = asyncio.run_coroutine_threadsafe(self._decide_admission(), loop)
        try:
            return self._answer(asked.result(3 * self._store_seconds))
        except (TimeoutError, CancelledError):
            asked.cancel()  # should the slot be taken after all, its lease will end
            return self._answer(None)

    async def _admit_async(self) -> Ticket:
        taken, admission = self._replica.apply(self._ask)
        if taken:
            return self._answer(admission)
        loop = self._loop
        if loop is None or loop is asyncio.get_running_loop():
            return self._answer(await self._decide_admission())
        return self._answer(await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._decide_admission(), loop)))

    async def _decide_admission(self) -> Admission | None:
        # One at a time: a second caller of this agent would only be ahead of the first.
        return None if self._replica.is_busy else await self._replica.decide(self._ask)

    def _ask(self, circuit: Circuit) -> tuple[Circuit, Admission]:
        slot = ""
        if circuit.state is not BreakerState.CLOSED:
            slot = f"{self.member}.{next(self._slots)}"
        admission = admit(circuit, self.policy, self._clock(), slot, self.member)
        return admission.circuit, admission

    def _answer(self, admission: Admission | None) -> Ticket:
        ticket = None if admission is None else admission.ticket
        with self._lock:
            self._count_admission(ticket)
        if ticket is not None:
            return ticket
        if admission is None:
            raise self._refusal(self.state, CONTENDED_SECONDS)
        raise self._refusal(admission.circuit.state, admission.retry_after)

    # After a call ---------------------------------------------------------------------------------------------------

    def _settle(self, ticket: Ticket, verdict: Verdict | None) -> None:
        with self._lock:
            self._count_verdict(verdict)
        if ticket.slot:
            self._settle_probe(ticket, verdict)
        elif verdict is not None and ticket.epoch == self._replica.view.epoch:
            with self._lock:
                self._window.record(self._clock(), failed=verdict.failed, slow=verdict.slow)
            if self.is_degraded:
                self._evaluate()
            else:
                self._on_loop(lambda: self._note(1 if verdict.good else 2))

    def _settle_probe(self, ticket: Ticket, verdict: Verdict | None) -> None:
        end = end_of_probe(verdict)

        def step(circuit: Circuit) -> tuple[Circuit, bool]:
            return conclude(circuit, self.policy, ticket, end, self._clock(), self.member), True

        taken, _ = self._replica.apply(step)
        if not taken:
            self._on_loop(lambda: self._spawn(self._replica.decide(step), "probe"))

    def _note(self, level: int) -> None:
        """Something was counted, on the loop's thread: `level` is that of `_unreported`."""
        if level > self._unreported:
            self._unreported = level
            self._poked.set()
        self._evaluate()

    def _evaluate(self) -> None:
        """Open if the merged counts call for it."""
        view = self._replica.view
        if view.state is not BreakerState.CLOSED or self._tripping:
            return
        reason = self.policy.reason_to_open(self.counts)
        if not reason:
            return

        def step(circuit: Circuit) -> tuple[Circuit, bool]:
            if circuit.epoch != view.epoch:
                return circuit, False
            return self._moved(circuit, BreakerEvent.TRIPPED, reason), True

        async def trip() -> None:
            try:
                await self._replica.decide(step)
            finally:
                self._tripping = False

        taken, _ = self._replica.apply(step)
        if not taken:
            self._tripping = True
            self._on_loop(lambda: self._spawn(trip(), "trip"))

    def _moved(self, circuit: Circuit, event: BreakerEvent, reason: str) -> Circuit:
        return happen(circuit, event, self._clock(), reason, self.member)

    # What the replica tells -----------------------------------------------------------------------------------------

    def circuit_changed(self, before: Circuit, after: Circuit, *, made_here: bool) -> None:
        """The circuit is in another state, or another epoch of it."""
        with self._lock:
            self._window.reset()
            self._reports.forget_counts()
            self._unreported = 0
        self._announcer.announce(
            Transition(
                breaker=self.name,
                before=before.state,
                after=after.state,
                epoch=after.epoch,
                at=self._wall(),
                reason=after.reason,
                by=after.by,
                made_here=made_here,
            )
        )

    def degraded(self, now: bool) -> None:
        """The store was lost, or is back."""
        if not now:
            logger.info("= breaker %s shares its state", self.name)
            with self._lock:
                own = self._window.counts(self._clock())
            if own.calls:
                self._note(2 if own.failures or own.slow else 1)
            self._poked.set()
        if self._on_degraded is not None:
            try:
                self._on_degraded(now)
            except Exception:
                self.stats.listener_errors += 1
                logger.exception("! a listener of breaker %s failed", self.name)

    # Following the others -------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        attempt = 0
        while True:
            started = self._clock()
            try:
                if self.is_degraded:
                    await self._replica.load()
                await self._watch()
            except Exception as error:  # noqa: BLE001 - a store may fail in any way
                self._replica.degrade(error)
            if self._clock() - started >= SETTLED_SECONDS:
                attempt = 0
            await asyncio.sleep(self._reconnect.delay(attempt, self._source))
            attempt += 1

    async def _watch(self) -> None:
        """Read the watch until it ends, or the store fails at something else."""
        reading = asyncio.ensure_future(self._read_watch())
        failing = asyncio.ensure_future(self._replica.failed.wait())
        try:
            await asyncio.wait((reading, failing), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
                raise ConnectionError("the store's watch ended")
        finally:
            reading.cancel()
            failing.cancel()
            await asyncio.gather(reading, failing, return_exceptions=True)

    async def _read_watch(self) -> None:
        changes = self._store.watch(self._prefix)
        # What a watch tells first of a key may be old; what it tells after that is of this moment.
        told: set[str] = set()
        try:
            async for entry in changes:
                self._see(entry, live=entry.key in told)
                if entry.value is None:
                    told.discard(entry.key)
                else:
                    told.add(entry.key)
        finally:
            close = getattr(changes, "aclose", None)
            if close is not None:
                await close()

    def _see(self, entry: StateEntry, *, live: bool) -> None:
        kind, _, member = entry.key.removeprefix(self._prefix).partition("/")
        if kind == "circuit":
            self._replica.see(entry)
        elif kind == "reports" and member != self.member:
            self._see_report(member, entry, live=live)

    def _see_report(self, member: str, entry: StateEntry, *, live: bool) -> None:
        if entry.value is None:
            with self._lock:
                self._reports.drop(member)
            return
        if entry.version == self._reports.version_of(member):
            return
        try:
            epoch, ages = decode_report(entry.value, self._moment(), live=live)
        except BadRecordError as error:
            logger.warning("! breaker %s: report of %s: %s", self.name, member, error)
            return
        with self._lock:
            # Of another epoch it says nothing about this one; but its writer is there.
            self._reports.put(member, entry.version, ages if epoch == self._replica.view.epoch else (), self._clock())
        self._evaluate()

    # Reporting to the others ----------------------------------------------------------------------------------------

    @property
    def _report_key(self) -> str:
        return f"{self._prefix}reports/{self.member}"

    async def _report(self) -> None:
        while True:
            await self._wait_to_report()
            self._unreported = 0
            self._reported_at = self._clock()
            try:
                await self._write_report()
                await self._remove_a_stale_report()
            except Exception as error:  # noqa: BLE001 - a store may fail in any way
                self._replica.degrade(error)

    async def _wait_to_report(self) -> None:
        while True:
            self._poked.clear()
            left: float | None = None
            if self._unreported and not self.is_degraded:
                left = self._reported_at + self._interval() - self._clock()
                if left <= 0:
                    return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._poked.wait()

    def _interval(self) -> float:
        """Seconds between two reports of this agent, as things are."""
        longest = self._span.seconds / 3
        if self._unreported < 2:
            return longest
        others = self._reports.fresh(self._clock())
        return min(longest, max(self._report_seconds, others / self._reports_per_second))

    async def _write_report(self) -> None:
        with self._lock:
            ages = list(self._window.ages(self._clock()))
            report = encode_report(self._replica.view.epoch, ages, self._moment())
        for _ in range(2):
            try:
                put = self._store.put(self._report_key, report, self._report_version)
                self._report_version = await self._replica.bounded(put)
            except StateConflictError as conflict:
                # Somebody took it for a dead agent's, or a write that seemed to fail was done.
                self._report_version = conflict.current
            else:
                self.stats.reports += 1
                return

    async def _remove_a_stale_report(self) -> None:
        stale = next(self._reports.older_than(STALE_WINDOWS * self._span.seconds, self._clock()), None)
        if stale is None:
            return
        member, version = stale
        with contextlib.suppress(StateConflictError):  # it came to life, or somebody else removed it
            await self._replica.bounded(self._store.put(f"{self._prefix}reports/{member}", None, version))
        with self._lock:
            self._reports.drop(member)

    # ----------------------------------------------------------------------------------------------------------------

    def _moment(self) -> Moment:
        return Moment(self._clock(), self._wall())

    def _spawn(self, work: Coroutine[Any, Any, Any], what: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=f"hubbub-breaker-{self.name}-{what}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _on_loop(self, act: Callable[[], object]) -> None:
        loop = self._loop
        if loop is None:
            return
        if in_event_loop() and asyncio.get_running_loop() is loop:
            act()
            return
        with contextlib.suppress(RuntimeError):  # the loop was closed: what it shared has ended with it
            loop.call_soon_threadsafe(act)
