"""The simple bus over HTTP: send, read an inbox, mark as read; who there is."""

import base64
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any
from uuid import uuid4

import msgspec
from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import Field

from hubbub_broker.access import Operation
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.limits import CAPABILITIES_MAX, DESCRIPTION_CHARS_MAX, ID_BYTES_MAX, LAMPORT_MAX
from hubbub_protocol.names import check_agent, check_group, check_topic

from .api import Refused, StoredLine
from .body import body_of, read_model
from .bus_api import BusApi, InboxPage, MailRequest, RegisteredAgent
from .caller import Caller, FromCaller
from .models import BAD, ERRORS, AgentItem, Agents, Model

PAGE_DEFAULT = 100
PAGE_MAX = 1000
"""Messages, or agents, in one answer."""

Name = Annotated[str, Path(description="The agent's name.", examples=["jack"])]


class MailBody(Model):
    """A mail."""

    sender: str = Field(alias="from", description="Who sends it.", examples=["joe"])
    to: str = Field(description="Who gets it: an agent's name, or `ALL`.", examples=["jack"])
    subject: str = Field("", description="What it is about.", examples=["Task"])
    body: Any = Field("", description="Text, or any JSON value.", examples=["Handle blog publishing"])
    id: str | None = Field(None, description="The same id is sent once; made up if left out.", examples=["m-1"])
    create: bool = Field(False, description="Keep the mail for an agent that is not registered yet.")


class MailAnswer(Model):
    """The mail is on stable storage."""

    id: str = Field(examples=["m-1"])
    to: str = Field(examples=["jack"])
    seq: int | None = Field(None, description="Its place in the inbox.", examples=[7])
    recipients: int | None = Field(None, description="With `ALL`: how many got it.")
    dup: bool = Field(False, description="It was sent before.")


class MailItem(Model):
    """A message of an inbox."""

    id: str
    sender: str = Field(alias="from", description="Who sent it.", examples=["joe"])
    to: str = Field(description="The agent's name, or `ALL`.")
    subject: str
    body: Any
    timestamp: float = Field(description="When it was stored, in seconds since the Unix epoch.")
    seq: int = Field(description="Its place in the inbox.")
    type: str | None = Field(None, description="`mail`, or what else was published to the inbox.")


class InboxAnswer(Model):
    """What is unread, oldest first."""

    agent: str
    messages: list[MailItem]
    remaining: int = Field(description="How many more are unread.")


class MarkBody(Model):
    """Which messages were read."""

    ids: list[str] = Field([], max_length=PAGE_MAX, description="By id.")
    seqs: list[int] = Field([], max_length=PAGE_MAX, description="By their place in the inbox.")


class MarkAnswer(Model):
    """They are marked, on stable storage."""

    marked: int = Field(description="How many of them were unread.")


class AgentBody(Model):
    """An agent to register."""

    agent: str = Field(examples=["jack"])
    group: str | None = Field(None, description="Where its inbox is; the setting default_group if left out.")
    capabilities: list[str] | None = Field(None, max_length=CAPABILITIES_MAX, examples=[["search", "summaries"]])
    description: str | None = Field(None, max_length=DESCRIPTION_CHARS_MAX)


class Present(Model):
    """Who is in a topic."""

    topic: str
    agents: list[str]


