"""The JSON of what is asked and answered about policies and schemas."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

EXAMPLE_POLICY = {"pattern": "research/**", "priority": 5, "max_age": "30d"}
EXAMPLE_SCHEMA = {"type": "object", "required": ["task"], "properties": {"task": {"type": "string"}}}


class Written(BaseModel):
    """What every document has."""

    model_config = ConfigDict(populate_by_name=True)

    version: int = Field(description="Grows with each change of it; the `ETag`.")
    by: str | None = Field(None, description="Who set it.")
    at: float | None = Field(None, description="When.")
    note: str | None = Field(None, description="Why.")


class PolicyDocument(Written):
    """A policy, as it was written."""

    name: str = Field(examples=["keep-research"])
    policy: Any = Field(examples=[EXAMPLE_POLICY])


class PolicyDocuments(BaseModel):
    """Every policy, by name."""

    policies: list[PolicyDocument]


class SchemaDocument(Written):
    """A schema, as it was written."""

    group: str = Field(examples=["research"])
    type: str = Field(examples=["task"])
    schema_: Any = Field(alias="schema", examples=[EXAMPLE_SCHEMA])


class SchemaDocuments(BaseModel):
    """Every schema, by group and type."""

    schemas: list[SchemaDocument]


class Step(BaseModel):
    """One change of a document."""

    model_config = ConfigDict(populate_by_name=True)

    action: Literal["set", "drop"]
    policy: Any = Field(None, description="What it was set to, if it is a policy.")
    schema_: Any = Field(None, alias="schema", description="What it was set to, if it is a schema.")
    by: str | None = Field(None, description="Who did it.")
    at: float | None = Field(None, description="When.")
    note: str | None = Field(None, description="Why.")


class History(BaseModel):
    """The changes of a document, newest first, as far back as the log keeps them."""

    changes: list[Step]
