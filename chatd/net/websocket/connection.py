"""One WebSocket: a stream connection whose bytes are one HTTP request and then frames.

Owns: WebSocketConnection, and which close code tells a client why it is left alone (CLOSE_CODES).
Elsewhere: everything a WebSocket shares with TCP - outbox, limits, deadlines, slow commands, closing - is
net.connection's; the request is net.websocket.handshake's, frames are net.websocket.frames'.
Fails: as net.connection; a frame that may not be is a WireError with a close code of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING

from websockets.frames import Opcode

from chatd.errors import Disconnect
from chatd.model import Protocol
from chatd.net.connection import Connection
from chatd.net.websocket import frames
from chatd.net.websocket.frames import CloseCode, FrameError, Frames
from chatd.net.websocket.handshake import END_OF_REQUEST, MAX_REQUEST_BYTES, Upgrades, refusal
from chatd.protocol import Command
from chatd.wire.contract import Codec

if TYPE_CHECKING:
    from chatd.net.acceptor import Server

CLOSE_CODES: dict[Disconnect, CloseCode] = {
    Disconnect.PEER_LEFT: CloseCode.NORMAL,
    Disconnect.LOGGED_OUT: CloseCode.NORMAL,
    Disconnect.LOGIN_REFUSED: CloseCode.LOGIN_REFUSED,
    Disconnect.LOGIN_TIMEOUT: CloseCode.LOGIN_TIMEOUT,
    Disconnect.SILENT: CloseCode.SILENT,
    Disconnect.SLOW_CONSUMER: CloseCode.SLOW_CONSUMER,
    Disconnect.WIRE_ERROR: CloseCode.INVALID_DATA,
    Disconnect.NOT_LOGGED_IN: CloseCode.NOT_LOGGED_IN,
    Disconnect.KICKED_DUPLICATE: CloseCode.KICKED_DUPLICATE,
    Disconnect.KICKED_BY_ADMIN: CloseCode.KICKED_BY_ADMIN,
    Disconnect.REPLACED: CloseCode.REPLACED,
    Disconnect.BUSY: CloseCode.TRY_AGAIN_LATER,
    Disconnect.DRAINING: CloseCode.SERVICE_RESTART,
    Disconnect.INTERNAL: CloseCode.INTERNAL_ERROR,
}

BUSY = refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The server is full, try again.", "Retry-After: 2")
_DRAINING = refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The server is going away.", "Retry-After: 1")
_TOO_SLOW = refusal(HTTPStatus.REQUEST_TIMEOUT, "No request in time.")
_TOO_LONG = refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request is too long.")


class WebSocketConnection(Connection):
    """Text frames carry the codec's packets, one each.

    request: bytes of the HTTP request, None once it is answered. open: frames may be sent.
    close_code: why the connection ends, where the Disconnect does not say it.
    """

    __slots__ = ("close_code", "frames", "open", "request", "upgrades")

    def __init__(
        self,
        server: Server,
        codec: Codec,
        protocol: Protocol,
        fd: int,
        remote: str,
        silence_s: float,
        deadline: float,
        upgrades: Upgrades,
        limit: int,
    ) -> None:
        super().__init__(server, codec, protocol, fd, remote, silence_s, deadline)
        self.upgrades = upgrades
        self.request: bytes | None = b""
        self.frames = Frames(limit)
        self.open = False
        self.close_code = 0

    # ---------------------------------------------------------------- bytes in

    def _commands(self, data: bytes) -> Iterator[Command]:
        if self.request is not None:
            data = self._upgrade(self.request + data)
        receive = self.codec.receive
        try:
            for opcode, payload in self.frames.receive(data):
                if opcode is Opcode.TEXT:
                    yield from receive(payload)
                elif opcode is Opcode.PING:
                    self._pong(payload)
                else:
                    self.close_code = frames.code_of(payload)
                    self.close(Disconnect.PEER_LEFT)
                    return
        except FrameError as error:
            self.close_code = error.close_code
            raise

    def _upgrade(self, request: bytes) -> bytes:
        """Answer the request once it is whole. Returns what came after it."""
        head, end, rest = request.partition(END_OF_REQUEST)
        if len(head) > MAX_REQUEST_BYTES:
            answer = _TOO_LONG
        elif not end:
            self.request = request
            return b""
        else:
            answer = self.upgrades.answer(head + end)
        self.request = None
        super()._queue(answer.words)
        if not answer.accepted:
            super().close(Disconnect.WIRE_ERROR)
            return b""
        self.open = True
        return rest

    def _pong(self, payload: bytes) -> None:
        """Counts as a command, so that pings cannot be sent faster than these."""
        self.spent += 1
        if self.open and self.spent <= self.server.budget:
            super()._queue(frames.pong(payload))

    # ---------------------------------------------------------------- bytes out

    def _queue(self, data: bytes) -> None:
        if self.open:
            super()._queue(frames.text(data))

    # ---------------------------------------------------------------- the end

    def close(self, reason: Disconnect) -> None:
        if not self.closed:
            if self.open:
                super()._queue(frames.close(self.close_code or CLOSE_CODES[reason], reason.text))
                self.open = False
            elif self.request is not None:
                super()._queue((_DRAINING if reason is Disconnect.DRAINING else _TOO_SLOW).words)
        super().close(reason)
