"""What an agent counted. Plain integers that hot code increments; read them whenever you like."""

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Stats:
    """Counts since the agent was made."""

    published: int = 0
    """Messages accepted into the outbox, durable and ephemeral."""
    confirmed: int = 0
    """Publishes that the broker answered `ok`."""
    rejected: int = 0
    """Publishes that the broker refused for good."""
    retried: int = 0
    """Times a publish was sent again, after an `err` or a lost connection."""
    expired: int = 0
    """Messages whose time-to-live ended in the outbox."""
    dropped: int = 0
    """Ephemeral messages that were dropped because the broker was away or the outbox full."""
    received: int = 0
    """Messages handed to subscriptions (once for each wire subscription)."""
    duplicates: int = 0
    """Messages that came again and were dropped, by their seq or (once for each subscription) by their id."""
    local: int = 0
    """Messages handed over in local-only mode."""
    gaps: int = 0
    """Gaps that subscriptions were told of."""
    suspensions: int = 0
    """Times a subscription left the wire because its reader was behind."""
    connections: int = 0
    """Connections that were welcomed, side links included."""
    reconnects: int = 0
    """Those of them that replaced one which had been lost."""
    bad_frames: int = 0
    """Lines from the broker that could not be read."""
    handler_errors: int = 0
    """Exceptions that left a handler."""
    acked: int = 0
    """Messages of consumers whose ack the broker confirmed."""
    nacked: int = 0
    """Messages that a handler failed at, or gave back for later."""
    terminated: int = 0
    """Messages that a handler sent to the dead letters."""
    returned: int = 0
    """Messages that were given back before they were begun."""
    already_done: int = 0
    """Messages that came again after they had been done, and were acked without their handler."""
    extended: int = 0
    """Times the broker confirmed that a message is still this agent's."""
    adopted: int = 0
    """Messages that were delivered again while they were at work here: the work went on."""
    leases_lost: int = 0
    """Messages that were another's, or might have been, before they were done here."""
    conflicts: int = 0
    """Settlements that the broker refused because the message was another's by then."""
    called_off: int = 0
    """Questions that were dropped because whoever asked them gave up."""
    outcomes: int = 0
    """Receipts of what became of published messages."""
    spooled: int = 0
    """Messages written to the spool."""

    def as_dict(self) -> dict[str, int]:
        """All counts by name."""
        return asdict(self)
