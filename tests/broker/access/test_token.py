"""Signed tokens: what is taken, and everything that is not."""

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from harness.tokens import SECRET, claims, key
from hubbub_broker.access import Identity, KnownBy
from hubbub_broker.access.key import ALGORITHMS, Key
from hubbub_broker.access.token import BadToken, sign, verify

NOW = 1_800_000_000.0
GOOD: dict[str, Any] = {"sub": "ann", "exp": NOW + 60}


def check(text: str, *keys: Key, now: float = NOW, leeway: float = 5.0, audience: str = "") -> Identity:
    return verify(text, {one.id: one for one in keys}, now=now, leeway=leeway, audience=audience, max_bytes=8192)


def refused(text: str, *keys: Key, **more: Any) -> str:
    with pytest.raises(BadToken) as caught:
        check(text, *keys, **more)
    assert len(text) < 20 or text[:20] not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_a_key_signed_it_verifies(algorithm: str) -> None:
    ours, another = key("k1", algorithm), key("k1", algorithm, b"another secret of thirty-two byt")
    text = sign(
        ours, {**GOOD, "groups": ["g", "g"], "pub": ["g/*"], "subscribe": ["g/**"], "metrics": True, "unknown": 1}
    )
    assert check(text, ours) == Identity(
        KnownBy.TOKEN, "ann", ("g",), ("g/*",), ("g/**",), metrics=True, expires=NOW + 65, key=ours.fingerprint
    )
    assert refused(text, another) == "signature"
    assert refused(text[:-4] + "AAAA", ours) in ("signature", "malformed")


def test_what_is_left_out_is_not_granted() -> None:
    identity = check(sign(key(), GOOD), key())
    assert (identity.groups, identity.publish, identity.subscribe) == ((), (), ())
    assert not identity.admin
    assert not identity.metrics
    assert not identity.trusted


# The algorithm is the key's


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_a_public_key_is_no_secret(algorithm: str) -> None:
    ours = key("k1", algorithm)
    for form in (serialization.Encoding.PEM, serialization.Encoding.DER):
        public = ours.verifier.public_bytes(form, serialization.PublicFormat.SubjectPublicKeyInfo)
        assert refused(by_hand({"alg": "HS256", "kid": "k1"}, GOOD, public), ours) == "signature"


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "None"}, {"alg": "HS384"}, {"alg": "RS256"}, {}])
def test_the_token_does_not_choose_the_algorithm(header: dict[str, str]) -> None:
    assert refused(by_hand({**header, "kid": "k1"}, GOOD, SECRET), key()) in ("signature", "malformed")
    unsigned = by_hand({**header, "kid": "k1"}, GOOD, SECRET).rpartition(".")[0] + "."
    assert refused(unsigned, key()) in ("signature", "malformed")


def test_a_critical_extension_that_is_unknown_is_refused() -> None:
    text = by_hand({"alg": "HS256", "kid": "k1", "crit": ["x"], "x": 1}, GOOD, SECRET)
    assert refused(text, key()) == "malformed"


def by_hand(header: dict[str, Any], payload: dict[str, Any], secret: bytes) -> str:
    import hashlib
    import hmac

    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in (header, payload)]
    signed = b".".join(parts)
    signature = base64.urlsafe_b64encode(hmac.digest(secret, signed, hashlib.sha256)).rstrip(b"=")
    return (signed + b"." + signature).decode()


def test_made_by_hand_is_as_good() -> None:
    assert check(by_hand({"alg": "HS256", "kid": "k1"}, GOOD, SECRET), key()).name == "ann"


# Which key


def test_the_key_is_the_one_that_the_token_names() -> None:
    old, new = key("old"), key("new", secret=b"the new secret of thirty-two byt")
    assert check(sign(old, GOOD), old, new).key == old.fingerprint
    assert check(sign(new, GOOD), old, new).key == new.fingerprint
    assert refused(sign(old, GOOD), new) == "unknown_key"
    assert refused(sign(Key("new", "HS256", old.material, ""), GOOD), old, new) == "signature"


def test_without_a_key_id_there_has_to_be_one_key() -> None:
    one, two = key("one"), key("two")
    nameless = sign(Key(None, "HS256", one.material, ""), GOOD)
    assert check(nameless, one).name == "ann"
    assert refused(nameless, one, two) == "unknown_key"
    assert refused(nameless) == "unknown_key"