def routes(bus: BusApi) -> APIRouter:
    """The routes, on `bus`."""
    router = APIRouter()
    settings = bus.settings

    @router.post(
        "/api/send",
        tags=["mail"],
        summary="Send a mail",
        responses=ERRORS,
        response_model_exclude_none=True,
        openapi_extra={"requestBody": body_of(MailBody)},
    )
    async def send(
        caller: FromCaller,
        request: Request,
        idempotency_key: Annotated[str | None, Header(description="The same as `id`.")] = None,
    ) -> MailAnswer:
        """Put a mail into an agent's inbox, or everybody's but the sender's. Answered when it is on stable storage.

        An `id`, or the header `Idempotency-Key`, makes a retry safe. Mail to a name that nobody registered is refused
        (404) unless `create` is true.
        """
        mail = await read_model(request, MailBody, settings.max_frame, settings.hello_timeout)
        id = mail.id or idempotency_key or str(uuid4())
        if not id or len(id.encode()) > ID_BYTES_MAX or "\0" in id:
            raise Refused.because(ErrorCode.BAD_REQUEST, f"`id` is 1 to {ID_BYTES_MAX} bytes of text")
        sender = check_agent(mail.sender)
        caller.require(Operation.SPEAK_AS, sender)
        data = {"to": mail.to, "subject": mail.subject, "body": mail.body}
        sent = await bus.send(MailRequest(sender, mail.to, data, id, mail.create), partial(_allow, caller))
        return MailAnswer(id=sent.id, to=sent.to, seq=sent.seq, recipients=sent.recipients, dup=sent.dup)

    @router.get("/api/inbox/{agent}", tags=["mail"], summary="Read an inbox", responses=BAD)
    async def inbox(
        caller: FromCaller,
        agent: Name,
        mark_read: Annotated[bool, Query(description="Mark what is answered as read.")] = False,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="Messages at most.")] = PAGE_DEFAULT,
        after: Annotated[int, Query(ge=0, le=LAMPORT_MAX, description="Messages with a larger seq than this.")] = 0,
        wait: Annotated[float, Query(ge=0, description="Seconds to wait for mail if there is none.")] = 0.0,
    ) -> InboxAnswer:
        """What is unread, oldest first. Reading registers the agent.

        Whoever must not lose a mail with a lost answer reads without `mark_read`, and marks what it has dealt with
        (`POST /api/inbox/AGENT/read`). What a socket of the agent has in work is not shown.
        """
        _permit_read(caller, bus, check_agent(agent))
        if wait > settings.max_wait:
            raise Refused.because(ErrorCode.BAD_REQUEST, f"`wait` is at most {settings.max_wait:g} s (max_wait)")
        if mark_read:
            caller.require(Operation.MARK_INBOX, agent)
        read = partial(bus.inbox, agent, after, limit, group=caller.group(None))
        page = await _waited(caller, read, mark=mark_read, wait=wait)
        return InboxAnswer(
            agent=agent,
            messages=[item_of(seq, stored, agent) for seq, stored in page.messages],
            remaining=page.remaining,
        )

    @router.post(
        "/api/inbox/{agent}/read",
        tags=["mail"],
        summary="Mark messages as read",
        responses=ERRORS,
        openapi_extra={"requestBody": body_of(MarkBody)},
    )
    async def mark(caller: FromCaller, agent: Name, request: Request) -> MarkAnswer:
        """Mark single messages as read, by id or by seq. Marking twice is harmless."""
        caller.require(Operation.MARK_INBOX, check_agent(agent))
        wanted = await read_model(request, MarkBody, settings.max_frame, settings.hello_timeout)
        return MarkAnswer(marked=await bus.mark(agent, wanted.seqs, wanted.ids))

    @router.post(
        "/v1/agents",
        tags=["agents"],
        summary="Register an agent",
        responses=ERRORS,
        openapi_extra={"requestBody": body_of(AgentBody)},
    )
    async def register(caller: FromCaller, request: Request) -> AgentItem:
        """Register an agent, or change what is said of it. Its group can't change while it is registered."""
        wanted = await read_model(request, AgentBody, settings.max_frame, settings.hello_timeout)
        caller.require(Operation.REGISTER, check_agent(wanted.agent))
        group = _group(caller, bus, wanted)
        found = await bus.register(wanted.agent, group, wanted.capabilities, wanted.description)
        return _registered(found)

    @router.get("/v1/agents", tags=["agents"], summary="Registered agents", responses=BAD)
    async def agents(
        caller: FromCaller,
        capability: Annotated[str | None, Query(description="Those that can do this.")] = None,
        group: Annotated[str | None, Query(description="Those of this group.")] = None,
        online: Annotated[bool | None, Query(description="Those that are connected now, or are not.")] = None,
        offset: Annotated[int, Query(ge=0, description="How many to pass over.")] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="Agents at most.")] = PAGE_MAX,
    ) -> Agents:
        """Every agent that has ever said hello, read its inbox or was registered by hand, sorted by name.

        Those are shown that the caller may send to, or read the inbox of.
        """
        found = [
            each
            for each in bus.find(capability, group)
            if online in (None, each.online) and (caller.sees_all or caller.may(Operation.SEE_AGENT, each.inbox))
        ]
        return Agents(agents=[_registered(each) for each in found[offset : offset + limit]], total=len(found))

    @router.get("/v1/agents/{agent}", tags=["agents"], summary="One agent", responses=BAD)
    async def one(caller: FromCaller, agent: Name) -> AgentItem:
        """What the register says of an agent."""
        caller.require(Operation.SEE_AGENT, bus.inbox_of(check_agent(agent)))
        return _registered(bus.registered(agent))

    @router.delete("/v1/agents/{agent}", tags=["agents"], summary="Unregister an agent", status_code=204, responses=BAD)
    async def unregister(caller: FromCaller, agent: Name) -> None:
        """Forget an agent: itself, or any for an operator. What is in its inbox stays until retention takes it."""
        caller.require(Operation.REGISTER, check_agent(agent))
        await bus.unregister(agent)

    @router.get("/v1/topics/{topic:path}/presence", tags=["agents"], summary="Who is in a topic", responses=BAD)
    async def presence(caller: FromCaller, topic: Annotated[str, Path(examples=["research/conv-42"])]) -> Present:
        """The agents that have joined a topic (`join` over their sockets), sorted by name."""
        caller.require(Operation.HISTORY, check_topic(topic))
        return Present(topic=topic, agents=list(bus.present(topic)))

    return router


