"""Chains: how far down each message stands among those that caused it, and whether two agents only answer one another.

    m1 <- m2 <- m3 <- m4          each names the one before it as its `parent`
    ann   joe   ann   joe
    0     1     2     3           depth: the parent's + 1
          1     1     2           rally: m4 answers joe's answerer, who answered joe

Everything is carried along the chain, from a message to those that answer it, and nothing is added up over a pair of
agents or a topic: ten thousand questions with one answer each are ten thousand short chains, at any speed.
"""

from hubbub_protocol.errors import ErrorCode

from .denial import Denial, Rule
from .pace import Level, Pace, step

Link = tuple[int, str, str | None, Level | None]
"""What is remembered of a message, for those that will answer it: its depth, its sender, whose message it answered, and
how far the exchange between those two has got. A plain tuple: one is made for every message that names its cause."""

SHALLOW = 3
"""Messages that stand no deeper are only remembered: what has been answered three times is no loop yet, and most honest
traffic stands no deeper."""


def too_deep(limit: int, depth: int, *, mail: bool) -> Denial:
    """Why a message may not stand so deep."""
    anew = (
        "another subject, without `Re:`, and other words; or the header hops 0" if mail else "no parent, header hops 0"
    )
    message = (
        f"this message would be the {depth}th in a chain of answers to answers; the limit here (max_depth) is "
        f"{limit}: end the exchange, or begin a new one ({anew})"
    )
    return Denial(Rule.DEPTH, ErrorCode.LOOP, message, None)


def too_many(limit: int, depth: int) -> Denial:
    """Why a mail to ALL may not come of so many others."""
    message = (
        f"this would be mail {depth} to ALL in a chain in which each led to the next; the limit (broadcast_depth) "
        f"is {limit}: answer its sender alone, or begin something new (another subject, without `Re:`; header hops 0)"
    )
    return Denial(Rule.BROADCAST_DEPTH, ErrorCode.LOOP, message, None)


def link(
    pace: Pace, parent: Link | None, depth: int, sender: str, now: float, topic: str
) -> tuple[Link, Denial | None]:
    """What to remember of a message, if it may pass. A `pace` with a limit of 0 is none.

    Only a strict back-and-forth counts: ann answers joe, who had answered ann. Whoever follows up on a message of its
    own, and whoever answers one message many times, stays where it was.
    """
    if parent is None:
        return (depth, sender, None, None), None
    _, other, answered, rally = parent
    if other == sender or answered != sender or not pace.limit:
        return (depth, sender, other, None), None
    rally, wait = step(pace, rally, now)
    made = (depth, sender, other, rally)
    if not wait:
        return made, None
    what = f"{sender} and {other} only answer one another in {topic}"
    limit = f"{pace.limit} messages in {pace.window:g} s (pingpong_messages, pingpong_window)"
    return made, denial(Rule.PINGPONG, wait, what, limit)


def denial(rule: Rule, wait: float, what: str, limit: str) -> Denial:
    """What `step` says, in words."""
    if wait < float("inf"):
        return Denial(rule, ErrorCode.RATE_LIMITED, f"{what}, more than {limit}: slowed down", wait)
    message = f"{what}, far more than {limit}: stopped; it may go on after a silence as long as that"
    return Denial(rule, ErrorCode.LOOP, message, None)