# Time


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"exp": NOW + 1}, None),
        ({"exp": NOW - 4.9}, None),
        ({"exp": NOW - 5}, "expired"),
        ({"exp": NOW - 1e9}, "expired"),
        ({"exp": NOW + 9, "nbf": NOW + 5}, None),
        ({"exp": NOW + 9, "nbf": NOW + 5.1}, "not_yet"),
        ({"iat": NOW + 1e9}, None),
        ({"aud": ["somebody"]}, None),
    ],
)
def test_its_time(more: dict[str, Any], reason: str | None) -> None:
    text = sign(key(), {**GOOD, **more})
    if reason is None:
        assert check(text, key()).name == "ann"
    else:
        assert refused(text, key()) == reason


def test_an_audience_that_is_asked_for_has_to_be_named() -> None:
    for aud in ("bus", ["x", "bus"]):
        assert check(sign(key(), {**GOOD, "aud": aud}), key(), audience="bus").name == "ann"
    for wrong in ({}, {"aud": "busy"}, {"aud": ["x"]}, {"aud": {"bus": 1}}, {"aud": 1}):
        assert refused(sign(key(), {**GOOD, **wrong}), key(), audience="bus") == "audience"


# What it says is what it gives

NAMES = st.sampled_from(["g", "g/c", "g/*", "g/**", "**", "*", "g/@ann", "a b", "", "*/x", "g*"])
LISTS = st.lists(NAMES | st.integers(), max_size=3) | NAMES | st.none()


@given(
    st.fixed_dictionaries(
        {"sub": st.sampled_from(["ann", "joe", "a/b", "", 1, None]), "exp": st.just(NOW + 60)},
        optional={
            "groups": LISTS,
            "pub": LISTS,
            "subscribe": LISTS,
            "publish": LISTS,  # no claim of ours
            "scope": LISTS,
            "admin": st.sampled_from([True, False, "true", 1, None]),
            "metrics": st.sampled_from([True, False, "yes", 0]),
        },
    )
)
def test_a_token_gives_what_it_says_and_nothing_else(says: dict[str, Any]) -> None:
    text = by_hand({"alg": "HS256", "kid": "k1"}, says, SECRET)
    try:
        identity = check(text, key())
    except BadToken:
        assert refused(text, key()) == "claims"
        return
    assert identity.name == says["sub"]
    assert set(identity.groups) == set(says.get("groups", ()))
    assert set(identity.publish) == set(says.get("pub", ()))
    assert set(identity.subscribe) == set(says.get("subscribe", ()))
    assert identity.admin is says.get("admin", False)
    assert identity.metrics is says.get("metrics", False)
    assert not identity.trusted


# What is no claim


@pytest.mark.parametrize(
    "wrong",
    [
        {"sub": None},
        {"sub": ""},
        {"sub": "a/b"},
        {"sub": "*"},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": 10**400},
        {"nbf": "now"},
        {"groups": "g"},
        {"groups": ["a/b"]},
        {"groups": [1]},
        {"pub": {"g/*": 1}},
        {"pub": ["a*"]},
        {"pub": ["g"]},
        {"subscribe": ["**/x"]},
        {"subscribe": [["g/x"]]},
        {"admin": 1},
        {"admin": "false"},
        {"metrics": None},
    ],
)
def test_a_wrong_claim_makes_the_token_wrong(wrong: dict[str, Any]) -> None:
    text = by_hand({"alg": "HS256", "kid": "k1"}, {**GOOD, **wrong}, SECRET)
    assert refused(text, key()) == "claims"


@pytest.mark.parametrize("payload", [b"[]", b"1", b"null", b"{", b"\xff", b"[" * 100_000])
def test_what_is_signed_but_no_object_is_refused(payload: bytes) -> None:
    text = jwt.PyJWS().encode(payload, SECRET, "HS256", {"kid": "k1"})
    with pytest.raises(BadToken):
        verify(text, {"k1": key()}, now=NOW, leeway=0, audience="", max_bytes=1 << 20)


@given(st.text(max_size=200) | st.lists(st.text('aA0-_=.{}"', max_size=30), max_size=5).map(".".join))
def test_any_text_is_refused_in_an_orderly_way(text: str) -> None:
    assert refused(text, key()) in ("malformed", "unknown_key", "signature")


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "b64", "crit"]), st.none() | st.booleans() | st.text()))
def test_any_header_is_refused_in_an_orderly_way(header: dict[str, Any]) -> None:
    text = by_hand(header, GOOD, b"x" * 32)
    assert refused(text, key()) in ("malformed", "unknown_key", "signature")


def test_a_long_token_is_not_looked_at() -> None:
    assert refused("x" * 8193, key()) == "too_long"
    assert refused(sign(key(), claims(groups=["g"] * 5000)), key()) == "too_long"


def test_an_identity_and_a_key_show_nothing_secret() -> None:
    identity = check(sign(key(), GOOD), key())
    shown = repr(identity) + repr(key())
    assert SECRET.decode() not in shown
    assert repr(SECRET) not in shown
