"""The stages of a conversation: held against the table, and found out when they are not as they must be."""

from typing import Any

import pytest

from hubbub.workflows.draft import Step
from hubbub.workflows.instance import Heard
from hubbub.workflows.step import begin, step
from hubbub_broker.cli.demonstration.stages import PATH, READING, STAGES, astray


def history() -> list[dict[str, Any]]:
    """What the workflow itself makes of what is said."""
    taken = begin(READING, "a", {}, now=0.0, by="ann")
    changes = [*taken.changes]
    for said in STAGES:
        decided = step(READING, taken.instance, Heard(type=said, by="ann"), 1.0)
        assert isinstance(decided, Step)
        taken = decided
        changes += taken.changes
    return [{"n": one.n, "source": one.source, "target": one.target, "cause": one.cause} for one in changes]


def test_a_conversation_goes_through_every_stage() -> None:
    assert [change["target"] for change in history()] == list(PATH)
    assert astray(["desk/a"], {"desk/a": history()}) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda changes: [], "its stages were none"),
        (lambda changes: changes[:-1], "its stages were research, analysis, synthesis"),
        (lambda changes: [changes[0], *changes[2:]], "change 2 goes from analysis to synthesis, at research"),
        (lambda changes: [*changes[:2], changes[1], *changes[2:]], "change 3 goes from research to analysis"),
        (lambda changes: [{**changes[0], "target": "synthesis"}, *changes[1:]], "change 1 goes from None to synthesis"),
        (lambda changes: [*changes[:-1], {**changes[-1], "cause": "researched"}], "change 4"),
    ],
)
def test_what_went_another_way_is_found(spoil: Any, said: str) -> None:
    (found,) = astray(["desk/a"], {"desk/a": spoil(history())})
    assert said in found
