"""A broker in this process, its consumers at hand, and clients on real sockets."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from harness.broker import serving, url_of
from harness.wire import WireClient, wire_client
from hubbub_broker.server import Server


@pytest.fixture
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings of the broker: `@pytest.mark.parametrize("options", [{...}], indirect=True)`."""
    return getattr(request, "param", {})


@pytest.fixture
async def server(tmp_path: Path, options: dict[str, Any]) -> AsyncIterator[Server]:
    async with serving(tmp_path / "data", **options) as server:
        yield server


@pytest.fixture
def connect(server: Server) -> Callable[..., AbstractAsyncContextManager[WireClient]]:
    return lambda agent=None, **more: wire_client(url_of(server), agent, **more)
