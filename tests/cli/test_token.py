"""`hubbub token`: keys and tokens are made, and looked into, without a word that is not so."""

import json
import re
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from typer.testing import CliRunner

from harness.tokens import key, token
from hubbub_broker.access import Access
from hubbub_broker.access.key import ALGORITHMS, make_key
from hubbub_broker.cli import app
from hubbub_broker.config import Settings
from hubbub_broker.metrics import Metrics


def run(*arguments: str, input: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["token", *arguments], input=input)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout.strip(), result.stderr.strip()


def made(*arguments: str) -> str:
    code, out, complaint = run(*arguments)
    assert (code, complaint) == (0, "")
    return out


@pytest.fixture
def signing(tmp_path: Path) -> Path:
    file = tmp_path / "signing.jwk"
    assert run("key", "--id", "k1", "--out", str(file))[0] == 0
    return file


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_signs_and_a_broker_takes_what_it_signed(tmp_path: Path, algorithm: str) -> None:
    signing = tmp_path / "signing.jwk"
    run("key", "--algorithm", algorithm, "--id", "k1", "--out", str(signing))
    assert stat.S_IMODE(signing.stat().st_mode) == 0o600
    keys = tmp_path / "keys"
    keys.mkdir()
    if algorithm == "HS256":
        assert "no public part" in run("key", "--public", str(signing))[2]
        (keys / "k1.jwk").write_text(signing.read_text())
    else:
        (keys / "k1.jwk").write_text(made("key", "--public", str(signing)))
        assert '"d"' not in (keys / "k1.jwk").read_text()
    text = made("create", "-k", str(signing), "--agent", "joe", "--group", "research", "--expires", "1h")
    identity = Access(Settings(token_keys=keys), Metrics()).identify(text)
    assert (identity.name, *identity.groups) == ("joe", "research")
    assert identity.publish == identity.subscribe == ("research/**",)
    assert not identity.admin
    assert identity.expires is not None
    assert 3500 < identity.expires - time.time() < 3700
    code, out, _ = run("inspect", "-k", str(keys), text)
    assert (code, out.splitlines()[-1]) == (0, "verdict    valid")


def test_a_key_file_is_never_overwritten(signing: Path) -> None:
    before = signing.read_text()
    code, _, complaint = run("key", "--out", str(signing))
    assert (code, signing.read_text()) == (1, before)
    assert "exists" in complaint


def claims(text: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(text, options={"verify_signature": False})
    return found


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], {"groups": [], "pub": [], "subscribe": []}),
        (
            ["--group", "g", "--group", "h"],
            {"groups": ["g", "h"], "pub": ["g/**", "h/**"], "subscribe": ["g/**", "h/**"]},
        ),
        (["--group", "g", "--publish", "g/x"], {"pub": ["g/x"], "subscribe": ["g/**"]}),
        (["--group", "g", "--subscribe", "g/*", "--nothing"], {"pub": [], "subscribe": ["g/*"]}),
        (["--metrics"], {"metrics": True}),
        (["--admin", "--audience", "bus"], {"admin": True, "aud": "bus"}),
    ],
)
def test_what_is_given_is_claimed_and_nothing_else(signing: Path, arguments: list[str], wanted: dict[str, Any]) -> None:
    found = claims(made("create", "-k", str(signing), "--agent", "joe", *arguments))
    assert {name: found[name] for name in wanted} == wanted
    assert set(found) - set(wanted) <= {"sub", "groups", "pub", "subscribe", "iat", "exp"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--agent", "a/b"], "bad agent name"),
        (["--agent", "joe", "--group", "a/b"], "bad group"),
        (["--agent", "joe", "--publish", "g"], "a topic is GROUP/CONVERSATION"),
        (["--agent", "joe", "--subscribe", "g*"], "bad pattern"),
        (["--agent", "joe", "--expires", "soon"], "--expires soon"),
    ],
)
def test_a_wrong_wish_makes_no_token(signing: Path, arguments: list[str], message: str) -> None:
    code, out, complaint = run("create", "-k", str(signing), *arguments)
    assert (code, out) == (2, "")
    assert message in complaint


