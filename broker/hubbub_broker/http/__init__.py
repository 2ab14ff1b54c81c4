"""The HTTP doors of the broker: publish, history, what there is, health, metrics, and the reference of all that.

api         what the routes need of a broker: the one seam of this package
refusal     how every refusal looks over HTTP
caller      who calls, and what they may
guard       what a browser's page may not do
body        a request's body, bounded in size and time
models      the JSON of requests and answers, as the reference shows it
publish history stream budget catalogue bus status    the routes, by what they are about
bus_api     what the routes of the simple bus need of a broker
reference   /docs, rendered here: no script and nothing from elsewhere
connection  a connection's limits before anybody is known
app         all of it, as one ASGI application
"""

from .api import (
    BrokerApi,
    BudgetEntry,
    HistoryPage,
    PublishRequest,
    Refused,
    Route,
    SessionInfo,
    ShardInfo,
    StoredLine,
    TopicEntry,
)
from .app import create_app
from .bus_api import BusApi, InboxPage, MailRequest, MailSent, RegisteredAgent, StreamEvent
from .caller import Caller, FromCaller
from .connection import HttpConnection
from .history import render_line

__all__ = [
    "BrokerApi",
    "BudgetEntry",
    "BusApi",
    "Caller",
    "FromCaller",
    "HistoryPage",
    "HttpConnection",
    "InboxPage",
    "MailRequest",
    "MailSent",
    "PublishRequest",
    "Refused",
    "RegisteredAgent",
    "Route",
    "SessionInfo",
    "ShardInfo",
    "StoredLine",
    "StreamEvent",
    "TopicEntry",
    "create_app",
    "render_line",
]
