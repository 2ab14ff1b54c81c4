import re

from hubbub.workflows import State, Workflow, mermaid
from hubbub.workflows.draft import Step
from hubbub.workflows.instance import Broke, Finished
from hubbub.workflows.step import begin, step

MODEL = Workflow(
    "order",
    {
        "state": State(handler="reserve", on={"done": "pay"}, compensate="release"),  # a word of Mermaid's own
        "pay": State(handler="agent:bank", on={"done": "sent", "declined": "FAILED"}, timeout=5),
        "sent": State(end=True),
    },
)


def arrows(text: str) -> set[tuple[str, str, str]]:
    """Source, target and label by name, read back from the picture."""
    names = {id: label.split(" (")[0] for label, id in re.findall(r'state "([^"]+)" as (\w+)', text)}
    names["[*]"] = "*"
    found = re.findall(r"^    (\S+) --> (\S+?)(?:: (.*))?$", text, re.MULTILINE)
    return {(names[source], names[target], label) for source, target, label in found}


def test_the_diagram_shows_the_table() -> None:
    text = mermaid(MODEL)
    assert text.startswith("stateDiagram-v2\n")
    assert arrows(text) == {
        ("*", "state", ""),
        ("state", "pay", "done"),
        ("state", "FAILED", "failed"),
        ("pay", "sent", "done"),
        ("pay", "FAILED", "declined, failed, timeout"),
        ("COMPENSATING", "COMPENSATING", "undo state"),
        ("COMPENSATING", "FAILED", "undone"),
        ("sent", "*", ""),
        ("FAILED", "*", ""),
    }
    assert "pay (agent bank)" in text.replace(":", " ")


def test_the_diagram_shows_where_an_instance_stands() -> None:
    first = begin(MODEL, "1", {}, now=1.0, by="joe")
    second = step(MODEL, first.instance, Finished(task=first.tasks[0].task, by="ann"), 2.0)
    assert isinstance(second, Step)
    history = (*first.changes, *second.changes)
    text = mermaid(MODEL, second.instance, history)
    assert "class s1 here" in text
    assert "class s0 passed" in text
    third = step(MODEL, second.instance, Broke(task=second.tasks[0].task, by="bank", error="no"), 3.0)
    assert isinstance(third, Step)
    assert "ill" in mermaid(MODEL, third.instance, (*history, *third.changes)).splitlines()[-1]


def test_types_of_messages_do_not_break_the_picture() -> None:
    model = Workflow("w", {"a": State(messages={'x;"y"\n#z': "z"}), "z": State(end=True)})
    assert ("a", "z", "message x  y   z") in arrows(mermaid(model))
