"""Sentences and definitions in a piece of text, be it a page, a program's comments, or the program itself.

A piece is cut out of a file at line ends, so it may begin in the middle of a docstring: what is prose is judged line by
line, by what stands in the line, not by where it stands.
"""

import re
from collections.abc import Iterable, Iterator

SENTENCE_CHARS_MIN = 40
SENTENCE_CHARS_MAX = 280
SENTENCE_WORDS_MIN = 6
PLAIN_SHARE_MIN = 0.93
"""Share of letters, spaces and plain punctuation from which a line counts as prose."""

_code = re.compile(
    r"from \S+ import|import \w|return\b|raise \w|yield\b|assert\b|del\b|global\b|nonlocal\b|@|>>>|\.\.\.|:param|:type"
)
_sign = re.compile(r"[{}\[\]=<>|\\]|__|\w\(")
_plain = re.compile(r"[^\W\d_]+|[ ,.;:'’()`!?\"-]+")
_frame = "#*/\"' \t|"
_end_of_sentence = re.compile(r"(?<=[.!?])[\"')]?\s+(?=[^\W\d_])")
_documented = re.compile(
    r"^[ \t]*+(?:async[ \t]+def|def|class)[ \t]++(\w++)[^\n]*+\n"  # the line that names it
    r"(?:[ \t]++[^\n\"']*+\n){0,3}?"  # further lines of its signature
    r"[ \t]*+[rRbBuU]?(?:\"\"\"|''')[ \t]*+\n?[ \t]*+([^\n\"']{10,160}?[.])(?=\s|\"|')",
    re.MULTILINE,
)
_copula = re.compile(
    r"(?:(?:A|An|The)\s+)?([^\W\d_][\w'-]*(?:\s+[\w'-]+){0,3}?)\s+(?:is|are|means)\s+((?:a|an|the)\s.{15,200}[.])"
)
_pronouns = frozenset(
    "this that it these those there here which what who he she they we you i one such each both all if when".split()
)


def sentences(text: str) -> list[str]:
    """The whole sentences of prose in a text, in order."""
    return [
        sentence
        for paragraph in _paragraphs(text)
        for sentence in _end_of_sentence.split(paragraph)
        if _is_sentence(sentence)
    ]


def definitions(text: str, prose: Iterable[str]) -> list[tuple[str, str]]:
    """What the text defines: its documented functions and classes, and what its `prose` (the text's own sentences)
    says an X is. Names with meanings.
    """
    found = {name: " ".join(meaning.split()) for name, meaning in _documented.findall(text) if name[0] != "_"}
    for sentence in prose:
        match = _copula.match(sentence)
        if match and _pronouns.isdisjoint(match[1].lower().split()):
            found.setdefault(match[1], match[2])
    return list(found.items())


def _paragraphs(text: str) -> Iterator[str]:
    lines: list[str] = []
    for line in text.splitlines():
        plain = line.strip(_frame)
        if _is_prose(plain):
            lines.append(plain)
        elif lines:
            yield " ".join(lines)
            lines = []
    if lines:
        yield " ".join(lines)


def _is_prose(line: str) -> bool:
    if not line or _sign.search(line) or _code.match(line):
        return False
    return sum(map(len, _plain.findall(line))) >= PLAIN_SHARE_MIN * len(line)


def _is_sentence(text: str) -> bool:
    return (
        SENTENCE_CHARS_MIN <= len(text) <= SENTENCE_CHARS_MAX
        and text[0].isalpha()
        and not text[0].islower()
        and text[-1] in ".!?"
        and len(text.split()) >= SENTENCE_WORDS_MIN
    )
