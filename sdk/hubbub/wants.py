"""What a reader wants of a topic: `where` and `select`, as applications give them."""

from collections.abc import Mapping, Sequence
from typing import Any

from hubbub_protocol.errors import BadFrame
from hubbub_protocol.filters import Filter, FilterLimits, filter_of

Where = Mapping[str, Any]
"""Which messages: `{"type": "result", "data.score": {">=": 0.5}}`. See docs/context.md."""

Select = str | Sequence[str]
"""What of them: `["data.title", "headers.trace"]`, or one such path."""

_THE_BROKERS = FilterLimits(bytes=1 << 30, depth=100, tests=1 << 20)
"""How large a filter may be is the broker's to say."""


def wanted(where: Where | None, select: Select | None) -> Filter | None:
    """What is asked of the broker; None: everything.

    Raises:
        ValueError: saying what is wrong with it.
    """
    paths = None if select is None else [select] if isinstance(select, str) else list(select)
    try:
        return filter_of(None if where is None else dict(where), paths, _THE_BROKERS)
    except (BadFrame, TypeError) as error:
        raise ValueError(str(error)) from None
