"""Retry or give up: the verdict on every way in which a connection or a request can end. Pure functions."""

from hubbub_protocol.errors import CloseCode, ErrorCode, should_reconnect
from hubbub_protocol.frames import Err

from .errors import (
    BadRequest,
    BudgetExceeded,
    Conflict,
    ConnectionLimit,
    Disconnected,
    Forbidden,
    LoopDetected,
    NotAllowed,
    NotFound,
    Refused,
    Rejected,
    Replaced,
    TooLarge,
    Unauthorized,
    WrongProtocol,
)

_REFUSALS: dict[int, tuple[type[Refused], str]] = {
    CloseCode.UNAUTHORIZED: (Unauthorized, "the broker does not know this token"),
    CloseCode.NOT_THIS_PROTOCOL: (WrongProtocol, "the broker does not speak this protocol"),
    CloseCode.DISCONNECTED_BY_OPERATOR: (Disconnected, "an operator disconnected this agent"),
    CloseCode.CONNECTION_LIMIT: (ConnectionLimit, "this agent has too many connections"),
    CloseCode.FORBIDDEN: (NotAllowed, "this agent may not connect"),
    CloseCode.REPLACED: (Replaced, "a newer connection of the same session took over"),
}

_REJECTIONS: dict[str, type[Rejected]] = {
    ErrorCode.BAD_REQUEST: BadRequest,
    ErrorCode.UNAUTHORIZED: Forbidden,
    ErrorCode.FORBIDDEN: Forbidden,
    ErrorCode.TOO_LARGE: TooLarge,
    ErrorCode.CONFLICT: Conflict,
    ErrorCode.LOOP: LoopDetected,
    ErrorCode.BUDGET: BudgetExceeded,
    ErrorCode.NOT_FOUND: NotFound,
}

_RETRYABLE = frozenset(code.value for code in ErrorCode if code.retryable)

_HELLO_REFUSALS: dict[str, int] = {
    ErrorCode.UNAUTHORIZED: CloseCode.UNAUTHORIZED,
    ErrorCode.FORBIDDEN: CloseCode.FORBIDDEN,
    ErrorCode.BAD_REQUEST: CloseCode.NOT_THIS_PROTOCOL,
}

_HTTP_REFUSALS: dict[int, int] = {
    401: CloseCode.UNAUTHORIZED,
    403: CloseCode.FORBIDDEN,
}


def refusal_of_close(code: int, reason: str = "") -> Refused | None:
    """The refusal that a close code stands for, or None when the client should come back."""
    if should_reconnect(code):
        return None
    kind, text = _REFUSALS.get(code, (Refused, "the broker told this agent to stay away"))
    return kind(f"{text}{f': {reason}' if reason else ''} (close code {code})", code)


def refusal_of_hello(error: Err) -> Refused | None:
    """The refusal that an `err` to a `hello` stands for, or None when a later attempt may succeed."""
    code = _HELLO_REFUSALS.get(error.code)
    return None if code is None else refusal_of_close(code, error.message)


def refusal_of_status(status: int | None) -> Refused | None:
    """The refusal that an HTTP status in the handshake stands for, or None when a later attempt may succeed.

    Only the answers about identity are final: 404 or 502 is what a proxy says while the broker restarts.
    """
    code = _HTTP_REFUSALS.get(status) if status is not None else None
    return None if code is None else refusal_of_close(code, f"HTTP status {status}")


def is_retryable(code: str) -> bool:
    """Whether the same request may succeed later. A code that this version does not know may not."""
    return code in _RETRYABLE


def rejection_of(error: Err) -> Rejected:
    """The exception for a request that was refused for good."""
    kind = _REJECTIONS.get(error.code, Rejected)
    hint = f"; {TooLarge.HINT}" if kind is TooLarge else ""
    return kind(f"{error.message} ({error.code}){hint}", error.code)
