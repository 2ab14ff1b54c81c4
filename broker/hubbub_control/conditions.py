"""On what a request is to be carried out: what its route takes, `conditions: FromConditions`, and how it is refused."""

from typing import Annotated

from fastapi import Depends, Header, Response

from hubbub_protocol.codec import encode
from hubbub_protocol.entity_tags import IF_MATCH, IF_NONE_MATCH, PRECONDITION_FAILED, Conditions, tag_of
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err


def _conditions(
    if_match: Annotated[str | None, Header(description=IF_MATCH)] = None,
    if_none_match: Annotated[str | None, Header(description=IF_NONE_MATCH)] = None,
) -> Conditions:
    return Conditions.of(if_match, if_none_match)


FromConditions = Annotated[Conditions, Depends(_conditions)]


def other_version(current: int, expected: int | None = None) -> Response:
    """412: it is at another version than the request says."""
    not_that = "not what If-Match says" if expected is None else f"not {expected}"
    message = f"it has version {current}, {not_that}: read it again"
    err = Err(code=ErrorCode.CONFLICT, message=message, expected=expected, current=current)
    return Response(encode(err), PRECONDITION_FAILED, {"ETag": tag_of(current)}, "application/json")
