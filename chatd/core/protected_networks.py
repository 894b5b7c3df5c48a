"""What an operator should not ban by mistake: this host, addresses that are always let in, the operator's own.

Owns: protected_in().
Elsewhere: asking whether it is meant (chatctl.bans, http.admin.bans), bans themselves (address_bans).
Fails: never.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import psutil

from chatd.address_bans import Network, network_named
from chatd.config.schema import Config


class Protected(NamedTuple):
    """A network that a ban would hurt. why: what it is, for the operator."""

    network: Network
    why: str


def protected_in(network: Network, config: Config, own: str) -> list[Protected]:
    """What a ban of this network would hit. own: the address from which the operator is logged in, "" = it is not
    known."""
    listed = [(one, "penalties.allow lets it in") for one in config.penalties.allow]
    listed += [("127.0.0.0/8", "this host itself"), ("::1", "this host itself")]
    listed += [(address, "an address of this host") for address in _own_addresses()]
    if own:
        listed.append((own, "you are logged in from there"))
    found = []
    for text, why in listed:
        with contextlib.suppress(ValueError):
            other = network_named(text)
            if other.version == network.version and other.overlaps(network):
                found.append(Protected(other, why))
    return found


def _own_addresses() -> list[str]:
    addresses = (one.address.partition("%")[0] for each in psutil.net_if_addrs().values() for one in each)
    return [f"{one}/128" if ":" in one else one for one in addresses if one.count(":") != 5]  # 5: a MAC address
