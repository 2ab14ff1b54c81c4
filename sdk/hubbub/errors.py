"""Everything that this package raises on purpose.

    HubbubError
    ├── Closed                      the agent was closed: nothing more can be asked of it
    ├── Refused                     the broker will not have this agent, and trying again by itself would not help
    │   ├── Unauthorized            no token, or not a good one (4500)
    │   ├── NotAllowed              a good token that does not give access (4507)
    │   ├── WrongProtocol           what answers there does not speak hubbub.v1 (4501)
    │   ├── Disconnected            an operator ended the connection (4503)
    │   ├── ConnectionLimit         too many connections of this identity (4504)
    │   └── Replaced                another connection of the same session took over (4509)
    ├── Rejected                    the broker refused one request, and sending it again can't cure it
    │   ├── BadRequest              ├── Forbidden       ├── TooLarge
    │   ├── Conflict                ├── NotFound
    │   ├── LoopDetected            │   └── NoResponder     a request that nobody would have heard
    │   └── BudgetExceeded
    ├── StateConflictError          a shared state has another version than was expected: nothing was changed
    ├── LeaseLost                   a message of a consumer, or a lease, may be another's by now
    ├── AlreadyDone                 a message whose effect is recorded already
    ├── Retry                       raised by a handler: let the message come again later
    ├── Reject                      raised by a handler: to the dead letters with it
    ├── BufferFull                  no room in the outbox, and the agent was told not to wait
    ├── Expired                     the message's time-to-live ended before it was confirmed
    ├── Undelivered                 close() could not deliver everything in the time it had
    ├── RequestTimeout              nobody answered a request in time (also a TimeoutError)
    ├── InvalidName                 a topic, pattern or agent name outside the grammar (also a ValueError)
    ├── Unencodable                 data that JSON can't hold (also a TypeError)
    ├── MessageDecodeError          a received message whose data can't be read (also a ValueError)
    ├── NoVectorClock               two messages can't be compared: one carries no vector clock (also a ValueError)
    ├── BlobGone                    a large body that is not there, or not whole any more
    ├── BlobCorrupt                 a large body whose content is not what its name says
    ├── SeenError                   the store of messages that were done can't be opened, read or written
    └── SpoolError                  the spool file can't be opened, read or written

`Rejected` is definite: the message was not stored. `Expired` and `Undelivered` are indefinite where the message had
been sent: its answer never came, so it may have been stored.
"""

import copy

from hubbub_protocol.frames import NACK_DELAY_MAX


class HubbubError(Exception):
    """The root of all errors of this package."""


class Closed(HubbubError):
    """The agent was closed."""


class Refused(HubbubError):
    """The broker will not have this agent. Every pending and every later call raises it; make a new agent to retry.

    `code` is the close code (4500 to 4999).
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Unauthorized(Refused):
    """No token was given, or it is not a good one."""


class NotAllowed(Refused):
    """The token is good, and does not give access."""


class WrongProtocol(Refused):
    """What answers at the url does not speak this protocol."""


class Disconnected(Refused):
    """An operator ended the connection."""


class ConnectionLimit(Refused):
    """Too many connections of this identity."""


class Replaced(Refused):
    """Another connection of the same session took over."""


class Rejected(HubbubError):
    """The broker refused one request, and sending it again can't cure it. `code` is the protocol's error code."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class BadRequest(Rejected):
    """A field is wrong. The message says which."""


class Forbidden(Rejected):
    """This agent may not do that."""


class TooLarge(Rejected):
    """The message is larger than the broker, or the agent's own buffer, takes. What is large goes beside it: see
    `Topic.attach`.
    """

    HINT = "put what is large beside the message: `attach` it, and publish with `attachments`"


class Conflict(Rejected):
    """The request contradicts what the broker holds already."""


class NotFound(Rejected):
    """What the request names does not exist."""


class NoResponder(NotFound):
    """Nobody who could answer the request is there."""


class LoopDetected(Rejected):
    """The message is one too many in a chain of messages that cause one another. Don't publish it again."""


class BudgetExceeded(Rejected):
    """The conversation has used what it may use, in messages, bytes or cost."""


class StateConflictError(HubbubError):
    """Somebody else has changed what was to be changed. `expected` and `current` are versions; 0 is "not there".

    `key` is the one of that version, None the whole state. Nothing was changed.
    """

    def __init__(self, expected: int, current: int, key: str | None = None) -> None:
        what = "" if key is None else f"{key}: "
        super().__init__(f"{what}expected version {expected}, found {current}: read it again and decide anew")
        self.expected = expected
        self.current = current
        self.key = key


class LeaseLost(HubbubError):
    """A message is not this agent's to settle any more, or a lease not its own: another may be at work on it. The
    message says why.
    """


class AlreadyDone(HubbubError):
    """The effect of a message is recorded already: see `SqliteSeen.transaction`. A handler lets it pass."""


def check_delay(seconds: float | None) -> None:
    """Whether a message may be put off by so much; None is the consumer's backoff.

    Raises:
        ValueError: it may not.
    """
    if seconds is not None and not 0 <= seconds <= NACK_DELAY_MAX:
        raise ValueError(f"a message is put off by 0 to {NACK_DELAY_MAX:.0f} seconds, not by {seconds}")


class Retry(HubbubError):
    """Raised by a consumer's handler: let the message come again, after `after` seconds.

    Default: the consumer's backoff.
    """

    def __init__(self, reason: str | None = None, *, after: float | None = None) -> None:
        """The broker would not take another delay, and the message would wait for its `ack_wait` instead.

        Raises:
            ValueError: `after` is not 0 to 30 days.
        """
        check_delay(after)
        super().__init__(reason or "")
        self.reason = reason
        self.after = after


class Reject(HubbubError):
    """Raised by a consumer's handler: the message will never succeed, to the dead letters with it."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason or "")
        self.reason = reason


class BufferFull(HubbubError):
    """The outbox is full, and the agent was made with `on_full="raise"` (or had nothing to drop)."""


class Expired(HubbubError):
    """The message's time-to-live ended before the broker confirmed it; it is not sent any more."""


class Undelivered(HubbubError):
    """close() gave up on `count` accepted messages that had no receipt when its time was over."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count} accepted message(s) had no receipt when the agent was closed; "
            "give close() a longer drain, or the agent a spool, to keep them"
        )
        self.count = count


class RequestTimeout(HubbubError, TimeoutError):
    """Nobody answered a request in time."""


class InvalidName(HubbubError, ValueError):
    """A name outside the grammar."""


class Unencodable(HubbubError, TypeError):
    """Data that JSON can't hold."""


class MessageDecodeError(HubbubError, ValueError):
    """A received message whose data or headers can't be read. Only whoever reads them is told."""


class NoVectorClock(HubbubError, ValueError):
    """A comparison of messages needs vector clocks, and one carries none."""


class BlobGone(HubbubError):
    """What was referred to is not there, or not whole: retention took it, or it was never stored."""


class BlobCorrupt(HubbubError):
    """What is stored is not what it is named after, its hash says. Nobody gets it for the real thing."""


class SeenError(HubbubError):
    """The store of messages that were done can't be used. The message names it and says why."""


class SpoolError(HubbubError):
    """The spool file can't be used. The message names it and says why."""


def fresh(error: BaseException) -> BaseException:
    """A copy to raise: an exception that is raised again and again would collect a traceback each time."""
    return copy.copy(error).with_traceback(None)
