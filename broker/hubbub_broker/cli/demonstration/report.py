"""The sections of all conversations become one report, in Markdown."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from .contents import Section

SECTION_TERMS = 8
OVERALL_TERMS = 20

_marks = re.compile(r"([\\*_\[\]<>|#])")
_code = re.compile(r"(`+[^`]*`+)")


def render(title: str, preface: Sequence[str], sections: Sequence[Section]) -> str:
    """The report: what all sections have in common, then each of them.

    Args:
        title: the first heading.
        preface: paragraphs below it.
        sections: in the order in which they are printed.
    """
    frequency = Counter(term for section in sections for term in section["terms"])
    blocks = [f"# {escape(title)}", *preface, *_overview(sections, frequency)]
    for section in sections:
        blocks += _section(section, telling(section["terms"], frequency, len(sections)))
    return "\n\n".join(blocks) + "\n"


def telling(terms: Mapping[str, int], frequency: Mapping[str, int], sections: int) -> list[str]:
    """The terms that tell a section from the others: often in it, and in few of them (tf-idf), best first."""
    weights = {term: count * math.log((1 + sections) / frequency[term]) for term, count in terms.items()}
    return sorted(terms, key=lambda term: (-weights[term], term))[:SECTION_TERMS]


def escape(text: str) -> str:
    """Text that means itself in Markdown. What stands between backticks stays: it is code in most of what is read."""
    if text.count("`") % 2:
        text = text.replace("`", "'")
    parts = _code.split(text)
    parts[::2] = [_marks.sub(r"\\\1", plain) for plain in parts[::2]]
    return "".join(parts)


def _overview(sections: Sequence[Section], frequency: Mapping[str, int]) -> Iterator[str]:
    if not sections:
        yield "No section was received."
        return
    total: Counter[str] = Counter()
    for section in sections:
        total.update(section["terms"])
    everywhere = sorted(frequency, key=lambda term: (-frequency[term], term))[:OVERALL_TERMS]
    yield "## The whole"
    yield (
        "Terms in most of the readings: "
        + ", ".join(
            f"{escape(term)} ({total[term]} times in {frequency[term]} of {len(sections)})" for term in everywhere
        )
        + "."
    )


def _section(section: Section, terms: Sequence[str]) -> Iterator[str]:
    yield f"## {escape(section['title'])}"
    yield f"{section['findings']:,} pieces of text, {section['words']:,} words."
    if terms:
        yield (
            "About: "
            + ", ".join(
                f"**{escape(term)}** ({section['terms'][term]} times, in {section['spread'][term]} pieces)"
                for term in terms
            )
            + "."
        )
    if section["sentences"]:
        yield "\n".join(f"- {escape(sentence)}" for sentence in section["sentences"])
    if section["definitions"]:
        yield "\n".join(f"- *{escape(name)}*: {escape(meaning)}" for name, meaning in section["definitions"])
