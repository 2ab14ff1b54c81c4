"""Who calls a route. Whoever mounts the routes authenticates each request first, and leaves a `Caller` with it."""

from typing import Annotated, Protocol

from fastapi import Depends, Request

from hubbub_protocol.errors import ErrorCode

from .refusal import Refusal

CONTROL = "control"
"""Command agents, and see what was commanded."""
SEE_AGENT = "see_agent"
"""Learn that an agent is there. Target: its inbox."""
REGISTER = "register"
"""Say what an agent is. Target: its name."""
HISTORY = "history"
"""Read what is stored. Target: the topic."""
READ_STATE = "read_state"
"""Read a state. Target: the topic that tells of its changes."""
CHANGE_STATE = "change_state"
"""Change a state. Target: the same."""
PUBLISH = "publish"
"""Publish a message. Target: the topic."""
ADMIN = "admin"
"""Set policies and schemas, and see them."""
METRICS = "metrics"
"""See how the plane is."""


class Caller(Protocol):
    """Whoever made a request, with the one question that every route asks. The operations are those of the broker's
    table (docs/access.md), by name.
    """

    @property
    def sees_all(self) -> bool:
        """Whether nothing is hidden from the caller: lists need not be looked through."""
        ...

    def why_not(self, operation: str, target: str = "") -> str | None:
        """Why the caller may not do that; None if it may."""
        ...

    def may(self, operation: str, target: str = "") -> bool:
        """Whether it may: for lists, which show what may be seen."""
        ...

    def name(self, said: str | None) -> str | None:
        """In whose name the request is made: the token's, or where that is nobody's in particular, whom it says."""
        ...


def require(caller: Caller, operation: str, target: str = "") -> None:
    """Insist that the caller may do that.

    Raises:
        Refusal: `forbidden`.
    """
    why = caller.why_not(operation, target)
    if why is not None:
        raise Refusal(ErrorCode.FORBIDDEN, why)


def may_see(caller: Caller, inbox: str) -> bool:
    """Whether the caller may learn of the agent whose inbox that is: for lists. Nothing is counted."""
    return caller.sees_all or caller.may(SEE_AGENT, inbox)


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


FromCaller = Annotated[Caller, Depends(_caller)]
"""What a route takes to know who calls."""
