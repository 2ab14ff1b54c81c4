"""Analyses become a section of the report."""

from collections import Counter
from collections.abc import Sequence

from .contents import Analysis, Draft, Section
from .research import best

TERMS_MAX = 60
"""More than are printed: what tells a section from the others is known only when all sections are there."""
SENTENCES_MAX = 4
DEFINITIONS_MAX = 8
DRAFT_TERMS_MAX = 10


def draft(analyses: Sequence[Analysis]) -> Draft:
    """How far the work is."""
    return {
        "analyses": len(analyses),
        "findings": sum(analysis["findings"] for analysis in analyses),
        "terms": [term for term, _ in _sum(analyses, "terms").most_common(DRAFT_TERMS_MAX)],
    }


def synthesize(title: str, analyses: Sequence[Analysis]) -> Section:
    """The section that all analyses of a conversation make together."""
    spread = _sum(analyses, "spread")
    top = dict(_sum(analyses, "terms").most_common(TERMS_MAX))
    meanings: dict[str, str] = {}
    for analysis in analyses:
        for name, meaning in analysis["definitions"]:
            meanings.setdefault(name, meaning)
    chosen = best((one for analysis in analyses for one in analysis["sentences"]), SENTENCES_MAX)
    return {
        "title": title,
        "findings": sum(analysis["findings"] for analysis in analyses),
        "files": sorted({file for analysis in analyses for file in analysis["files"]}),
        "words": sum(analysis["words"] for analysis in analyses),
        "terms": top,
        "spread": {term: spread[term] for term in top},
        "sentences": [text for _, text in chosen],
        "definitions": sorted(meanings.items())[:DEFINITIONS_MAX],
    }


def _sum(analyses: Sequence[Analysis], field: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for analysis in analyses:
        total.update(analysis["terms"] if field == "terms" else analysis["spread"])
    return total
