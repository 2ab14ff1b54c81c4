"""The JSON of requests and answers, as the reference shows it: what each field is, with examples.

`Publication` documents the body of a publish, which `publish` reads with the wire's own decoder.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TOPIC = "research/conv-42"


class Model(BaseModel):
    """JSON that has these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class Publication(Model):
    """A message to publish."""

    topic: str = Field(description="`GROUP/CONVERSATION`, further `/` segments allowed.", examples=[TOPIC])
    id: str | None = Field(None, description="Unique for the publisher; made up if left out.", examples=["018f-1"])
    data: Any = Field(None, description="The payload: any JSON value.", examples=[{"text": "hello"}])
    data_base64: str | None = Field(None, description="In place of `data`: a payload of bytes.")
    parent: str | None = Field(None, description="The id of the message of this topic that this one answers.")
    type: str | None = Field(None, description="What kind of message it is, in the application's own words.")
    lc: int = Field(0, description="The publisher's Lamport timestamp.")
    headers: dict[str, Any] | None = Field(None, description="Whatever else travels with it.")
    ephemeral: bool = Field(False, description="Goes to those who are subscribed now, and is not stored.")
    ttl: float | None = Field(None, description="Seconds after which it is neither delivered nor replayed.")
    reply_to: str | None = Field(None, description="The topic where an answer is wanted.")
    n: int | None = Field(None, description="The publisher's count of its messages to this topic: 1, 2, 3 …")
    track: bool = Field(False, description="Ask for receipts.")


class PublishOk(Model):
    """The message is on stable storage; or, if ephemeral, was handed on."""

    op: Literal["ok"] = "ok"
    id: str = Field(description="The message's id.", examples=["018f-1"])
    topic: str = Field(description="Its topic.", examples=[TOPIC])
    seq: int | None = Field(
        None, description="Its place in the topic: 1, 2, 3 …; an ephemeral one has none.", examples=[7]
    )
    lc: int | None = Field(None, description="Its Lamport timestamp.", examples=[9])
    dup: bool = Field(False, description="This id was published before: `seq` is that message's.")


class Refusal(Model):
    """Why a request, or one message of a list, was refused."""

    op: Literal["err"] = "err"
    code: str = Field(description="One of the protocol's error codes.", examples=["overloaded"])
    message: str = Field(description="What is wrong and what to do, for people.")
    id: str | None = Field(None, description="The message that it is about.")
    topic: str | None = Field(None, description="Its topic.")
    retry_after: float | None = Field(
        None, description="Seconds after which the same request may succeed.", examples=[1.0]
    )
    url: str | None = Field(None, description="With `wrong_shard`: the broker to ask.")
    expect: int | None = Field(None, description="With `order`: the `n` that will be accepted next.")


PublishAnswer = PublishOk | Refusal


class Message(BaseModel):
    """A stored message, as subscribers get it."""

    op: Literal["msg"] = "msg"
    topic: str = Field(examples=[TOPIC])
    seq: int = Field(description="Its place in the topic.", examples=[7])
    id: str = Field(examples=["018f-1"])
    sender: str = Field(alias="from", description="Who published it.", examples=["joe"])
    ts: float = Field(description="When it was sequenced, in seconds since the Unix epoch.", examples=[1760000000.25])
    lc: int = Field(description="Its Lamport timestamp.", examples=[9])
    data: Any = Field(None, description="The payload, if it is JSON.", examples=[{"text": "hello"}])
    data_base64: str | None = Field(None, description="The payload, if it is bytes.")
    parent: str | None = Field(None, description="The id of the message that it answers.")
    type: str | None = None
    headers: dict[str, Any] | None = None
    reply_to: str | None = None
    orphan: bool = Field(False, description="Its parent had not come when it went out.")


class History(BaseModel):
    """A page of a topic's messages."""

    topic: str = Field(examples=[TOPIC])
    epoch: str = Field(description="Changes only when the topic's history was lost or reset.", examples=["k3v9x2"])
    head: int = Field(description="The topic's last seq, 0 if it has none.", examples=[7])
    first: int = Field(description="The first seq that can still be read; head + 1 if there is none.", examples=[1])
    messages: list[Message]
    next: int = Field(description="The `after` of the next page; equal to `head` when this is the last.", examples=[7])


class Line(BaseModel):
    """A message, and what led to it within its topic."""

    topic: str = Field(examples=[TOPIC])
    messages: list[Message] = Field(description="The message, then its ancestors, nearest first.")
    missing: str | None = Field(None, description="The id of the parent that is not there, where the line breaks off.")


class TopicItem(Model):
    """A topic."""

    topic: str = Field(examples=[TOPIC])
    head: int = Field(description="Its last seq.", examples=[7])
    first: int = Field(description="The first seq that can still be read; head + 1 if there is none.", examples=[1])
    ts: float = Field(
        description="Time of its last message, in seconds since the Unix epoch.", examples=[1760000000.25]
    )
    bytes: int = Field(description="Size of its history in the log.", examples=[4096])


