"""The JSON of the routes for operators, as the reference shows it."""

from typing import Any, Literal

from pydantic import Field, model_validator

from .models import TOPIC, Model

CONSUMER = "workers"
SEQS_MAX = 10_000
"""Letters that one request may name."""


class MemberItem(Model):
    """A connection's share in a consumer's work."""

    agent: str = Field(examples=["joe"])
    session: str = Field(description="This life of the agent.", examples=["f3a81c"])
    since: float = Field(description="When it joined, in seconds since the Unix epoch.", examples=[1760000000.25])
    outstanding: int = Field(description="Messages that it has out.", examples=[3])
    max_unacked: int = Field(description="How many it may have out.", examples=[64])
    ack_wait: float = Field(description="Seconds that it may take for one before it says something.", examples=[30])
    draining: bool = Field(description="It wants nothing more, and is finishing what it has.")


class ConsumerItem(Model):
    """A consumer: a position that the broker keeps. Counts of what has happened are since the broker's start."""

    topic: str = Field(description="Its topic or pattern.", examples=["research/tasks"])
    name: str = Field(examples=[CONSUMER])
    created: float = Field(description="When it was made, or last reset.", examples=[1760000000.25])
    start: str = Field(description="Where it began: `new`, `all`, `seq N`, `last N`, `since TIME`.", examples=["new"])
    max_deliver: int = Field(description="Deliveries after which a message is given up; 0 is never.", examples=[5])
    backoff: list[float] = Field(description="Waits, in seconds, before a failed message comes again.")
    exclusive: bool
    ordered: str | None = Field(description="The header by whose value messages are kept in order.")
    paused: bool
    members: list[MemberItem]
    lag: int = Field(description="Messages up to the head that are not settled, over all topics.", examples=[12])
    topics: int = Field(description="Topics in which there are any.", examples=[1])
    oldest: float | None = Field(description="When the oldest of them was sequenced.", examples=[1760000000.25])
    outstanding: int = Field(description="Messages that members have out.", examples=[3])
    waiting: int = Field(description="Messages that failed and come again.", examples=[1])
    acked: int = Field(examples=[100])
    redelivered: int = Field(examples=[2])
    dead: int = Field(description="Messages that went to the dead letters.", examples=[0])


class Consumers(Model):
    """Some of the consumers, sorted by topic and name."""

    consumers: list[ConsumerItem]
    total: int = Field(description="How many there are.", examples=[1])


class ResetBody(Model):
    """Where to begin again."""

    start: str | dict[str, Any] = Field(
        alias="from",
        description='`"all"`, `"new"`, `{"seq": N}` (one topic only), `{"since": TIME}` or `{"last": N}`.',
        examples=["all"],
    )


class Removed(Model):
    """The consumer is gone."""

    topic: str = Field(examples=["research/tasks"])
    name: str = Field(examples=[CONSUMER])
    positions: int = Field(description="In how many topics it had a position.", examples=[1])


class LetterItem(Model):
    """An open dead letter: a message that its consumer could not deal with."""

    seq: int = Field(description="Its place in `GROUP/_dead`: what it is named by.", examples=[4])
    ts: float = Field(description="When it was written, in seconds since the Unix epoch.", examples=[1760000000.25])
    reason: str = Field(description="What the last failure said.", examples=["KeyError: 'url'"])
    attempts: int = Field(description="How often the message was delivered.", examples=[5])
    first_failure: float = Field(examples=[1760000000.25])
    last_failure: float = Field(examples=[1760000060.5])
    topic: str = Field(description="The message's topic.", examples=[TOPIC])
    message: int = Field(description="The message's seq there.", examples=[7])
    consumer: str = Field(examples=[CONSUMER])
    consumer_topic: str = Field(description="The consumer's topic or pattern.", examples=["research/*"])
    id: str = Field(description="The message's id.", examples=["018f-1"])
    sender: str = Field(alias="from", description="Who published it.", examples=["joe"])


class Letters(Model):
    """Some of a group's open dead letters, oldest first."""

    letters: list[LetterItem]
    next: int | None = Field(description="The `after` of the next page; null when this is the last.", examples=[None])


class WholeLetter(LetterItem):
    """An open dead letter with what it is about."""

    letter: dict[str, Any] = Field(description="The letter as subscribers of `GROUP/_dead` get it, `data` included.")


