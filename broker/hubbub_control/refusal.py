"""How the routes of the control plane refuse: the wire's `err` as JSON, as every other route of the broker does."""

import contextlib
import math
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from hubbub.errors import HubbubError, Rejected
from hubbub_protocol.codec import encode
from hubbub_protocol.errors import BadFrame, BadName, ErrorCode
from hubbub_protocol.frames import Err

RETRY_SECONDS = 1.0
"""When to ask again what the broker could not be asked just now."""


class Refusal(Exception):
    """What was asked is not done. The code decides the status."""

    def __init__(self, code: ErrorCode, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class ControlRoute(APIRoute):
    """A route whose refusals, and those of the SDK under it, are answered as an `err`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with that around it."""
        handle = super().get_route_handler()

        async def handle_or_refuse(request: Request) -> Response:
            try:
                return await handle(request)
            except Refusal as refusal:
                return _answer(refusal)
            except (BadFrame, BadName) as error:
                return _answer(Refusal(ErrorCode.BAD_REQUEST, str(error)))
            except HubbubError as error:
                return _answer(_of_sdk(error))

        return handle_or_refuse


def _of_sdk(error: HubbubError) -> Refusal:
    code = ErrorCode.OVERLOADED
    if isinstance(error, Rejected):
        with contextlib.suppress(ValueError):
            code = ErrorCode(error.code)
    return Refusal(code, str(error), RETRY_SECONDS if code.retryable else None)


def _answer(refusal: Refusal) -> Response:
    err = Err(code=refusal.code, message=str(refusal), retry_after=refusal.retry_after)
    headers = {} if err.retry_after is None else {"Retry-After": str(max(1, math.ceil(err.retry_after)))}
    return Response(encode(err), refusal.code.http_status, headers, "application/json")
