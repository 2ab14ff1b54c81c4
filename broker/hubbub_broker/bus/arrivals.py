"""Who came and who left, said on `_hubbub/agents` to whoever keeps a picture of the agents: the control plane.

Ephemeral, and only while somebody reads them; whoever missed some asks for the register anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hubbub_broker.log import LogError
from hubbub_broker.logs import get_logger
from hubbub_broker.shard import Shard
from hubbub_protocol.names import AGENTS, CONTROL_GROUP

from .agents import AgentRecord

CAME, LEFT, REGISTERED, FORGOTTEN = "came", "left", "registered", "forgotten"
"""The `type` of the messages."""

log = get_logger(__name__)


class Arrivals:
    """What happens to agents, told."""

    def __init__(self, shard_of: Callable[[str], Shard]) -> None:
        self._shard = shard_of(CONTROL_GROUP)

    def came(self, record: AgentRecord) -> None:
        """An agent has its first connection."""
        self._tell(CAME, _shown(record))

    def left(self, agent: str) -> None:
        """An agent has lost its last connection."""
        self._tell(LEFT, {"agent": agent})

    def changed(self, agent: str, record: AgentRecord | None) -> None:
        """Its registration is another; None: it has none any more."""
        if record is None:
            self._tell(FORGOTTEN, {"agent": agent})
        else:
            self._tell(REGISTERED, _shown(record))

    def _tell(self, event: str, data: dict[str, Any]) -> None:
        shard = self._shard
        try:
            topic = shard.topics.get(AGENTS)  # whoever reads it has brought it into memory
            if topic is not None and shard.readers.heard(topic):
                shard.announce(AGENTS, event, data, ephemeral=True)
        except LogError as error:  # whoever comes is let in, all the same
            log.warning("arrival not told", agent=data["agent"], reason=str(error))


def _shown(record: AgentRecord) -> dict[str, Any]:
    return {
        "agent": record.name,
        "group": record.group,
        "capabilities": record.capabilities,
        "description": record.description,
        "seen": record.seen,
        "socket": record.socket,
    }