class WhichBody(Model):
    """Which letters: `seqs`, or `all` (of a consumer, of a topic)."""

    seqs: list[int] | None = Field(None, description="These.", max_length=SEQS_MAX, examples=[[4, 7]])
    all: bool = Field(False, description="Every open one; with `consumer` or `topic`, of those.")
    consumer: str | None = Field(None, description="With `all`: only what this consumer could not deal with.")
    topic: str | None = Field(None, description="With `all`: only messages of this topic.")
    after: int = Field(0, ge=0, description="With `all`: only letters with a larger seq. What `next` says goes here.")

    @model_validator(mode="after")
    def _one_way(self) -> "WhichBody":
        if (self.seqs is None) == (not self.all):
            raise ValueError("say either `seqs` or `all`: true")
        if self.seqs is not None and (self.consumer or self.topic):
            raise ValueError("`consumer` and `topic` go with `all`")
        return self


class RedriveBody(WhichBody):
    """Which letters to redrive, and how."""

    republish: bool = Field(
        False,
        description="Publish a copy as a new message for all who read the topic, in place of giving the message back "
        "to its consumer: where retention took the original, or the consumer is gone.",
    )


class LetterRefusal(Model):
    """A letter that stays open."""

    seq: int = Field(examples=[4])
    code: str = Field(examples=["not_found"])
    message: str = Field(description="Why, and what can be done.")


class LettersHandled(Model):
    """What was done. It is on stable storage."""

    done: int = Field(examples=[2])
    already: int = Field(description="Of `seqs`: not open, be it no longer or never.", examples=[0])
    refused: int = Field(description="Letters that stay open.", examples=[0])
    refusals: list[LetterRefusal] = Field(description="The first hundred of those.")
    next: int | None = Field(description="With `all`: go on with `after` = this; null when that was all.")


class ReceiptItem(Model):
    """What became of a tracked message with one consumer."""

    publisher: str = Field(description="Who published it.", examples=["joe"])
    id: str = Field(examples=["018f-1"])
    topic: str = Field(examples=[TOPIC])
    seq: int | None = Field(examples=[7])
    state: Literal["delivered", "working", "done", "dead", "expired"]
    consumer: str | None = Field(examples=[CONSUMER])
    by: str | None = Field(description="The agent that has it, or had it last.", examples=["jack"])
    reason: str | None = Field(description="With `dead`: what the last failure said.")
    ts: float | None = Field(description="Since when, in seconds since the Unix epoch.", examples=[1760000000.25])


class Receipts(Model):
    """The newest state of each message with that id, with each consumer."""

    receipts: list[ReceiptItem]


class SpreadItem(Model):
    """Seconds that half of the newest messages took at most, nine in ten, and 99 in a hundred."""

    p50: float = Field(examples=[0.8])
    p90: float = Field(examples=[1.9])
    p99: float = Field(examples=[4.2])


class ConsumerFigures(Model):
    """A consumer in figures. `acked`, `redelivered` and `dead` count since the broker's start."""

    topic: str = Field(examples=["research/tasks"])
    name: str = Field(examples=[CONSUMER])
    paused: bool
    members: int = Field(examples=[4])
    lag: int | None = Field(description="As of the last count, some seconds ago; null before that.", examples=[12])
    oldest: float | None = Field(description="When the oldest message that is not settled was sequenced.")
    outstanding: int = Field(examples=[3])
    waiting: int = Field(examples=[1])
    acked: int = Field(examples=[100])
    redelivered: int = Field(examples=[2])
    dead: int = Field(examples=[0])
    wait: SpreadItem = Field(description="From sequenced to sent to a member.")
    work: SpreadItem = Field(description="From sent to acked.")
    total: SpreadItem = Field(description="From sequenced to acked.")


class AgentFigures(Model):
    """An agent at one consumer's work."""

    agent: str = Field(examples=["joe"])
    topic: str = Field(description="The consumer's topic or pattern.", examples=["research/tasks"])
    consumer: str = Field(examples=[CONSUMER])
    state: Literal["deaf", "slow", "gone", "busy", "working", "idle"]
    since: float = Field(description="Since when, in seconds since the Unix epoch.", examples=[1760000000.25])
    on: str | None = Field(description="The message that it is at, or late with.", examples=["research/tasks#7"])
    outstanding: int = Field(examples=[1])
    acked: int = Field(description="Messages that it has acked since the broker's start.", examples=[25])
    work: SpreadItem


class TopAnswer(Model):
    """Consumers, furthest behind first; agents, those first that need a look."""

    now: float = Field(description="When this was, in seconds since the Unix epoch.", examples=[1760000000.25])
    consumers_total: int = Field(examples=[1])
    consumers: list[ConsumerFigures]
    agents_total: int = Field(examples=[4])
    agents: list[AgentFigures]
