"""The HTTP doors of the broker: publish, history, what there is, health, metrics, and the reference of all that.

api         what the routes need of a broker: the one seam of this package
refusal     how every refusal looks over HTTP
caller      who calls, and what they may
guard       what a browser's page may not do
body        a request's body, bounded in size and time
models      the JSON of requests and answers, as the reference shows it
publish history stream budget catalogue bus status consumers dead_letters top    the routes, by what they are about
blobs blob_store    those for large bodies, and how these lie in their topics
operator_api operator_models    the seam and the JSON of those for operators
rules rules_api rules_models    policies and schemas: their routes, the seam, and the JSON
state state_api state_models    shared states: their routes, the seam, and the JSON
bus_api     what the routes of the simple bus need of a broker
mail_text   mail as the JSON text that it comes and goes as
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
    StatusApi,
    StoredLine,
    TopicEntry,
)
from .app import create_app, create_side_app
from .bus_api import BusApi, InboxPage, MailRequest, MailSent, Reader, Reading, RegisteredAgent, StreamEvent
from .caller import OPEN_PATHS, Caller, FromCaller, introduce
from .connection import HttpConnection
from .history import render_line
from .operator_api import (
    AgentRow,
    ConsumerInfo,
    ConsumerRow,
    From,
    LetterChoice,
    LetterInfo,
    LetterOutcome,
    LetterPage,
    MemberInfo,
    OperatorApi,
    Spread,
    Top,
)
from .refusal import ELSEWHERE_HEADER, response_to
from .rules import routes as rules_routes
from .rules_api import (
    PoliciesInfo,
    PolicyInfo,
    RulesApi,
    SchemaInfo,
    SettingInfo,
    SkippedInfo,
    VerdictInfo,
)
from .state import routes as state_routes
from .state_api import StateApi

__all__ = [
    "ELSEWHERE_HEADER",
    "OPEN_PATHS",
    "AgentRow",
    "BrokerApi",
    "BudgetEntry",
    "BusApi",
    "Caller",
    "ConsumerInfo",
    "ConsumerRow",
    "From",
    "FromCaller",
    "HistoryPage",
    "HttpConnection",
    "InboxPage",
    "LetterChoice",
    "LetterInfo",
    "LetterOutcome",
    "LetterPage",
    "MailRequest",
    "MailSent",
    "MemberInfo",
    "OperatorApi",
    "PoliciesInfo",
    "PolicyInfo",
    "PublishRequest",
    "Reader",
    "Reading",
    "Refused",
    "RegisteredAgent",
    "Route",
    "RulesApi",
    "SchemaInfo",
    "SessionInfo",
    "SettingInfo",
    "ShardInfo",
    "SkippedInfo",
    "Spread",
    "StateApi",
    "StatusApi",
    "StoredLine",
    "StreamEvent",
    "Top",
    "TopicEntry",
    "VerdictInfo",
    "create_app",
    "create_side_app",
    "introduce",
    "render_line",
    "response_to",
    "rules_routes",
    "state_routes",
]
