"""Large bodies by reference: how a blob lies in its topic, and how it is named in a message. Pure.

    GROUP/_blobs/SHA256        the topic of a blob: binary messages of type `blob`, each a piece of it, with the header
                               blob = {"at": OFFSET, "len": BYTES, "size": BYTES OF THE WHOLE, "copy": ID}
    attachments = [{"sha256", "size", "group", "by", "copy", "name", "media_type"}, …]    of a message that refers to it

The name of a blob is the hash of its content, so the same content is stored once, and nobody can pass one thing off as
another: whoever fetches it checks. Pieces of several senders, and repeats, may lie in one topic, when two put the same
there at a time, or one begins anew. A *copy* is what one sender has put there under one id, if it is whole.
"""

from typing import Any

from msgspec import Struct

from . import codec
from .errors import BadFrame, BadName
from .names import BLOBS, check_agent, check_group, is_blob_topic

TYPE = "blob"
HEADER = "blob"
ATTACHMENTS = "attachments"

PIECE_BYTES = 256 << 10
"""Bytes of a piece, unless a topic takes only smaller messages: far below the usual frame limit, and large enough that
a message's own cost is nothing beside it."""

PIECE_BYTES_MIN = 4 << 10
"""The smallest piece that is tried where a topic takes no larger ones."""

ATTACHMENTS_MAX = 100
"""References that a message may carry."""

BLOB_BYTES_MAX = (1 << 53) - 1


class Piece(Struct, frozen=True, forbid_unknown_fields=True):
    """What the header of a piece says."""

    at: int
    len: int
    size: int
    copy: str = ""


class _Headers(Struct, frozen=True):
    blob: Piece | None = None


class BlobRef(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What names a blob: in a message that refers to it, and for whoever fetches it."""

    sha256: str
    """Hash of the content: 64 hexadecimal digits, in lower case."""
    size: int
    """Its bytes."""
    group: str
    """Where it is."""
    by: str = ""
    copy: str = ""
    """Which copy was whole when the reference was made, and whose it is."""
    name: str = ""
    """What it is called, for people."""
    media_type: str = ""
    """What it is, such as `application/pdf`."""

    @property
    def topic(self) -> str:
        """Where its pieces are."""
        return blob_topic(self.group, self.sha256)


_headers = codec.decoder_of(_Headers)
_refs = codec.decoder_of(list[BlobRef])


def blob_topic(group: str, sha256: str) -> str:
    """The topic of a blob.

    Raises:
        BadName: if these name none.
    """
    check_group(group)
    if not is_blob_topic(f"{group}/{BLOBS}/{sha256}"):
        raise BadName(f"{sha256[:80]!r} names no blob: that is a SHA-256, 64 hexadecimal digits in lower case")
    return f"{group}/{BLOBS}/{sha256}"


def piece_of(headers: bytes) -> Piece | None:
    """What a message of type `blob` says of itself; None if that is nothing that makes sense."""
    try:
        piece = _headers(headers or b"{}").blob
    except BadFrame:
        return None
    if piece is None or not 0 <= piece.at <= piece.at + piece.len <= piece.size <= BLOB_BYTES_MAX:
        return None
    assert isinstance(piece, Piece)
    return piece


def refs_of(value: Any) -> list[BlobRef]:
    """The references in a header. What is none is left out, so that a careless sender hurts nobody."""
    if not isinstance(value, list):
        return []
    found = []
    for one in value[:ATTACHMENTS_MAX]:
        try:
            (ref,) = _refs(codec.encode_value([one]))
            check_group(ref.group)
            if ref.by:
                check_agent(ref.by)
        except (BadFrame, BadName, ValueError, TypeError):
            continue
        if is_blob_topic(f"{ref.group}/{BLOBS}/{ref.sha256}") and 0 <= ref.size <= BLOB_BYTES_MAX:
            found.append(ref)
    return found


CopyKey = tuple[str, str]
"""Sender, and id."""


def is_lasting(left: float, max_age: float) -> bool:
    """Whether a copy that is kept for `left` more seconds of `max_age` is good for another message. One that is past
    half of its time is not: it would go long before what refers to it.
    """
    return left >= max_age / 2


class Copy:
    """What one sender has put into a blob's topic under one id, from the beginning on without a hole."""

    __slots__ = ("first", "have", "seen", "since", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        """Bytes of the whole."""
        self.have = 0
        """Bytes."""
        self.first = 0
        """Seq of the piece that it begins with."""
        self.since = 0.0
        """When the broker took that, as far as it was said."""
        self.seen = False
        """Whether there is anything of it: an empty blob has one empty piece."""

    @property
    def is_whole(self) -> bool:
        """Whether all of it is there."""
        return self.seen and self.have == self.size

    def fits(self, piece: Piece) -> int:
        """How many bytes of a piece are here already; -1 if it brings nothing new, or does not go on from here."""
        if piece.size != self.size:
            return -1
        if not self.seen and piece.at == 0:
            return 0
        return self.have - piece.at if piece.at <= self.have < piece.at + piece.len else -1

    def add(self, seq: int, piece: Piece, ts: float = 0.0) -> int:
        """Take a piece in; as `fits`."""
        skip = self.fits(piece)
        if skip >= 0:
            if not self.seen:
                self.first, self.since = seq, ts
                self.seen = True
            self.have = piece.at + piece.len
        return skip


class Survey:
    """What there is of a blob, by copy. Fed with its topic's pieces in order."""

    def __init__(self, size: int | None = None) -> None:
        self.size = size
        """Bytes of the whole; None: it is not known, and each copy says for itself."""
        self.copies: dict[CopyKey, Copy] = {}

    def add(self, sender: str, seq: int, piece: Piece, ts: float = 0.0) -> None:
        """One more piece. One of another size is not of this blob."""
        if self.size in (None, piece.size):
            self.copies.setdefault((sender, piece.copy), Copy(piece.size)).add(seq, piece, ts)

    def whole(self, first: CopyKey = ("", "")) -> list[CopyKey]:
        """The copies that are whole, `first` before the others, then those of its sender."""
        found = [key for key, copy in self.copies.items() if copy.is_whole]
        return sorted(found, key=lambda key: (key != first, key[0] != first[0]))

    def begun(self, sender: str) -> str | None:
        """The copy of a sender that has come furthest without being whole."""
        begun = {
            key[1]: copy.have
            for key, copy in self.copies.items()
            if key[0] == sender and copy.have and not copy.is_whole
        }
        return max(begun, key=begun.__getitem__, default=None)
