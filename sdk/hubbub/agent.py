"""The public face: an agent that publishes and subscribes, whatever its connection does."""

import asyncio
import logging
import mimetypes
import os
import random
from asyncio import Future
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack

from hubbub_protocol import names
from hubbub_protocol.blobs import BlobRef, blob_topic
from hubbub_protocol.frames import Gap
from hubbub_protocol.limits import INFLIGHT_MAX

from .backoff import Backoff
from .blob import Blob
from .blob_content import Attachable, content_of
from .blob_store import BlobStore
from .cancels import CAUSED_MAX, Cancelled
from .consuming import ConsumerOptions, Consumption, HandlerOptions, WorkerRegistration, spec_of
from .control import BUILT_IN, CommandHandler
from .cursor import Cursor, PatternCursor, TopicCursor
from .errors import Closed
from .handlers import ErrorHook, Handler, Registration
from .life import Life
from .local import local_message
from .mailbox import Mailbox
from .message import Message, PublishOptions, Receipt
from .naming import checked
from .options import DRAIN_SECONDS, Options, Token
from .outbox import Entry
from .outcomes import Listener as OutcomeListener
from .outcomes import Tracked
from .recent import Recent
from .spool import Synchronous
from .state import State
from .subscription import StartOption, Subscription, start_of
from .topic import Topic
from .transport import Transport
from .wants import Select, Where, wanted
from .will import Will

logger = logging.getLogger("hubbub")

C = TypeVar("C", bound=CommandHandler)
H = TypeVar("H", bound=Handler)


