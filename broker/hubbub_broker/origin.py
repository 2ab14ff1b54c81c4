"""What a page in somebody's browser may not do to a broker that trusts its own machine. Pure.

While authentication is off, the broker believes whoever reaches it, and listens on loopback only. A browser on the same
machine reaches it too, on behalf of whatever page is open in it: by posting across origins, or through a name that was
made to resolve to 127.0.0.1 after the page was loaded (DNS rebinding). Browsers tell both in headers that scripts can't
forge: `Origin`, and `Host`. Programs that are no browsers send no `Origin`, and notice nothing.

Where authentication is on, a page can do nothing without a token, so only its origin is looked at.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from .loopback import is_loopback

ANY_ORIGIN = "*"


def why_refused(
    host: str | None, origin: str | None, allowed: Collection[str] = (), *, authenticates: bool = False
) -> str | None:
    """Why a request with these headers is refused, or None.

    Args:
        host: the header `Host`. Must name this machine, unless the broker authenticates: a page that came by a false
            name has no token.
        origin: the header `Origin`. Must name this machine, or be allowed, or, where the broker authenticates, be the
            broker's own address.
        allowed: the setting `allowed_origins`.
        authenticates: whether the broker asks everybody for a token.
    """
    if not authenticates and host is not None and not _is_local(f"//{host}"):
        return (
            f"Host is {host[:80]!r}, but a broker without authentication answers to 127.0.0.1, ::1 and localhost only "
            "(see the setting `insecure`)"
        )
    if origin is None or _is_local(origin) or origin in allowed or ANY_ORIGIN in allowed:
        return None
    if not authenticates:
        return (
            f"Origin is {origin[:80]!r}, but a broker without authentication takes nothing from other hosts' pages "
            "(see the settings `allowed_origins` and `insecure`)"
        )
    if host and origin.partition("://")[2] == host:
        return None
    return f"Origin is {origin[:80]!r}, which is none of the setting `allowed_origins`"


def _is_local(url: str) -> bool:
    try:
        name = urlsplit(url).hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)
