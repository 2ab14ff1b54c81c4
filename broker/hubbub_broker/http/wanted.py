"""`where` and `select` of a request: what of a topic its caller wants."""

from typing import Annotated

from fastapi import Query

from hubbub_broker.config import Settings
from hubbub_protocol.codec import decode_value
from hubbub_protocol.errors import BadFrame
from hubbub_protocol.filters import Filter, FilterLimits, filter_of

FromWhere = Annotated[
    str | None,
    Query(
        description="Only messages of which this holds, as JSON: `where` of a `sub`.",
        examples=['{"type":"result","data.score":{">=":0.5}}'],
    ),
]
FromSelect = Annotated[
    list[str] | None,
    Query(description="Only these parts of `data` and `headers`: `select` of a `sub`. May be repeated."),
]


def filter_asked(where: str | None, select: list[str] | None, settings: Settings) -> Filter | None:
    """The filter of a request; None: everything.

    Raises:
        BadFrame: saying what is wrong with it, or which limit it exceeds.
    """
    if where is None and select is None:
        return None
    try:
        wanted = None if where is None else decode_value(where.encode())
    except BadFrame as error:
        raise BadFrame(f"`where` is not JSON: {error}") from None
    if wanted is not None and not isinstance(wanted, dict):
        raise BadFrame("`where` is a JSON object")
    limits = FilterLimits(settings.max_filter_bytes, settings.max_filter_depth, settings.max_filter_tests)
    return filter_of(wanted, select, limits)
