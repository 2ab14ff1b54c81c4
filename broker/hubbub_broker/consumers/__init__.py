"""Consumers: positions that the broker keeps, shared by connections, with leases. What they promise: docs/consumers.md.

consumers    those of a shard: joining, finding, deadlines, and how it all gets into the log
consumer     gives messages out and takes settlements     pool      which member is next
place        one topic of a consumer: its cursor          settled   what it is done with
settling     who may settle what                failures  what has failed in a place
deadlines    what becomes due by itself
member       one connection's share                       lease     one delivery
burials      dead letters                                 receipts  what became of tracked messages
terms position                                            as they stand in the log
latency      who is how fast                      departures  who was here
administration  what operators ask and change     dead_letters  what they do about those
census       how far behind each one is           activity  how an agent is doing
"""

from .activity import Limits, Sight, State, state_of
from .administration import Administration, MemberReport, Report, outstanding, waiting
from .census import Census, Standing
from .confirm import Confirm
from .consumer import EXPIRED, Consumer
from .consumers import Consumers
from .dead_letters import About, DeadLetters, Letter, Outcome, Unhandled, Which
from .latency import Latency, Pace, Waits, Work
from .lease import Lease
from .member import Member, Wish
from .metrics import ConsumerCollector, ConsumerFigures
from .place import Place
from .terms import Terms, is_internal

__all__ = [
    "EXPIRED",
    "About",
    "Administration",
    "Census",
    "Confirm",
    "Consumer",
    "ConsumerCollector",
    "ConsumerFigures",
    "Consumers",
    "DeadLetters",
    "Latency",
    "Lease",
    "Letter",
    "Limits",
    "Member",
    "MemberReport",
    "Outcome",
    "Pace",
    "Place",
    "Report",
    "Sight",
    "Standing",
    "State",
    "Terms",
    "Unhandled",
    "Waits",
    "Which",
    "Wish",
    "Work",
    "is_internal",
    "outstanding",
    "state_of",
    "waiting",
]
