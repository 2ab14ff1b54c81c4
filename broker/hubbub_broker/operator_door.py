"""The broker as an operator's routes see it: consumers, dead letters, receipts, and who is how fast."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hubbub_broker.consumers import Letter, Outcome, Report, Which, is_internal
from hubbub_broker.http import (
    ConsumerInfo,
    From,
    LetterChoice,
    LetterInfo,
    LetterOutcome,
    LetterPage,
    MemberInfo,
    StoredLine,
    Top,
)
from hubbub_broker.shard import Start
from hubbub_protocol.errors import BadFrame
from hubbub_protocol.frames import Err, Receipt
from hubbub_protocol.frames import From as Beginning
from hubbub_protocol.names import check_group, check_pattern, group_of

from .answering import answering
from .broker import Broker


class OperatorDoor:
    """Implements `http.operator_api.OperatorApi`."""

    def __init__(self, broker: Broker) -> None:
        self.settings = broker.settings
        self._broker = broker

    # Consumers ------------------------------------------------------------------------------------------------------

    def consumer_names(self) -> Sequence[tuple[str, str]]:
        """Topic or pattern, and name, of every consumer, sorted."""
        everyone = (consumer.terms for consumers in self._broker.consumers for consumer in consumers)
        return sorted((terms.topic, terms.name) for terms in everyone if not is_internal(terms.name))

    async def consumer(self, topic: str, name: str) -> ConsumerInfo:
        """One consumer."""
        with answering():
            administration = self._broker.administration_of(group_of(check_pattern(topic)))
            return _consumer(await administration.report(administration.find(topic, name)))

    async def reset_consumer(self, topic: str, name: str, start: From) -> ConsumerInfo:
        """Let it begin again elsewhere."""
        with answering():
            administration = self._broker.administration_of(group_of(check_pattern(topic)))
            return _consumer(await administration.report(await administration.reset(topic, name, _start(start))))

    async def pause_consumer(self, topic: str, name: str, *, paused: bool) -> ConsumerInfo:
        """Give out nothing more, or go on."""
        with answering():
            administration = self._broker.administration_of(group_of(check_pattern(topic)))
            return _consumer(await administration.report(await administration.pause(topic, name, paused=paused)))

    async def remove_consumer(self, topic: str, name: str) -> int:
        """Take it away."""
        with answering():
            administration = self._broker.administration_of(group_of(check_pattern(topic)))
            return await administration.remove(topic, name)

    # Dead letters ---------------------------------------------------------------------------------------------------

    async def letters(self, group: str, choice: LetterChoice, after: int, limit: int) -> LetterPage:
        """Open dead letters."""
        with answering():
            letters = self._broker.consumers_of(check_group(group)).dead_letters
            found, next = await letters.page(group, _which(choice), after, limit)
        return LetterPage([_letter(letter) for letter in found], next)

    async def letter(self, group: str, seq: int) -> LetterInfo:
        """One open dead letter."""
        with answering():
            return _letter(await self._broker.consumers_of(check_group(group)).dead_letters.letter(group, seq))

    async def redrive(self, group: str, choice: LetterChoice, after: int, *, republish: bool) -> LetterOutcome:
        """Give messages back."""
        with answering():
            letters = self._broker.consumers_of(check_group(group)).dead_letters
            return _outcome(await letters.redrive(group, _which(choice), after, republish=republish))

    async def drop(self, group: str, choice: LetterChoice, after: int) -> LetterOutcome:
        """Take letters as handled."""
        with answering():
            letters = self._broker.consumers_of(check_group(group)).dead_letters
            return _outcome(await letters.drop(group, _which(choice), after))

    # Looking --------------------------------------------------------------------------------------------------------

    def receipts(self, id: str) -> Sequence[tuple[str, Receipt]]:
        """What became of the messages with this id."""
        found = [item for consumers in self._broker.consumers for item in consumers.receipts.of(id)]
        return sorted(found, key=lambda item: (item[0], item[1].topic, item[1].consumer or ""))

    async def top(self, limit: int) -> Top:
        """Who is how fast."""
        return await self._broker.watch.top(limit)


def _start(given: From) -> Start:
    try:
        return Start.parse(given if isinstance(given, str) else msgspec.convert(given, Beginning))
    except msgspec.ValidationError as error:
        raise BadFrame(f"`from`: {error}") from None


def _which(choice: LetterChoice) -> Which:
    return Which(None if choice.seqs is None else tuple(choice.seqs), choice.consumer, choice.topic)


def _consumer(report: Report) -> ConsumerInfo:
    terms = report.terms
    return ConsumerInfo(
        topic=terms.topic,
        name=terms.name,
        created=terms.created,
        start=terms.start if terms.start in ("new", "all") else f"{terms.start} {terms.number:.15g}",
        max_deliver=terms.max_deliver,
        backoff=terms.backoff,
        exclusive=terms.exclusive,
        ordered=terms.ordered,
        paused=terms.paused,
        members=[MemberInfo(*member) for member in report.members],
        lag=report.standing.lag,
        topics=report.standing.topics,
        oldest=report.standing.oldest,
        outstanding=report.outstanding,
        waiting=report.waiting,
        acked=report.acked,
        redelivered=report.redelivered,
        dead=report.dead,
    )


def _letter(letter: Letter) -> LetterInfo:
    about = letter.about
    return LetterInfo(
        seq=letter.seq,
        ts=letter.ts,
        reason=about.reason,
        attempts=about.attempts,
        first_failure=about.first_failure,
        last_failure=about.last_failure,
        topic=about.topic,
        message=about.seq,
        consumer=about.consumer,
        consumer_topic=about.consumer_topic,
        id=about.said("id") or "",
        sender=about.said("from") or "",
        line=StoredLine(letter.line, letter.header_size),
    )


def _outcome(outcome: Outcome) -> LetterOutcome:
    refusals = [
        (seq, Err(code=refusal.code, message=refusal.message, retry_after=refusal.retry_after))
        for seq, refusal in outcome.refusals
    ]
    return LetterOutcome(outcome.done, outcome.already, outcome.refused, refusals, outcome.next)
