"""The simple bus over HTTP: send, read an inbox, mark as read; who there is."""

from functools import partial
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import Field

from hubbub_broker.access import Operation
from hubbub_protocol.codec import encode_value
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.limits import CAPABILITIES_MAX, DESCRIPTION_CHARS_MAX, ID_BYTES_MAX, LAMPORT_MAX
from hubbub_protocol.names import check_agent, check_group, check_topic

from .api import Refused
from .body import JSON_TYPE, body_of, check_json, read_body, read_model
from .bus_api import BusApi, MailRequest, Reader, Reading, RegisteredAgent
from .caller import Caller, FromCaller
from .mail_text import read_mail, shown
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
    in_reply_to: str | None = Field(None, description="The id of the mail in the sender's inbox that this one answers.")
    headers: dict[str, Any] = Field({}, description="As of any message; `hops` 0 says that it answers nothing.")


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
    in_reply_to: str | None = Field(None, description="The id of the mail that it answers, if it says so.")
    hops: int = Field(0, description="How many messages led to it, each to the next, as far as it says.")


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
        check_json(request)
        mail = read_mail(await read_body(request, settings.max_frame, settings.hello_timeout))
        id = mail.id or idempotency_key or str(uuid4())
        if len(id.encode()) > ID_BYTES_MAX:
            raise Refused.because(ErrorCode.BAD_REQUEST, f"`id` is 1 to {ID_BYTES_MAX} bytes of text")
        sender = check_agent(mail.sender)
        caller.require(Operation.SPEAK_AS, sender)
        wanted = MailRequest(sender, mail.to, mail.data, id, mail.create, mail.headers, mail.in_reply_to)
        sent = await bus.send(wanted, partial(_allow, caller))
        return MailAnswer(id=sent.id, to=sent.to, seq=sent.seq, recipients=sent.recipients, dup=sent.dup)

    @router.get(
        "/api/inbox/{agent}",
        tags=["mail"],
        summary="Read an inbox",
        response_class=Response,
        responses={200: {"model": InboxAnswer}, **BAD},
    )
    async def inbox(
        caller: FromCaller,
        agent: Name,
        mark_read: Annotated[bool, Query(description="Mark what is answered as read.")] = False,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="Messages at most.")] = PAGE_DEFAULT,
        after: Annotated[int, Query(ge=0, le=LAMPORT_MAX, description="Messages with a larger seq than this.")] = 0,
        wait: Annotated[float, Query(ge=0, description="Seconds to wait for mail if there is none.")] = 0.0,
    ) -> Response:
        """What is unread, oldest first. Reading its own inbox registers an agent; somebody else's reading does not.

        Whoever must not lose a mail with a lost answer reads without `mark_read`, and marks what it has dealt with
        (`POST /api/inbox/AGENT/read`). What a socket of the agent has in work is not shown.
        """
        caller.require(Operation.READ_INBOX, bus.inbox_of(check_agent(agent)))
        if wait > settings.max_wait:
            raise Refused.because(ErrorCode.BAD_REQUEST, f"`wait` is at most {settings.max_wait:g} s (max_wait)")
        if mark_read:
            caller.require(Operation.MARK_INBOX, agent)
        reading = Reading(
            after, limit, wait, mark_read, partial(_check_still_there, caller), partial(shown, agent=agent)
        )
        page = await bus.inbox(_reader(caller, agent), reading)
        messages = b",".join(page.messages)
        content = b'{"agent":%b,"messages":[%b],"remaining":%d}' % (encode_value(agent), messages, page.remaining)
        return Response(content, media_type=JSON_TYPE)

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
        return MarkAnswer(marked=await bus.mark(_reader(caller, agent), wanted.seqs, wanted.ids))

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


def _reader(caller: Caller, agent: str) -> Reader:
    """Whose inbox is read. An operator, or whoever else may, reads it and is not the agent."""
    return Reader(agent, caller.may(Operation.SPEAK_AS, agent), caller.group(None))


def _check_still_there(caller: Caller) -> None:
    """Who has waited for mail may have been let in by what is over by now."""
    if caller.ended:
        raise Refused.because(ErrorCode.UNAUTHORIZED, "your token ended while you waited for mail")


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
        socket=found.socket,
    )
