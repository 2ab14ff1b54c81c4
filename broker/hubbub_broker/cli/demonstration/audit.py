"""The count: what was lost, what came twice, what came out of order. Pure, and the same for everyone.

Three kinds of records are held against one another:

    statements   what each member was handed, in order        (counted by the agents)
    claims        the receipt of each publish                  (seq, or none)
    replay        each conversation read again `from all`, by someone who took no part

In every conversation every member, and the replay, must have each seq from 1 to the head exactly once and in order. The
head is the largest seq that anyone knows of, so a history that the broker cut short is noticed. And all must mean the
same message by the same seq.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .witness import Claims, Statement

REPLAY = "the replay"
"""Who reads everything again."""

EVIDENCE_MAX = 20
"""Cases that are described. All are counted."""


@dataclass(frozen=True, slots=True)
class Anomalies:
    """How often what must not happen happened."""

    lost: int = 0
    """A seq that a member (or the replay) never got; a publish that got no receipt."""
    duplicated: int = 0
    """A copy of a message that was there already: of the same seq, or stored again under another."""
    out_of_order: int = 0
    """A message that came after one of a larger seq; a publisher's message stored behind its later one."""
    conflicting: int = 0
    """A seq by which not all mean the same message, or which no message can have."""

    def __add__(self, other: "Anomalies") -> "Anomalies":
        return Anomalies(
            self.lost + other.lost,
            self.duplicated + other.duplicated,
            self.out_of_order + other.out_of_order,
            self.conflicting + other.conflicting,
        )

    def __bool__(self) -> bool:
        return bool(self.lost or self.duplicated or self.out_of_order or self.conflicting)

    def __str__(self) -> str:
        return (
            f"{self.lost} lost, {self.duplicated} duplicated, {self.out_of_order} out of order, "
            f"{self.conflicting} conflicting"
        )


@dataclass(slots=True)
class Verdict:
    """The count, what it was made from, and the first cases of what is wrong."""

    anomalies: Anomalies = field(default_factory=Anomalies)
    witnesses: int = 0
    deliveries: int = 0
    """Messages that members were handed, copies included. The replay does not count here."""
    claims: int = 0
    replayed: int = 0
    evidence: list[str] = field(default_factory=list)

    def blame(self, who: str, topic: str, found: Anomalies, example: str) -> None:
        """Add what was found with one witness or publisher."""
        if not found:
            return
        self.anomalies += found
        if len(self.evidence) < EVIDENCE_MAX:
            self.evidence.append(f"{who} in {topic}: {found} ({example})")


def audit(
    statements: Sequence[Statement],
    claims: Sequence[Claims],
    replay: Sequence[Statement],
    expected: Iterable[tuple[str, str]] = (),
) -> Verdict:
    """Hold all records against one another.

    `expected` says who must have a record of which topic: without one, all of its messages count as lost for them.
    """
    statements = [*statements, *_empty(statements, expected)]
    replay = [*replay, *_empty(replay, ((REPLAY, topic) for topic in _topics(statements)))]
    verdict = Verdict(
        witnesses=len(statements),
        deliveries=sum(len(statement["seqs"]) for statement in statements),
        claims=sum(len(claim["ids"]) for claim in claims),
        replayed=sum(len(statement["seqs"]) for statement in replay),
    )
    heads = _heads(statements, claims, replay)
    stored = {statement["topic"]: _first_ids(statement) for statement in replay}
    for statement in (*statements, *replay):
        topic = statement["topic"]
        found = examine(statement["seqs"], heads[topic]) + _second_copies(statement)
        found += _disagreements(zip(statement["seqs"], statement["ids"], strict=True), stored.get(topic, {}))
        verdict.blame(statement["agent"], topic, found, describe(statement["seqs"], heads[topic]))
    for claim in claims:
        found, example = _check_claims(claim, stored.get(claim["topic"], {}))
        verdict.blame(claim["agent"], claim["topic"], found, example)
    for topic, found, example in _unclaimed(claims, stored):
        verdict.blame("the broker", topic, found, example)
    return verdict


