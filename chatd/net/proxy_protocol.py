"""The PROXY protocol, versions 1 and 2: what a load balancer says about a client before the client's own bytes.

Owns: parse() (bytes in, the client's address out) and Balancers (the addresses whose header is believed).
Elsewhere: reading the header from a connection (net.proxy_reader), when bytes a balancer has acknowledged count as
received by its client (net.receipts).
Fails: HeaderError, for the operator's log only; the connection is cut. Only a connection from an address in
`listen.proxy_from` must begin with a header; on all others no byte is parsed here, so that no client can claim
another's address.

Source: www.haproxy.org/download/2.6/doc/proxy-protocol.txt.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterable
from typing import NamedTuple

from chatd.config import urls
from chatd.errors import ChatdError

MAX_V1_BYTES = 107
MAX_V2_BYTES = 16 + 2048
"""With the TLVs a balancer may add, which are skipped: a few hundred bytes, more with a client certificate."""

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_ADDRESS_BYTES = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")


class HeaderError(ChatdError):
    """Not a PROXY protocol header, and not the beginning of one."""


class ProxyHeader(NamedTuple):
    """remote: the client's address and port; "" without a client (a health check) or with an unknown one.
    length: of the header, bytes; what follows is the client's."""

    remote: str
    length: int


def parse(data: bytes) -> ProxyHeader | None:
    """The header at the beginning of `data`; None = it is incomplete.

    Raises:
        HeaderError: as soon as the bytes cannot become a header, at the latest after MAX_V2_BYTES.
    """
    if data[: len(_V1)] == _V1[: len(data)]:
        return _parse_v1(data)
    if data[: len(_V2)] == _V2[: len(data)]:
        return _parse_v2(data)
    raise HeaderError("does not begin with a PROXY header")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_V1_BYTES)
    if end < 0:
        if len(data) >= MAX_V1_BYTES:
            raise HeaderError(f"PROXY line of more than {MAX_V1_BYTES} bytes")
        return None
    words = data[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        return ProxyHeader("", end + 2)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise HeaderError("PROXY line without addresses")
    kind = ipaddress.IPv4Address if words[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        source, _ = (kind(word.decode("ascii")) for word in words[2:4])
    except ValueError:  # also for bytes that are not ASCII
        raise HeaderError("PROXY line with an invalid address") from None
    if not all(_PORT.fullmatch(word) and int(word) <= 65535 for word in words[4:]):
        raise HeaderError("PROXY line with an invalid port")
    return ProxyHeader(_remote(source, int(words[4])), end + 2)


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_FIXED.size:
        return None
    _, command, kind, length = _V2_FIXED.unpack_from(data)
    whole = _V2_FIXED.size + length
    if command not in (_LOCAL, _PROXY):
        raise HeaderError(f"PROXY header of unknown version or command {command:#04x}")
    if whole > MAX_V2_BYTES:
        raise HeaderError(f"PROXY header of {whole} bytes, at most {MAX_V2_BYTES} are read")
    if command == _PROXY and length < _ADDRESS_BYTES.get(kind, 1 << 16):
        raise HeaderError(f"PROXY header with {length} bytes of addresses, not enough for address family {kind:#04x}")
    if len(data) < whole:
        return None
    if command == _LOCAL or kind not in (_TCP4, _TCP6):
        return ProxyHeader("", whole)
    addresses = data[_V2_FIXED.size :]
    if kind == _TCP4:
        raw, port = struct.unpack_from("!4s4xH", addresses)
    else:
        raw, port = struct.unpack_from("!16s16xH", addresses)
    return ProxyHeader(_remote(ipaddress.ip_address(raw), port), whole)


def _remote(host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> str:
    """Written like the address of a client that connects directly."""
    return urls.shown(str(_plain(host)), port)


def _plain(host: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """::ffff:192.0.2.1 is 192.0.2.1."""
    return (host.ipv4_mapped or host) if isinstance(host, ipaddress.IPv6Address) else host


class Balancers:
    """Addresses whose connections begin with a header. networks: those of `listen.proxy_from`, already validated."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(one) for one in networks]

    def __contains__(self, host: str) -> bool:
        found = _plain(ipaddress.ip_address(host.partition("%")[0]))
        return any(found in network for network in self._networks)
