"""The event loop that load is made with."""

import asyncio
from importlib.metadata import version


def event_loop() -> tuple[str, type[asyncio.AbstractEventLoop] | None]:
    """Its name for the report, and its class: uvloop's where there is one, else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - where there is none, the load runs on asyncio's own, and says so
    except ImportError:
        return "asyncio", None
    return f"uvloop {version('uvloop')}", uvloop.Loop
