"""A broker in memory, for tests of agents: the real protocol, no sockets, no files, no threads.

    broker = MemoryBroker()
    async with Agent("joe", group="research", transport=broker.transport()) as joe:
        await joe.topic("conv-42").publish("hello")
        assert [m.id for m in broker.stored("research/conv-42")] == ...
        broker.crash()      # connections break, what was not answered is lost
        broker.start()      # and joe comes back by itself

Every step runs in the event loop in the order in which it was asked for, so a test with a seeded agent and a loop of
its own is reproducible. What it leaves out: authentication beyond a callback, and HTTP. Consumers are there, with all
that an agent can see of them.
"""

from .broker import MemoryBroker, MemoryTransport
from .connection import ClientEnd, Session
from .topic_log import TopicLog
from .verdict import SubscriptionVerdict, Verdict, any_of, refuse_times

__all__ = [
    "ClientEnd",
    "MemoryBroker",
    "MemoryTransport",
    "Session",
    "SubscriptionVerdict",
    "TopicLog",
    "Verdict",
    "any_of",
    "refuse_times",
]
