"""A UDP socket, and which of the host's own addresses an answer leaves from.

Owns: Ways, the receiving and sending of one socket. A socket bound to one address has no choice. One bound to all of
them (0.0.0.0, [::]) would answer from the address that the route to the client has, which on a host with several
need not be the one the client wrote to; and clients, and the routers they are behind, take nothing from another one.
So the kernel is asked which it was (IP_PKTINFO in ip(7), IPV6_PKTINFO in ipv6(7)), and told the same with the answer.
Not here: what is in a datagram (net.udp).
Fails: OSError as the socket does. An address the host no longer has cannot be sent from; the client logs in anew.
"""

from __future__ import annotations

import socket
import struct

Address = tuple[str, int] | tuple[str, int, int, int]
Source = list[tuple[int, int, bytes]]
"""What sendmsg is told; [] = the kernel may choose."""

_LONGEST_BYTES = 65536
_IP_PKTINFO = 8  # not in the socket module of every Python
_V4 = struct.Struct("=i4s4s")  # interface, the host's address, the address in the datagram
_V6 = struct.Struct("=16si")
_SPACE = socket.CMSG_SPACE(_V6.size)
_ANY = bytes(4)
_KEPT = 256


class Ways:
    """receive: the next datagram, where it was sent to, and who sent it. One Source per address of the host is made and
    shared, so that sessions hold nothing of their own."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sources: dict[bytes, Source] = {}
        self._everywhere = sock.getsockname()[0] in ("0.0.0.0", "::")
        if self._everywhere and sock.family == socket.AF_INET6:  # for clients without IPv6, too
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif self._everywhere:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def receive(self) -> tuple[bytes, Source, Address]:
        if not self._everywhere:
            data, address = self._sock.recvfrom(_LONGEST_BYTES)
            return data, _NONE, address
        data, told, _, address = self._sock.recvmsg(_LONGEST_BYTES, _SPACE)
        return data, self._source(told), address

    def send(self, data: bytes, source: Source, address: Address) -> None:
        if source:
            self._sock.sendmsg((data,), source, 0, address)
        else:
            self._sock.sendto(data, address)

    def _source(self, told: Source) -> Source:
        if not told:
            return _NONE
        known = self._sources.get(told[0][2])
        if known is None:
            if len(self._sources) >= _KEPT:  # a host with a whole network of addresses
                self._sources.clear()
            known = self._sources[told[0][2]] = _answer(*told[0])
        return known


_NONE: Source = []


def _answer(level: int, kind: int, told: bytes) -> Source:
    """The interface is left to the kernel: the way back may be another one. Not so within one link."""
    if level == socket.IPPROTO_IP:
        _, own, _ = _V4.unpack(told)
        return [(level, kind, _V4.pack(0, own, _ANY))] if own != _ANY else _NONE
    own, interface = _V6.unpack(told)
    is_link_local = own[0] == 0xFE and own[1] & 0xC0 == 0x80
    return [(level, kind, _V6.pack(own, interface if is_link_local else 0))]
