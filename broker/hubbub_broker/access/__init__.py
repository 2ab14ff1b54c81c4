"""Who may do what. One place decides, and every door asks it.

operation   what can be asked for; the table of who may
identity    who somebody is, as far as the broker is concerned
decision    the table applied: why not, or None. Pure
claims      what a signed token says, checked
key         a key that signs or verifies tokens, and how keys are read from files
token       signing and verifying
keyring     the keys in force, read again when their files change
access      credential -> identity, and the way in for the doors
"""

from .access import Access, Denied, credential_of
from .decision import of_consumer, passes, why_not
from .identity import OPEN, Identity, KnownBy
from .key import BadKey
from .operation import TABLE, Operation, Right

__all__ = [
    "OPEN",
    "TABLE",
    "Access",
    "BadKey",
    "Denied",
    "Identity",
    "KnownBy",
    "Operation",
    "Right",
    "credential_of",
    "of_consumer",
    "passes",
    "why_not",
]