def examine(seqs: Sequence[int], head: int) -> Anomalies:
    """Whether `seqs`, in the order in which they came, are 1 to `head`, each once and in order.

    Two neighbours that changed places are one message out of order. A copy counts as duplicated, wherever it comes.
    """
    seen: set[int] = set()
    largest = duplicated = out_of_order = impossible = 0
    for seq in seqs:
        if seq < 1:
            impossible += 1
        elif seq in seen:
            duplicated += 1
        else:
            seen.add(seq)
            if seq < largest:
                out_of_order += 1
            else:
                largest = seq
    lost = head - sum(1 for seq in seen if seq <= head)
    return Anomalies(lost, duplicated, out_of_order, impossible)


def describe(seqs: Sequence[int], head: int) -> str:
    """The first place where `seqs` are not 1 to `head`, in words."""
    for place, seq in enumerate(seqs, start=1):
        if seq != place:
            return f"where {place} should be there is {seq}"
    if len(seqs) < head:
        return f"it ends at {len(seqs)} of {head}"
    return "its seqs are in order"


def _heads(statements: Iterable[Statement], claims: Iterable[Claims], replay: Iterable[Statement]) -> Mapping[str, int]:
    heads: dict[str, int] = {}
    for record in (*statements, *claims, *replay):
        heads[record["topic"]] = max(heads.get(record["topic"], 0), max(record["seqs"], default=0))
    return heads


def _topics(statements: Iterable[Statement]) -> list[str]:
    return sorted({statement["topic"] for statement in statements})


def _empty(statements: Iterable[Statement], expected: Iterable[tuple[str, str]]) -> Iterator[Statement]:
    """A record without an entry for everyone who has none."""
    known = {(statement["agent"], statement["topic"]) for statement in statements}
    for agent, topic in expected:
        if (agent, topic) not in known:
            yield {"agent": agent, "topic": topic, "seqs": [], "ids": []}


def _first_ids(statement: Statement) -> dict[int, str]:
    ids: dict[int, str] = {}
    for seq, id in zip(statement["seqs"], statement["ids"], strict=True):
        ids.setdefault(seq, id)
    return ids


def _second_copies(statement: Statement) -> Anomalies:
    """Messages that stand under more than one seq."""
    places = Counter(id for _, id in set(zip(statement["seqs"], statement["ids"], strict=True)))
    return Anomalies(duplicated=sum(count - 1 for count in places.values()))


def _disagreements(pairs: Iterable[tuple[int, str]], stored: Mapping[int, str]) -> Anomalies:
    return Anomalies(conflicting=sum(1 for seq, id in pairs if stored.get(seq, id) != id))


def _check_claims(claim: Claims, stored: Mapping[int, str]) -> tuple[Anomalies, str]:
    """A publisher's receipts: each there, each true, and in the order in which it published."""
    lost = out_of_order = conflicting = largest = 0
    example = ""
    for id, seq in zip(claim["ids"], claim["seqs"], strict=True):
        if not seq:
            lost += 1
            example = example or f"{id} got no receipt"
        elif stored.get(seq, id) != id:
            conflicting += 1
            example = example or f"{id} has the receipt for {seq}, where {stored[seq]} is stored"
        elif seq < largest:
            out_of_order += 1
            example = example or f"{id} is stored as {seq}, behind a later one of its publisher"
        largest = max(largest, seq)
    return Anomalies(lost, 0, out_of_order, conflicting), example


def _unclaimed(
    claims: Iterable[Claims], stored: Mapping[str, Mapping[int, str]]
) -> Iterator[tuple[str, Anomalies, str]]:
    """Stored messages that nobody published."""
    published: dict[str, set[str]] = {}
    for claim in claims:
        published.setdefault(claim["topic"], set()).update(claim["ids"])
    for topic, ids in stored.items():
        strange = [id for id in ids.values() if id not in published.get(topic, ())]
        if strange:
            yield topic, Anomalies(conflicting=len(strange)), f"nobody published {strange[0]}"
