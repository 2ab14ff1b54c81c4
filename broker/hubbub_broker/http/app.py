"""All HTTP routes as one ASGI application."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hubbub_broker.metrics import Metrics
from hubbub_protocol import __version__

from . import (
    blobs,
    budget,
    catalogue,
    consumers,
    dead_letters,
    history,
    publish,
    reference,
    refusal,
    status,
    stream,
    top,
)
from . import bus as mail
from .api import BrokerApi, StatusApi
from .bus_api import BusApi
from .caller import Authenticated
from .guard import KnownOrigins
from .models import Refusal
from .operator_api import OperatorApi

_DESCRIPTION = """The HTTP side of the broker: publishing and reading without a socket, what there is, and how it is.

Times are seconds since the Unix epoch, durations seconds, sizes bytes. Every refusal is the protocol's `err`: an object
with `op`, `code` and `message`; where a retry can help, `retry_after` and the header `Retry-After` say when. Live
delivery is on the WebSocket at `/v1/ws`.

Where authentication is on, every request but those for health, readiness and this page shows a token:
`Authorization: Bearer TOKEN`, `X-Bus-Token: TOKEN` or `?access_token=TOKEN`. Without a good one the answer is 401;
where the token does not allow what is asked for, 403.
"""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CROSS_ORIGIN: dict[str, Any] = {
    "allow_methods": ("GET", "POST", "PUT", "DELETE"),
    "allow_headers": (
        "Authorization",
        "Content-Type",
        "If-Match",
        "If-None-Match",
        "Idempotency-Key",
        "X-Bus-Token",
        "X-Hubbub-Agent",
    ),
    "expose_headers": ("ETag", "Retry-After"),
    "max_age": 600,
}
"""What pages of `allowed_origins` may do. There are no cookies, so none are allowed."""

UNKNOWN = "(other)"
"""Stands in metrics for routes and methods that there are none of, so that nobody can make labels up."""


class _Application(FastAPI):
    """FastAPI whose description has no 422: what it would answer so is answered 400, as an `err` (see `refusal`)."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI description. Made once."""
        if self.openapi_schema is None:
            described = super().openapi()
            for item in described["paths"].values():
                for operation in item.values():
                    operation["responses"].pop("422", None)
            schemas = described["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            schemas[Refusal.__name__] = Refusal.model_json_schema(mode="serialization")  # see `models`: by name
            self.openapi_schema = described
        return self.openapi_schema


def create_app(
    broker: BrokerApi,
    bus: BusApi | None = None,
    operators: OperatorApi | None = None,
    more: Sequence[APIRouter] = (),
) -> FastAPI:
    """The HTTP API of `broker`, with its reference at /docs and /openapi.json, and with the routes of `more`."""
    app = _bare()
    for part in (publish, history, blobs, budget, catalogue, status):
        app.include_router(part.routes(broker))
    if bus is not None:
        for part in (mail, stream):
            app.include_router(part.routes(bus))
    if operators is not None:
        for part in (consumers, dead_letters, top):
            app.include_router(part.routes(operators))
    return _completed(app, broker, more)


def create_side_app(api: StatusApi, more: Sequence[APIRouter]) -> FastAPI:
    """An HTTP API without a broker behind it: the routes of `more`, with health, readiness, metrics, and the reference.

    Who may do what is decided as at a broker.
    """
    app = _bare()
    app.include_router(status.routes(api))
    return _completed(app, api, more)


def _bare() -> FastAPI:
    app = _Application(
        title="Hubbub",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    refusal.install(app)
    return app


def _completed(app: FastAPI, api: StatusApi, more: Sequence[APIRouter]) -> FastAPI:
    """`app` with what every door has: further routes, the reference, and what stands before each request."""
    for router in more:
        app.include_router(router)
    _add_reference(app)
    settings = api.settings
    app.add_middleware(Authenticated, access=api.access)
    if settings.authenticates or not settings.insecure:
        app.add_middleware(KnownOrigins, allowed=settings.allowed_origins, authenticates=settings.authenticates)
    if settings.allowed_origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.allowed_origins, **_CROSS_ORIGIN)
    app.add_middleware(Counting, metrics=api.metrics)
    return app


def _add_reference(app: FastAPI) -> None:
    page = ""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        nonlocal page
        page = page or reference.render(app.openapi(), "/openapi.json")
        return HTMLResponse(page, headers=reference.HEADERS)

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/docs")


class Counting:
    """ASGI middleware that counts requests by method, route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, and count when the answer begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                method = scope["method"] if scope["method"] in _METHODS else UNKNOWN
                route = getattr(scope.get("route"), "path", UNKNOWN)
                self._metrics.count_http(method, route, message["status"])
            await send(message)

        await self._app(scope, receive, counted)
