"""How connections come in where there are several workers: sent on to another one, or made known to the register first.

Nothing of this is on the way of a message: a connection is in when its agent is known, and then speaks to its session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from websockets.http11 import Request

from hubbub_broker.access import Access, Denied, Identity, Operation
from hubbub_broker.bus import Card, RegisterCopy
from hubbub_broker.peers import Peers
from hubbub_broker.refusal import Elsewhere, Refusal
from hubbub_protocol.codec import decode_client
from hubbub_protocol.errors import BadName, CloseCode, ProtocolError
from hubbub_protocol.frames import Hello
from hubbub_protocol.names import check_agent, check_group

from .frame_reader import FrameReader
from .intake import Intake

if TYPE_CHECKING:
    from .session import Session

HOSTS_KEPT = 1000
"""`Host` headers for which the workers' addresses are remembered."""


class Entrance:
    """How one connection came in."""

    __slots__ = ("_peers", "on_purpose", "urls")

    def __init__(self, peers: Peers, urls: list[str], *, on_purpose: bool) -> None:
        self._peers = peers
        self.urls = urls
        """The address of each worker, for this client."""
        self.on_purpose = on_purpose
        """Whether the client asked for a group that is here, so that its `groups` don't send it elsewhere."""

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return self._peers.topology.shards

    @property
    def worker(self) -> int:
        """The number of this worker."""
        return self._peers.topology.own

    def url_of(self, worker: int) -> str:
        """The address of a worker, for this client."""
        return self.urls[worker]

    def check_groups(self, groups: Sequence[str]) -> None:
        """See that a client that says hello is at the right worker.

        Raises:
            Elsewhere: none of its groups is here.
        """
        topology = self._peers.topology
        if groups and not self.on_purpose and all(topology.worker_of(group) != topology.own for group in groups):
            raise self._peers.elsewhere(groups[0])


class Gate:
    """Where connections of one worker come in.

    Args:
        peers: the other workers.
        access: who may do what.
        register: the copy of the register; None at the home worker, which has the register itself.
        secure: whether clients come by TLS.
    """

    def __init__(self, peers: Peers, access: Access, register: RegisterCopy | None, *, secure: bool) -> None:
        self.access = access
        self.register = register
        self._peers = peers
        self._secure = secure
        self._urls: dict[str, list[str]] = {}

    def redirect(self, request: Request) -> str | None:
        """Where a handshake belongs that names a group of another worker; None: here.

        A browser's page can't follow a redirect: it is let in, and told `wrong_shard`.
        """
        group = _group_of(request)
        topology = self._peers.topology
        if group is None or "Origin" in request.headers or topology.worker_of(group) == topology.own:
            return None
        query = urlsplit(request.path).query
        return f"{self._urls_for(request)[topology.worker_of(group)]}?{query}"

    def entrance(self, request: Request) -> Entrance:
        """How a connection comes in."""
        return Entrance(self._peers, self._urls_for(request), on_purpose=_group_of(request) is not None)

    def _urls_for(self, request: Request) -> list[str]:
        host = next(iter(request.headers.get_all("Host")), "")
        urls = self._urls.get(host)
        if urls is None:
            if len(self._urls) >= HOSTS_KEPT:  # whoever makes hosts up costs no memory
                self._urls.clear()
            topology = self._peers.topology
            urls = [topology.url(worker, host, secure=self._secure) for worker in range(topology.workers)]
            self._urls[host] = urls
        return urls


def _group_of(request: Request) -> str | None:
    """The group that the address names."""
    found = parse_qs(urlsplit(request.path).query).get("group")
    try:
        return check_group(found[0]) if found else None
    except BadName:
        return None


