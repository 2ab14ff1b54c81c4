"""The stages of a conversation as a workflow: research, analysis, synthesis, and the section is written. Pure.

The agents talk in their conversation, and the synthesizer, who hears when a stage is over, says so to an instance of
this workflow. Each transition is checked and stands on the log; at the end the histories are held against the table.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hubbub.workflows import State, Workflow, workflow


class Reading:
    """What a conversation goes through."""

    research = State(messages={"researched": "analysis"}, description="researchers read, and publish findings")
    analysis = State(messages={"analysed": "synthesis"}, description="analysts combine the last of them")
    synthesis = State(messages={"written": "done"}, description="the synthesizer writes the section")
    done = State(end=True)


READING: Workflow = workflow(Reading, name="reading")

STAGES = ("researched", "analysed", "written")
"""What is said, in this order."""

PATH = ("research", "analysis", "synthesis", "done")
"""Where that leads."""


def instance_of(topic: str) -> str:
    """The instance of a conversation."""
    return topic.partition("/")[2]


def astray(topics: Sequence[str], histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """What is wrong with the histories: each must go through every stage once, by transitions that the table allows."""
    found = []
    for topic in topics:
        history = histories.get(topic, ())
        at: str | None = None
        for number, change in enumerate(history, start=1):
            legal = READING.allows(change["source"], change["cause"], change["target"])
            if change["n"] != number or change["source"] != at or not legal:
                found.append(f"{topic}: change {number} goes from {change['source']} to {change['target']}, at {at}")
                break
            at = change["target"]
        else:
            if [change["target"] for change in history] != list(PATH):
                found.append(f"{topic}: its stages were {', '.join(change['target'] for change in history) or 'none'}")
    return found
