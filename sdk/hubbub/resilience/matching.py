"""Which errors are meant: by their types, or by a predicate."""

import logging
from collections.abc import Callable

logger = logging.getLogger("hubbub")

ErrorFilter = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""Exception types, or a function that looks at the error itself (at its status code, say)."""


def matches(wanted: ErrorFilter, error: BaseException) -> bool:
    """Whether `error` is one of those.

    A predicate that raises counts as a yes, and is logged: it runs while another error is on its way to the caller and
    must not take its place.
    """
    if isinstance(wanted, (type, tuple)):
        return isinstance(error, wanted)
    try:
        return bool(wanted(error))
    except Exception:
        logger.exception("! a predicate on errors failed at %r", error)
        return True
