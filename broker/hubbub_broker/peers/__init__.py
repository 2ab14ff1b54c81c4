"""The other workers of this broker, as this one reaches them.

link     requests and notes between two processes, over a pair of sockets
peers    all links of a worker: who is there, and what they do for it
remote   a shard of another worker, as far as publishing to it goes
"""

from .link import Handler, Link, Reply
from .peers import Peers
from .remote import RemoteShard, RemoteTopic, Way

__all__ = ["Handler", "Link", "Peers", "RemoteShard", "RemoteTopic", "Reply", "Way"]