class Agent(Life):
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
        control: bool | None = None,
        caused_max: int = CAUSED_MAX,
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
            control: report to the control plane how this agent is, and obey what it commands: see `hubbub.control`.
                Default: yes, unless the environment's HUBBUB_CONTROL is `off`.
            caused_max: how many messages are remembered with what caused them, for an hour, to be called off with it:
                see `cancel`.
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
        options = Options(
            token=token,
            meta=meta,
            capabilities=capabilities,
            description=description,
            will=will,
            on_full=on_full,
            buffer_messages=buffer_messages,
            buffer_bytes=buffer_bytes,
            window=window,
            receive_messages=receive_messages,
            receive_bytes=receive_bytes,
            spool=spool,
            spool_sync=spool_sync,
            local=local,
            control=os.environ.get("HUBBUB_CONTROL", "").lower() != "off" if control is None else control,
            caused_max=caused_max,
            dedup_max=dedup_max,
            dedup_ttl=dedup_ttl,
            vector_clocks=vector_clocks,
            drain=drain,
            connect_timeout=connect_timeout,
            backoff=backoff,
            transport=transport,
            source=source,
        )
        super().__init__(name, group, url, session, on_error, options)

    def __repr__(self) -> str:
        return f"<Agent {self.name} {self.state}>"

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

    # Large bodies -----------------------------------------------------------------------------------------------

    async def attach(self, group: str, content: Attachable, /, *, name: str = "", media_type: str = "") -> BlobRef:
        """Store a large body in a group, and return the reference for `attachments=` of a publish.

        `content` is bytes, a path (whose name is the default), or an asynchronous iterator of bytes. It may be larger
        than memory. Its name is the hash of its content: the same content is stored once. It returns when all of it is
        on the broker's disk; what an interrupted call has left there, the next one goes on with.

        Raises:
            ValueError: a file changed while it was read.
            TypeError: `content` is none of these.
            OSError: it can't be read.
            Rejected, Refused, BufferFull, Closed: as `publish`.
        """
        self._require_open()
        if isinstance(content, os.PathLike):
            name = name or Path(content).name
        media_type = media_type or mimetypes.guess_type(name)[0] or ""
        async with content_of(content) as found:
            checked(lambda group: blob_topic(group, found.sha256), group)
            ref = BlobRef(sha256=found.sha256, size=found.size, group=group, name=name, media_type=media_type)
            return await BlobStore(self).put(ref, found)

    def blob(self, ref: BlobRef) -> Blob:
        """What a reference names, to be fetched: see `Blob`. `Message.fetch` does it for what a message refers to."""
        return BlobStore(self).open(ref)

    async def find_blob(self, group: str, sha256: str) -> BlobRef:
        """A reference to a large body of which only the hash is known.

        Raises:
            InvalidName: these name none.
            BlobGone: there is no whole copy of it.
        """
        self._require_open()
        checked(lambda group: blob_topic(group, sha256), group)
        return await BlobStore(self).find(group, sha256)

    # Subscribing ------------------------------------------------------------------------------------------------

    def subscribe(
        self,
        topic: str,
        /,
        start: StartOption = "new",
        *,
        buffer: int | None = None,
        on_gap: Callable[[Gap], None] | None = None,
        where: Where | None = None,
        select: Select | None = None,
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
            where: only messages of which this holds, such as `{"type": "result", "data.score": {">=": 0.5}}`.
            select: only these parts of their data and headers, such as `["data.title"]`. Both are applied by the
                broker; docs/context.md says what they may be.

        Raises:
            InvalidName, ValueError
            Closed, Refused
        """
        self._require_open()
        if buffer is not None and buffer < 1:
            raise ValueError(f"buffer is {buffer}: 1 message or more")
        name = self._naming.pattern(topic)
        begin = start_of(start)
        cursor: Cursor = PatternCursor(begin) if names.is_pattern(name) else TopicCursor(begin)
        box = Mailbox(
            name,
            cursor,
            self._board,
            messages=buffer or self._options.receive_messages,
            bytes_soft=self._options.receive_bytes,
            stats=self.stats,
            recent=Recent(self._options.dedup_max, self._options.dedup_ttl),
            heard_max=max(self._options.dedup_max, self._limits.messages),
            on_gap=on_gap,
            filter=wanted(where, select),
        )
        self._board.attach(box)
        return Subscription(box, self._composer.read if self._options.vector_clocks else None)

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

    def on_command(self, name: str) -> Callable[[C], C]:
        """Decorate a function that does what the control plane commands by that name: see docs/control.md.

            @agent.on_command("reload")
            async def reload(order):
                return {"loaded": await load(order.args["from"])}

        What it returns (any JSON value) is the answer; `CommandRefused` says that it can't be done, and why. Plain
        functions run in a thread.

        Raises:
            ValueError: that command has a handler already, perhaps the SDK's own.
            Closed: the agent is open already.
        """

        def register(handler: C) -> C:
            if self._open:
                raise Closed("commands are given handlers before the agent is opened")
            if name in BUILT_IN or name in self._command_handlers:
                raise ValueError(f"command {name!r} has a handler already")
            self._command_handlers[name] = handler
            return handler

        return register

    async def cancel(self, topic: str, id: str, *, reason: str = "") -> None:
        """Call off a message that this agent published, and everything that grew from it, through every agent that it
        reached: handlers at work on any of it are cancelled, and what was not begun is dropped. See docs/control.md for
        what that promises. Returns when it is stored.

        Raises:
            Rejected, BufferFull, Closed, Refused: as `publish`.
        """
        self._require_open()
        await self._cancels.cancel(self._naming.topic(topic), id, Cancelled(True, reason))

    def consumption(self, topic: str, /, consumer: str) -> Consumption:
        """The membership that a handler has, to wait for it or to drain it.

        Raises:
            KeyError: no handler of this agent is in that consumer.
        """
        return self._consumptions.at_work[self._naming.pattern(topic), consumer]

    # ------------------------------------------------------------------------------------------------------------

    async def _accept(
        self, topic: str, data: Any, options: PublishOptions
    ) -> "tuple[Entry, asyncio.Future[None] | None]":
        """Compose a message and take it into the outbox. The future, if there is one, is done when it is spooled."""
        self._require_open()
        entry = self._composer.compose(self._naming.topic(topic), data, **options)
        self._note_effect(entry.topic, entry.id, options.get("headers"), entry.future)
        await self._sender.accept(entry)
        kept: asyncio.Future[None] | None = None
        if self._spool is not None and not entry.ephemeral and not entry.gone:
            kept = self._spool.keep(entry, urgent=self.state is not State.ONLINE)
        if self._hub is not None and self.state is State.DEGRADED:
            self._hub.pass_on(local_message(entry, self._outbox, self.name, self._composer.lamport))
        return entry, kept
