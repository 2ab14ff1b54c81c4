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


class Team(Timed, frozen=True, kw_only=True, tag="team"):
    """Agents in conversations, with every knob: what a team of one's own would see."""

    agents: Count
    """A connection each. Everybody publishes to, and reads, the conversations that they are in."""
    conversations: Count
    members: Count
    """Agents in each conversation. With more places than agents, an agent is in several."""
    groups: Count = 1
    rate: Annotated[float, Meta(ge=0)] = 0.0
    """Open loop: publishes a second, of all agents together, due at times fixed beforehand."""
    window: Annotated[int, Meta(ge=0)] = 0
    """Closed loop: messages without an answer that each agent keeps under way in each of its conversations."""
    arrivals: Literal["even", "poisson"] = "even"
    publishers: Annotated[int, Meta(ge=0)] = 0
    """Members of each conversation that publish; 0 is all."""
    payload: Payload | list[Payload] = 256
    """Bytes of a message; several sizes take turns."""
    durable: bool = True
    consumer: Literal["none", "own", "shared"] = "none"
    """Plain subscriptions; or a consumer for each member, which acks everything; or one whose work members share."""
    max_unacked: Count = 64
    """Messages that a consumer is given ahead of its acks."""
    handler: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds that handling a message takes: until the ack, and in the SDK until the next."""
    churn: Annotated[float, Meta(ge=0)] = 0.0
    """Agents that leave, a second, without a goodbye; each comes back after `away` and goes on where it was."""
    away: Seconds = 1.0
    slow: Annotated[int, Meta(ge=0)] = 0
    """Agents that stop reading for `pause` seconds, read for a fifth of that, and so on."""
    pause: Seconds = 1.0
    mode: Literal["raw", "sdk"] = "raw"
    """Frames written by hand, so that the broker is what is measured; or agents of the SDK."""
    processes: Count = 1
    """Processes that share the load, each with conversations of its own."""


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


Scenario = ClosedLoop | OpenLoop | Team | Idle | Replay | Opening


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


def load_all(folder: Path = FOLDER, pattern: str = "*.toml") -> list[Scenario]:
    """Every scenario of a folder, in order; `**/*.toml` is also those of the folders in it."""
    return sorted((load(path) for path in folder.glob(pattern)), key=lambda one: (one.order, one.name))


def _contradictions(scenario: Scenario) -> list[str]:
    found = []
    if isinstance(scenario, ClosedLoop) and not scenario.subscribers and scenario.until != "acked":
        found.append(f"until = {scenario.until!r} needs subscribers; without them only 'acked' can happen")
    if isinstance(scenario, OpenLoop) and scenario.agents % scenario.topics:
        found.append(f"{scenario.agents} agents can't be spread evenly over {scenario.topics} topics")
    if isinstance(scenario, Team):
        found += _team_contradictions(scenario)
        return found
    if not isinstance(scenario, Replay) and scenario.groups > scenario.topics:
        found.append(f"{scenario.groups} groups need as many topics, not {scenario.topics}")
    return found


def _team_contradictions(team: Team) -> list[str]:
    agents, conversations, processes = team.agents, team.conversations, team.processes
    wrong = {
        "one of rate (open loop) and window (closed loop) is to be given": bool(team.rate) == bool(team.window),
        f"{processes} processes need agents and conversations that can be divided by {processes}": bool(
            agents % processes or conversations % processes
        ),
        f"{team.members} members in a conversation are more than the {agents // processes} agents of a process": (
            team.members > agents // processes
        ),
        f"{conversations} conversations of {team.members} have no place for {agents} agents": (
            conversations * team.members < agents
        ),
        f"{team.publishers} publishers in a conversation of {team.members}": team.publishers > team.members,
        f"{team.groups} groups need as many conversations, not {conversations}": team.groups > conversations,
        f"{team.slow} slow agents of {agents}": team.slow > agents,
        "a consumer's messages are durable: durable = true": team.consumer != "none" and not team.durable,
        "handler needs a consumer or the SDK: nothing else waits for it": (
            team.handler > 0 and team.consumer == "none" and team.mode == "raw"
        ),
    }
    return [text for text, found in wrong.items() if found]