def _group(caller: Caller, bus: BusApi, wanted: AgentBody) -> str | None:
    """Where an agent is to be registered; None: where it is, or in the default group."""
    given = None if wanted.group is None else check_group(wanted.group)
    return given if given is None and bus.knows(wanted.agent) else caller.group(given)


def _permit_read(caller: Caller, bus: BusApi, agent: str) -> None:
    """See that the caller may read an agent's inbox, and register the agent if reading does.

    Raises:
        Refused: it may not read the inbox; or there is none, and it may not make one.
    """
    caller.require(Operation.READ_INBOX, bus.inbox_of(agent))
    if not caller.may(Operation.REGISTER, agent):
        bus.registered(agent)  # where it would be registered, the inbox might be another than the one asked about


async def _waited(caller: Caller, read: Callable[..., Awaitable[InboxPage]], *, mark: bool, wait: float) -> InboxPage:
    """What is unread; only once the wait for it is over it is seen whether the caller may still have it.

    Raises:
        Refused: `unauthorized`: its token has ended meanwhile. Nothing is marked.
    """
    if wait <= 0:
        return await read(mark=mark, wait=0.0)
    page = await read(mark=False, wait=wait)
    if caller.ended:
        raise Refused.because(ErrorCode.UNAUTHORIZED, "the token has ended meanwhile: ask with a new one")
    return await read(mark=True, wait=0.0) if mark else page


def item_of(seq: int, stored: StoredLine, agent: str) -> MailItem:
    """A message of an inbox as the bus shows it. What is no mail is shown as well as can be."""
    header = stored.line[: stored.header_size] if stored.header_size else stored.line
    frame = msgspec.json.decode(header)
    data = frame.get("data")
    if stored.header_size:
        data = {"data_base64": base64.b64encode(stored.line[stored.header_size :]).decode()}
    mail = data if isinstance(data, dict) and frame.get("type") == "mail" else {}
    subject = mail.get("subject", "")
    return MailItem.model_validate(
        {
            "id": frame["id"],
            "from": frame["from"],
            "to": str(mail.get("to", agent)),
            "subject": subject if isinstance(subject, str) else str(subject),
            "body": mail.get("body", "") if mail else data,
            "timestamp": frame["ts"],
            "seq": seq,
            "type": frame.get("type"),
        }
    )


def _allow(caller: Caller, inbox: str | None) -> None:
    if inbox is None:
        caller.require(Operation.SEND_TO_ALL)
    else:
        caller.require(Operation.SEND, inbox)


def _registered(found: RegisteredAgent) -> AgentItem:
    return AgentItem(
        agent=found.agent,
        group=found.group,
        inbox=found.inbox,
        capabilities=list(found.capabilities),
        description=found.description,
        registered=found.registered,
        seen=found.seen,
        online=found.online,
    )
