"""The simple bus as the HTTP routes see it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from hubbub_broker.bus import ALL, AgentRecord, Card, Inbox
from hubbub_broker.http import (
    InboxPage,
    MailRequest,
    MailSent,
    Reader,
    Reading,
    Refused,
    RegisteredAgent,
    StoredLine,
    StreamEvent,
    render_line,
)
from hubbub_broker.log import LogError
from hubbub_broker.shard import Tail, part_of
from hubbub_protocol.causal import HOPS
from hubbub_protocol.codec import encode
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import Gap
from hubbub_protocol.headers import IN_REPLY_TO
from hubbub_protocol.names import check_agent, group_of

from .answering import answering
from .broker import Broker

PATIENCE_SECONDS = 1.0
"""How often a stream looks whether the broker is leaving."""

SIGN_OF_LIFE = 15
"""Silent looks after which a stream says that it is still there: below the idle time-outs of common proxies."""


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
            headers = self._headers_of(mail)
            sent = await self._bus.mail.send(
                mail.sender, mail.to, mail.data, mail.id, create=mail.create, headers=headers
            )
        return MailSent(sent.id, sent.to, sent.seq, sent.recipients, sent.dup)

    def _headers_of(self, mail: MailRequest) -> dict[str, Any]:
        """Its headers, with `in_reply_to` if the sender says what it answers, and with `hops` if it does not say that.

        They are stored with the mail: so a chain goes on where it was, over a restart too, with whoever reads it.
        """
        if mail.in_reply_to is None:
            return dict(mail.headers)
        found: dict[str, Any] = {**mail.headers, IN_REPLY_TO: mail.in_reply_to}
        hops = self._broker.guard.mail.depth_after(mail.sender, mail.in_reply_to)
        return found if hops is None else {HOPS: hops, **found}

    def inbox_of(self, agent: str) -> str:
        """The topic that is an agent's inbox."""
        return self._bus.inbox_of(agent)

    async def inbox(self, reader: Reader, reading: Reading) -> InboxPage:
        """Read what is unread."""
        with answering():
            inbox = self._inbox(reader)
            found = await inbox.read(reading.after, reading.limit, self.settings.max_frame, reading.wait)
            reading.check()  # nothing comes in between from here on: what was found stays this reader's
            shown = [reading.show(unread.seq, StoredLine(unread.line, unread.header_size)) for unread in found]
            if reading.mark:
                await inbox.mark([unread.seq for unread in found])
            return InboxPage(shown, max(0, inbox.unread() - (0 if reading.mark else len(found))))

    async def mark(self, reader: Reader, seqs: Sequence[int], ids: Sequence[str]) -> int:
        """Mark messages as read."""
        with answering():
            inbox = self._inbox(reader)
            return await inbox.mark([*seqs, *await inbox.seqs_of(ids)])

    def _inbox(self, reader: Reader) -> Inbox:
        """The inbox that is read. Only its agent is registered by that: a mistyped name would stay for ever."""
        if reader.itself:
            return self._bus.inbox(reader.agent, reader.group)
        record = self._bus.agents.get(reader.agent)
        if record is None:
            raise _unknown(reader.agent)
        return self._bus.inbox_at(record)

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
        next = min(next, found.delivered + 1)
        tail = Tail(found, next, shard.readers.follow)
        self._streams += 1
        silent = 0
        try:
            here = f"{own}:{next - 1}"  # where to go on, for who is cut off before anything came
            if epoch in (None, own):
                yield StreamEvent(here, "", b"")
            else:
                yield StreamEvent(None, "", b"")
                yield _gap(Gap(topic=topic, first=1, last=max(1, after or 0), reason="reset"), here)
            while not self._broker.sessions.draining:
                try:
                    lines = await tail.read(PATIENCE_SECONDS)
                except LogError as error:
                    yield StreamEvent(None, "error", b'{"message":"the log could not be read"}')
                    raise Refused.because(ErrorCode.INTERNAL, str(error)) from None
                silent = 0 if lines else silent + 1
                for line in lines:
                    if line.gap is not None:
                        gap = Gap(topic=topic, first=line.seq, last=line.last, reason=line.gap)
                        yield _gap(gap, f"{own}:{gap.last}")
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
            record.socket,
        )


def _gap(gap: Gap, id: str) -> StreamEvent:
    return StreamEvent(id, "gap", encode(gap))


def _unknown(agent: str) -> Refused:
    return Refused.because(ErrorCode.NOT_FOUND, f"no agent {agent!r} is registered")
