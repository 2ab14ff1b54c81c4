"""Key files, and the keys and bus tokens in force."""

import hmac
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from harness.tokens import BUS_TOKEN, SECRET, key, token, write_key
from hubbub_broker.access import OPEN, Access, BadKey, Denied, KnownBy, credential_of
from hubbub_broker.access.key import ALGORITHMS, Key, make_key, parse_jwk, public_jwk, read_keys
from hubbub_broker.access.token import verify
from hubbub_broker.config import Settings
from hubbub_broker.metrics import Metrics


def pem(private: Any, public: bool = True) -> bytes:
    if public:
        made: bytes = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return made
    form = serialization.PrivateFormat.PKCS8
    made = private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    assert isinstance(made, bytes)
    return made


# Files


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_is_read_back_as_it_was_made(tmp_path: Path, algorithm: str) -> None:
    made = make_key(algorithm, "k1", SECRET)
    file = tmp_path / "any.jwk"
    file.write_text(json.dumps(made))
    (read,) = read_keys(file)
    assert (read.id, read.algorithm, read.signs) == ("k1", algorithm, True)
    if algorithm != "HS256":
        public = parse_jwk(public_jwk(read))
        assert "d" not in public_jwk(read)
        assert (public.fingerprint, public.signs) == (read.fingerprint, False)
        (tmp_path / "k1.pem").write_bytes(pem(read.material))
        (from_pem,) = read_keys(tmp_path / "k1.pem")
        assert (from_pem.id, from_pem.algorithm, from_pem.fingerprint) == ("k1", algorithm, read.fingerprint)
    else:
        with pytest.raises(BadKey, match="no public part"):
            public_jwk(read)


def test_a_directory_holds_what_its_endings_say(tmp_path: Path) -> None:
    (tmp_path / "set.jwks").write_text(
        json.dumps({"keys": [make_key("HS256", "a", SECRET), make_key("EdDSA", "b", b"")]})
    )
    (tmp_path / "c.secret").write_bytes(SECRET + b"\n")
    (tmp_path / "d.pub").write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    (tmp_path / "e.key").write_bytes(pem(ec.generate_private_key(ec.SECP256R1()), public=False))
    (tmp_path / "README").write_text("no key")
    (tmp_path / ".hidden.jwk").write_text("no key")
    assert [(one.id, one.signs) for one in read_keys(tmp_path)] == [
        ("c", True),
        ("d", False),
        ("e", True),
        ("a", True),
        ("b", True),
    ]


