"""A declared workflow: states, and a table that says what leads from one to another.

The table is the workflow. The decision (`step`), the diagram and the messages of errors all read it, so they can't
say different things. What is written in a declaration is a `State` for each name; what is left out there (a failure
that nobody handles ends in FAILED) is filled in here.
"""

import hashlib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec

from .declaration import (
    BUILT_IN,
    CANCEL,
    CANCELLED,
    COMPENSATING,
    DONE,
    FAILED,
    FAILURE,
    MESSAGE,
    RETRY,
    START,
    STUCK,
    TIMEOUT,
    State,
    stays,
)
from .errors import InvalidWorkflow
from .validation import problems_of

KEEP_SECONDS = 7 * 86_400.0
"""How long an instance that has ended is kept, unless its workflow says otherwise."""


class Transition(NamedTuple):
    """One row of the table."""

    source: str
    cause: str
    target: str


class _Spelling(msgspec.Struct, forbid_unknown_fields=True):
    """What a file holds."""

    name: str
    states: dict[str, State]
    initial: str | None = None
    description: str = ""
    keep: float = KEEP_SECONDS


class Workflow:
    """A workflow that was found to be right. Immutable; see `spelling` for how it is written down.

    Raises:
        InvalidWorkflow: with everything that is wrong.
    """

    def __init__(
        self,
        name: str,
        states: Mapping[str, State],
        *,
        initial: str | None = None,
        description: str = "",
        keep: float = KEEP_SECONDS,
    ) -> None:
        """`keep`: seconds for which an instance that has ended can be asked for, and tried again. What its conversation
        holds stays on.
        """
        first = initial if initial is not None else next(iter(states), "")
        problems = problems_of(name, states, first, keep)
        if problems:
            raise InvalidWorkflow(name, problems)
        self.name = name
        self.description = description
        self.keep = keep
        self.initial = first
        self.states: Mapping[str, State] = dict(states)
        self.transitions: tuple[Transition, ...] = tuple(_rows(self.states))
        """Every transition that there can be, those that go without saying included."""
        self._table = {(row.source, row.cause): row.target for row in self.transitions}
        self.digest = hashlib.sha256(msgspec.json.encode(self.as_dict(), order="sorted")).hexdigest()[:16]
        """Names this declaration: another one of the same name has another."""

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The workflow in a TOML file.

        Raises:
            InvalidWorkflow: the file is no TOML, or the workflow is not right.
            OSError: the file can't be read.
        """
        file = Path(path)
        try:
            fields = tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidWorkflow(file.name, [f"the file is no TOML: {error}"]) from None
        return cls.from_dict({"name": file.stem, **fields})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """A workflow from what `as_dict` gives, or a file holds.

        Raises:
            InvalidWorkflow: with everything that is wrong.
        """
        try:
            spelled = msgspec.convert(fields, _Spelling)
        except msgspec.ValidationError as error:
            raise InvalidWorkflow(str(fields.get("name", "?"))[:80], [str(error)]) from None
        return cls(
            spelled.name,
            spelled.states,
            initial=spelled.initial,
            description=spelled.description,
            keep=spelled.keep,
        )

    def __repr__(self) -> str:
        return f"<Workflow {self.name} {self.digest}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Workflow) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash(self.digest)

    def target(self, source: str, cause: str) -> str | None:
        """Where a cause leads from a state; None where it leads nowhere."""
        return self._table.get((source, cause))

    def allows(self, source: str | None, cause: str, target: str) -> bool:
        """Whether an instance may go from `source` to `target` because of `cause` (None: it is not there yet).

        Compensation lies between a state and the end that the table names; only FAILED can be tried again.
        """
        if source is None:
            return (cause, target) == (START, self.initial)
        if stays(cause):
            return source == target
        if source == COMPENSATING:
            return target in (COMPENSATING, FAILED, CANCELLED) and cause in (DONE, FAILURE)
        if cause == RETRY:
            return source == FAILED and (target in self.states or target == COMPENSATING)
        if cause == STUCK:
            return source in self.states and target in (FAILED, COMPENSATING)
        named = self._table.get((source, cause))
        return named is not None and (target == named or (target == COMPENSATING and named in BUILT_IN))

    def causes(self, source: str) -> list[str]:
        """What can happen to an instance in a state."""
        return [row.cause for row in self.transitions if row.source == source]

    def is_end(self, state: str) -> bool:
        """Whether an instance goes no further from there by itself."""
        return state in (FAILED, CANCELLED) or (state in self.states and self.states[state].end)

    @property
    def message_types(self) -> frozenset[str]:
        """The types of messages that move an instance."""
        return frozenset(type for state in self.states.values() for type in state.messages)

    @property
    def handlers(self) -> frozenset[str]:
        """Everyone who is given work, for compensation too."""
        named = {handler for state in self.states.values() for handler in state.handlers}
        return frozenset(named | {state.compensate for state in self.states.values() if state.compensate is not None})

    def as_dict(self) -> dict[str, Any]:
        """The declaration, as JSON can hold it, and as a file spells it."""
        fields: dict[str, Any] = {"name": self.name, "initial": self.initial}
        if self.description:
            fields["description"] = self.description
        if self.keep != KEEP_SECONDS:
            fields["keep"] = self.keep
        return {**fields, "states": {name: msgspec.to_builtins(state) for name, state in self.states.items()}}


def _rows(states: Mapping[str, State]) -> list[Transition]:
    rows: list[Transition] = []
    for name, state in states.items():
        if state.end:
            continue
        rows += [Transition(name, outcome, target) for outcome, target in state.on.items()]
        rows += [Transition(name, MESSAGE + type, target) for type, target in state.messages.items()]
        if state.handlers and FAILURE not in state.on:
            rows.append(Transition(name, FAILURE, FAILED))
        if state.timeout is not None and TIMEOUT not in state.on:
            rows.append(Transition(name, TIMEOUT, FAILED))
        rows.append(Transition(name, CANCEL, CANCELLED))
    return rows
