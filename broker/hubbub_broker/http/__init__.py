"""The HTTP doors of the broker: publish, history, what there is, health, metrics, and the reference of all that.

api         what the routes need of a broker: the one seam of this package
refusal     how every refusal looks over HTTP
caller      who calls, and what they may
guard       what a browser's page may not do
body        a request's body, bounded in size and time
models      the JSON of requests and answers, as the reference shows it
publish history catalogue status    the routes, by what they are about
reference   /docs, rendered here: no script and nothing from elsewhere
connection  a connection's limits before anybody is known
app         all of it, as one ASGI application
"""

from .api import AgentInfo, BrokerApi, HistoryPage, PublishRequest, Refused, Route, ShardInfo, StoredLine, TopicEntry
from .app import create_app
from .caller import Caller, FromCaller
from .connection import HttpConnection

__all__ = [
    "AgentInfo",
    "BrokerApi",
    "Caller",
    "FromCaller",
    "HistoryPage",
    "HttpConnection",
    "PublishRequest",
    "Refused",
    "Route",
    "ShardInfo",
    "StoredLine",
    "TopicEntry",
    "create_app",
]
