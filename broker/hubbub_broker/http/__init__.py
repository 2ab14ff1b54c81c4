"""The HTTP doors of the broker: publish, history, what there is, health, metrics, and the reference of all that.

api         what the routes need of a broker: the one seam of this package
refusal     how every refusal looks over HTTP
guard       what a browser's page may not do
body        a request's body, bounded in size and time
models      the JSON of requests and answers, as the reference shows it
publish history budget catalogue status    the routes, by what they are about
reference   /docs, rendered here: no script and nothing from elsewhere
app         all of it, as one ASGI application
"""

from .api import (
    AgentInfo,
    BrokerApi,
    BudgetEntry,
    HistoryPage,
    PublishRequest,
    Refused,
    Route,
    ShardInfo,
    StoredLine,
    TopicEntry,
)
from .app import create_app

__all__ = [
    "AgentInfo",
    "BrokerApi",
    "BudgetEntry",
    "HistoryPage",
    "PublishRequest",
    "Refused",
    "Route",
    "ShardInfo",
    "StoredLine",
    "TopicEntry",
    "create_app",
]
