"""Who in the broker itself wants to know of a state's changes."""

from collections.abc import Callable
from typing import Any, NamedTuple

from hubbub_broker.logs import get_logger
from hubbub_broker.shard import Run
from hubbub_protocol.codec import decode_broker, decode_value
from hubbub_protocol.frames import Msg

from .telling import TYPE

log = get_logger(__name__)


class StateChange(NamedTuple):
    """A change that is on stable storage."""

    version: int
    by: str
    """The agent that made it."""
    set: dict[str, Any]
    delete: tuple[str, ...]


OnChange = Callable[[StateChange], None]


class Watcher:
    """Follows the topic that tells of a state. As long as it does, the topic stays in memory."""

    idle = False
    """The topic may not be let go: whoever follows must not miss a change."""

    def __init__(self, call: OnChange) -> None:
        self._call = call

    def follow(self, run: Run) -> None:
        """Changes are durable."""
        for line in run.lines:
            message = decode_broker(line)
            if not isinstance(message, Msg) or message.type != TYPE:
                continue  # who is present there
            try:
                told = decode_value(message.data)
                version = message.seq or 0
                self._call(StateChange(version, message.sender, told.get("set", {}), tuple(told.get("delete", ()))))
            except Exception:
                log.exception("change not taken in", topic=message.topic, version=message.seq)

    def served_besides(self, sink: object) -> bool:  # noqa: ARG002 - the signature is Follower's
        """It is nobody's reader."""
        return False

    def gone(self) -> None:
        """It does not happen: see `idle`."""
