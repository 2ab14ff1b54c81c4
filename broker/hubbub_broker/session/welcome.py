"""What a client is told when it has said who it is."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from hubbub_broker.access import Identity
from hubbub_protocol import __version__
from hubbub_protocol.frames import Rid, Welcome

if TYPE_CHECKING:
    from hubbub_broker.config import Settings

    from .session import Session


def welcome(session: Session, settings: Settings, identity: Identity, inbox: str | None, rid: Rid | None) -> Welcome:
    """The answer to `hello`."""
    assert session.agent is not None
    entrance = session.entrance
    return Welcome(
        agent=session.agent,
        session=session.life or session.id,
        server=f"hubbub/{__version__}",
        heartbeat=settings.heartbeat,
        limits={
            "max_frame": settings.max_frame,
            "max_inflight": settings.max_inflight,
            "max_subscriptions": settings.max_subscriptions,
            "publish_rate": settings.publish_rate,
        },
        rid=rid,
        ts=time(),
        inbox=inbox,
        expires=identity.expires,
        workers=None if entrance is None else entrance.urls,
        shards=None if entrance is None else entrance.shards,
        worker=None if entrance is None else entrance.worker,
    )
