"""The JSON of the routes of commands."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .trail import Command, Outcome


class Target(BaseModel):
    """Who is commanded: exactly one of these."""

    model_config = ConfigDict(extra="forbid")

    agent: str | None = Field(None, description="One agent.")
    group: str | None = Field(None, description="Every agent of a group.")
    capability: str | None = Field(None, description="Every agent that can do this.")


class CommandBody(BaseModel):
    """A command."""

    model_config = ConfigDict(extra="forbid")

    do: str = Field(
        min_length=1,
        max_length=100,
        description="pause, resume, drain, configure, ping, cancel, or a name that the agents' own code knows.",
        examples=["pause"],
    )
    to: Target | None = Field(None, description="Who is commanded; not for `cancel`, which goes to all who have part.")
    args: dict[str, Any] = Field(
        default_factory=dict, description="What goes with it; for `cancel` `topic` and `id`, and perhaps a `reason`."
    )
    within: float = Field(
        30.0, gt=0, le=3600, description="Seconds until its deadline: what is not obeyed by then never is."
    )
    wait: float = Field(0.0, ge=0, le=60, description="Seconds that this call waits for answers.")


class AnswerItem(BaseModel):
    """What became of a command for one agent."""

    agent: str
    state: Outcome
    at: float
    reason: str = ""
    result: Any = None


class CommandItem(BaseModel):
    """A command, and what became of it."""

    id: str
    do: str
    args: dict[str, Any]
    to: dict[str, str]
    by: str = Field(description="Who commanded it.")
    at: float = Field(description="When, in seconds since the epoch.")
    deadline: float
    open: bool = Field(description="Whether anybody may obey it still.")
    answers: list[AnswerItem]


class CommandItems(BaseModel):
    """Commands, newest first."""

    commands: list[CommandItem]
    total: int


def shown(command: Command, now: float) -> CommandItem:
    """A command as the routes tell of it."""
    return CommandItem(
        id=command.id,
        do=command.do,
        args=command.args,
        to=command.to,
        by=command.by,
        at=command.at,
        deadline=command.deadline,
        open=command.is_open(now),
        answers=[
            AnswerItem(agent=each.agent, state=each.state, at=each.at, reason=each.reason, result=each.result)
            for each in command.outcomes(now)
        ],
    )
