"""Which addresses only this machine reaches: there a broker needs no key, and a page of its own is let in."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether `host` is reached from this machine only. Names other than `localhost` are taken for ones that aren't."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
