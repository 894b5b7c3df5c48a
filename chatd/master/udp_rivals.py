"""Other programs' sockets that would get datagrams meant for a UDP socket of systemd.

Owns: finding them. systemd sets SO_REUSEADDR, and while all sockets of an address have it, any user of the host can
bind one beside them; the kernel then prefers it, or gives it a share. chatd clears the option as soon as it has the
sockets (master.udp_sockets); what was bound until then is found here.
Elsewhere: who has an address that cannot be bound (master.port_holders).
Fails: never. A kernel that does not list its sockets has none to show.
"""

from __future__ import annotations

import os
import pwd
import socket
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

_TABLES = {socket.AF_INET: Path("/proc/net/udp"), socket.AF_INET6: Path("/proc/net/udp6")}
_ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}


class Rival(NamedTuple):
    """A socket. user: who made it."""

    address: str
    port: int
    user: str


class _Row(NamedTuple):
    family: socket.AddressFamily
    address: str
    port: int
    uid: int
    inode: int


def rivals_of(ours: Collection[socket.socket]) -> list[Rival]:
    """The sockets of others at the addresses of these, or at one address where ours are at all."""
    inodes = {os.fstat(sock.fileno()).st_ino for sock in ours}
    others = [row for row in _rows() if row.inode not in inodes]
    found = {row: None for row in others if any(_takes_from(row, sock) for sock in ours)}
    return [Rival(row.address, row.port, _name(row.uid)) for row in found]


def _takes_from(row: _Row, sock: socket.socket) -> bool:
    """The kernel prefers a socket at one address to one at all, and IPv4 to both."""
    address, port = sock.getsockname()[:2]
    if row.port != port:
        return False
    if row.family == sock.family:
        return address in (row.address, _ANY[row.family])
    both = sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return both and address == "::"


def _rows() -> Iterator[_Row]:
    for family, table in _TABLES.items():
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            host, _, port = fields[1].partition(":")
            yield _Row(family, _address(family, host), int(port, 16), int(fields[7]), int(fields[9]))


def _address(family: socket.AddressFamily, text: str) -> str:
    """text: words of 32 bits in the byte order of the host, in hexadecimal."""
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    return socket.inet_ntop(family, b"".join(words))


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
