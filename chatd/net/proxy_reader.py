"""Reading the PROXY header with which a load balancer's connection begins.

Owns: ProxyHeaderReader, which stands between the transport and a connection until the header is complete.
Elsewhere: what a header says (net.proxy_protocol); deadlines and closing (net.connection, which is in net.connections
from the first moment, so that a header is due when a login would be).
Fails: a connection without a valid header is logged and cut.
"""

from __future__ import annotations

import asyncio

from chatd import log
from chatd.errors import Disconnect
from chatd.net.connection import Connection
from chatd.net.proxy_protocol import HeaderError, ProxyHeader, parse
from chatd.net.receipts import Receipts


class ProxyHeaderReader(asyncio.Protocol):
    """Receives the transport's bytes until the header is complete; then what follows it gets those after it: the
    connection, or TLS before the connection."""

    __slots__ = ("_connection", "_delivered_s", "_follower", "_read", "_transport")

    def __init__(self, connection: Connection, delivered_s: float, follower: asyncio.Protocol) -> None:
        self._connection = connection
        self._delivered_s = delivered_s
        self._follower = follower
        self._read = b""
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._follower.connection_made(transport)
        self._connection.expect_preamble()

    def data_received(self, data: bytes) -> None:
        connection = self._connection
        if connection.closed:
            connection.data_received(data)
            return
        head = self._read + data
        try:
            header = parse(head)
        except HeaderError as error:
            log.get().warning("connection without a valid PROXY header", peer=connection.remote, why=str(error))
            connection.cut(Disconnect.WIRE_ERROR)
            return
        if header is None:
            self._read = head
            return
        self._hand_over(header, head[header.length :])

    def _hand_over(self, header: ProxyHeader, rest: bytes) -> None:
        connection, transport = self._connection, self._transport
        assert transport is not None
        if header.remote:
            connection.remote = header.remote
        connection.receipts = Receipts(self._delivered_s, is_relayed=True)
        if self._follower is connection:
            connection.heard = connection.connections.now()
        transport.set_protocol(self._follower)
        admission = connection.connections.admission
        if header.remote and (refusal := admission.refusal(header.remote)) is not None:
            connection.connections.refused(refusal)
            connection.refuse()
            return
        if header.remote:
            admission.enter(connection)
        if rest:
            self._follower.data_received(rest)

    def pause_writing(self) -> None:
        self._follower.pause_writing()

    def resume_writing(self) -> None:
        self._follower.resume_writing()

    def eof_received(self) -> bool:
        return self._connection.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._follower.connection_lost(error)
        self._transport = None
