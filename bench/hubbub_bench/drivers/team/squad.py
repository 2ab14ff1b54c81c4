"""One process's part of a run: its members connected, let loose, called back, and judged."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic, monotonic_ns

from hubbub_bench.drivers.checker import Checker
from hubbub_bench.drivers.connection import DriverError
from hubbub_bench.drivers.fleet import in_turn
from hubbub_bench.drivers.load import DRAIN_PATIENCE, Verdict
from hubbub_bench.measurement import Conversation
from hubbub_bench.peers import Address
from hubbub_bench.scenario import Team

from .member import Member, Ways
from .outgoing import Outgoing
from .pace import Pace
from .place import Checkers, Place
from .raw import LastRun, RawMember
from .roster import Part, members_of
from .sdk import SdkMember
from .tally import Tally
from .unrest import Unrest

SAMPLE_SECONDS = 0.25
_LOOK_SECONDS = 0.02


@dataclass
class Squad:
    """Made by `gather`; `run` lets it work between the times that are given to it."""

    team: Team
    part: Part
    label: str
    address: Address
    tally: Tally = field(default_factory=Tally)
    members: list[Member] = field(default_factory=list)
    places: dict[int, list[Place]] = field(default_factory=dict)
    """By conversation."""
    outgoing: dict[int, list[Outgoing]] = field(default_factory=dict)
    """Likewise."""

    def topic(self, conversation: int) -> str:
        """A conversation's name, which no other run or process has."""
        group = (conversation * self.team.processes + self.part.number) % self.team.groups
        return f"{self.label}-{group}/conversation-{self.part.number}-{conversation}"

    async def gather(self) -> None:
        """Connect everybody.

        Raises:
            DriverError: if the broker does not want them.
        """
        team, part, tally = self.team, self.part, self.tally
        ways = Ways(self.address, team.durable, team.consumer, team.max_unacked, team.handler)
        last: dict[str, LastRun] = {self.topic(number): LastRun() for number in range(part.conversations)}
        for index in range(part.agents):
            name = f"{self.label}-{part.number}-{index}"
            member = RawMember(ways, tally, name, last) if team.mode == "raw" else SdkMember(ways, tally, name)
            member.slow = index < part.slow
            self.members.append(member)
        for number in range(part.conversations):
            self._fill(number)
        await in_turn(member.join() for member in self.members)

    async def run(self, start: int, record_from: int, record_to: int) -> None:
        """Publish from `start` on, record between the others (ns of the monotonic clock), then let all arrive.

        Raises:
            DriverError: as soon as anything fails.
        """
        team, tally, part = self.team, self.tally, self.part
        tally.record_from, tally.record_to = record_from, record_to
        await self._until(start)
        tally.sending = True
        flows = self._in_turn()
        pace = None
        if team.rate:
            pace = Pace(tally, flows, start=start, rate=part.rate, arrivals=team.arrivals, seed=part.number)
        for one in flows:
            one.fill()
        unrest = Unrest(tally, self.members, churn=part.churn, away=team.away, pause=team.pause)
        try:
            await self._until(record_from)
            begin = tally.sample()
            await self._until(record_to)
            tally.window = (begin, tally.sample())
        finally:
            if pace is not None:
                pace.stop()
            tally.sending = False
            await unrest.stop()
        await self._drain()

    async def close(self) -> None:
        """Hang up."""
        await in_turn(member.close() for member in self.members)

    def verdict(self) -> Verdict:
        """What was wrong, over all conversations."""
        every = self.conversations()
        return Verdict(
            lost=sum(one.lost for one in every),
            duplicated=sum(one.duplicated for one in every),
            out_of_order=sum(one.out_of_order for one in every),
            unanswered=sum(one.unanswered for one in every),
            strays=self.tally.strays,
            gaps=self.tally.gaps,
        )

    def conversations(self) -> list[Conversation]:
        """What the run came to in each."""
        return [self._conversation(number) for number in range(self.part.conversations)]

    def _conversation(self, number: int) -> Conversation:
        sent = {one.id: one.published for one in self.outgoing[number]}
        lost = missed = duplicated = out_of_order = 0
        judged: set[int] = set()
        for place in self.places[number]:
            missing = 0
            for flow, checker in place.checkers.items():
                if id(checker) in judged:
                    continue  # shared among members
                judged.add(id(checker))
                missing += checker.lost(sent[flow])
                duplicated += checker.duplicated
                out_of_order += checker.out_of_order if place.in_order else 0
            forgiven = 0 if self.team.durable else missing if place.excused else min(missing, place.told)
            missed += forgiven
            lost += missing - forgiven
        return Conversation(
            topic=self.topic(number),
            published=sum(sent.values()),
            delivered=sum(place.count for place in self.places[number]),
            lost=lost,
            duplicated=duplicated + sum(one.answered.duplicated for one in self.outgoing[number]),
            out_of_order=out_of_order,
            unanswered=sum(one.answered.lost(one.published) for one in self.outgoing[number]),
            missed=missed,
        )

    def _fill(self, number: int) -> None:
        team = self.team
        members = [self.members[at] for at in members_of(number, team.members, self.part.agents)]
        speakers = members[: team.publishers or len(members)]
        first = number * team.members
        flows = range(first, first + len(speakers))
        shared: Checkers = {flow: Checker() for flow in flows}
        payloads = (team.payload,) if isinstance(team.payload, int) else tuple(team.payload)
        self.places[number], self.outgoing[number] = [], []
        for at, member in enumerate(members):
            checkers = shared if team.consumer == "shared" else {flow: Checker() for flow in flows}
            place = Place(self.tally, self.topic(number), checkers, in_order=_keeps_order(team))
            place.slow = member.slow
            member.places.append(place)
            self.places[number].append(place)
            if at < len(speakers):
                one = Outgoing(
                    self.tally,
                    first + at,
                    len(member.places) - 1,
                    member.publish,
                    payloads=payloads,
                    window=team.window,
                )
                one.timed = not member.slow
                member.outgoing.append(one)
                self.outgoing[number].append(one)

    def _in_turn(self) -> list[Outgoing]:
        """Everything that publishes, so that neighbours belong to different conversations."""
        deepest = max(len(flows) for flows in self.outgoing.values())
        return [flows[at] for at in range(deepest) for flows in self.outgoing.values() if at < len(flows)]

    async def _until(self, at: int) -> None:
        """Wait for a moment, noting on the way how far everything is."""
        while (left := (at - monotonic_ns()) / 1e9) > 0:
            await asyncio.sleep(min(left, SAMPLE_SECONDS))
            self.tally.check()
            self.tally.sample()

    async def _drain(self) -> None:
        """Wait until everything is answered and delivered, or nothing more comes."""
        tally = self.tally
        quiet_since = monotonic()
        before = (-1, -1)
        while not self._complete() and monotonic() - quiet_since < DRAIN_PATIENCE:
            now = (tally.acked, tally.delivered)
            if now != before:
                before, quiet_since = now, monotonic()
            await asyncio.sleep(_LOOK_SECONDS)
            tally.check()
        try:
            await in_turn(member.settle() for member in self.members)  # a duplicate may come after all the others
        except TimeoutError:
            raise DriverError("the broker does not answer any more") from None
        tally.check()
        tally.sample()

    def _complete(self) -> bool:
        return all(
            not one.answered.lost(one.published) for flows in self.outgoing.values() for one in flows
        ) and not any(one.lost for one in self.conversations())


def _keeps_order(team: Team) -> bool:
    """Whether order is promised: not where members share the work, nor where the SDK runs handlers side by side."""
    return team.consumer == "none" or (team.consumer == "own" and team.mode == "raw")
