"""The public face: an agent that publishes and subscribes, whatever its connection does."""

import asyncio
import inspect
import logging
import os
import random
import secrets
from asyncio import Future
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

from hubbub_protocol import DEFAULT_HOST, DEFAULT_PORT, names
from hubbub_protocol.frames import Gap
from hubbub_protocol.limits import INFLIGHT_MAX

from .backoff import Backoff
from .cancels import Cancels
from .channel import Channel, Surroundings
from .composer import Composer, encoded
from .consuming import ConsumerOptions, Consumption, Consumptions, HandlerOptions, WorkerRegistration, spec_of
from .cursor import Cursor, PatternCursor, TopicCursor
from .errors import Closed, HubbubError, Refused, Undelivered, fresh
from .feed import size_of
from .handlers import ErrorHook, Handler, HandlerRunner, Registration
from .link import Endpoint
from .local import LocalHub, LocalMessage, join_hub, leave_hub, local_message
from .mailbox import Mailbox
from .message import Message, PublishOptions, Receipt
from .naming import Naming, checked, endpoint_url
from .outbox import Entry, Outbox, OutboxLimits
from .outcomes import Listener as OutcomeListener
from .outcomes import Outcomes, Tracked
from .participant import Participant
from .presence import Attendance
from .recent import Recent
from .requests import Requests
from .sender import OnFull, Sender
from .spool import Spool, Synchronous, entry_of
from .state import Event, Listener, State, StateMachine
from .stats import Stats
from .subscription import StartOption, Subscription, start_of
from .switchboard import Switchboard
from .topic import Topic
from .transport import Transport, WebSocketTransport
from .will import Will

logger = logging.getLogger("hubbub")

Token = str | Callable[[], str | Awaitable[str]] | None
"""A token, or what gives one: a function, or coroutine function, that is asked anew before each connection."""

DRAIN_SECONDS = 10.0
"""How long close() tries to deliver what was accepted, unless told otherwise."""

H = TypeVar("H", bound=Handler)


