"""The JSON of shared states, as the reference shows it."""

from typing import Any, Literal

from pydantic import Field

from .models import TOPIC, Model, Publication


class StateEntryItem(Model):
    """What a key holds."""

    key: str = Field(description="The key.", examples=["plan"])
    value: Any = Field(description="Any JSON value.", examples=[{"steps": 3}])
    version: int = Field(description="The version of the change that set it.", examples=[7])
    left: float | None = Field(None, description="Seconds until it goes by itself, unless it is renewed.")


class StatePage(Model):
    """Some keys of a state."""

    topic: str = Field(description="The topic that tells of its changes.", examples=["research/_state/conv-42"])
    version: int = Field(description="The version of the whole state.", examples=[9])
    epoch: str = Field(description="Which history that version belongs to.")
    entries: list[StateEntryItem] = Field(description="In the order of the keys.")
    more: str | None = Field(description="The `after` of the next page; null when this is the last.")


class StateChange(Model):
    """A change, made in one step or not at all."""

    id: str | None = Field(None, description="A second one with this id is answered as the first. Made up if left out.")
    set: dict[str, Any] = Field({}, description="Values by key.", examples=[{"plan": {"steps": 3}}])
    delete: list[str] = Field([], description="Keys.")
    expect: int | dict[str, int] | None = Field(
        None, description="Versions of keys, or of the whole state; 0 where there is nothing.", examples=[{"plan": 7}]
    )
    ttl: dict[str, float] = Field({}, description="Seconds after which keys of `set` go by themselves.")
    keep: list[str] = Field([], description="Keys of `set` that go when they would have gone without this change.")
    publish: list[Publication] = Field([], description="Messages to topics of the same group, each with an `id`.")
    lc: int = Field(0, description="The sender's Lamport timestamp.")


class PublishedItem(Model):
    """The place of a message that was published with a change."""

    topic: str = Field(examples=[TOPIC])
    id: str
    seq: int
    lc: int
    dup: bool = False


class Changed(Model):
    """The change is on stable storage."""

    op: Literal["ok"] = "ok"
    id: str = Field(description="The change's id.")
    topic: str = Field(description="The topic that tells of the state's changes.")
    seq: int = Field(description="The version of the state, and of each key that was set.", examples=[7])
    lc: int = Field(description="Its Lamport timestamp.")
    dup: bool = Field(False, description="It was made before.")
    published: list[PublishedItem] | None = Field(None, description="The places of its messages.")
