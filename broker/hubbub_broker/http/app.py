"""All HTTP routes as one ASGI application."""

from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hubbub_broker.metrics import Metrics
from hubbub_protocol import __version__

from . import budget, catalogue, history, publish, reference, refusal, status
from .api import BrokerApi
from .guard import LocalOnly

_DESCRIPTION = """The HTTP side of the broker: publishing and reading without a socket, what there is, and how it is.

Times are seconds since the Unix epoch, durations seconds, sizes bytes. Every refusal is the protocol's `err`: an object
with `op`, `code` and `message`; where a retry can help, `retry_after` and the header `Retry-After` say when. Live
delivery is on the WebSocket at `/v1/ws`.
"""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
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
            self.openapi_schema = described
        return self.openapi_schema


def create_app(broker: BrokerApi) -> FastAPI:
    """The HTTP API of `broker`, with its reference at /docs and /openapi.json."""
    app = _Application(
        title="Hubbub",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    refusal.install(app)
    for part in (publish, history, budget, catalogue, status):
        app.include_router(part.routes(broker))
    _add_reference(app)
    if not broker.settings.insecure:
        app.add_middleware(LocalOnly)
    app.add_middleware(Counting, metrics=broker.metrics)
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
