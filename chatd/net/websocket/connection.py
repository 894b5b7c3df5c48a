"""One WebSocket connection: a stream connection that carries one HTTP request and then frames.

Owns: WebSocketConnection, and the close code that tells a client why its connection ended (CLOSE_CODES).
Elsewhere: everything a WebSocket shares with TCP (write buffer, limits, deadlines, slow commands, closing) is in
net.connection; the request in net.websocket.handshake, frames in net.websocket.frames.
Fails: as net.connection; a frame that is not allowed is a WireError with its own close code.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http import HTTPStatus

from websockets.frames import Opcode

from chatd import security_log
from chatd.errors import Disconnect, ErrorCode, WireError
from chatd.net.connection import Connection
from chatd.net.connections import Connections
from chatd.net.profile import ConnectionProfile
from chatd.net.websocket import frames
from chatd.net.websocket.frames import CloseCode, FrameError, FrameReader, FrameReaderState
from chatd.net.websocket.handshake import END_OF_REQUEST, MAX_REQUEST_BYTES, UpgradePolicy, refusal
from chatd.protocol import Command, LoginAccepted, Malformed
from chatd.security_log import SecurityEvent
from chatd.wire.contract import MAX_BYTES_BEFORE_LOGIN, Codec

CLOSE_CODES: dict[Disconnect, CloseCode] = {
    Disconnect.PEER_LEFT: CloseCode.NORMAL,
    Disconnect.LOGGED_OUT: CloseCode.NORMAL,
    Disconnect.SERVED: CloseCode.NORMAL,
    Disconnect.LOGIN_REFUSED: CloseCode.LOGIN_REFUSED,
    Disconnect.LOGIN_TIMEOUT: CloseCode.LOGIN_TIMEOUT,
    Disconnect.SILENT: CloseCode.SILENT,
    Disconnect.SLOW_CONSUMER: CloseCode.SLOW_CONSUMER,
    Disconnect.WIRE_ERROR: CloseCode.INVALID_DATA,
    Disconnect.TLS_FAILED: CloseCode.PROTOCOL_ERROR,
    Disconnect.NOT_LOGGED_IN: CloseCode.NOT_LOGGED_IN,
    Disconnect.KICKED_DUPLICATE: CloseCode.KICKED_DUPLICATE,
    Disconnect.KICKED_BY_ADMIN: CloseCode.KICKED_BY_ADMIN,
    Disconnect.CREDENTIALS_CHANGED: CloseCode.CREDENTIALS_CHANGED,
    Disconnect.TOKEN_EXPIRED: CloseCode.TOKEN_EXPIRED,
    Disconnect.TOO_MANY_ATTEMPTS: CloseCode.TOO_MANY_ATTEMPTS,
    Disconnect.ADDRESS_BANNED: CloseCode.KICKED_BY_ADMIN,
    Disconnect.REPLACED: CloseCode.REPLACED,
    Disconnect.BUSY: CloseCode.TRY_AGAIN_LATER,
    Disconnect.DRAINING: CloseCode.SERVICE_RESTART,
    Disconnect.INTERNAL: CloseCode.INTERNAL_ERROR,
}

SERVER_FULL = refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The server is full, try again.", "Retry-After: 2")
_DRAINING = refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The server is shutting down.", "Retry-After: 1")
_TOO_SLOW = refusal(HTTPStatus.REQUEST_TIMEOUT, "No request was received in time.")
_TOO_LONG = refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request is too long.")
_ANSWERS = {Disconnect.DRAINING: _DRAINING, Disconnect.BUSY: SERVER_FULL, Disconnect.WIRE_ERROR: _TOO_LONG}
"""To a client whose connection ends before its request is complete; any other has been too slow."""


class WebSocketProfile(ConnectionProfile, frozen=True, kw_only=True):
    """max_message_bytes: of a client's message."""

    upgrades: UpgradePolicy
    max_message_bytes: int


class WebSocketConnection(Connection):
    """Text frames carry the codec's packets, one each.

    request: bytes of the HTTP request so far, None once it is answered. open: frames may be sent.
    max_message_bytes: of a client's message, once it has logged in.
    close_code: the reason for the end if it differs from that of the Disconnect; 0 = it does not.
    """

    __slots__ = ("close_code", "frames", "max_message_bytes", "open", "request", "upgrades")

    def __init__(
        self, connections: Connections, profile: WebSocketProfile, codec: Codec, sock: socket.socket, remote: str
    ) -> None:
        super().__init__(connections, profile, codec, sock, remote)
        self.upgrades = profile.upgrades
        self.request: bytes | None = b""
        self.max_message_bytes = profile.max_message_bytes
        self.frames = FrameReader(min(profile.max_message_bytes, MAX_BYTES_BEFORE_LOGIN))
        self.open = False
        self.close_code = 0

    def resume(self, state: FrameReaderState) -> None:
        """Go on with a client that is logged in, and comes from another worker."""
        self.request, self.open = None, True
        self._allow_long_messages()
        self.frames.resume(state)

    # ---------------------------------------------------------------- bytes in

    def _commands(self, data: bytes) -> Iterator[Command]:
        if self.request is not None:
            data = self._upgrade(self.request + data)
        receive = self.codec.receive
        try:
            for found in self.frames.receive(data):
                if isinstance(found, Malformed):
                    yield found
                    continue
                opcode, payload = found
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
        """Answer the request once it is complete. Returns the bytes after it."""
        head, end, rest = request.partition(END_OF_REQUEST)
        if len(head) > MAX_REQUEST_BYTES:
            answer = _TOO_LONG
        elif not end:
            self.request = request
            return b""
        else:
            answer = self.upgrades.answer(head + end)
        self.request = None
        super()._queue(answer.data)
        if answer.refused_origin:
            self.connections.count_refused()
            origin = answer.refused_origin
            security_log.record(SecurityEvent.CONNECTION_REFUSED, peer=self.remote, reason="origin", origin=origin)
        if not answer.accepted:
            super().close(Disconnect.WIRE_ERROR)
            return b""
        self.open = True
        return rest

    def _wire_error(self, error: WireError) -> None:
        if error.code is ErrorCode.TOO_LONG and not self.close_code:
            self.close_code = CloseCode.TOO_BIG
        super()._wire_error(error)

    def _pong(self, payload: bytes) -> None:
        """A ping counts as a command, so the same rate limit applies."""
        if self.open and self.may_ask():
            super()._queue(frames.pong(payload))

    # ---------------------------------------------------------------- bytes out

    def push_login(self, event: LoginAccepted) -> tuple[int, int]:
        self._allow_long_messages()
        return super().push_login(event)

    def _allow_long_messages(self) -> None:
        """Before a login, no client has a reason to send a message over the limit."""
        self.frames.limit = self.max_message_bytes
        self.frames.skips = True

    def _framed(self, data: bytes) -> bytes:
        return frames.text(data)

    def _queue(self, data: bytes) -> None:
        if self.open:
            super()._queue(self._framed(data))

    # ---------------------------------------------------------------- the end

    def overdue(self, now: float) -> None:
        self.frames.next_second()
        super().overdue(now)

    def close(self, reason: Disconnect) -> None:
        if not self.closed:
            if self.open:
                super()._queue(frames.close(self.close_code or CLOSE_CODES[reason], reason.text))
                self.open = False
            elif self.request is not None:
                super()._queue(_ANSWERS.get(reason, _TOO_SLOW).data)
        super().close(reason)
