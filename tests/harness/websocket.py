"""Clients of the mobileimsdk wire over WebSocket, on the sans-I/O protocol of the `websockets` library.

Owns: WebPeer, byte-exact below the handshake, and WebLink, a model of the stock H5 client: the same rules as the
stock client on TCP.
"""

from __future__ import annotations

import asyncio

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from tests.harness.deadline import within
from tests.harness.link import ConnectionGone
from tests.harness.mobileimsdk import MobilePeer, StockLink
from tests.harness.peer import WAIT_S, Peer


class Refused(ConnectionGone):
    """The server answered the handshake with this HTTP status."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"HTTP {response.status_code}")
        self.status = response.status_code


class _WebSocket:
    """One packet per text frame. Pings are answered; `pongs` has what the server answered to ours."""

    path = "/websocket"
    origin: str | None = None
    subprotocol: str | None = None

    async def open(self, port: int, host: str = "127.0.0.1", receive_buffer: int = 0) -> None:
        """Raises Refused, ConnectionGone."""
        self.protocol = ClientProtocol(
            parse_uri(f"ws://{f'[{host}]' if ':' in host else host}:{port}{self.path}"),
            origin=Origin(self.origin) if self.origin else None,
            subprotocols=[Subprotocol(self.subprotocol)] if self.subprotocol else None,
            max_size=None,
        )
        self.answered = asyncio.Event()
        self.pongs: list[bytes] = []
        await Peer.open(self, port, host, receive_buffer)  # type: ignore[arg-type]
        self.protocol.send_request(self.protocol.connect())
        self._send()
        await within(WAIT_S, "an answer to the handshake", self.answered.wait())
        if self.protocol.state is not State.OPEN:
            error = self.protocol.handshake_exc
            raise Refused(error.response) if isinstance(error, InvalidStatus) else ConnectionGone(str(error))

    def _send(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self.write(data)  # type: ignore[attr-defined]

    def split(self, data: bytes) -> list[bytes]:
        self.protocol.receive_data(data)
        packets = []
        for event in self.protocol.events_received():
            if isinstance(event, Response):
                self.answered.set()
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                assert event.fin
                packets.append(bytes(event.data))
            elif isinstance(event, Frame) and event.opcode is Opcode.PONG:
                self.pongs.append(bytes(event.data))
        self._send()
        return packets

    def connection_lost(self, exc: Exception | None) -> None:
        self.protocol.receive_eof()
        self.answered.set()
        Peer.connection_lost(self, exc)  # type: ignore[arg-type]

    def wrap(self, body: bytes) -> bytes:
        return Frame(Opcode.TEXT, body).serialize(mask=True)

    @property
    def close_code(self) -> int:
        """What the server said when it closed; 1005 nothing, 1006 it did not close properly."""
        return self.protocol.close_code or 0


class WebPeer(_WebSocket, MobilePeer):  # type: ignore[misc]
    pass


class WebLink(_WebSocket, StockLink):  # type: ignore[misc]
    def close(self) -> None:
        if self.protocol.state is State.OPEN:
            self.protocol.send_close(1000)
            self._send()
        StockLink.close(self)
