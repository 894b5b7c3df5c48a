"""The section [metrics] of the configuration.

Owns: MetricsOptions, the checks of its values, and the warning about an address that others can reach.
Elsewhere: the whole schema (config.schema), serving (master.metrics.endpoint).
Fails: never; mistakes are returned.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated

import msgspec

from chatd.config import urls
from chatd.config.option import option

TRANSPORTS = ("tcp", "unix")
_FORMS = '"tcp://HOST:PORT", "unix:PATH" or ""'


class MetricsOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[metrics], for monitoring programs: HTTP GET /metrics, /healthz and /readyz, answered by the master"""

    address: Annotated[
        str,
        option(
            'where /metrics, /healthz and /readyz are served: tcp://HOST:PORT or unix:PATH; "" = nowhere. Whoever '
            "reaches it reads numbers of users and messages, versions and paths: use 127.0.0.1, a network of your own, "
            "or allow",
            "live",
        ),
    ] = ""
    allow: Annotated[
        tuple[str, ...],
        option(
            "addresses or networks that may connect to it, over TCP; [] = all that reach it, others are disconnected",
            "live",
        ),
    ] = ()

    @property
    def backlog(self) -> int:
        """Connections that may wait to be accepted."""
        return 64


def mistakes(options: MetricsOptions) -> Iterator[tuple[str, str]]:
    """(key, what) of each."""
    if options.address:
        try:
            where = urls.parse(options.address)
        except ValueError as error:
            yield "metrics.address", str(error)
        else:
            if where.transport not in TRANSPORTS:
                yield "metrics.address", f"expected {_FORMS}, got {where.transport}://"
            elif where.transport == "unix" and options.allow:
                yield (
                    "metrics.allow",
                    "is for tcp:// only; who may connect to a Unix socket is decided by its directory",
                )
    for network in options.allow:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            what = f"{error}; expected addresses or networks such as 192.0.2.7 or 2001:db8::/64"
            yield "metrics.allow", what


def opened(options: MetricsOptions) -> list[str]:
    """A line if everybody on a network can read the metrics."""
    if not options.address or options.allow:
        return []
    where = urls.parse(options.address)
    if where.transport == "unix" or where.host == "localhost" or urls.is_loopback(where.host):
        return []
    return [
        f"metrics.address: {options.address} answers everybody who reaches it, without a password and without TLS, "
        "with the numbers of users and messages, the version, and paths of files. Set metrics.allow, or listen on "
        "127.0.0.1"
    ]
