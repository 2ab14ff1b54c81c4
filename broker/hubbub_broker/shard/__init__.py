"""Order and fan-out: the topics of a shard, from a publish to its readers. Start reading at `shard`."""

from .catch_up import CatchUp
from .cursor import Cursor
from .pattern import PatternSubscription
from .publisher import Publisher
from .shard import Shard
from .sink import Sink
from .start import Start
from .topic import Topic

__all__ = ["CatchUp", "Cursor", "PatternSubscription", "Publisher", "Shard", "Sink", "Start", "Topic"]
