"""The keys and bus tokens in force, read again when their files change.

A change takes effect within a second. Files that can't be used leave in force what was, and are told in the log: a
broker must not lock everybody out because a file was half written, and must never open because one is gone.
"""

import hashlib
import hmac
from pathlib import Path

from hubbub_broker.config import Settings
from hubbub_broker.file_watch import FileWatch

from .key import FILE_BYTES_MAX, BadKey, Key, key_files, read_keys, secret_key


class Keyring:
    """What credentials are checked against.

    Raises:
        BadKey: from `Keyring(...)` and `refresh`, if a file can't be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._secret = settings.token_secret.get_secret_value()
        self._bus_token = settings.bus_token.get_secret_value()
        self._keys_path = settings.token_keys
        self._bus_path = settings.bus_token_file
        self._watch = FileWatch(self._files)
        self.keys: dict[str | None, Key] = {}
        """Keys of signed tokens, by id."""
        self._bus: dict[bytes, str] = {}
        """Digests of the bus tokens, with their fingerprints."""
        self._read()

    def is_bus_token(self, credential: str) -> str | None:
        """The fingerprint of the bus token that `credential` is, or None. Takes the same time for every wrong one."""
        given = _digest(credential)
        found = None
        for digest, fingerprint in self._bus.items():
            if hmac.compare_digest(given, digest):
                found = fingerprint
        return found

    def vouches(self, fingerprint: str) -> bool:
        """Whether that key, or bus token, is still in force."""
        return fingerprint in self._bus.values() or any(key.fingerprint == fingerprint for key in self.keys.values())

    def refresh(self) -> bool:
        """Read the files again if they have changed. True if they had; then what they hold is in force."""
        if not self._watch.changed():
            return False
        self._read()
        return True

    def _files(self) -> list[Path]:
        files = key_files(self._keys_path) if self._keys_path is not None else []
        return files if self._bus_path is None else [*files, self._bus_path]

    def _read(self) -> None:
        try:
            keys = read_keys(self._keys_path) if self._keys_path is not None else []
        except OSError as error:
            raise BadKey(f"{self._keys_path}: can't read it: {error.strerror or error}") from None
        if self._secret:
            keys.append(secret_key(self._secret))
        bus = _read_bus_tokens(self._bus_path) if self._bus_path is not None else []
        if self._bus_token:
            bus.append(self._bus_token)
        self.keys = {key.id: key for key in keys}
        self._bus = {digest: digest.hex()[:32] for digest in map(_digest, bus)}


def _read_bus_tokens(file: Path) -> list[str]:
    """The tokens of a file, one a line: several while the old one is given up."""
    try:
        with file.open("rb") as stream:
            lines = stream.read(FILE_BYTES_MAX).decode().splitlines()
    except UnicodeDecodeError:
        raise BadKey(f"{file}: is not text") from None
    except OSError as error:
        raise BadKey(f"{file}: can't read it: {error.strerror or error}") from None
    tokens = [line.strip() for line in lines if line.strip()]
    if not tokens:
        raise BadKey(f"{file}: holds no token")
    return tokens


def _digest(credential: str) -> bytes:
    """Of one length, whatever the credential's: comparing tells nothing of it."""
    return hashlib.sha256(b"hubbub bus\0" + credential.encode(errors="surrogatepass")).digest()
