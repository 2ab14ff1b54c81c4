"""A piece of text becomes a finding: how often which terms stand in it, its best sentences, what it defines."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from .contents import Finding, Scored
from .prose import definitions, sentences
from .words import terms, words

TERMS_MAX = 16
SENTENCES_MAX = 2
DEFINITIONS_MAX = 4


def research(file: str, start: int, text: str) -> Finding:
    """What there is to say of `text`, which stands in `file` from byte `start`."""
    counts = Counter(terms(text))
    prose = sentences(text)
    return {
        "file": file,
        "start": start,
        "words": len(words(text)),
        "terms": dict(counts.most_common(TERMS_MAX)),
        "sentences": best(((score(sentence, counts), sentence) for sentence in prose), SENTENCES_MAX),
        "definitions": definitions(text, prose)[:DEFINITIONS_MAX],
    }


def score(sentence: str, counts: Mapping[str, int]) -> float:
    """How well a sentence stands for its text: how often its terms occur there (Luhn 1958).

    It is damped by the sentence's length, so that the longest one does not always win.
    """
    found = terms(sentence)
    if not found:
        return 0.0
    return round(sum(counts.get(term, 0) for term in set(found)) / math.sqrt(len(found)), 3)


def best(scored: Iterable[Scored], most: int) -> list[Scored]:
    """The `most` best different sentences, best first; equals in the order of the alphabet, so that runs agree."""
    return sorted({(value, text) for value, text in scored}, key=lambda one: (-one[0], one[1]))[:most]
