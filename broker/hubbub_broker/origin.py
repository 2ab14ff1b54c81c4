"""What a page in somebody's browser may not do to a broker that trusts its own machine. Pure.

While authentication is off, the broker believes whoever reaches it, and listens on loopback only. A browser on the same
machine reaches it too, on behalf of whatever page is open in it: by posting across origins, or through a name that was
made to resolve to 127.0.0.1 after the page was loaded (DNS rebinding). Browsers tell both in headers that scripts can't
forge: `Origin`, and `Host`. Programs that are no browsers send no `Origin`, and notice nothing.
"""

from urllib.parse import urlsplit

from .config import is_loopback


def why_refused(host: str | None, origin: str | None) -> str | None:
    """Why a request with these headers is refused, or None: both must name this machine."""
    if host is not None and not _is_local(f"//{host}"):
        return (
            f"Host is {host[:80]!r}, but a broker without authentication answers to 127.0.0.1, ::1 and localhost only "
            "(see the setting `insecure`)"
        )
    if origin is not None and not _is_local(origin):
        return (
            f"Origin is {origin[:80]!r}, but a broker without authentication takes nothing from other hosts' pages "
            "(see the setting `insecure`)"
        )
    return None


def _is_local(url: str) -> bool:
    try:
        name = urlsplit(url).hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)
