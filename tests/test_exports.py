"""The public surface: what other people's code is written against. A change here is a change for them.

Adding a name is a line here and one in CHANGELOG.md; taking one away, or renaming a parameter, breaks somebody.
"""

import importlib
import inspect
from types import ModuleType

import pytest

import hubbub
import hubbub_protocol
from hubbub.errors import HubbubError

SURFACE = """
    Agent Backoff Consumption Delivery Gap InboxReader Mail MemorySeen Message OnFull Outcome Presence PresenceEvent
    Receipt SeenStore SqliteSeen State Stats Will
    Subscription Token Topic Tracked __version__
    Blob BlobCorrupt BlobGone BlobRef CommandRefused Context Order
    AlreadyDone BadRequest BudgetExceeded BufferFull Closed Conflict ConnectionLimit Disconnected Expired Forbidden
    HubbubError InvalidName LeaseLost LoopDetected MessageDecodeError NoResponder NoVectorClock NotAllowed NotFound
    Refused Reject Rejected Replaced RequestTimeout Retry SeenError SpoolError
    TooLarge Unauthorized Undelivered Unencodable WrongProtocol
    Bulkhead BulkheadFull CircuitBreaker CircuitOpen RetryPolicy
    Lease Publication SharedState StateConflictError StateEntry StateValue Transaction
""".split()
"""What `import hubbub` gives."""

METHODS = {
    "Agent": """
        attach blob breaker cancel close consume consumption find_blob flush group_state inbox
        on on_command on_mail on_outcome on_state open pause paused presence publish publish_tracked request resume
        send state submit subscribe topic wait_for
    """,
    "Topic": """
        attach context join lease leave message name presence present publish publish_tracked state submit subscribe
        thread
    """,
    "SharedState": "delete entries get lease modify name page put topic transact transaction update watch",
    "Transaction": "delete expect get publish put",
    "Lease": "held",
    "Publication": "data headers id parent reply_to topic track ttl type",
    "Mail": "ack body local nack reply sender subject term to",
    "Presence": "agents close on_change open ready topic",
    "InboxReader": "caught_up close drain ready unsettled",
    "Consumption": "caught_up close drain name ready topic unsettled",
    "Delivery": "ack attempt consumer data extend lost nack reply term",
    "Tracked": "done is_finished",
    "Outcome": "by consumer id is_final reason seq state topic ts",
    "SqliteSeen": "add close run seen transaction",
    "Message": """
        ancestors attachments attempt blob concurrent_with data ephemeral fetch fetch_to happened_before headers
        hops id lc orphan parent raw reply reply_to
        sender seq topic ts type vector_clock
    """,
    "Receipt": "dup id lc seq topic",
}
"""What the objects that agents hold can do."""

PARAMETERS = {
    "Agent": """
        name group url token meta capabilities description will on_full buffer_messages
        buffer_bytes window receive_messages receive_bytes control dedup_max
        dedup_ttl vector_clocks connect_timeout
    """,
    "Agent.send": "to subject body create options",
    "Agent.inbox": "options",
    "Agent.on_mail": "concurrency options",
    "Will": "topic data delay type ephemeral",
    "Agent.request": "topic data timeout mandatory",
    "Agent.subscribe": "topic start",
    "Agent.consume": "topic consumer start options",
    "Agent.on": "topic start concurrency consumer options",
    "Delivery.nack": "delay reason",
    "Delivery.term": "reason",
    "Consumption.drain": "seconds",
    "Tracked.done": "timeout",
    "Topic.publish": "data options",
    "Topic.subscribe": "start",
    "Message.reply": "data",
    "Agent.group_state": "group",
    "Agent.breaker": "name policy group options",
    "Topic.lease": "name ttl timeout",
    "SharedState.get": "key timeout",
    "SharedState.put": "key value expected_version ttl lease timeout",
    "SharedState.update": "values expected_version delete publish ttl lease timeout",
    "SharedState.delete": "key expected_version lease timeout",
    "SharedState.entries": "pattern timeout",
    "SharedState.watch": "pattern",
    "SharedState.modify": "key change attempts timeout",
    "SharedState.transact": "decide attempts lease timeout",
}
"""Parameters that callers may name, or count on the place of."""


def public(module: ModuleType) -> set[str]:
    return {name for name in vars(module) if not name.startswith("_")}


def test_the_names_are_these_and_all_are_there() -> None:
    assert sorted(hubbub.__all__) == sorted(SURFACE)
    assert all(hasattr(hubbub, name) for name in hubbub.__all__)
    star: dict[str, object] = {}
    exec("from hubbub import *", star)
    assert set(SURFACE) <= set(star)


@pytest.mark.parametrize("name", METHODS)
def test_the_objects_can_do_this(name: str) -> None:
    assert set(METHODS[name].split()) <= set(dir(getattr(hubbub, name)))


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_parameters_have_these_names(name: str) -> None:
    thing = hubbub
    for part in name.split("."):
        thing = getattr(thing, part)
    parameters = [one for one in inspect.signature(thing).parameters if one != "self"]  # type: ignore[arg-type]
    wanted = PARAMETERS[name].split()
    assert [one for one in parameters if one in wanted] == wanted


def test_every_error_of_the_sdk_is_a_hubbub_error_and_says_what_it_means() -> None:
    errors = [
        value
        for value in map(vars(hubbub).get, hubbub.__all__)
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(errors) > 10
    for error in errors:
        assert issubclass(error, HubbubError), error
        assert error.__doc__, error


def test_what_the_sdk_exports_is_documented() -> None:
    for name in hubbub.__all__:
        value = getattr(hubbub, name)
        if inspect.isclass(value) and value.__module__.startswith("hubbub."):
            assert value.__doc__, name
            for method, function in vars(value).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    assert function.__doc__, f"{name}.{method}"


def test_the_protocol_package_says_where_brokers_live() -> None:
    assert public(hubbub_protocol) >= {"DEFAULT_HOST", "DEFAULT_PORT", "PATH", "SUBPROTOCOL"}
    assert hubbub_protocol.PATH == "/v1/ws"
    assert hubbub_protocol.SUBPROTOCOL == "hubbub.v1"
    assert (hubbub_protocol.DEFAULT_HOST, hubbub_protocol.DEFAULT_PORT) == ("127.0.0.1", 8091)


def test_sdk_broker_and_protocol_are_one_version() -> None:
    assert hubbub.__version__ == hubbub_protocol.__version__


def test_the_protocol_has_these_modules() -> None:
    for name in ("causal", "codec", "errors", "frames", "limits", "names"):
        importlib.import_module(f"hubbub_protocol.{name}")
