"""Clients of the mobileimsdk wire over UDP.

Owns: DatagramPeer, byte-exact, and DatagramLink, a model of the stock Java client: it reads a datagram into 1,024 bytes
(what is longer would be broken JSON to it), repeats a login without an answer, and says goodbye by logging out.
TokenPeer and TokenLink are the same for clients that ask for a token; forge() is somebody else who writes
a client's address on a datagram.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import cast

from tests.harness.daemon import free_port
from tests.harness.link import ConnectionGone
from tests.harness.mobileimsdk import LOGIN_ANSWER, LOGOUT, MobilePeer, StockLink, content
from tests.harness.peer import Frame

RECEIVE_BYTES = 1024
LOGIN_AGAIN_S = 0.5


def source(host: str) -> tuple[str, int]:
    """An address of our own to send to `host` from. One that the kernel chooses may have been another client's a moment
    ago, and the server still answers that one."""
    return ("::" if ":" in host else "0.0.0.0", free_port())


class _Datagrams(asyncio.DatagramProtocol):
    """One packet per datagram, from a socket of its own. too_long: datagrams the stock client could not read."""

    too_long: int
    transport: asyncio.Transport | None
    source: str

    async def open(self, port: int, host: str = "127.0.0.1", receive_buffer: int = 0) -> None:
        self.too_long = 0
        loop = asyncio.get_running_loop()
        local = (self.source, free_port()) if self.source else source(host)
        await loop.create_datagram_endpoint(lambda: self, remote_addr=(host, port), local_addr=local)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.too_long += len(data) > RECEIVE_BYTES
        self.data_received(data)  # type: ignore[attr-defined]

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there just now: as good as a datagram lost."""

    def split(self, data: bytes) -> list[bytes]:
        return [data[:RECEIVE_BYTES]]

    def wrap(self, body: bytes) -> bytes:
        return body

    def write(self, raw: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            cast(asyncio.DatagramTransport, self.transport).sendto(raw)

    @property
    def address(self) -> tuple[str, int]:
        assert self.transport is not None
        found: tuple[str, int] = self.transport.get_extra_info("sockname")
        return found


class DatagramPeer(_Datagrams, MobilePeer):  # type: ignore[misc]
    def abort(self) -> None:
        self.close()


class DatagramLink(_Datagrams, StockLink):  # type: ignore[misc]
    """abort: vanishes without a word. close: logs out first, as the app does."""

    async def login(self, name: str, user_id: int, secret: str) -> int:
        loop = asyncio.get_running_loop()
        again = loop.create_task(self._log_in_again(name, secret))
        try:
            await StockLink.login(self, name, user_id, secret)
        finally:
            again.cancel()
        if self.kicked:
            raise ConnectionGone("kicked at login")
        return 0

    async def _log_in_again(self, name: str, secret: str) -> None:
        while True:
            await asyncio.sleep(LOGIN_AGAIN_S)
            self.put(self.login_packet(name, secret, self.first_login_time))

    def close(self) -> None:
        self.put({"type": LOGOUT, "from": self.name, "to": "0"})
        StockLink.close(self)

    def abort(self) -> None:
        StockLink.close(self)


class _Token(_Datagrams):
    """Asks for a token with every login, and puts the last one it was given before every datagram."""

    token = b""

    def login_packet(self, name: str, secret: str, first_login_time: int = 0) -> Frame:
        packet: Frame = super().login_packet(name, secret, first_login_time)  # type: ignore[misc]
        packet["dataContent"] = json.dumps({**content(packet), "datagramToken": True})
        return packet

    def decode(self, body: bytes) -> Frame:
        packet: Frame = super().decode(body)  # type: ignore[misc]
        if packet.get("type") == LOGIN_ANSWER and (token := content(packet).get("datagramToken")):
            self.token = token.encode()
        return packet

    def wrap(self, body: bytes) -> bytes:
        return self.token + body


class TokenPeer(_Token, DatagramPeer):  # type: ignore[misc]
    pass


class TokenLink(_Token, DatagramLink):  # type: ignore[misc]
    pass


def forge(source: tuple[str, int], to: tuple[str, int], data: bytes) -> None:
    """Send a datagram from an address that is not ours (IPv4). Needs root, as everywhere."""
    datagram = struct.pack("!HHHH", source[1], to[1], 8 + len(data), 0) + data
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0,
        socket.inet_aton(source[0]), socket.inet_aton(to[0]),
    )  # fmt: skip
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(head + datagram, to)
