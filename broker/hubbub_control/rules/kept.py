"""Where documents are kept: a key of the state of `_hubbub` for each, and a topic that has its history.

    policy NAME          key policy/NAME          history _hubbub/policies/NAME
    schema GROUP TYPE    key schema/GROUP/TYPE    history _hubbub/schemas/GROUP/TYPE

A change of the key and the message that tells of it are one step: neither is ever there without the other.
"""

from typing import Any, NamedTuple

from hubbub_protocol.names import POLICIES, SCHEMAS, check_segment


class Kind(NamedTuple):
    """What a document is."""

    name: str
    """First segment of its key, and the field of the value that holds the document."""
    histories: str
    """What the topics of its history begin with."""
    parts: tuple[str, ...]
    """What its name consists of."""

    def place(self, *names: str) -> "Place":
        """One document of this kind.

        Raises:
            BadName: a part of its name is none.
        """
        for what, name in zip(self.parts, names, strict=True):
            check_segment(name, what)
        below = "/".join(names)
        return Place(self, f"{self.name}/{below}", f"{self.histories}/{below}")

    @property
    def pattern(self) -> str:
        """All keys of this kind."""
        return f"{self.name}/**"


class Place(NamedTuple):
    """Where one document is kept."""

    kind: Kind
    key: str
    history: str
    """A topic."""

    @property
    def names(self) -> list[str]:
        """The parts of its name."""
        return self.key.split("/")[1:]


POLICY = Kind("policy", POLICIES, ("policy name",))
SCHEMA = Kind("schema", SCHEMAS, ("group", "message type for a schema"))


class Document(NamedTuple):
    """A document as it is kept."""

    place: Place
    version: int
    content: Any
    by: str | None
    at: float | None
    note: str | None

    @classmethod
    def read(cls, place: Place, version: int, value: Any) -> "Document":
        """From the value of its key; whatever somebody put there."""
        fields = value if isinstance(value, dict) else {}
        by, at, note = fields.get("by"), fields.get("at"), fields.get("note")
        return cls(
            place,
            version,
            fields.get(place.kind.name),
            by if isinstance(by, str) else None,
            float(at) if isinstance(at, int | float) else None,
            note if isinstance(note, str) else None,
        )
