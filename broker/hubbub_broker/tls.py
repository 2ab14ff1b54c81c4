"""TLS: a certificate that is read again when it changes, without a connection being dropped."""

import ssl
from pathlib import Path

from .file_watch import FileWatch
from .logs import get_logger

log = get_logger(__name__)


class BadCertificate(ValueError):
    """The certificate or its key can't be used. The message names the files."""


class Certificate:
    """A server's certificate, and the context that shows it to whoever connects from now on.

    Raises:
        BadCertificate: from `Certificate(...)`, if it can't be used.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._watch = FileWatch(lambda: self._files)
        self.context = _context(*self._files)

    def refresh(self) -> bool:
        """Read the files again if they have changed. True if they had, and are in force now.

        Files that can't be used, such as a certificate whose key is still to be written, leave in force what was.
        """
        if not self._watch.changed():
            return False
        try:
            _context(*self._files)  # tried apart: a failure half way would leave the one that is in use in pieces
            self.context.load_cert_chain(*self._files)
        except (BadCertificate, OSError) as error:
            log.error("certificate not read again", reason=str(error), in_force="the one before")  # noqa: TRY400
            return False
        log.info("certificate read again", certificate=str(self._files[0]))
        return True


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        why = error.strerror or getattr(error, "reason", None) or error if isinstance(error, OSError) else error
        raise BadCertificate(f"tls_certificate {certificate} with tls_key {key}: {why}") from None
    return context


def _no_password() -> str:
    """Where OpenSSL would ask at the terminal, and a service would wait for ever."""
    raise ValueError("the key is encrypted, and a broker has nobody to ask for the password")
