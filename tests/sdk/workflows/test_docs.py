"""What docs/workflows.md shows is one workflow, in all its spellings, and what it says is so."""

import re
import tomllib
from pathlib import Path
from typing import Any

from hubbub.workflows import State, Workflow, mermaid, workflow
from hubbub.workflows.declaration import State as Declared

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "workflows.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_class_the_file_and_the_diagram_are_one_workflow() -> None:
    declared = Workflow.from_dict(tomllib.loads(block("toml")))
    names: dict[str, Any] = {"State": State, "workflow": workflow}
    exec(
        block("python").partition("class Report:")[1]
        + block("python").partition("class Report:")[2].partition("async with")[0],
        names,
    )
    from_class: Workflow = names["report"]
    assert from_class.as_dict()["states"] == declared.as_dict()["states"]
    assert block("mermaid") == mermaid(declared)


def test_every_field_of_a_state_has_its_row() -> None:
    rows = set(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE, re.MULTILINE))
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(Declared.__struct_fields__) - {"description"} <= told
