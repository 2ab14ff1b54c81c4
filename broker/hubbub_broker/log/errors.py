"""What can go wrong with a log, and whose turn it is.

    LogError
     ├── LogFull            no room on the disk, or no descriptor: nothing more is taken until there is again
     ├── LogFailed          writing or syncing failed: read-only until the broker is started again
     ├── LogDamaged         stored bytes do not add up; what is damaged is skipped, never in silence
     ├── LogMisused         the caller broke the log's rules (a bug)
     ├── DirectoryLocked    another process has the data directory
     ├── FormatError        a directory or file that this version does not understand, or another configuration's
     └── BackupError        a backup or restore that can't be done as asked

Every message says what happened and what to do about it.
"""


class LogError(Exception):
    """Anything that the log refuses or can't do."""


class LogFull(LogError):
    """The disk is full, or too many files are open. What was appended is taken back; `ShardLog.recheck` finds out when
    there is room again.
    """


class LogFailed(LogError):
    """A write or a sync failed. A failed sync is never retried: what the disk holds is only known after a restart."""


class LogDamaged(LogError):
    """Stored bytes could not be read, or fail their checksum."""


class LogMisused(LogError):
    """The caller broke a rule of the interface."""


class DirectoryLocked(LogError):
    """Another process has the data directory open."""


class FormatError(LogError):
    """A file or directory of a kind or version that this program does not understand."""


class BackupError(LogError):
    """A backup or a restore was refused."""
