"""A WebSocket at a path of an HTTP listener: from the request for it on, another connection has the socket.

Owns: WebSocketMount: the path, and handing over the socket.
Elsewhere: finding the request among others (http.parser), answering it (net.websocket.handshake), the frames
(net.websocket.connection).
Fails: never. A request that may not upgrade is answered as at a listener for WebSocket alone, and ends the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from chatd.net.connection import Connection
from chatd.net.websocket.connection import WebSocketConnection

MakeWebSocket = Callable[[Connection], WebSocketConnection]
"""The WebSocket on the socket of an HTTP connection."""


class WebSocketMount:
    """One listener's. path: where the request must be for it."""

    __slots__ = ("_make", "path")

    def __init__(self, path: str, make: MakeWebSocket) -> None:
        self.path = path
        self._make = make

    def hand_over(self, http: Connection, request: bytes, rest: bytes) -> None:
        """request: the whole request to upgrade. rest: what came behind it. Everything that was written before must
        have left the HTTP connection, which is over afterwards; the client notices nothing."""
        transport, connections = http.transport, http.connections
        if transport is None or http.closed:
            return
        websocket = self._make(http)
        websocket.receipts, websocket.written = http.receipts, http.written
        http.closed, http.transport = True, None
        connections.remove(http)
        connections.admission.leave(http)
        transport.set_protocol(cast(asyncio.BaseProtocol, websocket))
        websocket.connection_made(transport)
        if websocket.closed:
            return
        connections.admission.enter(websocket)
        websocket.update_reading()
        websocket.data_received(request + rest)
