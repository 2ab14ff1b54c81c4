"""The frames against the contract: every op, every field, by the names that stand on the wire."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_protocol import codec, frames
from hubbub_protocol.errors import BadFrame
from hubbub_protocol.frames import NO_DATA, Frame, From, Hello, Msg, Pub, Sub

# op: (required, optional), as the contract's tables have them
CLIENT = {
    "hello": ("agent", "token groups meta"),
    "pub": ("topic id data", "parent type lc headers ephemeral ttl reply_to n track"),
    "sub": ("topic", "from consumer ack_wait max_unacked max_deliver backoff"),
    "unsub": ("topic", "consumer"),
    "join": ("topic", ""),
    "leave": ("topic", ""),
    "ack": ("topic consumer", "seq seqs upto"),
    "nack": ("topic consumer seq", "delay reason"),
    "extend": ("topic consumer seq", ""),
    "term": ("topic consumer seq", "reason"),
    "state": ("topic", "keys match after limit"),
    "change": ("topic id", "set delete expect ttl publish lc"),
    "renew": ("topic keys", ""),
    "get": ("topic", "id seq ancestors"),
    "ping": ("", ""),
}
BROKER = {
    "welcome": ("agent session server heartbeat limits", ""),
    "ok": ("", "rid id topic seq lc dup head next epoch"),
    "err": ("code message", "rid id retry_after url"),
    "msg": ("topic id from ts lc", "seq data parent type headers reply_to ephemeral orphan attempt"),
    "receipt": ("id topic state", "seq consumer by reason ts"),
    "live": ("topic seq", ""),
    "gap": ("topic first last reason", ""),
    "skip": ("topic seq", ""),
    "goaway": ("reason reconnect_after", ""),
    "pong": ("", ""),
}
EXTENSIONS = {
    "hello": {"capabilities", "description", "session", "will"},
    "pub": {"mandatory"},
    "sub": {"exclusive", "here", "ordered", "select", "where"},
    "unsub": {"drain"},
    "ack": {"attempt", "lease"},
    "nack": {"attempt", "lease", "returned"},
    "extend": {"attempt", "lease"},
    "term": {"attempt", "lease"},
    "welcome": {"expires", "inbox", "shards", "ts", "worker", "workers"},
    "change": {"keep"},
    "ok": {"entries", "left", "max_age", "more", "present", "published", "messages", "missing"},
    "err": {"topic", "expect", "consumer", "seq", "key", "expected", "current"},
    "msg": {"consumer", "lease", "made", "track"},
    "live": {"consumer"},
    "gap": {"consumer", "dropped"},
}


def classes() -> dict[str, type[Frame]]:
    found = (value for value in vars(frames).values() if isinstance(value, type) and issubclass(value, Frame))
    return {str(kind.__struct_config__.tag): kind for kind in found if kind is not Frame}


def test_there_is_a_class_for_every_op_and_no_other() -> None:
    assert set(classes()) == set(CLIENT) | set(BROKER)


@pytest.mark.parametrize("op", [*CLIENT, *BROKER])
def test_the_fields_are_those_of_the_contract(op: str) -> None:
    required, optional = (CLIENT | BROKER)[op]
    wanted = set(required.split()) | set(optional.split()) | EXTENSIONS.get(op, set())
    fields = {field.encode_name: field for field in msgspec.structs.fields(classes()[op])}
    assert set(fields) - {"rid"} == wanted - {"rid"}
    must = {name for name, field in fields.items() if field.required}
    assert must == set(required.split()) - {"data"}, "`data` may be left out: a message can be its type and headers"


@pytest.mark.parametrize("op", CLIENT)
def test_every_request_may_carry_a_rid(op: str) -> None:
    assert "rid" in classes()[op].__struct_fields__


@pytest.mark.parametrize("kind", classes().values(), ids=lambda kind: kind.__name__)
def test_frames_are_immutable(kind: type[Frame]) -> None:
    assert kind.__struct_config__.frozen


def test_what_has_its_default_is_not_sent() -> None:
    assert codec.encode(Pub(topic="a/b", id="1")) == b'{"op":"pub","topic":"a/b","id":"1"}'
    assert codec.encode(Sub(topic="a/b")) == b'{"op":"sub","topic":"a/b"}'
    assert codec.encode(frames.Ping()) == b'{"op":"ping"}'
    assert codec.encode(frames.Ok(rid=0, seq=0, head=0, lc=0)) == b'{"op":"ok","rid":0,"seq":0,"lc":0,"head":0}'


def test_python_keywords_have_their_wire_names() -> None:
    assert codec.encode(Sub(topic="a/b", start="all")) == b'{"op":"sub","topic":"a/b","from":"all"}'
    sent = Msg(topic="a/b", id="1", sender="joe", ts=1.5, lc=2)
    assert codec.encode(sent) == b'{"op":"msg","topic":"a/b","id":"1","from":"joe","ts":1.5,"lc":2}'


def test_no_data_is_not_null() -> None:
    without = codec.decode_client(b'{"op":"pub","topic":"a/b","id":"1"}')
    null = codec.decode_client(b'{"op":"pub","topic":"a/b","id":"1","data":null}')
    assert isinstance(without, Pub)
    assert isinstance(null, Pub)
    assert without.data == NO_DATA
    assert bytes(null.data) == b"null"
    assert codec.encode(null).endswith(b'"data":null}')


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists))
def test_user_data_goes_through_byte_by_byte(value: object) -> None:
    text = codec.encode_value(value)
    pub = codec.decode_client(b'{"op":"pub","topic":"a/b","id":"1","headers":{"a":1},"data":' + text + b"}")
    assert isinstance(pub, Pub)
    passed_on = codec.encode(Msg(topic=pub.topic, id=pub.id, sender="joe", ts=0.0, lc=1, data=pub.data))
    assert passed_on.endswith(b'"data":' + text + b"}")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ('"new"', "new"),
        ('"all"', "all"),
        ('{"seq":7}', From(seq=7)),
        ('{"last":7}', From(last=7)),
        ('{"since":7.5}', From(since=7.5)),
        ('{"since":7}', From(since=7.0)),
        ('{"seq":7,"epoch":"e1"}', From(seq=7, epoch="e1")),
        ('{"since":0,"after":{"a/b":3}}', From(since=0.0, after={"a/b": 3})),
    ],
)
def test_the_forms_of_from(text: str, start: str | From) -> None:
    sub = codec.decode_client(b'{"op":"sub","topic":"a/b","from":%b}' % text.encode())
    assert isinstance(sub, Sub)
    assert sub.start == start
    assert codec.decode_client(codec.encode(sub)) == sub


def test_a_misspelt_from_is_refused_instead_of_read_as_new() -> None:
    with pytest.raises(BadFrame, match="sinc"):
        codec.decode_client(b'{"op":"sub","topic":"a/b","from":{"sinc":3}}')


def test_unknown_fields_of_a_frame_are_let_be() -> None:
    assert codec.decode_client(b'{"op":"hello","agent":"joe","colour":"red"}') == Hello(agent="joe")
