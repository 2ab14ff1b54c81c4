from pathlib import Path
from typing import Any

import pytest

from hubbub.workflows import InvalidWorkflow, State, Workflow, workflow

TOML = """
name = "report"
description = "From questions to a page."

[states.research]
handler = "research"
on.done = "writing"
timeout = 600
retries = 2
backoff = [1, 5]
compensate = "forget"

[states.writing]
handler = "capability:write"
each = "research.findings"
on = { done = "review", rejected = "research" }

[states.review]
messages = { approved = "published", refused = "CANCELLED" }
timeout = 86400
on.timeout = "published"

[states.published]
end = true
"""


class Report:
    """From questions to a page."""

    research = State(
        handler="research", on={"done": "writing"}, timeout=600, retries=2, backoff=(1, 5), compensate="forget"
    )
    writing = State(handler="capability:write", each="research.findings", on={"done": "review", "rejected": "research"})
    review = State(
        messages={"approved": "published", "refused": "CANCELLED"}, timeout=86400, on={"timeout": "published"}
    )
    published = State(end=True)


report = workflow(Report, name="report")


def test_a_class_and_a_file_are_two_spellings_of_one_model(tmp_path: Path) -> None:
    path = tmp_path / "other-name.toml"
    path.write_text(TOML, encoding="utf-8")
    loaded = Workflow.load(path)
    assert isinstance(report, Workflow)
    assert loaded == report
    assert loaded.digest == report.digest
    assert Workflow.from_dict(report.as_dict()) == report
    assert (loaded.name, loaded.initial, loaded.description) == ("report", "research", "From questions to a page.")


def test_how_long_what_has_ended_is_kept_is_said_in_both_spellings(tmp_path: Path) -> None:
    path = tmp_path / "report.toml"
    path.write_text("keep = 60\n" + TOML, encoding="utf-8")
    assert Workflow.load(path) == workflow(Report, name="report", keep=60) != report
    assert Workflow.load(path).keep == 60
    with pytest.raises(InvalidWorkflow, match="keep is -1"):
        workflow(Report, keep=-1)


def test_a_file_without_a_name_is_called_as_the_file(tmp_path: Path) -> None:
    path = tmp_path / "poll.toml"
    path.write_text('[states.open]\nmessages.close = "shut"\n[states.shut]\nend = true\n', encoding="utf-8")
    assert Workflow.load(path).name == "poll"


def test_the_table_says_what_goes_without_saying_too() -> None:
    assert {(row.source, row.cause, row.target) for row in report.transitions} == {
        ("research", "done", "writing"),
        ("research", "failed", "FAILED"),
        ("research", "timeout", "FAILED"),
        ("research", "cancel", "CANCELLED"),
        ("writing", "done", "review"),
        ("writing", "rejected", "research"),
        ("writing", "failed", "FAILED"),
        ("writing", "cancel", "CANCELLED"),
        ("review", "message:approved", "published"),
        ("review", "message:refused", "CANCELLED"),
        ("review", "timeout", "published"),
        ("review", "cancel", "CANCELLED"),
    }
    assert report.target("writing", "rejected") == "research"
    assert report.target("published", "done") is None
    assert report.message_types == {"approved", "refused"}
    assert report.handlers == {"research", "capability:write", "forget"}


def test_another_declaration_has_another_digest() -> None:
    fields = report.as_dict()
    fields["states"]["research"]["retries"] = 3
    assert Workflow.from_dict(fields).digest != report.digest


END: dict[str, Any] = {"end": True}
WORK: dict[str, Any] = {"handler": "x", "on": {"done": "z"}}


