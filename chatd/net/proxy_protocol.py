"""What a load balancer says of a client before the client's own bytes: the PROXY protocol, versions 1 and 2.

Owns: parse (bytes in, who it is out), Balancers (whose word is taken), Introduction, which stands in for a connection
until the header is whole, and Relay, what the balancer's acknowledgement of bytes is worth.
Elsewhere: accepting (net.acceptor); limits of time and bytes, and the end (net.connection, which is in the worker's
list from the first moment, so that a header is due when a login is).
Fails: HeaderError, for the operator's log alone; the connection is cut. Only a connection from an address in
`listen.proxy_from` must begin with a header; of all others not a byte is looked at here, so that nobody can lend
himself an address.

Source: www.haproxy.org/download/2.6/doc/proxy-protocol.txt.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import struct
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from chatd import log
from chatd.config import urls
from chatd.errors import ChatdError, Disconnect
from chatd.model import Protocol

if TYPE_CHECKING:
    from chatd.net.connection import Connection

MAX_V1_BYTES = 107
MAX_V2_BYTES = 16 + 2048
"""Addresses, and what else a balancer may tell (TLVs, skipped): some hundred bytes, more with a client certificate."""

PASSED_ON_S = 1.0
"""A balancer that is well passes on at once, and closes at once when its client is cut off."""
_SAMPLES = 20

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_ADDRESS_BYTES = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")


class HeaderError(ChatdError):
    """Not a PROXY protocol header, and no beginning of one."""


class Introduced(NamedTuple):
    """remote: the client's address and port; "" where there is no client (a health check) or none that is known.
    length: of the header; what follows is the client's."""

    remote: str
    length: int


def parse(data: bytes) -> Introduced | None:
    """The header at the beginning of `data`; None: it is not whole yet. Raises HeaderError as soon as it cannot become
    one, at the latest at MAX_V2_BYTES."""
    if data[: len(_V1)] == _V1[: len(data)]:
        return _parse_v1(data)
    if data[: len(_V2)] == _V2[: len(data)]:
        return _parse_v2(data)
    raise HeaderError("it does not begin with a PROXY header")


def _parse_v1(data: bytes) -> Introduced | None:
    end = data.find(b"\r\n", 0, MAX_V1_BYTES)
    if end < 0:
        if len(data) >= MAX_V1_BYTES:
            raise HeaderError("a PROXY line that does not end")
        return None
    words = data[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        return Introduced("", end + 2)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise HeaderError("a PROXY line that names no addresses")
    kind = ipaddress.IPv4Address if words[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        source, _ = (kind(word.decode("ascii")) for word in words[2:4])
    except ValueError:  # also of bytes that are no ASCII
        raise HeaderError("a PROXY line with an address that is none") from None
    if not all(_PORT.fullmatch(word) and int(word) <= 65535 for word in words[4:]):
        raise HeaderError("a PROXY line with a port that is none")
    return Introduced(_remote(source, int(words[4])), end + 2)


def _parse_v2(data: bytes) -> Introduced | None:
    if len(data) < _V2_FIXED.size:
        return None
    _, command, kind, length = _V2_FIXED.unpack_from(data)
    whole = _V2_FIXED.size + length
    if command not in (_LOCAL, _PROXY):
        raise HeaderError(f"a PROXY header of a version or command that is unknown: {command:#04x}")
    if whole > MAX_V2_BYTES:
        raise HeaderError(f"a PROXY header of {whole} bytes")
    if command == _PROXY and length < _ADDRESS_BYTES.get(kind, 1 << 16):
        raise HeaderError(f"a PROXY header without an address that can be used: {kind:#04x}, {length} bytes")
    if len(data) < whole:
        return None
    if command == _LOCAL or kind not in (_TCP4, _TCP6):
        return Introduced("", whole)
    addresses = data[_V2_FIXED.size :]
    if kind == _TCP4:
        raw, port = struct.unpack_from("!4s4xH", addresses)
    else:
        raw, port = struct.unpack_from("!16s16xH", addresses)
    return Introduced(_remote(ipaddress.ip_address(raw), port), whole)


def _remote(host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> str:
    """As the address of a client that comes directly is written."""
    return urls.shown(str(_plain(host)), port)


def _plain(host: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """::ffff:192.0.2.1 is 192.0.2.1."""
    return (host.ipv4_mapped or host) if isinstance(host, ipaddress.IPv6Address) else host


class Balancers:
    """Addresses whose connections begin with a header. networks: as in `listen.proxy_from`, valid."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(one) for one in networks]

    def __contains__(self, host: str) -> bool:
        found = _plain(ipaddress.ip_address(host.partition("%")[0]))
        return any(found in network for network in self._networks)


class Relay:
    """Bytes a balancer has taken are the client's when the balancer has had them for delivered_s
    (listen.proxy_delivered_s) and still holds the connection, or for PASSED_ON_S when the client is heard. The first is
    no proof if the balancer notices later than that that a client has vanished without a word (docs/balancers.md);
    wires with acknowledgements of their own do not depend on it."""

    __slots__ = ("_delivered_s", "_passed_on", "_taken")

    def __init__(self, delivered_s: float) -> None:
        self._delivered_s = delivered_s
        self._taken: deque[tuple[float, int]] = deque()
        self._passed_on = 0

    def passed_on(self, taken: int, now: float) -> int:
        """taken: bytes that the balancer's kernel has acknowledged by now, total."""
        samples = self._taken
        self._settle(now, self._delivered_s)
        last_at, last = samples[-1] if samples else (0.0, self._passed_on)
        if taken > last and now - last_at >= self._delivered_s / _SAMPLES:
            samples.append((now, taken))
        return self._passed_on

    def heard(self, now: float) -> None:
        """The client has written: it is there, and has what the balancer could have passed on."""
        self._settle(now, PASSED_ON_S)

    def _settle(self, now: float, age_s: float) -> None:
        while self._taken and now - self._taken[0][0] >= age_s:
            self._passed_on = self._taken.popleft()[1]


class Introduction(asyncio.Protocol):
    """Reads the header; from then on the transport is the connection's, beginning with what came after the header."""

    __slots__ = ("_connection", "_delivered_s", "_head", "_transport")

    def __init__(self, connection: Connection, delivered_s: float) -> None:
        self._connection = connection
        self._delivered_s = delivered_s
        self._head = b""
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = self._connection
        self._transport = transport
        connection.connection_made(transport)
        if connection.protocol is Protocol.ECHO:  # has no login: then its silence ends when a login would be due
            connection.heard = connection.deadline - connection.silence_s

    def data_received(self, data: bytes) -> None:
        connection = self._connection
        if connection.closed:
            connection.data_received(data)
            return
        head = self._head + data
        try:
            found = parse(head)
        except HeaderError as error:
            log.get().warning("connection without a PROXY header", peer=connection.remote, why=str(error))
            connection.cut(Disconnect.WIRE_ERROR)
            return
        if found is None:
            self._head = head
            return
        self._introduce(found, head[found.length :])

    def _introduce(self, found: Introduced, rest: bytes) -> None:
        connection, transport = self._connection, self._transport
        assert transport is not None
        if found.remote:
            connection.remote = found.remote
        connection.relay = Relay(self._delivered_s)
        connection.heard = connection.server.now()
        transport.set_protocol(connection)
        if rest:
            connection.data_received(rest)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def eof_received(self) -> bool:
        return self._connection.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._connection.connection_lost(error)
        self._transport = None
