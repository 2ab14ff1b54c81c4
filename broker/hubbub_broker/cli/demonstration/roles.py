"""What each kind of agent answers to what it hears. Pure: a message in, messages out.

The researcher is not here: it reads files at its own pace, and answers nothing (see `member`).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, cast

from .analysis import analyse, assess
from .contents import Analysis, Finding, Kind, Section
from .synthesis import draft, synthesize

BATCH = 5
"""Findings that an analyst combines."""

DRAFT_EVERY = 3
"""Analyses after which the synthesizer says how far it is."""


class Heard(NamedTuple):
    """A message of the conversation, as far as a role is concerned."""

    kind: str
    id: str
    sender: str
    data: Mapping[str, Any]


class Post(NamedTuple):
    """A message to be published."""

    kind: Kind
    data: Mapping[str, Any]
    parent: str


class Role(Protocol):
    """Someone who answers."""

    def hear(self, heard: Heard) -> list[Post]:
        """Take a message in, and say what is to be published because of it, in this order."""
        ...


class Analyst:
    """Weighs each finding of its researchers, and combines every few of them."""

    def __init__(self, researchers: frozenset[str]) -> None:
        self._waiting_for = set(researchers)
        self._mine = researchers
        self._known: set[str] = set()
        self._weighed: list[tuple[Finding, float]] = []

    def hear(self, heard: Heard) -> list[Post]:
        """A finding is answered by an assessment, and a batch of them by an analysis."""
        if heard.kind == "task" and not self._mine:
            return [self._combine(heard.id, last=True)]
        if heard.sender not in self._mine:
            return []
        if heard.kind == "finding":
            return self._weigh(cast(Finding, heard.data), heard.id)
        if heard.kind == "done":
            self._waiting_for.discard(heard.sender)
            if not self._waiting_for:
                return [self._combine(heard.id, last=True)]
        return []

    def _weigh(self, finding: Finding, id: str) -> list[Post]:
        assessment = assess(finding, self._known)
        self._known.update(finding["terms"])
        self._weighed.append((finding, assessment["novelty"]))
        posts = [Post("assessment", assessment, id)]
        if len(self._weighed) >= BATCH:
            posts.append(self._combine(id, last=False))
        return posts

    def _combine(self, parent: str, *, last: bool) -> Post:
        weighed, self._weighed = self._weighed, []
        return Post("analysis", analyse(weighed, last=last), parent)


class Synthesizer:
    """Writes a section from the analyses of all analysts."""

    def __init__(self, title: str, analysts: frozenset[str]) -> None:
        self._title = title
        self._waiting_for = set(analysts)
        self._analyses: list[Analysis] = []

    def hear(self, heard: Heard) -> list[Post]:
        """The last analysis is answered by the section, every few before it by a draft."""
        if heard.kind != "analysis":
            return []
        analysis = cast(Analysis, heard.data)
        self._analyses.append(analysis)
        if analysis["last"]:
            self._waiting_for.discard(heard.sender)
        if not self._waiting_for:
            return [Post("section", self._section(), heard.id)]
        if len(self._analyses) % DRAFT_EVERY == 0:
            return [Post("draft", draft(self._analyses), heard.id)]
        return []

    def _section(self) -> Section:
        return synthesize(self._title, self._analyses)


def expected_messages(pieces: int, researchers: int, analysts: int) -> int:
    """How many messages a conversation has when nothing is lost: counted from the rules above, not from a run."""
    shares = [len(range(researcher, pieces, researchers)) for researcher in range(researchers)]
    handled = [sum(shares[analyst::analysts]) for analyst in range(analysts)]
    analyses = sum(found // BATCH + 1 for found in handled)
    drafts = (analyses - 1) // DRAFT_EVERY
    task, section = 1, 1
    return task + pieces + researchers + pieces + analyses + drafts + section
