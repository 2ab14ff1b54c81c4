"""What the user of the demonstration may choose."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """One run. Numbers have been checked."""

    agents: int
    conversations: int
    workers: int
    """Processes for the agents."""
    folder: Path | None
    """What is read; None is the Python library."""
    pieces: int
    """How many pieces of text are read, about: a file's last piece is smaller than the others."""
    rate: float
    """Pieces that are read per second, by all together; 0 is as many as go."""
    kill: bool
    seed: int
    data_dir: Path | None
    keep: bool
    report: Path
    tamper: str | None
    """Which anomaly to put into the records before they are counted."""
    stall: float = 30.0
    """Seconds without any progress after which the job is given up and counted as it is."""
    linger: float = 1.0
    """Seconds that the agents listen on after the last message, for copies that should not come."""
