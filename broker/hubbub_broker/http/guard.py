"""Turns away what `origin` refuses: requests that a browser makes on behalf of another site's page."""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hubbub_broker.origin import why_refused
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err

from .refusal import response_to


class KnownOrigins:
    """ASGI middleware that turns such requests away.

    Args:
        app: what serves the others.
        allowed: origins that may, besides those of this machine.
        authenticates: whether a token is wanted of everybody, so that a page without one can do nothing.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str], authenticates: bool) -> None:
        self._app = app
        self._allowed = allowed
        self._authenticates = authenticates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or refuse with `forbidden`."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            reason = why_refused(
                headers.get("host"), headers.get("origin"), self._allowed, authenticates=self._authenticates
            )
            if reason is not None:
                await response_to(Err(code=ErrorCode.FORBIDDEN, message=reason))(scope, receive, send)
                return
        await self._app(scope, receive, send)
