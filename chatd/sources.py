"""Source networks: to whom the conduct of a client is attributed.

Owns: the single address of a client (address_of), which records of the log name and a firewall can block, and its
network (source_of), for which limits and penalties are counted; lists of networks. One IPv4 address is one source; an
IPv6 site is given at least a /64, in which a single machine can use any address, so the /64 is the source. It may also
be given a /48 (site_of).
Elsewhere: the address itself, also behind a load balancer (net), what a source is refused (core, net).
Fails: never; what is not an address has no source.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

NO_SOURCE = ""
"""The source of a client on a Unix socket: a program of this host, which the operator let in."""

_IPV6_BITS = 64
_IPV6_SITE_BITS = 48
_REMEMBERED = 4096
"""Sources whose membership in a list of networks is remembered."""


def address_of(remote: str) -> str:
    """The single address of a client, without its port and zone, from its address as it is shown in logs:
    "192.0.2.1:5000" -> "192.0.2.1", "[fe80::1%eth0]:5000" -> "fe80::1", "unix" -> NO_SOURCE."""
    host = remote.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return NO_SOURCE


def source_of(remote: str) -> str:
    """The source network of a client, from its address as it is shown in logs (config.urls.shown):
    "192.0.2.1:5000" -> "192.0.2.1", "[2001:db8::1]:5000" -> "2001:db8::/64", "unix" -> NO_SOURCE."""
    host = address_of(remote)
    if ":" not in host:
        return host
    return str(ipaddress.IPv6Network((host, _IPV6_BITS), strict=False))


def site_of(source: str) -> str:
    """The IPv6 /48 that contains a source, or "" for every other source."""
    if ":" not in source:
        return ""
    return str(ipaddress.IPv6Network(source).supernet(new_prefix=_IPV6_SITE_BITS))


class Networks:
    """A list of networks, to ask whether a source is in one of them. NO_SOURCE is in every list: what comes over a Unix
    socket is let in by the operator. A single IPv6 address in the list stands for its /64, the smallest source."""

    def __init__(self, networks: Iterable[str]) -> None:
        """networks: addresses or networks, as in the configuration. Raises ValueError."""
        self._networks = [ipaddress.ip_network(one) for one in networks]
        self._contains = functools.lru_cache(_REMEMBERED)(self._search)

    def __contains__(self, source: str) -> bool:
        """Costs well under a microsecond for a source asked about before."""
        return not source or (bool(self._networks) and self._contains(source))

    def _search(self, source: str) -> bool:
        try:
            asked = ipaddress.ip_network(source)
        except ValueError:
            return False
        return any(asked.overlaps(one) for one in self._networks)


@functools.lru_cache(4)
def networks(listed: tuple[str, ...]) -> Networks:
    """The networks of an option such as penalties.allow. Cheap for a list asked about before. Raises ValueError."""
    return Networks(listed)
