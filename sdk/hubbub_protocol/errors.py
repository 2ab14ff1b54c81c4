"""What can go wrong on the wire: the registry of error and close codes, and the exceptions of this floor.

    ProtocolError                 the peer sent what the contract does not allow
    ├── BadFrame                  not JSON, not an object, a field missing or of the wrong type
    └── BadName                   a topic, pattern, group or agent name outside the grammar

Codes carry policy. An error code says whether a later retry of the same request can succeed; a close code's *range*
says whether the client should come back (4000 to 4499 yes, 4500 to 4999 no), so that old clients obey new codes.
"""

from enum import IntEnum, StrEnum


class ProtocolError(Exception):
    """The peer sent what the contract does not allow. The message says what, and is safe to send back to it."""


class BadFrame(ProtocolError):
    """A line or a binary frame that is not a valid frame."""


class BadName(ProtocolError):
    """A name outside the grammar of `names`."""


class ErrorCode(StrEnum):
    """The `code` of an `err`."""

    BAD_REQUEST = "bad_request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    ORDER = "order"
    WRONG_SHARD = "wrong_shard"
    CONFLICT = "conflict"
    LOOP = "loop"
    BUDGET = "budget"
    NOT_FOUND = "not_found"
    READ_ONLY = "read_only"
    SHUTTING_DOWN = "shutting_down"
    INTERNAL = "internal"

    @property
    def retryable(self) -> bool:
        """Whether sending the same request again, later or elsewhere, can succeed."""
        return self in _RETRYABLE

    @property
    def http_status(self) -> int:
        """The status that the HTTP API answers for this code."""
        return _HTTP_STATUS[self]


_RETRYABLE = frozenset(
    {
        ErrorCode.RATE_LIMITED,
        ErrorCode.OVERLOADED,
        ErrorCode.ORDER,  # once what it would overtake has been accepted
        ErrorCode.WRONG_SHARD,  # at the url that the error names
        ErrorCode.READ_ONLY,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.INTERNAL,
    }
)

_HTTP_STATUS = {
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.CONFLICT: 409,
    ErrorCode.LOOP: 409,  # as things stand in the conversation, this message is one too many: not in itself wrong
    ErrorCode.BUDGET: 409,  # the same; an operator can change how things stand
    ErrorCode.ORDER: 409,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.WRONG_SHARD: 421,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.INTERNAL: 500,
    ErrorCode.OVERLOADED: 503,
    ErrorCode.READ_ONLY: 503,
    ErrorCode.SHUTTING_DOWN: 503,
}


class CloseCode(IntEnum):
    """Why a WebSocket was closed. 1000 to 1013 are RFC 6455's, the rest Hubbub's."""

    NORMAL = 1000
    GOING_AWAY = 1001
    FRAME_TOO_BIG = 1009
    TRY_AGAIN_LATER = 1013
    SHUTDOWN = 4001
    TOKEN_EXPIRED = 4005
    TOO_SLOW = 4008
    NO_HEARTBEAT = 4012
    TOO_MANY_REQUESTS = 4013
    UNAUTHORIZED = 4500
    NOT_THIS_PROTOCOL = 4501
    DISCONNECTED_BY_OPERATOR = 4503
    CONNECTION_LIMIT = 4504
    FORBIDDEN = 4507
    REPLACED = 4509


def should_reconnect(close_code: int) -> bool:
    """Whether a client whose socket was closed with `close_code` should come back. Unknown codes go by their range."""
    return not 4500 <= close_code <= 4999
