"""A workflow as a Mermaid state diagram, drawn from the table that decides; and where an instance stands in it."""

from collections.abc import Iterable, Iterator

from .declaration import CANCEL, CANCELLED, COMPENSATING, FAILED
from .instance import Change, Instance, Status
from .model import Workflow

_STYLES = (
    "    classDef passed fill:#dde8dd,stroke:#5a7d5a",
    "    classDef here fill:#f7d774,stroke:#8a6d1a,stroke-width:3px",
    "    classDef well fill:#9fd3a2,stroke:#2e7d32,stroke-width:3px",
    "    classDef ill fill:#efa9a4,stroke:#b3261e,stroke-width:3px",
)


def mermaid(model: Workflow, instance: Instance | None = None, history: Iterable[Change] = ()) -> str:
    """The diagram. With an instance, the state that it is in stands out, and those that it came through."""
    return "\n".join(_lines(model, instance, history)) + "\n"


def _lines(model: Workflow, instance: Instance | None, history: Iterable[Change]) -> Iterator[str]:
    yield "stateDiagram-v2"
    yield "    direction LR"
    ids = {name: f"s{number}" for number, name in enumerate((*model.states, FAILED, CANCELLED, COMPENSATING))}
    drawn = set(model.states)
    edges = list(_edges(model))
    drawn |= {target for _, _, target in edges} | {source for source, _, _ in edges}
    drawn |= {instance.state} if instance is not None else set()
    for name, id in ids.items():  # names may be words of Mermaid's own: they are labels, and ids are made here
        if name in drawn:
            yield f'    state "{name}{_who(model, name)}" as {id}'
    yield f"    [*] --> {ids[model.initial]}"
    for source, cause, target in edges:
        yield f"    {ids[source]} --> {ids[target]}: {_label(cause)}"
    for name, id in ids.items():
        if name in drawn and model.is_end(name):
            yield f"    {id} --> [*]"
    if instance is None:
        return
    yield from _STYLES
    passed = {change.target for change in history if change.is_transition} - {instance.state}
    for name in sorted(passed & set(ids), key=lambda name: ids[name]):
        yield f"    class {ids[name]} passed"
    yield f"    class {ids[instance.state]} {_style(instance.status)}"


def _edges(model: Workflow) -> Iterator[tuple[str, str, str]]:
    """The rows of the table, but for `cancel`, which every state has; one way for all causes that go the same way."""
    ways: dict[tuple[str, str], list[str]] = {}
    for source, cause, target in model.transitions:
        if cause != CANCEL:
            ways.setdefault((source, target), []).append(cause)
    for (source, target), causes in ways.items():
        yield source, ", ".join(causes), target
    for name, state in model.states.items():
        if state.compensate is not None:
            yield COMPENSATING, f"undo {name}", COMPENSATING
    if any(state.compensate is not None for state in model.states.values()):
        yield COMPENSATING, "undone", FAILED


def _who(model: Workflow, name: str) -> str:
    handlers = model.states[name].handlers if name in model.states else ()
    return f" ({', '.join(handlers)})" if handlers else ""


def _label(cause: str) -> str:
    """A cause as the label of an arrow: without what ends one there."""
    return "".join(char if char.isprintable() and char not in ';"#' else " " for char in cause).replace(":", " ")


def _style(status: Status) -> str:
    if status is Status.DONE:
        return "well"
    return "ill" if status in (Status.FAILED, Status.CANCELLED, Status.COMPENSATING) else "here"
