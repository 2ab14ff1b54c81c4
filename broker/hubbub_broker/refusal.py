"""A request that is answered `err`: raised anywhere below a request's handler, turned into a line in one place."""

from hubbub_protocol.errors import ErrorCode


class Refusal(Exception):
    """The request is not carried out, and the connection lives on.

    Args:
        code: what the client's program looks at.
        message: what its author reads; names the limit and what to do.
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(self, code: ErrorCode, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
