"""What was commanded and what became of it, as the log tells it: a fold over two topics, in any order of the two.

A command is as it stands in `_hubbub/commands`; an answer as in `_hubbub/answers`. Bounded: the newest so many commands
are known here. The log has all of them, as long as its retention says.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

ANSWERS_MAX = 10_000
"""Answers to one command that are kept: a cancelled task may have reached many agents."""

STRAYS_MAX = 1_000
"""Answers to commands that are not known (yet)."""


class Outcome(StrEnum):
    """What became of a command, for one of those who got it."""

    PENDING = "pending"
    """It may be obeyed still."""
    OBEYED = "obeyed"
    REFUSED = "refused"
    """It can't be done, or nobody there knows how."""
    FAILED = "failed"
    """Whoever did it raised an error."""
    LATE = "late"
    """It was not obeyed before its deadline: it never will be."""


@dataclass(slots=True)
class Answer:
    """What one agent said."""

    agent: str
    state: Outcome
    at: float
    reason: str = ""
    result: Any = None


@dataclass(slots=True)
class Command:
    """One command."""

    id: str
    do: str
    args: dict[str, Any]
    by: str
    at: float
    deadline: float
    targets: tuple[str, ...]
    """The agents that it is for; none for one that goes to whoever has part in a task."""
    to: dict[str, str]
    """How they were named: an agent, a group, a capability, or a topic and the id of a message."""
    answers: list[Answer] = field(default_factory=list)
    best: dict[str, Answer] = field(default_factory=dict)
    """By agent, the best of what its processes said."""

    def answered(self, answer: Answer) -> None:
        """One agent has said this."""
        if len(self.answers) < ANSWERS_MAX:
            self.answers.append(answer)
            best = self.best.get(answer.agent)
            if best is None or (best.state is not Outcome.OBEYED and answer.state is Outcome.OBEYED):
                self.best[answer.agent] = answer

    def outcome(self, agent: str, now: float) -> Answer:
        """What became of it for one of its targets: the best of what its processes said."""
        best = self.best.get(agent)
        if best is not None:
            return best
        late = now >= self.deadline
        return Answer(agent, Outcome.LATE if late else Outcome.PENDING, self.deadline if late else now)

    def outcomes(self, now: float) -> list[Answer]:
        """What became of it, for all."""
        return [self.outcome(agent, now) for agent in self.targets] if self.targets else list(self.answers)

    def is_open_for(self, agent: str, now: float) -> bool:
        """Whether an agent may obey it still."""
        return agent in self.targets and self.outcome(agent, now).state is Outcome.PENDING

    def is_open(self, now: float) -> bool:
        """Whether anybody may."""
        return now < self.deadline and any(each.state is Outcome.PENDING for each in self.outcomes(now))


class Trail:
    """The newest commands."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._commands: OrderedDict[str, Command] = OrderedDict()
        self._strays: OrderedDict[str, list[Answer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._commands)

    def get(self, id: str) -> Command | None:
        """One command, if it is known."""
        return self._commands.get(id)

    def newest(self) -> list[Command]:
        """All that are known, newest first."""
        return list(reversed(self._commands.values()))

    def commanded(self, command: Command) -> None:
        """A command is on the log. The same one twice is as once."""
        if command.id in self._commands:
            return
        for answer in self._strays.pop(command.id, ()):
            command.answered(answer)
        self._commands[command.id] = command
        while len(self._commands) > self._most:
            self._commands.popitem(last=False)

    def answered(self, id: str, answer: Answer) -> Command | None:
        """An answer is on the log. The command that it is to, if it is known."""
        command = self._commands.get(id)
        if command is None:
            kept = self._strays.setdefault(id, [])
            if len(kept) < ANSWERS_MAX:
                kept.append(answer)
            while len(self._strays) > STRAYS_MAX:
                self._strays.popitem(last=False)
        else:
            command.answered(answer)
        return command

    def open_for(self, agent: str, now: float) -> list[Command]:
        """The commands that an agent may obey still, oldest first."""
        return [command for command in self._commands.values() if command.is_open_for(agent, now)]
