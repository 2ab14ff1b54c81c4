"""The two ways to write a workflow down: a Python class, and a TOML file. Both give the same `Workflow`.

class Report:                                      name = "report"
    research = State(
        handler="research",                        [states.research]
        on={"done": "writing"},                    handler = "research"
        timeout=600, retries=2,                    on.done = "writing"
    )                                              timeout = 600
    writing = State(                               retries = 2
        handler="capability:write",
        on={"done": "published"},                  [states.writing]
    )                                              handler = "capability:write"
    published = State(end=True)                    on.done = "published"

report = workflow(Report, name="report")           [states.published]
                                                   end = true
"""

import inspect
from typing import Any

import msgspec

from .declaration import State
from .model import KEEP_SECONDS, Workflow


def workflow(
    declared: type, /, *, name: str | None = None, initial: str | None = None, keep: float = KEEP_SECONDS
) -> Workflow:
    """The workflow whose states are the `State`s of a class.

    Its name is the class's, its initial state the first, and its description the docstring, unless said otherwise. For
    `keep` see `Workflow`.

    Raises:
        InvalidWorkflow: with everything that is wrong.
    """
    states = {key: value for key, value in vars(declared).items() if isinstance(value, State)}
    fields = {key: msgspec.to_builtins(value) for key, value in states.items()}
    spelled: dict[str, Any] = {
        "name": name or declared.__name__,
        "states": fields,
        "description": inspect.cleandoc(declared.__doc__ or ""),
        "keep": keep,
    }
    return Workflow.from_dict(spelled if initial is None else {**spelled, "initial": initial})
