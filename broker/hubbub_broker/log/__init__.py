"""Floor 1: a shard's log. What the broker keeps, it keeps here.

    log          the log of one shard: append, commit, read; its promises
    record       one stored record, drawn          header   a segment file's first bytes
    segment      a file of records, and the shelf of them all
    index        seq -> place, in memory           sidecar  the same on disk (table: its hash tables)
    states       newest bodies of keys, in memory
    builder      an index made from records        scan     records read whatever happened to them
    chain        the way back through segments     reader   messages read back, checked
    batch        what is not yet durable           dedup    ids seen lately (recall: when opened)
    taking_back  undoing a batch that failed
    sealing      a full segment's index goes to disk
    trimming     retention drops whole segments
    standings    where topics stand: catalogue (SQLite, derived), overlaid with what is newer
    recovery     opening after any crash
    directory meta lock syncer files settings stats errors
    inspect backup                                 tools for people

Only the names below are for other packages.
"""

from .directory import DataDirectory
from .errors import (
    BackupError,
    DirectoryLocked,
    FormatError,
    LogDamaged,
    LogError,
    LogFailed,
    LogFull,
    LogMisused,
)
from .files import Files
from .lock import DirectoryLock, lock_directory
from .log import ShardLog
from .reader import Chunk
from .settings import LogSettings, Retention
from .standing import TopicInfo
from .stats import Histogram, LogStats
from .syncer import Syncer
from .topic import StoredMessage, TopicLog

__all__ = [
    "BackupError",
    "Chunk",
    "DataDirectory",
    "DirectoryLock",
    "DirectoryLocked",
    "Files",
    "FormatError",
    "Histogram",
    "LogDamaged",
    "LogError",
    "LogFailed",
    "LogFull",
    "LogMisused",
    "LogSettings",
    "LogStats",
    "Retention",
    "ShardLog",
    "StoredMessage",
    "Syncer",
    "TopicInfo",
    "TopicLog",
    "lock_directory",
]
