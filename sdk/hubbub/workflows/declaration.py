"""What is written in a declaration: a `State` for each name, and the words that have a meaning there."""

import msgspec

FAILED = "FAILED"
"""Where an instance ends when something failed and the declaration does not say where to go."""

CANCELLED = "CANCELLED"
"""Where an instance ends that somebody cancelled."""

COMPENSATING = "COMPENSATING"
"""What an instance is in while what it did is being undone, on its way to FAILED or CANCELLED."""

BUILT_IN = frozenset({FAILED, CANCELLED, COMPENSATING})

DONE = "done"
"""The cause of a task that returned; a handler may name another outcome."""

FAILURE = "failed"
"""The cause of a task that failed for good."""

TIMEOUT = "timeout"
"""The cause of a state that took too long."""

STUCK = "stuck"
"""The cause of going round through states without anything to do in them."""

START = "start"
CANCEL = "cancel"
RETRY = "retry"
PAUSE = "pause"
RESUME = "resume"
"""What people order."""

TASK = "task "
"""Before what became of one task of a state that goes on."""

MESSAGE = "message:"
"""Before a message's type: the cause of a message in the conversation."""


def stays(cause: str) -> bool:
    """Whether a cause leaves an instance in its state."""
    return cause in (PAUSE, RESUME) or cause.startswith(TASK)


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One state: who works while an instance is in it, and what ends it.

    With a `handler` a task goes out when the state is entered, and its outcome decides. Without, the instance waits for
    one of `messages`, or for the `timeout`.
    """

    handler: str | tuple[str, ...] | None = None
    """Whose work it is: `NAME` (whoever shares in handling it), `agent:NAME`, `capability:NAME`; several work at the
    same time, each on a task of its own."""
    on: dict[str, str] = {}
    """Where to go by outcome: `done`, `failed`, `timeout`, and what handlers name beside (see `Outcome`)."""
    messages: dict[str, str] = {}
    """Where to go when a message of that type is published in the conversation of the instance."""
    each: str | None = None
    """A list in the instance's data, such as `research.findings`: one task for each of its items."""
    join: int | None = None
    """How many of the tasks must be done before the instance goes on. Default: all."""
    timeout: float | None = None
    """Seconds that the instance may be in this state, all attempts included."""
    attempt_timeout: float | None = None
    """Seconds after which an attempt of a task counts as failed."""
    retries: int = 0
    """How often a task that failed is tried again."""
    backoff: tuple[float, ...] = (1.0, 5.0, 30.0)
    """Seconds before each of these attempts; the last goes on."""
    result: str | None = None
    """The name in the instance's data under which the outcome stands. Default: the state's name."""
    compensate: str | None = None
    """Whose work it is to undo what was done here, when the instance fails or is cancelled later."""
    end: bool = False
    """Whether an instance that comes here is at its end."""
    description: str = ""

    @property
    def handlers(self) -> tuple[str, ...]:
        """All handlers."""
        if self.handler is None:
            return ()
        return (self.handler,) if isinstance(self.handler, str) else self.handler