class Agent(Participant):
    """A named participant, connected to a broker for as long as it lives.

        async with Agent("joe", group="research") as joe:
            conv = joe.topic("conv-42")
            receipt = await conv.publish({"text": "hello"})

    Entering does not wait for the broker: an agent may start while it is away. What is published meanwhile is
    buffered, and sent in order when the connection comes (`state` and `wait_for` are for those who care). An agent
    belongs to the event loop in which it was entered, and is not thread-safe; `hubbub.sync.Agent` is, for scripts.
    """

    def __init__(
        self,
        name: str,
        *,
        group: str | None = None,
        url: str | None = None,
        token: Token = None,
        meta: Any = None,
        capabilities: Sequence[str] | None = None,
        description: str | None = None,
        will: Will | None = None,
        on_full: Literal["wait", "raise", "drop"] = "wait",
        buffer_messages: int = 10_000,
        buffer_bytes: int = 64 << 20,
        window: int = INFLIGHT_MAX,
        receive_messages: int = 1_000,
        receive_bytes: int = 4 << 20,
        spool: str | os.PathLike[str] | None = None,
        spool_sync: Synchronous = "full",
        local: bool = True,
        dedup_max: int = 4_096,
        dedup_ttl: float = 300.0,
        vector_clocks: bool = False,
        drain: float = DRAIN_SECONDS,
        connect_timeout: float = 10.0,
        backoff: Backoff | None = None,
        transport: Transport | None = None,
        source: random.Random | None = None,
        session: str | None = None,
        on_error: ErrorHook | None = None,
    ) -> None:
        """Args:
            name: who this agent is.
            group: prefixed to topics that are given without one.
            url: the broker's; the path `/v1/ws` is added when there is none. Default: the environment's HUBBUB_URL,
                else ws://127.0.0.1:8091.
            token: see `Token`.
            meta: any JSON value that the broker shows to whoever asks who is there.
            capabilities, description: what this agent can do and is, for whoever looks for somebody. Default: what the
                register has stays.
            will: what the broker says for this agent if it drops: see `Will`.
            on_full: what a publish does when the buffer of unconfirmed messages is full: see `OnFull`.
            buffer_messages, buffer_bytes: how much that buffer holds.
            window: publishes on their way without an answer, at most. The broker's own limit counts if it is smaller.
            receive_messages, receive_bytes: how much one subscription reads ahead. Four times the bytes may be held
                for a moment, while a subscription with a slow reader leaves the wire.
            spool: a file in which unconfirmed messages outlive a crash of this process; `spool_sync` "full" makes it
                outlive a power cut: see `hubbub.spool`.
            local: while the broker is unreachable, hand what is published to the agents of this process (that use the
                same url) at once, and hear theirs: see `hubbub.local`.
            dedup_max, dedup_ttl: how many received ids a subscription remembers, and for how many seconds at least,
                to drop what comes twice in spite of its seq (after the broker lost its history, say).
            vector_clocks: send a vector clock with every message, and learn from those that are read.
            drain: seconds that leaving the `async with` block may take to deliver what was accepted.
            connect_timeout: seconds for a connection, and again for the broker's welcome.
            backoff: the delays between attempts.
            transport, source, session: the network, the randomness and the name of this life; for tests.
            on_error: called with the exception and the message when a handler fails.

        Raises:
            InvalidName: if the name or the group is outside the grammar.
            ValueError: if a number is out of range.
        """
        self.name = checked(names.check_agent, name)
        self.group = None if group is None else checked(names.check_group, group)
        self.url = endpoint_url(url or os.environ.get("HUBBUB_URL") or f"ws://{DEFAULT_HOST}:{DEFAULT_PORT}")
        for option, value in {
            "buffer_messages": buffer_messages,
            "buffer_bytes": buffer_bytes,
            "window": window,
            "receive_messages": receive_messages,
            "receive_bytes": receive_bytes,
            "dedup_max": dedup_max,
            "dedup_ttl": dedup_ttl,
            "connect_timeout": connect_timeout,
        }.items():
            if not value > 0:
                raise ValueError(f"{option} is {value}: more than 0 is allowed")
        self.session = session or secrets.token_hex(8)
        """Names this life of the agent; a later one has another."""
        self.stats = Stats()
        self.last_failure: str | None = None
        """Why the last connection, or attempt to connect, came to nothing."""
        self.on_error = on_error
        self._token = token
        self._meta = None if meta is None else bytes(encoded(meta))
        self._card = (None if capabilities is None else list(capabilities), description)
        self._will = will
        self._on_full = OnFull(on_full)
        self._limits = OutboxLimits(buffer_messages, buffer_bytes)
        self._window = window
        self._receive_messages = receive_messages
        self._receive_bytes = receive_bytes
        self._spool_path = None if spool is None else Path(spool)
        self._spool_sync: Synchronous = spool_sync
        self._spool: Spool | None = None
        self._local = local
        self._hub: LocalHub | None = None
        self._dedup_max = dedup_max
        self._dedup_ttl = dedup_ttl
        self._vector_clocks = vector_clocks
        self._drain = drain
        self._connect_timeout = connect_timeout
        self._backoff = backoff or Backoff()
        self._transport = transport or WebSocketTransport()
        self._random = source or random.Random()
        self._state = StateMachine()
        self._naming = Naming(self.group)
        self._registrations: list[Registration | WorkerRegistration] = []
        self._runners: list[HandlerRunner] = []
        self._outcomes = Outcomes(self.stats)
        self._open = False
        self._accepting = False
        self._closing: asyncio.Task[int] | None = None

    def __repr__(self) -> str:
        return f"<Agent {self.name} {self.state}>"

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
        self._composer = Composer(self.name, self.session, loop, vector_clocks=self._vector_clocks)
        self._outbox = Outbox(self._limits)
        self._sender = Sender(
            self._outbox,
            window=self._window,
            on_full=self._on_full,
            backoff=self._backoff,
            source=self._random,
            stats=self.stats,
            saw=self._composer.saw,
        )
        self._attendance = Attendance()
        self._requests = Requests(self, self.name, self.session, self._composer.new_id)
        self._cancels = Cancels(self)
        self._consumptions = Consumptions(self, self.stats, self._cancels, lambda: self.on_error)
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
            Channel(self._board, self._endpoint(self.session), self._surroundings, self._sender, consumers)
        )
        self._accepting = True
        if self._local:
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
            seconds = self._drain if drain is None else drain
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

    # Publishing -------------------------------------------------------------------------------------------------

    def topic(self, name: str) -> Topic:
        """A conversation, or a pattern to subscribe to. The agent's group is put in front of a name without one.

        Raises:
            InvalidName: if it is outside the grammar.
        """
        return Topic(self, self._naming.pattern(name))

    async def publish(self, topic: str, data: Any, /, **options: Unpack[PublishOptions]) -> Receipt:
        """Publish, and wait for the receipt: until the message is on the broker's disk.

        It survives any number of disconnects and is stored once. Cancelling the wait does not take the message back:
        once accepted it is sent. `data` is any JSON value, or bytes; the options are those of `PublishOptions`.

        Raises:
            Rejected: the broker refused it for good. (Its subclasses say why.)
            BufferFull: if the agent was made with on_full="raise" or "drop".
            Expired: its time-to-live ended first.
            Closed, Refused: the agent is closed, or the broker will not have it.
            Unencodable, InvalidName, ValueError: it can't be sent as it is.
        """
        entry, _ = await self._accept(topic, data, options)
        return await entry.future

    async def submit(self, topic: str, data: Any, /, **options: Unpack[PublishOptions]) -> "Future[Receipt]":
        """Publish in pipelined form: wait only until the message is accepted into the buffer, and get a future of its
        receipt. Nothing is lost by not awaiting that: a refusal is logged too. With a spool, accepted means on disk
        (or confirmed already).

        Raises:
            As `publish`, but what the broker has to say is in the future.
            SpoolError: if the spool can't be written. The message is in memory, and will be sent.
        """
        entry, kept = await self._accept(topic, data, options)
        if kept is not None:
            await kept
        return entry.future

    async def publish_tracked(
        self, topic: str, data: Any, /, *, consumers: int = 1, **options: Unpack[PublishOptions]
    ) -> Tracked:
        """Publish as `publish` does, and hear what becomes of the message in the hands of consumers: see `Tracked`.

        `consumers` of them are waited for. What the broker has to tell while this agent is away, it tells when it is
        back; whoever wants to hear of messages that a former life has published listens with `on_outcome`.
        """
        if consumers < 1:
            raise ValueError(f"consumers is {consumers}: 1 or more")
        options["id"] = id = options.get("id") or self._composer.new_id()
        options["track"] = True
        tracked = Tracked(self._naming.topic(topic), id, consumers)
        self._outcomes.track(tracked)  # before it is sent: its first receipt may come before its `ok`
        tracked.receipt = await self.publish(topic, data, **options)
        return tracked

    def on_outcome(self, listener: OutcomeListener) -> None:
        """Call `listener(outcome)`, in the event loop, for every receipt of what became of this agent's messages."""
        self._outcomes.listen(listener)

    async def flush(self) -> None:
        """Wait until everything accepted so far is confirmed (or refused: its future says so).

        Raises:
            Closed, Refused: if that can't happen any more.
        """
        await self._sender.flush()

    @property
    def buffered(self) -> int:
        """How many accepted messages have no receipt yet."""
        return len(self._outbox) if self._open else 0

    async def request(
        self,
        topic: str,
        data: Any,
        /,
        timeout: float,
        *,
        type: str | None = None,
        headers: dict[str, Any] | None = None,
        durable: bool = False,
        mandatory: bool = False,
    ) -> Message:
        """Ask a question and wait for the first answer: whatever someone who reads `topic` gives to `Message.reply`.

        The question is durable and expires with the timeout, so whoever answers may be connecting still. `durable`
        asks for an answer that is stored too, and so survives a disconnect of this agent. `mandatory` asks only if
        someone is there to hear it. Giving up, by the timeout or by cancellation, calls the question off: handlers that
        are at work on it are cancelled.

        Raises:
            RequestTimeout: if no answer came within `timeout` seconds.
            NoResponder: with `mandatory`, if nobody would hear it.
            Rejected, Refused, Closed: as `publish`.
        """
        return await self._requests.ask(
            self._naming.topic(topic),
            data,
            timeout,
            type=type,
            headers=headers,
            durable=durable,
            mandatory=mandatory,
        )

    # Subscribing ------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        topic: str,
        /,
        start: StartOption = "new",
        *,
        buffer: int | None = None,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> Subscription:
        """Subscribe to a topic or a pattern, at once. See `Subscription` for what it promises.

        Subscriptions that overlap and want different things (a topic from its beginning and the same topic live, a
        topic and a pattern that matches it) take further connections, while it is so: see `hubbub.switchboard`.

        Args:
            topic: `conv-42`, `research/conv-42`, `research/*`, `research/**`, `**`.
            start: "new", "all", {"seq": N}, {"last": N} or {"since": TIME}. ({"last": N} of a pattern brings less
                history if the connection ends during its replay; nothing that is new is missed.)
            buffer: messages read ahead; default: the agent's `receive_messages`.
            on_gap: called with a `Gap` when messages will never come: retention took them, they expired, or they were
                ephemeral and this reader slow. Gaps are counted and logged in any case, and never raised.

        Raises:
            InvalidName, ValueError
            Closed, Refused
        """
        self._require_open()
        if buffer is not None and buffer < 1:
            raise ValueError(f"buffer is {buffer}: 1 message or more")
        name = self._naming.pattern(topic)
        wanted = start_of(start)
        cursor: Cursor = PatternCursor(wanted) if names.is_pattern(name) else TopicCursor(wanted)
        box = Mailbox(
            name,
            cursor,
            self._board,
            messages=buffer or self._receive_messages,
            bytes_soft=self._receive_bytes,
            stats=self.stats,
            recent=Recent(self._dedup_max, self._dedup_ttl),
            heard_max=max(self._dedup_max, self._limits.messages),
            on_gap=on_gap,
        )
        self._board.attach(box)
        return Subscription(box, self._composer.read if self._vector_clocks else None)

    def consume(
        self,
        topic: str,
        /,
        consumer: str,
        *,
        start: StartOption = "new",
        on_gap: Callable[[Gap], None] | None = None,
        **options: Unpack[ConsumerOptions],
    ) -> Consumption:
        """Share the work of a topic or pattern with whoever names the same consumer: each message goes to one of them,
        and again to another until it is settled. See `Consumption`; `start` counts for the first who ever names it.

        Raises:
            InvalidName, ValueError
            Conflict: this agent is in it already.
            Closed, Refused
        """
        self._require_open()
        spec = spec_of(self._naming.pattern(topic), consumer, start, options)
        return Consumption(*self._consumptions.iterate(spec, on_gap))

    def on(
        self,
        topic: str,
        *,
        start: StartOption = "new",
        concurrency: int | None = None,
        buffer: int | None = None,
        consumer: str | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Callable[[H], H]:
        """Decorate a function to be called with each message of a topic or pattern.

            @agent.on("research/news")                                          # everyone sees everything
            async def read(message): ...

            @agent.on("research/tasks", consumer="workers", max_unacked=16)     # each message is one's to work on
            async def work(message): await message.reply(...)

        May be used before the agent is open. Plain functions run in a thread. What a handler raises is logged, counted
        and given to `on_error`.

        Without `consumer` the calls come one at a time and in order, unless `concurrency` says otherwise, and the
        `options` do not apply. With it, as many run at once as the broker gives ahead (`max_unacked`), unless
        `concurrency` says fewer; returning acks, an exception lets the message come again, `Retry` and `Reject` say
        more: see `hubbub.workers`. A handler may take as long as it likes: the broker is told that it is at work.
        """
        name = self._naming.pattern(topic)
        make: Callable[[Handler], Registration | WorkerRegistration]
        if consumer is None:
            make = Registration.maker(name, start, concurrency, buffer, options)
        else:
            make = WorkerRegistration.maker(spec_of(name, consumer, start, options), concurrency, options)

        def register(handler: H) -> H:
            self._register(make(handler))
            return handler

        return register

    def consumption(self, topic: str, /, consumer: str) -> Consumption:
        """The membership that a handler has, to wait for it or to drain it.

        Raises:
            KeyError: no handler of this agent is in that consumer.
        """
        return self._consumptions.at_work[self._naming.pattern(topic), consumer]

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

    async def _accept(
        self, topic: str, data: Any, options: PublishOptions
    ) -> "tuple[Entry, asyncio.Future[None] | None]":
        """Compose a message and take it into the outbox. The future, if there is one, is done when it is spooled."""
        self._require_open()
        entry = self._composer.compose(self._naming.topic(topic), data, **options)
        await self._sender.accept(entry)
        kept: asyncio.Future[None] | None = None
        if self._spool is not None and not entry.ephemeral and not entry.gone:
            kept = self._spool.keep(entry, urgent=self.state is not State.ONLINE)
        if self._hub is not None and self.state is State.DEGRADED:
            self._hub.pass_on(local_message(entry, self._outbox, self.name, self._composer.lamport))
        return entry, kept

    async def _open_spool(self) -> None:
        """Take what the former life of this agent left."""
        if self._spool_path is None:
            return
        self._spool, rows = await Spool.open(self._spool_path, self.name, self.stats, self._spool_sync)
        self._sender.on_settled = self._spool.settled
        for row in rows:
            self._sender.put(entry_of(row, self._loop))
        if rows:
            logger.info("= %d message(s) from the spool %s", len(rows), self._spool_path)

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
        subscription = self.subscribe(registration.topic, registration.start, buffer=registration.buffer)
        runner = HandlerRunner(registration, subscription, self.stats, lambda: self.on_error, self._cancels)
        self._runners.append(runner)

    def _open_side(self, board: Switchboard, number: int) -> Channel:
        return Channel(board, self._endpoint(f"{self.session}-{number}"), self._surroundings)

    def _endpoint(self, session: str) -> Endpoint:
        return Endpoint(
            url=self.url,
            agent=self.name,
            session=session,
            groups=[] if self.group is None else [self.group],
            meta=self._meta,
            token=self._current_token,
            will=None if self._will is None else self._will.frame(),
            capabilities=self._card[0],
            description=self._card[1],
            connect_timeout=self._connect_timeout,
        )

    async def _current_token(self) -> str | None:
        token = self._token
        if callable(token):
            given = token()
            return await given if inspect.isawaitable(given) else given
        return token
