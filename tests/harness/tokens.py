"""Keys and tokens for tests."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from hubbub_broker.access.key import Key, make_key, parse_jwk
from hubbub_broker.access.token import sign

SECRET = b"a secret of thirty-two bytes, ok"
BUS_TOKEN = "the-shared-token-of-this-bus"


def key(id: str = "k1", algorithm: str = "HS256", secret: bytes = SECRET) -> Key:
    """A key that signs."""
    return parse_jwk(make_key(algorithm, id, secret))


def write_key(folder: Path, id: str = "k1", secret: bytes = SECRET) -> Path:
    """A directory of keys with this one added."""
    folder.mkdir(exist_ok=True)
    (folder / f"{id}.jwk").write_text(json.dumps(make_key("HS256", id, secret)))
    return folder


def claims(agent: str = "ann", *, lasts: float = 3600.0, **more: Any) -> dict[str, Any]:
    """What a token says."""
    return {"sub": agent, "exp": time.time() + lasts, **more}


def token(agent: str = "ann", *, by: Key | None = None, lasts: float = 3600.0, **more: Any) -> str:
    """A signed token."""
    return sign(by or key(), claims(agent, lasts=lasts, **more))
