"""What workflows raise on purpose.

HubbubError
├── InvalidWorkflow        a declaration that can't be right; it lists everything that is wrong (also a ValueError)
├── IllegalTransition      an instance can't do that where it stands; nothing was changed
├── NoSuchInstance         no instance of that id (any more)
├── AlreadyStarted         an instance of that id is there, and was started otherwise
└── TaskFailed             raised by a handler: this task can't succeed, however often it is tried
"""

from collections.abc import Sequence

from hubbub.errors import HubbubError


class InvalidWorkflow(HubbubError, ValueError):
    """A declaration that can't be right. `problems` has one sentence for each thing that is wrong."""

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        super().__init__(f"workflow {name}: " + "; ".join(problems))
        self.name = name
        self.problems = tuple(problems)


class IllegalTransition(HubbubError):
    """What was asked for is not among the transitions of the state that the instance is in. Nothing was changed."""

    def __init__(self, id: str, state: str, why: str) -> None:
        super().__init__(f"{id} is {state}: {why}")
        self.id = id
        self.state = state


class NoSuchInstance(HubbubError):
    """There is no instance of that id, or it ended so long ago that it is not kept any more."""


class AlreadyStarted(HubbubError):
    """An instance of that id is there already."""


class TaskFailed(HubbubError):
    """Raised by a handler: trying again is of no use. The instance goes the way of a failure at once."""
