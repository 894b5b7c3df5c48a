"""PROXY protocol headers as a load balancer writes them, and a client that comes with one.

Owns: v1, v2, Headed (a mix-in for any Peer: what it writes first).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import struct

from tests.harness.peer import Peer

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL = SIGNATURE + b"\x20\0\0\0"


def v1(host: str, port: int) -> bytes:
    kind, server = ("TCP4", "192.0.2.1") if ipaddress.ip_address(host).version == 4 else ("TCP6", "2001:db8::1")
    return f"PROXY {kind} {host} {server} {port} 6000\r\n".encode()


def v2(host: str, port: int, more: bytes = b"") -> bytes:
    if ipaddress.ip_address(host).version == 4:
        kind, server, family = 0x11, "192.0.2.1", socket.AF_INET
    else:
        kind, server, family = 0x21, "2001:db8::1", socket.AF_INET6
    addresses = socket.inet_pton(family, host) + socket.inet_pton(family, server) + struct.pack("!HH", port, 6000)
    return SIGNATURE + struct.pack("!BBH", 0x21, kind, len(addresses) + len(more)) + addresses + more


class Headed:
    """Before a Peer class: `head` goes first over every connection, together with what the client writes first.
    in_pieces: one byte at a time, only the last one together with that."""

    head = b""
    in_pieces = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Peer.connection_made(self, transport)  # type: ignore[arg-type]
        assert isinstance(self, Peer)
        self.early = self.head
        if not self.in_pieces:
            return
        sock = transport.get_extra_info("socket")
        for at in range(len(self.head) - 1):
            os.write(sock.fileno(), self.head[at : at + 1])
        self.early = self.head[-1:]

    def write(self, raw: bytes) -> None:
        early, self.early = self.early, b""
        Peer.write(self, early + raw)  # type: ignore[arg-type]
