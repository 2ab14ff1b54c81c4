"""All schemas that are in force, by group and type."""

from collections.abc import Iterable, Mapping

from hubbub_protocol.names import is_reserved

from .schema import Schema

OfGroup = Mapping[str, Schema]
"""A group's schemas by type."""


class Schemas:
    """Immutable: a change makes new ones."""

    __slots__ = ("_by_group",)

    def __init__(self, schemas: Iterable[Schema] = ()) -> None:
        self._by_group: dict[str, dict[str, Schema]] = {}
        for schema in schemas:
            self._by_group.setdefault(schema.group, {})[schema.type] = schema

    def __len__(self) -> int:
        return sum(map(len, self._by_group.values()))

    def of(self, group: str) -> OfGroup | None:
        """A group's schemas, or None where it has none: most groups."""
        return self._by_group.get(group)

    def all(self) -> list[Schema]:
        """Every schema, by group and type."""
        return sorted(
            (schema for group in self._by_group.values() for schema in group.values()),
            key=lambda schema: (schema.group, schema.type),
        )


NO_SCHEMAS = Schemas()


def is_exempt(topic: str) -> bool:
    """Whether no schema is about a topic: the protocol's own ones (`_…`), whose messages have forms of their own."""
    return is_reserved(topic) or topic.partition("/")[2].startswith("_")
