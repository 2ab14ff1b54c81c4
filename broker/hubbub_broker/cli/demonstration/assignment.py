"""What a worker process gets to do, and what it gives back: files of JSON on both ways."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from .contents import Section
from .witness import Claims, Statement

EDITOR = "editor"
"""The agent that hears every conversation."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one worker has to do."""

    url: str
    folder: str
    conversations: list[dict[str, Any]]
    interval: float
    """Seconds between two findings of one researcher."""
    seed: str
    edits: bool
    """Whether the editor works here too."""


class Result(TypedDict):
    """What a worker's agents counted."""

    statements: list[Statement]
    claims: list[Claims]
    sections: dict[str, Section]
    stages: dict[str, list[dict[str, Any]]]
    """What each conversation's workflow went through."""
    repeated: int
    """Receipts that say the broker had the message already."""
    online_at: float
    """When an agent came online last."""
    stats: dict[str, int]
    """The SDK's own counts, of all agents together."""


def samples_beside(result: Path) -> Path:
    """Where the latency samples are that belong to a result: pairs of doubles."""
    return result.with_suffix(".samples")
