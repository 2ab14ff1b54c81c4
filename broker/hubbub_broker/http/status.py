"""How the broker is: alive, ready, and in numbers."""

from fastapi import APIRouter, Request, Response

from hubbub_broker.access import Operation
from hubbub_protocol import PATH, __version__
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err

from .api import Refused, StatusApi
from .caller import FromCaller
from .models import UNAVAILABLE, Status
from .refusal import response_to


def routes(broker: StatusApi) -> APIRouter:
    """The routes, on `broker`."""
    router = APIRouter(tags=["operation"])

    @router.get("/v1/health", summary="Liveness")
    async def health() -> Status:
        """200 as long as the process answers at all: if this fails, restart it."""
        return Status(status="ok", version=__version__)

    @router.get("/v1/ready", summary="Readiness", responses=UNAVAILABLE)
    async def ready() -> Status:
        """200 while all publishes are taken; 503 while the broker stops, or a shard is read-only: send no traffic."""
        err = broker.ready()
        if err is not None:
            raise Refused(err)
        return Status(status="ready", version=__version__)

    @router.get(
        "/metrics",
        summary="Metrics",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {}}, "description": "Prometheus text, or OpenMetrics if asked for."}
        },
    )
    async def metrics(request: Request, caller: FromCaller) -> Response:
        """Every count and state of the broker, for Prometheus."""
        caller.require(Operation.METRICS)
        content, content_type = broker.render_metrics(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": content_type})

    @router.get(PATH, include_in_schema=False)
    async def websocket() -> Response:
        """An HTTP request to the WebSocket's address: say so, rather than that there is nothing."""
        message = f"{PATH} is a WebSocket: connect with one, subprotocol hubbub.v1"
        return response_to(Err(code=ErrorCode.BAD_REQUEST, message=message), 426, {"Upgrade": "websocket"})

    return router