class Topics(Model):
    """Some of the topics, sorted by name."""

    topics: list[TopicItem]
    next: str | None = Field(description="The `after` of the next page; null when this is the last.", examples=[TOPIC])


class SessionItem(Model):
    """A connected session."""

    agent: str = Field(examples=["joe"])
    session: str = Field(description="Names this life of the agent.", examples=["f3a81c"])
    since: float = Field(description="When it connected, in seconds since the Unix epoch.", examples=[1760000000.25])
    address: str = Field(
        description="Where it connected from; for operators, else empty.", examples=["127.0.0.1:50322"]
    )
    subscriptions: int = Field(examples=[3])


class Sessions(Model):
    """Some of the connected sessions, sorted by agent."""

    sessions: list[SessionItem]
    total: int = Field(description="How many there are.", examples=[1])


class Disconnected(Model):
    """The connections of an agent have ended."""

    agent: str = Field(examples=["joe"])
    connections: int = Field(description="How many there were.", examples=[1])


class AgentItem(Model):
    """A registered agent."""

    agent: str = Field(examples=["joe"])
    group: str = Field(description="Where its inbox is.", examples=["research"])
    inbox: str = Field(examples=["research/@joe"])
    capabilities: list[str] = Field(examples=[["search"]])
    description: str
    registered: float = Field(description="When it was registered, in seconds since the Unix epoch.")
    seen: float = Field(description="When it was last heard of, likewise.")
    online: bool = Field(description="Whether it is connected by WebSocket now.")
    socket: bool = Field(
        description="Whether it was when it was last heard of; or else it pulled its inbox, or was registered by hand."
    )


class Agents(Model):
    """Some of the registered agents, sorted by name."""

    agents: list[AgentItem]
    total: int = Field(description="How many there are.", examples=[1])


class ShardItem(Model):
    """A shard of this broker."""

    shard: int = Field(examples=[0])
    epoch: str = Field(examples=["k3v9x2"])
    topics: int = Field(description="Topics in memory.", examples=[12])
    pending_bytes: int = Field(description="Bytes that are not yet on stable storage.", examples=[0])
    log_bytes: int = Field(description="Size of its log on disk.", examples=[1048576])
    read_only: str | None = Field(description="Why it takes nothing, or null.", examples=[None])


class Shards(Model):
    """The shards of this broker."""

    shards: list[ShardItem]


class RouteItem(Model):
    """Where a group lives."""

    group: str = Field(examples=["research"])
    shard: int = Field(examples=[5])
    url: str = Field(description="The WebSocket address to connect to.", examples=["ws://127.0.0.1:8091/v1/ws"])


class Budget(Model):
    """What a conversation has used, and what it may use."""

    topic: str = Field(examples=[TOPIC])
    messages: int = Field(description="Messages since it began, or was reset.", examples=[120])
    bytes: int = Field(description="Bytes of their data.", examples=[48000])
    cost: float = Field(description="Sum of their header `cost`.", examples=[1.25])
    budget_messages: int = Field(description="How many it may have; 0 is no budget.", examples=[1000])
    budget_bytes: int = Field(description="How many bytes; 0 is no budget.", examples=[0])
    budget_cost: float = Field(description="How much cost; 0 is no budget.", examples=[5.0])


class Status(Model):
    """How the broker is."""

    status: Literal["ok", "ready"]
    version: str = Field(examples=["0.1.0"])


REFUSAL = "#/components/schemas/Refusal"
"""Where the reference has `Refusal`: `app` puts it there."""


def _refused(description: str) -> dict[str, Any]:
    """A refusal, as the reference shows it. By name: FastAPI would make a model of its own for each route and status,
    which was most of a start's time.
    """
    return {"description": description, "content": {"application/json": {"schema": {"$ref": REFUSAL}}}}


ERRORS: dict[int | str, dict[str, Any]] = {
    400: _refused("The request is wrong; the message says where."),
    401: _refused("No token, or none that this broker takes."),
    403: _refused("The token does not allow it; the message says what."),
    409: _refused("Not as things stand in the conversation: out of `order`, a `loop`, or its `budget` is used up."),
    413: _refused("Too large; the message names the limit."),
    429: _refused("Too fast; `Retry-After` says when."),
    503: _refused("Not now: overloaded, read-only or stopping; `Retry-After` says when."),
}
"""What may be answered to a publish, besides success."""

DENIED: dict[int | str, dict[str, Any]] = {401: ERRORS[401], 403: ERRORS[403]}
BAD: dict[int | str, dict[str, Any]] = {400: ERRORS[400], **DENIED}
MISSING: dict[int | str, dict[str, Any]] = {404: _refused("There is none.")}
UNAVAILABLE: dict[int | str, dict[str, Any]] = {503: ERRORS[503]}
