"""A UDP socket that replies from the address the client wrote to.

Owns: ReplySocket, receiving and sending on one socket. A socket bound to one address has no choice. One bound to all of
them (0.0.0.0, [::]) would reply from the address that the route to the client has; on a host with several addresses
that need not be the one the client wrote to, and clients, and the NAT routers in front of them, drop such a reply.
So the kernel is asked for the address of each datagram (IP_PKTINFO in ip(7), IPV6_PKTINFO in ipv6(7)), and is given
the same address with the reply.
Elsewhere: what is in a datagram (net.udp).
Fails: OSError as the socket does. Nothing can be sent from an address the host no longer has; the client logs in again.
"""

from __future__ import annotations

import socket
import struct

Address = tuple[str, int] | tuple[str, int, int, int]
"""A client's address, as the socket module has it."""
ReplyFrom = list[tuple[int, int, bytes]]
"""Ancillary data for sendmsg() that names the sending address; [] = the kernel may choose."""

_MAX_DATAGRAM_BYTES = 65536
_IP_PKTINFO = 8  # not in the socket module of every Python
_V4 = struct.Struct("=i4s4s")
"""struct in_pktinfo: interface, the host's own address, the destination in the datagram's header."""
_V6 = struct.Struct("=16si")
"""struct in6_pktinfo: the host's own address, interface."""
_ANCILLARY_BYTES = socket.CMSG_SPACE(_V6.size)
_ANY_V4 = bytes(4)
_MAX_CACHED = 256
_KERNEL_CHOOSES: ReplyFrom = []


class ReplySocket:
    """One ReplyFrom per address of the host is made and shared, so that a session only holds a reference."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._cache: dict[bytes, ReplyFrom] = {}
        self._is_wildcard = sock.getsockname()[0] in ("0.0.0.0", "::")
        if self._is_wildcard and sock.family == socket.AF_INET6:  # covers IPv4 clients of a dual-stack socket too
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif self._is_wildcard:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def receive(self) -> tuple[bytes, ReplyFrom, Address]:
        """The next datagram, where to reply from, and who sent it. Raises OSError, BlockingIOError if there is none."""
        if not self._is_wildcard:
            data, address = self._sock.recvfrom(_MAX_DATAGRAM_BYTES)
            return data, _KERNEL_CHOOSES, address
        data, ancillary, _, address = self._sock.recvmsg(_MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES)
        return data, self._reply_from(ancillary), address

    def send(self, data: bytes, reply_from: ReplyFrom, address: Address) -> None:
        """Raises OSError, BlockingIOError if the kernel's buffer is full."""
        if reply_from:
            self._sock.sendmsg((data,), reply_from, 0, address)
        else:
            self._sock.sendto(data, address)

    def _reply_from(self, ancillary: ReplyFrom) -> ReplyFrom:
        if not ancillary:
            return _KERNEL_CHOOSES
        known = self._cache.get(ancillary[0][2])
        if known is None:
            if len(self._cache) >= _MAX_CACHED:  # a host with a whole network of addresses
                self._cache.clear()
            known = self._cache[ancillary[0][2]] = _reply_from(*ancillary[0])
        return known


def _reply_from(level: int, kind: int, received: bytes) -> ReplyFrom:
    """The interface is left to the kernel, because the way back may be another one; except for link-local addresses,
    which mean nothing without it."""
    if level == socket.IPPROTO_IP:
        _, own, _ = _V4.unpack(received)
        return [(level, kind, _V4.pack(0, own, _ANY_V4))] if own != _ANY_V4 else _KERNEL_CHOOSES
    own, interface = _V6.unpack(received)
    is_link_local = own[0] == 0xFE and own[1] & 0xC0 == 0x80
    return [(level, kind, _V6.pack(own, interface if is_link_local else 0))]
