"""From text to a report, in the demonstration: terms, sentences, definitions, findings, sections."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_broker.cli.demonstration.analysis import analyse, assess
from hubbub_broker.cli.demonstration.contents import Section
from hubbub_broker.cli.demonstration.prose import definitions, sentences
from hubbub_broker.cli.demonstration.report import escape, render, telling
from hubbub_broker.cli.demonstration.research import research, score
from hubbub_broker.cli.demonstration.synthesis import draft, synthesize
from hubbub_broker.cli.demonstration.words import terms, words

PROGRAM = '''
def flush_buffer(stream, *, force=False):
    """Write all pending bytes of the stream to the disk."""
    if not force and stream.clean:
        return None  # nothing to do
    # The buffer is written in one go, because half of a write would
    # leave a file that no reader understands. Callers must hold the lock.
    stream.raw.write(stream.pending)


class Gate(Base):
    """
    A barrier that opens once and stays open.
    """
'''

PAGE = """Broker
======

A broker is a program that passes messages between others. It keeps no opinion of its own about
what they mean; the agents have that. This is the reason for its speed.
"""


# Terms


def test_spelling_makes_no_difference() -> None:
    assert words("readLine read_line READ LINE, read line's") == ["read", "line"] * 2 + [
        "read",
        "line",
        "read",
        "line's",
    ]
    assert words("HTTPServer parseXML") == ["http", "server", "parse", "xml"]


def test_terms_leave_out_what_stands_everywhere() -> None:
    assert terms("If the self.cursor is None, return the cursor of x and " + "y" * 50) == ["cursor", "cursor"]


def test_other_alphabets_have_words() -> None:
    assert terms("Журнал сообщений, größere Nachrichten") == ["журнал", "сообщений", "größere", "nachrichten"]


# Sentences and definitions


def test_sentences_are_found_in_docstrings_and_comments_and_not_in_code() -> None:
    assert sentences(PROGRAM) == [
        "Write all pending bytes of the stream to the disk.",
        "The buffer is written in one go, because half of a write would leave a file that no reader understands.",
        "A barrier that opens once and stays open.",
    ]  # "Callers must hold the lock." is too short to tell anything


def test_a_sentence_needs_a_beginning_and_an_end() -> None:
    assert sentences("went on like this until the piece of text was over\nand no full stop was ever reached") == []


def test_documented_names_are_definitions() -> None:
    assert definitions(PROGRAM, sentences(PROGRAM)) == [
        ("flush_buffer", "Write all pending bytes of the stream to the disk."),
        ("Gate", "A barrier that opens once and stays open."),
    ]


def test_so_is_what_prose_says_a_thing_is() -> None:
    found = definitions(PAGE, sentences(PAGE))
    assert found == [("broker", "a program that passes messages between others.")]
    assert definitions("", ["The reason for this is a story that nobody has told yet."]) == []


@given(st.text(max_size=1500))
def test_any_text_can_be_read(text: str) -> None:
    finding = research("file", 0, text)
    assert all(count > 0 for count in finding["terms"].values())
    assert all(sentence in " ".join(text.split()) or sentence for _, sentence in finding["sentences"])


@pytest.mark.parametrize("text", ["def " + "a" * 50_000, "class A\n" + " \n" * 20_000, "`" * 50_000, "a " * 30_000])
def test_no_text_takes_long(text: str) -> None:
    definitions(text, sentences(text))  # a pattern that backtracks would run into the test's time-out


# Findings, analyses, sections


def test_a_sentence_that_has_the_texts_terms_scores_higher() -> None:
    counts = {"broker": 5, "agent": 3, "weather": 1}
    assert score("The broker answers the agent", counts) > score("The weather is fine today", counts) > 0
    assert score("of the and", counts) == 0


def test_a_finding_counts_its_piece() -> None:
    finding = research("gate.py", 40, PROGRAM)
    assert (finding["file"], finding["start"]) == ("gate.py", 40)
    assert finding["terms"]["stream"] == 5
    assert len(finding["sentences"]) == 2
    assert ("Gate", "A barrier that opens once and stays open.") in finding["definitions"]


def test_an_assessment_says_what_is_new() -> None:
    finding = research("a.txt", 0, "cursor cursor cursor broker")
    assert assess(finding, set()) == {"new": ["cursor", "broker"], "novelty": 1.0}
    assert assess(finding, {"cursor"}) == {"new": ["broker"], "novelty": 0.25}
    assert assess(finding, {"cursor", "broker"}) == {"new": [], "novelty": 0.0}
    assert assess(research("a.txt", 0, ""), set()) == {"new": [], "novelty": 0.0}


def test_an_analysis_adds_its_findings_up() -> None:
    one, two = research("a.txt", 0, "cursor cursor broker"), research("b.txt", 0, "broker log")
    analysis = analyse([(one, 1.0), (two, 0.5)], last=False)
    assert analysis["terms"] == {"cursor": 2, "broker": 2, "log": 1}
    assert analysis["spread"] == {"cursor": 1, "broker": 2, "log": 1}
    assert (analysis["findings"], analysis["files"], analysis["words"]) == (2, ["a.txt", "b.txt"], 5)


def test_a_sentence_of_a_new_finding_comes_first() -> None:
    old = research("a.txt", 0, "The cursor of a reader stays where it is.")
    new = research("b.txt", 0, "The broker of a reader stays where it is.")
    assert analyse([(old, 0.0), (new, 1.0)], last=True)["sentences"][0][1].startswith("The broker")


def test_a_section_is_the_same_whatever_the_order_of_its_analyses() -> None:
    analyses = [
        analyse([(research(f"{name}.txt", 0, text), 1.0)], last=False)
        for name, text in (("a", PROGRAM), ("b", PAGE), ("c", "cursor broker"))
    ]
    section = synthesize("title", analyses)
    again = synthesize("title", analyses[::-1])
    assert (section["findings"], section["files"]) == (3, ["a.txt", "b.txt", "c.txt"])
    assert section["terms"] == again["terms"]
    assert section["sentences"] == again["sentences"]
    assert draft(analyses)["findings"] == 3


# The report


def section(title: str, **counts: int) -> Section:
    return {
        "title": title,
        "findings": 2,
        "files": ["a.txt"],
        "words": 10,
        "terms": dict(counts),
        "spread": dict.fromkeys(counts, 1),
        "sentences": [f"A sentence about {title}."],
        "definitions": [("name", "what it means.")],
    }


def test_what_stands_in_every_section_tells_least() -> None:
    frequency = {"error": 10, "cursor": 1}
    assert telling({"error": 20, "cursor": 5}, frequency, 10) == ["cursor", "error"]


def test_the_report_has_every_section_in_its_order() -> None:
    text = render("All", ["How it was made."], [section("one", cursor=3), section("two", broker=2)])
    assert text.startswith("# All\n\nHow it was made.\n\n## The whole\n")
    assert text.index("## one") < text.index("**cursor** (3 times, in 1 pieces)") < text.index("## two")
    assert "- A sentence about two." in text
    assert "- *name*: what it means." in text
    assert render("All", [], []) == "# All\n\nNo section was received.\n"


def test_text_in_the_report_means_itself() -> None:
    assert escape("a*b_c [d] <e> #f") == r"a\*b\_c \[d\] \<e\> \#f"
    assert escape("call `a_b` or ``c*d``, not e_f") == r"call `a_b` or ``c*d``, not e\_f"
    assert escape("an odd ` mark_") == r"an odd ' mark\_"
