"""What the floors below a door raise, turned into what the routes answer."""

from collections.abc import Iterator
from contextlib import contextmanager

from hubbub_broker.http import Refused
from hubbub_broker.log import LogError
from hubbub_broker.refusal import Refusal
from hubbub_protocol.errors import BadName, ErrorCode

UNREADABLE_RETRY = 1.0
"""Seconds after which what failed to be read may be asked for again."""


@contextmanager
def answering() -> Iterator[None]:
    """Let a route answer what is raised inside.

    Raises:
        Refused: for a refusal, a name that can't be, and a log that can't be read.
    """
    try:
        yield
    except Refusal as refusal:
        raise Refused.because(refusal.code, refusal.message, refusal.retry_after) from None
    except BadName as error:
        raise Refused.because(ErrorCode.BAD_REQUEST, str(error)) from None
    except LogError as error:
        why = f"the log could not be read: {error}"
        raise Refused.because(ErrorCode.INTERNAL, why, UNREADABLE_RETRY) from None
