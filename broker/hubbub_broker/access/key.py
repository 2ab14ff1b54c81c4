"""Keys that sign and verify tokens, and how they are read from files.

    *.json, *.jwk, *.jwks    a JSON Web Key or a set of them (RFC 7517); `kid` names each
    *.pem, *.pub, *.key      a key in PEM form, public or private; the file's name without its ending is the key id
    *.secret                 an HMAC secret as it is, 32 bytes or more; likewise

The algorithm belongs to the key and never comes from a token, or whoever makes tokens up could choose it.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

ALGORITHMS = ("HS256", "EdDSA", "ES256", "RS256")
"""What a key may be for. EdDSA is Ed25519's, ES256 P-256's."""

SECRET_BYTES_MIN = 32
"""Bytes of an HMAC secret: as many as its hash has (RFC 7518, section 3.2)."""
RSA_BITS_MIN = 2048
FILE_BYTES_MAX = 1 << 20
"""A key file that is larger is none."""

_PRIVATE = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)
_PUBLIC = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)
_ENDINGS = (".json", ".jwk", ".jwks", ".pem", ".pub", ".key", ".secret")


class BadKey(ValueError):
    """A key, or a file of keys, that can't be used. The message names it and never shows what is in it."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key."""

    id: str | None
    """What tokens call it (`kid`)."""
    algorithm: str
    material: Any = field(repr=False)
    """The secret's bytes, or a public or private key object."""
    fingerprint: str = field(repr=False)
    """Tells keys apart, whatever they are called."""

    @property
    def verifier(self) -> Any:
        """What a signature is checked with."""
        return self.material.public_key() if isinstance(self.material, _PRIVATE) else self.material

    @property
    def signs(self) -> bool:
        """Whether tokens can be signed with it."""
        return not isinstance(self.material, _PUBLIC)


def read_keys(path: Path) -> list[Key]:
    """The keys of a file, or of all key files in a directory. Other files and hidden ones are passed over.

    Raises:
        BadKey: if it can't be read, or a key in it can't be used; or two have one id.
    """
    keys = [key for file in key_files(path) for key in _read_file(file)]
    seen: set[str | None] = set()
    for key in keys:
        if key.id in seen:
            raise BadKey(f"{path}: two keys have the id {key.id!r}: tokens could not tell them apart")
        seen.add(key.id)
    return keys


def key_files(path: Path) -> list[Path]:
    """The key files that `path` stands for, sorted."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _ENDINGS and not file.name.startswith("."))


def secret_key(secret: str | bytes, id: str | None = None) -> Key:
    """An HMAC key.

    Raises:
        BadKey: if the secret is too short.
    """
    material = secret.encode() if isinstance(secret, str) else secret
    if len(material) < SECRET_BYTES_MIN:
        raise BadKey(f"an HS256 secret has {SECRET_BYTES_MIN} bytes or more, and this one has {len(material)}")
    return Key(id, "HS256", material, _fingerprint(material))


def parse_jwk(value: Any) -> Key:
    """A key of a JSON Web Key (RFC 7517).

    Raises:
        BadKey: if it is none, or not for one of `ALGORITHMS`.
    """
    if not isinstance(value, dict) or not isinstance(value.get("kid", ""), str):
        raise BadKey("a JSON Web Key is an object, and its `kid` is text")
    try:
        parsed = jwt.PyJWK.from_dict(value)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        raise BadKey(f"this is no JSON Web Key that can be used ({type(error).__name__})") from None
    if parsed.algorithm_name not in ALGORITHMS:
        raise BadKey(f"the key is for {parsed.algorithm_name}; it has to be for one of {', '.join(ALGORITHMS)}")
    kid = value.get("kid") or None
    if isinstance(parsed.key, bytes):
        return secret_key(parsed.key, kid)
    return _asymmetric(parsed.key, kid)


def make_key(algorithm: str, id: str, secret: bytes) -> dict[str, Any]:
    """A new key as a JSON Web Key, private part included.

    Args:
        algorithm: one of `ALGORITHMS`.
        id: its `kid`.
        secret: random bytes, used for HS256.
    """
    made: Any = secret
    if algorithm == "EdDSA":
        made = ed25519.Ed25519PrivateKey.generate()
    elif algorithm == "ES256":
        made = ec.generate_private_key(ec.SECP256R1())
    elif algorithm == "RS256":
        made = rsa.generate_private_key(65537, 3072)
    return _jwk(made, algorithm, id)


def public_jwk(key: Key) -> dict[str, Any]:
    """The part of a key that a broker needs, as a JSON Web Key.

    Raises:
        BadKey: if it has none: an HMAC secret is the same at both ends.
    """
    if isinstance(key.material, bytes):
        raise BadKey("an HS256 secret has no public part: give the broker the secret itself")
    return _jwk(key.verifier, key.algorithm, key.id)


def _jwk(material: Any, algorithm: str, id: str | None) -> dict[str, Any]:
    value: dict[str, Any] = get_default_algorithms()[algorithm].to_jwk(material, as_dict=True)
    named = {"kid": id} if id is not None else {}
    return {**named, "alg": algorithm, "use": "sig", **{name: value[name] for name in value if name != "key_ops"}}


def _read_file(file: Path) -> Iterator[Key]:
    try:
        with file.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadKey(f"{file}: can't read it: {error.strerror or error}") from None
    if len(content) > FILE_BYTES_MAX:
        raise BadKey(f"{file}: a key file has at most {FILE_BYTES_MAX} bytes")
    try:
        if file.suffix == ".secret":
            yield secret_key(content.rstrip(b"\r\n"), file.stem)
        elif content.lstrip().startswith(b"-----BEGIN"):
            yield _parse_pem(content, file.stem)
        else:
            yield from _parse_json(content)
    except BadKey as error:
        raise BadKey(f"{file}: {error}") from None


def _parse_json(content: bytes) -> Iterator[Key]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise BadKey("is neither JSON (a JSON Web Key or a set of them) nor PEM") from None
    if isinstance(value, dict) and isinstance(value.get("keys"), list):
        for inner in value["keys"]:
            yield parse_jwk(inner)
    else:
        yield parse_jwk(value)


def _parse_pem(content: bytes, id: str) -> Key:
    loaded: Any
    try:
        if b"PRIVATE KEY" in content:
            loaded = serialization.load_pem_private_key(content, password=None)
        else:
            loaded = serialization.load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadKey("is no PEM of a public key, or of a private one without a password") from None
    return _asymmetric(loaded, id)


def _asymmetric(material: Any, id: str | None) -> Key:
    if not isinstance(material, _PRIVATE + _PUBLIC):
        raise BadKey("the key is neither RSA, nor P-256, nor Ed25519")
    public = material.public_key() if isinstance(material, _PRIVATE) else material
    if isinstance(public, ed25519.Ed25519PublicKey):
        algorithm = "EdDSA"
    elif isinstance(public, ec.EllipticCurvePublicKey):
        if not isinstance(public.curve, ec.SECP256R1):
            raise BadKey(f"the key is on the curve {public.curve.name}; ES256 takes P-256")
        algorithm = "ES256"
    else:
        if public.key_size < RSA_BITS_MIN:
            raise BadKey(f"the RSA key has {public.key_size} bits; {RSA_BITS_MIN} or more are wanted")
        algorithm = "RS256"
    encoded = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Key(id, algorithm, material, _fingerprint(encoded))


def _fingerprint(material: bytes) -> str:
    return hashlib.sha256(b"hubbub key\0" + material).hexdigest()[:32]
