"""`shard.json`: what a shard's directory says of itself. Small, and replaced as a whole."""

import secrets
from pathlib import Path
from typing import Self

import msgspec
from xxhash import xxh3_64_hexdigest

from .errors import FormatError
from .files import Files

NAME = "shard.json"
FORMAT = 1


class ShardMeta(msgspec.Struct, kw_only=True):
    """The identity of a shard's log."""

    shard: int
    format: int = FORMAT
    log: str
    """Which log this is: made with the directory, never changed."""
    epoch: str
    """Which history this is: another one whenever some of it was lost."""
    missing: list[int] = []
    """Segments that were lost and told of, so that nobody is alarmed twice."""
    clean_segment: int = 0
    clean_size: int = 0
    """At the last clean close this segment had this many bytes (0: no file yet): if fewer hold, that is damage, and no
    torn tail.
    """

    @classmethod
    def new(cls, shard: int) -> Self:
        """The identity of a new log."""
        return cls(shard=shard, log=secrets.token_hex(8), epoch=secrets.token_hex(8))

    clean_time: float = 0.0
    """When that was, by a clock that never runs backwards."""

    @property
    def clean_newest(self) -> int:
        """The newest segment that had a file at the last clean close."""
        return self.clean_segment if self.clean_size else max(0, self.clean_segment - 1)

    def renew_epoch(self) -> None:
        """Some history was lost: what follows is another one."""
        self.epoch = secrets.token_hex(8)

    def save(self, files: Files, directory: Path) -> None:
        """Put it on stable storage."""
        text = msgspec.json.encode(self)
        files.replace(directory / NAME, [xxh3_64_hexdigest(text).encode() + b" " + text + b"\n"])

    @classmethod
    def load(cls, files: Files, directory: Path, shard: int) -> Self | None:
        """Read it; None when it is missing or damaged.

        Raises:
            FormatError: it is another version's, or another shard's.
        """
        try:
            data = files.read_whole(directory / NAME)
        except FileNotFoundError:
            return None
        checksum, _, text = data.partition(b" ")
        text = text.rstrip(b"\n")
        if checksum != xxh3_64_hexdigest(text).encode():
            return None
        try:
            meta = msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as error:
            raise FormatError(
                f"{directory / NAME} is of another version: {error}; use the program that made it"
            ) from None
        if meta.format != FORMAT:
            raise FormatError(
                f"{directory / NAME} has format {meta.format}, this program knows {FORMAT}: use a newer one"
            )
        if meta.shard != shard:
            raise FormatError(f"{directory} holds shard {meta.shard}: a folder was moved; put it back where it belongs")
        return meta
