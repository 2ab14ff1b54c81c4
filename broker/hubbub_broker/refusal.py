"""A request that is answered `err`: raised anywhere below a request's handler, turned into a line in one place."""

from hubbub_protocol.errors import ErrorCode


class Refusal(Exception):
    """The request is not carried out, and the connection lives on.

    Args:
        code: what the client's program looks at.
        message: what its author reads; names the limit and what to do.
        retry_after: seconds after which the same request may succeed.
        limit: the setting that refused it, if one did: what operators count it under.
    """

    def __init__(
        self, code: ErrorCode, message: str, retry_after: float | None = None, *, limit: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.limit = limit

    @property
    def reason(self) -> str:
        """What it is counted under: the limit's name, or the code where no limit is the reason."""
        return self.limit or self.code


UNREADABLE_RETRY = 1.0
"""Seconds after which what failed to be read may be asked for again."""


def unreadable(error: Exception) -> Refusal:
    """Why a request is not carried out that needed what the log could not read."""
    return Refusal(ErrorCode.INTERNAL, f"the log could not be read: {error}", UNREADABLE_RETRY)


class Elsewhere(Exception):
    """What was asked for is another worker's. Each door says so in its own way: no `Refusal`, which is a last word.

    Args:
        worker: whose it is; None if it takes all of them.
        message: what the author of a client reads that can't go there by itself.
    """

    def __init__(self, worker: int | None, message: str) -> None:
        super().__init__(message)
        self.worker = worker
        self.message = message
