"""An agent's life: it opens, connects as often as it must, and closes with what it had accepted delivered."""

import asyncio
import inspect
import logging
import os
import random
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from hubbub_protocol import DEFAULT_HOST, DEFAULT_PORT, names

from .activity import Activity
from .backoff import Backoff
from .cancels import Cancels, Effect
from .channel import Channel, Surroundings
from .composer import Composer, encoded
from .consuming import Consumptions, WorkerRegistration
from .control import CommandHandler, Control, Lines
from .errors import Closed, HubbubError, Refused, Undelivered, fresh
from .feed import size_of
from .handlers import ErrorHook, HandlerRunner, Registration
from .link import Endpoint
from .local import LocalHub, LocalMessage, join_hub, leave_hub, local_message
from .message import Message
from .naming import Naming, checked, endpoint_url
from .options import Options
from .outbox import Outbox, OutboxLimits
from .outcomes import Outcomes
from .participant import Participant
from .presence import Attendance
from .requests import Requests
from .sender import OnFull, Sender
from .spool import Spool, entry_of
from .state import Event, Listener, State, StateMachine
from .stats import Stats
from .switchboard import Switchboard
from .transport import WebSocketTransport

logger = logging.getLogger("hubbub")


class Life(Participant):
    """The part of an agent that holds its connections, and everything that lives as long as it does."""

    def __init__(
        self,
        name: str,
        group: str | None,
        url: str | None,
        session: str | None,
        on_error: ErrorHook | None,
        options: Options,
    ) -> None:
        self.name = checked(names.check_agent, name)
        self.group = None if group is None else checked(names.check_group, group)
        self.url = endpoint_url(url or os.environ.get("HUBBUB_URL") or f"ws://{DEFAULT_HOST}:{DEFAULT_PORT}")
        self.session = session or secrets.token_hex(8)
        """Names this life of the agent; a later one has another."""
        self.stats = Stats()
        self.last_failure: str | None = None
        """Why the last connection, or attempt to connect, came to nothing."""
        self.on_error = on_error
        self._options = options
        self._meta = None if options.meta is None else bytes(encoded(options.meta))
        self._limits = OutboxLimits(options.buffer_messages, options.buffer_bytes)
        self._on_full = OnFull(options.on_full)
        self._backoff = options.backoff or Backoff()
        self._transport = options.transport or WebSocketTransport()
        self._random = options.source or random.Random()
        self._spool: Spool | None = None
        self._hub: LocalHub | None = None
        self._state = StateMachine()
        self._naming = Naming(self.group)
        self._registrations: list[Registration | WorkerRegistration] = []
        self._runners: list[HandlerRunner] = []
        self._outcomes = Outcomes(self.stats)
        self._control: Control | None = None
        self._command_handlers: dict[str, CommandHandler] = {}
        self._leaving: asyncio.Task[None] | None = None
        self._open = False
        self._accepting = False
        self._closing: asyncio.Task[int] | None = None

    # Life -------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except Undelivered as undelivered:
            if error is None:
                raise
            # The error that ended the block is the one to be seen.
            logger.warning("! closed with a loss: %s", undelivered)

    async def open(self) -> None:
        """Begin to connect. Returns at once; `wait_for("online")` waits."""
        if self._open or self.state is State.CLOSED:
            raise Closed("an agent is opened once; make a new one")
        self._open = True
        loop = self._loop = asyncio.get_running_loop()
        self._composer = Composer(self.name, self.session, loop, vector_clocks=self._options.vector_clocks)
        self._outbox = Outbox(self._limits)
        self._sender = Sender(
            self._outbox,
            window=self._options.window,
            on_full=self._on_full,
            backoff=self._backoff,
            source=self._random,
            stats=self.stats,
            saw=self._composer.saw,
        )
        self._attendance = Attendance()
        self._requests = Requests(self, self.name, self.session, self._composer.new_id)
        lines = self._lines = Lines()
        self._cancels = Cancels(self, lines if self._options.control else None, self._options.caused_max)
        self._activity = Activity()
        self._consumptions = Consumptions(self, self.stats, self._cancels, self._activity, lambda: self.on_error)
        if self._options.control:
            self._control = Control(
                self.name, self.session, self._activity, self, lines, self._random.random, self._command_handlers
            )
            self._cancels.on_effect = self._tell_effect
        self._surroundings = Surroundings(
            transport=self._transport,
            backoff=self._backoff,
            source=self._random,
            stats=self.stats,
            publisher=self,
            saw=self._composer.saw,
            outcome=self._outcomes.take,
        )
        try:
            await self._open_spool()
        except BaseException:
            self._open = False
            raise
        self._board = Switchboard(self, self._open_side, self.stats)
        consumers = self._consumptions.table
        self._board.start(
            Channel(
                self._board,
                self._endpoint(self.session),
                self._surroundings,
                self._sender,
                consumers,
                lines,
            )
        )
        self._accepting = True
        if self._options.local:
            self._hub = join_hub(self.url, self)
        for registration in self._registrations:
            self._run(registration)

    async def close(self, drain: float | None = None) -> int:
        """Deliver what was accepted, for `drain` seconds at most (default: the agent's own), and end.

        Returns how many messages were confirmed meanwhile. Idempotent; a caller that is cancelled does not stop it.

        Raises:
            Undelivered: if some accepted messages got no receipt in that time; it names how many.
        """
        if self._closing is None:
            seconds = self._options.drain if drain is None else drain
            self._closing = asyncio.create_task(self._close(seconds), name=f"hubbub-close-{self.name}")
        return await asyncio.shield(self._closing)

    async def _close(self, drain: float) -> int:
        if not self._open:
            self._happen(Event.CLOSED)
            return 0
        loop = asyncio.get_running_loop()
        deadline = loop.time() + drain
        confirmed = self.stats.confirmed
        refused = self.state is State.CLOSED
        if self._control is not None:
            await self._control.close()
        # 1. Handlers take nothing new; those at work may finish, and publish their answers.
        #    What a consumer has not begun goes back to the broker, which confirms what was done.
        await asyncio.gather(*(runner.stop(drain) for runner in self._runners), self._consumptions.drain(drain))
        self._accepting = False
        await self._cancels.close()
        # 2. What was accepted goes out.
        if not refused:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._sender.drain()
            except (TimeoutError, HubbubError):
                pass
        if self._hub is not None:
            leave_hub(self.url, self)
        # 3. Questions and subscriptions end. What was read ahead can still be taken.
        error = self._ending()
        await self._requests.close(error)
        self._board.end_all(self._state.reason)
        self._consumptions.table.stop(error)
        self._outcomes.end(error)
        # 4. The connections end, the spool is closed, then whoever still waits for a receipt is told.
        if not refused:
            self._happen(Event.CLOSED)
        await self._board.stop()
        spool = self._spool
        if spool is not None:
            await spool.flush()
        left = [entry for entry in self._sender.fail(error) if not entry.ephemeral]
        if spool is not None:
            left = [entry for entry in left if not spool.is_kept(entry)]
            await spool.close()
        if left and not refused:
            raise Undelivered(len(left))
        return self.stats.confirmed - confirmed

    @property
    def state(self) -> State:
        """`connecting`, `online`, `degraded` or `closed`: see `hubbub.state`. Equal to these strings."""
        return self._state.current

    async def wait_for(self, *states: str, timeout: float | None = None) -> State:
        """Wait until the state is one of `states`; returns it.

        Raises:
            TimeoutError: if that takes longer than `timeout` seconds.
            Closed, Refused: when it can't be any more.
        """
        async with asyncio.timeout(timeout):
            return await self._state.wait_for(*(State(state) for state in states))

    def on_state(self, listener: Listener) -> None:
        """Call `listener(before, after)` at every change of state, in the event loop."""
        self._state.listen(listener)

    # What the connections tell ------------------------------------------------------------------------------------

    def online(self) -> None:
        """Called by the switchboard, before anything is asked of the broker."""
        if self.state is State.CLOSED:  # it came up while the agent was closing, and goes again
            return
        link = self._board.main.supervisor.link
        if link is not None:
            self._loop.call_soon(self._attend, link)
        self._happen(Event.CONNECTED)

    def offline(self, reason: str) -> None:
        """Called by the switchboard."""
        self.last_failure = reason
        self._attendance.link_down()
        if self.state is State.ONLINE:
            self._happen(Event.LOST)
            self._degrade()

    def unreachable(self, reason: str) -> None:
        """Called by the switchboard."""
        self.last_failure = reason
        if self.state is State.CONNECTING:
            self._happen(Event.FAILED)
            self._degrade()

    def refused(self, refusal: Refused) -> None:
        """Called by the switchboard: the end, for everyone who waits and everyone who comes."""
        if self.state is State.CLOSED:
            return
        self._state.reason = refusal
        self._accepting = False
        self._happen(Event.CLOSED)
        self._sender.fail(refusal)
        self._board.end_all(refusal)
        self._consumptions.table.stop(refusal)
        self._outcomes.end(refusal)

    # Local-only mode ---------------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What this agent says that it can do."""
        return tuple(self._options.capabilities or ())

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that this agent lives in."""
        return self._loop

    def hear(self, message: LocalMessage) -> None:
        """Called by the hub: another agent of this process said something (or this one did)."""
        if not self._accepting:
            return
        if message.frame.topic.startswith(names.MAIL_GROUP + "/"):
            taken = self._hear_mail(message)
        else:
            heard = Message(message.frame, self, message.payload, local=True)
            taken = self._board.hear(message, heard, size_of(message.frame))
        if taken:
            self.stats.local += taken
            self._composer.saw(message.frame.lc)

    def _degrade(self) -> None:
        """The broker is away: agents of this process hear what it has not confirmed, and signals go nowhere else."""
        if self._hub is not None:
            for entry in self._outbox:
                self._hub.pass_on(local_message(entry, self._outbox, self.name, self._composer.lamport))
        self._sender.drop_ephemerals()
        if self._spool is not None:
            self._spool.hurry()

    # ------------------------------------------------------------------------------------------------------------

    # How much it has to do ------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Messages that this agent could be at work on at a time: as many as its handlers take, and its consumers."""
        return self._consumptions.room + sum(runner.concurrency for runner in self._runners)

    @property
    def held(self) -> int:
        """Messages of consumers that it was given and has not settled."""
        return self._consumptions.held

    @property
    def paused(self) -> bool:
        """Whether its handlers begin nothing more for now."""
        return self._consumptions.paused

    def pause(self) -> None:
        """Let the handlers begin nothing more: what is at work goes on, and others of its consumers get what would have
        been this agent's. Idempotent; iterators over consumers get nothing more, either.
        """
        self._require_open()
        self._consumptions.pause()
        for runner in self._runners:
            runner.pause()

    def resume(self) -> None:
        """Go on after `pause`. Idempotent."""
        self._require_open()
        self._consumptions.resume()
        for runner in self._runners:
            runner.resume()

    def limit_concurrency(self, most: int) -> None:
        """Let each handler of a consumer work on so many messages at a time, and on no more than it was made for."""
        self._consumptions.limit_concurrency(most)

    async def finish(self, seconds: float) -> int:
        """Finish what handlers are at work on, give back what was not begun, and take nothing more. What is at work
        when the time is over is cancelled, and given back; returns how much that was.
        """
        runners = (runner.stop(seconds) for runner in self._runners)
        return sum(await asyncio.gather(*runners, self._consumptions.drain(seconds)))

    def leave(self) -> None:
        """Close, in a task of its own: `wait_for("closed")` tells when that is done."""
        self._leaving = asyncio.create_task(self._leave(), name=f"hubbub-leave-{self.name}")

    async def _leave(self) -> None:
        try:
            await self.close()
        except Undelivered as undelivered:
            logger.warning("! closed with a loss: %s", undelivered)

    def _tell_effect(self, command: str, effect: Effect) -> None:
        assert self._control is not None
        result = effect._asdict()
        self._control.orders.effect(command, result, result.pop("reason"))

    # ------------------------------------------------------------------------------------------------------------

    def _register(self, registration: Registration | WorkerRegistration) -> None:
        if isinstance(registration, WorkerRegistration) and not self._open:
            registration.check_apart(self._registrations)
        self._registrations.append(registration)
        if self._open:
            self._run(registration)

    def _run(self, registration: Registration | WorkerRegistration) -> None:
        if isinstance(registration, WorkerRegistration):
            self._consumptions.work(registration)
            return
        subscription = self.subscribe(
            registration.topic,
            registration.start,
            buffer=registration.buffer,
            where=registration.where,
            select=registration.select,
        )
        runner = HandlerRunner(
            registration, subscription, self.stats, lambda: self.on_error, self._cancels, self._activity
        )
        self._runners.append(runner)

    async def _open_spool(self) -> None:
        """Take what the former life of this agent left."""
        if self._options.spool is None:
            return
        path = Path(self._options.spool)
        self._spool, rows = await Spool.open(path, self.name, self.stats, self._options.spool_sync)
        self._sender.on_settled = self._spool.settled
        for row in rows:
            self._sender.put(entry_of(row, self._loop))
        if rows:
            logger.info("= %d message(s) from the spool %s", len(rows), path)

    def _require_open(self) -> None:
        if not self._accepting:
            raise self._ending()

    def _happen(self, event: Event) -> None:
        self._state.happen(event)

    def _ending(self) -> BaseException:
        """Why nothing can be asked of this agent."""
        if self._state.reason is not None:
            return fresh(self._state.reason)
        if not self._open:
            return Closed("the agent is not open yet: use `async with Agent(...)`")
        return Closed(f"agent {self.name} is closed")

    def _open_side(self, board: Switchboard, number: int) -> Channel:
        return Channel(board, self._endpoint(f"{self.session}-{number}"), self._surroundings)

    def _endpoint(self, session: str) -> Endpoint:
        will, capabilities = self._options.will, self._options.capabilities
        return Endpoint(
            url=self.url,
            agent=self.name,
            session=session,
            groups=[] if self.group is None else [self.group],
            meta=self._meta,
            token=self._current_token,
            will=None if will is None else will.frame(),
            capabilities=None if capabilities is None else list(capabilities),
            description=self._options.description,
            connect_timeout=self._options.connect_timeout,
        )

    async def _current_token(self) -> str | None:
        token = self._options.token
        if callable(token):
            given = token()
            return await given if inspect.isawaitable(given) else given
        return token
