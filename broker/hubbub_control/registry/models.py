"""The JSON of the registry's routes."""

from typing import Any

from pydantic import BaseModel, Field

from hubbub_protocol.names import inbox_of

from .picture import AgentState, Picture, View


class TaskItem(BaseModel):
    """A message that an agent is at work on."""

    topic: str = Field(examples=["research/tasks"])
    id: str
    since: float = Field(description="When its handler began, in seconds since the epoch.")


class AgentStatus(BaseModel):
    """An agent, and how it is."""

    agent: str = Field(examples=["joe"])
    group: str
    inbox: str = Field(examples=["research/@joe"])
    capabilities: list[str]
    description: str
    state: AgentState
    since: float | None = Field(None, description="Since when it is idle or has work, as far as it reports.")
    online: bool
    seen: float = Field(description="When it was last here, in seconds since the epoch.")
    reports: bool = Field(description="Whether it says of itself what it is at work on.")
    paused: bool = False
    running: int = Field(0, description="Messages at work.")
    waiting: int = Field(0, description="Messages that it was given and has not begun.")
    room: int = Field(0, description="Messages that it could be at work on at a time.")
    load: float = Field(0.0, description="(running + waiting) / room: 0 is no work, 1 is full.")
    lag: float = Field(0.0, description="How late it runs its own timers, in seconds.")
    tasks: list[TaskItem] = Field(default_factory=list, description="What it is at work on, oldest first; not all.")


class AgentStatuses(BaseModel):
    """Some of the agents, sorted by name."""

    agents: list[AgentStatus]
    total: int


class Picked(BaseModel):
    """Whom to give work to."""

    agent: str
    group: str
    inbox: str
    state: AgentState
    load: float
    room: int | None = Field(
        description="Messages that it could be at work on at a time, if it says so; 0: nobody who is meant has room."
    )


def shown(picture: Picture, view: View, now: float) -> AgentStatus:
    """An agent as the routes tell of it."""
    return AgentStatus(
        agent=view.name,
        group=view.group,
        inbox=inbox_of(view.group, view.name),
        capabilities=list(view.capabilities),
        description=view.description,
        state=picture.state(view, now),
        since=view.since or None if view.reports else None,
        online=view.online,
        seen=now if view.online else view.seen,
        reports=bool(view.reports),
        paused=view.paused,
        running=view.running,
        waiting=view.waiting,
        room=view.room,
        load=round(view.load, 3),
        lag=view.lag,
        tasks=[TaskItem(**task) for task in view.tasks],
    )


def read_task(task: Any) -> dict[str, Any] | None:
    """A task of a report, if it is one."""
    if not isinstance(task, dict):
        return None
    topic, id, since = task.get("topic"), task.get("id"), task.get("since")
    if not (isinstance(topic, str) and isinstance(id, str) and isinstance(since, int | float)):
        return None
    return {"topic": topic, "id": id, "since": float(since)}
