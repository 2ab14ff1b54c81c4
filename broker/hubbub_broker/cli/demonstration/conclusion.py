"""From what everyone wrote down to the figures and the report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .assignment import EDITOR, Result
from .audit import EVIDENCE_MAX, Verdict, audit
from .contents import Section
from .corpus import Corpus
from .latency import Outage, Sample, by_stretch
from .options import Options
from .outcome import Crash, Outcome, size_of
from .plan import Conversation
from .report import render
from .stages import astray
from .tamper import TAMPERS
from .witness import Statement


@dataclass(frozen=True, slots=True)
class Course:
    """What happened when, by the clock of latencies."""

    started: float
    """The command."""
    began: float
    """The conversations."""
    ended: float
    """The last delivery that was waited for."""
    killed: float | None
    listening: float
    concluded: float


@dataclass(frozen=True, slots=True)
class Records:
    """What everyone wrote down."""

    results: Sequence[Result]
    samples: Sequence[Sample]
    replay: Sequence[Statement]


def conclude(
    options: Options, corpus: Corpus, conversations: Sequence[Conversation], course: Course, records: Records
) -> tuple[Outcome, Verdict, str]:
    """The figures, the verdict behind them, and the report."""
    verdict = _count(options, conversations, records)
    sections = {topic: section for result in records.results for topic, section in result["sections"].items()}
    histories = {topic: history for result in records.results for topic, history in result["stages"].items()}
    wrong = astray([conversation.topic for conversation in conversations], histories)
    verdict.evidence += wrong[: EVIDENCE_MAX - len(verdict.evidence)]
    crash, outage = _crash(course, max(result["online_at"] for result in records.results))
    outcome = Outcome(
        agents=options.agents,
        conversations=len(conversations),
        files=len(corpus.files),
        text_bytes=corpus.size,
        pieces=sum(conversation.pieces for conversation in conversations),
        planned=sum(conversation.messages for conversation in conversations),
        messages=verdict.claims,
        deliveries=verdict.deliveries,
        replayed=verdict.replayed,
        work=course.ended - course.began,
        total=course.concluded - course.started,
        latency=by_stretch(records.samples, outage),
        crash=crash,
        reconnects=_stat(records, "reconnects"),
        resent=_stat(records, "retried"),
        suppressed=sum(result["repeated"] for result in records.results),
        dropped_copies=_stat(records, "duplicates"),
        anomalies=verdict.anomalies,
        transitions=sum(len(history) for history in histories.values()),
        astray=len(wrong),
        unfinished=sum(conversation.topic not in sections for conversation in conversations),
        report=str(options.report),
    )
    ordered = [sections[conversation.topic] for conversation in conversations if conversation.topic in sections]
    return outcome, verdict, _report(outcome, corpus, ordered)


def _count(options: Options, conversations: Sequence[Conversation], records: Records) -> Verdict:
    statements = [statement for result in records.results for statement in result["statements"]]
    claims = [claim for result in records.results for claim in result["claims"]]
    if options.tamper is not None:
        TAMPERS[options.tamper](max(statements, key=lambda statement: len(statement["seqs"])))
    return audit(statements, claims, records.replay, list(_expected(conversations)))


def _expected(conversations: Sequence[Conversation]) -> Iterator[tuple[str, str]]:
    """Who must have heard what."""
    for conversation in conversations:
        for member in (*conversation.members, EDITOR):
            yield member, conversation.topic


def _crash(course: Course, online_at: float) -> tuple[Crash | None, Outage | None]:
    if course.killed is None:
        return None, None
    recovered = max(online_at, course.listening)
    since = course.began
    return (
        Crash(course.killed - since, course.listening - since, recovered - since),
        Outage(course.killed, recovered),
    )


def _stat(records: Records, name: str) -> int:
    return sum(result["stats"].get(name, 0) for result in records.results)


def _report(outcome: Outcome, corpus: Corpus, sections: Sequence[Section]) -> str:
    how = (
        f"{outcome.agents:,} agents in {outcome.conversations:,} conversations read {size_of(outcome.text_bytes)} of "
        f"text in {outcome.pieces:,} pieces: researchers published what they found, analysts combined what they heard, "
        "and the synthesizer of each conversation wrote its section from that. Terms, sentences and definitions are "
        "found by counting, not by a language model."
    )
    crash = (
        f" The broker was killed {outcome.crash.killed:.1f} seconds into it, and started again."
        if outcome.crash is not None
        else ""
    )
    count = (
        f"{outcome.messages:,} messages were published and {outcome.deliveries:,} deliveries handled.{crash} "
        f"Counted by the agents: {outcome.anomalies}."
    )
    return render(f"What stands in {corpus.folder.name}", [how, count], sections)
