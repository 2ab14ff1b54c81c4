"""Order and fan-out: the topics of a shard, from a publish to its readers. Start reading at `shard`."""

from . import answers
from .answer import Answer
from .batch import RETRY_SECONDS, Ledger
from .catch_up import CatchUp, is_durable
from .cursor import Cursor
from .filtered import Sieve, cut_line, part_of, view_of
from .pattern import PatternSubscription
from .publisher import Publisher
from .readers import TOPICS_PAGE
from .shard import Shard
from .sink import Sink
from .start import Start
from .tail import Line, Tail
from .topic import Follower, Run, Topic

__all__ = [
    "RETRY_SECONDS",
    "TOPICS_PAGE",
    "Answer",
    "CatchUp",
    "Cursor",
    "Follower",
    "Ledger",
    "Line",
    "PatternSubscription",
    "Publisher",
    "Run",
    "Shard",
    "Sieve",
    "Sink",
    "Start",
    "Tail",
    "Topic",
    "answers",
    "cut_line",
    "is_durable",
    "part_of",
    "view_of",
]
