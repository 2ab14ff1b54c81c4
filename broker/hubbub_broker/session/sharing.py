"""What a session asks of shared states: read, change, renew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hubbub_broker.access import Operation
from hubbub_broker.refusal import Refusal
from hubbub_broker.state import permit_change
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Change, Pub, Renew, State
from hubbub_protocol.names import group_of, state_of

if TYPE_CHECKING:
    from .session import Session
    from .sessions import Sessions


def share(session: Session, sessions: Sessions, agent: str, request: State | Change | Renew) -> None:
    """Carry it out. It counts as a publish of the connection until it is answered.

    Raises:
        Refusal, ProtocolError, LogError: why not.
    """
    if sessions.states_of is None:
        raise Refusal(ErrorCode.NOT_FOUND, "this broker keeps no states")
    session.require_room()
    if isinstance(request, Change):

        def admit(pub: Pub) -> None:
            sessions.admit(agent, pub)

        permit_change(request, session.require, admit)
    else:
        renews = isinstance(request, Renew)
        session.require(Operation.CHANGE_STATE if renews else Operation.READ_STATE, state_of(request.topic))
    states = sessions.states_of(group_of(request.topic))
    session.in_flight += 1
    try:
        if isinstance(request, Change):
            states.change(agent, request, sessions.answer_change(request, session))
        elif isinstance(request, Renew):
            states.renew(request, session)
        else:
            states.read(request, session)
    except BaseException:
        session.in_flight -= 1
        raise
