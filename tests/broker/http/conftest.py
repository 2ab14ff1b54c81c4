from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from harness.http_broker import HttpBroker
from hubbub_broker.http import create_app


@pytest.fixture
def broker() -> HttpBroker:
    return HttpBroker()


@pytest_asyncio.fixture
async def client(broker: HttpBroker) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(broker), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8091") as http:
        yield http
