"""A request's body, bounded in size and in the time that it may take to arrive."""

import asyncio
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from hubbub_protocol.errors import ErrorCode

from .api import Refused


async def read_body(request: Request, max_bytes: int, timeout: float) -> bytes:
    """The whole body.

    Raises:
        Refused: if it is larger than `max_bytes` (setting `max_frame`), takes longer than `timeout` seconds, or ends
            with its connection (then nobody hears of it).
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise _too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout):
            async for part in request.stream():
                size += len(part)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                parts.append(part)
    except TimeoutError:
        message = f"the body did not arrive within {timeout:g} s (hello_timeout)"
        raise Refused.because(ErrorCode.BAD_REQUEST, message) from None
    except ClientDisconnect:
        raise Refused.because(ErrorCode.BAD_REQUEST, "the connection ended within the body") from None
    return b"".join(parts)


M = TypeVar("M", bound=BaseModel)

JSON_TYPE = "application/json"


async def read_model(request: Request, model: type[M], max_bytes: int, timeout: float) -> M:
    """The body as JSON of that form.

    Raises:
        Refused: as `read_body`; or the body is not of that form, and the message names the field.
    """
    check_json(request)
    body = await read_body(request, max_bytes, timeout)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        message = "; ".join(
            f"{'.'.join(map(str, detail['loc'])) or 'the body'}: {detail['msg']}" for detail in details[:10]
        )
        raise Refused.because(ErrorCode.BAD_REQUEST, message) from None


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """The description of such a body."""
    return {"required": True, "content": {JSON_TYPE: {"schema": model.model_json_schema()}}}


def check_json(request: Request) -> None:
    """Insist on JSON by name: it is what keeps a browser from posting here on behalf of another site's form.

    Raises:
        Refused: it is something else.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != JSON_TYPE and not given.endswith("+json"):
        raise Refused.because(
            ErrorCode.BAD_REQUEST, f"Content-Type is {given[:80] or 'missing'!r}; send {JSON_TYPE} (curl: --json)"
        )


def _too_large(max_bytes: int) -> Refused:
    message = f"the body is larger than {max_bytes} bytes (max_frame); send several requests"
    return Refused.because(ErrorCode.TOO_LARGE, message)
