"""How every refusal looks over HTTP: the wire's `err` as JSON, the status that belongs to its code, `Retry-After`."""

import math
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from hubbub_broker.logs import get_logger
from hubbub_broker.refusal import Elsewhere
from hubbub_protocol.codec import encode
from hubbub_protocol.errors import BadFrame, BadName, ErrorCode
from hubbub_protocol.frames import Err

from .api import Refused

ELSEWHERE_HEADER = b"x-hubbub-worker"
"""Goes with the answer to what belongs to another worker: its number."""

_log = get_logger("hubbub.http")

_CODES = {401: ErrorCode.UNAUTHORIZED, 403: ErrorCode.FORBIDDEN, 404: ErrorCode.NOT_FOUND, 413: ErrorCode.TOO_LARGE}


def response_to(err: Err, status: int | None = None, headers: dict[str, str] | None = None) -> Response:
    """The answer to a request that is refused with `err`."""
    headers = dict(headers or {})
    if err.retry_after is not None:
        headers["Retry-After"] = retry_after(err.retry_after)
    if status is None:
        status = ErrorCode(err.code).http_status
    return Response(encode(err), status, headers, "application/json")


def retry_after(seconds: float) -> str:
    """The header's value: whole seconds, never fewer than asked for."""
    return str(max(1, math.ceil(seconds)))


def install(app: FastAPI) -> None:
    """Make every refusal of `app` look alike, those of the framework and bugs included."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(Elsewhere, _elsewhere)
    app.add_exception_handler(BadFrame, _bad_request)
    app.add_exception_handler(BadName, _bad_request)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(Exception, _bug)


def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return response_to(error.err)


def _elsewhere(_request: Request, error: Exception) -> Response:
    """Another worker's: whoever serves for several takes this for itself, and no client ever sees it."""
    assert isinstance(error, Elsewhere)
    worker = "" if error.worker is None else str(error.worker)
    err = Err(code=ErrorCode.WRONG_SHARD, message=error.message)
    return response_to(err, headers={ELSEWHERE_HEADER.decode(): worker})


def _bad_request(_request: Request, error: Exception) -> Response:
    return response_to(Err(code=ErrorCode.BAD_REQUEST, message=str(error)))


def _bad_parameters(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    details: list[dict[str, Any]] = list(error.errors())
    message = "; ".join(f"{'.'.join(map(str, detail['loc'][1:]))}: {detail['msg']}" for detail in details)
    return response_to(Err(code=ErrorCode.BAD_REQUEST, message=message))


def _framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404:
        message = f"there is nothing at {request.url.path}; /docs lists what there is"
    if error.status_code == 405:
        message = f"{request.method} is not for {request.url.path}; /docs lists what there is"
    code = _CODES.get(error.status_code, ErrorCode.BAD_REQUEST)
    return response_to(Err(code=code, message=message), error.status_code, dict(error.headers or {}))


def _bug(request: Request, error: Exception) -> Response:
    _log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
    message = "the broker made a mistake; its log has the particulars"
    return response_to(Err(code=ErrorCode.INTERNAL, message=message, retry_after=1.0))
