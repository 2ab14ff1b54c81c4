"""What the floors below a door raise, turned into what the routes answer."""

from collections.abc import Iterator
from contextlib import contextmanager

from hubbub_broker.http import Refused
from hubbub_broker.log import LogError
from hubbub_broker.refusal import Refusal, unreadable
from hubbub_protocol.errors import BadName, ErrorCode


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
        why = unreadable(error)
        raise Refused.because(why.code, why.message, why.retry_after) from None
