"""A request's body, bounded in size and in the time that it may take to arrive."""

import asyncio

from fastapi import Request

from hubbub_protocol.errors import ErrorCode

from .api import Refused


async def read_body(request: Request, max_bytes: int, timeout: float) -> bytes:
    """The whole body.

    Raises:
        Refused: if it is larger than `max_bytes` (setting `max_frame`), or takes longer than `timeout` seconds.
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
    return b"".join(parts)


def _too_large(max_bytes: int) -> Refused:
    message = f"the body is larger than {max_bytes} bytes (max_frame); send several requests"
    return Refused.because(ErrorCode.TOO_LARGE, message)
