"""`If-Match` and `If-None-Match` of a route: one line of its parameters, `conditions: FromConditions`."""

from typing import Annotated

from fastapi import Depends, Header, Response

from hubbub_protocol.entity_tags import IF_MATCH, IF_NONE_MATCH, NOT_MODIFIED, Conditions
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err

from .refusal import response_to


def _conditions(
    if_match: Annotated[str | None, Header(description=IF_MATCH)] = None,
    if_none_match: Annotated[str | None, Header(description=IF_NONE_MATCH)] = None,
) -> Conditions:
    return Conditions.of(if_match, if_none_match)


FromConditions = Annotated[Conditions, Depends(_conditions)]
"""What a route takes to know on what it is to be carried out."""


def unread(status: int, tag: str) -> Response:
    """The answer to whoever asks for what has that tag, when `Conditions.instead` says that it is not what it wants."""
    headers = {"ETag": tag}
    if status == NOT_MODIFIED:
        return Response(status_code=status, headers=headers)
    err = Err(code=ErrorCode.CONFLICT, message=f"it is {tag} now, and not what If-Match says: read it again")
    return response_to(err, status, headers)
