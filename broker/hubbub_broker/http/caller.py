"""Who calls, and what may they: every request is authenticated before its route is looked for, so that no route can
forget to. A route says which operation it is with one line: `caller.require(Operation.HISTORY, topic)`.
"""

from typing import Annotated
from urllib.parse import unquote_plus

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from hubbub_broker.access import Access, Denied, Identity, Operation, credential_of
from hubbub_broker.access.access import TOKEN_PARAMETER
from hubbub_protocol import PATH
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err

from .api import Refused
from .refusal import response_to

OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/v1/health", "/v1/ready", "/.well-known/agent-card.json", PATH})
"""What anybody may ask: whether the broker lives, and what its API looks like. They tell nothing of what is in it."""


class Caller:
    """Whoever made a request, with the one question that every route asks."""

    def __init__(self, identity: Identity, access: Access) -> None:
        self.identity = identity
        self._access = access

    def require(self, operation: Operation, target: str = "") -> None:
        """Insist that the caller may do that.

        Raises:
            Refused: `forbidden`.
        """
        why = self.why_not(operation, target)
        if why is not None:
            raise Refused.because(ErrorCode.FORBIDDEN, why)

    def why_not(self, operation: Operation, target: str = "") -> str | None:
        """Why the caller may not do that, None if it may. For what is refused in part."""
        return self._access.why_not(self.identity, operation, target)

    def may(self, operation: Operation, target: str = "") -> bool:
        """Whether the caller may do that: for lists, which show what may be seen."""
        return self._access.may(self.identity, operation, target)

    @property
    def sees_all(self) -> bool:
        """Whether nothing is hidden from the caller: lists need not be looked through."""
        return self.identity.trusted or self.identity.admin

    @property
    def ended(self) -> bool:
        """Whether the token has ended meanwhile, or its key is not in force any more: for answers that go on."""
        return self._access.ends_in(self.identity) == 0 or not self._access.in_force(self.identity)

    def group(self, said: str | None) -> str | None:
        """In which group something of the caller's is to be: one of the token's, the first of them if it says none.

        Raises:
            Refused: `forbidden`, if it is none of these.
        """
        if self.sees_all:
            return said
        groups = self.identity.groups
        if said is not None and said not in groups:
            raise Refused.because(ErrorCode.FORBIDDEN, f"your token is not for the group {said}")
        return said or next(iter(groups), None)

    def name(self, said: str | None) -> str | None:
        """In whose name the request is made: the token's, or where that is nobody's in particular, whom it says.

        Raises:
            Refused: `forbidden`, if it says another name than the token's.
        """
        if said is not None:
            self.require(Operation.SPEAK_AS, said)
        return said or self.identity.name


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


def introduce(scope: Scope, access: Access, query: str, *, counted: bool = True) -> None:
    """Find out who makes a request, and leave it with that.

    Raises:
        Denied: nobody that is known.
    """
    headers = Headers(scope=scope)
    credential = credential_of(headers.getlist("authorization"), headers.getlist("x-bus-token"), query)
    identity = access.identify(credential, counted=counted)
    scope.setdefault("state", {})["caller"] = Caller(identity, access)


FromCaller = Annotated[Caller, Depends(_caller)]
"""What a route takes to know who calls: `async def history(caller: FromCaller, …)`."""


class Authenticated:
    """ASGI middleware that finds out who calls, and turns away whom nobody knows (401)."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or refuse with `unauthorized`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        if TOKEN_PARAMETER in query:  # a redirect would tell the address again
            kept = [part for part in query.split("&") if unquote_plus(part.partition("=")[0]) != TOKEN_PARAMETER]
            scope["query_string"] = "&".join(kept).encode("latin-1")
        if scope["path"] not in OPEN_PATHS:
            try:
                introduce(scope, self._access, query)
            except Denied as denied:
                err = Err(code=ErrorCode.UNAUTHORIZED, message=str(denied))
                await response_to(err, headers={"WWW-Authenticate": "Bearer"})(scope, receive, send)
                return
        await self._app(scope, receive, send)