SMALL_RSA = pem(rsa.generate_private_key(65537, 1024))
OTHER_CURVE = pem(ec.generate_private_key(ec.SECP384R1()))
DSA = pem(dsa.generate_private_key(1024))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("k.jwk", b"", "neither JSON"),
        ("k.jwk", b"[" * 100_000, "neither JSON"),
        ("k.jwk", b"[]", "is an object"),
        ("k.jwk", b"{}", "no JSON Web Key"),
        ("k.jwk", b'{"kty":"oct","k":"c2VjcmV0"}', "32 bytes or more"),
        ("k.jwk", b'{"kty":"oct","k":"c2VjcmV0","kid":1}', "`kid` is text"),
        ("k.jwk", json.dumps({**make_key("HS256", "k", b"x" * 64), "alg": "HS512"}).encode(), "for HS512"),
        ("k.jwk", b'{"kty":"RSA","n":"AQ"}', "no JSON Web Key"),
        ("k.secret", b"short", "32 bytes or more"),
        ("k.pem", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no PEM"),
        ("k.pem", SMALL_RSA, "1024 bits"),
        ("k.pem", OTHER_CURVE, "secp384r1"),
        ("k.pem", DSA, "neither RSA"),
        ("k.secret", b"x" * (1 << 20) + b"x", "at most"),
    ],
)
def test_what_can_not_be_used_is_refused_by_name(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(BadKey, match=message) as caught:
        read_keys(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "c2VjcmV0" not in str(caught.value)


def test_two_keys_of_one_id_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jwk").write_text(json.dumps(make_key("HS256", "k", SECRET)))
    (tmp_path / "k.secret").write_bytes(SECRET)
    with pytest.raises(BadKey, match="two keys have the id 'k'"):
        read_keys(tmp_path)


# In force


def access(**settings: Any) -> Access:
    return Access(Settings.model_validate(settings), Metrics())


def reason(of: Access, credential: str | None) -> str:
    with pytest.raises(Denied) as caught:
        of.identify(credential)
    return caught.value.reason


def test_without_a_key_everybody_is_whom_they_say() -> None:
    off = access()
    assert not off.enabled
    assert off.identify(None) is OPEN
    assert off.identify("anything") is OPEN


def test_the_bus_token_opens_and_nothing_like_it_does() -> None:
    on = access(bus_token=BUS_TOKEN)
    identity = on.identify(BUS_TOKEN)
    assert (identity.known_by, identity.name, identity.admin) == (KnownBy.BUS_TOKEN, None, False)
    assert access(bus_token=BUS_TOKEN, bus_token_admin=True).identify(BUS_TOKEN).admin
    for wrong in (BUS_TOKEN + "x", BUS_TOKEN[:-1], BUS_TOKEN.upper(), "x", "\ud800", "x" * 100_000, token()):
        assert reason(on, wrong) == "unknown"
    for nothing in (None, ""):
        assert reason(on, nothing) == "missing"


@pytest.mark.parametrize("given", [BUS_TOKEN, "x", "x" * 5000])
def test_every_bus_token_is_compared_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    file = tmp_path / "bus"
    file.write_text("one\ntwo\nthree\n")
    on = access(bus_token_file=file, bus_token=BUS_TOKEN)
    sizes: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        sizes.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr("hubbub_broker.access.keyring.hmac.compare_digest", counting)
    with suppress(Denied):
        on.identify(given)
    assert sizes == [(32, 32)] * 5  # all of them and the broker's own, and of one length, whatever was given


def test_a_secret_may_be_a_text() -> None:
    on = access(token_secret=SECRET.decode(), bus_token=BUS_TOKEN)
    assert on.identify(token(by=Key(None, "HS256", SECRET, ""))).name == "ann"
    assert reason(on, token()) == "unknown_key"
    assert on.identify(BUS_TOKEN).name is None


def test_keys_come_and_go_with_their_files(tmp_path: Path) -> None:
    keys = write_key(tmp_path / "keys", "old")
    on = access(token_keys=keys)
    old, new = key("old"), key("new", secret=b"the new secret of thirty-two byt")
    by_old = on.identify(token(by=old))
    assert not on.refresh()
    write_key(keys, "new", b"the new secret of thirty-two byt")
    assert on.refresh()
    by_new = on.identify(token(by=new))
    assert on.in_force(by_old)
    (keys / "old.jwk").unlink()
    assert on.refresh()
    assert not on.in_force(by_old)
    assert on.in_force(by_new)
    assert reason(on, token(by=old)) == "unknown_key"
    assert on.in_force(OPEN)


def test_a_key_that_is_replaced_under_its_name_ends_what_it_vouched_for(tmp_path: Path) -> None:
    keys = write_key(tmp_path / "keys")
    on = access(token_keys=keys)
    before = on.identify(token())
    write_key(keys, secret=b"the new secret of thirty-two byt")
    assert on.refresh()
    assert not on.in_force(before)


def test_a_file_that_can_not_be_used_leaves_in_force_what_was(tmp_path: Path) -> None:
    keys = write_key(tmp_path / "keys")
    on = access(token_keys=keys)
    (keys / "half.jwk").write_text('{"kty"')
    assert not on.refresh()
    assert on.identify(token()).name == "ann"
    (keys / "half.jwk").unlink()
    assert on.refresh()


def test_when_the_last_key_is_gone_nobody_is_known_and_nothing_is_open(tmp_path: Path) -> None:
    keys = write_key(tmp_path / "keys")
    on = access(token_keys=keys)
    (keys / "k1.jwk").unlink()
    assert on.refresh()
    assert on.enabled
    assert reason(on, token()) == "unknown"
    keys.rmdir()
    assert not on.refresh() or reason(on, None) == "missing"
    assert reason(on, "") == "missing"


def test_a_token_is_verified_once_and_ends_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.time()]
    settings = Settings(token_keys=write_key(tmp_path / "keys"), token_leeway=0)
    on = Access(settings, Metrics(), lambda: now[0])
    verified: list[str] = []

    def counting(text: str, *more: Any, **options: Any) -> Any:
        verified.append(text)
        return verify(text, *more, **options)

    monkeypatch.setattr("hubbub_broker.access.access.verify", counting)
    monkeypatch.setattr("hubbub_broker.access.access.KNOWN_KEPT", 2)
    one, two, three = token("ann", lasts=60), token("joe"), token("eve")
    assert on.identify(one) is on.identify(one)
    assert on.identify(two).name == "joe"
    assert on.identify(three).name == "eve"
    assert verified == [one, two, three]
    assert on.identify(one).name == "ann"
    now[0] += 61
    assert reason(on, one) == "expired"
    assert reason(on, one) == "expired"


def test_bus_tokens_may_be_several_while_one_is_given_up(tmp_path: Path) -> None:
    file = tmp_path / "bus"
    file.write_text(f"{BUS_TOKEN}\n\nanother-token\n")
    on = access(bus_token_file=file)
    first, second = on.identify(BUS_TOKEN), on.identify("another-token")
    file.write_text("another-token\n")
    os.utime(file, (1, 1))
    assert on.refresh()
    assert (on.in_force(first), on.in_force(second)) == (False, True)
    file.write_text("\n")
    assert not on.refresh()
    assert on.identify("another-token") == second


@pytest.mark.parametrize("made", [False, True])
def test_a_broker_that_nobody_could_use_does_not_start(tmp_path: Path, made: bool) -> None:
    keys = tmp_path / "keys"
    if made:
        keys.mkdir()
    with pytest.raises(BadKey, match="keys"):
        access(token_keys=keys)


# Where a credential stands


@pytest.mark.parametrize(
    ("authorization", "bus", "query", "found"),
    [
        ([], [], "", None),
        (["Bearer t"], ["u"], "access_token=v", "t"),
        (["bearer  t "], [], "", "t"),
        (["Basic abc"], ["u"], "access_token=v", "u"),
        (["Basic abc", "Bearer t"], [], "", "t"),
        (["Bearer"], [], "a=1&access_token=v%2Bw", "v+w"),
        ([], [""], "access_token=", None),
        ([], [], "xaccess_token=v", None),
    ],
)
def test_where_a_credential_stands(authorization: list[str], bus: list[str], query: str, found: str | None) -> None:
    assert credential_of(authorization, bus, query) == found


def test_refusals_are_counted_by_reason() -> None:
    metrics = Metrics()
    on = Access(Settings.model_validate({"bus_token": BUS_TOKEN}), metrics)
    for credential in (None, "x", "x"):
        with pytest.raises(Denied):
            on.identify(credential)
    assert metrics.tokens_refused == {"missing": 1, "unknown": 2}
