"""`/v1/blobs`: large bodies, for those who hold no socket."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from typing import IO, Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.requests import ClientDisconnect

from hubbub_broker.access import Operation
from hubbub_broker.quantity import format_size
from hubbub_protocol.blobs import BlobRef, blob_topic
from hubbub_protocol.codec import encode_value
from hubbub_protocol.entity_tags import READ_ON_CONDITION, tag_of
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.names import check_agent, check_group

from .api import BrokerApi, Refused
from .blob_store import BlobStore
from .body import JSON_TYPE
from .caller import FromCaller
from .conditions import FromConditions, unread
from .models import BAD, ERRORS, UNAVAILABLE, Model
from .publish import DEFAULT_AGENT

_GROUP = Path(description="The group that the blob is in.", examples=["research"])
_SHA256 = Path(description="The SHA-256 of the content: 64 hexadecimal digits, in lower case.")
_CONTENT = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
_HEADERS = {"Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff", "Cache-Control": "private"}


class StoredBlob(Model):
    """A reference to a blob: an element of a message's header `attachments`."""

    sha256: str = Field(description="The hash of the content.")
    size: int = Field(description="Its bytes.")
    group: str = Field(description="Where it is.")
    by: str = Field("", description="Whose copy is whole.")
    copy_id: str = Field("", alias="copy", description="Which of theirs.")
    name: str = Field("", description="What it is called.")
    media_type: str = Field("", description="What it is.")


def routes(broker: BrokerApi) -> APIRouter:
    """The routes, on `broker`."""
    router = APIRouter(tags=["blobs"])
    store = BlobStore(broker)
    settings = broker.settings
    room = asyncio.Semaphore(settings.max_blob_uploads)

    @router.get(
        "/v1/blobs/{group}/{sha256}",
        summary="Fetch a large body",
        response_class=Response,
        responses={
            200: _CONTENT,
            404: {"description": "There is no whole copy of it."},
            **READ_ON_CONDITION,
            **BAD,
            **UNAVAILABLE,
        },
    )
    async def fetch(
        caller: FromCaller,
        conditions: FromConditions,
        group: Annotated[str, _GROUP],
        sha256: Annotated[str, _SHA256],
    ) -> Response:
        """The content, after it was checked against its hash. Whoever may read something in the group may fetch it."""
        topic = blob_topic(group, sha256)
        caller.require(Operation.HISTORY, topic)
        found = await store.find(group, sha256)
        if found is None:
            message = f"there is no whole copy of {topic}: retention took it, or it was never stored"
            raise Refused.because(ErrorCode.NOT_FOUND, message)
        tag = tag_of(sha256)
        instead = conditions.instead(tag)
        if instead is not None:
            return unread(instead, tag)
        ref, first = found
        headers = {**_HEADERS, "Content-Length": str(ref.size), "ETag": tag}
        return StreamingResponse(store.read(ref, first), media_type="application/octet-stream", headers=headers)

    @router.put(
        "/v1/blobs/{group}",
        summary="Store a large body",
        openapi_extra={"requestBody": {"required": True, **_CONTENT}},
        response_class=Response,
        responses={
            200: {"model": StoredBlob, "description": "It was there already."},
            201: {"model": StoredBlob, "description": "It is on stable storage."},
            **ERRORS,
        },
    )
    async def store_any(
        request: Request,
        caller: FromCaller,
        group: Annotated[str, _GROUP],
        agent: Annotated[str | None, Query(description="Who stores it, where the token does not say.")] = None,
        name: Annotated[str, Query(max_length=256, description="What it is called.")] = "",
    ) -> Response:
        """Store the body of the request, and answer with a reference for the header `attachments` of messages.

        The same content is stored once. An upload that was interrupted is gone on with: send it again. At most
        `max_blob` bytes, `max_blob_uploads` at a time; the body may take as long as it likes, as long as it moves.
        """
        return await _put(request, caller, group, None, agent, name)

    @router.put(
        "/v1/blobs/{group}/{sha256}",
        summary="Store a large body of a known hash",
        openapi_extra={"requestBody": {"required": True, **_CONTENT}},
        response_class=Response,
        responses={
            200: {"model": StoredBlob, "description": "It was there already."},
            201: {"model": StoredBlob, "description": "It is on stable storage."},
            **ERRORS,
        },
    )
    async def store_known(
        request: Request,
        caller: FromCaller,
        group: Annotated[str, _GROUP],
        sha256: Annotated[str, _SHA256],
        agent: Annotated[str | None, Query(description="Who stores it, where the token does not say.")] = None,
        name: Annotated[str, Query(max_length=256, description="What it is called.")] = "",
    ) -> Response:
        """The same, where the caller says what the hash must be: what came damaged is refused."""
        return await _put(request, caller, group, sha256, agent, name)

    async def _put(
        request: Request, caller: FromCaller, group: str, sha256: str | None, agent: str | None, name: str
    ) -> Response:
        check_group(group)
        caller.require(Operation.PUBLISH, blob_topic(group, sha256 or "0" * 64))
        by = check_agent(caller.name(agent) or DEFAULT_AGENT)
        await broker.history(
            blob_topic(group, sha256 or "0" * 64), 0, 1, 1
        )  # another worker's is said before all comes
        if room.locked():
            limit = settings.max_blob_uploads
            message = f"{limit} large bodies are being stored, the limit (max_blob_uploads)"
            raise Refused.because(ErrorCode.OVERLOADED, message, 1.0)
        async with room:
            with tempfile.TemporaryFile(dir=settings.data_dir) as file:
                size, found = await _receive(request, file, settings.max_blob, settings.hello_timeout)
                if sha256 not in (None, found):
                    message = f"the hash of what came is {found}: it is not what was to be stored"
                    raise Refused.because(ErrorCode.BAD_REQUEST, message)
                given = request.headers.get("content-type", "").partition(";")[0].strip()[:128]
                ref = BlobRef(sha256=found, size=size, group=group, name=name, media_type=given)
                stored, was_there = await store.put(by, ref, file)
        return Response(encode_value(stored), 200 if was_there else 201, media_type=JSON_TYPE)

    return router


async def _receive(request: Request, file: IO[bytes], limit: int, patience: float) -> tuple[int, str]:
    """Put a request's body into a file: its bytes, and its hash."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    digest = hashlib.sha256()
    size = 0
    parts: AsyncIterator[bytes] = aiter(request.stream())
    try:
        while True:
            async with asyncio.timeout(patience):
                part = await anext(parts, None)
            if part is None:
                return size, digest.hexdigest()
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            digest.update(part)
            await asyncio.to_thread(file.write, part)
    except TimeoutError:
        message = f"nothing of the body came for {patience:g} s (hello_timeout)"
        raise Refused.because(ErrorCode.BAD_REQUEST, message) from None
    except ClientDisconnect:  # nobody hears it
        raise Refused.because(ErrorCode.BAD_REQUEST, "the connection ended within the body") from None


def _too_large(limit: int) -> Refused:
    message = f"the body is larger than {format_size(limit)} (max_blob): divide it"
    return Refused.because(ErrorCode.TOO_LARGE, message)
