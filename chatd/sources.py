"""Source networks: to whom the conduct of a client is attributed.

Owns: the single address of a client (address_of), which records of the log name and a firewall can block, and its
network (source_of), for which limits and penalties are counted. One IPv4 address is one source; an IPv6 site is given
at least a /64, in which a single machine can use any address, so the /64 is the source.
Elsewhere: the address itself, also behind a load balancer (net), what a source is refused (core, net).
Fails: never; what is not an address has no source.
"""

from __future__ import annotations

import ipaddress

NO_SOURCE = ""
"""The source of a client on a Unix socket: a program of this host, which the operator let in."""

_IPV6_BITS = 64


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
    host = remote.rpartition(":")[0].strip("[]")
    if ":" not in host:
        return host
    try:
        network = ipaddress.IPv6Network((host.partition("%")[0], _IPV6_BITS), strict=False)
    except ValueError:
        return NO_SOURCE
    return str(network)
