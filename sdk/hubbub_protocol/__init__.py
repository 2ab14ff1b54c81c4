"""The wire contract of Hubbub, and nothing else.

Floor 0 of the house: no asyncio, no sockets, no clock, no randomness. The broker and every client import it; it
imports neither. Read it in this order: `limits`, `names`, `errors`, `frames`, `codec`, `causal`, `blobs`, `headers`,
`filters`.
"""

__version__ = "0.1.0"

SUBPROTOCOL = "hubbub.v1"
"""The WebSocket subprotocol that a client may ask for. Asking is optional; asking for another one is refused."""

PATH = "/v1/ws"
"""Where the WebSocket endpoint lives, on the same port as the HTTP API."""

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8091