class Doorkeeper:
    """Makes one connection's agent known before it is let in; meanwhile what the client sends is kept.

    Args:
        gate: where it comes in.
        register: the copy of the register.
        session: what is behind.
        intake: the way to the session.
        reader: what the connection reads with; it feeds the intake itself as soon as the agent is known.
        admit: lets the connection in.
        close: closes it instead.
    """

    def __init__(
        self,
        gate: Gate,
        register: RegisterCopy,
        session: Session,
        intake: Intake,
        reader: FrameReader,
        admit: Callable[[], None],
        close: Callable[[CloseCode, str], None],
    ) -> None:
        self._gate = gate
        self._register = register
        self._session = session
        self._intake = intake
        self._reader = reader
        self._admit = admit
        self._close = close
        self._held: list[tuple[bytes, int]] = []
        """What came, and in how many text frames; 0 for a binary one."""
        self._asking: asyncio.Task[None] | None = None
        reader.deliver_to(self._text, self._binary)

    def begin(self, name: str | None, credential: str | None) -> None:
        """Let the connection in, as soon as whom its handshake names is known."""
        identity = self._identify(credential)
        agent = name or (None if identity is None else identity.name)
        if identity is None or agent is None or not self._may_be(identity, agent):
            self._let_in()  # there is nobody to be made known, or it is turned away in there
            return
        group = next(iter(identity.groups), None)
        self._ask(self._make_known_and_let_in(agent, group))

    async def _make_known_and_let_in(self, agent: str, group: str | None) -> None:
        try:
            await self._register.ensure(agent, group)
        except Refusal as refusal:
            self._close(CloseCode.TRY_AGAIN_LATER, refusal.message[:100])
        else:
            self._let_in()

    def _let_in(self) -> None:
        if not self._session.closed:
            self._admit()
            self._hand_over()

    # Frames ---------------------------------------------------------------------------------------------------------

    def _text(self, payload: bytes, frames: int) -> None:
        self._held.append((payload, frames))
        self._go_on()

    def _binary(self, payload: bytes) -> None:
        self._held.append((payload, 0))
        self._go_on()

    def _go_on(self) -> None:
        """Give the session what is held, up to a `hello` of somebody who has to be made known first."""
        while self._held and self._asking is None and not self._session.closed:
            payload, frames = self._held.pop(0)
            if not frames:
                self._intake.binary(payload)
                continue
            if self._session.agent is not None:
                self._intake.text(payload, frames)
                continue
            line, _, rest = payload.partition(b"\n")
            if rest:
                self._held.insert(0, (rest, max(1, frames - 1)))
            hello = self._unknown(line)
            if hello is None:
                self._intake.text(line)
            else:
                self._ask(self._make_known_and_pass_on(hello, line))
        self._hand_over()

    def _hand_over(self) -> None:
        """Stand aside, once it is known whose connection this is."""
        if self._session.agent is not None and not self._held and self._asking is None:
            self._reader.deliver_to(self._intake.text, self._intake.binary)

    async def _make_known_and_pass_on(self, hello: Hello, line: bytes) -> None:
        group = next(iter(hello.groups or self._groups(hello)), None)
        try:
            await self._register.ensure(hello.agent, group, Card.of(hello.capabilities, hello.description))
        except Refusal as refusal:
            if not self._session.closed:
                self._session.refuse(hello.rid, refusal)
        else:
            if not self._session.closed:
                self._intake.text(line)

    def _unknown(self, line: bytes) -> Hello | None:
        """The `hello` of somebody who may come in, and whom the copy of the register does not have."""
        if b'"hello"' not in line:
            return None
        try:
            hello = decode_client(line)
            if not isinstance(hello, Hello) or self._register.get(check_agent(hello.agent)) is not None:
                return None
            groups = tuple(map(check_group, hello.groups or ()))
            Card.of(hello.capabilities, hello.description)
            if self._session.entrance is not None:
                self._session.entrance.check_groups(groups)
        except (ProtocolError, Refusal, Elsewhere):
            return None  # the session says what is wrong with it
        identity = self._identity(hello)
        if identity is None or not self._may_be(identity, hello.agent):
            return None
        return hello if identity.name is None or set(groups).issubset(identity.groups) else None

    def _identity(self, hello: Hello) -> Identity | None:
        known: Identity | None = self._session.identity
        return self._identify(hello.token) if hello.token or known is None else known

    def _groups(self, hello: Hello) -> Sequence[str]:
        identity = self._identity(hello)
        return () if identity is None else identity.groups

    def _identify(self, credential: str | None) -> Identity | None:
        try:
            return self._gate.access.identify(credential)
        except Denied:
            return None

    def _may_be(self, identity: Identity, agent: str) -> bool:
        return self._gate.access.may(identity, Operation.SPEAK_AS, agent)

    def _ask(self, asking: Coroutine[Any, Any, None]) -> None:
        self._session.stop_reading()
        self._asking = asyncio.get_running_loop().create_task(asking, name="greeting")
        self._asking.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        self._session.resume_reading()
        if not task.cancelled():
            task.result()  # what went wrong here is a bug, and is told
        self._go_on()
