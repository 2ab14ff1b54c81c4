"""What an agent shares with others beside messages: mail, its own inbox, shared state, and who is present where."""

import asyncio
import random
from abc import ABC, abstractmethod
from asyncio import Future
from collections.abc import Callable
from typing import Any, Self, TypeVar, Unpack, cast

from hubbub_protocol.blobs import BlobRef
from hubbub_protocol.frames import Gap
from hubbub_protocol.names import MAIL, MAIL_GROUP, MAIL_TO_ALL, READ_MARK, check_group, inbox_of, is_mail

from .asks import Asks
from .blob import Blob
from .breaker_events import BreakerEvents
from .cancels import Cancels
from .causes import Causes
from .chain import grows_from, handling
from .composer import Composer
from .consuming import ConsumerOptions, Consumption, Consumptions, HandlerOptions, WorkerRegistration, spec_of
from .errors import InvalidName
from .handlers import Handler
from .link import Link
from .local import LocalMessage
from .mail import Mail, address_of, content
from .mail_consumer import MailConsumer
from .message import Message, PublishOptions, Receipt
from .naming import Naming, checked
from .presence import Attendance, Presence
from .resilience import BreakerPolicy, SharedCircuitBreaker
from .resilience.circuit_breaker import DEFAULT_POLICY
from .shared_state import GroupStateStore, SharedState, SharedStates, StateDesk
from .state import Listener
from .subscription import StartOption, Subscription
from .wants import Select, Where

STORE_SECONDS = 2.0
"""How long a shared breaker waits for the broker, unless told otherwise: callers wait for its probes."""

H = TypeVar("H", bound=Handler)


class InboxReader(Consumption):
    """An agent's inbox: an asynchronous iterator over mail, to be settled.

        async with jack.inbox() as inbox:
            async for mail in inbox:
                print(mail.sender, mail.subject, mail.body)
                await mail.ack()

    It is the consumer `inbox` of the agent's inbox: what is acked here is marked as read, and what is marked as read
    over HTTP does not come here. See `Consumption`, and `hubbub.mail_consumer` for mail while the broker is away.
    """

    async def __anext__(self) -> Mail:
        return cast(Mail, await super().__anext__())

    def __aiter__(self) -> Self:
        return self


