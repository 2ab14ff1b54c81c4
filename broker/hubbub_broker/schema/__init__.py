"""Schemas: what the data of a message of some type has to look like in a group.

extent      how large a schema is with all that it refers to; pure
schema      one JSON Schema, compiled: does some data fit it?
schemas     all that are in force, by group and type
"""

from .refusal import BadSchema
from .schema import Schema, SchemaLimits, read_schema
from .schemas import NO_SCHEMAS, OfGroup, Schemas, is_exempt

__all__ = ["NO_SCHEMAS", "BadSchema", "OfGroup", "Schema", "SchemaLimits", "Schemas", "is_exempt", "read_schema"]
