"""Scenarios: what is measured, as data. Each is a TOML file; its `kind` says which driver it is for."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from .drivers.mark import MARK_BYTES

FOLDER = Path(__file__).resolve().parent / "scenarios"

Count = Annotated[int, Meta(ge=1)]
Payload = Annotated[int, Meta(ge=MARK_BYTES, le=900_000)]
"""Bytes of a message's `data`, a JSON string, without its quotes. Its beginning says which message it is."""
Seconds = Annotated[float, Meta(gt=0)]


class BadScenario(Exception):
    """A scenario file can't be used; the message says why."""


class Base(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every kind of scenario says."""

    title: str
    how: str
    """How the figure comes about, in the words of the report."""
    order: int = 1000
    """Place among the others."""
    runs: Count = 3
    broker: dict[str, str] = {}
    """Settings of the broker that are not its defaults."""
    name: str = ""
    """The file's name."""


class Timed(Base, frozen=True, kw_only=True):
    """A scenario that measures over a stretch of time."""

    seconds: Seconds = 4.0
    warmup: Seconds = 1.0
    """Seconds under the same load before the measuring begins. Correctness is checked from the first message on."""


class ClosedLoop(Timed, frozen=True, kw_only=True, tag="closed-loop"):
    """Publishers that keep a number of messages in flight: what the broker can do."""

    publishers: Count
    topics: Count
    subscribers: Annotated[int, Meta(ge=0)]
    """Connections subscribed to each topic; publishers have connections of their own."""
    payload: Payload
    window: Count
    """Messages in flight for each publisher."""
    until: Literal["acked", "delivered", "both"]
    """What ends a message's flight: its `ok`, its delivery to the last subscriber, or the later of the two."""
    durable: bool
    groups: Count = 1
    """Groups that the topics are spread over. A group lives in one shard, with one log."""
    lines_per_frame: Count = 64
    """Most messages that a publisher joins into a frame. It sends at once what its window has room for."""


class OpenLoop(Timed, frozen=True, kw_only=True, tag="open-loop"):
    """Agents that publish at times fixed beforehand, whatever the broker does: what a message's way takes."""

    agents: Count
    """Connections, each a publisher and a subscriber of its topic. All of a topic's agents get each message."""
    topics: Count
    payload: Payload
    rate: Annotated[float, Meta(gt=0)]
    """Publishes a second, of all agents together."""
    durable: bool
    arrivals: Literal["even", "poisson"] = "even"
    groups: Count = 1


class Idle(Base, frozen=True, kw_only=True, tag="idle"):
    """Connections that are subscribed and silent: what one costs in memory."""

    connections: Count
    topics: Count
    groups: Count = 1
    settle: Seconds = 1.0
    """Seconds to wait before memory is read."""


class Replay(Base, frozen=True, kw_only=True, tag="replay"):
    """One late reader of a topic's whole history. A run is a reader; all read the same history."""

    messages: Count
    payload: Payload


class Opening(Base, frozen=True, kw_only=True, tag="opening"):
    """The start of a broker on a directory with history. A run is one start of each sort."""

    messages: Count
    payload: Payload
    topics: Count
    groups: Count = 1


Scenario = ClosedLoop | OpenLoop | Idle | Replay | Opening


def parse(text: str, name: str) -> Scenario:
    """The scenario that a TOML text describes.

    Raises:
        BadScenario: naming the file, the field, and what is allowed.
    """
    try:
        scenario: Scenario = msgspec.convert(tomllib.loads(text), Scenario)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadScenario(f"{name}: {error}") from None
    for problem in _contradictions(scenario):
        raise BadScenario(f"{name}: {problem}")
    return msgspec.structs.replace(scenario, name=name)


def load(path: Path) -> Scenario:
    """The scenario in a file, named after it.

    Raises:
        BadScenario: also if the file can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadScenario(f"{path}: {error}") from None
    return parse(text, path.stem)


def load_all(folder: Path = FOLDER) -> list[Scenario]:
    """Every scenario of a folder, in order."""
    return sorted((load(path) for path in folder.glob("*.toml")), key=lambda one: (one.order, one.name))


def _contradictions(scenario: Scenario) -> list[str]:
    found = []
    if isinstance(scenario, ClosedLoop) and not scenario.subscribers and scenario.until != "acked":
        found.append(f"until = {scenario.until!r} needs subscribers; without them only 'acked' can happen")
    if isinstance(scenario, OpenLoop) and scenario.agents % scenario.topics:
        found.append(f"{scenario.agents} agents can't be spread evenly over {scenario.topics} topics")
    if not isinstance(scenario, Replay) and scenario.groups > scenario.topics:
        found.append(f"{scenario.groups} groups need as many topics, not {scenario.topics}")
    return found
