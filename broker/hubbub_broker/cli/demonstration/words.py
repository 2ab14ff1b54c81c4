"""Text to terms: the words that say what a text is about."""

import re

from .stop_words import STOP_WORDS

TERM_CHARS_MIN = 3
TERM_CHARS_MAX = 40
"""Longer runs of letters are keys and tables, not words."""

_word = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_hump = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words(text: str) -> list[str]:
    """Every word in lower case, in order. `readLine`, `read_line` and `read line` are the same two words."""
    return [part.lower() for word in _word.findall(text) for part in _hump.split(word)]


def terms(text: str) -> list[str]:
    """The words that carry meaning: neither short nor too frequent in any text, or in any program."""
    return [word for word in words(text) if TERM_CHARS_MIN <= len(word) <= TERM_CHARS_MAX and word not in STOP_WORDS]
