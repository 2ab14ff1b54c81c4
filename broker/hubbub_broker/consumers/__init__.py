"""Consumers: positions that the broker keeps, shared by connections, with leases. What they promise: docs/consumers.md.

consumers    those of a shard: joining, finding, deadlines, and how it all gets into the log
consumer     gives messages out and takes settlements     pool      which member is next
place        one topic of a consumer: its cursor          settled   what it is done with
member       one connection's share                       lease     one delivery
burials      dead letters                                 receipts  what became of tracked messages
terms position                                            as they stand in the log
latency      who is how fast
"""

from .confirm import Confirm
from .consumer import EXPIRED, Consumer
from .consumers import Consumers, Wish
from .latency import Latency, Pace, Work
from .member import Member
from .metrics import ConsumerCollector, ConsumerFigures
from .place import Place
from .terms import Terms

__all__ = [
    "EXPIRED",
    "Confirm",
    "Consumer",
    "ConsumerCollector",
    "ConsumerFigures",
    "Consumers",
    "Latency",
    "Member",
    "Pace",
    "Place",
    "Terms",
    "Wish",
    "Work",
]
