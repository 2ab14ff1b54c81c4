"""What a token costs a message: nothing. The decision is made once for each connection and topic."""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from harness.tokens import token, write_key
from hubbub_broker.broker import Broker
from hubbub_broker.config import Settings
from hubbub_broker.session import Intake, Session
from hubbub_protocol.codec import encode
from hubbub_protocol.frames import Hello


class Nowhere:
    """A connection whose other end takes everything."""

    def write(self, blob: bytes) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self, code: int, reason: str) -> None:
        raise AssertionError((code, reason))


def frame(first: int, ephemeral: bool) -> bytes:
    return b"\n".join(
        json.dumps({"op": "pub", "topic": "g/c", "id": f"m{number}", "data": 1, "ephemeral": ephemeral}).encode()
        for number in range(first, first + 50)
    )


async def settled(session: Session) -> None:
    """Wait for the disk's answers."""
    while session.in_flight:  # noqa: ASYNC110 - they settle a number, and set no event
        await asyncio.sleep(0.001)


async def calls(broker: Broker, shown: str | None, ephemeral: bool) -> Counter[str]:
    """Every Python and C function that is called for 50 publishes, when 50 have gone before."""
    session = Session(broker.sessions, Nowhere(), "")
    intake = Intake(session, broker.metrics, asyncio.get_running_loop())
    broker.sessions.joined(session)
    intake.text(encode(Hello(agent="ann", token=shown)))
    assert session.agent == "ann"
    intake.text(frame(0, ephemeral))
    await settled(session)
    seen: Counter[str] = Counter()

    def count(at: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            seen[at.f_code.co_qualname] += 1
        elif event == "c_call":
            seen[argument.__qualname__] += 1

    sys.setprofile(count)
    try:
        intake.text(frame(50, ephemeral))
    finally:
        sys.setprofile(None)
    await settled(session)
    session.lost()
    broker.sessions.lost(session, 1000)
    return seen


@pytest.mark.parametrize("ephemeral", [True, False])
async def test_a_publish_with_a_token_calls_nothing_more_than_one_without(tmp_path: Path, ephemeral: bool) -> None:
    loop = asyncio.get_running_loop()
    keys = write_key(tmp_path / "keys")
    seen = []
    for name, settings, shown in (
        ("open", {}, None),
        ("closed", {"token_keys": keys}, token("ann", pub=[*(f"x{number}/*" for number in range(50)), "g/**"])),
    ):
        broker = Broker(Settings.model_validate({"data_dir": tmp_path / name, "shards": 1, **settings}), loop)
        seen.append(await calls(broker, shown, ephemeral))
        await broker.close()
    without, with_token = seen
    assert sum(without.values()) > 500
    assert with_token == without