class Participant(ABC):
    """The part of an agent that takes part in the simple bus."""

    name: str
    group: str | None
    session: str
    _consumptions: Consumptions
    _attendance: Attendance
    _cancels: Cancels
    _naming: Naming
    _composer: Composer
    _random: random.Random
    _asks: Asks | None = None
    """Requests of shared states, once there was a connection or a request."""
    _states: SharedStates | None = None

    # Mail -------------------------------------------------------------------------------------------------------

    async def send(
        self,
        to: str,
        subject: str = "",
        body: Any = "",
        *,
        create: bool = False,
        **options: Unpack[PublishOptions],
    ) -> Receipt:
        """Send a mail to an agent's inbox, or to `ALL` (everyone who is registered, but the sender); wait for the
        receipt: until it is on the broker's disk, for everyone who gets it.

        As every publish it is buffered while the broker is away, sent in order when it is back, and stored once. `body`
        is any JSON value; `create` keeps the mail for an agent that has never been there. The options are those of
        `PublishOptions`; for a mail `id` and `ttl` are the usual ones.

        Raises:
            NotFound: nobody is registered under that name, and not `create`.
            Rejected, BufferFull, Expired, Closed, Refused, Unencodable, InvalidName: as `Agent.publish`.
        """
        options["type"] = options.get("type") or MAIL
        if create:
            options["headers"] = {**(options.get("headers") or {}), "create": True}
        return await self.publish(address_of(to), content(to, subject, body), **options)

    def inbox(self, *, on_gap: Callable[[Gap], None] | None = None, **options: Unpack[ConsumerOptions]) -> InboxReader:
        """This agent's inbox, from the first unread mail on: see `InboxReader`. The options are a consumer's.

        Raises:
            ValueError
            Conflict: it is read by this agent already.
            Closed, Refused
        """
        self._require_open()
        spec = spec_of(self._own_address, READ_MARK, "all", options)
        return InboxReader(*self._consumptions.iterate(spec, on_gap, MailConsumer))

    def on_mail(self, *, concurrency: int | None = None, **options: Unpack[HandlerOptions]) -> Callable[[H], H]:
        """Decorate a function to be called with each unread `Mail` of this agent.

            @jack.on_mail()
            async def read(mail):
                await mail.reply("done")

        Returning marks it as read; all else is as with a consumer's handler: see `Agent.on`.
        """
        spec = spec_of(self._own_address, READ_MARK, "all", options)
        make = WorkerRegistration.maker(spec, concurrency, options, MailConsumer)

        def register(handler: H) -> H:
            self._register(make(handler))
            return handler

        return register

    @property
    def _own_address(self) -> str:
        return inbox_of(MAIL_GROUP, self.name)

    def _hear_mail(self, heard: LocalMessage) -> int:
        """Take a mail of this process, if it is for this agent and somebody here reads its inbox."""
        frame = heard.frame
        to_all = frame.topic == MAIL_TO_ALL and frame.sender != self.name
        if not to_all and frame.topic != self._own_address:
            return 0
        readers = [consumer for consumer in self._consumptions.table if isinstance(consumer, MailConsumer)]
        return sum(reader.hear(heard) for reader in readers)

    # Shared state -----------------------------------------------------------------------------------------------

    def shared_state(self, topic: str) -> SharedState:
        """The state that the agents of a conversation share: see `SharedState`. The same as `topic(...).state`.

        Raises:
            InvalidName: if it is no topic.
            Closed: the agent is not open.
        """
        return self._state_of(self._naming.topic(topic))

    def group_state(self, group: str | None = None) -> SharedState:
        """The state that the agents of a group share; without a name, of this agent's.

        Raises:
            InvalidName: if it is no group, or none is named and the agent has none.
            Closed: the agent is not open.
        """
        name = group if group is not None else self.group
        if name is None:
            raise InvalidName("name the group, or give the agent one")
        return self._state_of(checked(check_group, name))

    def breaker(
        self,
        name: str,
        policy: BreakerPolicy = DEFAULT_POLICY,
        *,
        group: str | None = None,
        events: bool = True,
        **options: Any,
    ) -> SharedCircuitBreaker:
        """A circuit breaker that all agents of the group who name it share: see `SharedCircuitBreaker`, whose options
        these are. `events`: whether its transitions are published on `GROUP/_breakers`, by whoever makes them.

            async with agent.breaker("openai").running() as openai:
                answer = await openai.call(client.complete, prompt)

        Raises:
            As `group_state`; ValueError if it is no name.
        """
        state = self.group_state(group)
        store = GroupStateStore(state, options.get("store_seconds", STORE_SECONDS))
        if events:
            options["publish"] = BreakerEvents(self.submit, self.loop, state.name, options.get("publish"))
        return SharedCircuitBreaker(name, policy, store=store, agent=self.name, **options)

    def _state_of(self, name: str) -> SharedState:
        self._require_open()
        if self._states is None:
            composer = self._composer
            desk = StateDesk(
                self.name,
                self.session,
                self._asking(),
                self,
                self._naming,
                lambda: composer.lamport,
                self._random,
                self._note_effect,
            )
            self._states = SharedStates(desk)
        return self._states.of(name)

    def _asking(self) -> Asks:
        if self._asks is None:
            self._asks = Asks(self._ending)
            self.on_state(self._asks.on_state)
        return self._asks

    # What led to what -------------------------------------------------------------------------------------------

    def causes(self) -> Causes:
        """The causal history of what this agent reads: see `Message.ancestors`, `Topic.thread` and `Topic.context`."""
        self._require_open()
        return Causes(self._asking(), self)

    async def ancestors(self, message: Message, depth: int) -> list[Message]:
        """What led to a message: see `Message.ancestors`."""
        return await self.causes().ancestors(message, depth)

    def _note_effect(
        self, topic: str, id: str, headers: dict[str, Any] | None, receipt: "Future[Receipt] | None" = None
    ) -> None:
        """A message is on its way. If a handler is at work here, it may be called off with what that is at work on."""
        cause = handling.get()
        if cause is None or not grows_from(cause, topic, headers):
            return
        if not is_mail(topic):
            self._cancels.published(cause, topic, id)
        elif receipt is not None:  # only the broker knows where its inbox is

            def arrived(receipt: "Future[Receipt]") -> None:
                if not receipt.cancelled() and receipt.exception() is None:
                    self._cancels.published(cause, receipt.result().topic, id)

            receipt.add_done_callback(arrived)

    # Presence ---------------------------------------------------------------------------------------------------

    def presence(self, topic: str) -> Presence:
        """Be present in a topic, and see who else is: see `Presence`.

        Raises:
            InvalidName: if it is none.
        """
        return Presence(self._naming.topic(topic), self, self._attendance)

    def _attend(self, link: Link) -> None:
        """The main connection is up, and what is to be read is asked for."""
        self._attendance.link_up(link)
        self._asking().link_up(link)

    # What the agent has -----------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def loop(self) -> asyncio.AbstractEventLoop:
        """See `Agent`."""

    @abstractmethod
    async def submit(self, topic: str, data: Any, /, **options: Unpack[PublishOptions]) -> "asyncio.Future[Receipt]":
        """See `Agent.submit`."""

    @abstractmethod
    async def publish(self, topic: str, data: Any, /, **options: Unpack[PublishOptions]) -> Receipt:
        """Publish, and wait for the receipt."""

    @abstractmethod
    def blob(self, ref: BlobRef) -> Blob:
        """What a reference names, to be fetched."""

    @abstractmethod
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
        """Subscribe to a topic or a pattern, at once."""

    @abstractmethod
    def _require_open(self) -> None:
        """Raises Closed or Refused if nothing can be asked of this agent."""

    @abstractmethod
    def on_state(self, listener: Listener) -> None:
        """Call a function at every change of the connection's state."""

    @abstractmethod
    def _ending(self) -> BaseException:
        """Why nothing can be asked of this agent."""

    @abstractmethod
    def _register(self, registration: WorkerRegistration) -> None:
        """Have a handler called, now or once the agent is open."""
