"""Findings become an analysis, and each finding is weighed when it is heard."""

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from .contents import Analysis, Assessment, Finding
from .research import best

TERMS_MAX = 40
SENTENCES_MAX = 4
DEFINITIONS_MAX = 8
NEW_MAX = 8


def assess(finding: Finding, known: AbstractSet[str]) -> Assessment:
    """What is new in a finding to someone who knows the terms `known`: the terms, and their share (0 to 1)."""
    found = finding["terms"]
    new = [term for term in found if term not in known]
    total = sum(found.values())
    novelty = sum(found[term] for term in new) / total if total else 0.0
    return {"new": new[:NEW_MAX], "novelty": round(novelty, 3)}


def analyse(weighed: Sequence[tuple[Finding, float]], *, last: bool) -> Analysis:
    """What several findings say together. A sentence counts for more where its finding was new (its weight, 0 to 1)."""
    counts: Counter[str] = Counter()
    spread: Counter[str] = Counter()
    meanings: dict[str, str] = {}
    for finding, _ in weighed:
        counts.update(finding["terms"])
        spread.update(finding["terms"].keys())
        for name, meaning in finding["definitions"]:
            meanings.setdefault(name, meaning)
    top = dict(counts.most_common(TERMS_MAX))
    return {
        "findings": len(weighed),
        "files": sorted({finding["file"] for finding, _ in weighed}),
        "words": sum(finding["words"] for finding, _ in weighed),
        "terms": top,
        "spread": {term: spread[term] for term in top},
        "sentences": best(
            (
                (round(value * (1 + weight), 3), text)
                for finding, weight in weighed
                for value, text in finding["sentences"]
            ),
            SENTENCES_MAX,
        ),
        "definitions": list(meanings.items())[:DEFINITIONS_MAX],
        "last": last,
    }
