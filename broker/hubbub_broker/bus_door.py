"""The simple bus as the HTTP routes see it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from hubbub_broker.bus import ALL, AgentRecord, Card
from hubbub_broker.http import (
    InboxPage,
    MailRequest,
    MailSent,
    Refused,
    RegisteredAgent,
    StoredLine,
    StreamEvent,
    render_line,
)
from hubbub_broker.log import LogError
from hubbub_broker.shard import Tail, part_of
from hubbub_protocol.codec import encode
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import Gap
from hubbub_protocol.names import check_agent, group_of

from .answering import answering
from .broker import Broker

PATIENCE_SECONDS = 1.0
"""How often a stream looks whether the broker is leaving."""

SIGN_OF_LIFE = 15
"""Silent looks after which a stream says that it is still there: below the idle time-outs of common proxies."""


MARK_PAGE = 1000
MARK_BYTES = 1 << 20
"""Messages, and bytes of them, that are looked through at a time for an id."""


class _Id(msgspec.Struct):
    id: str


_id_of: msgspec.json.Decoder[_Id] = msgspec.json.Decoder(_Id)


class BusDoor:
    """Implements `http.bus_api.BusApi`."""

    def __init__(self, broker: Broker) -> None:
        self.settings = broker.settings
        self._broker = broker
        self._bus = broker.bus
        self._streams = 0

    async def send(self, mail: MailRequest, allow: Callable[[str | None], None]) -> MailSent:
        """Send a mail."""
        with answering():
            allow(None if mail.to == ALL else self.inbox_of(check_agent(mail.to)))
            sent = await self._bus.mail.send(mail.sender, mail.to, mail.data, mail.id, create=mail.create)
        return MailSent(sent.id, sent.to, sent.seq, sent.recipients, sent.dup)

    def inbox_of(self, agent: str) -> str:
        """The topic that is an agent's inbox."""
        return self._bus.inbox_of(agent)

    async def inbox(
        self, agent: str, after: int, limit: int, *, mark: bool, wait: float, group: str | None = None
    ) -> InboxPage:
        """Read what is unread."""
        with answering():
            inbox = self._bus.inbox(agent, group)
            found, remaining = await inbox.read(after, limit, self.settings.max_frame, mark=mark, wait=wait)
        return InboxPage([(unread.seq, StoredLine(unread.line, unread.header_size)) for unread in found], remaining)

    async def mark(self, agent: str, seqs: Sequence[int], ids: Sequence[str]) -> int:
        """Mark messages as read. An id that is not among the unread ones was marked before, or is none.

        Two senders may have used the same id: as often as it is named, the oldest unread message with it is marked. One
        that nobody has read yet is not, and the search ends at what was read.
        """
        with answering():
            inbox = self._bus.inbox(agent)
            wanted = list(seqs)
            left = Counter(ids)
            after = 0
            while left:
                page, _ = await inbox.read(after, MARK_PAGE, MARK_BYTES, mark=False, wait=0.0)
                if not page:
                    break
                for unread in page:
                    header = unread.line[: unread.header_size] if unread.header_size else unread.line
                    id = _id_of.decode(header).id
                    if id in left:
                        wanted.append(unread.seq)
                        left[id] -= 1
                        if not left[id]:
                            del left[id]
                after = page[-1].seq
                await asyncio.sleep(0)  # others have their turn while an id is looked for that is not there
            return await inbox.mark(wanted)

    async def register(
        self, agent: str, group: str | None, capabilities: Sequence[str] | None, description: str | None
    ) -> RegisteredAgent:
        """Register an agent."""
        with answering():
            return self._shown(await self._bus.agents.register(agent, group, Card.of(capabilities, description)))

    async def unregister(self, agent: str) -> None:
        """Forget an agent."""
        with answering():
            if not await self._bus.agents.unregister(agent):
                raise _unknown(agent)

    def registered(self, agent: str) -> RegisteredAgent:
        """One agent."""
        record = self._bus.agents.get(check_agent(agent))
        if record is None:
            raise _unknown(agent)
        return self._shown(record)

    def find(self, capability: str | None, group: str | None) -> Sequence[RegisteredAgent]:
        """The registered agents."""
        agents = self._bus.agents
        found = list(agents) if capability is None else agents.with_capability(capability)
        wanted = (record for record in found if group in (None, record.group))
        return [self._shown(record) for record in sorted(wanted, key=lambda record: record.name)]

    def knows(self, agent: str) -> bool:
        """Whether an agent is registered."""
        return self._bus.agents.get(agent) is not None

    def present(self, topic: str) -> Sequence[str]:
        """Who is in a topic."""
        return self._bus.presence.present(topic)

    async def stream(
        self, topic: str, after: int | None, epoch: str | None, filter: Filter | None = None
    ) -> AsyncIterator[StreamEvent]:
        """A topic's messages, for as long as they are read."""
        limit = self.settings.max_streams
        if self._streams >= limit:
            raise Refused.because(ErrorCode.OVERLOADED, f"{limit} streams are open, the limit (max_streams)", 1.0)
        shard = self._broker.shard_of(group_of(topic))
        found = shard.topic(topic)
        next = found.delivered + 1 if after is None else after + 1
        own = shard.log.epoch
        if epoch not in (None, own):
            next = 1  # another history: all of it is new to this reader
        tail = Tail(found, min(next, found.delivered + 1), shard.readers.follow)
        self._streams += 1
        silent = 0
        try:
            yield StreamEvent(None, "", b"")
            if epoch not in (None, own):
                yield _gap(Gap(topic=topic, first=1, last=max(1, after or 0), reason="reset"), None)
            while not self._broker.sessions.draining:
                try:
                    lines = await tail.read(PATIENCE_SECONDS)
                except LogError as error:
                    yield StreamEvent(None, "error", b'{"message":"the log could not be read"}')
                    raise Refused.because(ErrorCode.INTERNAL, str(error)) from None
                silent = 0 if lines else silent + 1
                for line in lines:
                    if line.gap is not None:
                        yield _gap(Gap(topic=topic, first=line.seq, last=line.last, reason=line.gap), own)
                        continue
                    part = part_of(filter, line.line, line.header_size)
                    if part is not None:
                        id = f"{own}:{line.seq}" if line.seq else None
                        yield StreamEvent(id, "msg", render_line(StoredLine(*part)))
                if silent == SIGN_OF_LIFE:
                    silent = 0
                    yield StreamEvent(None, "", b"")
        finally:
            self._streams -= 1
            tail.close()

    def _shown(self, record: AgentRecord) -> RegisteredAgent:
        online = self._bus.online(record.name)
        return RegisteredAgent(
            record.name,
            record.group,
            record.inbox,
            record.capabilities,
            record.description,
            record.registered,
            self._broker.now() if online else record.seen,
            online,
        )


def _gap(gap: Gap, epoch: str | None) -> StreamEvent:
    return StreamEvent(None if epoch is None else f"{epoch}:{gap.last}", "gap", encode(gap))


def _unknown(agent: str) -> Refused:
    return Refused.because(ErrorCode.NOT_FOUND, f"no agent {agent!r} is registered")