def test_a_public_key_signs_nothing(tmp_path: Path, signing: Path) -> None:
    public = tmp_path / "public.jwk"
    public.write_text(made("key", "--public", str(signing)))
    code, out, complaint = run("create", "-k", str(public), "--agent", "joe")
    assert (code, out) == (1, "")
    assert "public key signs nothing" in complaint


def test_of_several_keys_one_has_to_be_named(tmp_path: Path) -> None:
    for id in ("a", "b"):
        (tmp_path / f"{id}.jwk").write_text(json.dumps(make_key("EdDSA", id, b"")))
    code, _, complaint = run("create", "-k", str(tmp_path), "--agent", "joe")
    assert code == 2
    assert "--key-id" in complaint
    text = made("create", "-k", str(tmp_path), "--agent", "joe", "--key-id", "b")
    assert jwt.get_unverified_header(text)["kid"] == "b"
    assert "no key with the id c" in run("create", "-k", str(tmp_path), "--agent", "joe", "--key-id", "c")[2]


# inspect


def keys_of(tmp_path: Path) -> str:
    (tmp_path / "k1.jwk").write_text(json.dumps(make_key("HS256", "k1", key().material)))
    return str(tmp_path)


def verdict(tmp_path: Path, text: str, *more: str) -> str:
    code, out, _ = run("inspect", "-k", keys_of(tmp_path), *more, text)
    last = out.splitlines()[-1].removeprefix("verdict    ")
    assert (code == 0) == (last == "valid")
    return last


def test_the_verdict_says_what_is_so(tmp_path: Path) -> None:
    assert verdict(tmp_path, token()) == "valid"
    assert verdict(tmp_path, token(lasts=-2)) == "valid"
    for ago, more in ((2, ("--leeway", "0")), (7200, ())):
        said = verdict(tmp_path, token(lasts=-ago), *more)
        found = re.fullmatch(r"EXPIRED: the token expired (\d+) s ago.*", said)
        assert found, said
        assert ago <= int(found[1]) < ago + 600, "the machine may take its time"
    assert verdict(tmp_path, token(by=key(secret=b"x" * 32))) == "INVALID: the token's signature is wrong"
    assert verdict(tmp_path, token(by=key("k2"))) == "INVALID: the token names a key that is not in force"
    assert verdict(tmp_path, token(pub="g/*")).startswith("INVALID: the token's claim `pub`")
    assert verdict(tmp_path, token(), "--audience", "bus").startswith("INVALID: the token is for somebody else")
    assert verdict(tmp_path, token(nbf=time.time() + 100)).startswith("INVALID: the token begins to hold in")


def test_without_a_key_it_is_not_verified_and_that_is_no_success() -> None:
    code, out, _ = run("inspect", token("joe", groups=["g"]))
    assert code == 1
    assert "verdict    NOT VERIFIED" in out
    assert 'sub        "joe"' in out
    assert 'groups     ["g"]' in out
    assert " UTC, in 0:59:5" in out


def test_a_token_may_come_by_stdin(tmp_path: Path) -> None:
    code, out, _ = run("inspect", "-k", keys_of(tmp_path), input=token() + "\n")
    assert (code, out.splitlines()[-1]) == (0, "verdict    valid")


def test_what_is_no_token_is_none() -> None:
    for text in ("", "x", "a.b.c", "....", "\x1b[31m"):
        code, out, complaint = run("inspect", input=text)
        assert (code, out) == (1, "")
        assert complaint == "hubbub: this is no JSON Web Token"


def test_what_a_token_says_can_not_steer_a_terminal() -> None:
    more: dict[str, Any] = {"note": "\x1b[31mred\u202e", "\x1b]0;x": 1}
    _, out, _ = run("inspect", token(**more))
    assert "note" in out
    assert all(line.isprintable() for line in out.splitlines())


def test_it_works_as_a_command(signing: Path) -> None:
    import sys

    command = [sys.executable, "-m", "hubbub_broker", "token", "create", "-k", str(signing), "--agent", "joe"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    assert claims(done.stdout.strip())["sub"] == "joe"
