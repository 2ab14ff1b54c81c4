"""What stands in the messages of a conversation: the `data` of each type.

    task          the synthesizer opens the conversation: which text is to be read
    finding       a researcher, for each piece of text           (parent: the task)
    done          a researcher has read all its pieces           (parent: the task)
    assessment    an analyst, for each finding: what is new      (parent: the finding)
    analysis      an analyst, for every few findings             (parent: the last of them)
    draft         the synthesizer, for every few analyses        (parent: the last of them)
    section       the synthesizer, at the end: the result        (parent: the last analysis)

Every message says `at` when it was published, by the clock of its publisher (`clock.now`).
"""

from typing import Literal, TypedDict, get_args

Kind = Literal["task", "finding", "done", "assessment", "analysis", "draft", "section"]

KINDS: tuple[str, ...] = get_args(Kind)
"""All of them."""

Definition = tuple[str, str]
"""A name and what it means."""

Scored = tuple[float, str]
"""A sentence, behind how well it stands for its text."""


class Span(TypedDict):
    """A stretch of a file, in bytes."""

    file: str
    start: int
    end: int


class Task(TypedDict):
    """Which text, in pieces of how many bytes; researcher number r of n reads every n-th piece from the r-th."""

    title: str
    spans: list[Span]
    piece_bytes: int


class Finding(TypedDict):
    """What a researcher found in one piece of text."""

    file: str
    start: int
    words: int
    terms: dict[str, int]
    sentences: list[Scored]
    definitions: list[Definition]


class Assessment(TypedDict):
    """What an analyst thinks of a finding: the terms in it that are new to the analyst, and their share."""

    new: list[str]
    novelty: float


class Analysis(TypedDict):
    """What an analyst makes of several findings."""

    findings: int
    files: list[str]
    words: int
    terms: dict[str, int]
    spread: dict[str, int]
    """In how many of the findings each term was."""
    sentences: list[Scored]
    definitions: list[Definition]
    last: bool
    """Whether nothing more will come from this analyst."""


class Draft(TypedDict):
    """How far the synthesizer is."""

    analyses: int
    findings: int
    terms: list[str]


class Section(TypedDict):
    """The result of a conversation."""

    title: str
    findings: int
    files: list[str]
    words: int
    terms: dict[str, int]
    spread: dict[str, int]
    sentences: list[str]
    definitions: list[Definition]
