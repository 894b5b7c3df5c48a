"""To which addresses notifications may be sent.

Owns: check_endpoint().
Elsewhere: which addresses a name has, and whether they are public (outbound), which is looked at when it is sent.
Fails: ValueError, with a text for the user.

Any user names an address to which this server then makes requests. So it must be that of a push service which the
operator has allowed, and nothing else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

MOST_CHARS = 1024
ANY = "*"
"""In push.services: every host."""


def check_endpoint(endpoint: str, services: Sequence[str], allow_private: Sequence[str]) -> None:
    """services, allow_private: as in the configuration. http:// is taken for an address in allow_private only. Raises
    ValueError."""
    if len(endpoint) > MOST_CHARS or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        raise ValueError(f"the endpoint must be a URL of at most {MOST_CHARS} characters")
    parts = urlsplit(endpoint)
    host = (parts.hostname or "").lower()
    if parts.username is not None or parts.password is not None or parts.fragment or "@" in parts.netloc:
        raise ValueError("the endpoint must have no user, no password and no fragment")
    if "\\" in endpoint or not host or parts.port == 0:
        raise ValueError("the endpoint has no host")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_private(host, allow_private)):
        raise ValueError("the endpoint must begin with https://")
    if not any(_matches(host, one) for one in services):
        raise ValueError("the endpoint is not one of a push service that this server uses")


def _matches(host: str, pattern: str) -> bool:
    """ "*.example.org" are all names below example.org."""
    return pattern == ANY or fnmatchcase(host, pattern.lower())


def _is_private(host: str, allow_private: Sequence[str]) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    networks = [ipaddress.ip_network(one) for one in allow_private]
    return any(address.version == one.version and address in one for one in networks)