@pytest.mark.parametrize(
    ("states", "problem"),
    [
        ({}, "it has no states"),
        ({"a": WORK}, "done leads to 'z', which is not a state"),
        ({"a": WORK, "z": END, "b": WORK}, "state b can't be reached from a"),
        (
            {"a": {"handler": "x", "on": {"done": "b"}}, "b": {"handler": "y", "on": {"done": "a"}}},
            "state a: there is no way from it to an end",
        ),
        ({"a": {"messages": {"go": "z"}, "on": {"done": "z"}}, "z": END}, "without a handler only a `timeout`"),
        ({"a": {}, "z": END}, "nothing ever leads on from it"),
        ({"a": {"handler": "x"}, "z": END}, "`on` does not say where to go when that is `done`"),
        ({"a": {**WORK, "on": {"done": "z", "timeout": "z"}}, "z": END}, "there is no timeout"),
        ({"a": {**WORK, "on": {"done": "z", "cancel": "z"}}, "z": END}, "a meaning of its own"),
        ({"a": {**WORK, "timeout": 0}, "z": END}, "timeout is 0"),
        ({"a": {**WORK, "attempt_timeout": -1}, "z": END}, "attempt_timeout is -1"),
        ({"a": {**WORK, "retries": -1}, "z": END}, "retries is -1"),
        ({"a": {**WORK, "backoff": []}, "z": END}, "backoff is one number"),
        ({"a": {**WORK, "handler": ["x", "x"]}, "z": END}, "one handler is named twice"),
        ({"a": {**WORK, "handler": ["x", "y"], "each": "items"}, "z": END}, "`each` goes with one handler"),
        ({"a": {**WORK, "handler": ["x", "y"], "join": 3}, "z": END}, "join is 3: 1 to 2"),
        ({"a": {**WORK, "each": "items", "join": 0}, "z": END}, "join is 0"),
        ({"a": {**WORK, "each": "a..b"}, "z": END}, "names with dots between them"),
        ({"a": {**WORK, "handler": "person:joe"}, "z": END}, "is no handler"),
        ({"a": {**WORK, "compensate": "no way"}, "z": END}, "is no handler"),
        ({"a": {"messages": {"go": "z"}, "retries": 1}, "z": END}, "go with a handler"),
        ({"a": {"messages": {"go": "z"}, "compensate": "x"}, "z": END}, "nothing can be undone"),
        ({"a": WORK, "z": {"end": True, "handler": "x"}}, "an end has no handler"),
        ({"FAILED": WORK, "z": END}, "every workflow has a state of that name"),
        ({"_a": WORK, "z": END}, "a name is 1 to 64"),
        ({"a": {**WORK, "hander": "y"}, "z": END}, "unknown field `hander`"),
        ({"a": {**WORK, "timeout": "soon"}, "z": END}, "$.states[...].timeout"),
    ],
)
def test_what_can_not_be_right_is_refused_at_declaration(states: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidWorkflow) as caught:
        Workflow.from_dict({"name": "w", "states": states})
    assert problem in str(caught.value)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidWorkflow) as caught:
        Workflow.from_dict({"name": "two words", "initial": "q", "states": {"a": WORK, "b": {"timeout": -1}}})
    said = caught.value.problems
    assert len(said) == 4
    assert [word in " ".join(said) for word in ("two words", "initial", "leads to 'z'", "timeout is -1")] == [True] * 4


def test_a_file_that_is_no_toml_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    path.write_text("name = ", encoding="utf-8")
    with pytest.raises(InvalidWorkflow, match="the file is no TOML"):
        Workflow.load(path)


def test_a_class_with_a_mistyped_field_is_refused() -> None:
    class Wrong:
        a = State(handler="x", on={"done": "z"}, retries="3")  # type: ignore[arg-type]
        z = State(end=True)

    with pytest.raises(InvalidWorkflow, match="Expected `int"):
        workflow(Wrong)


def test_what_is_allowed_is_what_the_table_says() -> None:
    assert report.allows(None, "start", "research")
    assert not report.allows(None, "start", "writing")
    assert report.allows("research", "done", "writing")
    assert not report.allows("research", "done", "review")
    assert report.allows("research", "task retry", "research")
    assert not report.allows("research", "pause", "writing")
    assert report.allows("writing", "cancel", "COMPENSATING")
    assert not report.allows("writing", "done", "COMPENSATING")
    assert report.allows("COMPENSATING", "done", "CANCELLED")
    assert report.allows("FAILED", "retry", "research")
    assert not report.allows("CANCELLED", "retry", "research")
