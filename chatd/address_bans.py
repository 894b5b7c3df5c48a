"""Address bans: networks that an operator keeps out.

Owns: one ban, reading the network that an operator means, and the set of bans of one process, which is asked for every
connection that comes.
Elsewhere: keeping them (store.ban_contract.AddressBanTables), reading them again and telling other workers (core.bans),
refusing and ending connections (net), the command (chatctl.bans). Penalties are something else: they are given and
forgiven by themselves, and refuse logins (core.penalties). Bans from groups too (core.groups).
Fails: ValueError for a text that names no network. Asking never fails.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from chatd.sources import address_of, source_of

MAX_BANS = 10_000
"""Maximum bans of a store."""
FOREVER_MS = 0
"""until_ms of a ban without an end."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressBan(msgspec.Struct, frozen=True, kw_only=True):
    """network: as network_named() writes it. reason: for operators, and for the clients whose sessions end. by: the
    name of the user who gave the order. at_ms, until_ms: epoch; FOREVER_MS = it has no end."""

    network: str
    reason: str = ""
    by: str = ""
    at_ms: int = 0
    until_ms: int = FOREVER_MS

    def in_force(self, now_ms: int) -> bool:
        return not self.until_ms or now_ms < self.until_ms


def network_named(word: str) -> Network:
    """The network that an operator means by an address or a network. A single IPv6 address means its /64, in which one
    machine can use any address; write /128 to mean only this one. An IPv4 address in the form of an IPv6 one
    (::ffff:192.0.2.1) means that IPv4 address. Raises ValueError."""
    if "/" not in word:
        address = ipaddress.ip_address(word)
        return ipaddress.ip_network(source_of(f"[{_unmapped(address)}]:0"))
    network = ipaddress.ip_network(word, strict=False)
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.ip_network((mapped, network.prefixlen - 96))
    return network


def contains(network: Network, remote: str) -> bool:
    """Whether a client is in the network. remote: its address as it is shown in logs (config.urls.shown); a Unix socket
    is in none. Cost: some microseconds."""
    address = address_of(remote)
    return bool(address) and _unmapped(ipaddress.ip_address(address)) in network


def _unmapped(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


class AddressBans:
    """Those of one process. Empty until replace() is called.

    _by_length: by (IP version, length of the prefix), the bans by the prefix as a number. A question costs one look-up
    for each length in use, so it does not depend on how many bans there are.
    """

    def __init__(self) -> None:
        self._by_length: dict[tuple[int, int], dict[int, AddressBan]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_length.values()))

    def replace(self, bans: Iterable[AddressBan]) -> None:
        """From now on, these. One whose network cannot be read is left out."""
        made: dict[tuple[int, int], dict[int, AddressBan]] = {}
        for ban in bans:
            try:
                network = ipaddress.ip_network(ban.network)
            except ValueError:
                continue
            length = network.prefixlen
            prefix = int(network.network_address) >> (network.max_prefixlen - length)
            made.setdefault((network.version, length), {})[prefix] = ban
        self._by_length = made

    def find(self, remote: str, now_ms: int) -> AddressBan | None:
        """The ban that keeps this client out, if any. remote: its address as it is shown in logs (config.urls.shown).
        now_ms: epoch. Without any ban it costs nothing, with bans some microseconds."""
        if not self._by_length:
            return None
        text = address_of(remote)
        if not text:  # a Unix socket
            return None
        address = _unmapped(ipaddress.ip_address(text))
        number, bits, version = int(address), address.max_prefixlen, address.version
        for (of_version, length), bans in self._by_length.items():
            if of_version == version:
                ban = bans.get(number >> (bits - length))
                if ban is not None and ban.in_force(now_ms):
                    return ban
        return None
